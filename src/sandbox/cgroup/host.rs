//! What of the unified tree is ours: read, never changed.

use super::TOP;
use nix::libc;
use rustix::fs::{Access, AtFlags, CWD};
use std::fs;
use std::path::Path;

/// How cgroups are mounted on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Version 2 alone.
    Unified,
    /// Version 1 with the controllers, version 2 without.
    Hybrid,
    /// Version 1 alone.
    Legacy,
    /// Nothing.
    None,
}

/// The cgroups around this process that are ours to divide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Around {
    /// Nearest first: this process's own and those above it.
    pub candidates: Vec<Candidate>,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// Its path below [`TOP`], beginning with a slash; empty for the top itself.
    pub path: String,
    /// Controllers that its children can be given.
    pub available: Vec<String>,
    /// Controllers that its children have.
    pub enabled: Vec<String>,
    /// Whether processes are in it.
    pub is_populated: bool,
}

/// Which kind this machine has.
pub fn kind() -> Kind {
    let is = |path: &str, magic: libc::c_long| {
        rustix::fs::statfs(path).is_ok_and(|s| i128::from(s.f_type) == i128::from(magic))
    };
    if is(TOP, libc::CGROUP2_SUPER_MAGIC) {
        Kind::Unified
    } else if is(&format!("{TOP}/unified"), libc::CGROUP2_SUPER_MAGIC) {
        Kind::Hybrid
    } else if is(TOP, libc::TMPFS_MAGIC) {
        Kind::Legacy
    } else {
        Kind::None
    }
}

/// A process's cgroup in the unified tree (`self`, or a pid); `None` if it is outside of what is mounted here.
pub fn of_process(pid: &str) -> Option<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = table.lines().find_map(|line| line.strip_prefix("0::"))?;
    (path.starts_with('/') && !path.split('/').any(|part| part == "..")).then(|| path.to_owned())
}

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// At what children have already: enough for who needs no more, and part of every start.
    Glance,
    /// At everything.
    Closely,
}

/// Our own cgroup, if it is writable: for who says that it is delegated, which cannot always be seen.
pub fn own(how: Look) -> Around {
    let own = of_process("self").map(|path| path.trim_end_matches('/').to_owned());
    let own = own.filter(|path| is_writable(path));
    Around { candidates: own.iter().map(|path| Candidate::look(path, how)).collect() }
}

/// Looks around. Where systemd manages the tree, only what it has delegated counts.
pub fn around(how: Look) -> Around {
    let Some(own) = of_process("self") else { return Around::default() };
    let has_systemd = Path::new("/run/systemd/system").is_dir();
    let mut candidates = Vec::new();
    for path in upwards(&own) {
        if !is_writable(path) {
            break;
        }
        candidates.push(path);
        if has_systemd && is_delegated_unit(path) {
            return Around {
                candidates: candidates.into_iter().map(|path| Candidate::look(path, how)).collect(),
            };
        }
    }
    if has_systemd {
        candidates.clear();
    }
    Around { candidates: candidates.into_iter().map(|path| Candidate::look(path, how)).collect() }
}

/// A path and those above it; the top, which in a cgroup namespace can be ours too, is the empty one.
fn upwards(path: &str) -> impl Iterator<Item = &str> {
    let path = path.trim_end_matches('/');
    std::iter::successors(Some(path), |path| path.rsplit_once('/').map(|(above, _)| above))
}

/// Whether children and processes may be put there. Who delegates gives away both together with the third file,
/// `cgroup.subtree_control` (cgroups(7), "Delegation").
fn is_writable(path: &str) -> bool {
    ["", "/cgroup.procs"].iter().all(|file| {
        // The effective ids count: the check is about what this process will do.
        rustix::fs::accessat(CWD, format!("{TOP}{path}{file}"), Access::WRITE_OK, AtFlags::EACCESS).is_ok()
    })
}

/// Whether this is the cgroup of a unit with `Delegate=`. The system's systemd marks it (since version 251); so is the
/// user manager's own unit, but what is below that is the manager's. A user's systemd does not mark; of a transient
/// unit (`systemd-run --user`) it keeps a file that says so.
fn is_delegated_unit(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut value = [0; 8];
    let marked = rustix::fs::getxattr(format!("{TOP}{path}"), "user.delegate", &mut value);
    if marked.is_ok_and(|n| n >= 1 && value[0] == b'1') {
        return !(name.starts_with("user@") && name.ends_with(".service"));
    }
    if !name.ends_with(".scope") && !name.ends_with(".service") {
        return false;
    }
    let Some(runtime) = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) else {
        return false;
    };
    let unit = Path::new(&runtime).join("systemd/transient").join(name);
    fs::read_to_string(unit).is_ok_and(|text| says_delegate(&text))
}

/// A unit file's `Delegate=`, of which the last counts: a truth value, or the controllers.
fn says_delegate(unit: &str) -> bool {
    let mut values = unit.lines().filter_map(|line| line.trim().strip_prefix("Delegate="));
    values.next_back().is_some_and(|value| !matches!(value.trim(), "" | "no" | "false" | "off" | "0"))
}

/// Whether a cgroup is there.
pub fn exists(path: &str) -> bool {
    Path::new(&format!("{TOP}{path}")).is_dir()
}

impl Candidate {
    /// Looks at one.
    pub fn look(path: &str, how: Look) -> Self {
        let read = |file: &str| fs::read_to_string(format!("{TOP}{path}/{file}")).unwrap_or_default();
        let words = |text: String| text.split_whitespace().map(str::to_owned).collect();
        let enabled = words(read("cgroup.subtree_control"));
        let path = path.to_owned();
        match how {
            Look::Glance => Self { path, enabled, ..Self::default() },
            Look::Closely => Self {
                path,
                enabled,
                available: words(read("cgroup.controllers")),
                is_populated: !read("cgroup.procs").is_empty(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_up_ends_at_the_top() {
        assert_eq!(upwards("/a/b/c").collect::<Vec<_>>(), ["/a/b/c", "/a/b", "/a", ""]);
        assert_eq!(upwards("/").collect::<Vec<_>>(), [""]);
    }

    #[test]
    fn a_unit_file_tells_whether_its_cgroup_is_delegated() {
        for yes in ["[Scope]\nDelegate=yes\n", "Delegate=no\nDelegate=cpu memory", "Delegate=1"] {
            assert!(says_delegate(yes), "{yes}");
        }
        for no in ["", "[Scope]\nDescription=Delegate=yes", "Delegate=yes\nDelegate=no", "Delegate="] {
            assert!(!says_delegate(no), "{no}");
        }
    }

    #[test]
    fn this_process_has_a_cgroup_where_there_is_a_tree() {
        if kind() == Kind::Unified {
            assert!(of_process("self").is_none_or(|path| path.starts_with('/')));
        }
        // Whatever is around, looking does not fail, and what is found is above one another.
        let found = around(Look::Closely).candidates;
        assert!(found.windows(2).all(|pair| pair[0].path.starts_with(&pair[1].path)));
    }
}
