//! Images of the real world: Debian systems that mmdebstrap has made, with programs that people run containers for.
//!
//! They are used, not only started: a page is served, a database is made, asked and found again.

use crate::support::{Engine, busybox, eventually, has_program, image, run, setting};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;

/// Starts a container of an image of these, detached, with these flags and words.
#[track_caller]
fn start(engine: &Engine, name: &str, flags: &[&str], image: &str, words: &[&str]) {
    let run = ["run", "-d", "-q", "--network", "none", "--name", name];
    engine.ok(&[&run, flags, &[image], words].concat());
}

/// Makes sure that a pulled image's files are, one by one, what a replay of the archives in a layout says.
#[track_caller]
pub fn is_the_tree_of_its_archives(engine: &Engine, image: &str, layout: &str) {
    let script = engine.file("tree.py", include_str!("../support/tree.py"));
    start(engine, "tree", &["--user", "0", "--entrypoint", "sleep"], image, &["1000"]);
    let root = format!("/proc/{}/root", engine.pid_of("tree"));
    let told = engine.ok(&["unshare", "python3", &script, layout, &root]);
    engine.ok(&["rm", "-f", "-t", "0", "tree"]);
    let differences: Vec<&str> = told.lines().filter(|line| line.starts_with(['+', '-'])).take(30).collect();
    assert!(differences.is_empty(), "they differ: {differences:#?}");
    let count: u32 = told.trim_end_matches(" files").parse().unwrap();
    assert!(count > 30, "they are compared: {told}");
}

macro_rules! layouts {
    () => {
        match setting("CORACLE_TEST_IMAGES") {
            Some(folder) => folder,
            None => return crate::support::skip("no layouts of the images (CORACLE_TEST_IMAGES)"),
        }
    };
}

#[test]
fn a_debian_is_what_its_archive_says_file_by_file() {
    let engine = engine!();
    let layout = format!("{}/debian", layouts!());
    is_the_tree_of_its_archives(&engine, &image("debian:zstd"), &layout);
}

#[test]
fn a_debian_of_two_layers_is_what_its_archives_say_file_by_file() {
    let engine = engine!();
    let layout = format!("{}/postgres", layouts!());
    is_the_tree_of_its_archives(&engine, &image("postgres:zstd"), &layout);
}

#[test]
fn apt_and_dpkg_know_the_system_they_are_in() {
    let engine = engine!();
    let script = "set -e; dpkg --audit; dpkg -s coreutils | grep -c 'install ok'; \
        echo 'Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x' > /tmp/control; \
        mkdir -p /tmp/x/DEBIAN; mv /tmp/control /tmp/x/DEBIAN/; dpkg-deb --build /tmp/x /tmp/x.deb >/dev/null; \
        dpkg -i /tmp/x.deb >/dev/null; dpkg -s x | grep Status; \
        useradd -m bob; su bob -c 'id -un; touch ~/mine; stat -c %U ~/mine'; getent passwd bob | cut -d: -f1";
    let args = ["run", "--rm", "-q", "--network", "none", &image("debian:zstd"), "bash", "-c", script];
    assert_eq!(engine.ok(&args), "1\nStatus: install ok installed\nbob\nbob\nbob");
}

/// Busybox gives such rights up by itself, so this takes a real system's programs.
#[test]
fn set_user_and_set_group_programs_have_their_rights() {
    let engine = engine!();
    let script =
        "id -un; passwd -S; chage -l nobody | grep -c change; cat /etc/shadow 2>/dev/null || echo unreadable";
    let args =
        ["run", "--rm", "-q", "--network", "none", "-u", "nobody", &image("debian:zstd"), "sh", "-c", script];
    let output = engine.ok(&args);
    let mut lines = output.lines();
    assert_eq!(lines.next(), Some("nobody"));
    assert!(lines.next().is_some_and(|line| line.starts_with("nobody L ")), "{output}");
    assert_ne!(lines.next(), Some("0"), "{output}");
    assert_eq!(lines.next(), Some("unreadable"));
    let args = [&args[..3], &["--security-opt", "no-new-privileges"], &args[3..]].concat();
    let output = engine.run(&args);
    assert!(!output.stdout.contains("nobody L "), "{output}");
}

