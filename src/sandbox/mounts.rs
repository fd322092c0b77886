//! Carries out the steps of a [`super::plan`] in the container's own mount namespace.
//!
//! Every mount is made as a descriptor and put onto a target that is held by a descriptor found below the root's
//! ([`Root`]): nothing in the image, a `/dev` that is a symbolic link to `/`, say, can move a mount elsewhere
//! (CVE-2021-30465 and its descendants).

use super::devices::host_device;
use super::plan::{Kind, Step};
use super::{Error, Mount, MountAttributes, Propagation, Source};
use crate::kernel::mount::mount_setattr;
use crate::rooted_fs::{Root, TrustedProc};
use nix::libc;
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

pub(super) const NOSUID: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID;
pub(super) const NODEV: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;
pub(super) const NOEXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOEXEC;
const RDONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;

/// A root being furnished.
pub(super) struct Furnisher<'a> {
    pub(super) root: Root,
    /// Trees made by others, for [`Source::Ready`].
    ready: &'a [OwnedFd],
    /// The /dev/shm of a container that is joined.
    pub(super) shm: Option<&'a OwnedFd>,
    /// Copies a tree, for tmpfs that begin with what the image has.
    copy: super::CopyTree<'a>,
    /// The one empty read-only folder that hides folders.
    empty: Option<OwnedFd>,
    /// The terminal, once made.
    pub(super) terminal: Option<Terminal>,
}

/// A pseudo-terminal (pty(7)).
pub(super) struct Terminal {
    /// Goes out to who started the container.
    pub(super) master: OwnedFd,
    /// Becomes the standard streams inside.
    pub(super) slave: OwnedFd,
}

type Result<T> = std::result::Result<T, Error>;

