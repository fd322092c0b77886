//! Extended attributes of a shifted file: which it keeps, and the ids in them.

use crate::userns::IdMap;
use rustix::buffer::spare_capacity;
use rustix::fs::{XattrFlags, fgetxattr, fgetxattr_query, flistxattr, flistxattr_query, fsetxattr};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::BorrowedFd;

/// Gives `to` the extended attributes of `from`, as the container shall see them.
pub fn copy_xattrs(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    uids: &IdMap,
    gids: &IdMap,
) -> Result<(), Errno> {
    // Nearly no file has any: the size is asked for first.
    let size = match flistxattr_query(from) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(()),
        size => size?,
    };
    let mut list = Vec::with_capacity(size);
    flistxattr(from, spare_capacity(&mut list))?;
    for name in list.split_inclusive(|&b| b == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok()) {
        if !is_kept(name.to_bytes()) {
            continue;
        }
        let mut value = Vec::with_capacity(fgetxattr_query(from, name)?);
        fgetxattr(from, name, spare_capacity(&mut value))?;
        let shifted = match name.to_bytes() {
            b"security.capability" => capability(&value, uids),
            acl if acl.starts_with(b"system.posix_acl_") => access_list(&value, uids, gids),
            _ => Some(value),
        };
        // One that names an id which the container does not have would let in nobody: it is left out, as it is
        // when a layer is unpacked.
        if let Some(value) = shifted {
            fsetxattr(to, name, &value, XattrFlags::empty())?;
        }
    }
    Ok(())
}

/// Whether an attribute belongs to the file, and not to the layer that it lies in (opaque, whiteout) or to the host (its
/// security labels). What a container itself has set under overlayfs's name is stored with that name twice.
fn is_kept(name: &[u8]) -> bool {
    match name.strip_prefix(b"user.overlay.") {
        Some(rest) => rest.starts_with(b"overlay."),
        None => {
            name.starts_with(b"user.")
                || name.starts_with(b"system.posix_acl_")
                || name == b"security.capability"
        }
    }
}

/// File capabilities count only where the id in them is root (capabilities(7), "Namespaced file capabilities").
/// What is read in U without an id is U's root's, and becomes the container's root's.
fn capability(value: &[u8], uids: &IdMap) -> Option<Vec<u8>> {
    const REVISION: u32 = 0xff00_0000;
    const REVISION_2: u32 = 0x0200_0000;
    const REVISION_3: u32 = 0x0300_0000;
    const SIZE_2: usize = 20;
    let number = |at: usize| Some(u32::from_le_bytes(value.get(at..at + 4)?.try_into().ok()?));
    let magic = number(0)?;
    let root = match (magic & REVISION, value.len()) {
        (REVISION_2, SIZE_2) => 0,
        (REVISION_3, _) => number(SIZE_2)?,
        _ => return None,
    };
    let magic = (magic & !REVISION) | REVISION_3;
    Some([&magic.to_le_bytes()[..], &value[4..SIZE_2], &uids.outside(root)?.to_le_bytes()].concat())
}

/// An access control list: a version, then entries of tag, permissions and id (linux/posix_acl_xattr.h).
fn access_list(value: &[u8], uids: &IdMap, gids: &IdMap) -> Option<Vec<u8>> {
    const USER: u16 = 0x02;
    const GROUP: u16 = 0x08;
    let (version, entries) = value.split_at_checked(4)?;
    let mut shifted = version.to_vec();
    for entry in entries.chunks(8) {
        let (head, id) = entry.split_at_checked(4)?;
        let id = u32::from_le_bytes(id.try_into().ok()?);
        let id = match u16::from_le_bytes([head[0], head[1]]) {
            USER => uids.outside(id)?,
            GROUP => gids.outside(id)?,
            _ => id,
        };
        shifted.extend_from_slice(head);
        shifted.extend_from_slice(&id.to_le_bytes());
    }
    Some(shifted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> IdMap {
        IdMap::parse("1000 0 1\n0 1 1000\n1001 1001 10\n")
    }

    #[test]
    fn capabilities_become_those_of_the_containers_root() {
        let version_2 = [&0x0200_0001_u32.to_le_bytes()[..], &[7; 16]].concat();
        let version_3 = |id: u32| [&0x0300_0001_u32.to_le_bytes()[..], &[7; 16], &id.to_le_bytes()].concat();
        assert_eq!(capability(&version_2, &map()), Some(version_3(1)));
        assert_eq!(capability(&version_3(1000), &map()), Some(version_3(0)));
        assert_eq!(capability(&version_3(5000), &map()), None);
        for torn in [&version_2[..19], &version_3(0)[..23], &[][..], &[0; 20]] {
            assert_eq!(capability(torn, &map()), None);
        }
    }

    #[test]
    fn ids_in_access_lists_are_shifted_and_others_left() {
        let entry =
            |tag: u16, id: u32| [&tag.to_le_bytes()[..], &6_u16.to_le_bytes(), &id.to_le_bytes()].concat();
        let list = |entries: &[Vec<u8>]| [&2_u32.to_le_bytes()[..], &entries.concat()].concat();
        let none = u32::MAX;
        let before = list(&[entry(1, none), entry(2, 5), entry(4, none), entry(8, 1000), entry(16, none)]);
        let after = list(&[entry(1, none), entry(2, 6), entry(4, none), entry(8, 0), entry(16, none)]);
        assert_eq!(access_list(&before, &map(), &map()), Some(after));
        assert_eq!(access_list(&list(&[entry(2, 9999)]), &map(), &map()), None);
        assert_eq!(access_list(&before[..9], &map(), &map()), None);
    }

    #[test]
    fn attributes_of_the_layer_and_of_the_host_stay_there() {
        for (name, kept) in [
            ("user.note", true),
            ("user.containers.override_stat", true),
            ("user.overlay.overlay.opaque", true),
            ("security.capability", true),
            ("system.posix_acl_default", true),
            ("user.overlay.opaque", false),
            ("user.overlay.redirect", false),
            ("trusted.overlay.opaque", false),
            ("security.selinux", false),
        ] {
            assert_eq!(is_kept(name.as_bytes()), kept, "{name}");
        }
    }
}
