//! Files as a tar stream.

use super::tree::{Owner, Tree, TreeOptions};
use super::walk::{Attributes, Sink, Walk};
use super::{Error, Ids, View};
use crate::container::store::Container;
use crate::layers::{self, Entries, Entry, Kind, Limits, TarWriter, Tee};
use crate::rooted_fs::Root;
use crate::state::Paths;
use crate::userns::Identity;
use std::ffi::CString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Puts entries into a tar stream.
struct Archive<W: Write> {
    writer: TarWriter<W>,
    bytes: u64,
}

impl<W: Write> Sink for Archive<W> {
    fn put(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), Error> {
        // docker's archives have none for the top, and times in whole seconds.
        if entry.path.is_empty() {
            return Ok(());
        }
        let written = self.writer.append(entry, content).map_err(Error::io("write", "the archive"))?;
        self.bytes += written;
        Ok(())
    }
}

/// Writes `name` in `dir`, with all below it, as a tar stream in which it is called `to`; how many bytes the files have.
pub fn write_archive(
    view: &View,
    dir: BorrowedFd<'_>,
    name: &CString,
    to: &[u8],
    out: impl Write,
) -> Result<u64, Error> {
    let mut archive = Archive { writer: TarWriter::new(out), bytes: 0 };
    let mut walk = Walk::new(&view.ids, view.single_id, Attributes::Archive);
    walk.copy(dir, name, to, &mut archive)?;
    archive.writer.finish().map_err(Error::io("write", "the archive"))?;
    Ok(archive.bytes)
}

/// Writes a root that is no container's as a tar stream. With `time`, all files have this time, in seconds since 1970.
pub fn write_root(root: &Root, single_id: bool, time: Option<i64>, out: impl Write) -> Result<(), Error> {
    let mut archive = Archive { writer: TarWriter::new(out), bytes: 0 };
    copy_root(root, single_id, time, &mut archive)?;
    archive.writer.finish().map_err(Error::io("write", "the archive"))?;
    Ok(())
}

/// Gives such a root to a sink.
pub fn copy_root(root: &Root, single_id: bool, time: Option<i64>, sink: &mut dyn Sink) -> Result<(), Error> {
    let ids = Ids::default();
    let mut walk = Walk::new(&ids, single_id, Attributes::Archive);
    match time {
        None => walk.copy(root.as_fd(), c".", b"", sink),
        Some(time) => walk.copy(root.as_fd(), c".", b"", &mut Timed { time, sink }),
    }
}

/// Gives all files one time.
struct Timed<'a> {
    time: i64,
    sink: &'a mut dyn Sink,
}

impl Sink for Timed<'_> {
    fn put(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), Error> {
        self.sink.put(&Entry { mtime: (self.time, 0), ..entry.clone() }, content)
    }
}

/// Writes the whole root of a container, without what is mounted in it, as a tar stream.
pub fn export(
    paths: &Paths,
    identity: &Identity,
    container: &Container,
    out: impl Write,
) -> Result<u64, Error> {
    let view = View::bare(paths, identity, container)?;
    write_archive(&view, view.root.as_fd(), &c".".to_owned(), b"", out)
}

/// What a tar stream has beside its files is not kept.
struct Ignored;

impl Tee for Ignored {
    fn raw(&mut self, _: &[u8]) -> Result<(), layers::Error> {
        Ok(())
    }
}

/// Unpacks a tar stream, plain or compressed, into a directory; how many bytes the files have.
pub fn read_archive(input: impl Read, top: OwnedFd, options: TreeOptions) -> Result<(u64, u64), Error> {
    let limits = Limits::default();
    let input = layers::decompress_any(BufReader::new(input)).map_err(|e| Error::archive(&e))?;
    let mut entries = Entries::new(BufReader::with_capacity(256 << 10, input), Ignored, limits);
    let mut tree = Tree::new(top, options)?;
    while let Some(mut entry) = entries.next_entry().map_err(|e| Error::archive(&e))? {
        entry.path = layers::plain_path(&entry.path, &limits).map_err(|e| Error::archive(&e))?;
        if entry.kind == Kind::HardLink {
            entry.link = layers::plain_path(&entry.link, &limits).map_err(|e| Error::archive(&e))?;
        }
        entry
            .xattrs
            .retain(|(name, _)| name.starts_with(b"user.") || name.starts_with(b"security.capability"));
        entry.xattrs.retain(|(name, _)| !layers::is_forged(name));
        let mut data = Data { extents: entry.extents.take(), at: 0, size: entry.size, entries: &mut entries };
        tree.put(&entry, &mut data)?;
    }
    tree.finish()?;
    Ok((tree.bytes, tree.skipped))
}

/// The content of the current entry, with its holes.
struct Data<'a, R> {
    extents: Option<Vec<layers::Extent>>,
    at: u64,
    size: u64,
    entries: &'a mut Entries<R, Ignored>,
}

impl<R: BufRead> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.size - self.at;
        let mut most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if let Some(extents) = &self.extents {
            // Extents are in order and do not overlap.
            let next = extents.iter().find(|e| e.offset + e.length > self.at);
            let hole = next.map_or(left, |e| e.offset.saturating_sub(self.at));
            if hole > 0 {
                most = most.min(usize::try_from(hole).unwrap_or(usize::MAX));
                buffer[..most].fill(0);
                self.at += most as u64;
                return Ok(most);
            }
            let rest = next.map_or(0, |e| e.offset + e.length - self.at);
            most = most.min(usize::try_from(rest).unwrap_or(usize::MAX));
        }
        let data = self.entries.data().map_err(io::Error::other)?;
        let count = most.min(data.len());
        buffer[..count].copy_from_slice(&data[..count]);
        self.entries.consume(count).map_err(io::Error::other)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// Options for what comes out of an archive into a container: the owners that it says, or the container's root.
pub(super) fn into_container(view: &View, keep: bool, overwrite: bool) -> TreeOptions {
    TreeOptions {
        owner: if keep { Owner::Kept(view.ids.clone()) } else { root_of(view) },
        single_id: view.single_id,
        plain_modes: false,
        overwrite,
    }
}

/// The container's root as an owner.
pub(super) fn root_of(view: &View) -> Owner {
    let (uid, gid) = view.ids.outside(0, 0).unwrap_or((0, 0));
    Owner::One(uid, gid)
}

/// Whether a path says what is in a directory rather than the directory: `dir/.`, `/`, `..`.
pub(super) fn means_content(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let bytes = path.as_os_str().as_bytes();
    bytes.ends_with(b"/.") || bytes == b"." || path.file_name().is_none()
}