impl<'a> Furnisher<'a> {
    /// Puts the mounted union on `place` (any folder: it is covered in this mount namespace alone).
    pub(super) fn new(
        union: OwnedFd,
        place: &Path,
        ready: &'a [OwnedFd],
        shm: Option<&'a OwnedFd>,
        copy: super::CopyTree<'a>,
    ) -> Result<Self> {
        let place =
            rustix::fs::open(place, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(Error::step(format!("open {}", place.display())))?;
        attach(union.as_fd(), place.as_fd()).map_err(Error::step("attach the root"))?;
        Ok(Self {
            root: Root::from_fd(union).map_err(Error::step("open the root"))?,
            ready,
            shm,
            copy,
            empty: None,
            terminal: None,
        })
    }

    /// The root, for what is done to it between the steps.
    pub(super) fn root(&self) -> &Root {
        &self.root
    }

    /// Carries out one step.
    pub(super) fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Filesystem { kind, at } => self.filesystem(*kind, at),
            Step::Dev { shm, host_queues, all_devices } => self.dev(*shm, *host_queues, *all_devices),
            Step::HostProc => self.host_tree("/proc", false),
            Step::HostSys => self.host_tree("/sys", true),
            Step::HostCgroups => self.host_tree("/sys/fs/cgroup", true),
            Step::Device(device) => self.device(device),
            Step::Mount(mount) => self.mount(mount),
            Step::Console => self.console(),
            Step::Mask(path) => self.mask(path).map_err(Error::step(format!("mask {path}"))),
            Step::ReadOnly(path) => {
                self.read_only(path).map_err(Error::step(format!("make {path} read-only")))
            }
            Step::WorkingDirectory(path) => self
                .root
                .create_dir_all(path, Mode::from_raw_mode(0o755))
                .map(drop)
                .map_err(Error::step(format!("make the working directory {path}"))),
            Step::ReadOnlyRoot => mount_setattr(self.root.as_fd(), false, RDONLY, MountAttrFlags::empty(), 0)
                .map_err(Error::step("make the root read-only")),
            Step::Pivot => self.pivot().map_err(Error::step("change the root")),
            Step::Hostname(name) => {
                rustix::system::sethostname(name.as_bytes()).map_err(Error::step("set the host name"))
            }
            Step::Domainname(name) => {
                rustix::system::setdomainname(name.as_bytes()).map_err(Error::step("set the domain name"))
            }
            Step::Sysctl(name, value) => set_sysctl(name, value),
            Step::Loopback => {
                crate::kernel::net::loopback_up().map_err(Error::step("set the loopback interface up"))
            }
            Step::Interfaces(interfaces) => super::interface::set_up(interfaces),
        }
    }

    fn filesystem(&mut self, kind: Kind, at: &str) -> Result<()> {
        let (name, attributes) = match kind {
            Kind::Proc => ("proc", MountAttrFlags::empty()),
            Kind::Sysfs => ("sysfs", RDONLY),
            Kind::SysfsWritable => ("sysfs", MountAttrFlags::empty()),
            Kind::Cgroup => ("cgroup2", RDONLY),
        };
        let what = format!("mount {name} on {at}");
        let mounted = new_filesystem(name, &[], attributes | NOSUID | NODEV | NOEXEC);
        if kind == Kind::Cgroup {
            // No cgroup v2 on this host, or it may not be shown again: then the folder is hidden.
            return match (mounted, self.root.open_path(at)) {
                (Ok(mount), Ok(target)) => attach(mount.as_fd(), target.as_fd()).map_err(Error::step(what)),
                _ => self.mask(at).map_err(Error::step(what)),
            };
        }
        let target =
            self.root.create_dir_all(at, Mode::from_raw_mode(0o755)).map_err(Error::step(what.clone()))?;
        attach(mounted.map_err(Error::step(what.clone()))?.as_fd(), target.as_fd()).map_err(Error::step(what))
    }

    /// A file system of the host that a container without the namespaces behind it cannot mount itself.
    fn host_tree(&mut self, path: &str, read_only: bool) -> Result<()> {
        let mount = Mount {
            source: Source::Bind { path: path.into(), recursive: true },
            destination: path.into(),
            attributes: MountAttributes { read_only, no_exec: true, ..Default::default() },
        };
        self.mount(&mount)
    }

    fn mount(&mut self, mount: &Mount) -> Result<()> {
        let at = mount.destination.as_str();
        let (what, tree, recursive) = match &mount.source {
            Source::Bind { path, recursive } => {
                let what = format!("mount {} on {at}", path.display());
                let tree = clone_tree(CWD, path, *recursive).map_err(Error::step(what.clone()))?;
                (what, tree, *recursive)
            }
            Source::Ready { index } => {
                let what = format!("mount on {at}");
                // The tree itself: a detached one could not be copied before Linux 6.15.
                let tree = self.ready.get(*index).map(OwnedFd::try_clone);
                let tree = tree.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()));
                (what.clone(), tree.map_err(Error::step(what))?, true)
            }
            Source::New { kind, options, .. } => {
                let what = format!("mount a {kind} on {at}");
                let options: Vec<(&str, String)> = options
                    .iter()
                    .map(|option| option.split_once('=').unwrap_or((option, "")))
                    .map(|(key, value)| (key, value.to_owned()))
                    .collect();
                let tree = new_filesystem(kind, &options, MountAttrFlags::empty());
                (what.clone(), tree.map_err(Error::step(what))?, false)
            }
        };
        let step = || Error::step(what.clone());
        if let Source::New { copy_up: true, .. } = &mount.source {
            self.copy_up(at, &tree).map_err(step())?;
        }
        set_attributes(&tree, mount.attributes, recursive).map_err(step())?;
        let target = self.target(&tree, at).map_err(step())?;
        attach(tree.as_fd(), target.as_fd()).map_err(step())
    }

    /// Where in the container a tree goes: made if it is not there, a folder for a folder, and for anything else a file.
    /// What the image has there instead of a file, a device, say, is covered.
    fn target(&self, tree: &OwnedFd, at: &str) -> io::Result<OwnedFd> {
        if file_type(&rustix::fs::fstat(tree)?) == FileType::Directory {
            return self.root.create_dir_all(at, Mode::from_raw_mode(0o755));
        }
        match self.root.create_file(at, Mode::from_raw_mode(0o644)) {
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => self.root.open_path(at),
            other => other,
        }
    }

    /// Fills a new file system with what the image has where it will be.
    fn copy_up(&self, at: &str, tree: &OwnedFd) -> io::Result<()> {
        let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let from = match self.root.open(at, folder, Mode::empty()) {
            Ok(from) => from,
            Err(e) if absent(&e) => return Ok(()),
            Err(e) => return Err(e),
        };
        let to = rustix::fs::openat(tree, ".", folder, Mode::empty())?;
        (self.copy)(&from, &to)
    }

    fn console(&mut self) -> Result<()> {
        let terminal = make_terminal(&self.root).map_err(Error::step("make a terminal"))?;
        let what = "bind /dev/console";
        let number = rustix::pty::ptsname(&terminal.master, Vec::new()).map_err(Error::step(what))?;
        let pts = self.root.open_path(number.to_string_lossy().as_ref()).map_err(Error::step(what))?;
        let same = |a: Stat, b: Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
        let stat = |fd: &OwnedFd| rustix::fs::fstat(fd).map_err(Error::step(what));
        if !same(stat(&terminal.slave)?, stat(&pts)?) {
            return Err(Error::step(what)(io::Error::other("it is not the terminal that was made")));
        }
        let tree = clone_tree(pts.as_fd(), "", false).map_err(Error::step(what))?;
        let target =
            self.root.create_file("/dev/console", Mode::from_raw_mode(0o600)).map_err(Error::step(what))?;
        attach(tree.as_fd(), target.as_fd()).map_err(Error::step(what))?;
        self.terminal = Some(terminal);
        Ok(())
    }

    fn mask(&mut self, path: &str) -> io::Result<()> {
        let target = match self.root.open_path(path) {
            Ok(target) => target,
            Err(e) if absent(&e) => return Ok(()),
            Err(e) => return Err(e),
        };
        if file_type(&rustix::fs::fstat(&target)?) != FileType::Directory {
            // The host's /dev/null, checked by its number each time (CVE-2025-31133).
            return attach(host_device(Path::new("/dev/null"), Some((1, 3)))?.as_fd(), target.as_fd());
        }
        let cover = match &self.empty {
            Some(empty) => clone_tree(empty.as_fd(), "", false)?,
            None => {
                let options = [("size", "0".to_owned()), ("mode", "555".to_owned())];
                new_filesystem("tmpfs", &options, RDONLY | NOSUID | NODEV | NOEXEC)?
            }
        };
        attach(cover.as_fd(), target.as_fd())?;
        self.empty.get_or_insert(cover);
        Ok(())
    }

    fn read_only(&mut self, path: &str) -> io::Result<()> {
        let target = match self.root.open_path(path) {
            Ok(target) => target,
            Err(e) if absent(&e) => return Ok(()),
            Err(e) => return Err(e),
        };
        let tree = clone_tree(target.as_fd(), "", true)?;
        mount_setattr(&tree, true, RDONLY | NOSUID | NODEV | NOEXEC, MountAttrFlags::empty(), 0)?;
        attach(tree.as_fd(), target.as_fd())
    }

    /// pivot_root(2), "`new_root` and `put_old` may be the same directory".
    fn pivot(&mut self) -> io::Result<()> {
        rustix::process::fchdir(self.root.as_fd())?;
        rustix::process::pivot_root(".", ".")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH)?;
        rustix::process::chdir("/")?;
        Ok(())
    }
}

