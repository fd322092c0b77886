//! A procfs that nobody can have put something over.

use super::root::has_openat2;
use super::walk;
use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The inode of a procfs's own root (the kernel's `PROC_ROOT_INO`).
const PROC_ROOT_INODE: u64 = 1;

/// A procfs to write sysctls, labels and id maps with. Every file it opens is on procfs itself.
#[derive(Debug)]
pub struct TrustedProc {
    root: OwnedFd,
}

impl TrustedProc {
    /// A new mount of the caller's PID namespace that only this descriptor leads to. Where the kernel refuses it
    /// (before 5.2, without CAP_SYS_ADMIN, or in a container whose /proc is masked), the mounted /proc, if it is the
    /// root of a procfs.
    pub fn new() -> io::Result<Self> {
        Ok(Self { root: private_mount().or_else(|_| checked_mount(Path::new("/proc")))? })
    }

    /// Opens `path`, relative to the procfs's root: `sys/net/ipv4/ip_forward`, `self/attr/exec`. Never through a
    /// magic link (`self/fd/1`), a mount above procfs, or out of it.
    pub fn open(&self, path: impl AsRef<Path>, flags: OFlags) -> io::Result<OwnedFd> {
        let path = path.as_ref();
        if path.is_absolute() {
            return Err(Errno::XDEV.into());
        }
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = if has_openat2() {
            let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
            rustix::fs::openat2(&self.root, path, flags, Mode::empty(), inside)?
        } else {
            // Nothing tells us here of a procfs file bound over another one, but those need a mount namespace that
            // an attacker has prepared, and then the private mount is what we have.
            walk::open(self.root.as_fd(), path.as_os_str().as_bytes(), flags, Mode::empty())?
        };
        check_on_procfs(&file)?;
        if rustix::fs::fstat(&file)?.st_dev != rustix::fs::fstat(&self.root)?.st_dev {
            return Err(Errno::XDEV.into());
        }
        Ok(file)
    }

    /// Writes `bytes` to `path` in one write(2), as the files of procfs want it.
    pub fn write(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        let file = self.open(path, OFlags::WRONLY)?;
        match rustix::io::write(&file, bytes)? {
            n if n == bytes.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }
}

fn private_mount() -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(c"proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// The procfs mounted at `path`.
fn checked_mount(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(path, flags, Mode::empty())?;
    check_on_procfs(&root)?;
    match rustix::fs::fstat(&root)?.st_ino {
        PROC_ROOT_INODE => Ok(root),
        _ => Err(io::Error::other(format!("{} is not the root of a procfs", path.display()))),
    }
}

fn check_on_procfs(file: &OwnedFd) -> io::Result<()> {
    match rustix::fs::fstatfs(file)?.f_type {
        PROC_SUPER_MAGIC => Ok(()),
        _ => Err(io::Error::other("the file is not on procfs")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;

    fn both() -> Vec<TrustedProc> {
        let mounted = TrustedProc { root: checked_mount(Path::new("/proc")).unwrap() };
        vec![TrustedProc::new().unwrap(), mounted]
    }

    #[test]
    fn files_of_procfs_are_read() {
        for proc in both() {
            let mut text = String::new();
            File::from(proc.open("self/comm", OFlags::RDONLY).unwrap()).read_to_string(&mut text).unwrap();
            assert!(!text.is_empty());
            proc.open("sys/kernel", OFlags::RDONLY | OFlags::DIRECTORY).unwrap();
        }
    }

    #[test]
    fn a_write_arrives_whole() {
        for proc in both() {
            proc.write("thread-self/comm", b"trusted").unwrap();
            assert_eq!(std::fs::read_to_string("/proc/thread-self/comm").unwrap(), "trusted\n");
        }
    }

    #[test]
    fn magic_links_absolute_paths_and_dots_do_not_lead_out() {
        for proc in both() {
            for path in
                ["self/root", "self/cwd/x", "self/fd/0", "self/ns/mnt", "/proc/self/comm", "../etc/passwd"]
            {
                assert!(proc.open(path, OFlags::RDONLY).is_err(), "{path}");
            }
        }
    }

    #[test]
    fn a_directory_that_is_no_procfs_root_is_refused() {
        for path in ["/", "/tmp", "/proc/self", "/proc/sys", "/nonexistent"] {
            assert!(checked_mount(Path::new(path)).is_err(), "{path}");
        }
    }
}