#[test]
fn python_runs_programs_with_modules_threads_processes_and_a_venv() {
    let engine = engine!();
    let program = r#"
import asyncio, ctypes, hashlib, json, multiprocessing, os, pathlib, socket, sqlite3, ssl, subprocess, sys
import tempfile, threading, unicodedata, zlib
import mine

def square(n):
    return n * n

if __name__ == "__main__":
    assert sys.prefix == "/srv/venv" and mine.answer() == 42, (sys.prefix, mine.__file__)
    with multiprocessing.Pool(2) as pool:
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
    database = sqlite3.connect("/tmp/x.db")
    database.execute("create table t (a)")
    database.executemany("insert into t values (?)", [(n,) for n in range(100)])
    assert database.execute("select sum(a) from t").fetchone() == (4950,)
    async def talk():
        server = await asyncio.start_server(lambda r, w: (w.write(b"hello"), w.close()), "127.0.0.1", 0)
        reader, _ = await asyncio.open_connection(*server.sockets[0].getsockname())
        return await reader.read()
    assert asyncio.run(talk()) == b"hello"
    assert subprocess.run(["id", "-u"], capture_output=True).stdout == b"1000\n"
    assert ctypes.CDLL(None).getuid() == 1000
    assert pathlib.Path("/srv/ünïcode-\udcff").exists() is False
    print("python is well", ssl.OPENSSL_VERSION.split()[0])
"#;
    let folder = engine.folder("program");
    engine.file("program/main.py", program);
    let script = "set -e; mkdir -p /srv; python3 -m venv --without-pip /srv/venv; \
        cd /srv/venv/lib/python3*/site-packages; mkdir mine; \
        echo 'def answer(): return 42' > mine/__init__.py; \
        printf '#!/srv/venv/bin/python\nimport mine; print(mine.answer())\n' > /srv/venv/bin/tool; \
        chmod 755 /srv/venv/bin/tool; /srv/venv/bin/tool; \
        exec setpriv --reuid 1000 --regid 1000 --clear-groups /srv/venv/bin/python /program/main.py";
    let mount = format!("{folder}:/program:ro");
    let args =
        ["run", "--rm", "-q", "--network", "none", "-v", &mount, &image("python:zstd"), "bash", "-c", script];
    assert_eq!(engine.ok(&args), "42\npython is well OpenSSL");
}

const NGINX: &str = "
worker_processes 2;
error_log /dev/stderr;
events {}
http {
    access_log /dev/stdout;
    server {
        listen 80;
        listen unix:/shared/web.sock;
        root /var/www/html;
    }
}";

/// A request by bash alone: what the image has.
const GET: &str = "exec 3<>/dev/tcp/127.0.0.1/80; printf 'GET /%s HTTP/1.0\\r\\n\\r\\n' $0 >&3; cat <&3";

