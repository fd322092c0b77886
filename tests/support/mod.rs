//! What the end-to-end and the security tests share: the program under test with state of its own, a terminal,
//! hostile images, and a registry that lies.
//!
//! Each [`Engine`] has its own data root and run root, so tests run side by side; dropping it removes its containers
//! and files. Nothing here knows how coracle works inside: with `CORACLE=/usr/bin/podman` the same tests run against
//! podman, which shows where they ask for more than podman's behaviour.
//!
//! Environment, set by `tests/run`:
//!
//! | variable | meaning |
//! |---|---|
//! | `CORACLE` | the program under test, default the one cargo has built |
//! | `CORACLE_TEST_REGISTRY` | `host:port` of a plain-http registry with `test/tiny`, `test/debian`, `test/python` |
//! | `CORACLE_TEST_REGISTRY_LOG` | its access log |
//! | `CORACLE_TEST_AUTH_REGISTRY` | the same registry, for user `tester` with password `open sesame` |
//! | `CORACLE_TEST_IMAGES` | folder with the images as OCI layouts and archives |
//! | `CORACLE_TEST_MIRRORS` | folder with what `tests/support/mirrors` found, which tests find for themselves otherwise |
//! | `CORACLE_TEST_BUSYBOX` | a static busybox, default /bin/busybox |
//! | `CORACLE_TEST_SKIPS` | file to which skipped tests are written |
//! | `CORACLE_TEST_FAULTS` | points of each command at which a fault is tried: a number, or `all` |
#![allow(dead_code, unused_macros, reason = "each test binary uses a part of this")]

pub mod image;
pub mod registry;
pub mod terminal;

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long any one command may take. Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(90);

/// An engine that is ready to run containers, or the test ends here as skipped.
macro_rules! engine {
    () => {
        match $crate::support::Engine::with_registry() {
            Ok(engine) => engine,
            Err(why) => return $crate::support::skip(&why),
        }
    };
}

/// Ends the test as skipped unless the condition holds.
macro_rules! require {
    ($condition:expr, $why:expr) => {
        if !$condition {
            return $crate::support::skip($why);
        }
    };
}

/// Notes that the running test is skipped: libtest has no way to say so at run time, `tests/run` counts the notes.
pub fn skip(why: &str) {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    eprintln!("SKIPPED {test}: {why}");
    if let Some(path) = std::env::var_os("CORACLE_TEST_SKIPS") {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        // One write: other tests do the same at the same time.
        file.write_all(format!("{test}: {why}\n").as_bytes()).unwrap();
    }
}

/// A variable that `tests/run` sets; empty counts as unset.
pub fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether there is time for the whole of what takes minutes (`CORACLE_TEST_LONG`).
pub fn is_long() -> bool {
    setting("CORACLE_TEST_LONG").is_some()
}

/// Whether a program is in the path.
pub fn has_program(name: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()))
}

/// The static busybox that images are made of.
pub fn busybox() -> PathBuf {
    setting("CORACLE_TEST_BUSYBOX").map_or_else(|| "/bin/busybox".into(), PathBuf::from)
}

/// What a finished command left.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub time: Duration,
    what: String,
}

