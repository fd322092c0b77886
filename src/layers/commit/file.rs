//! What a file of an upper directory says about itself, and how it says that as the store's files do.

use super::super::attributes::{Attributes, OVERRIDE_STAT, Setter, is_forged};
use super::super::tar::{Entry, Kind};
use super::super::{Error, Ownership, path_of};
use super::{CommitOptions, Times, owner_inside, remembered_owner, remembers};
use crate::userns::IdMap;
use rustix::buffer::spare_capacity;
use rustix::fs::{
    AtFlags, Gid, Stat, Uid, chownat, fchown, fgetxattr, fgetxattr_query, flistxattr, flistxattr_query,
    fremovexattr,
};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;

/// A file as the layer has it.
pub(super) struct Description {
    pub(super) entry: Entry,
    /// Hides what the layers below have in it.
    pub(super) opaque: bool,
    /// Is a whiteout in the form of a file.
    pub(super) whiteout: bool,
    /// Attributes that the layer's file does not have.
    pub(super) foreign: Vec<CString>,
    /// The file does not say yet what the entry says.
    differs: bool,
    /// It becomes root's, which the setter takes every new file to be.
    becomes_roots: bool,
    mtime_differs: bool,
}

/// Reads a file's description. Of what cannot be opened `fd` is none: it has no attributes.
pub(super) fn describe(
    fd: Option<BorrowedFd<'_>>,
    stat: &Stat,
    kind: Kind,
    path: Vec<u8>,
    ownership: Ownership,
    options: &CommitOptions<'_>,
) -> Result<Description, Error> {
    // With a single id every file is root's, whatever the number that this process sees.
    let seen = if remembers(ownership) { (0, 0) } else { (stat.st_uid, stat.st_gid) };
    let (uid, gid) = owner_inside(options.maps, seen.0, seen.1);
    let mtime = match options.times {
        Times::Kept => stat.st_mtime,
        Times::ClampedTo(latest) => stat.st_mtime.min(latest),
        Times::SetTo(time) => time,
    };
    let mut described = Description {
        differs: (uid, gid) != seen,
        becomes_roots: (uid, gid) == (0, 0) && seen != (0, 0),
        mtime_differs: (mtime, 0) != (stat.st_mtime, stat.st_mtime_nsec),
        entry: Entry {
            kind,
            path,
            link: Vec::new(),
            mode: stat.st_mode & 0o7777,
            uid,
            gid,
            mtime: (mtime, 0),
            size: if kind == Kind::File { stat.st_size.cast_unsigned() } else { 0 },
            xattrs: Vec::new(),
            extents: None,
        },
        opaque: false,
        whiteout: false,
        foreign: Vec::new(),
    };
    if let Some(fd) = fd {
        let failed = |errno| Error::entry("read an extended attribute of", &described.entry.path)(errno);
        for (name, value) in xattrs(fd).map_err(failed)? {
            described.xattr(name, value, ownership, options.maps)?;
        }
    }
    Ok(described)
}

impl Description {
    fn xattr(
        &mut self,
        name: CString,
        value: Vec<u8>,
        ownership: Ownership,
        maps: Option<(&IdMap, &IdMap)>,
    ) -> Result<(), Error> {
        let entry = &mut self.entry;
        match name.to_bytes() {
            b"user.overlay.opaque" => self.opaque = value == b"y",
            b"user.overlay.whiteout" => self.whiteout = entry.kind == Kind::File && entry.size == 0,
            b"user.overlay.redirect" | b"user.overlay.metacopy" => {
                let why = "overlayfs says by an attribute that its content is elsewhere";
                return Err(Error::Refused { path: path_of(&entry.path), why });
            }
            known if known == OVERRIDE_STAT.as_bytes() && remembers(ownership) => {
                let owner = remembered_owner(&value).unwrap_or((0, 0));
                if owner != (0, 0) {
                    (entry.uid, entry.gid) = owner;
                    self.differs = value != format!("{}:{}:0{:o}", owner.0, owner.1, entry.mode).as_bytes();
                    return Ok(());
                }
            }
            b"security.capability" => {
                if let Some(shifted) = capability(&value, maps) {
                    self.differs |= shifted != value;
                    entry.xattrs.push((name.into_bytes(), shifted));
                    return Ok(());
                }
            }
            users if is_users(users) => {
                entry.xattrs.push((name.into_bytes(), value));
                return Ok(());
            }
            other if other.starts_with(b"user.") || other.starts_with(b"system.posix_acl_") => {}
            // The host's own, such as labels.
            _ => return Ok(()),
        }
        self.foreign.push(name);
        Ok(())
    }

    /// What the layer's file is given.
    pub(super) fn attributes(&self) -> Attributes {
        Attributes::of_own(&self.entry)
    }

