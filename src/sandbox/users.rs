//! Who a container's process is: `-u user[:group]` and the image's `User` against the image's own files.
//!
//! The rules are docker's (moby/sys/user): digits are always an id, also if an entry has them as its name; an id
//! without an entry is taken as it is, with group 0; a name without an entry is an error; supplementary groups come
//! from the group file only if no group was given. The parser is stricter than theirs: an entry whose id is not
//! made of digits alone is no entry, where they read it as id 0 (compare CVE-2026-30892), and the primary group is
//! always among the supplementary ones, or files could be opened to all but that group (CVE-2022-2989).

use crate::diagnose::{Diagnose, EXIT_NOT_EXECUTABLE};
use crate::rooted_fs::Root;
use std::collections::HashMap;
use std::io;

/// Larger passwd and group files are refused.
const MAX_FILE: usize = 4 << 20;
/// The largest id that runtimes accept: (uid_t)-1 means "no change", and ids are read into an int by many.
const MAX_ID: u32 = i32::MAX as u32;

/// Ids and home of a process, as seen in the container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecUser {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids, the primary one first.
    pub additional_gids: Vec<u32>,
    /// Name in the passwd file, if the user is there.
    pub name: Option<String>,
    /// Home directory from the passwd file, if it names one.
    pub home: Option<String>,
}

/// Why a user could not be found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that is not in the passwd file.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    /// A name that is not in the group file.
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    /// A number that is no id.
    #[error("uids and gids must be in range 0-{MAX_ID}")]
    Range,
    /// Neither `user` nor `user:group`.
    #[error("invalid user '{0}': expected user or user:group")]
    Form(String),
    /// The image's file cannot be read.
    #[error("cannot read {path} of the container")]
    Read {
        /// Path in the container.
        path: &'static str,
        /// What the kernel said, or what is wrong with the file.
        #[source]
        source: io::Error,
    },
}

impl Diagnose for Error {
    fn fix(&self) -> Option<String> {
        match self {
            Error::NoUser(_) | Error::NoGroup(_) => {
                Some("name one that the image has, or use a number, which needs no entry".into())
            }
            Error::Range | Error::Form(_) | Error::Read { .. } => None,
        }
    }

    fn exit_code(&self) -> u8 {
        EXIT_NOT_EXECUTABLE
    }
}

/// The user that `spec` means in the file system of `root`. An empty `spec` is root.
pub fn exec_user(root: &Root, spec: &str) -> Result<ExecUser, Error> {
    let read = |path: &'static str| {
        let bytes = root.read_bounded(path, MAX_FILE).map_err(|source| Error::Read { path, source })?;
        Ok(bytes.unwrap_or_default())
    };
    resolve(spec, &read("/etc/passwd")?, &read("/etc/group")?)
}

/// The names of the users and the groups in the file system of `root`; none where it does not tell.
pub fn names(root: &Root) -> (HashMap<u32, String>, HashMap<u32, String>) {
    let read = |path: &str| root.read_bounded(path, MAX_FILE).ok().flatten().unwrap_or_default();
    (names_in(&read("/etc/passwd")), names_in(&read("/etc/group")))
}

/// The names in a passwd or a group file, by id; of several of one id the first.
pub fn names_in(file: &[u8]) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in entries(file) {
        let mut fields = line.split(|&b| b == b':');
        if let (Some(name), Some(id)) = (fields.next(), fields.nth(1).and_then(parse_id)) {
            names.entry(id).or_insert_with(|| String::from_utf8_lossy(name).into_owned());
        }
    }
    names
}

/// The user in more groups (`--group-add`), by name as the root's group file has them, or by number.
pub fn with_groups(root: &Root, mut user: ExecUser, more: &[String]) -> Result<ExecUser, Error> {
    if more.is_empty() {
        return Ok(user);
    }
    let path = "/etc/group";
    let file = root.read_bounded(path, MAX_FILE).map_err(|source| Error::Read { path, source })?;
    let file = file.unwrap_or_default();
    for text in more {
        let gid = match Wanted::parse(text)?.ok_or_else(|| Error::NoGroup(text.clone()))? {
            Wanted::Id(gid) => gid,
            Wanted::Name(name) => {
                let mut groups = entries(&file).filter_map(Group::parse);
                let found = groups.find(|group| group.name == name.as_bytes());
                found.ok_or_else(|| Error::NoGroup(text.clone()))?.gid
            }
        };
        if !user.additional_gids.contains(&gid) {
            user.additional_gids.push(gid);
        }
    }
    Ok(user)
}

