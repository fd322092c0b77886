//! Row 7: root in a container is the user who owns our binary, and still cannot change it (CVE-2019-5736).

use crate::support::image::{Image, Layer, digest};
use crate::support::registry::Registry;
use crate::support::{Engine, Running, eventually, tiny};
use std::os::unix::fs::MetadataExt;

/// A copy of the program that the user owns and may write: without the defence, so may the container.
struct Bait {
    path: String,
    digest: String,
}

impl Bait {
    fn new(engine: &Engine) -> Self {
        let program = engine.command(&[]).get_program().to_owned();
        let path = engine.scratch().join("coracle").to_str().unwrap().to_owned();
        std::fs::copy(program, &path).unwrap();
        let meta = std::fs::metadata(&path).unwrap();
        assert!(meta.uid() == rustix::process::getuid().as_raw() && meta.mode() & 0o200 != 0);
        let digest = digest(&std::fs::read(&path).unwrap());
        Self { path, digest }
    }

    fn command(&self, engine: &Engine, args: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(&self.path);
        let ours = engine.command(args);
        command.args(ours.get_args()).current_dir(engine.scratch());
        command
    }

    #[track_caller]
    fn is_unchanged(&self) {
        assert_eq!(digest(&std::fs::read(&self.path).unwrap()), self.digest, "the binary was overwritten");
    }
}

/// Holds every program it can see by a descriptor and writes to it as soon as nobody executes it.
const ATTACK: &str = "echo ready
    while :; do
      for p in /proc/[0-9]*; do
        case $(readlink $p/exe) in /bin/busybox) continue;; esac
        { exec 3<$p/exe; } 2>/dev/null || continue
        i=0; while [ $i -lt 300 ]; do { echo overwritten > /proc/self/fd/3; } 2>/dev/null && echo success; i=$((i+1)); done
      done
    done";

#[test]
fn a_container_that_is_entered_cannot_write_to_the_program_that_enters() {
    let engine = engine!();
    let bait = Bait::new(&engine);
    engine.start_script("evil", &["--cap-add", "SYS_PTRACE,DAC_READ_SEARCH"], ATTACK);
    eventually("the attack is on", || engine.ok(&["logs", "evil"]).contains("ready"));
    for _ in 0..40 {
        let all: Vec<Running> =
            (0..3).map(|_| Running::start(bait.command(&engine, &["exec", "evil", "true"]), b"")).collect();
        for running in all {
            running.wait();
        }
    }
    bait.is_unchanged();
    assert!(!engine.ok(&["logs", "evil"]).contains("success"));
}

#[test]
fn a_container_cannot_write_to_the_program_that_started_it() {
    let engine = engine!();
    let bait = Bait::new(&engine);
    let image = tiny();
    for flags in [&[][..], &["--init"], &["--privileged"]] {
        let mut args = vec!["run", "--rm", "--network", "none"];
        args.extend(flags);
        args.extend([&image, "sh", "-c", "for i in 0 1 2 3 4 5 6 7 8 9; do for p in /proc/[0-9]*/exe; do { exec 3<$p; } 2>/dev/null && { echo overwritten > /proc/self/fd/3; } 2>/dev/null; done; done; true"]);
        crate::support::run(bait.command(&engine, &args)).ok();
        bait.is_unchanged();
    }
}

/// The kernel resolves the interpreter of `#!/proc/self/exe` while the process is still ours: what it executes is us.
#[test]
fn a_script_whose_interpreter_is_the_program_itself_gets_nothing_writable() {
    let engine = engine!();
    let bait = Bait::new(&engine);
    let registry = Registry::start();
    let layer = Layer::new()
        .file("bin/evil", b"#!/proc/self/exe\n", 0o755)
        .file("bin/eviler", b"#!/proc/self/exe unshare sh -c\n", 0o755)
        .symlink("bin/link", "/proc/self/exe");
    let image = engine.add(&registry, "evil", &Image::tiny_with(vec![layer]));
    engine.ok(&["run", "-d", "-q", "--name", "evil", "--network", "none", &image, "sh", "-c", ATTACK]);
    for entry in ["/bin/evil", "/bin/eviler", "/bin/link", "/proc/self/exe"] {
        let output = crate::support::run(bait.command(
            &engine,
            &["run", "--rm", "--network", "none", &image, entry, "echo overwritten > /proc/self/exe"],
        ));
        assert!(!output.stderr.contains("panicked"), "{output}");
        for _ in 0..10 {
            crate::support::run(bait.command(&engine, &["exec", "evil", entry]));
        }
        bait.is_unchanged();
    }
    assert!(!engine.ok(&["logs", "evil"]).contains("success"));
}

#[test]
fn libraries_and_variables_of_the_container_are_not_loaded_into_the_program() {
    let engine = engine!();
    let registry = Registry::start();
    let layer =
        Layer::new().file("etc/ld.so.preload", b"/evil.so\n", 0o644).file("evil.so", b"not a library", 0o755);
    let image =
        Image::tiny_with(vec![layer]).with("Env", serde_json::json!(["PATH=/bin", "LD_PRELOAD=/evil.so"]));
    let image = engine.add(&registry, "preload", &image);
    engine.ok(&["run", "-d", "-q", "--name", "p", "--network", "none", &image, "sleep", "1000"]);
    assert_eq!(engine.ok(&["exec", "p", "echo", "fine"]), "fine");
}
