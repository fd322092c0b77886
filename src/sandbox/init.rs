//! A container's first process, from the clone to the last exec.

use super::launch::{self, Entry};
use super::mounts::Furnisher;
use super::plan::{Step, plan};
use super::{Channel, Error, Interface, Mount, Process, Spec};
use crate::kernel::process::{self, Child, CloneFlags, Side};
use crate::rooted_fs::Root;
use crate::userns::IdMap;
use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Signal, WaitId, WaitIdOptions, waitid};
use rustix::termios::Winsize;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The streams of a process without a terminal.
#[derive(Debug)]
pub struct Stdio {
    /// Standard input.
    pub stdin: OwnedFd,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
}

/// Copies the contents of a folder into an empty one.
pub type CopyTree<'a> = &'a dyn Fn(&OwnedFd, &OwnedFd) -> std::io::Result<()>;

/// What differs from start to start of one container.
pub struct Hooks<'a> {
    /// Mounts its root, inside, attached to nothing yet.
    pub root: &'a dyn Fn() -> Result<OwnedFd, String>,
    /// Any folder: the root is mounted over it, in the container's mount namespace alone.
    pub place: &'a Path,
    /// More mounts, after those of the spec.
    pub mounts: Vec<Mount>,
    /// Trees that were mounted outside ([`super::outside`]), for [`super::Source::Ready`].
    pub ready: Vec<OwnedFd>,
    /// The container whose namespaces are joined: its first process, verified to be it.
    pub joins: Option<OwnedFd>,
    /// The /dev/shm of that container, if it is shared.
    pub shm: Option<OwnedFd>,
    /// Copies a folder with all that is in it.
    pub copy: CopyTree<'a>,
    /// Descriptors from 3 on that the command gets as they are.
    pub preserved: &'a [OwnedFd],
    /// The id maps of C over U.
    pub maps: (IdMap, IdMap),
    /// Whether U has a single id, so that setgroups(2) is forbidden.
    pub single_id: bool,
    /// The cgroup to start it in, if not its parent's.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Streams; unused with a terminal.
    pub stdio: Stdio,
    /// The terminal's first size.
    pub window: Option<Winsize>,
    /// How the container's own network namespace is connected, if it is: the caller brings the interfaces there, and then
    /// sends one more go.
    pub interfaces: &'a [Interface],
    /// Called inside, as root of C, when the image is mounted and nothing else is yet.
    pub furnish: &'a dyn Fn(&Root) -> Result<(), String>,
}

/// Clones the container's first process, which waits for [`Channel::send_go`]. The caller is root in U, has one thread,
/// and reads what comes from the channel until [`super::FromInit::Running`].
pub fn spawn(spec: &Spec, hooks: &Hooks<'_>) -> Result<(Child, Channel), Error> {
    let (outside, inside) = Channel::pair().map_err(Error::step("make a channel"))?;
    if let Some(other) = &hooks.joins {
        return spawn_beside(spec, hooks, other, outside, inside);
    }
    match process::clone(new_namespaces(spec, hooks), hooks.cgroup)
        .map_err(Error::step("create the container's namespaces"))?
    {
        Side::Child => {
            drop(outside);
            become_init(spec, hooks, &inside)
        }
        Side::Parent(child) => {
            drop(inside);
            for (file, map) in [("uid_map", &hooks.maps.0), ("gid_map", &hooks.maps.1)] {
                fs::write(format!("/proc/{}/{file}", child.pid), map.to_proc()).map_err(|error| {
                    // What is left of a process that was killed belongs to the host's root.
                    let has_ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
                    match waitid(WaitId::PidFd(child.pidfd.as_fd()), has_ended) {
                        Ok(Some(_)) => Error::Vanished,
                        _ => Error::step("write the container's id map")(error),
                    }
                })?;
            }
            Ok((child, outside))
        }
    }
}

/// The namespaces to clone into. The root of a new cgroup namespace would be our own cgroup: where the process is cloned
/// into another, it makes that namespace itself when it is in its place.
fn new_namespaces(spec: &Spec, hooks: &Hooks<'_>) -> CloneFlags {
    let mut namespaces = spec.new_namespaces();
    namespaces.set(CloneFlags::CLONE_NEWCGROUP, !spec.host_cgroup_namespace && hooks.cgroup.is_none());
    namespaces
}

