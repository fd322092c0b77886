//! `top`: the processes of a container, with nothing of the image's.

use crate::support::{eventually, host, tiny};

#[test]
fn the_processes_are_shown_as_dockers_with_the_hosts_pids() {
    let engine = engine!();
    engine.start_sleeper("t");
    let text = engine.ok(&["top", "t"]);
    let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(lines.next().unwrap(), ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    let first = lines.next().unwrap();
    assert_eq!(
        (first[0], first[1], first[7]),
        ("root", engine.pid_of("t").to_string().as_str(), "sh"),
        "{text}"
    );
    eventually("the sleep is seen", || engine.ok(&["top", "t", "-o", "pid,comm"]).contains("sleep"));
    // Columns are at least as wide as docker's.
    assert!(text.starts_with(&format!("{:20}{:20}PPID", "UID", "PID")), "{text}");
}

#[test]
fn options_of_ps_and_podmans_columns_are_understood() {
    let engine = engine!();
    let command = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";
    engine.start_script("t", &["-u", "alice"], command);
    let pid = engine.pid_of("t").to_string();
    let rows = |args: &[&str]| {
        let text = engine.ok(&[&["top", "t"], args].concat());
        text.lines()
            .map(|line| line.split_whitespace().map(str::to_owned).collect())
            .collect::<Vec<Vec<String>>>()
    };
    assert_eq!(rows(&["aux"])[0][..4], ["USER", "PID", "%CPU", "%MEM"]);
    assert_eq!(rows(&["-eo", "pid,user,args=WHAT"])[0], ["PID", "USER", "WHAT"]);
    assert_eq!(rows(&["-eo", "pid,user,args=WHAT"])[1][..2], [pid.clone(), "alice".into()]);
    // podman's: pids of the container, and of the host where asked for.
    let own = rows(&["pid", "hpid", "user", "huser", "seccomp", "capeff", "state"]);
    let heads: Vec<&str> = own[0].iter().map(String::as_str).collect();
    assert_eq!(heads, ["PID", "HPID", "USER", "HUSER", "SECCOMP", "EFFECTIVE", "CAPS", "STATE"]);
    let uid = engine.ok(&["exec", "t", "id", "-u"]).parse::<u32>().unwrap();
    let subordinate = host("grep \"^$(id -un):\" /etc/subuid | cut -d: -f2").parse::<u32>().unwrap();
    let huser = (subordinate + uid - 1).to_string();
    assert_eq!(own[1], ["1", &pid, "alice", &huser, "filter", "none", "S"]);
    assert_eq!(rows(&["pid,args"])[1][..2], ["1", "sh"]);
    engine.run(&["top", "t", "-Z"]).explains(125, &["-Z", "supported"]);
    engine.run(&["top", "t", "-o", "nope"]).explains(125, &["nope"]);
}

#[test]
fn what_exec_started_is_a_process_of_the_container_and_other_containers_are_not() {
    let engine = engine!();
    engine.start_sleeper("t");
    engine.start_script("other", &[], "exec sleep 4242");
    engine.ok(&["exec", "-d", "t", "sh", "-c", "sleep 1717 & wait"]);
    eventually("the child of what was executed is seen", || {
        engine.ok(&["top", "t", "args"]).contains("sleep 1717")
    });
    let text = engine.ok(&["top", "t"]);
    assert!(!text.contains("4242"), "{text}");
    assert!(
        engine.ok(&["top", "-l", "args"]).contains("1717")
            != engine.ok(&["top", "--latest"]).contains("4242")
    );
}

#[test]
fn a_container_that_does_not_run_has_none() {
    let engine = engine!();
    engine.ok(&["create", "--name", "c", "--network", "none", &tiny(), "true"]);
    engine.run(&["top", "c"]).explains(125, &["not running"]);
    engine.run(&["top", "nobody"]).explains(125, &["nobody"]);
    engine.run(&["top"]).explains(125, &["no container named"]);
}
