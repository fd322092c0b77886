//! What a network must bear: connections that wait, thousands of them, receivers that do not read, and containers that
//! come and go.

use crate::network::{is_alive, is_user_mode, process, published};
use crate::network_streams::{
    MIB, PEER, accept, are_the_blocks, block, connect, go_out, listen, open_files, rest, serve,
};
use crate::support::{Engine, eventually, image, is_long, tiny};
use crate::user_networks::{asked, get};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// KiB of memory that are the network's process's own.
fn memory(pid: i32) -> usize {
    let field = |file: &str, name: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
    };
    field("smaps_rollup", "Pss:").or_else(|| field("status", "VmRSS:")).expect("the network's process lives")
}

/// Hundredths of a second that a process has worked (proc_pid_stat(5): utime and stime).
fn worked(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// One request over a connection that is kept; the answer's body.
fn request(connection: &mut BufReader<TcpStream>) -> String {
    connection.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n").unwrap();
    let mut length = 0;
    loop {
        let mut line = String::new();
        assert_ne!(connection.read_line(&mut line).unwrap(), 0, "the connection has ended");
        match line.trim_end().split_once(": ") {
            Some(("Content-Length", value)) => length = value.parse().unwrap(),
            None if line == "\r\n" => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

#[test]
fn a_connection_that_is_kept_goes_on_after_it_was_idle_for_twenty_seconds() {
    const IDLE: Duration = Duration::from_secs(20);
    let engine = network!();
    let program = "
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *_): pass
    def do_GET(self):
        body = ('%s asks from port %d' % self.client_address).encode()
        self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers()
        self.wfile.write(body)
server = http.server.ThreadingHTTPServer(('', 80), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()";
    let mut inwards = BufReader::new(connect(serve(&engine, "web", "80", program)));
    let asker = request(&mut inwards);
    assert!(asker.starts_with("10.88.0.1 asks from port"), "{asker}");
    let (listener, port) = listen();
    let program = format!(
        "import http.client
server = http.client.HTTPConnection('host.containers.internal', {port}, timeout=20)
def ask():
    server.request('GET', '/'); answer = server.getresponse(); assert answer.status == 200
    return answer.read().decode(), server.sock
first, connection = ask(); print(first)
time.sleep({})
for _ in range(3):
    told, same = ask(); assert same is connection; print(told)
server.close()",
        IDLE.as_secs()
    );
    let running = go_out(&engine, &program);
    let mut outwards = BufReader::new(accept(&listener));
    outwards.get_mut().set_read_timeout(Some(IDLE * 2)).unwrap();
    let answering = std::thread::spawn(move || {
        let mut asked = 0;
        let mut line = String::new();
        while outwards.read_line(&mut line).unwrap() > 0 {
            if line == "\r\n" {
                asked += 1;
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nanswer {asked}");
                outwards.get_mut().write_all(answer.as_bytes()).unwrap();
            }
            line.clear();
        }
    });
    eventually("it has asked", || !engine.ok(&["network", "flows", "--json"]).is_empty());
    let (pid, since) = (process(&engine), Instant::now());
    // The second after a container has come, memory is given back.
    std::thread::sleep(Duration::from_secs(3));
    let before = worked(pid);
    std::thread::sleep(IDLE.saturating_sub(since.elapsed() + Duration::from_secs(2)));
    assert!(worked(pid) - before <= 2, "it works while nothing happens");
    std::thread::sleep(IDLE.saturating_sub(since.elapsed()));
    for _ in 0..3 {
        assert_eq!(request(&mut inwards), asker);
    }
    assert_eq!(running.wait().ok(), "answer 1\nanswer 2\nanswer 3\nanswer 4");
    answering.join().unwrap();
    assert_eq!(process(&engine), pid);
}

/// After [`PEER`]: holds many connections, each of which has passed a byte and passes another when a signal comes.
const HOLD: &str = r#"
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])

def pass_bytes(held):
    for n, s in enumerate(held): s.sendall(b"%d" % (n % 10))
    for n, s in enumerate(held):
        got = s.recv(2)
        assert got == b"%d" % (n % 10), (n, got)

def hold(host, port, count):
    held = [socket.create_connection((host, port), 60) for _ in range(count)]
    pass_bytes(held); print("held", flush=True)
    signal.sigwait([signal.SIGUSR1])
    pass_bytes(held); print("passed", flush=True)
    signal.sigwait([signal.SIGUSR1])
"#;

#[test]
fn two_thousand_idle_connections_stay_and_cost_little() {
    const EACH: usize = 1000;
    let engine = network!();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    require!(limit.maximum.is_none_or(|most| most >= 8192), "there are too few descriptors for two thousand");
    let python = image("python:zstd");
    let start = |name: &str, flags: &[&str], program: &str| {
        let program = format!("{PEER}{HOLD}{program}");
        let base = ["run", "-d", "-q", "--name", name, "--ulimit", "nofile=4096"];
        engine.ok(&[&base[..], flags, &[&python, "python3", "-c", &program]].concat());
    };
    // A container that has failed says why, and never says this.
    let said = |name: &str, words: &str| {
        eventually(words, || {
            let output = engine.run(&["logs", name]);
            assert!(output.stderr.is_empty(), "{name}: {output}");
            output.stdout.trim_end().ends_with(words)
        });
    };
    start("serves", &["-p", "7000"], "serve_lines(7000); print('ready', flush=True); time.sleep(1000)");
    said("serves", "ready");
    let (files, pid) = (open_files(&engine), process(&engine));
    std::thread::sleep(Duration::from_secs(2));
    let before = memory(pid);
    // The host's side is a container too, one on the host's network: so the test itself needs no such limit.
    let inwards = published(&engine, "serves", "7000/tcp").port();
    let free = listen().1;
    let program =
        format!("serve_lines({free}); print('ready', flush=True); hold('127.0.0.1', {inwards}, {EACH})");
    start("host", &["--network", "host"], &program);
    eventually("it listens", || engine.ok(&["logs", "host"]).starts_with("ready"));
    start("client", &[], &format!("hold('host.containers.internal', {free}, {EACH})"));
    said("host", "ready\nheld");
    said("client", "held");
    let shown = engine.ok(&["network", "flows", "--json"]);
    assert_eq!(shown.lines().count(), 2 * EACH);
    assert_eq!(shown.matches("\"established\"").count(), 2 * EACH, "not all of them are");
    // The container's ends are descriptors only where the kernel has them.
    let ends = if is_user_mode() { 1 } else { 2 };
    assert!(open_files(&engine) >= files + ends * 2 * EACH);
    let worked_before = worked(pid);
    std::thread::sleep(Duration::from_secs(5));
    let work = worked(pid) - worked_before;
    assert!(work <= 5, "it works while nothing happens: {work}");
    let more = memory(pid) - before;
    assert!(more <= 2 * EACH, "KiB for two thousand idle connections: {more}");
    for name in ["host", "client"] {
        engine.ok(&["kill", "-s", "USR1", name]);
    }
    said("host", "passed");
    said("client", "passed");
    for name in ["host", "client"] {
        engine.ok(&["kill", "-s", "USR1", name]);
    }
    eventually("they are gone", || open_files(&engine) <= files + 8);
    assert_eq!(process(&engine), pid);
}

/// Blocks of a transfer that is held back: more than all buffers of the kernel on the way have room for, of which that of a
/// receiver that reads, as we do, is the largest (tcp(7), `tcp_rmem`: 6 MiB, or 32 on large machines).
const HELD: usize = 96;

/// Sends blocks from this byte on, until all are sent; or with `until_held` until nobody takes more for a second. How much was
/// taken then.
fn send(to: &mut TcpStream, mut sent: usize, until_held: bool) -> usize {
    to.set_nonblocking(until_held).unwrap();
    let (mut block, mut last) = (block(), Instant::now());
    while sent < HELD * MIB && last.elapsed() < Duration::from_secs(1) {
        block[..8].copy_from_slice(&((sent / MIB) as u64).to_le_bytes());
        match to.write(&block[sent % MIB..]) {
            Ok(n) => (sent, last) = (sent + n, Instant::now()),
            Err(e) if e.kind() == ErrorKind::WouldBlock && until_held => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(e) => panic!("after {sent} bytes: {e}"),
        }
        if !until_held {
            last = Instant::now();
        }
    }
    to.set_nonblocking(false).unwrap();
    sent
}

/// After [`PEER`] and [`HOLD`], of a container: sends as [`send`] does, and reads when it is told to.
const SLOW: &str = r#"
def send_until_held(s, count):
    sent = 0; last = time.monotonic(); s.setblocking(False)
    while time.monotonic() < last + 1 and sent < count * MIB:
        try: sent += s.send(memoryview(block(sent // MIB))[sent % MIB:]); last = time.monotonic()
        except BlockingIOError: time.sleep(0.01)
    s.setblocking(True)
    return sent

# The first block in little pieces, as a receiver takes them that has much to do.
def same_blocks_slowly(s, count):
    got = b""
    while len(got) < MIB:
        got += s.recv(min(1000, MIB - len(got))); time.sleep(0.0005)
    return same_blocks(s, count, 1) if got == block(0) else "other at 0"

go = threading.Event()
def wait():
    signal.sigwait([signal.SIGUSR1]); go.set()
threading.Thread(target=wait, daemon=True).start()
"#;

#[test]
fn who_does_not_read_holds_its_sender_back_and_gets_all_of_it_in_the_end() {
    let engine = network!();
    let program = format!(
        "{HOLD}{SLOW}
def one(s):
    if s.recv(1) == b'e':
        while got := s.recv(65536): s.sendall(got)
    else:
        go.wait(); s.sendall(same_blocks_slowly(s, {HELD}).encode())
    s.close()
serve(7000, one)"
    );
    let to = serve(&engine, "slow", "7000", &program);
    let pid = process(&engine);
    std::thread::sleep(Duration::from_secs(2));
    let before = memory(pid);
    // Out: the container sends, and we do not read.
    let (listener, port) = listen();
    let running = go_out(
        &engine,
        &format!(
            "{HOLD}{SLOW}
s = connect({port}); sent = send_until_held(s, {HELD}); print('held', sent, flush=True)
while sent < {HELD} * MIB: sent += s.send(memoryview(block(sent // MIB))[sent % MIB:])
s.shutdown(socket.SHUT_WR); print(s.recv(100).decode())"
        ),
    );
    let mut server = accept(&listener);
    // In: we send, and the container does not read.
    let senders: Vec<_> = (0..3)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = connect(to);
                client.write_all(b"s").unwrap();
                let sent = send(&mut client, 0, true);
                (client, sent)
            })
        })
        .collect();
    // Others are served meanwhile.
    let mut lively = connect(to);
    lively.write_all(b"e").unwrap();
    for number in 0..1000u32 {
        lively.write_all(&number.to_le_bytes()).unwrap();
        let mut same = [0; 4];
        lively.read_exact(&mut same).unwrap();
        assert_eq!(same, number.to_le_bytes());
    }
    let senders: Vec<_> = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
    let held: Vec<usize> = senders.iter().map(|(_, sent)| *sent).collect();
    assert!(held.iter().all(|sent| *sent < HELD * MIB), "{held:?}");
    assert!(memory(pid) <= before + 4096, "{} KiB, before {before}", memory(pid));
    let worked_before = worked(pid);
    std::thread::sleep(Duration::from_secs(1));
    assert!(worked(pid) - worked_before <= 2, "it works while all wait");
    // All of it arrives.
    engine.ok(&["kill", "-s", "USR1", "slow"]);
    let ends: Vec<_> = senders
        .into_iter()
        .map(|(mut client, sent)| {
            std::thread::spawn(move || {
                send(&mut client, sent, false);
                client.shutdown(std::net::Shutdown::Write).unwrap();
                rest(&mut client)
            })
        })
        .collect();
    are_the_blocks(&mut server, HELD);
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
    server.write_all(b"thanks").unwrap();
    drop(server);
    let told = running.wait().ok();
    let (first, last) = told.split_once('\n').unwrap();
    let held: usize = first.strip_prefix("held ").unwrap().parse().unwrap();
    assert!(held < HELD * MIB && last == "thanks", "{told}");
    for end in ends {
        assert_eq!(end.join().unwrap(), "same");
    }
}

#[test]
fn connections_of_a_container_that_is_gone_end_even_if_much_is_on_its_way() {
    let engine = network!();
    let program = format!(
        "{HOLD}{SLOW}
def one(s):
    what = s.recv(1)
    if what == b'c': s.sendall(b'xlast words'); s.close(); return
    if what == b'w': s.sendall(b'x'); print('sent', send_until_held(s, {HELD}), flush=True)
    s.sendall(b'x'); go.wait()
serve(7000, one)"
    );
    // Somebody else keeps the network's process alive.
    engine.ok(&["run", "-d", "-q", "--name", "other", &tiny(), "sleep", "1000"]);
    let files = open_files(&engine);
    let to = serve(&engine, "gone", "7000", &program);
    let greet = |what: &[u8]| {
        let mut client = connect(to);
        client.write_all(what).unwrap();
        client.read_exact(&mut [0]).unwrap();
        client
    };
    // One waits, one does not read what the container writes, one writes what the container does not read, and one is closed
    // by the container only.
    let (mut idle, mut unread, mut writes, mut closed) = (greet(b"i"), greet(b"w"), greet(b"i"), greet(b"c"));
    assert!(send(&mut writes, 0, true) > MIB);
    eventually("it has sent much", || engine.ok(&["logs", "gone"]).contains("sent"));
    let (listener, port) = listen();
    let script = format!("exec 3<>/dev/tcp/host.containers.internal/{port}; cat /dev/zero >&3");
    engine.ok(&["exec", "-d", "gone", "bash", "-c", &script]);
    let mut server = accept(&listener);
    std::thread::sleep(Duration::from_secs(1));
    engine.ok(&["rm", "-f", "-t", "0", "gone"]);
    for (what, connection) in
        [("idle", &mut idle), ("unread", &mut unread), ("writes", &mut writes), ("out", &mut server)]
    {
        let mut bytes = vec![0; MIB];
        // Where something is missing, that must not look like an orderly end.
        let end = loop {
            match connection.read(&mut bytes) {
                Ok(1..) => {}
                end => break end,
            }
        };
        let kind = end.as_ref().map_err(std::io::Error::kind);
        assert!(
            kind == Err(ErrorKind::ConnectionReset) || what == "idle" && kind == Ok(&0),
            "{what}: {kind:?}"
        );
    }
    assert_eq!(rest(&mut closed), "last words");
    // Who goes on to send there is told that it is of no use, though later than by somebody who is there.
    let since = Instant::now();
    while closed.write_all(b"more").is_ok() {
        assert!(since.elapsed() < Duration::from_secs(20), "nobody tells it");
        std::thread::sleep(Duration::from_millis(100));
    }
    drop((idle, unread, writes, server, closed));
    eventually("nothing of them is left", || open_files(&engine) <= files);
    assert_eq!(engine.ok(&["network", "flows", "--noheading"]), "");
}

/// The processes of an engine's networks, with how many descriptors and how many links of R each has.
fn processes(engine: &Engine) -> BTreeMap<i32, (usize, usize)> {
    let folders = std::fs::read_dir(engine.run_root().join("networks")).unwrap().flatten();
    let pids = folders.filter_map(|folder| {
        let signed = std::fs::read_to_string(folder.path().join("process")).ok()?;
        signed.split_whitespace().next()?.parse::<i32>().ok()
    });
    let figures = |pid: i32| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
        // The first thread is in the host's network, the other one lives in R.
        let mut tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
        let inside = tasks.find(|task| task.file_name().to_str() != Some(&pid.to_string()));
        let links = match inside {
            Some(inside) => std::fs::read_to_string(inside.path().join("net/dev")).ok()?.lines().count(),
            // Without the kernel's help there is no R.
            None if is_user_mode() => 0,
            None => return None,
        };
        Some((pid, (files, links)))
    };
    pids.filter_map(figures).collect()
}

#[test]
fn sixty_containers_that_come_and_go_ten_at_once_leave_nothing() {
    let engine = network!();
    engine.ok(&["network", "create", "inner"]);
    let serves =
        "busybox mkdir /www; busybox hostname > /www/index.html; exec busybox httpd -f -p 80 -h /www";
    let serve = |name: &str, network: &str, more: &[&str]| {
        let base = ["run", "-d", "-q", "--name", name, "--hostname", name, "--network", network, "-p", "80"];
        engine.ok(&[&base[..], more, &[&tiny(), "sh", "-c", serves]].concat());
    };
    // One stays on each.
    serve("stays", "bridge", &[]);
    crate::user_networks::start(&engine, "asks", &["--network", "inner"]);
    asked(&engine, "asks", &get("127.0.0.1"));
    let before = processes(&engine);
    assert_eq!(before.len(), 2);
    let answer = |name: &str| {
        let to = published(&engine, name, "80/tcp");
        let mut said = String::new();
        eventually(&format!("{name} answers"), || {
            let mut client = connect(to);
            said.clear();
            client.write_all(b"GET / HTTP/1.0\r\n\r\n").is_ok() && client.read_to_string(&mut said).is_ok()
        });
        assert!(said.ends_with(&format!("{name}\n")), "{said}");
        to
    };
    let (listener, port) = listen();
    std::thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            let mut line = String::new();
            let _ = BufReader::new(&client).read_line(&mut line);
            let _ = client.write_all(line.to_uppercase().as_bytes());
        }
    });
    let one = |number: usize| {
        let name = format!("n{number}");
        let network = ["bridge", "inner"][number % 2];
        match number % 3 {
            0 => {
                let script = format!("echo {name} | busybox nc host.containers.internal {port}");
                let run =
                    ["run", "--rm", "-q", "--network", network, "-p", "80", &tiny(), "sh", "-c", &script];
                assert_eq!(engine.ok(&run), name.to_uppercase());
                return None;
            }
            1 => serve(&name, network, &[]),
            _ => serve(&name, network, &["--rm"]),
        }
        let to = answer(&name);
        if network == "inner" {
            assert_eq!(asked(&engine, "asks", &get(&name)), name);
        }
        match number % 3 {
            1 => engine.ok(&["rm", "-f", "-t", "0", &name]),
            _ => engine.ok(&["kill", &name]),
        };
        Some(to)
    };
    for batch in 0..if is_long() { 20 } else { 6 } {
        let ports: Vec<_> = std::thread::scope(|scope| {
            let one = &one;
            let threads: Vec<_> = (0..10).map(|n| scope.spawn(move || one(batch * 10 + n))).collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
        });
        eventually("all of them are gone", || engine.names() == ["asks", "stays"]);
        for port in ports {
            // A client sees that a moment after the container's last words.
            eventually(&format!("{port} is closed"), || TcpStream::connect(port).is_err());
        }
    }
    eventually("nothing of them is left in the networks' processes", || processes(&engine) == before);
    answer("stays");
    engine.ok(&["rm", "-f", "-t", "0", "stays", "asks"]);
    eventually("the networks' processes are gone", || before.keys().all(|pid| !is_alive(*pid)));
    for folder in std::fs::read_dir(engine.run_root().join("networks")).unwrap() {
        let leases = std::fs::read_dir(folder.unwrap().path().join("leases")).unwrap();
        assert_eq!(leases.count(), 0, "an address belongs to nobody");
    }
}

