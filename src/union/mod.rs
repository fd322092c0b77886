//! The union mount: an image's read-only layers with one writable layer on top.
//!
//! One way so far, the kernel's overlayfs inside the user's namespace ([`mount`]), and one on-disk form: whiteouts
//! are 0/0 character devices, opaque folders and redirects are `user.overlay.*` attributes (`userxattr`).
//!
//! Layers are handed to the kernel as open descriptors, so that no path is looked up twice and none can be too long:
//! as descriptors proper where fsconfig(2) takes them (`lowerdir+`, Linux 6.13, up to 500 layers), else by their
//! numbers as names relative to `/proc/self/fd`, one by one (Linux 6.7) or all in one option of 255 bytes, which are
//! about 80 layers.
//!
//! *Data-only layers* hold file contents for a metadata layer above them, whose files say by attributes where theirs
//! are: so one image can be shown under other owners without a copy of it. [`reads_data_only`] finds out whether
//! the kernel allows that to us.
//!
//! `volatile` is for what is thrown away: without it every file that is copied up costs an fsync.

mod probe;

pub use probe::{METACOPY, REDIRECT, reads_data_only};

use crate::diagnose::Diagnose;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// As many layers as overlayfs joins (fs/overlayfs/params.h, `OVL_MAX_STACK`).
const MOST_LAYERS: usize = 500;
/// Bytes of an option's value (fsconfig(2)).
const MAX_OPTION: usize = 255;

/// What is joined.
#[derive(Clone, Debug)]
pub struct Layers {
    /// Read-only folders, top first. At least one. An image may have a layer twice: see [`mount`].
    pub lower: Vec<PathBuf>,
    /// Folders that only hold file contents for metadata layers among `lower` (overlayfs "data-only layers").
    pub data_only: Vec<PathBuf>,
    /// The writable folder; none makes the whole mount read-only.
    pub upper: Option<Upper>,
}

/// The writable layer. Both folders are on one file system.
#[derive(Clone, Debug)]
pub struct Upper {
    /// What was written.
    pub upper: PathBuf,
    /// Overlayfs's own scratch folder, empty.
    pub work: PathBuf,
    /// Whether a power cut may lose it.
    pub volatile: bool,
}

