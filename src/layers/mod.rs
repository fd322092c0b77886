//! The layer store.
//!
//! A layer is the set of changes that one image layer's tar archive describes, unpacked once and shared by all
//! images that have it (DESIGN §5). It is named by its *diff id*, the digest of the uncompressed archive:
//!
//! ```text
//! layers/<hex>/fs/        the files, whiteouts in overlayfs's form: 0/0 device, user.overlay.opaque
//! layers/<hex>/toc.zst    the rest of the archive, so that it can be written again bit for bit
//! layers/<hex>/replaced/  data that the archive itself overwrites; only if there is any
//! layers/<hex>/state      {boot_id, durable, size…}
//! layers/<hex>/packed     the digests of its compressed forms that registries have; only if there are any
//! layers/shifted/          whole images under other owners, made of layers ([`LayerStore::shifted`])
//! ```
//!
//! A layer's life: [`LayerStore::claim`] answers that the layer is there, or, after waiting for whoever else is
//! building it, gives out the one [`Staging`] of it under the layer's lock. [`Staging::unpack`] reads the archive
//! to its end, unpacks it below `staging/`, compares its digest and publishes the whole by one rename. What fails
//! on the way leaves nothing; what is killed leaves a staging folder whose lock nobody holds ([`LayerStore::collect`]).
//!
//! * **Durability** costs no fsync per file: a layer is published as not durable and counts only in the boot that
//!   made it, until [`LayerStore::make_durable`] has synced the file system once for all new layers. A layer that a
//!   power cut overtook is verified against its table, or built again, by the next claim.
//! * **Trust**: an archive is hostile. The unpacker writes only below the layer's root, on descriptors, follows no
//!   link, and refuses what two readers could understand differently.
//! * **Owners** ([`Ownership`]): in the user's namespace with subordinate ids, files get their owners by chown; with
//!   a single id, owners that cannot be given are kept in an extended attribute.
//!
//! What must never happen: a file outside the layer's root touched, a layer visible under a digest that it does not
//! have, a layer unpacked twice at once.

mod attributes;
mod commit;
mod decompress;
mod feed;
mod packed;
mod shifted;
mod store;
mod tar;
#[cfg(test)]
mod testing;
mod toc;
mod unpack;
mod verify;
mod walker;

pub use attributes::{OVERRIDE_STAT, is_forged};
pub use commit::{CommitOptions, CommittedLayer, LayerWriter, Scratch, Take, Times};
pub use decompress::{Decompressed, decompress, decompress_any};
pub use packed::{Compression, Packed};
pub use shifted::ShiftedLayers;
pub use store::{Aside, Claim, LayerStore, Staging};
pub use tar::{Entries, Entry, Extent, Kind, Tee, Writer as TarWriter};
pub use unpack::{Unpacked, plain_path};
pub use walker::{Walker, sorted_names, split};

use crate::diagnose::Diagnose;
use crate::digest::Digest;
use crate::state::FREE_SPACE;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How the owners of an image's files are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// This process is root in a user namespace with subordinate ids (or root): files are chowned.
    Mapped,
    /// Only one id is there. All files are the user's; where the archive says another owner than 0:0, a file or
    /// directory carries `uid:gid:mode` in the attribute `user.containers.override_stat`, as containers-storage
    /// and fuse-overlayfs write and read it. (Links, pipes and devices cannot carry one: the table knows.)
    SingleId,
}

/// What an archive may ask for at most. The defaults are beyond any image in use; they end an attack before the disk
/// or the memory is full of it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Entries and extension headers.
    pub entries: u64,
    /// Bytes of the uncompressed archive, and of any one sparse file with its holes.
    pub bytes: u64,
    /// Bytes of one path.
    pub path: u64,
    /// Bytes of one extended attribute's value.
    pub xattr: u64,
    /// Bytes of memory for what is set at the end only: the names of directories and whiteouts, and the directories'
    /// attributes.
    pub memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 4_000_000, bytes: 1 << 40, path: 4096, xattr: 65_536, memory: 128 << 20 }
    }
}

