//! Connections through the network as programs use them: many short ones, half closed, broken, and very large ones.
//!
//! The container's end is always a Python ([`PEER`]), which is a server for what comes in by a published port, and a
//! client for what goes out to a service of the host.

use crate::network::{process, published};
use crate::support::{Engine, Running, eventually, image, is_long};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// What both of its halves share: numbered blocks of a mebibyte, none of which is like another.
pub const PEER: &str = r#"
import selectors, socket, struct, sys, threading, time
MIB = 1 << 20
BASE = bytes(n * 7 % 251 for n in range(MIB - 8))

def block(number):
    return struct.pack("<Q", number) + BASE

def send_blocks(s, count):
    for number in range(count):
        s.sendall(block(number))

def same_blocks(s, count, first=0):
    got = bytearray(MIB)
    for number in range(first, count):
        view = memoryview(got)
        while view:
            n = s.recv_into(view)
            if n == 0: return "short at %d" % number
            view = view[n:]
        if got != block(number): return "other at %d" % number
    return "same" if s.recv(1) == b"" else "more"

def ending(s):
    s.settimeout(20)
    try:
        while s.recv(65536): pass
        return "end"
    except ConnectionResetError: return "reset"

def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); s.close()

def serve(port, one):
    l = socket.create_server(("", port), backlog=4096)
    def loop():
        while True:
            s = l.accept()[0]
            threading.Thread(target=one, args=(s,), daemon=True).start()
    threading.Thread(target=loop, daemon=True).start()

# Echoes what comes, all connections in one thread.
def serve_lines(port):
    l = socket.create_server(("", port), backlog=4096); l.setblocking(False)
    everyone = selectors.DefaultSelector(); everyone.register(l, selectors.EVENT_READ)
    def loop():
        while True:
            for key, _ in everyone.select():
                s = key.fileobj
                try:
                    if s is l:
                        s = l.accept()[0]; everyone.register(s, selectors.EVENT_READ); continue
                    got = s.recv(65536)
                    if got: s.sendall(got); continue
                except BlockingIOError: continue
                except OSError: pass
                everyone.unregister(s); s.close()
    threading.Thread(target=loop, daemon=True).start()

def connect(port):
    return socket.create_connection(("host.containers.internal", port), 60)
"#;

/// Runs this after [`PEER`] in a container of its own; it says "ready" when it listens.
pub fn serve(engine: &Engine, name: &str, port: &str, program: &str) -> SocketAddr {
    let program = format!("{PEER}\n{program}\nprint('ready', flush=True)\ntime.sleep(1000)\n");
    let python = image("python:zstd");
    engine.ok(&["run", "-d", "-q", "--name", name, "-p", port, &python, "python3", "-c", &program]);
    eventually("it listens", || engine.ok(&["logs", name]).starts_with("ready"));
    published(engine, name, &format!("{port}/tcp"))
}

/// Begins to run this after [`PEER`] in a container that goes out.
pub fn go_out(engine: &Engine, program: &str) -> Running {
    go_out_with(engine, &[], program)
}

fn go_out_with(engine: &Engine, flags: &[&str], program: &str) -> Running {
    let python = image("python:zstd");
    let program = format!("{PEER}\n{program}");
    let (run, command) = (["run", "--rm", "-q"], [&python, "python3", "-c", &program]);
    Running::start(engine.command(&[&run, flags, &command].concat()), b"")
}

/// A service of the host.
pub fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

pub fn connect(to: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(to).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    client
}

/// Whoever comes next; a container that has failed never comes.
#[track_caller]
pub fn accept(listener: &TcpListener) -> TcpStream {
    let mut set = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut set, PollTimeout::from(20_000u16)), Ok(1), "nobody has come");
    let client = listener.accept().unwrap().0;
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    client
}

/// What a connection says until its end.
pub fn rest(connection: &mut TcpStream) -> String {
    let mut text = String::new();
    connection.read_to_string(&mut text).unwrap();
    text
}

/// Breaks a connection with a reset.
fn reset(connection: TcpStream) {
    let connection = OwnedFd::from(connection);
    rustix::net::sockopt::set_socket_linger(&connection, Some(Duration::ZERO)).unwrap();
}

/// Descriptors of the network's process.
pub fn open_files(engine: &Engine) -> usize {
    let path = format!("/proc/{}/fd", process(engine));
    std::fs::read_dir(&path).unwrap_or_else(|e| panic!("{path}: {e}")).count()
}

pub const MIB: usize = 1 << 20;

/// What is much, in blocks of a mebibyte.
fn large() -> usize {
    if is_long() { 10_240 } else { 1000 }
}

/// The same as in [`PEER`].
pub fn block() -> Vec<u8> {
    let base = (0..MIB - 8).map(|n| u8::try_from(n * 7 % 251).unwrap());
    [0; 8].into_iter().chain(base).collect()
}

