//! Rows 1 and 2: every path inside a root stays inside, links and races notwithstanding.

use crate::support::image::{Image, Layer};
use crate::support::{Engine, Running, eventually, tiny};
use crate::{SECRET, Victim, run_image};

/// An image in which this name is a symbolic link.
fn with_link(name: &str, target: &str) -> Image {
    let tiny = Layer::tiny().finish();
    // The tiny layer has folders of these names; a later layer replaces them.
    Image::of(vec![tiny, Layer::new().symlink(name, target).finish()])
}

#[test]
fn folders_that_we_mount_on_may_be_links_to_anywhere() {
    for name in ["dev", "proc", "sys", "run", "tmp", "etc"] {
        for up in ["", "../../../../../../.."] {
            let engine = Engine::new();
            let victim = Victim::new(&engine);
            let image = with_link(name, &format!("{up}{}", victim.path));
            let script = format!("cat {}/secret /{name}/secret 2>/dev/null; true", victim.path);
            let output = run_image(&engine, &image, &["--read-only"], &script);
            // It may refuse such an image or run it; it must not follow the link out.
            assert!(!output.stdout.contains(SECRET), "{name} -> {up}: {output}");
            assert!(!output.stderr.contains("panicked"), "{output}");
            victim.is_untouched();
        }
    }
}

#[test]
fn a_dev_that_is_the_root_itself_is_survived() {
    for target in ["/", ".", "..", "/proc/self/root", "/proc/self/cwd", "/proc/1/root"] {
        let engine = Engine::new();
        let victim = Victim::new(&engine);
        let script = format!("cat {} 2>/dev/null; true", victim.join("secret"));
        let output = run_image(&engine, &with_link("dev", target), &[], &script);
        assert!(!output.stdout.contains(SECRET), "{output}");
        victim.is_untouched();
    }
}

#[test]
fn files_that_we_make_may_be_links_to_anywhere() {
    for name in [
        "etc/hosts",
        "etc/resolv.conf",
        "etc/hostname",
        "etc/passwd",
        "etc/group",
        "run/.containerenv",
        ".dockerenv",
    ] {
        for target in ["secret", "made"] {
            let engine = Engine::new();
            let victim = Victim::new(&engine);
            let image = with_link(name, &victim.join(target));
            let output = run_image(
                &engine,
                &image,
                &[],
                &format!("cat /{name} 2>/dev/null; echo evil > /{name}; true"),
            );
            assert!(!output.stdout.contains(SECRET), "{name}: {output}");
            victim.is_untouched();
        }
    }
}

#[test]
fn users_are_not_looked_up_in_the_hosts_files() {
    let engine = Engine::new();
    let users = engine.file("hostpasswd", "intruder:x:0:0::/:/bin/sh\n");
    let image = with_link("etc/passwd", &users);
    let output = run_image(&engine, &image, &["-u", "intruder"], "id -u");
    assert_ne!(output.code, 0, "{output}");
}

#[test]
fn destinations_of_mounts_are_resolved_inside() {
    let engine = Engine::new();
    let victim = Victim::new(&engine);
    let shared = engine.folder("shared");
    let image = Image::tiny_with(vec![
        Layer::new()
            .symlink("direct", &victim.path)
            .symlink("above", &format!("../../../../../..{}", victim.path)),
    ]);
    for link in ["direct", "above"] {
        for flags in [
            ["-v", &format!("{shared}:/{link}/made")],
            ["-v", &format!("{shared}:/{link}")],
            ["--tmpfs", &format!("/{link}/made")],
            ["-v", &format!("volume-{link}:/{link}/made")],
            ["-w", &format!("/{link}/made")],
        ] {
            let output = run_image(
                &engine,
                &image,
                &flags,
                &format!("cat /{link}/secret {}/secret 2>/dev/null; true", victim.path),
            );
            assert!(!output.stdout.contains(SECRET), "{flags:?}: {output}");
            victim.is_untouched();
        }
    }
}