/// Why a layer could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the store cannot be read or written.
    #[error(transparent)]
    State(#[from] crate::state::Error),
    /// It cannot be found out how the kernel mounts layers.
    #[error(transparent)]
    Union(#[from] crate::union::Error),
    /// The stream broke off or cannot be decompressed.
    #[error("cannot read the layer's archive")]
    Read {
        /// What the reader said.
        #[source]
        source: io::Error,
    },
    /// A compression that no registry uses for layers.
    #[error("layers compressed with {0} are not supported, only gzip and zstd are")]
    Compression(&'static str),
    /// The archive is no valid tar archive.
    #[error("the layer is not a valid tar archive: {what}{}", at(path))]
    Malformed {
        /// What is wrong.
        what: &'static str,
        /// In which entry, where that is known.
        path: Option<PathBuf>,
    },
    /// The archive asks for what no image may do.
    #[error("the layer's entry {path:?} is refused: {why}")]
    Refused {
        /// The entry.
        path: PathBuf,
        /// What it tried.
        why: &'static str,
    },
    /// The archive is larger than allowed.
    #[error("the layer has more than {limit} {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// The most that is allowed.
        limit: u64,
    },
    /// It is a bomb: hardly anything that unpacks to a lot.
    #[error("the layer unpacks to more than {ratio} times its compressed size")]
    Bomb {
        /// How much more than it is compressed to is allowed.
        ratio: u64,
    },
    /// The store's file system cannot hold layers.
    #[error("the file system of {} has no user extended attributes, which layers need", .0.display())]
    NoAttributes(PathBuf),
    /// The archive is not the one that was asked for.
    #[error("the layer's content does not match its digest: expected {expected}, found {found}")]
    Digest {
        /// The diff id asked for.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// The namespace has no id for a file's owner.
    #[error("{what} {id} of {path:?} in the image needs more subordinate ids than you have")]
    Unmapped {
        /// `uid` or `gid`.
        what: &'static str,
        /// The id in the image.
        id: u32,
        /// The file.
        path: PathBuf,
    },
    /// A file of a layer cannot be written or read.
    #[error("cannot {action} {path:?}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Whoever was to get a layer's archive does not take it.
    #[error("cannot pass on the layer's archive")]
    Output {
        /// What the writer said.
        #[source]
        source: io::Error,
    },
    /// A stored file is not what the archive had.
    #[error("the stored layer is damaged at {path:?}")]
    Damaged {
        /// The file in the layer.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// There is no such layer.
    #[error("layer {} is not in the store", .0.short())]
    Missing(Digest),
}

fn at(path: &Option<PathBuf>) -> String {
    path.as_ref().map(|path| format!(" (at {path:?})")).unwrap_or_default()
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

impl Error {
    /// An error of a reader; one of ours that had to pass through [`io::Read`] comes out again.
    fn read(source: io::Error) -> Self {
        source.downcast().unwrap_or_else(|source| Error::Read { source })
    }

    fn io<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Error::Io { action, path: path.to_owned(), source: source.into() }
    }

    fn entry(action: &'static str, path: &[u8]) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Error::Io { action, path: path_of(path), source: errno.into() }
    }

    fn refused(path: &[u8], why: &'static str) -> Self {
        Error::Refused { path: path_of(path), why }
    }
}

impl Diagnose for Error {
    fn fix(&self) -> Option<String> {
        match self {
            Error::State(error) => error.fix(),
            Error::Union(error) => error.fix(),
            Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some(FREE_SPACE.into())
            }
            Error::Unmapped { id, .. } => {
                // A range far from the usual ones: it must not overlap anybody's.
                let range = format!("10000000-{}", 10_000_000 + u64::from(*id));
                Some(format!(
                    "ask the administrator for {} more ids, as 'usermod --add-subuids {range} \
                     --add-subgids {range} USER' gives (if nobody has these in /etc/subuid and /etc/subgid), \
                     then stop all containers and try again",
                    u64::from(*id) + 1
                ))
            }
            Error::Bomb { .. } => Some(
                "if you trust the image, copy it without compression and load that: \
                 'skopeo copy docker://IMAGE docker-archive:FILE', 'coracle load -i FILE'"
                    .into(),
            ),
            Error::NoAttributes(_) => Some(
                "keep the data on ext4, xfs, btrfs or tmpfs (since Linux 6.6): choose another place with --root".into(),
            ),
            Error::Damaged { .. } | Error::Missing(_) => Some("pull the image again".into()),
            Error::Digest { .. } => {
                Some("pull again; if it stays so, the image in the registry is broken".into())
            }
            _ => None,
        }
    }
}