/// Why there is no union mount.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is known about the kernel cannot be read or kept.
    #[error(transparent)]
    State(#[from] crate::state::Error),
    /// A layer's folder cannot be opened.
    #[error("cannot open layer {}", path.display())]
    Layer {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// More layers than the kernel joins.
    #[error("it has {count} layers, and this kernel can join {most}")]
    TooMany {
        /// So many.
        count: usize,
        /// At most.
        most: usize,
    },
    /// The kernel does not mount it.
    #[error("cannot mount the overlay{}", said.as_ref().map(|s| format!(" ({s})")).unwrap_or_default())]
    Mount {
        /// What overlayfs itself said of it.
        said: Option<String>,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Diagnose for Error {
    fn fix(&self) -> Option<String> {
        match self {
            Error::State(error) => error.fix(),
            Error::Layer { .. } => Some("remove the image and pull it again: 'coracle rmi -f IMAGE'".into()),
            Error::TooMany { .. } => Some(
                "build the image in fewer steps, or make one layer of it ('podman build --squash-all')".into(),
            ),
            Error::Mount { .. } => Some(
                "overlay mounts by ordinary users need Linux 5.11 and a data directory on a local file system with user \
                 extended attributes (ext4, xfs, btrfs, tmpfs): choose one with --root; 'coracle doctor' tells more"
                    .into(),
            ),
        }
    }
}

/// Mounts the union, attached to nothing yet. The caller is root in the user namespace that owns its mount
/// namespace.
///
/// Overlayfs takes no folder twice (ELOOP). Of a layer that is there twice the lower one makes no difference: whatever
/// it has or hides, the upper one has and hides as well.
pub fn mount(layers: &Layers) -> Result<OwnedFd, Error> {
    let (lower, data_only) = (once(&layers.lower), once(&layers.data_only));
    let count = lower.len() + data_only.len();
    if count > MOST_LAYERS {
        return Err(Error::TooMany { count, most: MOST_LAYERS });
    }
    let open = |path: &Path| {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| Error::Layer { path: path.to_owned(), source: e.into() })
    };
    let open_all = |paths: Vec<&PathBuf>| paths.into_iter().map(|p| open(p)).collect::<Result<Vec<_>, _>>();
    let parts = Parts {
        lower: open_all(lower)?,
        data_only: open_all(data_only)?,
        upper: match &layers.upper {
            Some(upper) => Some((open(&upper.upper)?, open(&upper.work)?, upper.volatile)),
            None => None,
        },
    };
    match parts.by_descriptors() {
        // EINVAL: this kernel's overlayfs does not know `lowerdir+`, or takes no descriptors for it. EOPNOTSUPP: it
        // knows no typed options at all (before 6.5). EBADF: fsconfig(2) takes descriptors, but not O_PATH ones (before 6.13).
        Err(Error::Mount { source, .. })
            if matches!(
                source.raw_os_error(),
                Some(nix::libc::EINVAL | nix::libc::EOPNOTSUPP | nix::libc::EBADF)
            ) =>
        {
            match parts.by_names(true) {
                Err(Error::Mount { source, .. }) if source.raw_os_error() == Some(nix::libc::EINVAL) => {
                    parts.by_names(false)
                }
                other => other,
            }
        }
        other => other,
    }
}

/// The first of each.
fn once(paths: &[PathBuf]) -> Vec<&PathBuf> {
    paths.iter().enumerate().filter(|(at, path)| !paths[..*at].contains(path)).map(|(_, path)| path).collect()
}

struct Parts {
    lower: Vec<OwnedFd>,
    data_only: Vec<OwnedFd>,
    upper: Option<(OwnedFd, OwnedFd, bool)>,
}

impl Parts {
    fn by_descriptors(&self) -> Result<OwnedFd, Error> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed)?;
        let fs = context.as_fd();
        let configured = (|| {
            fsconfig_set_string(fs, "source", "overlay")?;
            fsconfig_set_flag(fs, "userxattr")?;
            for layer in &self.lower {
                fsconfig_set_fd(fs, "lowerdir+", layer)?;
            }
            for layer in &self.data_only {
                fsconfig_set_fd(fs, "datadir+", layer)?;
            }
            if let Some((upper, work, volatile)) = &self.upper {
                fsconfig_set_fd(fs, "upperdir", upper)?;
                fsconfig_set_fd(fs, "workdir", work)?;
                if *volatile {
                    fsconfig_set_flag(fs, "volatile")?;
                }
            }
            fsconfig_create(fs)?;
            fsmount(fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        })();
        configured
            .map_err(|e: rustix::io::Errno| Error::Mount { said: kernel_log(&context), source: e.into() })
    }

    /// For kernels before 6.13: names. Relative to `/proc/self/fd` they are the descriptors' numbers. `one_by_one` is
    /// for any number of layers; without, all of their names have to fit into one option.
    fn by_names(&self, one_by_one: bool) -> Result<OwnedFd, Error> {
        rustix::process::chdir("/proc/self/fd").map_err(failed)?;
        let name = |fd: &OwnedFd| fd.as_raw_fd().to_string();
        let join = |fds: &[OwnedFd], with: &str| fds.iter().map(name).collect::<Vec<_>>().join(with);
        let mut all = join(&self.lower, ":");
        if !self.data_only.is_empty() {
            all = format!("{all}::{}", join(&self.data_only, "::"));
        }
        if !one_by_one && all.len() > MAX_OPTION {
            let count = self.lower.len() + self.data_only.len();
            return Err(Error::TooMany { count, most: count * MAX_OPTION / all.len() });
        }
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed)?;
        let fs = context.as_fd();
        let configured = (|| {
            fsconfig_set_string(fs, "source", "overlay")?;
            fsconfig_set_flag(fs, "userxattr")?;
            if one_by_one {
                for layer in &self.lower {
                    fsconfig_set_string(fs, "lowerdir+", name(layer).as_str())?;
                }
                for layer in &self.data_only {
                    fsconfig_set_string(fs, "datadir+", name(layer).as_str())?;
                }
            } else {
                fsconfig_set_string(fs, "lowerdir", all.as_str())?;
            }
            if let Some((upper, work, volatile)) = &self.upper {
                fsconfig_set_string(fs, "upperdir", name(upper).as_str())?;
                fsconfig_set_string(fs, "workdir", name(work).as_str())?;
                if *volatile {
                    fsconfig_set_flag(fs, "volatile")?;
                }
            }
            fsconfig_create(fs)?;
            fsmount(fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        })();
        configured
            .map_err(|e: rustix::io::Errno| Error::Mount { said: kernel_log(&context), source: e.into() })
    }
}

fn failed<E: Into<io::Error>>(source: E) -> Error {
    Error::Mount { said: None, source: source.into() }
}

/// The reason that a file system driver left in its context (`e overlay: …`), read back from the descriptor.
fn kernel_log(context: &OwnedFd) -> Option<String> {
    let mut message = [0; 512];
    let n = rustix::io::read(context, &mut message).ok()?;
    let text = String::from_utf8_lossy(&message[..n]);
    Some(text.trim().trim_start_matches("e ").trim_start_matches("overlay: ").to_owned())
        .filter(|t| !t.is_empty())
}