/// [`exec_user`] with the contents of the two files.
pub fn resolve(spec: &str, passwd: &[u8], group: &[u8]) -> Result<ExecUser, Error> {
    let (user_spec, group_spec) = match spec.split_once(':') {
        Some((_, group)) if group.contains(':') => return Err(Error::Form(spec.to_owned())),
        Some(parts) => parts,
        None => (spec, ""),
    };
    let wanted = Wanted::parse(user_spec)?.unwrap_or(Wanted::Id(0));
    let entry = entries(passwd).find_map(|line| Passwd::parse(line, &wanted));
    let mut user = match (entry, wanted) {
        (Some(entry), _) => entry.into_user(),
        (None, Wanted::Id(uid)) => ExecUser { uid, ..ExecUser::default() },
        (None, Wanted::Name(name)) => return Err(Error::NoUser(name.to_owned())),
    };
    let mut supplementary = Vec::new();
    match (Wanted::parse(group_spec)?, &user.name) {
        (Some(wanted), _) => {
            let found = entries(group).filter_map(Group::parse).find(|g| wanted.matches(g.name, g.gid));
            user.gid = match (found, wanted) {
                (Some(group), _) => group.gid,
                (None, Wanted::Id(gid)) => gid,
                (None, Wanted::Name(name)) => return Err(Error::NoGroup(name.to_owned())),
            };
        }
        (None, Some(name)) => {
            let groups = entries(group).filter_map(Group::parse);
            supplementary = groups.filter(|g| g.has_member(name)).map(|g| g.gid).collect();
        }
        (None, None) => {}
    }
    user.additional_gids = vec![user.gid];
    for gid in supplementary {
        if !user.additional_gids.contains(&gid) {
            user.additional_gids.push(gid);
        }
    }
    Ok(user)
}

enum Wanted<'a> {
    Id(u32),
    Name(&'a str),
}

impl<'a> Wanted<'a> {
    /// `None` for an empty text. Digits, also too many or after a minus, are a number and never a name.
    fn parse(text: &'a str) -> Result<Option<Self>, Error> {
        if text.is_empty() {
            return Ok(None);
        }
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(Some(Self::Name(text)));
        }
        parse_id(text.as_bytes()).map(|id| Some(Self::Id(id))).ok_or(Error::Range)
    }

    fn matches(&self, name: &[u8], id: u32) -> bool {
        match self {
            Self::Id(wanted) => *wanted == id,
            Self::Name(wanted) => wanted.as_bytes() == name,
        }
    }
}

struct Passwd<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

impl<'a> Passwd<'a> {
    /// The entry in `line` (passwd(5)), if it is the wanted one.
    fn parse(line: &'a [u8], wanted: &Wanted<'_>) -> Option<Self> {
        let mut fields = line.split(|&b| b == b':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let (uid, gid) = (parse_id(fields.next()?)?, parse_id(fields.next()?)?);
        let home = fields.nth(1).unwrap_or_default();
        wanted.matches(name, uid).then_some(Self { name, uid, gid, home })
    }

    fn into_user(self) -> ExecUser {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ExecUser {
            uid: self.uid,
            gid: self.gid,
            additional_gids: Vec::new(),
            name: Some(text(self.name)),
            home: Some(text(self.home)).filter(|home| !home.is_empty()),
        }
    }
}

struct Group<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

impl<'a> Group<'a> {
    /// The entry in `line` (group(5)).
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|&b| b == b':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let gid = parse_id(fields.next()?)?;
        Some(Self { name, gid, members: fields.next().unwrap_or_default() })
    }

    fn has_member(&self, name: &str) -> bool {
        self.members.split(|&b| b == b',').any(|member| member.trim_ascii() == name.as_bytes())
    }
}

fn entries(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|&b| b == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty())
}

