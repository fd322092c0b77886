//! IPv6: the same as over IPv4. The network `six` of each test has it whatever the host has.

use crate::network::{ask, published};
use crate::support::{Engine, debian, eventually, image, tiny};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

/// The host's IPv6 address towards the world, if it has one.
fn own_address() -> Option<Ipv6Addr> {
    let socket = UdpSocket::bind("[::]:0").ok()?;
    socket.connect("[2001:db8::1]:9").ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V6(v6) if !v6.is_loopback() && !v6.is_unspecified() => Some(v6),
        _ => None,
    }
}

/// An engine with a network `six`, and the host's own address.
macro_rules! network6 {
    () => {{
        let engine = network!();
        let own = own_address();
        require!(own.is_some(), "the host has no IPv6 address towards the world");
        engine.ok(&["network", "create", "--subnet", "fd77:1::/64", "--subnet", "10.77.1.0/24", "six"]);
        (engine, own.unwrap())
    }};
}

/// `run --rm` of a bash script, with a busybox beside it, on a network.
fn bash(engine: &Engine, network: &str, flags: &[&str], script: &str) -> String {
    let busybox = format!("{}:/bin/busybox:ro", crate::support::busybox().display());
    let image = debian();
    let base = ["run", "--rm", "-q", "--network", network, "-v", &busybox];
    engine.ok(&[&base[..], flags, &[&image, "bash", "-c", script]].concat())
}

/// Serves one client, which gets back what it sends; who it was.
fn echo(listener: TcpListener) -> std::thread::JoinHandle<SocketAddr> {
    std::thread::spawn(move || {
        let (mut client, from) = listener.accept().unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        client.write_all(&got).unwrap();
        from
    })
}

#[test]
fn a_container_reaches_the_host_by_ipv6_and_the_answers_come_back() {
    let (engine, own) = network6!();
    let listener = TcpListener::bind((own, 0)).unwrap();
    let datagrams = UdpSocket::bind((own, 0)).unwrap();
    let (tcp, udp) = (listener.local_addr().unwrap().port(), datagrams.local_addr().unwrap().port());
    let free = TcpListener::bind((own, 0)).unwrap().local_addr().unwrap().port();
    let served = echo(listener);
    datagrams.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let answered = std::thread::spawn(move || {
        let mut bytes = [0; 100];
        let (length, from) = datagrams.recv_from(&mut bytes).unwrap();
        datagrams.send_to(&bytes[..length], from).unwrap();
    });
    let script = format!(
        "head -c 2000000 /dev/urandom >/tmp/a; busybox nc {own} {tcp} </tmp/a >/tmp/b; cmp /tmp/a /tmp/b && echo same
         exec 3<>/dev/udp/{own}/{udp}; echo datagram >&3; busybox timeout 10 busybox head -c 9 <&3
         busybox nc -w 20 {own} {free} </dev/null; busybox nc -w 20 ff0e::1 80 </dev/null
         busybox nc -w 20 fd77:1::77 80 </dev/null; true"
    );
    let busybox = format!("{}:/bin/busybox:ro", crate::support::busybox().display());
    let base = ["run", "--rm", "-q", "--network", "six", "-v", &busybox];
    let output = engine.run(&[&base[..], &[&debian(), "bash", "-c", &script]].concat());
    assert_eq!(output.stdout, "same\ndatagram\n", "{output}");
    let errors: Vec<_> = output.stderr.lines().collect();
    assert!(errors[0].contains("Connection refused"), "{output}");
    assert!(errors[1].contains("unreachable") || errors[1].contains("denied"), "{output}");
    assert!(errors[2].contains("No route to host"), "{output}");
    assert!(!served.join().unwrap().ip().is_loopback());
    answered.join().unwrap();
}

