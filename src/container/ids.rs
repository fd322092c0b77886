//! Which ids a container gets (`--userns`, `--uidmap`), in terms of the user's namespace U.
//!
//! `--userns auto` gives a container a part of the subordinate ids that no other such container has. Who has which is
//! in their records, and nowhere else: under a lock the records are read and the lowest part that is free is taken,
//! which is free again when its record is gone. So a part is a container's own for as long as there are files of it.
//!
//! Where the ids of a container do not include the user's own, its processes are nobody that the user's files know, not
//! even as their root: its mounts are made for it from outside (see [`crate::sandbox::outside`]).

use super::Error;
use super::request::UsernsMode;
use super::store::{self, Entry};
use crate::rooted_fs::Root;
use crate::sandbox::Ids;
use crate::state::Paths;
use crate::userns::{IdMap, IdRange, Identity, Mode, container_map, split};
use std::path::PathBuf;

/// As podman has it: what a part has at least.
const SMALLEST_PART: u32 = 1024;
/// The user that owns what belongs to nobody: no reason for a part to reach so far.
const NOBODY: u32 = 65534;
const MAX_FILE: usize = 4 << 20;

/// The id maps of a container's namespace over U.
pub fn maps(identity: &Identity, ids: &Ids) -> (IdMap, IdMap) {
    let (uids, gids) = identity.user_maps();
    let range = |first, count| [IdRange { inside: 0, outside: first, count }];
    match ids {
        Ids::All => (container_map(&uids, None), container_map(&gids, None)),
        Ids::Keep { uid, gid } => (container_map(&uids, Some(*uid)), container_map(&gids, Some(*gid))),
        Ids::WithoutUser => {
            (split(&range(1, uids.len() - 1), &uids), split(&range(1, gids.len() - 1), &gids))
        }
        Ids::Part { first, count } => {
            (split(&range(*first, *count), &uids), split(&range(*first, *count), &gids))
        }
        Ids::Given { uids: given, gids: given_gids } => (split(given, &uids), split(given_gids, &gids)),
    }
}

/// Whether the user is somebody in a container with these maps: else nothing of the user's can be opened from within.
pub fn include_user(maps: &(IdMap, IdMap)) -> bool {
    maps.0.inside(0).is_some() && maps.1.inside(0).is_some()
}

/// The ids that are asked for; those of a container that is joined are its.
pub fn resolve(
    mode: &UsernsMode,
    identity: &Identity,
    joined: Option<&Ids>,
    part: impl FnOnce(Option<u32>) -> Result<Ids, Error>,
) -> Result<Ids, Error> {
    if let (Mode::Single { why }, false) =
        (&identity.mode, matches!(mode, UsernsMode::Default | UsernsMode::Container(_)))
    {
        return Err(Error::Request {
            what: format!("--userns={} needs subordinate ids", mode.name()),
            fix: Some(format!("{why}; 'coracle doctor' has the command that an administrator can run")),
        });
    }
    match (mode, joined) {
        (UsernsMode::Default | UsernsMode::Container(_), Some(ids)) => Ok(ids.clone()),
        (_, Some(_)) => Err(Error::Request {
            what: "a container that joins another's namespaces has that one's user namespace".into(),
            fix: Some("leave --userns, --uidmap and --gidmap out".into()),
        }),
        (UsernsMode::Default | UsernsMode::Container(_), None) => Ok(Ids::All),
        (UsernsMode::KeepId { uid, gid }, None) => {
            let (uid, gid) = (uid.unwrap_or(identity.uid), gid.unwrap_or(identity.gid));
            Ok(if (uid, gid) == (0, 0) { Ids::All } else { Ids::Keep { uid, gid } })
        }
        (UsernsMode::NoMap, None) => Ok(Ids::WithoutUser),
        (UsernsMode::Auto { size }, None) => part(*size),
        (UsernsMode::Given { uids, gids }, None) => given(identity, uids, gids),
    }
}