/// In the user namespace of another container, and in those of its namespaces that are asked for: a joiner enters them
/// and clones the first process, as the joiner of [`super::join`] does.
fn spawn_beside(
    spec: &Spec,
    hooks: &Hooks<'_>,
    other: &OwnedFd,
    outside: Channel,
    inside: Channel,
) -> Result<(Child, Channel), Error> {
    let joiner = match process::fork().map_err(Error::step("fork"))? {
        Side::Child => {
            drop(outside);
            let entered = (|| {
                nix::sched::setns(other, spec.joined_namespaces())
                    .map_err(Error::step("join the other container's namespaces"))?;
                process::clone(new_namespaces(spec, hooks) | CloneFlags::CLONE_PARENT, hooks.cgroup)
                    .map_err(Error::step("create the container's namespaces"))
            })();
            match entered {
                Ok(Side::Child) => become_init(spec, hooks, &inside),
                Ok(Side::Parent(child)) => {
                    let _ = inside.send_pid(child.pid);
                    process::exit_now(0)
                }
                Err(error) => {
                    let _ = inside.send_error(&error);
                    process::exit_now(1)
                }
            }
        }
        Side::Parent(joiner) => joiner,
    };
    drop(inside);
    Ok((super::join::adopt(&outside, &joiner)?, outside))
}

fn become_init(spec: &Spec, hooks: &Hooks<'_>, channel: &Channel) -> ! {
    let error = init(spec, hooks, channel);
    let _ = channel.send_error(&error);
    process::exit_now(1)
}

fn init(spec: &Spec, hooks: &Hooks<'_>, channel: &Channel) -> Error {
    let entered = (|| {
        // A monitor that is gone before this has nobody left to say go.
        die_with_parent()?;
        channel.wait_go().map_err(Error::step("wait for the id map"))?;
        set_oom_score(&spec.process)?;
        // Root of C need not be able to see the folder that it is in.
        let binary = if spec.process.init { Some(launch::own_binary()?) } else { None };
        become_root(&spec.process, hooks.single_id)?;
        die_with_parent()?;
        if hooks.cgroup.is_some() && !spec.host_cgroup_namespace {
            nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP)
                .map_err(Error::step("separate the cgroup namespace"))?;
        }
        rustix::process::setsid().map_err(Error::step("make a session"))?;
        // Mounts of the host that come later may appear here, none of ours there.
        rustix::mount::mount_change(
            "/",
            rustix::mount::MountPropagationFlags::DOWNSTREAM | rustix::mount::MountPropagationFlags::REC,
        )
        .map_err(Error::step("separate the mount namespace"))?;
        let step = |step: &str| {
            let step = step.to_owned();
            move |why| Error::Step { step, why, errno: 0 }
        };
        let root = (hooks.root)().map_err(step("mount the container's root"))?;
        let mut furnisher = Furnisher::new(root, hooks.place, &hooks.ready, hooks.shm.as_ref(), hooks.copy)?;
        (hooks.furnish)(furnisher.root()).map_err(|why| Error::Step {
            step: "prepare the volumes".into(),
            why,
            errno: 0,
        })?;
        let mut spec = spec.clone();
        spec.mounts.extend(hooks.mounts.iter().cloned());
        for step in plan(&spec, hooks.interfaces) {
            if matches!(step, Step::Interfaces(_)) {
                channel.wait_go().map_err(Error::step("wait for the network"))?;
            }
            furnisher.step(&step)?;
        }
        if let Some(terminal) = &furnisher.terminal {
            channel.send_terminal(&terminal.master).map_err(Error::step("hand out the terminal"))?;
        }
        Ok((furnisher.terminal.take().map(|t| t.slave), binary))
    })();
    match entered {
        Ok((slave, binary)) => launch::launch(Entry {
            process: &spec.process,
            root: &match Root::open_dir(Path::new("/")) {
                Ok(root) => root,
                Err(e) => return Error::step("open the root")(e),
            },
            stdio: &hooks.stdio,
            slave,
            window: hooks.window,
            single_id: hooks.single_id,
            init_binary: binary,
            preserve_fds: &hooks.preserved.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>(),
            channel,
        }),
        Err(e) => e,
    }
}

/// Lets the kernel end this process with the one that made it (PR_SET_PDEATHSIG). A change of credentials, and the exec of a
/// set-id program, ends that again.
pub(super) fn die_with_parent() -> Result<(), Error> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(Error::step("bind to the monitor"))
}

/// While the process is dumpable, or its files below /proc are not its own.
pub(super) fn set_oom_score(process: &Process) -> Result<(), Error> {
    let Some(score) = process.attributes.oom_score_adj else { return Ok(()) };
    fs::write("/proc/self/oom_score_adj", score.to_string())
        .map_err(Error::step(format!("set the OOM score adjustment to {score}")))
}

/// From here on nobody may look into this process, which still is our own binary (CVE-2016-9962), and it is
/// root of C.
pub(super) fn become_root(process: &Process, single_id: bool) -> Result<(), Error> {
    use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
    // Podman's default, whatever the user's is: it is the command's too.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(Error::step("hide from the container"))?;
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(gid, gid, gid).map_err(Error::step("become root of the container"))?;
    if !single_id && !process.attributes.keep_groups {
        setgroups(&[]).map_err(Error::step("leave the host's groups"))?;
    }
    setresuid(uid, uid, uid).map_err(Error::step("become root of the container"))
}
