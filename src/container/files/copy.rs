//! `cp`: what a copy is called and where it goes, as docker has it ([`plan`], pure), and the copying.
//!
//! | source | destination | what happens |
//! |---|---|---|
//! | file | a directory | it comes into it under its own name |
//! | file | anything else, or nothing yet | it takes that name |
//! | directory | a directory | it comes into it under its own name; of `DIR/.` the content alone |
//! | directory | nothing yet | a directory of that name gets the content |
//!
//! A link as the source is copied as such, unless it is to be followed; as the destination, it is always followed.

use super::archive::{into_container, means_content, read_archive, root_of, write_archive};
use super::tree::{Owner, Tree, TreeOptions};
use super::walk::{Attributes, Walk, is_pseudo};
use super::{Error, Ids, View};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{CString, OsStr};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// One end of a copy.
#[derive(Debug)]
pub enum Location<'a> {
    /// A path of the host, seen from the working directory.
    Host(PathBuf),
    /// A path in a container, seen from its root.
    Container(&'a View, PathBuf),
    /// A tar stream: standard input or output.
    Stream,
}

/// How it is copied.
#[derive(Clone, Copy, Debug, Default)]
pub struct CopyOptions {
    /// Files keep their owners. If not said, those of an archive do; other files become the user's on the host and
    /// root's in a container.
    pub archive: Option<bool>,
    /// A link as the source is followed.
    pub follow: bool,
    /// A file may take the place of a directory and the other way round.
    pub overwrite: bool,
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Bytes of files.
    pub bytes: u64,
    /// Devices and sockets, which cannot be copied.
    pub skipped: u64,
}

/// Where a copy goes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Plan {
    /// Into the destination, which is a directory, under this name; an empty name is the content alone.
    Into(Vec<u8>),
    /// Beside the destination's siblings, under its own name.
    As,
    /// Into a directory of the destination's name, which is made.
    Make,
    /// Nowhere.
    Refuse(&'static str),
}

/// What there is under a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Directory,
    Other,
}

/// Decides. `source` is the path as typed.
fn plan(source: &Path, is_directory: bool, destination: &Path, found: Found, overwrite: bool) -> Plan {
    let name = || source.file_name().unwrap_or_default().as_bytes().to_vec();
    let wants_directory = ends_like_directory(destination);
    match (is_directory, found) {
        (true, Found::Directory) if means_content(source) => Plan::Into(Vec::new()),
        (_, Found::Directory) => Plan::Into(name()),
        (true, Found::Nothing) => Plan::Make,
        (true, Found::Other) if overwrite && !wants_directory => Plan::As,
        (true, Found::Other) => Plan::Refuse("cannot copy a directory to something that is none"),
        (false, Found::Nothing) if wants_directory => Plan::Refuse("no such directory"),
        (false, Found::Other) if wants_directory => Plan::Refuse("not a directory"),
        (false, _) => Plan::As,
    }
}

/// Whether a path can be a directory's only: it ends with a slash or a dot.
fn ends_like_directory(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b"/") || means_content(path)
}

/// Copies. At least one end is in a container.
pub fn copy(
    from: &Location<'_>,
    to: &Location<'_>,
    options: CopyOptions,
    stdin: impl Read,
    stdout: impl Write,
) -> Result<Copied, Error> {
    match (from, to) {
        (Location::Container(view, path), Location::Stream) => {
            let source = Source::open(from, path, options.follow)?;
            let name =
                if means_content(path) { b"." } else { path.file_name().unwrap_or_default().as_bytes() };
            // docker's: the content of a directory is called `./…`.
            let bytes = write_archive(view, source.dir.as_fd(), &source.name, name, stdout)?;
            Ok(Copied { bytes, skipped: 0 })
        }
        (Location::Stream, Location::Container(view, path)) => {
            view.refuse_absent(&Path::new("/").join(path))?;
            let top = open(to, path, OFlags::PATH | OFlags::DIRECTORY).map_err(|e| match e {
                Errno::NOTDIR => Error::refused(path, "an archive can only be unpacked into a directory"),
                e => missing(to, path, e),
            })?;
            let options = into_container(view, options.archive.unwrap_or(true), options.overwrite);
            let (bytes, skipped) = read_archive(stdin, top, options)?;
            Ok(Copied { bytes, skipped })
        }
        (Location::Stream, _) | (_, Location::Stream) => {
            Err(Error::refused("-", "a tar stream can only come from or go into a container"))
        }
        (from, to) => copy_tree(from, to, options),
    }
}

