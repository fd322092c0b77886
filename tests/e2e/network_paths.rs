//! Ways of the host that are narrower further on: what a router says of a datagram that is too large comes back.

use crate::support::image;

/// The host, a router, and a destination behind a way of 1300 bytes, each a network namespace; `$coracle` is the engine on
/// the first. The destination sends datagrams back.
const WORLD: &str = r#"
for name in router destination; do
  unshare -n sleep 1000 & eval "$name=$!"
  until [ "$(readlink /proc/$!/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.02; done
done
trap 'kill $router $destination $echo' EXIT
in_router="nsenter -t $router -n" in_destination="nsenter -t $destination -n"
ip link set lo up
ip link add way type veth peer name back netns $router
$in_router ip link add narrow type veth peer name end netns $destination
$in_router ip link set narrow mtu 1300
$in_destination ip link set end mtu 1300
$in_router sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
up() { $1 ip link set $2 up; $1 ip addr add 10.9.$3/24 dev $2; $1 ip addr add fd09:$4/64 dev $2 nodad; }
up '' way 1.1 1::1
up "$in_router" back 1.2 1::2
up "$in_router" narrow 2.1 2::1
up "$in_destination" end 2.2 2::2
ip route add default via 10.9.1.2; ip -6 route add default via fd09:1::2
$in_destination ip route add default via 10.9.2.1; $in_destination ip -6 route add default via fd09:2::1
$in_destination python3 -c '
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.bind(("::", 7000))
while True: s.sendto(*s.recvfrom(2000))' & echo=$!
"#;

/// Sends without fragments until it is told how much fits, then that much.
const SENDER: &str = "
import errno, socket, sys, time
for to, family, level, discover, mtu, headers in (
        ('10.9.2.2', socket.AF_INET, socket.IPPROTO_IP, 10, 14, 28),
        ('fd09:2::2', socket.AF_INET6, socket.IPPROTO_IPV6, 23, 24, 48)):
    s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(0.5)
    s.setsockopt(level, discover, 2); s.connect((to, 7000))
    for attempt in range(40):
        try: s.send(bytes(1352)); time.sleep(0.1)
        except OSError as e: said = errno.errorcode[e.errno]; break
    else: sys.exit(to + ': it was never told')
    fits = s.getsockopt(level, mtu)
    for attempt in range(40):
        try: s.send(bytes(fits - headers)); came = len(s.recv(2000)); break
        except OSError: came = None
    print(said, fits, came)";

#[test]
fn who_sends_a_datagram_that_is_too_large_for_a_router_is_told_how_much_fits() {
    let engine = network!();
    require!(std::path::Path::new("/usr/sbin/ip").exists(), "ip(8) is not installed");
    let python = image("python:zstd");
    engine.ok(&["pull", "-q", &python]);
    engine.ok(&["network", "create", "--subnet", "fd77:9::/64", "--subnet", "10.77.9.0/24", "six"]);
    let command = engine.command(&[]);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let coracle = words.map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ");
    let script =
        format!("set -e; {WORLD}\n {coracle} run --rm -q --network six {python} python3 -c \"{SENDER}\"");
    let told = engine.ok(&["unshare", "unshare", "-nm", "sh", "-c", &script]);
    assert_eq!(told, "EMSGSIZE 1300 1272\nEMSGSIZE 1300 1252");
}