/// The root of a container that does not run, for somebody who looks into it: the union on `place`, a folder that is covered
/// in the caller's own mount namespace, with what is mounted in it. Where nothing may be made, what is mounted on a
/// target that is not there is left out.
pub fn assemble(
    union: OwnedFd,
    place: &Path,
    mounts: &[Mount],
    is_writable: bool,
    is_read_only_root: bool,
) -> Result<Root> {
    let mut furnisher = Furnisher::new(union, place, &[], None, &|_, _| Ok(()))?;
    for mount in mounts {
        if is_writable || furnisher.root.open_path(&mount.destination).is_ok() {
            furnisher.mount(mount)?;
        }
    }
    if is_read_only_root {
        furnisher.step(&Step::ReadOnlyRoot)?;
    }
    Ok(furnisher.root)
}

/// Sets a kernel setting through a procfs that nobody in the container has reached (CVE-2019-19921).
fn set_sysctl(name: &str, value: &str) -> Result<()> {
    let what = || format!("set the sysctl {name}");
    // As sysctl(8): dots separate, and a slash is a dot within a name.
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    let path: String = name.chars().map(swap).collect();
    let proc = TrustedProc::new().map_err(Error::step(what()))?;
    proc.write(format!("sys/{path}"), value.as_bytes()).map_err(Error::step(what()))
}

