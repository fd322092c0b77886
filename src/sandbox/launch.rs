//! The last steps of a process in a container, shared by the first one and by those that join: streams, limits,
//! credentials, system call filter, exec.

use super::capabilities::ProcessCapabilities;
use super::init::die_with_parent;
use super::users::{self, ExecUser};
use super::{Channel, Error, Process, ProcessAttributes, SeccompProfile, Stdio, seccomp};
use crate::kernel::{keyring, mount::mount_setattr, process, stub};
use crate::rooted_fs::Root;
use rustix::fs::{Access, AtFlags, CWD, FileType, Gid, Uid};
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};
use rustix::process::Resource;
use rustix::termios::Winsize;
use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;

/// The name under which our binary is process 1 of a container (`--init`).
pub const INIT_NAME: &str = "coracle-init";

/// With a single id nothing can be given to anybody else: what package managers do is answered with success and not
/// done (errno 0 is no error). Filters add up, and of several answers the strictest counts.
const PRETENDED_OWNERSHIP: &str = r#"{
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{
        "names": ["chown", "chown32", "lchown", "lchown32", "fchown", "fchown32", "fchownat", "setgroups", "setgroups32"],
        "action": "SCMP_ACT_ERRNO",
        "errnoRet": 0
    }]
}"#;

/// Everything for the last steps.
pub(super) struct Entry<'a> {
    pub(super) process: &'a Process,
    pub(super) root: &'a Root,
    pub(super) stdio: &'a Stdio,
    /// The terminal, if it has one.
    pub(super) slave: Option<OwnedFd>,
    pub(super) window: Option<Winsize>,
    pub(super) single_id: bool,
    /// Our binary, read-only, if it is to be process 1.
    pub(super) init_binary: Option<OwnedFd>,
    /// Descriptors that the command inherits besides the standard streams.
    pub(super) preserve_fds: &'a [i32],
    pub(super) channel: &'a Channel,
}

/// Turns this process into the command. Returns only if that fails.
pub(super) fn launch(entry: Entry<'_>) -> Error {
    match try_launch(&entry) {
        Ok(never) => match never {},
        Err(e) => e,
    }
}

fn try_launch(entry: &Entry<'_>) -> Result<Infallible, Error> {
    let process = entry.process;
    let user = users::exec_user(entry.root, &process.user)
        .and_then(|user| users::with_groups(entry.root, user, &process.attributes.groups))
        .map_err(|e| Error::User(e.to_string()))?;
    set_streams(entry, &user)?;
    for limit in &process.rlimits {
        set_limit(limit)?;
    }
    set_working_directory(&process.cwd)?;
    process::reset_signals().map_err(Error::step("reset the signals"))?;
    let stub = stub::prepare(entry.channel.number()).map_err(Error::step("prepare the exec"))?;
    let (env, path_variable) = environment(process, &user);
    process::close_on_exec_from(3).map_err(Error::step("close descriptors"))?;
    process::keep_over_exec(entry.preserve_fds).map_err(Error::step("keep the descriptors asked for"))?;
    // The channel lives through the next exec only: the stub, or the init, makes it close-on-exec again.
    rustix::io::fcntl_setfd(entry.channel, rustix::io::FdFlags::empty())
        .map_err(Error::step("keep the channel open"))?;
    let ProcessAttributes { umask, personality, .. } = &process.attributes;
    if let Some(domain) = personality {
        process::set_personality(*domain).map_err(Error::step("set the personality"))?;
    }
    if let Some(umask) = umask {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(*umask));
    }

    if process.seccomp != SeccompProfile::Default {
        // The default filter knows no keys. Without it the caller's session keyring would be the container's too.
        keyring::leave_session().map_err(Error::step("leave the session keyring"))?;
    }
    let compile = |choice| {
        seccomp::filter(choice, process.capabilities).map_err(|e| Error::Step {
            step: "compile the seccomp profile".into(),
            why: e.to_string(),
            errno: 0,
        })
    };
    let mut filters = vec![compile(process.seccomp.choice())?];
    if entry.single_id {
        filters.push(compile(seccomp::Choice::Profile(PRETENDED_OWNERSHIP))?);
    }
    let install = || {
        let mut filters = filters.iter().flatten();
        filters.try_for_each(|filter| filter.install()).map_err(Error::step("install the seccomp filter"))
    };
    if process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).map_err(Error::step("set no_new_privs"))?;
    } else {
        // Without no_new_privs a filter takes CAP_SYS_ADMIN, which is about to go.
        install()?;
    }
    set_credentials(entry, &user)?;
    // After the last change of credentials, which clears it. The container dies with its monitor; one that died
    // before this has closed its end of the channel.
    die_with_parent()?;
    if entry.channel.is_closed() {
        return Err(Error::Vanished);
    }
    if process.no_new_privileges {
        install()?;
    }

    let command = process.args.first().map_or("", String::as_str);
    let strings = |list: &[String]| {
        list.iter().map(|s| CString::new(s.as_str())).collect::<Result<Vec<_>, _>>().map_err(|_| {
            Error::NotExecutable {
                command: command.to_owned(),
                why: "an argument contains a NUL byte".into(),
            }
        })
    };
    let env = strings(&env)?;
    if let (Some(binary), true) = (&entry.init_binary, process.only_waits()) {
        let args = [INIT_NAME.to_owned(), entry.channel.number().to_string()];
        return Err(Error::exec(
            INIT_NAME,
            &process::exec_descriptor(binary.as_fd(), &strings(&args)?, &env),
        ));
    }
    let path = strings(&[find(command, &path_variable)?])?.remove(0);
    let error = match &entry.init_binary {
        None => stub::exec(&stub, &path, &strings(&process.args)?, &env),
        Some(binary) => {
            let mut args = vec![INIT_NAME.to_owned(), entry.channel.number().to_string()];
            args.push(path.to_string_lossy().into_owned());
            args.extend(process.args.iter().cloned());
            process::exec_descriptor(binary.as_fd(), &strings(&args)?, &env)
        }
    };
    Err(Error::exec(command, &error))
}