fn copy_tree(from: &Location<'_>, to: &Location<'_>, options: CopyOptions) -> Result<Copied, Error> {
    let (source_path, path) = (path_of(from), path_of(to));
    if let Location::Container(view, _) = to {
        view.refuse_absent(&Path::new("/").join(path))?;
    }
    let source = Source::open(from, source_path, options.follow)?;
    let found = match open(to, path, OFlags::PATH) {
        Ok(fd) => match kind(&fd).map_err(Error::io("read", path))? {
            FileType::Directory => Found::Directory,
            FileType::RegularFile => Found::Other,
            _ => return Err(Error::refused(path, "it is a device, pipe or socket, which no file replaces")),
        },
        Err(Errno::NOENT) => Found::Nothing,
        Err(e) => return Err(missing(to, path, e)),
    };
    let plan = plan(source_path, source.is_directory, path, found, options.overwrite);
    let directory = |path: &Path| {
        let opened = open(to, path, OFlags::PATH | OFlags::DIRECTORY);
        opened.map_err(|e| missing(to, path, e))
    };
    let (top, name) = match &plan {
        Plan::Refuse(why) => return Err(Error::refused(path, why)),
        Plan::Into(name) => (directory(path)?, name.clone()),
        Plan::As | Plan::Make => {
            let (parent, name) = resolve_last(to, path)?;
            (parent, name)
        }
    };
    if source.is_directory && is_within(&top, &source.dir) {
        return Err(Error::refused(path, "a directory cannot be copied into itself"));
    }
    let tree_options = TreeOptions {
        owner: match (to, options.archive.unwrap_or(false)) {
            (Location::Container(view, _), false) => root_of(view),
            // The user is root of their own namespace.
            (_, false) => Owner::One(0, 0),
            (_, true) => Owner::Kept(numbers(to, from)),
        },
        single_id: match (to, from) {
            (Location::Container(view, _), _) => view.single_id,
            (_, Location::Container(view, _)) => view.single_id,
            _ => false,
        },
        plain_modes: matches!(to, Location::Host(_)) && !options.archive.unwrap_or(false),
        overwrite: options.overwrite,
    };
    let ids = numbers(from, to);
    let single_id = matches!(from, Location::Container(view, _) if view.single_id);
    let mut walk = Walk::new(&ids, single_id, Attributes::All);
    let mut tree = Tree::new(top, tree_options)?;
    walk.copy(source.dir.as_fd(), &source.name, &name, &mut tree)?;
    tree.finish()?;
    Ok(Copied { bytes: tree.bytes, skipped: tree.skipped + walk.skipped })
}

/// The numbers in which owners go from `this` end to the other: a container's own if they go from container to container,
/// else those of the user's namespace, which the host and the container have in common.
fn numbers(this: &Location<'_>, other: &Location<'_>) -> Ids {
    match (this, other) {
        (Location::Container(view, _), Location::Container(..)) => view.ids.clone(),
        _ => Ids::default(),
    }
}

fn path_of<'a>(location: &'a Location<'_>) -> &'a Path {
    match location {
        Location::Host(path) | Location::Container(_, path) => path,
        Location::Stream => Path::new("-"),
    }
}

/// What is copied: a name in a held directory.
struct Source {
    dir: OwnedFd,
    name: CString,
    is_directory: bool,
}

impl Source {
    fn open(from: &Location<'_>, path: &Path, follow: bool) -> Result<Self, Error> {
        let flags = OFlags::PATH;
        let opened = match (follow || ends_like_directory(path), path.file_name()) {
            // The link itself.
            (false, Some(_)) => open(from, path, flags | OFlags::NOFOLLOW),
            _ => open(from, path, flags),
        };
        let opened = opened.map_err(|e| missing(from, path, e))?;
        if matches!(from, Location::Container(..))
            && is_pseudo(opened.as_fd()).map_err(Error::io("read", path))?
        {
            return Err(Error::refused(path, "the files of /proc, /sys and the like cannot be copied"));
        }
        if kind(&opened).map_err(Error::io("read", path))? == FileType::Directory {
            return Ok(Self { dir: opened, name: c".".to_owned(), is_directory: true });
        }
        if ends_like_directory(path) {
            return Err(Error::refused(path, "not a directory"));
        }
        let (dir, name) = if follow { resolve_last(from, path)? } else { parent_of(from, path)? };
        let name = CString::new(name).map_err(|e| Error::io("read", path)(io::Error::from(e)))?;
        Ok(Self { dir, name, is_directory: false })
    }
}

