//! The default network: what containers reach, who reaches them, and what they cannot reach.

use crate::support::{Engine, debian, eventually, image, skip, tiny};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

/// What a service of the host on all its addresses is called by containers.
const HOST: &str = "host.containers.internal";

/// `run --rm` of a script in the tiny image on the default network; what it printed.
fn sh(engine: &Engine, flags: &[&str], script: &str) -> String {
    let image = tiny();
    let base = ["run", "--rm", "-q"];
    engine.ok(&[&base[..], flags, &[&image, "sh", "-c", script]].concat())
}

/// The same in a Debian, whose bash sends datagrams (`/dev/udp/HOST/PORT`), with a busybox beside it.
fn bash(engine: &Engine, flags: &[&str], script: &str) -> String {
    let (image, busybox) = (debian(), format!("{}:/bin/busybox:ro", crate::support::busybox().display()));
    let base = ["run", "--rm", "-q", "-v", &busybox];
    engine.ok(&[&base[..], flags, &[&image, "bash", "-c", script]].concat())
}

/// A field of /proc/PID/stat, counted from the state, which is 0.
fn stat_field(pid: i32, number: usize) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(number).map(str::to_owned)
}

pub fn is_alive(pid: i32) -> bool {
    stat_field(pid, 0).is_some_and(|state| state != "Z")
}

/// The process of this engine's network.
pub fn process(engine: &Engine) -> i32 {
    let mut folders = std::fs::read_dir(engine.run_root().join("networks")).unwrap();
    let folder = folders.next().unwrap().unwrap().path();
    let signed = std::fs::read_to_string(folder.join("process")).unwrap_or_default();
    signed.split_whitespace().next().and_then(|pid| pid.parse().ok()).unwrap_or(0)
}

/// A service of the host that sends back what it gets, once the client has said that it is done.
fn echo_service() -> (u16, std::thread::JoinHandle<SocketAddr>) {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = std::thread::spawn(move || {
        let (mut client, from) = listener.accept().unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        client.write_all(&got).unwrap();
        from
    });
    (port, served)
}

/// Whether the networks of these tests carry packets in their own process (`CORACLE_NETWORK_DATAPATH`).
pub fn is_user_mode() -> bool {
    std::env::var("CORACLE_NETWORK_DATAPATH").as_deref() == Ok("user")
}

#[test]
fn a_container_reaches_a_service_of_the_host_and_the_answer_comes_back() {
    let engine = network!();
    let (port, served) = echo_service();
    let script = format!(
        "head -c 20000000 /dev/urandom > /tmp/a; busybox nc {HOST} {port} < /tmp/a > /tmp/b; cmp /tmp/a /tmp/b && echo same"
    );
    assert_eq!(
        sh(&engine, &[], &script.replace("head", "busybox head").replace("cmp", "busybox cmp")),
        "same"
    );
    // As the host's own connection, and not by way of its loopback.
    assert!(!served.join().unwrap().ip().is_loopback());
}

#[test]
fn refused_is_refused_and_what_is_not_there_is_unreachable() {
    let engine = network!();
    let free = TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let script = format!(
        "busybox nc -w 20 {HOST} {free}; busybox nc -w 20 10.88.200.200 80; busybox nc -w 20 224.0.0.1 80"
    );
    let image = tiny();
    let output = engine.run(&["run", "--rm", "-q", &image, "sh", "-c", &format!("{script}; :")]);
    let lines: Vec<_> = output.stderr.lines().collect();
    assert!(lines[0].contains("Connection refused"), "{output}");
    assert!(lines[1].contains("No route to host"), "{output}");
    assert!(lines[2].contains("unreachable"), "{output}");
    assert!(output.time < Duration::from_secs(15), "{output}");
}