fn set_streams(entry: &Entry<'_>, user: &ExecUser) -> Result<(), Error> {
    let step = "set up the standard streams";
    if let Some(slave) = &entry.slave {
        rustix::process::ioctl_tiocsctty(slave).map_err(Error::step("take the terminal"))?;
        if let Some(window) = entry.window {
            rustix::termios::tcsetwinsize(slave, window).map_err(Error::step("size the terminal"))?;
        }
        let _ = rustix::fs::fchown(slave, Some(Uid::from_raw(user.uid)), None);
    }
    let Stdio { stdin, stdout, stderr } = entry.stdio;
    for (target, stream) in [(0, stdin), (1, stdout), (2, stderr)] {
        let stream = entry.slave.as_ref().unwrap_or(stream);
        // So that a command that is not root can open /dev/stdout, which is the pipe's inode.
        let is_pipe =
            rustix::fs::fstat(stream).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Fifo);
        if is_pipe {
            let _ = rustix::fs::fchown(stream, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)));
        }
        process::replace_stdio(stream.as_fd(), target).map_err(Error::step(step))?;
    }
    Ok(())
}

fn set_limit(limit: &super::Rlimit) -> Result<(), Error> {
    let step = || Error::step(format!("set the limit {}", limit.name));
    let resource = match limit.name.as_str() {
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        "as" => Resource::As,
        _ => return Err(step()(io::Error::new(io::ErrorKind::InvalidInput, "there is no such limit"))),
    };
    let value = |n: u64| (n != u64::MAX).then_some(n);
    let new = rustix::process::Rlimit { current: value(limit.soft), maximum: value(limit.hard) };
    rustix::process::setrlimit(resource, new).map_err(|e| {
        let most = rustix::process::getrlimit(resource).maximum;
        match most {
            // EPERM: the most that this user may have.
            Some(most) if e == rustix::io::Errno::PERM && limit.hard > most => {
                let asked =
                    if limit.hard == u64::MAX { "no limit".to_owned() } else { limit.hard.to_string() };
                step()(io::Error::other(format!("{asked} is more than the {most} that this user may have")))
            }
            _ => step()(e.into()),
        }
    })
}