/// An id in decimal digits alone: no sign, no space, nothing after it.
fn parse_id(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|id| *id <= MAX_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        # a comment:x:1:1\n\
        \n\
        app:x:1000:1001:App:/home/app:/bin/sh\r\n\
        second:x:1000:1002::/second:\n\
        1234:x:77:78::/numeric:\n\
        broken:x:abc:0::/b:\n\
        spaced:x: 0:0::/b:\n\
        plus:x:+0:0::/b:\n\
        hex:x:0x0:0::/b:\n\
        huge:x:4294967296:0::/b:\n\
        nogid:x:5::\n\
        short:x:6:7\n\
        nohome:x:8:9:::\n\
        +nis::::::\n";
    const GROUP: &[u8] = b"root:x:0:root\n\
        wheel:x:10:root, app,other\n\
        app:x:1001:\n\
        staff:x:50:app,app\n\
        bad:x:zero:app\n\
        4321:x:60:\n\
        apple:x:61:app1,xapp\n";

    fn user(uid: u32, gid: u32, more: &[u32], name: &str, home: &str) -> ExecUser {
        let text = |t: &str| (!t.is_empty()).then(|| t.to_owned());
        let additional_gids = [&[gid], more].concat();
        ExecUser { uid, gid, additional_gids, name: text(name), home: text(home) }
    }

    #[test]
    fn users_and_groups_are_found_as_docker_does() {
        for (spec, expected) in [
            ("", user(0, 0, &[10], "root", "/root")),
            (":", user(0, 0, &[10], "root", "/root")),
            ("root", user(0, 0, &[10], "root", "/root")),
            ("0", user(0, 0, &[10], "root", "/root")),
            ("00", user(0, 0, &[10], "root", "/root")),
            ("app", user(1000, 1001, &[10, 50], "app", "/home/app")),
            ("1000", user(1000, 1001, &[10, 50], "app", "/home/app")),
            ("1000:", user(1000, 1001, &[10, 50], "app", "/home/app")),
            ("second", user(1000, 1002, &[], "second", "/second")),
            ("app:wheel", user(1000, 10, &[], "app", "/home/app")),
            ("app:50", user(1000, 50, &[], "app", "/home/app")),
            ("app:9999", user(1000, 9999, &[], "app", "/home/app")),
            ("2000", user(2000, 0, &[], "", "")),
            ("2000:staff", user(2000, 50, &[], "", "")),
            ("2000:2000", user(2000, 2000, &[], "", "")),
            (":wheel", user(0, 10, &[], "root", "/root")),
            // Digits are an id even where an entry has them as its name.
            ("1234", user(1234, 0, &[], "", "")),
            ("77", user(77, 78, &[], "1234", "/numeric")),
            ("app:4321", user(1000, 4321, &[], "app", "/home/app")),
            ("short", user(6, 7, &[], "short", "")),
            ("nohome", user(8, 9, &[], "nohome", "")),
            ("2147483647", user(2_147_483_647, 0, &[], "", "")),
        ] {
            assert_eq!(resolve(spec, PASSWD, GROUP).unwrap(), expected, "{spec:?}");
        }
    }

    #[test]
    fn unknown_names_and_bad_numbers_are_errors_with_docker_s_words() {
        let no_user = |name| format!("unable to find user {name}: no matching entries in passwd file");
        let range = || "uids and gids must be in range 0-2147483647".to_owned();
        for (spec, expected) in [
            ("nobody", no_user("nobody")),
            ("broken", no_user("broken")),
            ("spaced", no_user("spaced")),
            ("plus", no_user("plus")),
            ("hex", no_user("hex")),
            ("huge", no_user("huge")),
            ("nogid", no_user("nogid")),
            ("+0", no_user("+0")),
            (" 0", no_user(" 0")),
            ("0x0", no_user("0x0")),
            ("-", no_user("-")),
            ("+nis", no_user("+nis")),
            ("-1", range()),
            ("2147483648", range()),
            ("99999999999999999999", range()),
            ("0:4294967295", range()),
            ("root:nobody", "unable to find group nobody: no matching entries in group file".into()),
            ("root:bad", "unable to find group bad: no matching entries in group file".into()),
            ("a:b:c", "invalid user 'a:b:c': expected user or user:group".into()),
        ] {
            let error = resolve(spec, PASSWD, GROUP).unwrap_err();
            assert_eq!(error.to_string(), expected, "{spec:?}");
            assert_eq!(error.exit_code(), 126);
        }
    }

    #[test]
    fn an_image_without_the_files_has_numbers_only() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open_dir(dir.path()).unwrap();
        assert_eq!(exec_user(&root, "").unwrap(), user(0, 0, &[], "", ""));
        assert_eq!(exec_user(&root, "5:6").unwrap(), user(5, 6, &[], "", ""));
        assert!(matches!(exec_user(&root, "root"), Err(Error::NoUser(_))));
    }

    #[test]
    fn the_files_are_those_of_the_root_even_behind_absolute_links() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open_dir(dir.path()).unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc/real", dir.path().join("etc/passwd")).unwrap();
        std::fs::write(dir.path().join("etc/real"), PASSWD).unwrap();
        assert_eq!(exec_user(&root, "app").unwrap().uid, 1000);
        rustix::fs::mkfifoat(&root, "etc/group", rustix::fs::Mode::RWXU).unwrap();
        assert!(matches!(exec_user(&root, "app"), Err(Error::Read { path: "/etc/group", .. })));
    }
}