#[test]
fn a_port_is_free_again_when_the_container_that_had_it_has_ended() {
    let engine = network!();
    // Somebody else keeps the network's process alive, and busy.
    engine.ok(&["run", "-d", "-q", "--name", "other", &tiny(), "sleep", "1000"]);
    let publish = format!("{}:80", listen().1);
    let base = ["-q", "--name", "has", "-p", &publish, &tiny()];
    for round in 0..5 {
        // In the foreground, stopped, killed and removed by itself, and removed.
        let foreground = engine.run(&[&["run", "--rm"][..], &base, &["true"]].concat());
        assert_eq!(foreground.code, 0, "round {round}: {foreground}");
        let detached = engine.run(&[&["run", "-d", "--rm"][..], &base, &["sleep", "1000"]].concat());
        assert_eq!(detached.code, 0, "round {round}: {detached}");
        engine.ok(&["stop", "-t", "0", "has"]);
        let stopped = engine.run(&[&["run", "-d"][..], &base, &["sleep", "1000"]].concat());
        assert_eq!(stopped.code, 0, "round {round}: {stopped}");
        let restarted = engine.run(&["restart", "-t", "0", "has"]);
        assert_eq!(restarted.code, 0, "round {round}: {restarted}");
        engine.ok(&["rm", "-f", "-t", "0", "has"]);
    }
}

