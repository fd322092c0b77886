//! Networks that users make: whose containers find one another by name, and who is on which.

use crate::support::{Engine, busybox, debian, eventually, host, tiny};

/// A service that says its own name, on port 80.
pub const SERVE: &str = "mkdir /www; hostname > /www/index.html; exec busybox httpd -f -p 80 -h /www";

/// Starts one in a Debian, with a resolver of its own and a bash that opens connections.
pub fn start(engine: &Engine, name: &str, flags: &[&str]) {
    let (image, busybox) = (debian(), format!("{}:/bin/busybox:ro", busybox().display()));
    let base = ["run", "-d", "-q", "--name", name, "--hostname", name, "-v", &busybox];
    engine.ok(&[&base[..], flags, &[&image, "sh", "-c", SERVE]].concat());
}

/// A script of bash that prints what the service of this name says, and fails where there is none.
pub fn get(name: &str) -> String {
    format!("exec 3<>/dev/tcp/{name}/80 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && tail -n 1 <&3")
}

/// What a script prints in a container that runs, once it succeeds: the service may not listen yet.
pub fn asked(engine: &Engine, from: &str, script: &str) -> String {
    let mut told = String::new();
    eventually(&format!("{from}: {script}"), || {
        let output = engine.run(&["exec", from, "timeout", "5", "bash", "-c", script]);
        told = output.stdout.trim().to_owned();
        output.code == 0
    });
    told
}

#[test]
fn containers_of_a_network_find_one_another_by_name_alias_and_id() {
    let engine = network!();
    let id = engine.ok(&["network", "create", "inner"]);
    assert_eq!(id.len(), 64, "docker prints the id");
    start(&engine, "web", &["--network", "inner", "--network-alias", "Www", "--network-alias=site"]);
    start(&engine, "client", &["--network", "inner:alias=asker"]);
    let web = engine.inspect("web", "{{.Id}}");
    for name in ["web", "www", "SITE", &web[..12], "web."] {
        assert_eq!(asked(&engine, "client", &get(name)), "web", "{name}");
    }
    assert_eq!(asked(&engine, "web", &get("asker")), "client");
    // Its own name too, and no other's.
    assert_eq!(asked(&engine, "client", &get("client")), "client");
    let output = engine.run(&["exec", "client", "bash", "-c", &get("nobody.invalid")]);
    assert_ne!(output.code, 0, "{output}");
    // Gone with its container.
    engine.ok(&["rm", "-f", "-t", "0", "web"]);
    eventually("the name is gone", || engine.run(&["exec", "client", "getent", "ahosts", "www"]).code != 0);
    let settings = engine.inspect("client", "{{json .NetworkSettings.Networks}}");
    let settings: serde_json::Value = serde_json::from_str(&settings).unwrap();
    assert_eq!(settings["inner"]["Aliases"], serde_json::json!(["asker"]));
    assert_eq!(settings["inner"]["IPPrefixLen"], 24);
    // The host's name is there for who asks the name server only.
    let gateway = engine.inspect("client", "{{.NetworkSettings.Gateway}}");
    let lookup = format!("busybox nslookup host.docker.internal {gateway}");
    assert!(asked(&engine, "client", &lookup).contains("169.254.1.2"));
}