/// The directory that a path's last name is in, and that name.
fn parent_of(location: &Location<'_>, path: &Path) -> Result<(OwnedFd, Vec<u8>), Error> {
    let name = path.file_name().ok_or_else(|| Error::refused(path, "it has no name"))?;
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let opened = open(location, parent, OFlags::PATH | OFlags::DIRECTORY);
    Ok((opened.map_err(|e| missing(location, parent, e))?, name.as_bytes().to_vec()))
}

/// The same for where the name leads: a link is followed for as long as it is one, so that what is put there comes to
/// what it points to. A container that exchanges it afterwards has the copy put in its place, in the same directory.
fn resolve_last(location: &Location<'_>, path: &Path) -> Result<(OwnedFd, Vec<u8>), Error> {
    let mut path = path.to_owned();
    // As many as the kernel follows (path_resolution(7)).
    for _ in 0..40 {
        let (dir, name) = parent_of(location, &path)?;
        let Ok(target) = rustix::fs::readlinkat(&dir, &name[..], Vec::new()) else { return Ok((dir, name)) };
        let parent = path.parent().unwrap_or(Path::new("")).to_owned();
        path = parent.join(OsStr::from_bytes(target.as_bytes()));
    }
    Err(Error::io("follow", &path)(Errno::LOOP))
}

fn open(location: &Location<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC;
    match location {
        Location::Container(view, _) => {
            // An empty path is the root.
            let path = Path::new("/").join(path);
            view.root
                .open(path, flags, Mode::empty())
                .map_err(|e| e.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))
        }
        _ => rustix::fs::openat(CWD, path, flags, Mode::empty()),
    }
}

/// Whether a directory is another one or somewhere below it.
fn is_within(inner: &OwnedFd, outer: &OwnedFd) -> bool {
    let id = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).ok();
    let Ok(mut here) = inner.try_clone() else { return false };
    loop {
        if id(&here) == id(outer) {
            return true;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(&here, c"..", flags, Mode::empty()) {
            Ok(above) if id(&above) != id(&here) => here = above,
            _ => return false,
        }
    }
}

fn kind(fd: &OwnedFd) -> Result<FileType, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

fn missing(location: &Location<'_>, path: &Path, errno: Errno) -> Error {
    if errno != Errno::NOENT {
        return Error::io("open", path)(errno);
    }
    let container = match location {
        Location::Container(view, _) => Some(view.name.clone()),
        _ => None,
    };
    Error::Missing { path: path.to_owned(), container }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_called_and_go_as_dockers() {
        let into = |name: &str| Plan::Into(name.as_bytes().to_vec());
        let refuse = |p: &Plan| matches!(p, Plan::Refuse(_));
        let of = |source: &str, is_directory, destination: &str, found| {
            plan(Path::new(source), is_directory, Path::new(destination), found, false)
        };
        assert_eq!(of("a/f", false, "d", Found::Directory), into("f"));
        assert_eq!(of("a/f", false, "d/", Found::Directory), into("f"));
        assert_eq!(of("a/f", false, "g", Found::Nothing), Plan::As);
        assert_eq!(of("a/f", false, "g", Found::Other), Plan::As);
        assert!(refuse(&of("a/f", false, "g/", Found::Nothing)));
        assert!(refuse(&of("a/f", false, "g/", Found::Other)));
        assert_eq!(of("a/d", true, "e", Found::Directory), into("d"));
        assert_eq!(of("a/d/", true, "e", Found::Directory), into("d"));
        for content in ["a/d/.", ".", "/", "..", "/."] {
            assert_eq!(of(content, true, "e", Found::Directory), into(""), "{content}");
        }
        assert_eq!(of("a/d", true, "e", Found::Nothing), Plan::Make);
        assert_eq!(of("a/d/.", true, "e/", Found::Nothing), Plan::Make);
        assert!(refuse(&of("a/d", true, "e", Found::Other)));
        assert_eq!(plan(Path::new("d"), true, Path::new("e"), Found::Other, true), Plan::As);
    }
}