#[test]
fn nginx_serves_pages_over_its_loopback_and_over_a_socket_in_a_shared_folder() {
    let engine = engine!();
    let nginx = image("nginx:zstd");
    let configuration = format!("{}:/etc/nginx/nginx.conf:ro", engine.file("nginx.conf", NGINX));
    // Short: a socket's path has at most 107 bytes, and this one is the host's.
    let shared = tempfile::Builder::new().prefix("s").tempdir_in("/tmp").unwrap();
    let shared_mount = format!("{}:/shared", shared.path().display());
    let flags = ["-v", &configuration, "-v", &shared_mount, "-v", "pages:/var/www/html"];
    start(&engine, "web", &flags, &nginx, &[]);
    let get = |page: &str| engine.run(&["exec", "web", "bash", "-c", GET, page]);
    eventually("nginx listens", || get("index.nginx-debian.html").stdout.contains("200 OK"));
    let page = get("index.nginx-debian.html");
    assert!(page.stdout.contains("Welcome to nginx"), "the volume has the image's page: {page}");
    // Another container writes a page into the volume.
    let writer = ["run", "--rm", "-q", "--network", "none", "-v", "pages:/pages", &nginx, "bash", "-c"];
    engine.ok(&[&writer[..], &["echo written by another > /pages/other.html"]].concat());
    assert!(get("other.html").stdout.ends_with("\r\n\r\nwritten by another\n"));
    assert!(get("none.html").stdout.contains("404 Not Found"));
    // Workers are another user, and may not read what is root's.
    engine.ok(&[
        "exec",
        "web",
        "bash",
        "-c",
        "echo x > /var/www/html/secret; chmod 600 /var/www/html/secret",
    ]);
    assert!(get("secret").stdout.contains("403 Forbidden"));
    // From the host, by the socket.
    let mut socket = UnixStream::connect(shared.path().join("web.sock")).unwrap();
    socket.write_all(b"GET /other.html HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("written by another\n"), "{answer}");
    // The image's own signal ends it in good order.
    let stopped = engine.run(&["stop", "-t", "30", "web"]);
    assert!(stopped.time.as_secs() < 20, "{stopped}");
    assert_eq!(engine.inspect("web", "{{.State.ExitCode}}"), "0");
    let log = engine.ok(&["logs", "web"]);
    assert!(log.contains("GET /other.html HTTP/1.0\" 200") && log.contains("GET /none.html"), "{log}");
}

#[test]
fn redis_keeps_what_it_is_given_over_a_restart_as_a_user_of_its_own() {
    let engine = engine!();
    let redis = image("redis:zstd");
    start(&engine, "store", &["-v", "store:/var/lib/redis"], &redis, &["redis-server", "--save", "3600 1"]);
    let cli = |words: &[&str]| engine.run(&[&["exec", "store", "redis-cli"], words].concat());
    eventually("redis listens", || cli(&["ping"]).stdout == "PONG\n");
    assert_eq!(cli(&["set", "key", "välue"]).ok(), "OK");
    assert_eq!(cli(&["--raw", "get", "key"]).ok(), "välue");
    assert_eq!(cli(&["eval", "return redis.call('incrby', KEYS[1], 41) + 1", "1", "count"]).ok(), "42");
    assert_eq!(engine.ok(&["exec", "store", "id", "-un"]), "redis");
    let status = "grep -E '^(Uid|CapEff)' /proc/1/status; stat -c %U /var/lib/redis";
    let status = engine.ok(&["exec", "store", "sh", "-c", status]);
    assert!(!status.contains("\t0\t") && status.contains("0000000000000000"), "{status}");
    assert!(status.ends_with("redis"), "the volume is its user's: {status}");
    engine.ok(&["stop", "-t", "30", "store"]);
    assert_eq!(engine.inspect("store", "{{.State.ExitCode}}"), "0");
    engine.ok(&["start", "store"]);
    eventually("redis listens again", || cli(&["--raw", "get", "key"]).stdout == "välue\n");
    engine.ok(&["rm", "-f", "-t", "5", "store"]);
    // The data outlives its container.
    start(&engine, "store", &["-v", "store:/var/lib/redis"], &redis, &[]);
    eventually("another container has it", || cli(&["--raw", "get", "count"]).stdout == "41\n");
}

#[test]
fn postgres_makes_a_database_and_answers_as_a_user_of_its_own() {
    let engine = engine!();
    let script = "set -e; PATH=$(ls -d /usr/lib/postgresql/*/bin):$PATH; export LC_ALL=C.UTF-8; \
        [ -s data/PG_VERSION ] || initdb -D data >/dev/null; exec postgres -D data -k /tmp";
    let postgres = image("postgres:zstd");
    start(&engine, "db", &[], &postgres, &["bash", "-c", script]);
    let ask = |sql: &str| {
        let psql = "exec psql -h ${HOST:-/tmp} -qAt -v ON_ERROR_STOP=1 -c \"$0\" postgres";
        engine.run(&["exec", "db", "bash", "-c", psql, sql])
    };
    eventually("postgres answers", || ask("select 1").stdout == "1\n");
    ask("create table t (n int primary key, t text); insert into t select n, repeat('x', n) from generate_series(1, 1000) n")
        .ok();
    assert_eq!(ask("select count(*), sum(length(t)) from t where n > 500").ok(), "500|375250");
    // Over TCP, with several processes of its own sharing memory.
    let parallel =
        "for n in 1 2 3 4; do psql -h 127.0.0.1 -qAt -c 'select sum(n) from t' postgres & done; wait";
    assert_eq!(engine.ok(&["exec", "db", "bash", "-c", parallel]), ["500500"; 4].join("\n"));
    assert!(ask("create table t (x int)").fails(1).contains("already exists"));
    assert_eq!(ask("show data_directory").ok(), "/var/lib/postgresql/data");
    assert_eq!(engine.ok(&["exec", "db", "stat", "-c", "%U %a", "/var/lib/postgresql/data"]), "postgres 700");
    // The image's signal is a fast shutdown; then everything is on disk, in the image's volume.
    engine.ok(&["stop", "-t", "60", "db"]);
    assert_eq!(engine.inspect("db", "{{.State.ExitCode}}"), "0", "{}", engine.ok(&["logs", "db"]));
    engine.ok(&["start", "db"]);
    eventually("postgres answers again", || ask("select max(n) from t").stdout == "1000\n");
    assert!(!engine.ok(&["logs", "db"]).contains("not properly shut down"));
    // Killed, it recovers from its log.
    ask("insert into t values (1001, 'late')").ok();
    engine.ok(&["kill", "db"]);
    engine.ok(&["wait", "db"]);
    engine.ok(&["start", "db"]);
    eventually("postgres has recovered", || ask("select t from t where n = 1001").stdout == "late\n");
}

/// Two layers, the second with a file changed and one removed, and a configuration with a bit of everything.
const BUILDAH: &str = r#"
    set -e
    b() { buildah --storage-driver vfs --root "$1/root" --runroot "$1/run" "${@:2}"; }
    store=$1 busybox=$2
    cd "$store"
    mkdir -p bin etc; cp "$busybox" bin/busybox; echo first > etc/kept; echo gone > etc/gone
    first=$(b "$store" from scratch)
    b "$store" copy -q "$first" bin /bin
    b "$store" copy -q --chown 7:8 --chmod 640 "$first" etc /etc
    b "$store" commit -q "$first" base >/dev/null
    second=$(b "$store" from base)
    root=$(b "$store" mount "$second")
    echo second > "$root/etc/kept"; rm "$root/etc/gone"; ln "$root/bin/busybox" "$root/bin/sh"; chmod u+s "$root/bin/busybox"
    b "$store" umount "$second" >/dev/null
    b "$store" config --env COLOUR=green --label made.by=buildah --workingdir /work --user 7:8 --cmd '["-c", "id -u; pwd; echo $COLOUR"]' \
        --entrypoint '["/bin/sh"]' --stop-signal TERM --port 80 --volume /data "$second"
    b "$store" commit -q --format oci "$second" "oci-archive:$store/oci.tar:made.test/oci:1" >/dev/null
    b "$store" commit -q --format docker "$second" "docker-archive:$store/docker.tar:made.test/docker:1" >/dev/null
"#;

#[test]
fn images_made_by_buildah_are_run_with_the_digests_that_skopeo_reads() {
    let engine = engine!();
    for program in ["buildah", "skopeo"] {
        require!(has_program(program), &format!("{program} is not installed"));
    }
    let store = engine.folder("buildah");
    let script = engine.file("make.sh", BUILDAH);
    // What it mounts and whom it gives files to needs a user namespace, which is buildah's own kind.
    let mut make = Command::new("buildah");
    make.args(["unshare", "bash", &script, &store, busybox().to_str().unwrap()]);
    run(make).ok();
    for (format, reference) in [("oci", "made.test/oci:1"), ("docker", "made.test/docker:1")] {
        let archive = format!("{store}/{format}.tar");
        engine.ok(&["load", "-q", "-i", &archive]);
        let mut inspect = Command::new("skopeo");
        inspect.args(["inspect", "--raw", &format!("{format}-archive:{archive}")]);
        let raw: serde_json::Value = serde_json::from_str(&run(inspect).ok()).unwrap();
        assert_eq!(engine.ok(&["image", "inspect", "-f", "{{.Id}}", reference]), raw["config"]["digest"]);
        let run = ["run", "--rm", "--network", "none"];
        assert_eq!(engine.ok(&[&run[..], &[reference]].concat()), "7\n/work\ngreen", "{format}");
        let look = "cat /etc/kept; ls /etc/gone 2>/dev/null; stat -c '%u:%g %a' /etc/kept; stat -c '%h %a' /bin/sh; ls -d /data";
        let told = engine.ok(&[&run[..], &["--user", "0", reference, "-c", look]].concat());
        assert_eq!(told, "second\n7:8 640\n2 4755\n/data", "{format}");
        assert_eq!(
            engine.ok(&["image", "inspect", "-f", "{{index .Config.Labels \"made.by\"}}", reference]),
            "buildah"
        );
    }
}
