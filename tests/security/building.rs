//! Row 14: what a step of a build mounts comes from where it was named and from nowhere else, and is gone with the step.

use crate::cell::{CANARY, Cell, TINY};
use crate::support::Output;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Builds this in a context.
fn build(cell: &Cell, context: &str, dockerfile: &str, flags: &[&str]) -> Output {
    fs::write(format!("{context}/Dockerfile"), dockerfile).unwrap();
    cell.engine.run(&[&["build", "--no-cache", "--network", "none"], flags, &[context]].concat()).of_build()
}

/// A context with a file, and links to the host of all kinds.
fn context_with_links(cell: &Cell) -> String {
    let context = cell.engine.folder("context");
    fs::create_dir(format!("{context}/folder")).unwrap();
    fs::write(format!("{context}/folder/canary"), "own").unwrap();
    let host = cell.host();
    for (name, target) in [
        ("absolute", host.as_path()),
        ("relative", Path::new("../host")),
        ("folder/up", Path::new("../../../../../../../../../../../../..")),
        ("proc", Path::new("/proc/self/root")),
    ] {
        symlink(target, format!("{context}/{name}")).unwrap();
    }
    symlink(host.join("canary"), format!("{context}/file")).unwrap();
    context
}

/// CVE-2024-23651, CVE-2024-1753.
#[test]
fn links_of_a_context_or_a_stage_do_not_lead_a_bind_mount_out_of_it() {
    let cell = Cell::new();
    let context = context_with_links(&cell);
    let host = cell.host().display().to_string();
    let up = format!("folder/up{host}");
    let sources =
        ["absolute", "absolute/canary", "relative", "relative/canary", "file", "proc", "../host", &up];
    let (mut refused, mut inside) = (0, 0);
    for (stage, from) in [("", ""), ("FROM cell.test/tiny:1 AS made\nCOPY . /in/\n", "from=made,")] {
        for source in sources {
            for access in ["ro", "rw"] {
                let dockerfile = format!(
                    "{stage}FROM {TINY}\nRUN --mount=type=bind,{from}source={}{source},target=/x,{access} \
                     find /x | head; cat /x /x/canary 2>/dev/null; echo forged > /x; echo forged > /x/canary; true\n",
                    if from.is_empty() { "" } else { "in/" }
                );
                let output = build(&cell, &context, &dockerfile, &[]);
                assert!(matches!(output.code, 0 | 1), "{source}: {output}");
                assert!(!output.stdout.contains(CANARY), "{source} shows the host: {output}");
                refused += u32::from(output.code == 1);
                inside += u32::from(output.code == 0);
                cell.host_is_as_it_was();
            }
        }
    }
    assert!(refused > 20, "{refused} {inside}");
    // Links to be found in what is mounted lead to where they would in the container.
    let dockerfile = format!(
        "FROM {TINY}\nRUN --mount=target=/x,rw cat /x/absolute/canary /x/file /x/folder/up{host}/canary; true\n"
    );
    let output = build(&cell, &context, &dockerfile, &[]);
    assert!(!output.stdout.contains(CANARY), "{output}");
    assert_eq!(output.code, 0, "{output}");
    cell.host_is_as_it_was();
}

/// CVE-2024-23652: what is removed after a step is the mount point and nothing that its name has come to mean.
#[test]
fn mount_points_are_taken_back_behind_no_link() {
    let cell = Cell::new();
    let host = cell.host().display().to_string();
    let context = cell.engine.folder("context");
    let dockerfile = format!(
        "FROM {TINY}\nRUN ln -s {host} /link\n\
         RUN --mount=type=tmpfs,target=/link/folder --mount=type=secret,id=s,target=/link/canary \
             --mount=type=tmpfs,target=/a/b/folder true\n\
         RUN --mount=type=tmpfs,target=/a/b/folder mv /a/b /a/old && ln -s {host} /a/b\n\
         RUN --mount=type=cache,target=/c/folder mv /c /old && ln -s {host} /c\n\
         RUN find / -xdev -name folder; ls -d /old /a/old\n"
    );
    let secret = format!("id=s,src={}", cell.engine.file("secret", "s"));
    let output = build(&cell, &context, &dockerfile, &["--secret", &secret]);
    assert_eq!(output.code, 0, "{output}");
    cell.host_is_as_it_was();
}

/// CVE-2024-23651: a cache is written by another build while a path of it is mounted.
#[test]
fn a_cache_in_which_folders_turn_into_links_leads_nowhere() {
    let cell = Cell::new();
    let context = cell.engine.folder("context");
    let host = cell.host().display().to_string();
    let begin = format!(
        "FROM {TINY}\nRUN --mount=type=cache,id=raced,target=/s mkdir /s/d && echo own > /s/d/canary && ln -s {host} /s/l\n"
    );
    let output = build(&cell, &context, &begin, &[]);
    assert_eq!(output.code, 0, "{output}");
    let caches = cell.engine.data().join("build-cache/mounts");
    let cache = fs::read_dir(caches).unwrap().next().unwrap().unwrap().path().join("0/data");
    cell.start_attack("attacker", &["-v", &format!("{}:/s", cache.display())], "swap /s/d /s/l");
    let mount = format!(
        "FROM {TINY}\nRUN --mount=type=cache,id=raced,source=d,target=/m cat /m/canary; echo forged > /m/canary; ls /m\n"
    );
    let (mut mounted, mut refused) = (0, 0);
    for round in 0..30 {
        let output = build(&cell, &context, &mount, &[]);
        assert!(matches!(output.code, 0 | 1), "round {round}: {output}");
        assert!(!output.stdout.contains(CANARY), "round {round}: {output}");
        mounted += u32::from(output.code == 0);
        refused += u32::from(output.code == 1);
        cell.host_is_as_it_was();
    }
    assert!(mounted > 0 && refused > 0, "{mounted} {refused}");
    assert_eq!(cell.engine.inspect("attacker", "{{.State.Running}}"), "true", "the attack had ended");
}

/// What `.dockerignore` names is not to be had through a bind mount, whatever the step may do.
#[test]
fn what_is_left_out_of_the_context_is_not_under_what_is_mounted() {
    let cell = Cell::new();
    let context = cell.engine.folder("context");
    for (name, text) in
        [(".dockerignore", "key\nfolder/key\n"), ("key", CANARY), ("folder/key", CANARY), ("x", "")]
    {
        let path = Path::new(&context).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    for access in ["ro", "rw"] {
        let dockerfile = format!(
            "FROM {TINY}\nRUN --mount=target=/x,{access} mount -o remount,rw /x; umount /x; rm -f /x/key /x/folder/key; \
             cat /x/key /x/folder/key 2>/dev/null; grep -r {CANARY} /x; find /x -name key; true\n"
        );
        let output = build(&cell, &context, &dockerfile, &["--cap-add", "ALL"]);
        assert_eq!(output.code, 0, "{output}");
        let said: Vec<&str> = output.stdout.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(!said.iter().any(|line| line.contains(CANARY) || line.contains("/key")), "{output}");
        assert_eq!(fs::read_to_string(format!("{context}/key")).unwrap(), CANARY);
    }
}
