//! Whose a file is, in a container's numbers and in those of the user's namespace.

use crate::userns::IdMap;

/// What the kernel shows of an id that has no number here (user_namespaces(7)).
const OVERFLOW: u32 = 65534;

/// Numbers of one world in those of the user's namespace.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    /// A container's maps over the user's namespace; none: the numbers are that namespace's own.
    maps: Option<(IdMap, IdMap)>,
}

impl Ids {
    /// A container's.
    pub fn of(maps: (IdMap, IdMap)) -> Self {
        Self { maps: Some(maps) }
    }

    /// The numbers of an owner that is seen from the user's namespace.
    pub fn inside(&self, uid: u32, gid: u32) -> (u32, u32) {
        let Some((uids, gids)) = &self.maps else { return (uid, gid) };
        (inside(uids, uid), inside(gids, gid))
    }

    /// The other way; none if the container does not have these numbers.
    pub fn outside(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        let Some((uids, gids)) = &self.maps else { return Some((uid, gid)) };
        Some((uids.outside(uid)?, gids.outside(gid)?))
    }
}

fn inside(map: &IdMap, outside: u32) -> u32 {
    let range = map.0.iter().find(|r| outside >= r.outside && outside - r.outside < r.count);
    range.map_or(OVERFLOW, |r| r.inside + (outside - r.outside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_both_ways_and_what_has_none_is_nobodys() {
        let map = IdMap::parse("1000 0 1\n0 1 1000\n1001 1001 64536\n");
        let ids = Ids::of((map.clone(), map));
        for (outside, inside) in [(0, 1000), (1, 0), (1000, 999), (2000, 2000)] {
            assert_eq!(ids.inside(outside, outside), (inside, inside));
            assert_eq!(ids.outside(inside, inside), Some((outside, outside)));
        }
        assert_eq!(ids.inside(70_000, 0), (OVERFLOW, 1000));
        assert_eq!(ids.outside(70_000, 0), None);
        assert_eq!(Ids::default().outside(5, 6), Some((5, 6)));
    }
}
