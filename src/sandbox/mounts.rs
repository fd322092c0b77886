//! Carries out the steps of a [`super::plan`] in the container's own mount namespace.
//!
//! Every mount is made as a descriptor and put onto a target that is held by a descriptor found below the root's
//! ([`Root`]): nothing in the image, a `/dev` that is a symbolic link to `/`, say, can move a mount elsewhere
//! (CVE-2021-30465 and its descendants).

use super::plan::{Kind, Step};
use super::{Error, Mount, MountAttributes, Propagation, Source};
use crate::kernel::mount::mount_setattr;
use crate::rooted_fs::Root;
use nix::libc;
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The devices that every container has, with their numbers (Linux devices.txt).
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];
const NOSUID: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID;
const NODEV: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;
const NOEXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOEXEC;
const RDONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;

/// A root being furnished.
pub(super) struct Furnisher {
    root: Root,
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

impl Furnisher {
    /// Puts the mounted union on `place` (any folder: it is covered in this mount namespace alone).
    pub(super) fn new(union: OwnedFd, place: &Path) -> Result<Self> {
        let place =
            rustix::fs::open(place, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(Error::step(format!("open {}", place.display())))?;
        attach(union.as_fd(), place.as_fd()).map_err(Error::step("attach the root"))?;
        Ok(Self {
            root: Root::from_fd(union).map_err(Error::step("open the root"))?,
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
            Step::Dev { shm_size, all_devices } => self.dev(*shm_size, *all_devices),
            Step::HostSys => self.host("/sys"),
            Step::HostCgroups => self.host("/sys/fs/cgroup"),
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
            Step::Loopback => {
                crate::kernel::net::loopback_up().map_err(Error::step("set the loopback interface up"))
            }
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

    /// /dev is ours alone from the first mount on, so its inside needs no guarded look-ups.
    fn dev(&mut self, shm_size: u64, all_devices: bool) -> Result<()> {
        let target =
            self.root.create_dir_all("/dev", Mode::from_raw_mode(0o755)).map_err(Error::step("make /dev"))?;
        let options = [("mode", "755".to_owned()), ("size", "64m".to_owned())];
        let dev = new_filesystem("tmpfs", &options, NOSUID | NOEXEC).map_err(Error::step("mount /dev"))?;
        attach(dev.as_fd(), target.as_fd()).map_err(Error::step("mount /dev"))?;
        let dev = dev.as_fd();

        let pts = [("newinstance", String::new()), ("ptmxmode", "0666".into()), ("mode", "0620".into())];
        let shm = [("mode", "1777".into()), ("size", shm_size.to_string())];
        for (name, filesystem, options) in
            [("pts", "devpts", &pts[..]), ("shm", "tmpfs", &shm[..]), ("mqueue", "mqueue", &[][..])]
        {
            let what = || format!("mount /dev/{name}");
            rustix::fs::mkdirat(dev, name, Mode::from_raw_mode(0o755)).map_err(Error::step(what()))?;
            let at = open_at(dev, name).map_err(Error::step(what()))?;
            let attributes = NOSUID | NOEXEC | if name == "pts" { MountAttrFlags::empty() } else { NODEV };
            let mount = new_filesystem(filesystem, options, attributes).map_err(Error::step(what()))?;
            attach(mount.as_fd(), at.as_fd()).map_err(Error::step(what()))?;
        }
        for (name, major, minor) in DEVICES {
            device(dev, name, Some((major, minor))).map_err(Error::step(format!("bind /dev/{name}")))?;
        }
        for (name, target) in LINKS {
            rustix::fs::symlinkat(target, dev, name).map_err(Error::step(format!("link /dev/{name}")))?;
        }
        if all_devices {
            self.all_devices(dev, Path::new("/dev"));
        }
        Ok(())
    }

    /// `--privileged`: what the host's /dev has, as far as this user may see it. One that cannot be bound, or
    /// vanishes meanwhile, is left out.
    fn all_devices(&self, dev: BorrowedFd<'_>, host: &Path) {
        let Ok(entries) = std::fs::read_dir(host) else { return };
        for entry in entries.flatten() {
            use std::os::unix::fs::FileTypeExt;
            let (name, Ok(kind)) = (entry.file_name(), entry.file_type()) else { continue };
            let Some(name) = name.to_str() else { continue };
            if kind.is_char_device() || kind.is_block_device() {
                let standard = DEVICES.iter().any(|d| d.0 == name) || ["console", "ptmx"].contains(&name);
                if !standard || host != Path::new("/dev") {
                    let _ = device_from(dev, &entry.path(), name, None);
                }
            } else if kind.is_dir()
                && !["pts", "shm", "mqueue", "fd"].contains(&name)
                && rustix::fs::mkdirat(dev, name, Mode::from_raw_mode(0o755)).is_ok()
                && let Ok(below) = open_at(dev, name)
            {
                self.all_devices(below.as_fd(), &entry.path());
            }
        }
    }

    /// Shows a part of the host, read-only.
    fn host(&mut self, at: &str) -> Result<()> {
        let mount = Mount {
            source: Source::Bind { path: at.into(), recursive: true },
            destination: at.into(),
            attributes: MountAttributes { read_only: true, no_exec: true, ..Default::default() },
        };
        self.mount(&mount)
    }

    fn mount(&mut self, mount: &Mount) -> Result<()> {
        let at = mount.destination.as_str();
        match &mount.source {
            Source::Bind { path, recursive } => {
                let what = || format!("mount {} on {at}", path.display());
                let tree = clone_tree(CWD, path, *recursive).map_err(Error::step(what()))?;
                let stat = rustix::fs::fstat(&tree).map_err(Error::step(what()))?;
                set_attributes(&tree, mount.attributes, *recursive).map_err(Error::step(what()))?;
                let target = if file_type(&stat) == FileType::Directory {
                    self.root.create_dir_all(at, Mode::from_raw_mode(0o755))
                } else {
                    self.root.create_file(at, Mode::from_raw_mode(0o644))
                };
                attach(tree.as_fd(), target.map_err(Error::step(what()))?.as_fd())
                    .map_err(Error::step(what()))
            }
            Source::Tmpfs { size, mode } => {
                let what = || format!("mount a tmpfs on {at}");
                let target =
                    self.root.create_dir_all(at, Mode::from_raw_mode(0o755)).map_err(Error::step(what()))?;
                let mut options = vec![("mode", format!("{mode:o}"))];
                options.extend(size.map(|bytes| ("size", bytes.to_string())));
                let tmpfs = new_filesystem("tmpfs", &options, MountAttrFlags::empty())
                    .map_err(Error::step(what()))?;
                set_attributes(&tmpfs, mount.attributes, false).map_err(Error::step(what()))?;
                attach(tmpfs.as_fd(), target.as_fd()).map_err(Error::step(what()))
            }
        }
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
    let mut furnisher = Furnisher::new(union, place)?;
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

/// Makes a terminal from the container's own devpts. What is opened is checked to be that, since in a running
/// container its root may have put something else there (CVE-2025-52565); the slave comes from the master by
/// ioctl, not by name.
pub(super) fn make_terminal(root: &Root) -> io::Result<Terminal> {
    use rustix::pty::OpenptFlags;
    const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;
    let master =
        root.open("/dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::fstat(&master)?;
    let on_devpts = u64::try_from(rustix::fs::fstatfs(&master)?.f_type) == Ok(DEVPTS_SUPER_MAGIC);
    if !on_devpts || stat.st_rdev != rustix::fs::makedev(5, 2) {
        return Err(io::Error::other("/dev/pts/ptmx in the container is not a terminal multiplexer"));
    }
    rustix::pty::unlockpt(&master)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )?;
    Ok(Terminal { master, slave })
}

/// A new file system, attached to nothing.
fn new_filesystem(name: &str, options: &[(&str, String)], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
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
fn clone_tree(at: BorrowedFd<'_>, path: impl rustix::path::Arg, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(at, path, flags)?)
}

fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
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

fn open_at(dir: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// Binds a device of the host's /dev into ours.
fn device(dev: BorrowedFd<'_>, name: &str, number: Option<(u32, u32)>) -> io::Result<()> {
    device_from(dev, &Path::new("/dev").join(name), name, number)
}

fn device_from(dev: BorrowedFd<'_>, host: &Path, name: &str, number: Option<(u32, u32)>) -> io::Result<()> {
    let tree = host_device(host, number)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(dev, name, flags, Mode::from_raw_mode(0o600))?;
    attach(tree.as_fd(), target.as_fd())
}

/// A device of the host's /dev as a mount, its kind and number checked on the descriptor.
fn host_device(host: &Path, number: Option<(u32, u32)>) -> io::Result<OwnedFd> {
    let tree = clone_tree(CWD, host, false)?;
    let stat = rustix::fs::fstat(&tree)?;
    let kind = file_type(&stat);
    let right = match number {
        Some((major, minor)) => {
            kind == FileType::CharacterDevice && stat.st_rdev == rustix::fs::makedev(major, minor)
        }
        None => matches!(kind, FileType::CharacterDevice | FileType::BlockDevice),
    };
    if right {
        Ok(tree)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the host's {} is not that device", host.display()),
        ))
    }
}

fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Nothing is there to hide: the kernel or the host does not have it, or not for this user.
fn absent(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES))
}