#[test]
fn a_container_that_is_renamed_is_found_by_its_new_name_alone_while_it_runs() {
    let engine = network!();
    let id = engine.ok(&["network", "create", "inner"]);
    engine.ok(&["network", "create", "outer"]);
    let service = ["--network", "inner", "--network-alias", "site", "--hostname", "box"];
    start(&engine, "before", &service);
    start(&engine, "client", &["--network", "inner"]);
    // It knows names of the other network by their leases.
    start(&engine, "between", &["--network", "outer", "--network", "inner"]);
    assert_eq!(asked(&engine, "client", &get("before")), "box");
    let fails = |from: &str, name: &str| {
        let lookup = engine.run(&["exec", from, "getent", "ahosts", name]);
        assert_ne!(lookup.code, 0, "{from}: {name}: {lookup}");
    };
    fails("client", "after");
    let address = engine.inspect("before", "{{.NetworkSettings.IPAddress}}");
    engine.ok(&["rename", "before", "after"]);
    for from in ["client", "between", "after"] {
        for name in ["after", "site", "box"] {
            assert_eq!(asked(&engine, from, &get(name)), "box", "{from}: {name}");
        }
        eventually("the old name is gone", || {
            engine.run(&["exec", from, "getent", "ahosts", "before"]).code != 0
        });
    }
    assert!(asked(&engine, "client", &format!("getent hosts {address}")).contains("after"));
    assert_eq!(engine.inspect("after", "{{.NetworkSettings.IPAddress}}"), address);
    // Another may have the old name at once, and a network's new process knows the new one.
    start(&engine, "before", &["--network", "inner"]);
    assert_eq!(asked(&engine, "client", &get("before")), "before");
    let signed = engine.run_root().join("networks").join(&id).join("process");
    host(&format!("read -r pid rest < {} && kill -9 $pid", signed.display()));
    assert_eq!(asked(&engine, "client", &get("after")), "box");
    engine.ok(&["stop", "-t", "0", "after"]);
    engine.ok(&["rename", "after", "last"]);
    engine.ok(&["start", "last"]);
    assert_eq!(asked(&engine, "client", &get("last")), "box");
    fails("client", "after");
}

#[test]
fn several_containers_of_one_alias_take_turns() {
    let engine = network!();
    engine.ok(&["network", "create", "pool"]);
    for name in ["one", "two"] {
        start(&engine, name, &["--network", "pool", "--network-alias", "both"]);
        asked(&engine, name, &get("127.0.0.1"));
    }
    // The resolver sorts what it gets by what it thinks is near: so what the name server says is looked at.
    let script = "for i in 1 2 3 4; do getent hosts both; done; getent ahostsv4 both";
    let told = asked(&engine, "one", script);
    let address = |name: &str| engine.inspect(name, "{{.NetworkSettings.IPAddress}}");
    let first = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
    let firsts: std::collections::BTreeSet<String> = told.lines().take(8).map(first).collect();
    assert_eq!(firsts, [address("one"), address("two")].into(), "{told}");
    // By TCP too, with its length before it (RFC 1035, 4.2.2): two questions on one connection, in two pieces.
    let gateway = engine.inspect("one", "{{.NetworkSettings.Gateway}}");
    let question = "\\x00\\x16\\x00\\x07\\x01\\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x04both\\x00\\x00\\x01\\x00\\x01";
    let script = format!(
        "exec 3<>/dev/tcp/{gateway}/53; printf '{question}\\x00' >&3; sleep 0.2; printf '{}' >&3; head -c 112 <&3 | od -An -tx1 -v",
        &question[4..]
    );
    let told = asked(&engine, "one", &script).replace(char::is_whitespace, "");
    for name in ["one", "two"] {
        let octets = address(name).parse::<std::net::Ipv4Addr>().unwrap().octets();
        let record: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        assert_eq!(told.matches(&record).count(), 2, "{told}");
    }
}