/// Makes a terminal from the devpts that is the container's /dev/pts. What is opened is checked to be that, since in a
/// running container its root may have put something else there (CVE-2025-52565): not another devpts's multiplexer
/// either, whose terminals have no name in /dev/pts, nor the host's, which finds its devpts beside itself. The slave
/// comes from the master by ioctl, not by name.
pub(super) fn make_terminal(root: &Root) -> io::Result<Terminal> {
    use rustix::pty::OpenptFlags;
    const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;
    let pts = root.open("/dev/pts", OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let other = || io::Error::other("/dev/pts/ptmx in the container is not its own terminal multiplexer");
    let master = match rustix::fs::openat(&pts, "ptmx", flags, Mode::empty()) {
        Err(rustix::io::Errno::LOOP) => return Err(other()),
        opened => opened?,
    };
    let stat = rustix::fs::fstat(&master)?;
    let on_devpts = u64::try_from(rustix::fs::fstatfs(&master)?.f_type) == Ok(DEVPTS_SUPER_MAGIC);
    let on_this_one = stat.st_dev == rustix::fs::fstat(&pts)?.st_dev;
    if !on_devpts || !on_this_one || stat.st_rdev != rustix::fs::makedev(5, 2) {
        return Err(other());
    }
    rustix::pty::unlockpt(&master)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )?;
    Ok(Terminal { master, slave })
}

/// A new file system, attached to nothing.
pub(super) fn new_filesystem(
    name: &str,
    options: &[(&str, String)],
    attributes: MountAttrFlags,
) -> io::Result<OwnedFd> {
    let context = fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC)?;
    // What mount(8) shows first.
    fsconfig_set_string(context.as_fd(), "source", name)?;
    for (key, value) in options {
        if value.is_empty() {
            fsconfig_set_flag(context.as_fd(), *key)?;
        } else {
            fsconfig_set_string(context.as_fd(), *key, value.as_str())?;
        }
    }
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// A copy of a mount, attached to nothing.
pub(super) fn clone_tree(
    at: BorrowedFd<'_>,
    path: impl rustix::path::Arg,
    recursive: bool,
) -> io::Result<OwnedFd> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(at, path, flags)?)
}

pub(super) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target, "", flags)?)
}

fn set_attributes(mount: &OwnedFd, attributes: MountAttributes, recursive: bool) -> io::Result<()> {
    let mut set = MountAttrFlags::empty();
    set.set(RDONLY, attributes.read_only);
    set.set(NOEXEC, attributes.no_exec);
    set.set(NOSUID, !attributes.suid);
    set.set(NODEV, !attributes.dev);
    let propagation = match attributes.propagation {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::Slave => libc::MS_SLAVE,
        Propagation::Shared => libc::MS_SHARED,
    };
    mount_setattr(mount, recursive, set, MountAttrFlags::empty(), propagation)
}

pub(super) fn open_at(dir: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

pub(super) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Nothing is there to hide: the kernel or the host does not have it, or not for this user.
fn absent(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES))
}