/// What `--uidmap` and `--gidmap` say; one stands for both.
fn given(identity: &Identity, uids: &[GivenRange], gids: &[GivenRange]) -> Result<Ids, Error> {
    let (own_uids, own_gids) = identity.user_maps();
    let (uids, gids) = match (uids, gids) {
        ([], gids) => (gids, gids),
        (uids, []) => (uids, uids),
        both => both,
    };
    let checked = |flag: &str, given: &[GivenRange], own: &IdMap| {
        let refused = |what: String| Error::Request {
            what: format!("{flag}: {what}"),
            fix: Some(format!("0 is the user, 1 to {} are the subordinate ids", own.len() - 1)),
        };
        let mut ranges: Vec<IdRange> = Vec::new();
        for range in given {
            let outside = match range.of_host {
                false => range.outside,
                true => own.inside(range.outside).ok_or_else(|| {
                    refused(format!("id {} of the host is not among the user's", range.outside))
                })?,
            };
            let range = IdRange { inside: range.inside, outside, count: range.count };
            let end = |start: u32| u64::from(start) + u64::from(range.count);
            if end(range.outside) > u64::from(own.len()) || end(range.inside) > u64::from(u32::MAX) {
                let last = end(range.outside) - 1;
                return Err(refused(format!("ids {outside} to {last} are more than the user has")));
            }
            let overlaps = |a: u32, b: u32, count: u32| {
                u64::from(a) < u64::from(b) + u64::from(count) && u64::from(b) < end(a)
            };
            if ranges.iter().any(|r| {
                overlaps(range.inside, r.inside, r.count) || overlaps(range.outside, r.outside, r.count)
            }) {
                return Err(refused("ranges overlap".into()));
            }
            ranges.push(range);
        }
        if !ranges.iter().any(|r| r.inside == 0) {
            return Err(refused("there is no id for root (0) of the container".into()));
        }
        Ok(ranges)
    };
    Ok(Ids::Given {
        uids: checked("--uidmap", uids, &own_uids)?,
        gids: checked("--gidmap", gids, &own_gids)?,
    })
}

/// One `--uidmap` or `--gidmap`: `CONTAINER:FROM:COUNT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenRange {
    /// First id inside.
    pub inside: u32,
    /// First id outside: of U, or with `@` of the host.
    pub outside: u32,
    /// How many.
    pub count: u32,
    /// Whether `outside` is an id of the host.
    pub of_host: bool,
}

/// A part of the subordinate ids that nobody has. The caller has the lock, and keeps it until the record is saved.
pub fn free_part(paths: &Paths, identity: &Identity, count: u32) -> Result<Ids, Error> {
    let taken: Vec<(u32, u32)> = store::list_with_steps(paths)?
        .into_iter()
        .filter_map(|entry| match entry {
            Entry::Whole(container) => match container.record.spec.ids {
                Ids::Part { first, count } => Some((first, count)),
                _ => None,
            },
            Entry::Broken(..) => None,
        })
        .collect();
    let (uids, gids) = identity.user_maps();
    let all = uids.len().min(gids.len());
    match first_free(&taken, all, count) {
        Some(first) => Ok(Ids::Part { first, count }),
        None => Err(Error::Request {
            what: format!(
                "--userns=auto: no {count} ids in a row are free of the user's {} subordinate ids ({} containers have some)",
                all.saturating_sub(1),
                taken.len()
            ),
            fix: Some(
                "remove containers that were made with --userns=auto, ask for fewer ids (--userns auto:size=N), or have \
                 an administrator give more: usermod --add-subuids 200000-265535 --add-subgids 200000-265535 $USER"
                    .into(),
            ),
        }),
    }
}

/// The lowest of the ids from 1 to below `all` at which `count` are free.
fn first_free(taken: &[(u32, u32)], all: u32, count: u32) -> Option<u32> {
    let mut taken = taken.to_vec();
    taken.sort_unstable();
    let mut first = 1u32;
    for (start, length) in taken {
        if start.saturating_sub(first) >= count {
            break;
        }
        first = first.max(start.saturating_add(length));
    }
    (all.saturating_sub(first) >= count && count > 0).then_some(first)
}

