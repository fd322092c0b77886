//! Helpers of tests: a real registry, a hostile one, a place for configuration files.

use super::{Options, Places};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Configuration folders below `dir`, and nothing of this machine's.
pub(crate) fn places(dir: &Path) -> Places {
    Places {
        etc: dir.join("etc"),
        config: Some(dir.join("config")),
        cache: Some(dir.join("cache")),
        runtime: Some(dir.join("runtime")),
        docker: Some(dir.join("docker")),
        docker_is_chosen: false,
        auth_file: None,
        registries_conf: None,
    }
}

/// Options that give up soon.
pub(crate) fn options(dir: &Path) -> Options {
    Options {
        retry_delay: Duration::from_millis(5),
        stall: Duration::from_millis(300),
        places: places(dir),
        ..Options::default()
    }
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Docker's registry on an ephemeral loopback port.
pub(crate) struct DockerRegistry {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub(crate) host: String,
}

/// `coracle:secret`, hashed by `htpasswd -B`'s algorithm.
const HTPASSWD: &str = "coracle:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

impl DockerRegistry {
    /// `None`, said loudly, where it is not installed. With `login`, it wants `coracle:secret`.
    pub(crate) fn start(dir: &Path, login: bool) -> Option<Self> {
        Self::start_with(dir, login, "")
    }

    /// The same, with more lines in the `http` section.
    pub(crate) fn start_with(dir: &Path, login: bool, http: &str) -> Option<Self> {
        for program in ["docker-registry", "skopeo"] {
            if Command::new(program).arg("--version").stdout(Stdio::null()).status().is_err() {
                eprintln!("SKIPPED: {program} is not installed");
                return None;
            }
        }
        let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let dir = dir.join(format!("registry-{}", host.replace(':', "-")));
        std::fs::create_dir_all(dir.join("data")).unwrap();
        std::fs::write(dir.join("htpasswd"), HTPASSWD).unwrap();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {0}/data}}}}\nhttp:\n  addr: '{host}'\n{http}",
            dir.display()
        );
        if login {
            config.push_str(&format!(
                "auth: {{htpasswd: {{realm: test, path: {}/htpasswd}}}}\n",
                dir.display()
            ));
        }
        std::fs::write(dir.join("config.yml"), config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&host).is_err() {
            assert!(Instant::now() < until, "docker-registry did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { child, host })
    }

    /// Pushes what `source` (`oci:DIR:TAG`…) names to `name:tag`, with further arguments for skopeo.
    pub(crate) fn push(&self, source: &str, name: &str, more: &[&str]) {
        run(Command::new("skopeo")
            .args([
                "copy",
                "--insecure-policy",
                "--dest-tls-verify=false",
                "--dest-creds=coracle:secret",
                "-q",
            ])
            .args(more)
            .arg(source)
            .arg(format!("docker://{}/{name}", self.host)));
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request as a server sees it: the first line and the headers, lower-case names.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) line: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub(crate) fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }
}

/// What a server does with a request.
pub(crate) enum Reply {
    /// These bytes, and the connection stays open.
    Answer(Vec<u8>),
    /// These bytes, and the connection is closed.
    Close(Vec<u8>),
    /// These bytes, and then nothing for a long time.
    Stall(Vec<u8>),
    /// The first bytes, and then the second ones again and again, a few times a second.
    Drip(Vec<u8>, Vec<u8>),
}

/// A whole answer.
pub(crate) fn answer(status: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status}\r\n");
    for header in headers {
        head.push_str(&format!("{header}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    [head.as_bytes(), body].concat()
}

/// A peer that does as the test wants, on an ephemeral loopback port.
pub(crate) struct Peer {
    /// `127.0.0.1:PORT`.
    pub(crate) host: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Peer {
    /// Answers each request by `reply`, which also gets the number of requests before it.
    pub(crate) fn start(reply: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, reply) = (Arc::clone(&requests), Arc::new(reply));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, reply) = (Arc::clone(&seen), Arc::clone(&reply));
                std::thread::spawn(move || serve(stream, &seen, &*reply));
            }
        });
        Self { host, requests }
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Request>>, reply: &dyn Fn(&Request, usize) -> Reply) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let headers: Vec<_> = lines[1..]
            .iter()
            .filter_map(|l| l.split_once(':'))
            .map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()))
            .collect();
        let mut request = Request { line: lines[0].clone(), headers, body: String::new() };
        let length = request.header("content-length").map_or(0, |l| l.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        request.body = String::from_utf8(body).unwrap();
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(request.clone());
            seen.len() - 1
        };
        let (bytes, then) = match reply(&request, number) {
            Reply::Answer(bytes) => (bytes, None),
            Reply::Close(bytes) => (bytes, Some(Duration::ZERO)),
            Reply::Stall(bytes) => (bytes, Some(Duration::from_secs(5))),
            Reply::Drip(bytes, drop) => {
                let mut sent = stream.write_all(&bytes);
                while sent.is_ok() {
                    std::thread::sleep(Duration::from_millis(50));
                    sent = stream.write_all(&drop);
                }
                return;
            }
        };
        if stream.write_all(&bytes).is_err() {
            return;
        }
        if let Some(wait) = then {
            std::thread::sleep(wait);
            return;
        }
    }
}