impl Output {
    /// Standard output without the newline at its end, after making sure that the command succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.code == 0, "{self}");
        self.stdout.trim_end_matches('\n').to_owned()
    }

    /// Standard error, then standard output, after making sure that the command succeeded.
    #[track_caller]
    pub fn all(self) -> String {
        let stderr = self.stderr.clone();
        stderr + &self.ok()
    }

    /// The same of a build: what its steps said is without the number and the time before it.
    pub fn of_build(mut self) -> Output {
        let lines = self.stderr.lines().map(|line| said_by_step(line).unwrap_or(line).to_owned() + "\n");
        self.stdout = lines.collect::<String>() + &self.stdout;
        self
    }

    /// Standard error, after making sure that the command ended with this code.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert!(self.code == code, "expected exit code {code}: {self}");
        self.stderr
    }

    /// Makes sure that an error of our own is reported as it should be: this exit code, one report that begins with
    /// `Error:`, names these things, and is no backtrace.
    #[track_caller]
    pub fn explains(self, code: i32, words: &[&str]) {
        assert!(self.code == code, "expected exit code {code}: {self}");
        self.reports(words);
    }

    /// The same for a command that refuses to do something, with the exit code of docker (1) or of podman (2, 125,
    /// 126 for a user that is not there).
    #[track_caller]
    pub fn refuses(self, words: &[&str]) {
        assert!(matches!(self.code, 1 | 2 | 125 | 126), "it did not refuse: {self}");
        self.reports(words);
    }

    #[track_caller]
    fn reports(self, words: &[&str]) {
        let shown = self.to_string();
        let stderr = self.stderr;
        let errors = stderr.lines().filter(|line| line.starts_with("Error:")).count();
        assert_eq!(errors, 1, "not one clear error: {shown}");
        assert!(!stderr.contains("panicked"), "{shown}");
        let lower = stderr.to_lowercase();
        for word in words {
            assert!(lower.contains(&word.to_lowercase()), "the error does not say `{word}`: {shown}");
        }
    }
}

