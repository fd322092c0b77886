//! Namespaces that are shared: what was asked for is reached, and nothing else.

use crate::cell::{Cell, TINY, is_alive, monitor_of};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

const FLAGS: [&[&str]; 3] = [&[], &["--privileged"], &["--cap-add", "ALL"]];

#[test]
fn with_the_hosts_pid_namespace_its_processes_are_seen_and_not_entered() {
    let cell = Cell::new();
    cell.start("other", &["-e", "SECRET=1"], "sleep 1000");
    let host = cell.host().display().to_string();
    let processes =
        [std::process::id().cast_signed(), cell.engine.pid_of("other"), monitor_of(&cell.engine, "other")];
    for flags in FLAGS {
        for pid in processes {
            let script = format!(
                "test -d /proc/{pid} && echo seen; cd /proc/{pid}; cat root{host}/canary environ mem; ls root cwd; \
                 for f in exe fd/*; do readlink $f; done; \
                 busybox nsenter -t {pid} -m cat {host}/canary; busybox nsenter -t {pid} -U -m cat {host}/canary; echo end"
            );
            let output = cell.run(TINY, &[flags, &["--pid", "host"]].concat(), &script);
            assert_eq!(output.stdout, "seen\nend\n", "{output}");
            assert!(is_alive(pid));
        }
    }
}

#[test]
fn who_joins_a_container_reaches_no_other_and_not_the_host() {
    let cell = Cell::new();
    for name in ["joined", "third"] {
        cell.start(name, &[], "sleep 1000");
    }
    let host = cell.host().display().to_string();
    let (third, monitor) = (cell.engine.pid_of("third"), monitor_of(&cell.engine, "joined"));
    let all = ["--pid", "container:joined", "--ipc", "container:joined", "--uts", "container:joined"];
    for flags in FLAGS {
        let script = format!(
            "for p in /proc/[0-9]*; do cat $p/root{host}/canary; done; kill -9 {third} {monitor} {}; \
             mkdir -p /tmp/m; mount --rbind / /tmp/m && cat /tmp/m{host}/canary; \
             busybox nsenter -t 1 -m -u -i -n cat {host}/canary; cat /proc/sys/kernel/hostname > /dev/null; echo end",
            std::process::id()
        );
        let output = cell.run(TINY, &[flags, &all].concat(), &script);
        assert_eq!(output.stdout, "end\n", "{output}");
        assert!(is_alive(third) && is_alive(monitor));
        // The one that is joined is no more powerful than before.
        let script =
            format!("cat {host}/canary; for p in /proc/[0-9]*; do cat $p/root{host}/canary; done; echo end");
        assert_eq!(cell.engine.run(&["exec", "joined", "sh", "-c", &script]).stdout, "end\n");
    }
    cell.host_is_as_it_was();
}

#[test]
fn where_the_user_has_no_id_root_owns_nothing_of_the_users() {
    let cell = Cell::new();
    let user = std::env::var("USER").unwrap_or_default();
    let subuid = std::fs::read_to_string("/etc/subuid").unwrap_or_default();
    require!(subuid.lines().any(|l| l.starts_with(&format!("{user}:"))), "no subordinate ids");
    let canary = cell.host().join("canary");
    std::fs::set_permissions(&canary, std::fs::Permissions::from_mode(0o604)).unwrap();
    let before = std::fs::metadata(&canary).unwrap();
    let bind = format!("{}:/mnt", cell.host().display());
    for userns in ["auto", "nomap"] {
        for flags in FLAGS {
            let script = "cd /mnt; chown 0 canary && echo chown; chmod 777 canary && echo chmod; touch new && echo new; \
                          rm -f canary 2>/dev/null; echo x >> canary && echo written; stat -c %u canary";
            let output = cell.run(TINY, &[flags, &["--userns", userns, "-v", &bind]].concat(), script);
            assert_eq!(output.stdout, "65534\n", "{output}");
        }
    }
    let after = std::fs::metadata(&canary).unwrap();
    assert_eq!((before.uid(), before.mode(), before.len()), (after.uid(), after.mode(), after.len()));
    cell.host_is_as_it_was();
}