#[test]
fn the_loopback_of_the_host_cannot_be_reached() {
    let engine = network!();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    datagrams.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let (port, udp) = (listener.local_addr().unwrap().port(), datagrams.local_addr().unwrap().port());
    let script = format!(
        "for host in 127.0.0.1 {HOST} 10.88.0.1 169.254.1.2 0.0.0.0 127.1.2.3; do
            busybox nc -w 3 $host {port} </dev/null && echo $host; echo x >/dev/udp/$host/{udp}
         done 2>/dev/null; echo tried"
    );
    assert_eq!(bash(&engine, &[], &script), "tried");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "a container has reached the host's loopback");
    assert!(datagrams.recv(&mut [0; 8]).is_err(), "a datagram has reached the host's loopback");
}

/// The image's own web server, whose script tells who asks.
const SERVER: &str = "busybox mkdir -p /www/cgi-bin; echo '#!/bin/sh
echo; echo \"$REMOTE_ADDR:$REMOTE_PORT\"' > /www/cgi-bin/who; busybox chmod 755 /www/cgi-bin/who
exec busybox httpd -f -p 80 -h /www";

/// The answer of [`SERVER`], and the client's own address.
pub fn ask(to: SocketAddr) -> Option<(String, SocketAddr)> {
    let mut client = TcpStream::connect(to).ok()?;
    client.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    client.write_all(b"GET /cgi-bin/who HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    client.read_to_string(&mut answer).ok()?;
    // A server on both families shows an IPv4 client so.
    let last = answer.trim_end().lines().last()?.replace("[::ffff:", "").replace(']', "");
    answer.contains("200").then_some((last, client.local_addr().ok()?))
}

fn serve(engine: &Engine, name: &str, flags: &[&str]) {
    let image = tiny();
    let base = ["run", "-d", "-q", "--name", name];
    engine.ok(&[&base[..], flags, &[&image, "sh", "-c", SERVER]].concat());
}

pub fn published(engine: &Engine, name: &str, port: &str) -> SocketAddr {
    let format = format!("{{{{(index (index .NetworkSettings.Ports \"{port}\") 0).HostPort}}}}");
    SocketAddr::new("127.0.0.1".parse().unwrap(), engine.inspect(name, &format).parse().unwrap())
}

/// The host's address towards the world, if it has one.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

#[test]
fn a_published_port_leads_in_and_the_client_keeps_its_address() {
    let engine = network!();
    serve(&engine, "web", &["-p", "80"]);
    let to = published(&engine, "web", "80/tcp");
    eventually("the container answers", || ask(to).is_some());
    // Loopback means something else in the container: there the client is the gateway.
    assert!(ask(to).unwrap().0.starts_with("10.88.0.1:"));
    assert!(engine.ok(&["ps"]).contains(&format!("0.0.0.0:{}->80/tcp", to.port())), "{}", engine.ok(&["ps"]));
    if let Some(own) = own_address() {
        let (seen, client) = ask(SocketAddr::new(own, to.port())).unwrap();
        assert_eq!(seen, client.to_string());
    }
    engine.ok(&["rm", "-f", "-t", "0", "web"]);
    assert!(TcpStream::connect(to).is_err(), "the port is still open");
}

#[test]
fn a_published_datagram_port_keeps_the_clients_address_too() {
    let engine = network!();
    let Some(own) = own_address() else {
        return crate::support::skip("the host has no address but loopback");
    };
    let program = "
import socket
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('', 7000)); print('ready', flush=True)
while True:
    d, a = u.recvfrom(65536); u.sendto(str(a).encode() + b' ' + d, a)
";
    let image = image("python:gz");
    engine.ok(&["run", "-d", "-q", "--name", "u", "-p", "7000/udp", &image, "python3", "-c", program]);
    eventually("it is ready", || engine.ok(&["logs", "u"]) == "ready");
    let port = published(&engine, "u", "7000/udp").port();
    let socket = UdpSocket::bind((own, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.connect((own, port)).unwrap();
    let seen = format!("('{own}', {}) x", socket.local_addr().unwrap().port());
    let mut answer = [0; 65536];
    for size in [1, 500, 1400, 9000] {
        socket.send(&vec![b'x'; size]).unwrap();
        let n = socket.recv(&mut answer).unwrap();
        let text = String::from_utf8_lossy(&answer[..n]).into_owned();
        assert!(text.starts_with(&seen) && text.ends_with(&"x".repeat(size)), "{size}: {text}");
    }
    engine.ok(&["rm", "-f", "-t", "0", "u"]);
}

#[test]
fn containers_of_the_default_network_do_not_reach_one_another() {
    let engine = network!();
    serve(&engine, "web", &[]);
    let address = engine.inspect("web", "{{.NetworkSettings.IPAddress}}");
    eventually("it serves", || {
        engine.run(&["exec", "web", "busybox", "wget", "-qO-", "http://127.0.0.1/cgi-bin/who"]).code == 0
    });
    let script = format!("busybox nc -w 5 {address} 80 </dev/null && echo reached || echo not");
    assert_eq!(sh(&engine, &[], &script), "not");
    engine.ok(&["rm", "-f", "-t", "0", "web"]);
}

#[test]
fn a_port_that_is_taken_or_not_ours_is_explained() {
    let engine = network!();
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let publish = format!("{}:80", taken.local_addr().unwrap().port());
    let ours = format!("(pid {}) has it", std::process::id());
    engine.run(&["run", "--rm", "-p", &publish, &tiny(), "true"]).explains(
        125,
        &[&format!("port {}/tcp", taken.local_addr().unwrap().port()), "in use", &ours, "fix"],
    );
    assert!(engine.names().is_empty());
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    engine.ok(&["run", "-d", "-p", &format!("{datagrams}:80/udp"), &tiny(), "sleep", "100"]);
    engine
        .run(&["run", "--rm", "-p", &format!("{datagrams}:80/udp"), &tiny(), "true"])
        .explains(125, &[&format!("port {datagrams}/udp"), "coracle: network bridge (pid "]);
    engine.ok(&["rm", "-f", "-t", "0", "-a"]);
    let lowest = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    require!(lowest.trim().parse::<u16>().unwrap() > 81, "low ports are everybody's here");
    engine
        .run(&["run", "--rm", "-p", "81:80", &tiny(), "true"])
        .explains(125, &["port", "ip_unprivileged_port_start"]);
}

#[test]
fn datagrams_pass_and_names_are_asked_of_the_gateway() {
    let engine = network!();
    let service = UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = service.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut bytes = [0; 65536];
        while let Ok((n, from)) = service.recv_from(&mut bytes) {
            let _ = service.send_to(&bytes[..n], from);
        }
    });
    let script = format!(
        "exec 3<>/dev/udp/{HOST}/{port}
         for n in 1 1400 9000; do dd if=/dev/zero bs=$n count=1 >&3; timeout 5 dd bs=$n count=1 <&3 | wc -c; done 2>/dev/null
         cat /etc/resolv.conf"
    );
    let shown = bash(&engine, &[], &script);
    let words: Vec<_> = shown.split_whitespace().collect();
    assert_eq!(words[..3], ["1", "1400", "9000"], "{shown}");
    assert!(shown.contains("nameserver 10.88.0.1"), "{shown}");
}

