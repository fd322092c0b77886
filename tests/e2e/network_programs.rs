//! Programs of the real world on networks: a web server that is asked ten thousand times, databases that are found by
//! their names, and a system that installs a package.

use crate::network::published;
use crate::support::{Engine, debian, eventually, has_program, host, image, run, skip};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What comes often, in one packet, and what takes some; by name.
fn pages() -> [(&'static str, Vec<u8>); 3] {
    let bytes = |length: usize| (0..length).map(|n| u8::try_from(n * 31 % 253).unwrap()).collect();
    [("empty", Vec::new()), ("small", b"a small page\n".to_vec()), ("large", bytes(150_000))]
}

/// A client as browsers and proxies are: HTTP/1.1, over one connection until the server closes it.
struct Client {
    to: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
    connections: usize,
}

impl Client {
    fn new(to: SocketAddr) -> Self {
        Self { to, connection: None, connections: 0 }
    }

    /// The body of a page, which must be there.
    fn get(&mut self, page: &str, more: &str) -> Vec<u8> {
        let mut connection = self.connection.take().unwrap_or_else(|| {
            self.connections += 1;
            let stream = TcpStream::connect(self.to).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            BufReader::new(stream)
        });
        let request = format!("GET /{page} HTTP/1.1\r\nHost: web\r\n{more}\r\n");
        connection.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut length, mut closes) = (None, false);
        for number in 0.. {
            let mut line = String::new();
            connection.read_line(&mut line).unwrap();
            let line = line.strip_suffix("\r\n").unwrap_or_else(|| panic!("it ends in its head: {line:?}"));
            match line.split_once(": ") {
                _ if number == 0 => assert_eq!(line, "HTTP/1.1 200 OK"),
                _ if line.is_empty() => break,
                Some(("Content-Length", value)) => length = Some(value.parse().unwrap()),
                Some(("Connection", value)) => closes = value == "close",
                _ => {}
            }
        }
        let mut body = vec![0; length.expect("its length is told")];
        connection.read_exact(&mut body).unwrap();
        match closes {
            true => assert_eq!(connection.read(&mut [0]).unwrap(), 0, "more than it said"),
            false => self.connection = Some(connection),
        }
        body
    }
}

const NGINX: &str = "
worker_processes 2;
error_log /dev/stderr;
events {}
http {
    access_log off;
    # As often as nginx does by itself, said here, since versions differ: then it closes a connection.
    keepalive_requests 1000;
    server { listen 80; root /pages; }
}";

#[test]
fn nginx_behind_a_published_port_answers_ten_thousand_requests_without_an_error() {
    const CLIENTS: usize = 8;
    const EACH: usize = 1250;
    let engine = network!();
    let configuration = format!("{}:/etc/nginx/nginx.conf:ro", engine.file("nginx.conf", NGINX));
    let folder = engine.folder("pages");
    for (name, body) in pages() {
        std::fs::write(Path::new(&folder).join(name), body).unwrap();
    }
    let mount = format!("{folder}:/pages:ro");
    let flags = ["run", "-d", "-q", "--name", "web", "-p", "80", "-v", &configuration, "-v", &mount];
    engine.ok(&[&flags[..], &[&image("nginx:zstd")]].concat());
    let to = published(&engine, "web", "80/tcp");
    eventually("nginx answers", || {
        let mut client = TcpStream::connect(to).unwrap();
        let mut answer = String::new();
        client.write_all(b"GET /small HTTP/1.0\r\n\r\n").is_ok()
            && client.read_to_string(&mut answer).is_ok()
            && answer.contains("200 OK")
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            std::thread::spawn(move || {
                let (pages, mut client) = (pages(), Client::new(to));
                for request in 0..EACH {
                    // Mostly small ones.
                    let (name, body) = &pages[[1, 0, 1, 1, 2][(request + number) % 5]];
                    assert!(client.get(name, "") == *body, "request {request} of client {number}: {name}");
                }
                client.connections
            })
        })
        .collect();
    let connections: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert_eq!(connections, CLIENTS * EACH.div_ceil(1000), "nobody else has ended a connection");
    // A connection for each, as old clients and health checks have it.
    let mut client = Client::new(to);
    for (name, body) in pages().iter().cycle().take(300) {
        assert!(client.get(name, "Connection: close\r\n") == *body, "{name}");
    }
    assert_eq!(client.connections, 300);
    require!(has_program("ab"), "ab is not installed");
    for keep in [&["-k"][..], &[]] {
        let mut ab = Command::new("ab");
        ab.args(["-q", "-n", "3000", "-c", "16"]).args(keep).arg(format!("http://{to}/small"));
        let told = run(ab).ok();
        let figure = |name: &str| {
            told.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
        };
        assert_eq!(figure("Complete requests:").as_deref(), Some("3000"), "{told}");
        assert_eq!(figure("Failed requests:").as_deref(), Some("0"), "{told}");
        assert_eq!(figure("Non-2xx responses:"), None, "{told}");
    }
    engine.ok(&["stop", "-t", "30", "web"]);
    assert_eq!(engine.inspect("web", "{{.State.ExitCode}}"), "0");
    assert!(!engine.ok(&["logs", "web"]).contains("error"), "{}", engine.ok(&["logs", "web"]));
}