#[test]
fn dots_in_a_destination_do_not_lead_out() {
    let engine = engine!();
    let victim = Victim::new(&engine);
    let shared = engine.folder("shared");
    let destination = format!("/tmp/../../../../../../..{}/made", victim.path);
    let output = engine.try_sh(&["-v", &format!("{shared}:{destination}")], "true");
    assert!(!output.stderr.contains("panicked"), "{output}");
    victim.is_untouched();
}

#[test]
fn volumes_are_filled_from_inside_only() {
    let engine = Engine::new();
    let victim = Victim::new(&engine);
    let image = Image::tiny_with(vec![Layer::new().symlink("data", &victim.path)]);
    let output = run_image(&engine, &image, &["-v", "filled:/data"], "cat /data/secret 2>/dev/null; true");
    assert!(!output.stdout.contains(SECRET), "{output}");
    let image =
        Image::tiny_with(vec![Layer::new().dir("data", 0o755).symlink("data/link", &victim.join("secret"))]);
    let output =
        run_image(&engine, &image, &["-v", "copied:/data"], "test -L /data/link && cat /data/link; true");
    assert!(!output.stdout.contains(SECRET), "{output}");
    victim.is_untouched();
}

/// CVE-2021-30465: one container swaps a folder of a shared volume for a link while another one is started that
/// mounts something below it.
#[test]
fn a_destination_that_is_swapped_meanwhile_does_not_lead_out() {
    let engine = engine!();
    let victim = Victim::new(&engine);
    let shared = engine.folder("shared");
    let inner = engine.folder("inner");
    std::fs::create_dir(format!("{shared}/real")).unwrap();
    std::os::unix::fs::symlink(&victim.path, format!("{shared}/link")).unwrap();
    // Swapped by the host's own hands, which is faster than any container could.
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let swapping = {
        let (stop, shared) = (std::sync::Arc::clone(&stop), shared.clone());
        std::thread::spawn(move || {
            let (a, b) = (format!("{shared}/real"), format!("{shared}/link"));
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let _ = rustix::fs::renameat_with(rustix::fs::CWD, &a, rustix::fs::CWD, &b, flags);
            }
        })
    };
    for _ in 0..60 {
        let flags = [
            "-v",
            &format!("{shared}:/shared"),
            "-v",
            &format!("{inner}:/shared/real/made"),
            "--tmpfs",
            "/shared/real/too",
        ];
        let output = engine.try_sh(&flags, &format!("cat {} 2>/dev/null; true", victim.join("secret")));
        assert!(!output.stdout.contains(SECRET), "{output}");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    swapping.join().unwrap();
    victim.is_untouched();
}

/// The same from within a running container, against `exec -w` and a second container on the same volume.
#[test]
fn a_folder_that_a_container_swaps_does_not_lead_exec_out() {
    let engine = engine!();
    let victim = Victim::new(&engine);
    let script = format!(
        "mkdir -p /w/a; ln -s {} /w/b; echo ready; while :; do mv -T /w/a /w/c; mv -T /w/b /w/a; mv -T /w/a /w/b; mv -T /w/c /w/a; done",
        victim.path
    );
    let args = ["run", "-d", "--network", "none", "--name", "swap", &tiny(), "sh", "-c", &script];
    engine.ok(&args);
    eventually("it swaps", || engine.ok(&["logs", "swap"]).contains("ready"));
    let all: Vec<Running> = (0..30)
        .map(|_| Running::start(engine.command(&["exec", "-w", "/w/a", "swap", "cat", "secret"]), b""))
        .collect();
    for running in all {
        assert!(!running.wait().stdout.contains(SECRET));
    }
    victim.is_untouched();
}

#[test]
fn the_root_of_the_host_is_not_below_or_above_the_containers() {
    let engine = engine!();
    let victim = Victim::new(&engine);
    for path in ["", "/proc/1/root", "/proc/self/root", "/../../../..", "/proc/1/cwd/../../.."] {
        let output = engine.try_sh(&[], &format!("cat {path}{}", victim.join("secret")));
        assert!(output.code != 0 && !output.stdout.contains(SECRET), "{output}");
    }
    // What the kernel would show if the old root had only been covered.
    let mounts = engine.sh(&[], "cat /proc/self/mountinfo");
    assert!(!mounts.contains("/oldroot") && !mounts.contains(" /var/tmp"), "{mounts}");
}
