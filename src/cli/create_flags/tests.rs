//! What the flags of `run` and `create` make of a command line.

use super::super::run::ENTRY;
use super::super::{dispatch, parse::test_host};
use super::*;
use crate::container::request::{MountSource, UsernsMode};

fn asked(words: &[&str]) -> Result<CreateRequest, String> {
    let args = dispatch::parse_for_test(&ENTRY, words).map_err(|e| e.to_string())?;
    request(&args, &test_host()).map_err(|e| e.to_string())
}

#[test]
fn everything_after_the_image_belongs_to_the_container() {
    let request = asked(&["-it", "--rm", "img", "--", "ls", "-it", "--rm=false", "-v", "--help"]).unwrap();
    assert!(request.interactive && request.tty && request.rm);
    assert_eq!(request.image, "img");
    assert_eq!(request.command, ["--", "ls", "-it", "--rm=false", "-v", "--help"]);
    assert_eq!(asked(&["--", "img", "a"]).unwrap().command, ["a"]);
}

#[test]
fn short_flags_combine_and_take_their_values_attached() {
    let request = asked(&["-tie", "A=1", "-eB=2", "-e=C=3", "--env=D=4", "-v/a:/b", "-wi", "img"]);
    assert!(request.unwrap_err().contains("absolute"));
    let request = asked(&["-tie", "A=1", "-eB=2", "--env=D=4", "-v/a:/b", "-w/i", "img"]).unwrap();
    let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
    assert_eq!(request.env, [pair("A", "1"), pair("B", "2"), pair("D", "4")]);
    assert_eq!(request.mounts[0].destination, "/b");
    assert!(request.tty && request.interactive);
}

#[test]
fn switches_take_dockers_truth_values_and_the_last_of_two_counts() {
    let request = asked(&["--rm=false", "-t=true", "--read-only-tmpfs=0", "--name", "a", "--name", "b", "i"]);
    let request = request.unwrap();
    assert!(!request.rm && request.tty && !request.read_only_tmpfs);
    assert_eq!(request.name.as_deref(), Some("b"));
    assert!(asked(&["--rm=maybe", "i"]).is_err());
}

#[test]
fn mounts_keep_their_order_across_flags() {
    let request =
        asked(&["--tmpfs", "/t", "-v", "/a:/b", "--mount", "target=/m", "-v", "data:/d", "img"]).unwrap();
    let places: Vec<_> = request.mounts.iter().map(|m| m.destination.as_str()).collect();
    assert_eq!(places, ["/t", "/b", "/m", "/d"]);
    assert_eq!(request.mounts[2].source, MountSource::AnonymousVolume);
    assert!(asked(&["-v", "/a:/b", "--tmpfs", "/b", "img"]).unwrap_err().contains("duplicate"));
}

#[test]
fn every_flag_reaches_the_request() {
    let request = asked(&[
        "--name=n",
        "--entrypoint=sh",
        "--unsetenv=U",
        "-w=/w",
        "-u=1:2",
        "-h=host",
        "-l=k=v",
        "--userns=keep-id",
        "--net=host",
        "--privileged",
        "--cap-add=sys_time",
        "--cap-drop=ALL",
        "--security-opt=seccomp=unconfined",
        "--read-only",
        "--detach-keys=ctrl-x",
        "--init",
        "--stop-signal=INT",
        "--stop-timeout=5",
        "--ulimit=core=0",
        "--shm-size=1m",
        "--add-host=a:1.1.1.1",
        "--dns=9.9.9.9",
        "--dns-search=x.org",
        "--dns-option=rotate",
        "--log-driver=none",
        "--log-opt=max-file=2",
        "img",
    ])
    .unwrap();
    assert_eq!(request.entrypoint.as_deref(), Some(&["sh".to_owned()][..]));
    assert_eq!((request.unset_env.len(), request.workdir.as_deref()), (1, Some("/w")));
    assert_eq!((request.user.as_deref(), request.hostname.as_deref()), (Some("1:2"), Some("host")));
    assert_eq!(request.labels["k"], "v");
    assert_eq!(request.userns, UsernsMode::KeepId { uid: None, gid: None });
    assert_eq!(request.network, NetworkMode::Host);
    assert!(request.privileged && request.read_only && request.init && request.read_only_tmpfs);
    assert_eq!((request.cap_add, request.cap_drop), (vec!["CAP_SYS_TIME".into()], vec!["ALL".into()]));
    assert_eq!(request.security.seccomp, SeccompChoice::Unconfined);
    assert_eq!(request.detach_keys, [0x18]);
    assert_eq!((request.stop_signal, request.stop_timeout), (Some(2), Some(5)));
    assert_eq!((request.rlimits.len(), request.shm_size), (1, Some(1 << 20)));
    assert_eq!(request.add_hosts.len(), 1);
    assert_eq!(request.dns.servers.len() + request.dns.search.len() + request.dns.options.len(), 3);
    assert_eq!(request.log.max_file, 2);
}

#[test]
fn an_empty_value_is_none() {
    let empty = ["--name=", "-h=", "-w=", "-u=", "--stop-signal=", "--userns=", "--network=", "img"];
    let request = asked(&empty).unwrap();
    assert!(request.name.is_none() && request.hostname.is_none() && request.workdir.is_none());
    assert!(request.user.is_none() && request.stop_signal.is_none());
    assert_eq!((request.userns, request.network), (UsernsMode::Default, NetworkMode::Default));
}

#[test]
fn files_of_variables_come_before_the_flags() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("env");
    fs::write(&file, "A=file\nHOME\n").unwrap();
    let request = asked(&["-e", "A=flag", "--env-file", file.to_str().unwrap(), "img"]).unwrap();
    let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
    assert_eq!(request.env, [pair("A", "file"), pair("HOME", "/home/me"), pair("A", "flag")]);
    assert!(asked(&["--env-file", "/nowhere", "img"]).unwrap_err().contains("cannot read /nowhere"));
}

#[test]
fn flags_that_are_not_there_yet_are_named() {
    for (words, expected) in [
        (&["--restart=always", "img"][..], "--restart is not supported yet"),
        (&["--frobnicate", "img"], "unknown flag: --frobnicate"),
        (&["--name"], "flag needs an argument: --name"),
        (&["-it"], "too few arguments"),
        (&["--network=container:", "img"], "--network container is not supported"),
        (&["--network=web:mtu=1", "img"], "unknown option of a network 'mtu'"),
        (&["--network=web:mac=1", "img"], "'1' is not a hardware address"),
        (&["--ip=10.88.0.2", "img"], "networks that were made by"),
    ] {
        let error = asked(words).unwrap_err();
        assert!(error.contains(expected), "{words:?}: {error}");
    }
}
