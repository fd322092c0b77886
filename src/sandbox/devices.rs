//! /dev of a container: a tmpfs with the standard devices, bound one by one from the host's, and those asked for.
//!
//! No device is made (mknod(2) is not for user namespaces). What is bound is checked on its descriptor to be a device, and
//! a standard one to have its number (CVE-2025-31133); whether it may be used is up to the host's modes.

use super::Error;
use super::mounts::{
    Furnisher, NODEV, NOEXEC, NOSUID, attach, clone_tree, file_type, new_filesystem, open_at,
};
use super::plan::Shm;
use super::spec::Device;
use rustix::fs::{CWD, FileType, Mode, OFlags};
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

type Result<T> = std::result::Result<T, Error>;

impl Furnisher<'_> {
    /// /dev is ours alone from the first mount on, so its inside needs no guarded look-ups.
    pub(super) fn dev(&mut self, shm: Shm, host_queues: bool, all_devices: bool) -> Result<()> {
        let target =
            self.root.create_dir_all("/dev", Mode::from_raw_mode(0o755)).map_err(Error::step("make /dev"))?;
        let options = [("mode", "755".to_owned()), ("size", "64m".to_owned())];
        let dev = new_filesystem("tmpfs", &options, NOSUID | NOEXEC).map_err(Error::step("mount /dev"))?;
        attach(dev.as_fd(), target.as_fd()).map_err(Error::step("mount /dev"))?;
        let dev = dev.as_fd();

        let pts = [("newinstance", String::new()), ("ptmxmode", "0666".into()), ("mode", "0620".into())];
        mount_below(dev, "pts", || new_filesystem("devpts", &pts, NOSUID | NOEXEC))?;
        match shm {
            Shm::None => {}
            Shm::Own(size) => {
                let options = [("mode", "1777".into()), ("size", size.to_string())];
                mount_below(dev, "shm", || new_filesystem("tmpfs", &options, NOSUID | NOEXEC | NODEV))?;
            }
            Shm::Host => mount_below(dev, "shm", || clone_tree(CWD, "/dev/shm", true))?,
            Shm::Joined => {
                let shm = self.shm;
                let tree = || match shm {
                    Some(tree) => tree.try_clone(),
                    None => Err(io::ErrorKind::NotFound.into()),
                };
                mount_below(dev, "shm", tree)?;
            }
        }
        match host_queues {
            false => mount_below(dev, "mqueue", || new_filesystem("mqueue", &[], NOSUID | NOEXEC | NODEV))?,
            // They need not be mounted there.
            true if Path::new("/dev/mqueue").is_dir() => {
                mount_below(dev, "mqueue", || clone_tree(CWD, "/dev/mqueue", true))?;
            }
            true => {}
        }
        for (name, major, minor) in DEVICES {
            let host = Path::new("/dev").join(name);
            bind(dev, &host, name, Some((major, minor))).map_err(Error::step(format!("bind /dev/{name}")))?;
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
                    let _ = bind(dev, &entry.path(), name, None);
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

    /// `--device`: one, or each of a folder and those below it.
    pub(super) fn device(&mut self, device: &Device) -> Result<()> {
        let Device { host, path } = device;
        let step = || Error::step(format!("bind the device {} to {path}", host.display()));
        let metadata = std::fs::metadata(host).map_err(step())?;
        if !metadata.is_dir() {
            let tree = host_device(host, None).map_err(step())?;
            let target = match self.root.create_file(path, Mode::from_raw_mode(0o600)) {
                // There is a device already.
                Err(e) if e.raw_os_error() == Some(nix::libc::EINVAL) => self.root.open_path(path),
                other => other,
            };
            return attach(tree.as_fd(), target.map_err(step())?.as_fd()).map_err(step());
        }
        for entry in std::fs::read_dir(host).map_err(step())? {
            use std::os::unix::fs::FileTypeExt;
            let entry = entry.map_err(step())?;
            let kind = entry.file_type().map_err(step())?;
            if kind.is_char_device() || kind.is_block_device() || kind.is_dir() {
                let name = entry.file_name();
                let path = format!("{}/{}", path.trim_end_matches('/'), name.to_string_lossy());
                self.device(&Device { host: entry.path(), path })?;
            }
        }
        Ok(())
    }
}

/// Mounts on a new folder of /dev.
fn mount_below(dev: BorrowedFd<'_>, name: &str, tree: impl Fn() -> io::Result<OwnedFd>) -> Result<()> {
    let what = || format!("mount /dev/{name}");
    rustix::fs::mkdirat(dev, name, Mode::from_raw_mode(0o755)).map_err(Error::step(what()))?;
    let at = open_at(dev, name).map_err(Error::step(what()))?;
    let tree = tree().map_err(Error::step(what()))?;
    attach(tree.as_fd(), at.as_fd()).map_err(Error::step(what()))
}

/// Binds a device of the host into our /dev.
fn bind(dev: BorrowedFd<'_>, host: &Path, name: &str, number: Option<(u32, u32)>) -> io::Result<()> {
    let tree = host_device(host, number)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(dev, name, flags, Mode::from_raw_mode(0o600))?;
    attach(tree.as_fd(), target.as_fd())
}

/// A device of the host's /dev as a mount, its kind and number checked on the descriptor.
pub(super) fn host_device(host: &Path, number: Option<(u32, u32)>) -> io::Result<OwnedFd> {
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