/// What a step of a build said, if this is a line of that: `#2 0.123 said`.
pub fn said_by_step(line: &str) -> Option<&str> {
    let (number, rest) = line.strip_prefix('#')?.split_once(' ')?;
    let (time, said) = rest.split_once(' ').unwrap_or((rest, ""));
    let (seconds, thousandths) = time.split_once('.')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    ([number, seconds, thousandths].into_iter().all(is_number)).then_some(said)
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, stdout, stderr, what, .. } = self;
        write!(f, "{what}\nended with {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

/// A command that has been started.
pub struct Running {
    pub child: Child,
    what: String,
    since: Instant,
    output: mpsc::Receiver<(bool, Vec<u8>)>,
}

impl Running {
    /// Starts the command, gives it this input and collects its output.
    pub fn start(mut command: Command, input: &[u8]) -> Self {
        let mut what = String::new();
        for word in std::iter::once(command.get_program()).chain(command.get_args()) {
            write!(what, "{} ", word.to_string_lossy()).unwrap();
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let since = Instant::now();
        let mut child = loop {
            match command.spawn() {
                Ok(child) => break child,
                // A program that a test has just written, while another thread's child still has it open.
                Err(error)
                    if error.kind() == std::io::ErrorKind::ExecutableFileBusy
                        && since.elapsed() < PATIENCE =>
                {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => panic!("{what}: {error}"),
            }
        };
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        // A command may end without reading its input.
        std::thread::spawn(move || drop(stdin.write_all(&input)));
        let (send, output) = mpsc::channel();
        let pipes: [(bool, Box<dyn Read + Send>); 2] =
            [(true, Box::new(child.stdout.take().unwrap())), (false, Box::new(child.stderr.take().unwrap()))];
        for (is_stdout, mut pipe) in pipes {
            let send = send.clone();
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                drop(pipe.read_to_end(&mut bytes));
                drop(send.send((is_stdout, bytes)));
            });
        }
        Self { child, what, since, output }
    }

    /// Waits for its end, and for everybody to close its output: a background process that keeps the caller's pipe
    /// open would hang every `$(coracle run -d …)`, so that is a failure.
    #[track_caller]
    pub fn wait(self) -> Output {
        self.wait_up_to(PATIENCE)
    }

    /// The same for what takes long where the program is built without optimizations.
    #[track_caller]
    pub fn wait_up_to(mut self, patience: Duration) -> Output {
        let end = self.since + patience;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > end {
                drop(self.child.kill());
                panic!("{}: not finished after {patience:?}", self.what);
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let time = self.since.elapsed();
        let (mut stdout, mut stderr) = (String::new(), String::new());
        for _ in 0..2 {
            let Ok((is_stdout, bytes)) = self.output.recv_timeout(Duration::from_secs(10)) else {
                panic!("{}: ended with {status}, but somebody keeps its output open", self.what);
            };
            *(if is_stdout { &mut stdout } else { &mut stderr }) =
                String::from_utf8_lossy(&bytes).into_owned();
        }
        Output { code: exit_code(status), stdout, stderr, time, what: self.what }
    }
}

/// As a shell counts: 128 + n for a command that was killed by signal n.
pub fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Runs a command to its end.
#[track_caller]
pub fn run(command: Command) -> Output {
    Running::start(command, b"").wait()
}

/// Runs a shell script on the host; what it printed.
#[track_caller]
pub fn host(script: &str) -> String {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    run(command).ok()
}

/// Tries until something is so.
#[track_caller]
pub fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !check() {
        assert!(Instant::now() < end, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The program under test with state of its own.
pub struct Engine {
    program: PathBuf,
    data: TempDir,
    run: TempDir,
    scratch: TempDir,
    variables: Vec<(String, Option<String>)>,
}

impl Engine {
    /// An engine with an empty store.
    pub fn new() -> Self {
        let program = setting("CORACLE").unwrap_or_else(|| env!("CARGO_BIN_EXE_coracle").to_owned());
        let runtime = setting("XDG_RUNTIME_DIR").unwrap_or_else(|| "/tmp".to_owned());
        let scratch = tempfile::Builder::new().prefix("scratch-").tempdir().unwrap();
        let mut engine = Self {
            program: program.into(),
            data: tempfile::Builder::new().prefix("data-").tempdir().unwrap(),
            // Socket paths are limited to 107 bytes.
            run: tempfile::Builder::new().prefix("r").tempdir_in(runtime).unwrap(),
            scratch,
            variables: Vec::new(),
        };
        if engine.is_podman() {
            engine.set("CONTAINERS_REGISTRIES_CONF", &engine.file("registries.conf", ""));
            for name in ["CORACLE_TEST_REGISTRY", "CORACLE_TEST_AUTH_REGISTRY"] {
                setting(name).iter().for_each(|host| engine.trust(host));
            }
        }
        engine
    }

    /// An engine that has the tiny image, and a registry to pull others from.
    pub fn with_registry() -> Result<Self, String> {
        match setting("CORACLE_TEST_REGISTRY") {
            Some(_) => {
                let engine = Self::new();
                engine.ok(&["pull", "-q", &tiny()]);
                Ok(engine)
            }
            None => Err("no registry with test images (CORACLE_TEST_REGISTRY)".into()),
        }
    }

    /// Plain http from loopback is taken as it is, but podman has to be told.
    pub fn trust(&self, host: &str) {
        if self.is_podman() {
            let path = self.scratch.path().join("registries.conf");
            let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
            writeln!(file, "[[registry]]\nlocation = \"{host}\"\ninsecure = true").unwrap();
        }
    }

    /// Has the registry serve an image that this engine can pull; its reference.
    pub fn add(&self, registry: &registry::Registry, name: &str, image: &image::Image) -> String {
        self.trust(registry.address());
        registry.add(name, image)
    }

    /// Runs another copy of the program from now on.
    pub fn use_program(&mut self, path: &Path) {
        self.program = path.to_owned();
    }

    /// Whether this is podman, run to see what the tests ask for.
    pub fn is_podman(&self) -> bool {
        self.program.file_name() == Some(OsStr::new("podman"))
    }

    /// Sets a variable for all further commands.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), Some(value.to_owned())));
    }

    /// Unsets a variable for all further commands.
    pub fn unset(&mut self, name: &str) {
        self.variables.push((name.to_owned(), None));
    }

    /// Where images, volumes and stopped containers are.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// Where the state of running containers is.
    pub fn run_root(&self) -> &Path {
        self.run.path()
    }

    /// A folder for the test's own files; removed at the end, whoever owns what is in it.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Writes a file into the scratch folder.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.scratch.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Makes a folder in the scratch folder.
    pub fn folder(&self, name: &str) -> String {
        let path = self.scratch.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The command with these arguments.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        self.complete(&mut command, args);
        command
    }

    /// The same behind a wrapper such as `strace -c`.
    pub fn wrapped(&self, wrapper: &[&str], args: &[&str]) -> Command {
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(&self.program);
        self.complete(&mut command, args);
        command
    }

    fn complete(&self, command: &mut Command, args: &[&str]) {
        command.arg("--root").arg(self.data.path()).arg("--runroot").arg(self.run.path());
        command.args(args).current_dir(self.scratch.path());
        for (name, value) in &self.variables {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Output {
        run(self.command(args))
    }

    /// Runs it with this input.
    #[track_caller]
    pub fn run_with_input(&self, args: &[&str], input: &[u8]) -> Output {
        Running::start(self.command(args), input).wait()
    }

    /// Runs it; it must succeed; what it printed.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        self.run(args).ok()
    }

    /// `run --rm` of a shell script in the tiny image, with these flags; what it printed.
    #[track_caller]
    pub fn sh(&self, flags: &[&str], script: &str) -> String {
        self.try_sh(flags, script).ok()
    }

    /// `run --rm` of a shell script in the tiny image, with these flags.
    #[track_caller]
    pub fn try_sh(&self, flags: &[&str], script: &str) -> Output {
        let image = tiny();
        let mut args = vec!["run", "--rm", "--network", "none"];
        args.extend(flags);
        args.extend([image.as_str(), "sh", "-c", script]);
        self.run(&args)
    }

    /// Starts a container of the tiny image that stays, under this name.
    #[track_caller]
    pub fn start_sleeper(&self, name: &str) -> String {
        // A shell that ends at SIGTERM, so that `stop` need not wait.
        self.start_script(name, &[], "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done")
    }

    /// Starts a detached container of the tiny image with a script, under this name; its id.
    #[track_caller]
    pub fn start_script(&self, name: &str, flags: &[&str], script: &str) -> String {
        let image = tiny();
        let mut args = vec!["run", "-d", "--network", "none", "--name", name];
        args.extend(flags);
        args.extend([image.as_str(), "sh", "-c", script]);
        self.ok(&args)
    }

    /// `inspect --format`.
    #[track_caller]
    pub fn inspect(&self, name: &str, format: &str) -> String {
        self.ok(&["inspect", "--format", format, name])
    }

    /// `inspect` as JSON: the first object.
    #[track_caller]
    pub fn inspect_json(&self, args: &[&str]) -> serde_json::Value {
        let text = self.ok(args);
        let value: serde_json::Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        value.get(0).cloned().unwrap_or(value)
    }

    /// The container's first process as the host sees it.
    #[track_caller]
    pub fn pid_of(&self, name: &str) -> i32 {
        self.inspect(name, "{{.State.Pid}}").parse().unwrap()
    }

    /// Names of all containers.
    #[track_caller]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.ok(&["ps", "-a", "--format", "{{.Names}}"]).lines().map(str::to_owned).collect();
        names.sort();
        names
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let quiet = |args: &[&str]| {
            let mut command = self.command(args);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().ok()?;
            let end = Instant::now() + Duration::from_secs(60);
            while Instant::now() < end {
                if let Some(status) = child.try_wait().ok()? {
                    return Some(status);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            child.kill().ok()?;
            child.wait().ok()
        };
        quiet(&["rm", "-f", "-a", "-t", "0"]);
        // Files of subordinate ids can be removed only by root of a namespace that has them.
        let roots = [self.data.path(), self.run.path(), self.scratch.path()];
        let mut args = vec!["unshare", "rm", "-rf"];
        args.extend(roots.iter().map(|path| path.to_str().unwrap()));
        quiet(&args);
    }
}

/// Reference of an image in the registry.
pub fn image(name: &str) -> String {
    format!("{}/test/{name}", setting("CORACLE_TEST_REGISTRY").expect("checked by engine!()"))
}

/// The smallest image: busybox, a few files, users root and alice.
pub fn tiny() -> String {
    image("tiny:gz")
}

/// Debian, one layer.
pub fn debian() -> String {
    image("debian:gz")
}
