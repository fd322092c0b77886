//! Which ids there are and how they are mapped.

use super::Error;
use nix::unistd::{Gid, Uid};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

/// One line of a uid_map or gid_map (user_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// First id inside the namespace.
    pub inside: u32,
    /// First id in the parent namespace.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// A whole uid or gid map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMap(pub Vec<IdRange>);

impl IdMap {
    /// How many ids are mapped.
    pub fn len(&self) -> u32 {
        self.0.iter().map(|r| r.count).fold(0, u32::saturating_add)
    }

    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text for /proc/PID/uid_map.
    pub fn to_proc(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, r| {
            let _ = writeln!(text, "{} {} {}", r.inside, r.outside, r.count);
            text
        })
    }

    /// Where `id` of the namespace is in its parent; `None` if it is not mapped.
    pub fn outside(&self, id: u32) -> Option<u32> {
        let range = self.0.iter().find(|r| id >= r.inside && id - r.inside < r.count)?;
        Some(range.outside + (id - range.inside))
    }

    /// The id of the namespace that `id` of its parent is; `None` if it has none.
    pub fn inside(&self, id: u32) -> Option<u32> {
        let range = self.0.iter().find(|r| id >= r.outside && id - r.outside < r.count)?;
        Some(range.inside + (id - range.outside))
    }

    /// Reads the text of a uid_map file.
    pub fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let mut numbers = line.split_whitespace().map(str::parse::<u32>);
            let mut next = || numbers.next()?.ok();
            Some(IdRange { inside: next()?, outside: next()?, count: next()? })
        };
        Self(text.lines().filter_map(line).collect())
    }
}

/// Whether many ids can be had or one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Subordinate ids: the maps for U.
    Subordinate {
        /// Uid map.
        uids: IdMap,
        /// Gid map.
        gids: IdMap,
    },
    /// One id.
    Single {
        /// What is missing for more.
        why: String,
    },
}

/// Who runs us, seen from outside of U.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The real user.
    pub uid: u32,
    /// The real group.
    pub gid: u32,
    /// What ids the user has.
    pub mode: Mode,
}

impl Identity {
    /// Looks at the calling process, /etc/subuid and /etc/subgid (or getsubids(1) where the lines come from a
    /// directory service), and the helpers.
    pub fn discover() -> Result<Self, Error> {
        let (uid, gid) = (Uid::effective().as_raw(), Gid::effective().as_raw());
        if super::is_inside() {
            let read = |path: &str| std::fs::read_to_string(path).map_err(Error::step("read the id map"));
            let (uids, gids) =
                (IdMap::parse(&read("/proc/self/uid_map")?), IdMap::parse(&read("/proc/self/gid_map")?));
            let mode = if uids.len() > 1 {
                Mode::Subordinate { uids, gids }
            } else {
                Mode::Single { why: "the user namespace that this process is in has one id".into() }
            };
            return Ok(Self { uid, gid, mode });
        }
        Ok(Self { uid, gid, mode: discover_mode(uid, gid) })
    }

    /// How many user ids U has.
    pub fn count(&self) -> u32 {
        match &self.mode {
            Mode::Subordinate { uids, .. } => uids.len(),
            Mode::Single { .. } => 1,
        }
    }

    /// The maps of U.
    pub fn user_maps(&self) -> (IdMap, IdMap) {
        match &self.mode {
            Mode::Subordinate { uids, gids } => (uids.clone(), gids.clone()),
            Mode::Single { .. } => {
                let one = |outside| IdMap(vec![IdRange { inside: 0, outside, count: 1 }]);
                (one(self.uid), one(self.gid))
            }
        }
    }
}

fn discover_mode(uid: u32, gid: u32) -> Mode {
    let name = user_name(uid);
    let ranges = |file: &str, flag: Option<&str>| {
        let local =
            std::fs::read_to_string(file).map(|text| subordinate(&text, &name, uid)).unwrap_or_default();
        if local.is_empty() { ask_getsubids(&name, flag) } else { local }
    };
    let (uids, gids) = (ranges("/etc/subuid", None), ranges("/etc/subgid", Some("-g")));
    for (file, found) in [("/etc/subuid", &uids), ("/etc/subgid", &gids)] {
        if found.is_empty() {
            return Mode::Single { why: format!("{file} has no line for user {name}") };
        }
    }
    for helper in ["newuidmap", "newgidmap"] {
        if find_helper(helper).is_none() {
            return Mode::Single {
                why: format!("{helper} is not installed (Debian: uidmap; Fedora: shadow-utils)"),
            };
        }
    }
    Mode::Subordinate { uids: map_of(uid, &uids), gids: map_of(gid, &gids) }
}

/// Id 0 is the user, the subordinate ids follow in the order of their lines.
fn map_of(own: u32, subordinate: &[(u32, u32)]) -> IdMap {
    let mut map = vec![IdRange { inside: 0, outside: own, count: 1 }];
    let mut inside: u32 = 1;
    for &(outside, count) in subordinate {
        let count = count.min(u32::MAX - inside);
        map.push(IdRange { inside, outside, count });
        inside += count;
    }
    IdMap(map)
}