/// Runs a program in a container of its own on the network "inner".
#[track_caller]
fn beside(engine: &Engine, image: &str, input: &[u8], words: &[&str]) -> String {
    let base = ["run", "--rm", "-q", "-i", "--network", "inner", image];
    engine.run_with_input(&[&base, words].concat(), input).ok()
}

#[test]
fn redis_is_found_by_name_and_keeps_what_other_containers_give_it() {
    let engine = network!();
    engine.ok(&["network", "create", "inner"]);
    let redis = image("redis:zstd");
    let server = ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""];
    let flags = ["run", "-d", "-q", "--name", "store", "--network", "inner", "-p", "6379", &redis];
    engine.ok(&[&flags[..], &server].concat());
    eventually("redis listens", || engine.run(&["exec", "store", "redis-cli", "ping"]).stdout == "PONG\n");
    let cli = |input: &[u8], words: &[&str]| {
        beside(&engine, &redis, input, &[&["redis-cli", "-h", "store"], words].concat())
    };
    assert_eq!(cli(b"", &["ping"]), "PONG");
    assert_eq!(cli(b"", &["set", "key", "välue"]), "OK");
    assert_eq!(cli(b"", &["--raw", "get", "key"]), "välue");
    // Large, from one container to another, and back.
    let large = "0123456789abcdef".repeat(500_000);
    assert_eq!(cli(large.as_bytes(), &["-x", "set", "large"]), "OK");
    assert!(cli(b"", &["--raw", "get", "large"]) == large);
    // Many at once: fifty connections, a thousand of which are new ones.
    let benchmark = ["redis-benchmark", "-h", "store", "--csv", "-c", "50", "-n"];
    let told = beside(&engine, &redis, b"", &[&benchmark[..], &["20000", "-t", "set,get"]].concat());
    assert!(told.contains("\"SET\"") && told.contains("\"GET\""), "{told}");
    let told = beside(&engine, &redis, b"", &[&benchmark[..], &["1000", "-k", "0", "-t", "incr"]].concat());
    assert!(told.contains("\"INCR\""), "{told}");
    assert_eq!(cli(b"", &["get", "counter:__rand_int__"]), "1000");
    // And the host, by the published port: redis's own protocol (RESP).
    let mut client = TcpStream::connect(published(&engine, "store", "6379/tcp")).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client.write_all(b"GET key\r\nGET large\r\n").unwrap();
    let mut answer = vec![0; "$6\r\nvälue\r\n$8000000\r\n\r\n".len() + large.len()];
    client.read_exact(&mut answer).unwrap();
    assert!(answer == format!("$6\r\nvälue\r\n$8000000\r\n{large}\r\n").into_bytes());
}

#[test]
fn postgres_is_found_by_name_and_asked_by_many_at_once() {
    let engine = network!();
    engine.ok(&["network", "create", "inner"]);
    let postgres = image("postgres:zstd");
    let path =
        "PATH=$(ls -d /usr/lib/postgresql/*/bin):$PATH; export LC_ALL=C.UTF-8 PGHOST=db PGDATABASE=postgres";
    let script = format!(
        "set -e; {path}; initdb -A trust -D data >/dev/null; echo 'host all all all trust' >> data/pg_hba.conf
         exec postgres -D data -k /tmp -c 'listen_addresses=*' -c fsync=off"
    );
    let flags = ["run", "-d", "-q", "--name", "db", "--network", "inner", "-p", "5432", &postgres];
    engine.ok(&[&flags[..], &["bash", "-c", &script]].concat());
    // The server that initdb asks does not listen: this one is the real one.
    eventually("postgres answers", || {
        engine.run(&["exec", "db", "psql", "-h", "127.0.0.1", "-qAtc", "select 1", "postgres"]).code == 0
    });
    let client = |input: &[u8], script: &str| {
        beside(&engine, &postgres, input, &["bash", "-c", &format!("set -e; {path}; {script}")])
    };
    let told = client(
        b"",
        "psql -qAt -v ON_ERROR_STOP=1 -c \"create table t (n int primary key, t text)\" \
            -c \"insert into t select n, repeat('x', n) from generate_series(1, 2000) n\" \
            -c 'select count(*), sum(length(t)) from t'",
    );
    assert_eq!(told, "2000|2001000");
    // What goes in through one container comes out through another, byte for byte.
    let rows: String = (0..100_000).map(|n| format!("{n}\tthis is row {}\n", n * 7919 % 100_003)).collect();
    client(rows.as_bytes(), "psql -q -c 'create table copied (n int, t text)' -c '\\copy copied from stdin'");
    let back = client(b"", "psql -q -c '\\copy (select * from copied order by n) to stdout'");
    assert!(back == rows.trim_end());
    // A session that waits is told by another one.
    let waits = "{ echo 'listen news;'; echo 'select 1;'; sleep 2; echo 'select 2;'; } | psql -qAt";
    let waiting = crate::support::Running::start(
        engine.command(&[
            "run",
            "--rm",
            "-q",
            "--network",
            "inner",
            &postgres,
            "bash",
            "-c",
            &format!("{path}; {waits}"),
        ]),
        b"",
    );
    eventually("it listens for news", || {
        let sql = "select count(*) from pg_stat_activity where query = 'select 1;'";
        engine.run(&["exec", "db", "psql", "-h", "127.0.0.1", "-qAtc", sql, "postgres"]).stdout == "1\n"
    });
    client(b"", "psql -q -c \"notify news, 'hello'\"");
    let told = waiting.wait().ok();
    assert!(told.contains("\"news\" with payload \"hello\""), "{told}");
    // Eight sessions at once with transactions of several questions each, and one for each connection.
    let told = client(
        b"",
        "pgbench -i -q 2>/dev/null; pgbench -n -c 8 -j 2 -t 100; pgbench -n -C -S -c 4 -t 25;
         psql -qAtc 'select count(*) from pgbench_history'",
    );
    assert!(told.contains("800/800") && told.contains("100/100") && told.ends_with("\n800"), "{told}");
    // By the published port as well, from a container that is not on that network.
    let port = published(&engine, "db", "5432/tcp").port().to_string();
    let script = format!("{path}; psql -h host.containers.internal -p {port} -qAtc 'select max(n) from t'");
    assert_eq!(engine.ok(&["run", "--rm", "-q", &postgres, "bash", "-c", &script]), "2000");
    engine.ok(&["stop", "-t", "60", "db"]);
    assert_eq!(engine.inspect("db", "{{.State.ExitCode}}"), "0", "{}", engine.ok(&["logs", "db"]));
}