    /// Makes a file of the upper directory say of itself what the entry says.
    pub(super) fn settle(
        &self,
        fd: BorrowedFd<'_>,
        setter: &mut Setter,
        keep_opaque: bool,
    ) -> Result<(), Error> {
        let path = &self.entry.path;
        for name in &self.foreign {
            if keep_opaque && name.as_bytes() == b"user.overlay.opaque" {
                continue;
            }
            match fremovexattr(fd, name) {
                Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
                Err(errno) => return Err(Error::entry("remove an extended attribute of", path)(errno)),
            }
        }
        if self.becomes_roots {
            fchown(fd, Some(Uid::ROOT), Some(Gid::ROOT)).map_err(Error::entry("set the owner of", path))?;
        }
        let attributes = self.attributes();
        match (self.differs, self.mtime_differs || self.entry.kind == Kind::Directory) {
            (true, _) => setter.set(fd, &attributes, path),
            // What was removed from a folder has changed its time.
            (false, true) => setter.set_time(fd, &attributes, path),
            (false, false) => Ok(()),
        }
    }

    /// The same for what cannot be opened.
    pub(super) fn settle_at(
        &self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        setter: &mut Setter,
    ) -> Result<(), Error> {
        let path = &self.entry.path;
        if self.becomes_roots {
            chownat(dir, name, Some(Uid::ROOT), Some(Gid::ROOT), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(Error::entry("set the owner of", path))?;
        }
        let with_mode = self.differs && self.entry.kind != Kind::Symlink;
        match self.differs || self.mtime_differs {
            true => setter.set_at(dir, name.to_bytes(), &self.attributes(), with_mode, path),
            false => Ok(()),
        }
    }
}

/// An attribute of the user's that a layer can have.
fn is_users(name: &[u8]) -> bool {
    name.starts_with(b"user.") && !is_forged(name) && !name.contains(&b'=')
}

/// Leaves of a file's attributes what a layer has.
pub(super) fn kept(xattrs: &mut Vec<(Vec<u8>, Vec<u8>)>) {
    xattrs.retain_mut(|(name, value)| match &name[..] {
        b"security.capability" => match capability(value, None) {
            Some(shifted) => {
                *value = shifted;
                true
            }
            None => false,
        },
        users => is_users(users),
    });
}

/// A file's extended attributes, by name.
fn xattrs(fd: BorrowedFd<'_>) -> Result<Vec<(CString, Vec<u8>)>, Errno> {
    // Most files have none: the size is asked for first.
    let size = match flistxattr_query(fd) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
        size => size?,
    };
    let mut list = Vec::with_capacity(size);
    flistxattr(fd, spare_capacity(&mut list))?;
    let mut found = Vec::new();
    for name in list.split_inclusive(|&b| b == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok()) {
        let mut value = match fgetxattr_query(fd, name) {
            Ok(size) => Vec::with_capacity(size),
            Err(Errno::NODATA | Errno::NOTSUP) => continue,
            Err(errno) => return Err(errno),
        };
        if value.capacity() > 0 {
            fgetxattr(fd, name, spare_capacity(&mut value))?;
        }
        found.push((name.to_owned(), value));
    }
    found.sort_unstable();
    Ok(found)
}

/// File capabilities as the image has them. Set in a container whose root is somebody else here, they name him
/// (capabilities(7), "Namespaced file capabilities"); those of the image's root name nobody.
fn capability(value: &[u8], maps: Option<(&IdMap, &IdMap)>) -> Option<Vec<u8>> {
    const REVISION: u32 = 0xff00_0000;
    const REVISION_2: u32 = 0x0200_0000;
    const REVISION_3: u32 = 0x0300_0000;
    const SIZE_2: usize = 20;
    const SIZE_3: usize = 24;
    let number = |at: usize| Some(u32::from_le_bytes(value.get(at..at + 4)?.try_into().ok()?));
    let magic = number(0)?;
    match (magic & REVISION, value.len()) {
        (REVISION_2, SIZE_2) => Some(value.to_vec()),
        (REVISION_3, SIZE_3) => {
            let root = number(SIZE_2)?;
            match maps.map_or(Some(root), |(uids, _)| uids.inside(root))? {
                0 => {
                    let magic = (magic & !REVISION) | REVISION_2;
                    Some([&magic.to_le_bytes()[..], &value[4..SIZE_2]].concat())
                }
                root => Some([&value[..SIZE_2], &root.to_le_bytes()].concat()),
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_of_a_shifted_root_become_the_images_roots() {
        let map = IdMap::parse("1000 0 1\n0 1 1000\n");
        let maps = Some((&map, &map));
        let version_2 = [&0x0200_0001_u32.to_le_bytes()[..], &[7; 16]].concat();
        let version_3 = |id: u32| [&0x0300_0001_u32.to_le_bytes()[..], &[7; 16], &id.to_le_bytes()].concat();
        assert_eq!(capability(&version_2, maps), Some(version_2.clone()));
        assert_eq!(capability(&version_3(1), maps), Some(version_2.clone()));
        assert_eq!(capability(&version_3(0), maps), Some(version_3(1000)));
        assert_eq!(capability(&version_3(9999), maps), None);
        assert_eq!(capability(&version_3(0), None), Some(version_2.clone()));
        for torn in [&version_2[..19], &version_3(0)[..23], &[][..], &[0; 20]] {
            assert_eq!(capability(torn, maps), None);
        }
    }
}