#[test]
fn echo_requests_are_answered_by_who_is_there_and_by_nobody_else() {
    let engine = network!();
    let raw: &[&str] = &["--cap-add", "NET_RAW"];
    let own = bash(&engine, raw, "busybox ping -c 1 -W 5 10.88.0.1 && busybox ping -c 1 -W 5 127.0.0.1");
    assert_eq!(own.matches("1 packets received").count(), 2, "{own}");
    // Without that right there is the socket for it (icmp(7)), for root.
    bash(&engine, &[], "perl -e 'socket(my $s, 2, 2, 1) or die $!'");
    // systemd opens these sockets to everybody (sysctl.d/50-default.conf).
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ping_group_range").unwrap();
    if range.split_whitespace().next() != Some("0") {
        return skip("echo requests: net.ipv4.ping_group_range does not let this user send any");
    }
    let script =
        format!("busybox ping -c 2 -i 0.2 -s 1000 -W 5 {HOST}; busybox ping -c 1 -W 1 203.0.113.77; true");
    let shown = bash(&engine, raw, &script);
    assert!(shown.contains("1008 bytes from 169.254.1.2: seq=1"), "{shown}");
    assert!(!shown.contains("from 203.0.113.77"), "{shown}");
    // Where a packet's time is up is told: by the network, and by us as the first router of the host's.
    let script = format!(
        "for ttl in 1 2; do busybox ping -c 1 -W 1 -t $ttl {HOST}; done
         awk '/^Icmp:/ {{ for (i = 1; i <= NF; i++) {{ if (!n && $i == \"InTimeExcds\") n = i }}; told = $n }} END {{ print \"told\", told }}' /proc/net/snmp"
    );
    let shown = bash(&engine, raw, &script);
    assert!(shown.ends_with("told 2") && shown.matches(" 0 packets received").count() == 2, "{shown}");
}