#[test]
fn an_answer_to_a_container_that_is_gone_does_not_reach_the_next_one_with_its_address() {
    let engine = network!();
    engine.ok(&["network", "create", "--subnet", "10.214.77.0/24", "inner"]);
    // Somebody else keeps the network's process alive.
    let base = ["run", "-d", "-q", "--network", "inner"];
    engine.ok(&[&base[..], &["--name", "other", &tiny(), "sleep", "1000"]].concat());
    let service = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    service.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let program = format!(
        "import socket, sys
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('', 5000))
u.sendto(sys.argv[1].encode(), ('host.containers.internal', {}))
while True: print(u.recv(100).decode(), flush=True)",
        service.local_addr().unwrap().port()
    );
    let python = image("python:zstd");
    let comes = |name: &str| {
        let ip = ["--ip", "10.214.77.7", "--name", name];
        engine.ok(&[&base[..], &ip, &[&python, "python3", "-c", &program, name]].concat());
        let mut bytes = [0; 100];
        let (length, from) = service.recv_from(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], name.as_bytes());
        from
    };
    let first = comes("first");
    service.send_to(b"for the first", first).unwrap();
    eventually("it is answered", || engine.ok(&["logs", "first"]) == "for the first");
    engine.ok(&["rm", "-f", "-t", "0", "first"]);
    let second = comes("second");
    // The kernel may say that nobody is there.
    let _ = service.send_to(b"for the first", first);
    let _ = service.send_to(b"for the second", second);
    eventually("it is answered", || engine.ok(&["logs", "second"]).ends_with("for the second"));
    assert_eq!(engine.ok(&["logs", "second"]), "for the second");
}
