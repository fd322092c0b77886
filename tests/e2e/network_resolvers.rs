//! Who is asked for names: in a network namespace of the test's own, whose name servers are the test's.

use crate::support::{Engine, tiny};

/// Name servers on loopback: each answers every question of type A with its own address, but for 127.0.0.2, which is silent.
const SERVERS: &str = r"
import select, socket
servers = {}
for address in ('127.0.0.2', '127.0.0.3', '127.0.0.4', '::1'):
    s = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((address, 53)); servers[s] = address
print('ready', flush=True)
while True:
    for s in select.select(list(servers), [], [])[0]:
        question, client = s.recvfrom(4096)
        if servers[s] == '127.0.0.2': continue
        # One question, as it came; the answer points to its name.
        end = question.index(0, 12) + 5
        is_a = question[end - 4:end - 2] == b'\0\1'
        own = '127.0.0.61' if ':' in servers[s] else servers[s]
        answer = b'\xc0\x0c\0\1\0\1\0\0\0\x05\0\4' + socket.inet_aton(own) if is_a else b''
        s.sendto(question[:2] + b'\x81\x80\0\1\0' + bytes([is_a]) + b'\0\0\0\0' + question[12:end] + answer, client)
";

/// Runs a shell script with the host's resolv.conf as given, beside the name servers; `$coracle` is the engine.
fn beside_servers(engine: &Engine, resolv_conf: &str, script: &str) -> String {
    let folder = engine.folder("resolvers");
    std::fs::write(format!("{folder}/resolv.conf"), resolv_conf).unwrap();
    std::fs::write(format!("{folder}/servers.py"), SERVERS).unwrap();
    let busybox = crate::support::busybox().display().to_string();
    let command = engine.command(&[]);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let coracle = words.map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ");
    let script = format!(
        "{busybox} ip link set lo up && mount --bind {folder}/resolv.conf /etc/resolv.conf &&
         python3 {folder}/servers.py >{folder}/ready & servers=$!; coracle='{coracle}'
         until grep -q ready {folder}/ready; do sleep 0.05; done
         {script}
         kill $servers"
    );
    engine.ok(&["unshare", "unshare", "-nm", "sh", "-c", &script])
}

#[test]
fn the_next_name_server_is_asked_and_a_networks_own_one_instead_of_the_hosts() {
    let engine = network!();
    engine.ok(&["network", "create", "--dns", "127.0.0.4", "own"]);
    engine.ok(&["pull", "-q", &tiny()]);
    let look_up = |flags: &str| {
        format!(
            "$coracle run --rm {flags} {} busybox nslookup -type=a example.test | tail -n 2 | head -n 1",
            tiny()
        )
    };
    let (default, own) = (look_up(""), look_up("--network own"));
    let script = format!(
        "{default}; {own}; echo nameserver ::1 >/etc/resolv.conf; {default}
         echo nameserver 127.0.0.3 >/etc/resolv.conf; {default}"
    );
    let shown = beside_servers(&engine, "nameserver 127.0.0.2\nnameserver 127.0.0.3\n", &script);
    let answers: Vec<_> = shown.lines().filter_map(|line| line.split_whitespace().last()).collect();
    // The silent one's neighbour; the network's; one that is asked by IPv6; and what the file says by then.
    assert_eq!(answers, ["127.0.0.3", "127.0.0.4", "127.0.0.61", "127.0.0.3"], "{shown}");
}