/// How many ids an image needs: up to the highest in its passwd and group files, as podman counts. `layers` are its
/// folders, the highest first.
pub fn needed(layers: &[PathBuf], user: &str) -> u32 {
    let mut highest = user.split(':').filter_map(|id| id.parse::<u32>().ok()).max().unwrap_or(0);
    for (path, fields) in [("/etc/passwd", &[2, 3][..]), ("/etc/group", &[2])] {
        // The highest layer that has anything there says what it is.
        let found = layers.iter().find_map(|layer| {
            Root::open_dir(layer).and_then(|root| root.read_bounded(path, MAX_FILE)).transpose()
        });
        let text = String::from_utf8_lossy(&found.and_then(Result::ok).unwrap_or_default()).into_owned();
        for line in text.lines() {
            let ids = fields.iter().filter_map(|field| line.split(':').nth(*field)?.parse::<u32>().ok());
            highest = ids.filter(|id| *id < NOBODY).fold(highest, u32::max);
        }
    }
    highest.saturating_add(1).max(SMALLEST_PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_the_lowest_that_is_free() {
        for (taken, count, expected) in [
            (&[][..], 100, Some(1)),
            (&[(1, 100)], 100, Some(101)),
            (&[(101, 100)], 100, Some(1)),
            (&[(50, 100)], 100, Some(150)),
            (&[(300, 100), (1, 100)], 199, Some(101)),
            (&[(300, 100), (1, 100)], 200, Some(400)),
            (&[(1, 900)], 100, None),
            (&[(1, 899)], 100, Some(900)),
            (&[(5, 10), (1, 50)], 949, Some(51)),
            (&[], 1000, None),
            (&[], 0, None),
        ] {
            assert_eq!(first_free(taken, 1000, count), expected, "{taken:?} {count}");
        }
    }

    fn identity() -> Identity {
        let map = |own| {
            IdMap(vec![
                IdRange { inside: 0, outside: own, count: 1 },
                IdRange { inside: 1, outside: 100_000, count: 1000 },
            ])
        };
        Identity { uid: 1000, gid: 1000, mode: Mode::Subordinate { uids: map(1000), gids: map(1000) } }
    }

    #[test]
    fn maps_are_what_their_mode_says() {
        for (ids, expected, includes) in [
            (Ids::All, "0 0 1\n1 1 1000\n", true),
            (Ids::WithoutUser, "0 1 1000\n", false),
            (Ids::Part { first: 5, count: 10 }, "0 5 10\n", false),
            (Ids::Keep { uid: 3, gid: 3 }, "3 0 1\n0 1 3\n4 4 997\n", true),
        ] {
            let maps = maps(&identity(), &ids);
            assert_eq!((maps.0.to_proc().as_str(), include_user(&maps)), (expected, includes), "{ids:?}");
        }
    }

    #[test]
    fn given_maps_are_checked() {
        let range = |inside, outside, count| GivenRange { inside, outside, count, of_host: false };
        let of_host = |inside, outside, count| GivenRange { of_host: true, ..range(inside, outside, count) };
        let ids = given(&identity(), &[range(0, 1, 10), of_host(10, 1000, 1), of_host(11, 100_100, 5)], &[])
            .unwrap();
        assert_eq!(maps(&identity(), &ids).1.to_proc(), "0 1 10\n10 0 1\n11 101 5\n");
        for (bad, word) in [
            (&[range(0, 1, 1001)][..], "more than the user has"),
            (&[range(1, 1, 10)], "root"),
            (&[range(0, 1, 10), range(9, 20, 5)], "overlap"),
            (&[range(0, 1, 10), range(10, 10, 5)], "overlap"),
            (&[of_host(0, 7, 1)], "not among the user's"),
        ] {
            let error = given(&identity(), bad, &[]).unwrap_err().to_string();
            assert!(error.contains(word), "{bad:?}: {error}");
        }
    }

    #[test]
    fn an_image_needs_the_ids_that_its_files_name() {
        let dir = tempfile::tempdir().unwrap();
        let (top, bottom) = (dir.path().join("top"), dir.path().join("bottom"));
        for layer in [&top, &bottom] {
            std::fs::create_dir_all(layer.join("etc")).unwrap();
        }
        let layers = [top.clone(), bottom.clone()];
        assert_eq!(needed(&layers, ""), 1024);
        std::fs::write(
            bottom.join("etc/passwd"),
            "root:x:0:0::/:\nbig:x:9:5000::/:\nnobody:x:65534:65534::/:\n",
        )
        .unwrap();
        assert_eq!(needed(&layers, ""), 5001);
        assert_eq!(needed(&layers, "7000:8000"), 8001);
        std::fs::write(top.join("etc/passwd"), "root:x:0:0::/:\n").unwrap();
        assert_eq!(needed(&layers, "app"), 1024);
    }
}