#[test]
fn the_way_of_datagrams_is_traced_and_where_nobody_receives_them_they_are_refused() {
    let engine = network!();
    // To a port of the host where nobody is: the network is the first router, and the host itself the destination.
    let trace = format!("busybox traceroute -n -q 1 -w 3 -m 4 -p 41000 {HOST}");
    let shown = bash(&engine, &["--cap-add", "NET_RAW"], &trace);
    let hops: Vec<_> = shown
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(hops, ["1 10.88.0.1", "2 169.254.1.2"], "{shown}");
    let refused = format!(
        "exec 3<>/dev/udp/{HOST}/41009; for n in 1 2 3; do echo $n >&3 || break; sleep 0.3; done 2>&1; true"
    );
    let shown = bash(&engine, &[], &refused);
    assert!(shown.contains("Connection refused"), "{shown}");
}

#[test]
fn an_mtu_is_the_hosts_or_the_one_that_is_asked_for() {
    let engine = network!();
    engine.ok(&["network", "create", "-o", "mtu=1300", "narrow"]);
    let mtu = |flags: &[&str]| sh(&engine, flags, "cat /sys/class/net/eth0/mtu");
    assert_eq!(mtu(&["--network", "narrow"]).trim(), "1300");
    let route = std::fs::read_to_string("/proc/net/route").unwrap();
    let way = route.lines().find(|l| l.split_whitespace().nth(1) == Some("00000000"));
    if let Some(device) = way.and_then(|line| line.split_whitespace().next()) {
        let of_host = std::fs::read_to_string(format!("/sys/class/net/{device}/mtu")).unwrap();
        assert_eq!(mtu(&[]).trim(), of_host.trim());
    }
    engine.run(&["network", "create", "-o", "mtu=9", "x"]).explains(125, &["from 1280"]);
    engine
        .run(&["network", "create", "-o", "speed=9", "x"])
        .explains(125, &["unknown option of a network 'speed'"]);
}

#[test]
fn all_ports_that_an_image_names_are_published_with_one_flag() {
    let engine = network!();
    serve(&engine, "web", &["-P", "--expose", "80", "--expose", "81-82/udp", "-p", "82/udp"]);
    let ports = engine.ok(&["port", "web"]);
    let inside: Vec<&str> =
        ports.lines().filter_map(|line| line.split_once(" -> ")).map(|(port, _)| port).collect();
    let mut sorted = inside.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["80/tcp", "81/udp", "82/udp"], "{ports}");
    let to = published(&engine, "web", "80/tcp");
    eventually("the container answers", || ask(to).is_some());
}

#[test]
fn many_short_connections_pass_and_leave_nothing() {
    let engine = network!();
    serve(&engine, "web", &["-p", "80"]);
    let to = published(&engine, "web", "80/tcp");
    eventually("the container answers", || ask(to).is_some());
    let threads: Vec<_> = (0..4)
        .map(|_| std::thread::spawn(move || (0..50).for_each(|_| assert!(ask(to).is_some()))))
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let pid = process(&engine);
    let open = || std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    eventually("the connections' descriptors are closed", || open() < 64);
    engine.ok(&["rm", "-f", "-t", "0", "web"]);
}

