//! Rows 4 and 11: the terminal is ours, the session is new, and what is written into files of the container is
//! what it says.

use crate::support::image::{Image, Layer};
use crate::support::registry::Registry;
use crate::support::terminal::Terminal;
use crate::support::{image, tiny};
use crate::{SECRET, Victim, run_image};

/// CVE-2025-52565: /dev/console is a bind of the terminal; the image may have put a link there.
#[test]
fn a_console_of_the_images_own_is_not_followed() {
    let engine = engine!();
    let victim = Victim::new(&engine);
    let registry = Registry::start();
    for (name, target) in [
        ("dev/console", victim.join("secret")),
        ("dev/pts", victim.path.clone()),
        ("dev/ptmx", victim.join("made")),
        ("dev/tty", victim.join("secret")),
    ] {
        let image = Image::tiny_with(vec![Layer::new().symlink(name, &target)]);
        let reference = engine.add(&registry, &name.replace('/', "-"), &image);
        let args = [
            "run",
            "--rm",
            "-q",
            "-it",
            "--network",
            "none",
            &reference,
            "sh",
            "-c",
            "cat /dev/console & sleep 0.3; kill $!; echo evil > /dev/console; echo evil >/dev/tty; stat -c %F /dev/console; echo end",
        ];
        let mut terminal = Terminal::start(&engine.command(&args), 24, 80);
        terminal.wait();
        assert!(!terminal.screen().contains(SECRET), "{}", terminal.screen());
        victim.is_untouched();
    }
}

#[test]
fn the_terminal_is_a_terminal_of_the_containers_own() {
    let engine = engine!();
    let script =
        "stat -c '%t' /dev/console; stat -f -c %T /dev/pts; ls /dev/pts | sort | tr '\\n' ' '; echo end";
    let mut terminal = Terminal::start(
        &engine.command(&["run", "--rm", "-it", "--network", "none", &tiny(), "sh", "-c", script]),
        24,
        80,
    );
    // 136 (hex 88) is the major number of pseudo-terminals.
    terminal.expect("88");
    terminal.expect("devpts");
    terminal.expect("0 ptmx end");
    terminal.wait();
}

/// Without -t the command gets pipes or the user's terminal itself, but never as its controlling terminal: it must
/// not be able to type into the user's shell (TIOCSTI).
#[test]
fn the_session_is_new_and_has_no_terminal() {
    let engine = engine!();
    let args = [
        "run",
        "--rm",
        "-i",
        "--network",
        "none",
        &tiny(),
        "sh",
        "-c",
        "cut -d' ' -f6,7 /proc/1/stat; (echo x > /dev/tty) 2>/dev/null && echo has one; echo end",
    ];
    let mut terminal = Terminal::start(&engine.command(&args), 24, 80);
    terminal.expect("1 0");
    terminal.expect("end");
    assert!(!terminal.screen().contains("has one"), "{}", terminal.screen());
    terminal.wait();
}

#[test]
fn the_command_cannot_type_into_the_users_terminal() {
    let engine = engine!();
    let python = image("python:gz");
    engine.ok(&["pull", "-q", &python]);
    let program = "import fcntl, termios\nfor fd in 0, 1, 2:\n  try:\n    fcntl.ioctl(fd, termios.TIOCSTI, b'!'); print('typed into', fd)\n  except OSError as e: print('refused', fd)";
    for flags in [&["-i"][..], &["-i", "--privileged"]] {
        let mut args = vec!["run", "--rm", "--network", "none"];
        args.extend(flags);
        args.extend([&python, "python3", "-c", program]);
        let mut terminal = Terminal::start(&engine.command(&args), 24, 80);
        terminal.expect("refused 2");
        assert!(!terminal.screen().contains("typed into"), "{}", terminal.screen());
        terminal.wait();
    }
}

#[test]
fn mounts_are_nosuid_and_nodev_where_they_can_be() {
    let engine = engine!();
    let dir = engine.folder("dir");
    let text = engine.sh(
        &["-v", &format!("{dir}:/bind"), "-v", "volume:/volume", "--tmpfs", "/tmpfs"],
        "cat /proc/self/mountinfo",
    );
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (place, options) = (words[4], words[5]);
        let has = |option: &str| options.split(',').any(|o| o == option);
        if matches!(
            place,
            "/proc"
                | "/sys"
                | "/dev/mqueue"
                | "/dev/shm"
                | "/bind"
                | "/volume"
                | "/tmpfs"
                | "/dev"
                | "/dev/pts"
        ) {
            assert!(has("nosuid"), "{line}");
        }
        if matches!(place, "/proc" | "/sys" | "/dev/mqueue" | "/dev/shm" | "/bind" | "/volume" | "/tmpfs") {
            assert!(has("nodev"), "{line}");
        }
        if matches!(place, "/proc" | "/sys" | "/dev/mqueue" | "/dev/shm" | "/dev/pts") {
            assert!(has("noexec"), "{line}");
        }
    }
}

#[test]
fn lines_cannot_be_smuggled_into_files_of_the_container() {
    let mut engine = engine!();
    let image = tiny();
    for flags in [
        ["-h", "box\n192.0.2.1 bank.example"],
        ["-h", "a/b"],
        ["--add-host", "x:192.0.2.1\n192.0.2.2 bank.example"],
        ["--add-host", "x y:192.0.2.1"],
        ["--dns", "192.0.2.1\nnameserver 192.0.2.2"],
        ["--dns-search", "a\nnameserver 192.0.2.2"],
        ["-u", "root\nx"],
    ] {
        let output = engine.run(&["run", "--rm", flags[0], flags[1], &image, "true"]);
        assert!(matches!(output.code, 125 | 126), "{flags:?}: {output}");
    }
    // The user's name is written into /etc/passwd under keep-id.
    engine.set("USER", "x:x:0:0::/:/bin/sh\nintruder");
    engine.set("LOGNAME", "x:x:0:0::/:/bin/sh\nintruder");
    let output = engine.try_sh(&["--userns", "keep-id"], "cat /etc/passwd");
    assert!(!output.stdout.contains("intruder"), "{output}");
}

#[test]
fn an_environment_of_the_image_does_not_reach_the_engine() {
    let engine = engine!();
    let victim = Victim::new(&engine);
    let variables = [
        "LD_PRELOAD=/evil.so",
        "PATH=/evil:/bin",
        &format!("CORACLE_ROOT={}", victim.path),
        "=",
        "NO_EQUALS",
        "A=b=c",
    ];
    let image = Image::tiny_with(vec![]).with("Env", serde_json::json!(variables));
    let output = run_image(&engine, &image, &[], "echo $A");
    assert!(output.stdout == "b=c\n" || output.code == 125, "{output}");
    victim.is_untouched();
}