/// The host's files with apt's sources, and what these name, as far as they are there.
fn apt_files() -> Vec<String> {
    let sources = "ls /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources";
    let keys = "cat $(SOURCES) | grep -ohE 'signed-by[=:] *[^] ]*' -i | grep -oE '/.*' | sort -u";
    let script = format!(
        "files=$({sources} 2>/dev/null); echo \"$files\"; {}
         ls /etc/ssl/certs/ca-certificates.crt 2>/dev/null; :",
        keys.replace("$(SOURCES)", "$files /dev/null")
    );
    host(&script).lines().map(str::to_owned).filter(|file| Path::new(file).is_file()).collect()
}

#[test]
fn a_debian_installs_a_package_with_the_hosts_own_sources() {
    let engine = network!();
    require!(has_program("apt-config") && has_program("curl"), "the host has no apt, or no curl");
    let files = apt_files();
    // What mmdebstrap makes the images from, so that they fit.
    let first = "sed -nE 's/^(URIs: |deb +(\\[[^]]*\\] +)?)(https?:[^ ]*).*/\\3/p' \"$@\" | head -n 1";
    let mut find = Command::new("sh");
    find.args(["-c", first, "sh"]).args(files.iter().filter(|file| file.starts_with("/etc/apt/sources")));
    let mirror = run(find).ok();
    let proxy =
        |of: &str| host(&format!("apt-config shell p Acquire::{of}::Proxy | sed \"s/^p='//; s/'$//\""));
    let proxies = ["http", "https"].map(|of| (of, proxy(of)));
    let suite = host(". /etc/os-release; echo $VERSION_CODENAME");
    let mut look = Command::new("curl");
    look.args(["-sSf", "-m", "10", "-o", "/dev/null", &format!("{mirror}/dists/{suite}/InRelease")]);
    for (of, proxy) in &proxies {
        look.env(format!("{of}_proxy"), proxy);
    }
    let look = run(look);
    if look.code != 0 {
        return skip(&format!("no mirror of packages can be reached: {}", look.stderr.trim()));
    }
    let mut flags: Vec<String> = Vec::new();
    for file in &files {
        flags.extend(["-v".to_owned(), format!("{file}:{file}:ro")]);
    }
    let settings: String = proxies
        .iter()
        .filter(|(_, proxy)| !proxy.is_empty())
        .map(|(of, proxy)| format!("Acquire::{of}::Proxy \"{proxy}\";\n"))
        .collect();
    let settings = engine.file(
        "apt.conf",
        &format!("Acquire::Check-Valid-Until \"false\";\nAcquire::Languages \"none\";\n{settings}"),
    );
    flags.extend(["-v".to_owned(), format!("{settings}:/etc/apt/apt.conf.d/zz-host:ro")]);
    // Few bytes, depends on nothing that is not there, and tells by itself that it is there.
    let script = "set -e; ! command -v bc; apt-get -qq -o APT::Update::Error-Mode=any update
        DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends bc >/dev/null 2>&1
        dpkg --audit; echo '6 * 7' | bc";
    let image = debian();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let args = [&["run", "--rm", "-q"][..], &flags, &[&image, "bash", "-c", script]].concat();
    assert_eq!(engine.ok(&args), "42");
}