#[test]
fn the_networks_process_comes_back_when_it_is_killed_and_goes_with_the_last_container() {
    let engine = network!();
    serve(&engine, "web", &["-p", "80"]);
    let to = published(&engine, "web", "80/tcp");
    eventually("the container answers", || ask(to).is_some());
    let address = engine.inspect("web", "{{.NetworkSettings.IPAddress}}");
    let first = process(&engine);
    assert!(is_alive(first));
    kill_process(Pid::from_raw(first).unwrap(), Signal::KILL).unwrap();
    eventually("the container answers again, on the same port", || ask(to).is_some());
    let second = process(&engine);
    assert!(second != first && is_alive(second), "{first} {second}");
    // And out, under the same address.
    let (port, served) = echo_service();
    let script = format!("echo out | busybox nc {HOST} {port}; busybox ip addr show eth0");
    let shown = engine.ok(&["exec", "web", "sh", "-c", &script]);
    assert!(shown.starts_with("out\n") && shown.contains(&address), "{shown}");
    served.join().unwrap();
    engine.ok(&["rm", "-f", "-t", "0", "web"]);
    eventually("the network's process is gone", || !is_alive(second));
}

#[test]
fn the_networks_process_has_given_its_privileges_up() {
    let engine = network!();
    engine.ok(&["run", "-d", "--name", "n", &tiny(), "sleep", "1000"]);
    let pid = process(&engine);
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap();
        let field = |name: &str| {
            status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(":\t")).unwrap().trim().to_owned()
        };
        // CAP_NET_ADMIN is bit 12. Where this process carries packets itself it needs nothing.
        for set in ["CapEff", "CapPrm"] {
            let kept = if is_user_mode() { "0000000000000000" } else { "0000000000001000" };
            assert_eq!(field(set), kept, "{status}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(field(set), "0000000000000000", "{status}");
        }
        assert_eq!((field("NoNewPrivs"), field("Seccomp")), ("1".into(), "2".into()), "{status}");
    }
    engine.ok(&["rm", "-f", "-t", "0", "n"]);
}

#[test]
fn a_container_cannot_speak_under_another_address() {
    let engine = network!();
    let service = UdpSocket::bind("0.0.0.0:0").unwrap();
    service.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let port = service.local_addr().unwrap().port();
    // With every right over its own network: another address on its interface, and datagrams from there.
    let script = format!(
        "echo own >/dev/udp/{HOST}/{port}; sleep 1
         busybox ip addr add 10.88.7.7/16 dev eth0 && busybox ip route change default via 10.88.0.1 dev eth0 src 10.88.7.7 &&
         echo other >/dev/udp/{HOST}/{port}; busybox ip route get 192.0.2.1"
    );
    let shown = bash(&engine, &["--cap-add", "NET_ADMIN"], &script);
    assert!(shown.contains("src 10.88.7.7"), "it has no other address to speak under: {shown}");
    let mut bytes = [0; 100];
    let (n, _) = service.recv_from(&mut bytes).expect("the container's own datagram");
    assert_eq!(&bytes[..n], b"own\n");
    service.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    assert!(service.recv_from(&mut bytes).is_err(), "a datagram came under another address");

    // Nor under another hardware address: the bridge would send that one's frames to who spoke last.
    let script = format!(
        "busybox ip link set eth0 address 02:42:0a:58:07:07 && cat /sys/class/net/eth0/address &&
         busybox timeout 2 busybox ping -c 1 10.88.0.1; echo other >/dev/udp/{HOST}/{port}; sleep 1"
    );
    let shown = bash(&engine, &["--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW"], &script);
    assert!(shown.contains("02:42:0a:58:07:07"), "{shown}");
    assert!(service.recv_from(&mut bytes).is_err(), "a datagram came under another hardware address");
}
