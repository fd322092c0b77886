//! A store without a single free block or inode: everything that makes room works, the rest says what to do, and nothing is
//! damaged.

use crate::support::{Engine, Output, eventually, run, skip, tiny};
use std::process::{Child, Command, Stdio};

/// A small tmpfs for the data root, in namespaces that a process keeps. The program is entered through a script.
struct SmallDisk {
    engine: Engine,
    keeper: Child,
}

impl SmallDisk {
    fn new(options: &str) -> Result<Self, String> {
        let mut engine = Engine::with_registry()?;
        let data = engine.data().to_str().unwrap().to_owned();
        let ready = engine.scratch().join("ready");
        let script = "mount -t tmpfs -o \"$1\" none \"$2\" && mkdir \"$2/probe\" && setfattr -n user.x -v x \"$2/probe\" \
                      && rmdir \"$2/probe\" && : >\"$3\" && exec sleep 1000";
        let mut keeper = engine
            .command(&["unshare", "sh", "-c", script, "sh", options, &data, ready.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while !ready.exists() {
            if keeper.try_wait().unwrap().is_some() {
                return Err("no tmpfs with extended attributes can be mounted".into());
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let program = engine.command(&[]).get_program().to_str().unwrap().to_owned();
        let enter = format!(
            "#!/bin/sh\nexec nsenter -t {} -U -m --preserve-credentials {program} \"$@\"\n",
            keeper.id()
        );
        let shim = engine.file("coracle", &enter);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&shim, mode).unwrap();
        engine.use_program(shim.as_ref());
        Ok(Self { engine, keeper })
    }

    /// A shell script in the disk's folder.
    fn host(&self, script: &str) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.keeper.id().to_string(), "-U", "-m", "--preserve-credentials"]);
        command.args(["sh", "-c", &format!("cd {} && {script}", self.engine.data().display())]);
        run(command)
    }

    /// Takes every block and every inode that is left.
    fn fill(&self) {
        let script = "{ mkdir -p fill; cat /dev/zero >fill/zero; i=0; while true >fill/$i; do i=$((i+1)); done; } 2>/dev/null; true";
        self.host(script).ok();
        self.host("! echo x >x 2>/dev/null").ok();
    }

    fn empty(&self) {
        self.host("rm -rf fill").ok();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.engine.run(&["rm", "-f", "-a", "-t", "0"]);
        drop(self.keeper.kill());
        drop(self.keeper.wait());
    }
}

#[test]
fn with_nothing_free_all_that_makes_room_works_and_nothing_is_damaged() {
    // Blocks run out, or inodes.
    for options in ["size=24m,nr_inodes=3000", "size=200m,nr_inodes=400"] {
        let disk = match SmallDisk::new(options) {
            Ok(disk) => disk,
            Err(why) => return skip(&why),
        };
        let engine = &disk.engine;
        let image = tiny();
        engine.ok(&["pull", "-q", &image]);
        engine.start_sleeper("running");
        engine.start_sleeper("to-remove");
        engine.start_script("brief", &["--rm"], "sleep 1000");
        engine.ok(&[
            "run",
            "--network",
            "none",
            "--name",
            "stopped",
            "-v",
            "/a",
            "-v",
            "v:/v",
            &image,
            "touch",
            "/a/f",
        ]);
        engine.ok(&["tag", &image, "another.test/name:1"]);
        let context = engine.folder("context");
        engine.file("context/Dockerfile", &format!("FROM {image}\nCOPY Dockerfile /\n"));
        engine.ok(&["build", "-q", "-t", "another.test/built", &context]);
        eventually("there is ballast", || disk.host("test -e ballast/7").code == 0);
        disk.fill();

        let names = "brief\nrunning\nstopped\nto-remove";
        assert_eq!(engine.names().join("\n"), names);
        engine.ok(&["images"]);
        assert_eq!(engine.ok(&["exec", "running", "echo", "alive"]), "alive");
        // What needs room says so, and leaves nothing.
        for args in [
            &["create", "--name", "new", "--network", "none", &image, "true"][..],
            &["volume", "create", "new"],
            &["tag", &image, "another.test/name:2"],
            &["commit", "-q", "stopped", "another.test/name:3"],
        ] {
            engine.run(args).explains(125, &["no space", "fix: free some space"]);
        }
        assert_eq!(engine.names().join("\n"), names);
        // A --rm container writes no record into the store, but it may need inodes for its writable layer.
        let brief = engine.run(&["run", "--rm", "--network", "none", &image, "echo", "works"]);
        assert!(brief.code == 0 || brief.stderr.contains("fix: free some space"), "{brief}");

        engine.ok(&["stop", "-t", "1", "running"]);
        assert_eq!(engine.inspect("running", "{{.State.Status}} {{.State.ExitCode}}"), "exited 0");
        disk.fill();
        engine.ok(&["rm", "-f", "-t", "0", "to-remove"]);
        disk.fill();
        engine.ok(&["rm", "-f", "-t", "0", "brief"]);
        disk.fill();
        engine.ok(&["rm", "-v", "stopped"]);
        disk.fill();
        engine.ok(&["volume", "prune", "-f", "-a"]);
        assert_eq!(engine.ok(&["volume", "ls", "-q"]), "");
        disk.fill();
        engine.ok(&["rmi", "another.test/name:1"]);
        disk.fill();
        engine.ok(&["rmi", "another.test/built"]);
        disk.fill();
        engine.ok(&["builder", "prune", "-f"]);
        assert_eq!(engine.ok(&["builder", "du", "--format", "{{.ID}}"]), "");
        disk.fill();
        assert_eq!(engine.names(), ["running"]);

        disk.empty();
        assert_eq!(engine.sh(&[], "cat /etc/passwd | head -1 | cut -d: -f1"), "root");
        engine.ok(&["start", "running"]);
        engine.ok(&["rm", "-f", "-t", "0", "running"]);
        disk.fill();
        engine.ok(&["rmi", "-f", &image]);
        assert_eq!(engine.ok(&["images", "-aq"]), "");
    }
}