#[test]
fn networks_are_separate_and_the_default_one_has_no_names() {
    let engine = network!();
    for name in ["left", "right"] {
        engine.ok(&["network", "create", name]);
        start(&engine, &format!("on-{name}"), &["--network", name]);
    }
    start(&engine, "on-none", &[]);
    asked(&engine, "on-left", &get("on-left"));
    let address =
        |name: &str| engine.inspect(name, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
    for (from, to) in [("on-left", "on-right"), ("on-right", "on-none"), ("on-none", "on-left")] {
        let by_name = engine.run(&["exec", from, "timeout", "2", "bash", "-c", &get(to)]);
        assert_ne!(by_name.code, 0, "{from} -> {to}: {by_name}");
        // Outside there may be somebody who has the same address.
        let by_address = engine.run(&["exec", from, "timeout", "2", "bash", "-c", &get(&address(to))]);
        assert_ne!(by_address.stdout.trim(), to, "{from} -> {to}: {by_address}");
    }
}

#[test]
fn an_internal_network_has_no_way_out() {
    let engine = network!();
    engine.ok(&["network", "create", "--internal", "shut"]);
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    start(&engine, "inside", &["--network", "shut"]);
    assert_eq!(asked(&engine, "inside", &get("inside")), "inside");
    let script = format!("exec 3<>/dev/tcp/host.containers.internal/{port}");
    let output = engine.run(&["exec", "inside", "timeout", "5", "bash", "-c", &script]);
    assert_ne!(output.code, 0, "{output}");
    let image = tiny();
    let output = engine.run(&["run", "--rm", "--network", "shut", "-p", "80", &image, "true"]);
    output.explains(125, &["internal network shut", "leave out -p"]);
}

#[test]
fn addresses_are_those_asked_for_and_nobody_elses() {
    let engine = network!();
    let subnet = "10.213.7.0/24";
    let ranges = ["--subnet", subnet, "--gateway", "10.213.7.254", "--ip-range", "10.213.7.64/28"];
    engine.ok(&[&["network", "create"][..], &ranges, &["--label", "of=test", "fixed"]].concat());
    start(&engine, "asks", &["--network", "fixed", "--ip", "10.213.7.9"]);
    start(&engine, "takes", &["--network", "fixed"]);
    let address = |name: &str| engine.inspect(name, "{{.NetworkSettings.IPAddress}}");
    assert_eq!(address("asks"), "10.213.7.9");
    let given: std::net::Ipv4Addr = address("takes").parse().unwrap();
    assert!((64..80).contains(&given.octets()[3]), "{given}");
    assert_eq!(
        asked(&engine, "takes", "ip route 2>/dev/null | head -1 || true; cat /proc/net/route | wc -l"),
        "3"
    );
    let image = tiny();
    for (ip, words) in [
        ("10.213.7.9", &["10.213.7.9 is already in use"][..]),
        ("10.213.7.254", &["is already in use"]),
        ("10.213.8.1", &["not in the network's subnet 10.213.7.0/24"]),
        ("10.213.7.255", &["not in the network's subnet"]),
    ] {
        engine.run(&["run", "--rm", "--network", "fixed", "--ip", ip, &image, "true"]).explains(125, words);
    }
    let shown: serde_json::Value =
        serde_json::from_str(&engine.ok(&["network", "inspect", "fixed"])).unwrap();
    let pool = &shown[0]["IPAM"]["Config"][0];
    assert_eq!((&pool["Subnet"], &pool["Gateway"]), (&subnet.into(), &"10.213.7.254".into()));
    assert_eq!(shown[0]["Containers"].as_object().unwrap().len(), 2);
    // The address is kept over a restart only if it was asked for; the network is.
    for _ in 0..5 {
        // What the kernel has not cleared up yet of the old one is not in the way.
        engine.ok(&["restart", "-t", "0", "asks"]);
        assert_eq!(address("asks"), "10.213.7.9");
    }
}

#[test]
fn networks_are_listed_found_and_removed() {
    let engine = network!();
    engine.ok(&["network", "create", "--label", "a=1", "first"]);
    let id = engine.ok(&["network", "create", "second"]);
    assert_eq!(engine.ok(&["network", "ls", "--format", "{{.Name}}"]), "bridge\nfirst\nsecond");
    assert_eq!(engine.ok(&["network", "ls", "-q", "--no-trunc", "-f", "name=second"]), id);
    assert_eq!(engine.ok(&["network", "ls", "-f", "label=a=1", "--format", "{{.Name}}"]), "first");
    let table = engine.ok(&["network", "ls"]);
    assert!(table.starts_with("NETWORK ID     NAME      DRIVER    SCOPE\n"), "{table}");
    assert_eq!(engine.ok(&["network", "inspect", "-f", "{{.Name}}", &id[..8], "bridge"]), "second\nbridge");
    assert_eq!(engine.run(&["network", "exists", "first"]).code, 0);
    assert_eq!(engine.run(&["network", "exists", "third"]).code, 1);
    engine.run(&["network", "create", "first"]).explains(125, &["network with name first already exists"]);
    engine.run(&["network", "create", "host"]).explains(125, &["another meaning"]);
    engine.run(&["network", "create", "--subnet", "10.1.2.0/30", "x"]).explains(125, &["between 8 and 29"]);
    engine
        .run(&["network", "create", "--subnet", "10.88.3.0/24", "x"])
        .explains(125, &["overlaps with 10.88.0.0/16"]);
    let image = tiny();
    engine
        .run(&["run", "--rm", "--network", "third", &image, "true"])
        .explains(125, &["no such network: third", "network ls"]);
    engine.run(&["run", "--rm", "--ip", "10.88.0.9", &image, "true"]).explains(125, &["network create"]);
    engine.ok(&["create", "--name", "user", "--network", &id[..10], &image, "true"]);
    assert_eq!(engine.inspect("user", "{{.HostConfig.NetworkMode}}"), "second");
    assert_eq!(engine.ok(&["ps", "-a", "-f", "network=second", "--format", "{{.Names}}"]), "user");
    let used = engine.run(&["network", "rm", "second"]);
    used.explains(2, &["network second is being used by container(s)", "network rm -f"]);
    assert_eq!(engine.ok(&["network", "prune", "-f"]), "Deleted Networks:\nfirst");
    assert_eq!(engine.ok(&["network", "rm", "-f", "second"]), "second");
    assert!(engine.names().is_empty());
    engine.run(&["network", "rm", "second"]).fails(1);
    assert_eq!(engine.ok(&["network", "ls", "-q"]).lines().count(), 1);
}

#[test]
fn a_record_that_cannot_be_read_breaks_only_its_own_line() {
    let engine = network!();
    for name in ["torn", "whole"] {
        engine.ok(&["network", "create", name]);
    }
    std::fs::write(engine.data().join("networks/torn.json"), "{").unwrap();
    let output = engine.run(&["network", "ls", "--format", "{{.Name}}"]);
    assert_eq!((output.code, output.stdout.trim()), (0, "bridge\nwhole"));
    assert!(
        output.stderr.contains("network torn cannot be read") && output.stderr.contains("network rm torn"),
        "{output}"
    );
    engine.ok(&["network", "rm", "torn"]);
    assert_eq!(engine.ok(&["network", "ls", "--format", "{{.Name}}"]), "bridge\nwhole");
    // Nothing of ours stays behind.
    engine.ok(&["system", "reset", "-f"]);
    assert!(!engine.data().join("networks").exists());
}

#[test]
fn a_container_on_two_networks_finds_the_names_of_both_and_has_one_way_out() {
    let engine = network!();
    for name in ["front", "back"] {
        engine.ok(&["network", "create", name]);
    }
    engine.ok(&["network", "create", "--internal", "closed"]);
    start(&engine, "shop", &["--network", "front"]);
    start(&engine, "store", &["--network", "back", "--network-alias", "db"]);
    start(&engine, "vault", &["--network", "closed"]);
    let flags =
        ["--network", "closed", "--network", "front:mac=02:42:aa:00:00:01,alias=mid", "--network", "back"];
    start(&engine, "both", &[&flags[..], &["-p", "80"]].concat());
    for (name, said) in [("shop", "shop"), ("db", "store"), ("vault", "vault"), ("both", "both")] {
        assert_eq!(asked(&engine, "both", &get(name)), said);
    }
    assert_eq!(asked(&engine, "shop", &get("mid")), "both");
    assert_eq!(asked(&engine, "store", &get("both")), "both");
    // Through it nobody finds more than before.
    let output = engine.run(&["exec", "shop", "timeout", "5", "bash", "-c", &get("store")]);
    assert_ne!(output.code, 0, "{output}");
    // The way is the first network that is not internal.
    let routes = engine.ok(&["exec", "both", "cat", "/proc/net/route"]);
    let ways: Vec<&str> =
        routes.lines().filter(|l| l.split_whitespace().nth(1) == Some("00000000")).collect();
    assert!(ways.len() == 1 && ways[0].starts_with("eth1"), "{routes}");
    let mac = engine.inspect("both", "{{.NetworkSettings.Networks.front.MacAddress}}");
    assert_eq!(mac, "02:42:aa:00:00:01");
    assert_eq!(engine.ok(&["exec", "both", "cat", "/sys/class/net/eth1/address"]), mac);
    assert_eq!(engine.inspect("both", "{{.NetworkSettings.MacAddress}}"), mac);
    // Published on it, too.
    let port = engine.ok(&["port", "both", "80"]);
    let mut stream = std::net::TcpStream::connect(port.replace("0.0.0.0", "127.0.0.1")).unwrap();
    let mut said = String::new();
    std::io::Write::write_all(&mut stream, b"GET / HTTP/1.0\r\n\r\n").unwrap();
    std::io::Read::read_to_string(&mut stream, &mut said).unwrap();
    assert!(said.ends_with("both\n"), "{said}");
    for (flags, words) in [
        (&["--network", "front", "--network", "host"][..], "cannot be on others"),
        (&["--network", "front,front"], "given twice"),
        (&["--network", "front,back", "--ip", "10.0.0.1"], "on one network"),
        (&["--network", "front", "--mac-address", "03:42:aa:00:00:01"], "hardware address"),
        (&["--network", "bridge:alias=x"], "not found by name"),
    ] {
        let output = engine.run(&[&["create"][..], flags, &[&tiny(), "true"]].concat());
        output.explains(125, &[words]);
    }
}

#[test]
fn running_containers_are_connected_and_disconnected() {
    let engine = network!();
    for name in ["old", "new"] {
        engine.ok(&["network", "create", name]);
    }
    start(&engine, "peer", &["--network", "new"]);
    start(&engine, "moves", &["--network", "old", "-p", "80"]);
    asked(&engine, "moves", &get("moves"));
    let fails = |from: &str, to: &str| {
        let output = engine.run(&["exec", from, "timeout", "5", "bash", "-c", &get(to)]);
        assert_ne!(output.code, 0, "{output}");
    };
    fails("moves", "peer");
    engine.ok(&["network", "connect", "--alias", "mover", "new", "moves"]);
    assert_eq!(asked(&engine, "moves", &get("peer")), "peer");
    assert_eq!(asked(&engine, "peer", &get("mover")), "moves");
    let address = engine.inspect("moves", "{{.NetworkSettings.Networks.new.IPAddress}}");
    assert!(engine.ok(&["exec", "moves", "cat", "/etc/hosts"]).contains(&format!("{address}\tmoves")));
    let output = engine.run(&["network", "connect", "new", "moves"]);
    output.explains(125, &["connected to network new already"]);
    assert_eq!(engine.run(&["network", "rm", "new"]).code, 2);

    // From the network that is its way: the other one is that now, with the name server and the ports.
    let port = engine.ok(&["port", "moves", "80"]);
    engine.ok(&["network", "disconnect", "old", "moves"]);
    assert_eq!(engine.inspect("moves", "{{.NetworkSettings.Networks.old}}"), "<no value>");
    assert_eq!(
        engine.ok(&["exec", "moves", "ls", "/sys/class/net"]).split_whitespace().collect::<Vec<_>>(),
        ["eth1", "lo"]
    );
    assert_eq!(asked(&engine, "moves", &get("peer")), "peer");
    assert_eq!(engine.ok(&["port", "moves", "80"]), port);
    let mut stream = std::net::TcpStream::connect(port.replace("0.0.0.0", "127.0.0.1")).unwrap();
    let mut said = String::new();
    std::io::Write::write_all(&mut stream, b"GET / HTTP/1.0\r\n\r\n").unwrap();
    std::io::Read::read_to_string(&mut stream, &mut said).unwrap();
    assert!(said.ends_with("moves\n"), "{said}");
    engine.ok(&["network", "rm", "old"]);
    let output = engine.run(&["network", "disconnect", "old", "moves"]);
    output.explains(125, &["not connected to network old"]);

    // It stays so, with the address, over a restart.
    engine.ok(&["restart", "-t", "0", "moves"]);
    assert_eq!(asked(&engine, "moves", &get("peer")), "peer");
    assert_eq!(asked(&engine, "peer", &get("mover")), "moves");
    let before = engine.inspect("moves", "{{.NetworkSettings.Networks.new.IPAddress}}");
    engine.ok(&["restart", "-t", "0", "moves"]);
    assert_eq!(engine.inspect("moves", "{{.NetworkSettings.Networks.new.IPAddress}}"), before);

    // One at rest too; an address that is another's is refused, and nothing has changed.
    engine.ok(&["stop", "-t", "0", "moves"]);
    engine.ok(&["network", "create", "third"]);
    engine.ok(&["network", "connect", "third", "moves"]);
    engine.ok(&["start", "moves"]);
    assert_eq!(asked(&engine, "moves", &get("peer")), "peer");
    engine.ok(&["network", "create", "--subnet", "10.214.9.0/24", "fixed"]);
    start(&engine, "has", &["--network", "fixed", "--ip", "10.214.9.7"]);
    let output = engine.run(&["network", "connect", "--ip", "10.214.9.7", "fixed", "moves"]);
    output.explains(125, &["10.214.9.7 is already in use"]);
    assert_eq!(engine.inspect("moves", "{{.NetworkSettings.Networks.fixed}}"), "<no value>");
    assert_eq!(asked(&engine, "moves", &get("peer")), "peer");
    engine.ok(&["run", "-d", "--name", "alone", "--network", "none", &tiny(), "sleep", "1000"]);
    engine.run(&["network", "connect", "new", "alone"]).explains(125, &["or none, for good"]);
}

#[test]
fn connections_are_shown() {
    let engine = network!();
    start(&engine, "serves", &["-p", "80"]);
    let port = engine.ok(&["port", "serves", "80"]);
    eventually("it listens", || {
        engine.run(&["exec", "serves", "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/80"]).code == 0
    });
    assert_eq!(engine.ok(&["network", "flows", "--noheading"]), "");
    let stream = std::net::TcpStream::connect(port.replace("0.0.0.0", "127.0.0.1")).unwrap();
    std::io::Write::write_all(&mut &stream, b"GET /").unwrap();
    let mut flows = serde_json::Value::Null;
    eventually("it is shown", || {
        let told = engine.ok(&["network", "flows", "--json"]);
        flows = serde_json::from_str(told.lines().next().unwrap_or_default()).unwrap_or_default();
        flows["ReceivedBytes"] == 5
    });
    assert_eq!(flows["Direction"], "in");
    assert_eq!(flows["State"], "established");
    assert_eq!(flows["Remote"], stream.local_addr().unwrap().to_string());
    assert!(flows["Container"].as_str().unwrap().ends_with(":80"), "{flows}");
    drop(stream);
    eventually("it is gone", || engine.ok(&["network", "flows", "--noheading"]).is_empty());
}

#[test]
fn a_container_in_anothers_network_is_where_that_one_is() {
    let engine = network!();
    engine.ok(&["network", "create", "shared"]);
    start(&engine, "outer", &["--network", "shared", "-p", "80", "--add-host", "extra:10.1.1.1"]);
    start(&engine, "other", &["--network", "shared"]);
    asked(&engine, "outer", &get("outer"));
    let (image, busybox) = (debian(), format!("{}:/bin/busybox:ro", busybox().display()));
    let script =
        format!("{} && hostname && busybox ip -4 -o addr show eth0 && cat /etc/hosts", get("127.0.0.1"));
    let beside = ["run", "--rm", "-v", &busybox, "--network", "container:outer", &image, "bash", "-c"];
    let told = engine.ok(&[&beside[..], &[&script]].concat());
    let address = engine.inspect("outer", "{{.NetworkSettings.IPAddress}}");
    assert!(told.starts_with("outer\nouter\n") && told.contains(&format!("inet {address}/24")), "{told}");
    assert!(told.contains("10.1.1.1\textra"), "{told}");
    assert_eq!(engine.ok(&[&beside[..], &[&get("other")]].concat()), "other");
    let id = engine.ok(&["create", "--network", "container:outer", &image, "true"]);
    let mode = engine.inspect(&id, "{{.HostConfig.NetworkMode}}");
    assert_eq!(mode, format!("container:{}", engine.inspect("outer", "{{.Id}}")));
    for (flags, words) in [
        (&["--network", "container:outer", "-p", "81"][..], "ports cannot be published"),
        (&["--network", "container:outer", "--dns", "10.0.0.1"], "name servers cannot be set"),
        (&["--network", "container:nobody"], "no such container"),
        (&["--network", "container:outer", "--sysctl", "net.ipv4.ip_forward=1"], "no network namespace"),
    ] {
        engine.run(&[&["create"][..], flags, &[&image, "true"]].concat()).explains(125, &[words]);
    }
}