/// The ranges of the lines `NAME:START:COUNT` that are for this user, by name or by number.
fn subordinate(text: &str, name: &str, uid: u32) -> Vec<(u32, u32)> {
    let uid = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            ((owner == name || owner == uid) && range.1 > 0).then_some(range)
        })
        .collect()
}

/// Subordinate ids from a directory service: `0: NAME START COUNT` lines of getsubids(1).
fn ask_getsubids(name: &str, flag: Option<&str>) -> Vec<(u32, u32)> {
    let Some(program) = find_helper("getsubids") else { return Vec::new() };
    let Ok(output) = Command::new(program).args(flag).arg(name).output() else { return Vec::new() };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().rev();
            let count = words.next()?.parse().ok()?;
            Some((words.next()?.parse().ok()?, count))
        })
        .collect()
}

/// The login name: the owner's line in /etc/passwd, else `USER`, else the number.
fn user_name(uid: u32) -> String {
    let number = uid.to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    passwd
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)? == number).then(|| name.to_owned())
        })
        .or_else(|| std::env::var("USER").ok().filter(|name| !name.is_empty()))
        .unwrap_or(number)
}

/// A helper, where distributions put it, else on `PATH`.
pub(crate) fn find_helper(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    ["/usr/bin", "/usr/sbin"]
        .map(PathBuf::from)
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|dir| dir.join(name))
        .find(|file| rustix::fs::access(file.as_path(), rustix::fs::Access::EXEC_OK).is_ok())
}

/// The map of a container's namespace over U, whose own map is `user`: `keep` is the id that the user (id 0 of U) has
/// inside, `None` for the identity. A line may not span two lines of U's map (user_namespaces(7)).
pub fn container_map(user: &IdMap, keep: Option<u32>) -> IdMap {
    let count = user.len();
    let Some(keep) = keep.filter(|id| *id > 0) else {
        return split(&[IdRange { inside: 0, outside: 0, count }], user);
    };
    // Ids below `keep` are the first subordinate ones; what is left of them goes above.
    let below = keep.min(count - 1);
    let mut map = vec![IdRange { inside: keep, outside: 0, count: 1 }];
    if below > 0 {
        map.push(IdRange { inside: 0, outside: 1, count: below });
    }
    let used = below + 1;
    if count > used && keep < u32::MAX - 1 {
        map.push(IdRange { inside: keep + 1, outside: used, count: (count - used).min(u32::MAX - 1 - keep) });
    }
    split(&map, user)
}

/// The map of a namespace nested in the one whose map is `below`: cuts ranges where those end.
pub fn split(ranges: &[IdRange], below: &IdMap) -> IdMap {
    let mut map = Vec::new();
    for range in ranges {
        for line in &below.0 {
            let first = range.outside.max(line.inside);
            let end = (range.outside + range.count).min(line.inside + line.count);
            if first < end {
                let inside = range.inside + (first - range.outside);
                map.push(IdRange { inside, outside: first, count: end - first });
            }
        }
    }
    IdMap(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_lines_are_found_by_name_and_by_number() {
        let text = "root:1:2\nann:100000:65536\n# x\n1000:300000:10\nann:bad:1\nann:5:0\n";
        assert_eq!(subordinate(text, "ann", 1000), [(100_000, 65536), (300_000, 10)]);
        assert_eq!(subordinate(text, "bob", 1001), []);
    }

    #[test]
    fn ranges_follow_one_another_inside() {
        let map = map_of(1000, &[(100_000, 65536), (300_000, 10)]);
        assert_eq!(map.to_proc(), "0 1000 1\n1 100000 65536\n65537 300000 10\n");
        assert_eq!(map.len(), 65547);
        assert_eq!(map.outside(65538), Some(300_001));
        assert_eq!(map.outside(65547), None);
        assert_eq!(IdMap::parse(&map.to_proc()), map);
    }

    #[test]
    fn keep_id_gives_the_user_its_own_number_and_everybody_else_a_subordinate_one() {
        let user = map_of(1000, &[(100_000, 65536)]);
        assert_eq!(container_map(&user, None).to_proc(), "0 0 1\n1 1 65536\n");
        assert_eq!(container_map(&user, Some(0)).to_proc(), "0 0 1\n1 1 65536\n");
        assert_eq!(container_map(&user, Some(1000)).to_proc(), "1000 0 1\n0 1 1000\n1001 1001 64536\n");
        let single = map_of(1000, &[]);
        assert_eq!(container_map(&single, Some(1000)).to_proc(), "1000 0 1\n");
        let two = map_of(1000, &[(100_000, 5), (200_000, 5)]);
        assert_eq!(container_map(&two, Some(8)).to_proc(), "8 0 1\n0 1 5\n5 6 3\n9 9 2\n");
    }
}