fn send_blocks(to: &mut TcpStream) {
    let mut block = block();
    for number in 0..large() {
        block[..8].copy_from_slice(&(number as u64).to_le_bytes());
        to.write_all(&block).unwrap();
    }
}

pub fn are_the_blocks(from: &mut TcpStream, count: usize) {
    let (mut block, mut got) = (block(), vec![0; MIB]);
    for number in 0..count {
        block[..8].copy_from_slice(&(number as u64).to_le_bytes());
        from.read_exact(&mut got).unwrap();
        assert!(got == block, "block {number} is another");
    }
}

#[test]
fn a_gigabyte_comes_in_and_another_goes_out_unchanged_both_ways_at_once() {
    let engine = network!();
    let large = large();
    let program = format!(
        "def one(s):
    sender = threading.Thread(target=send_blocks, args=(s, {large})); sender.start()
    told = same_blocks(s, {large}); sender.join(); s.sendall(told.encode()); s.close()
serve(7000, one)"
    );
    let mut client = connect(serve(&engine, "in", "7000", &program));
    let sender = {
        let mut client = client.try_clone().unwrap();
        std::thread::spawn(move || {
            send_blocks(&mut client);
            client.shutdown(std::net::Shutdown::Write).unwrap();
        })
    };
    are_the_blocks(&mut client, large);
    sender.join().unwrap();
    assert_eq!(rest(&mut client), "same");
    engine.ok(&["rm", "-f", "-t", "0", "in"]);

    let (listener, port) = listen();
    let program = format!(
        "s = connect({port})
send_blocks(s, {large}); s.shutdown(socket.SHUT_WR)
print(same_blocks(s, {large}))"
    );
    let running = go_out(&engine, &program);
    let mut server = accept(&listener);
    are_the_blocks(&mut server, large);
    send_blocks(&mut server);
    server.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(running.wait().ok(), "same");
}

#[test]
fn half_of_a_connection_may_be_closed_while_the_other_goes_on() {
    let engine = network!();
    let program = "
def one(s):
    first = s.recv(1)
    if first == b'l':
        # The client says all it has to say, then we do.
        while s.recv(65536): pass
        for n in range(5): time.sleep(0.1); s.sendall(b'late %d\\n' % n)
    else:
        # We have nothing to say, and hear the client out.
        s.shutdown(socket.SHUT_WR); heard = 0
        while got := s.recv(65536): heard += len(got)
        print('heard', heard, flush=True)
    s.close()
serve(7000, one)";
    let to = serve(&engine, "half", "7000", program);
    let mut client = connect(to);
    client.write_all(b"last words").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(rest(&mut client), "late 0\nlate 1\nlate 2\nlate 3\nlate 4\n");
    let mut client = connect(to);
    client.write_all(b"x").unwrap();
    assert_eq!(rest(&mut client), "");
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(100));
        client.write_all(&[1; 20_000]).unwrap();
    }
    drop(client);
    eventually("it has heard all", || engine.ok(&["logs", "half"]).ends_with("heard 100000"));
    // And out.
    let (listener, port) = listen();
    let program = format!(
        "s = connect({port}); s.sendall(b'question'); s.shutdown(socket.SHUT_WR)
print(s.makefile().read())
s = connect({port}); print(repr(s.recv(1)))
for n in range(5): time.sleep(0.1); s.sendall(b'still ')
s.close()"
    );
    let running = go_out(&engine, &program);
    let mut server = accept(&listener);
    assert_eq!(rest(&mut server), "question");
    std::thread::sleep(Duration::from_millis(300));
    server.write_all(b"answer").unwrap();
    drop(server);
    let mut server = accept(&listener);
    server.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(rest(&mut server), "still ".repeat(5));
    assert_eq!(running.wait().ok(), "answer\nb''");
}