#[test]
fn neither_the_hosts_loopback_nor_ipv4_in_other_clothes_is_reached_by_ipv6() {
    let (engine, _) = network6!();
    let listeners = ["[::1]:0", "127.0.0.1:0"].map(|at| TcpListener::bind(at).unwrap());
    let datagrams = ["[::1]:0", "127.0.0.1:0"].map(|at| UdpSocket::bind(at).unwrap());
    let ports: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap().port()).collect();
    let udp: Vec<_> = datagrams.iter().map(|d| d.local_addr().unwrap().port()).collect();
    // With a route to them: without, the kernel in the container refuses some of them itself.
    let script = format!(
        "for net in ::ffff:0:0/96 ::/96; do busybox ip -6 route add $net via fd77:1::1 dev eth0; done
         for host in ::1 fd77:1::1 ::ffff:127.0.0.1 ::127.0.0.1 ::; do for port in {} {}; do
            busybox nc -w 2 $host $port </dev/null && echo $host; done; done 2>/dev/null
         for host in ::1 fd77:1::1 ::ffff:127.0.0.1 ::127.0.0.1 ::; do for port in {} {}; do
            echo x >/dev/udp/$host/$port; done; done 2>/dev/null; echo tried",
        ports[0], ports[1], udp[0], udp[1],
    );
    assert_eq!(bash(&engine, "six", &["--cap-add", "NET_ADMIN"], &script), "tried");
    for listener in listeners {
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "a container has reached the host's loopback");
    }
    for socket in datagrams {
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0; 8]).is_err(), "a datagram has reached the host's loopback");
    }
}

/// A web server whose script tells who asks; it listens at `at`.
fn serve(engine: &Engine, name: &str, at: &str, flags: &[&str]) {
    let script = format!(
        "busybox mkdir -p /www/cgi-bin; echo '#!/bin/sh
echo; echo \"$REMOTE_ADDR:$REMOTE_PORT\"' > /www/cgi-bin/who; busybox chmod 755 /www/cgi-bin/who
exec busybox httpd -f -p {at} -h /www"
    );
    let image = tiny();
    let base = ["run", "-d", "-q", "--name", name, "--network", "six"];
    engine.ok(&[&base[..], flags, &[&image, "sh", "-c", &script]].concat());
}

#[test]
fn a_published_port_is_reached_by_both_families_and_the_client_keeps_its_address() {
    let (engine, own) = network6!();
    serve(&engine, "both", "80", &["-p", "80"]);
    let port = published(&engine, "both", "80/tcp").port();
    let [own, loopback, loopback_4] =
        ["", "::1", "127.0.0.1"].map(|ip| SocketAddr::new(ip.parse().unwrap_or(own.into()), port));
    eventually("the container answers", || ask(own).is_some());
    let (seen, client) = ask(own).unwrap();
    assert_eq!(seen.replace(['[', ']'], ""), format!("{}:{}", client.ip(), client.port()));
    for loopback in [loopback, loopback_4] {
        let seen = ask(loopback).unwrap().0;
        assert!(seen.starts_with("10.77.1.1"), "{seen}");
    }

    // A server that knows one family only, and a port that is published for one only.
    serve(&engine, "four", "0.0.0.0:80", &["-p", "80"]);
    let port = published(&engine, "four", "80/tcp").port();
    let by_6 = SocketAddr::new(own.ip(), port);
    eventually("it answers by IPv6", || ask(by_6).is_some());
    assert!(ask(by_6).unwrap().0.starts_with("10.77.1.1:"));
    serve(&engine, "six-only", "[::1]:81 & busybox httpd -f -p 80", &["-p", "[::1]::80"]);
    let port = engine.ok(&["port", "six-only", "80"]).rsplit(':').next().unwrap().parse().unwrap();
    eventually("it answers", || ask(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)).is_some());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    for name in ["both", "four", "six-only"] {
        engine.ok(&["rm", "-f", "-t", "0", name]);
    }
}