/// The working directory, which must be inside: a descriptor that leaked in would be a way out (CVE-2024-21626).
fn set_working_directory(path: &str) -> Result<(), Error> {
    let what = || format!("change to the working directory {path}");
    rustix::process::chdir(path).map_err(Error::step(what()))?;
    // The kernel answers `(unreachable)/…` for a folder that is not below this root (getcwd(2)).
    let inside = rustix::process::getcwd(Vec::new()).is_ok_and(|cwd| cwd.as_bytes().starts_with(b"/"));
    if inside { Ok(()) } else { Err(Error::step(what())(io::Error::other("it is outside of the container"))) }
}

/// The environment, with HOME and TERM where nobody has set them, and the PATH for finding the command.
fn environment(process: &Process, user: &ExecUser) -> (Vec<String>, String) {
    let mut env = process.env.clone();
    let value = |env: &[String], name: &str| {
        env.iter().find_map(|v| v.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    };
    if value(&env, "HOME").is_none() {
        env.push(format!("HOME={}", user.home.as_deref().unwrap_or("/")));
    }
    if process.terminal && value(&env, "TERM").is_none() {
        env.push("TERM=xterm".into());
    }
    let path = value(&env, "PATH").unwrap_or_default();
    (env, path)
}

fn set_credentials(entry: &Entry<'_>, user: &ExecUser) -> Result<(), Error> {
    let process = entry.process;
    let become_user = |e: nix::Error| match e {
        // The kernel's word for an id that the namespace does not have.
        nix::Error::EINVAL => Error::Step {
            step: format!("become user {} ({}:{})", process.user, user.uid, user.gid),
            why: "not all of its ids are among the ids of the container (/proc/self/uid_map)".into(),
            errno: 0,
        },
        e => Error::step("become the user")(e),
    };
    if process.attributes.keep_groups && !entry.single_id {
        // Those of who started the container: outside of its ids, so they show as nobody's inside, and count.
    } else if !entry.single_id {
        let groups: Vec<_> =
            user.additional_gids.iter().map(|gid| nix::unistd::Gid::from_raw(*gid)).collect();
        nix::unistd::setgroups(&groups).map_err(become_user)?;
    } else if user.uid != 0 || user.gid != 0 {
        return Err(Error::Step {
            step: format!("become user {} ({}:{})", process.user, user.uid, user.gid),
            why: "without subordinate ids there is only root in a container".into(),
            errno: 0,
        });
    }
    let capabilities =
        ProcessCapabilities::new(process.capabilities, process.added_capabilities, user.uid == 0);
    capabilities.limit().map_err(Error::step("drop capabilities"))?;
    let gid = nix::unistd::Gid::from_raw(user.gid);
    let uid = nix::unistd::Uid::from_raw(user.uid);
    nix::unistd::setresgid(gid, gid, gid).map_err(become_user)?;
    nix::unistd::setresuid(uid, uid, uid).map_err(become_user)?;
    capabilities.take().map_err(Error::step("set the capabilities"))
}

/// The path of a command: itself if it has a slash, else the first executable file of that name on PATH.
/// Asked with the command's own credentials.
fn find(command: &str, path_variable: &str) -> Result<String, Error> {
    if command.contains('/') {
        return Ok(command.to_owned());
    }
    let not_found = || Error::NotFound { command: command.to_owned() };
    if command.is_empty() {
        return Err(not_found());
    }
    let mut denied = false;
    for dir in path_variable.split(':') {
        let dir = if dir.is_empty() { "." } else { dir };
        let path = format!("{}/{command}", dir.trim_end_matches('/'));
        match rustix::fs::accessat(CWD, path.as_str(), Access::EXEC_OK, AtFlags::EACCESS) {
            Ok(()) => {
                let regular = rustix::fs::stat(path.as_str())
                    .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile);
                if regular {
                    return Ok(path);
                }
            }
            Err(rustix::io::Errno::ACCESS) => denied = true,
            Err(_) => {}
        }
    }
    if denied {
        return Err(Error::NotExecutable { command: command.to_owned(), why: "permission denied".into() });
    }
    Err(not_found())
}