#[test]
fn a_reset_is_passed_on_in_and_out_by_whoever_makes_it() {
    let engine = network!();
    let program = "
def one(s):
    if s.recv(1) == b'r': s.sendall(b'x'); reset(s)
    else: s.sendall(b'x'); print(ending(s), flush=True)
serve(7000, one)";
    let to = serve(&engine, "in", "7000", program);
    let greet = |said: &[u8]| {
        let mut client = connect(to);
        client.write_all(said).unwrap();
        client.read_exact(&mut [0]).unwrap();
        client
    };
    let mut client = greet(b"r");
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    reset(greet(b"w"));
    eventually("the container sees a reset", || engine.ok(&["logs", "in"]) == "ready\nreset");
    drop(greet(b"w"));
    eventually("and an end", || engine.ok(&["logs", "in"]) == "ready\nreset\nend");
    let (listener, port) = listen();
    let program = format!(
        "s = connect({port}); s.sendall(b'x'); print(ending(s))
s = connect({port}); s.sendall(b'x'); s.recv(1); reset(s)"
    );
    let running = go_out(&engine, &program);
    let mut server = accept(&listener);
    server.read_exact(&mut [0]).unwrap();
    reset(server);
    let mut server = accept(&listener);
    server.read_exact(&mut [0]).unwrap();
    server.write_all(b"x").unwrap();
    assert_eq!(server.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(running.wait().ok(), "reset");
}

#[test]
fn three_thousand_short_connections_pass_in_and_out_whoever_ends_them() {
    const EACH: usize = 1500;
    let engine = network!();
    let to = serve(&engine, "in", "7000", "serve_lines(7000)");
    let files = open_files(&engine);
    // The client ends each: what is left of a closed connection stays on its side for a minute.
    for number in 0..2 * EACH {
        let mut client = connect(to);
        let mut answer = [0; 3];
        let done = client.write_all(b"hi\n").and_then(|()| client.read_exact(&mut answer));
        assert!(done.is_ok() && &answer == b"hi\n", "connection {number}: {done:?}");
    }
    // Out: first half of them ended by the service, then half by the container.
    let (listener, port) = listen();
    let service = std::thread::spawn(move || {
        for number in 0..2 * EACH {
            let mut client = accept(&listener);
            let mut line = String::new();
            BufReader::new(&client).read_line(&mut line).unwrap();
            client.write_all(line.as_bytes()).unwrap();
            if number >= EACH {
                assert_eq!(rest(&mut client), "");
            }
        }
    });
    let program = format!(
        "for n in range({}):
    s = connect({port}); said = b'%d\\n' % n; s.sendall(said); got = s.recv(100)
    if n < {EACH}: assert s.recv(1) == b''
    s.close()
    assert got == said, (n, got)
print('done')",
        2 * EACH
    );
    assert_eq!(go_out(&engine, &program).wait().ok(), "done");
    service.join().unwrap();
    eventually("nothing of them is left", || open_files(&engine) <= files + 8);
}

#[test]
fn datagrams_of_a_client_reach_the_next_container_of_a_published_port() {
    let engine = network!();
    let program = "
import socket
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('', 7000)); print('ready', flush=True)
while True:
    d, a = u.recvfrom(65536); u.sendto(d, a)
";
    let python = image("python:zstd");
    let start = |publish: &str| {
        engine.ok(&["run", "-d", "-q", "--name", "echo", "-p", publish, &python, "python3", "-c", program]);
        eventually("it is ready", || engine.ok(&["logs", "echo"]) == "ready");
    };
    // Somebody else keeps the network's process alive.
    engine.ok(&["run", "-d", "-q", "--name", "other", &python, "sleep", "1000"]);
    start("7000/udp");
    let port = published(&engine, "echo", "7000/udp").port();
    // As syslog, games and tunnels do, the client keeps its own port.
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(("127.0.0.1", port)).unwrap();
    client.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut answer = [0; 65536];
    let mut echoed = |size: usize| {
        let since = Instant::now();
        // While nobody listens, an answer may say so.
        while since.elapsed() < Duration::from_secs(5) {
            let _ = client.send(&vec![7; size]);
            if client.recv(&mut answer).is_ok_and(|n| n == size) {
                return true;
            }
        }
        false
    };
    for size in [1, 1400, 1500, 40_000, 65_507] {
        assert!(echoed(size), "{size} bytes");
    }
    engine.ok(&["rm", "-f", "-t", "0", "echo"]);
    start(&format!("{port}:7000/udp"));
    assert!(echoed(3), "the client's datagrams go to a container that is gone");
}

/// Connects, and sends the frame of its own SYN once more when the connection is there.
const TWICE: &str = r"
import socket, time
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); raw.bind(('eth0', 0)); raw.settimeout(10)
s = connect(PORT)
while True:
    frame = raw.recv(65536)
    if len(frame) > 47 and frame[12:14] == b'\x08\0' and frame[23] == 6 and frame[36:38] == (PORT).to_bytes(2, 'big') and frame[47] & 0x12 == 2: break
for _ in range(3): raw.send(frame)
time.sleep(1); s.sendall(b'x'); assert s.recv(1) == b'y'
print('done')
";

#[test]
fn a_syn_that_comes_again_is_not_another_connection() {
    let engine = network!();
    let (listener, port) = listen();
    let program = TWICE.replace("PORT", &port.to_string());
    let running = go_out_with(&engine, &["--cap-add", "NET_RAW"], &program);
    let mut connection = accept(&listener);
    let mut got = [0];
    connection.read_exact(&mut got).unwrap();
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "there is a second connection");
    connection.write_all(b"y").unwrap();
    let output = running.wait();
    assert_eq!(output.stdout.trim(), "done", "{output}");
}