#[test]
fn a_published_datagram_port_is_reached_by_both_families() {
    let (engine, own) = network6!();
    // Python tells who asks. One server knows both families, the other one only.
    let server = |family: &str| {
        format!(
            "import socket; s = socket.socket(socket.AF_INET{family}, socket.SOCK_DGRAM); s.bind(('', 53)); print('ready', flush=True)
while True: m, a = s.recvfrom(99); s.sendto(a[0].encode(), a)"
        )
    };
    let python = image("python:zstd");
    for (name, family) in [("both", "6"), ("four", "")] {
        let base = ["run", "-d", "-q", "--name", name, "--network", "six", "-p", "53/udp"];
        engine.ok(&[&base[..], &[&python, "python3", "-c", &server(family)]].concat());
        // Until then a datagram to the one family is refused, and its flow goes on by the other.
        eventually("it listens", || engine.ok(&["logs", name]) == "ready");
        let port = published(&engine, name, "53/udp").port();
        let ask = |to: IpAddr| {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let client = UdpSocket::bind(any).unwrap();
            client.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            let mut bytes = [0; 99];
            client.send_to(b"?", (to, port)).ok()?;
            let length = client.recv(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
        };
        let answer = |to: IpAddr| {
            let mut answer = None;
            eventually("an answer", || {
                answer = ask(to);
                answer.is_some()
            });
            answer.unwrap().replace("::ffff:", "")
        };
        let by_6 = answer(own.into());
        assert_eq!(by_6, if name == "both" { own.to_string() } else { "10.77.1.1".into() });
        assert_eq!(answer("127.0.0.1".parse().unwrap()), "10.77.1.1");
        engine.ok(&["rm", "-f", "-t", "0", name]);
    }
}

#[test]
fn containers_find_one_another_by_ipv6_and_have_the_addresses_asked_for() {
    let (engine, _) = network6!();
    serve(&engine, "web", "80", &["--ip6", "fd77:1::80", "--network-alias", "www"]);
    assert_eq!(engine.inspect("web", "{{.NetworkSettings.Networks.six.GlobalIPv6Address}}"), "fd77:1::80");
    assert_eq!(engine.inspect("web", "{{.NetworkSettings.Networks.six.IPv6Gateway}}"), "fd77:1::1");
    let known = bash(
        &engine,
        "six",
        &[],
        "getent ahostsv6 www | head -1; getent hosts fd77:1::80; grep fd77 /etc/hosts | grep -v ::80
         exec 3<>/dev/tcp/fd77:1::80/80; printf 'GET /cgi-bin/who HTTP/1.0\\r\\n\\r\\n' >&3; tail -1 <&3",
    );
    let lines: Vec<_> = known.lines().collect();
    assert!(lines[0].starts_with("fd77:1::80"), "{known}");
    assert!(lines[1].contains("web"), "{known}");
    let (own, _) = lines[2].split_once('\t').unwrap();
    // By its own address, which is its number on the network too.
    assert!(lines[3].replace(['[', ']'], "").starts_with(&format!("{own}:")), "{known}");
    let shown = engine.ok(&["network", "inspect", "six"]);
    assert!(shown.contains("\"EnableIPv6\": true") && shown.contains("fd77:1::80/64"), "{shown}");

    let image = tiny();
    let taken = engine.run(&["run", "--rm", "--network", "six", "--ip6", "fd77:1::80", &image, "true"]);
    assert!(taken.code == 125 && taken.stderr.contains("fd77:1::80 is already in use"), "{taken}");
    let foreign = engine.run(&["run", "--rm", "--network", "six:ip=fd78::2", &image, "true"]);
    assert!(foreign.code == 125 && foreign.stderr.contains("not in the network's subnet"), "{foreign}");
    engine.ok(&["network", "create", "four"]);
    let without = engine.run(&["run", "--rm", "--network", "four", "--ip6", "fd77:1::81", &image, "true"]);
    assert!(without.code == 125 && without.stderr.contains("has no IPv6 addresses"), "{without}");
    engine.ok(&["network", "create", "--ipv6", "own"]);
    let subnet = engine.ok(&["network", "inspect", "-f", "{{(index .IPAM.Config 1).Subnet}}", "own"]);
    assert!(subnet.starts_with("fd") && subnet.ends_with("::/64"), "{subnet}");
    // A running container is put on one, and has its addresses there at once.
    engine.ok(&["network", "connect", "--ip6", "fd77:1::99", "six", &start(&engine, "later", "four")]);
    let shown = engine.ok(&["exec", "later", "busybox", "ip", "-6", "addr"]);
    assert!(shown.contains("fd77:1::99/64"), "{shown}");
    for name in ["web", "later"] {
        engine.ok(&["rm", "-f", "-t", "0", name]);
    }
}

fn start(engine: &Engine, name: &str, network: &str) -> String {
    engine.ok(&["run", "-d", "-q", "--name", name, "--network", network, &tiny(), "sleep", "1000"]);
    name.to_owned()
}

/// Sends what only a router or another container may send, as raw frames.
const FORGER: &str = r#"
import socket, struct, sys
own, other, gateway, all_nodes = (socket.inet_pton(socket.AF_INET6, a) for a in sys.argv[1:4] + ['ff02::1'])
mac = bytes.fromhex(open('/sys/class/net/eth0/address').read().strip().replace(':', ''))
link_local = bytes.fromhex('fe80000000000000') + bytes([mac[0] ^ 2]) + mac[1:3] + b'\xff\xfe' + mac[3:]
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('eth0', 0))
def send(source, body, options=b''):
    body = body[:2] + b'\0\0' + body[4:]
    total = source + all_nodes + struct.pack('!I3xB', len(body), 58) + body
    total += b'\0' * (len(total) % 2)
    c = sum(struct.unpack('!%dH' % (len(total) // 2), total))
    while c > 65535: c = (c & 65535) + (c >> 16)
    body = body[:2] + struct.pack('!H', c ^ 65535) + body[4:]
    next = 60 if options else 58
    head = struct.pack('!IHBB', 6 << 28, len(options) + len(body), next, 255)
    s.send(bytes.fromhex('333300000001') + mac + b'\x86\xdd' + head + source + all_nodes + options + body)
target = b'\x02\x01' + mac
advert = lambda of: struct.pack('!BBHI', 136, 0, 0, 0x20000000) + of + target
router = struct.pack('!BBHBBHII', 134, 0, 0, 64, 0, 1800, 0, 0) + b'\x01\x01' + mac
padding = bytes.fromhex('3a00010400000000')
for options in (b'', padding):
    for source in (own, link_local, gateway, other):
        send(source, advert(gateway), options); send(source, advert(other), options)
        send(source, router, options)
print('sent')
"#;

#[test]
fn a_container_cannot_play_the_router_or_another_container() {
    let (engine, _) = network6!();
    start(&engine, "victim", "six:ip=fd77:1::10");
    start(&engine, "other", "six:ip=fd77:1::11");
    // The victim knows both: only who is known already can be forged.
    let exec = |script: &str| engine.ok(&["exec", "victim", "sh", "-c", script]);
    let reach = "for to in fd77:1::1 fd77:1::11; do busybox nc -w 2 $to 9 </dev/null; done 2>&1; true";
    assert_eq!(exec(reach).matches("refused").count(), 2);
    let neighbours = || {
        let shown = exec("busybox ip -6 neigh; busybox ip -6 route");
        let mut lines: Vec<_> = shown
            .lines()
            .filter(|line| line.starts_with("fd77") && line.contains("lladdr") || line.contains("default"))
            .map(|line| {
                line.split(" ref ").next().unwrap().split_whitespace().take(5).collect::<Vec<_>>().join(" ")
            })
            .collect();
        lines.sort();
        lines
    };
    let before = neighbours();
    assert!(before.len() >= 3, "{before:?}");
    let python = image("python:zstd");
    let flags = ["run", "--rm", "-q", "--network", "six:ip=fd77:1::66", "--cap-add", "NET_RAW"];
    let arguments = ["python3", "-c", FORGER, "fd77:1::66", "fd77:1::11", "fd77:1::1"];
    assert_eq!(engine.ok(&[&flags[..], &[&python], &arguments].concat()), "sent");
    assert_eq!(neighbours(), before);
    assert_eq!(exec(reach).matches("refused").count(), 2);
    for name in ["victim", "other"] {
        engine.ok(&["rm", "-f", "-t", "0", name]);
    }
}

#[test]
fn the_default_network_has_ipv6_where_the_host_has_a_way() {
    let (engine, own) = network6!();
    let listener = TcpListener::bind((own, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = echo(listener);
    let script = format!("echo hello | busybox nc {own} {port}");
    assert_eq!(bash(&engine, "bridge", &[], &script), "hello");
    served.join().unwrap();
    let start = ["run", "-d", "-q", "--name", "a", "--network", "bridge"];
    engine.ok(&[&start[..], &[&tiny(), "busybox", "httpd", "-f", "-p", "80"]].concat());
    let address = engine.inspect("a", "{{.NetworkSettings.GlobalIPv6Address}}");
    let script = format!("busybox wget -T 2 -qO- http://[{address}]/ && echo reached; echo tried");
    // Isolated from one another, as over IPv4.
    assert_eq!(bash(&engine, "bridge", &[], &format!("{{ {script}; }} 2>/dev/null")), "tried");
    engine.ok(&["rm", "-f", "-t", "0", "a"]);
}