/// Our own binary on a read-only mount that is attached nowhere: as process 1 of a container it can be found
/// at /proc/1/exe, and what is found there cannot be written (CVE-2019-5736).
pub(super) fn own_binary() -> Result<OwnedFd, Error> {
    let step = |e: io::Error| Error::step("prepare the init")(e);
    let replaced = || step(io::Error::other("the program was replaced while it runs; start it again"));
    let exe = Path::new("/proc/self/exe");
    let path = rustix::fs::readlink(exe, Vec::new()).map_err(|e| step(e.into()))?;
    // As the kernel says it of a file whose name is gone (proc_pid_exe(5)).
    if path.as_bytes().ends_with(b" (deleted)") {
        return Err(replaced());
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, path.as_c_str(), flags).map_err(|e| step(e.into()))?;
    let found = rustix::fs::fstat(&tree).map_err(|e| step(e.into()))?;
    let own = rustix::fs::stat(exe).map_err(|e| step(e.into()))?;
    if (found.st_dev, found.st_ino) != (own.st_dev, own.st_ino) {
        return Err(replaced());
    }
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID;
    mount_setattr(&tree, false, attributes, MountAttrFlags::empty(), 0).map_err(step)?;
    Ok(tree)
}

/// Process 1 of a container with `--init`: starts the command, passes signals on to it, reaps orphans, and ends
/// as the command ends. `args` are those of [`Entry`]'s exec: the channel's number, the path, the command line; without these two
/// it only waits to be killed.
pub fn init_main(args: &[std::ffi::OsString]) -> u8 {
    use nix::sys::signal::{SigSet, SigmaskHow, kill, killpg, sigprocmask};
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    use nix::unistd::Pid;
    let [number, command @ ..] = args else { return 125 };
    let Some(channel) =
        number.to_str().and_then(|n| n.parse().ok()).and_then(|n| process::inherited_fd(n).ok())
    else {
        return 125;
    };
    // Only for ps(1).
    let _ = rustix::thread::set_name(c"coracle-init");
    let [path, argv0, rest @ ..] = command else {
        drop(channel);
        loop {
            nix::unistd::pause();
        }
    };
    // std's spawn hands the signal mask on (and resets SIGPIPE), so signals are blocked only after it. Until then
    // none can end us: the kernel drops those with a default action that are sent to a process 1.
    let spawned = std::process::Command::new(path).arg0(argv0).args(rest).process_group(0).spawn();
    let child = match spawned {
        Ok(child) => Pid::from_raw(child.id().cast_signed()),
        Err(e) => {
            let _ = rustix::io::write(&channel, &e.raw_os_error().unwrap_or(0).to_ne_bytes());
            return 127;
        }
    };
    let group = rustix::process::Pid::from_raw(child.as_raw());
    if let Some(group) = group {
        let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), group);
    }
    drop(channel);
    // What was preserved for the command is not ours to keep open.
    let _ = process::close_inherited(&[]);
    let all = SigSet::all();
    if sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), None).is_err() {
        return 125;
    }
    loop {
        use nix::sys::signal::Signal;
        // First, since the command may have ended before its end was waited for.
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == child => {
                    return u8::try_from(code).unwrap_or(255);
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                    return 128u8.saturating_add(u8::try_from(signal as i32).unwrap_or(127));
                }
                // It looked at the terminal before we had made it the foreground's: a shell stops itself then until it is.
                Ok(WaitStatus::Stopped(pid, Signal::SIGTTIN | Signal::SIGTTOU)) if pid == child => {
                    if rustix::termios::tcgetpgrp(rustix::stdio::stdin()).ok() == group {
                        let _ = killpg(child, Signal::SIGCONT);
                    }
                }
                Ok(WaitStatus::StillAlive) | Err(_) => break,
                Ok(_) => {}
            }
        }
        match all.wait() {
            Ok(Signal::SIGCHLD) => {}
            // Sent by the terminal to a session leader that reads or writes in the background.
            Ok(Signal::SIGTTIN | Signal::SIGTTOU) | Err(_) => {}
            Ok(signal) => {
                let _ = kill(child, signal);
            }
        }
    }
}