#[test]
fn a_pull_that_does_not_fit_leaves_nothing_and_says_what_to_do() {
    let disk = match SmallDisk::new("size=16m") {
        Ok(disk) => disk,
        Err(why) => return skip(&why),
    };
    let engine = &disk.engine;
    let used = || disk.host("du -sk . | cut -f1").ok().parse::<u32>().unwrap();
    engine.ok(&["pull", "-q", &tiny()]);
    eventually("there is ballast", || disk.host("test -e ballast/7").code == 0);
    let before = used();
    let output = engine.run(&["pull", "-q", &crate::support::debian()]);
    output.explains(125, &["no space", "fix: free some space"]);
    engine.ok(&["images"]);
    eventually("all is given back", || used() <= before + 64);
    assert_eq!(engine.sh(&[], "echo works"), "works");
}

#[test]
fn a_build_that_does_not_fit_leaves_what_was_finished_and_says_what_to_do() {
    let disk = match SmallDisk::new("size=24m,nr_inodes=3000") {
        Ok(disk) => disk,
        Err(why) => return skip(&why),
    };
    let engine = &disk.engine;
    let used = || disk.host("du -sk . | cut -f1").ok().parse::<u32>().unwrap();
    let image = tiny();
    engine.ok(&["pull", "-q", &image]);
    eventually("there is ballast", || disk.host("test -e ballast/7").code == 0);
    let folder = engine.folder("context");
    std::fs::write(engine.scratch().join("context/big"), vec![b'x'; 32 << 20]).unwrap();
    let first = format!("FROM {image}\nRUN echo first > /first\n");
    let write = |last: &str| drop(engine.file("context/Dockerfile", &format!("{first}{last}\n")));
    let args = ["build", "--network", "none", "--progress", "plain", "-t", "made", &folder];
    write("RUN echo second > /second");
    disk.fill();
    engine.run(&args).explains(1, &["no space", "fix: free some space"]);
    disk.empty();
    engine.ok(&args);
    engine.ok(&["rmi", "made"]);
    let before = used();
    let steps = [
        ("COPY big /", "no space"),
        ("RUN cat /dev/zero > /big", "No space left on device"),
        (
            "RUN i=0; while : > /$i; do i=$((i + 1)); head -c 65536 /dev/zero > /$i; done",
            "No space left on device",
        ),
    ];
    for (last, why) in steps {
        write(last);
        let output = engine.run(&args);
        assert!(output.stderr.contains("#3 CACHED\n"), "{output}");
        output.explains(1, &["Dockerfile:3:1", why, "fix: free some space"]);
        assert_eq!(engine.run(&["image", "exists", "made"]).code, 1);
        assert!(engine.names().is_empty());
        eventually("all is given back", || used() <= before + 64);
        engine.ok(&["store", "verify"]);
    }
    write("COPY big /");
    let larger = format!("mount -o remount,size=160m {}", engine.data().display());
    disk.host(&larger).ok();
    engine.ok(&args);
    // What fails for another reason does not say so.
    write("COPY big /\nRUN false");
    let output = engine.run(&args);
    assert!(output.code == 1 && !output.stderr.contains("free some space"), "{output}");
    let size = ["run", "--rm", "--network", "none", "made", "stat", "-c", "%s", "/first", "/big"];
    assert_eq!(engine.ok(&size), "6\n33554432");
    engine.ok(&["store", "verify"]);
}
