//! Users as entries of the container's passwd and group files.
//!
//! As podman does it: with `--userns keep-id` a container whose files have no entry for the user's ids gets one, with the
//! user's name on the host, so that `whoami`, ssh and git know who they are. A number given with `-u` that the
//! image does not know gets an entry too, and so do users of the host that are asked for (`--hostuser`). Files that the
//! image does not have are not made, and a folder of the host that is run as it is (`--rootfs`) is left alone.

use super::record::Record;
use super::{Error, create};
use crate::rooted_fs::Root;
use crate::sandbox::{Ids, users};
use crate::userns::Identity;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, Write};

/// Makes those known whom the container is to know, in the root of which only the image is mounted.
pub(super) fn make_known(identity: &Identity, record: &Record, root: &Root) -> Result<(), Error> {
    let files = &record.settings.files;
    if record.settings.rootfs.as_ref().is_some_and(|rootfs| !rootfs.overlay) {
        return Ok(());
    }
    let failed = || Error::io("make the user known in the container");
    for name in &files.host_users {
        let line = host_entry(&std::fs::read_to_string("/etc/passwd").unwrap_or_default(), name)?;
        append(root, "/etc/passwd", |file| {
            let id = line.split(':').nth(2).unwrap_or_default();
            (!has(file, 2, id)).then(|| format!("{line}\n"))
        })
        .map_err(failed())?;
    }
    let user = &record.spec.process.user;
    let known = match &record.spec.ids {
        _ if files.no_passwd => None,
        Ids::Keep { uid, gid } => {
            let home = |home: &str| create::home_of(record, home);
            Some(KnownUser::of_host((identity.uid, identity.gid), (*uid, *gid), home))
        }
        // Names are in the image, or are an error; root is everywhere.
        _ if user.starts_with(|c: char| c.is_ascii_digit()) && user.split(':').next() != Some("0") => {
            let found = users::exec_user(root, user).map_err(|e| Error::Request {
                what: e.to_string(),
                fix: crate::diagnose::Diagnose::fix(&e),
            })?;
            found
                .name
                .is_none()
                .then(|| KnownUser::of_number((found.uid, found.gid), &record.spec.process.cwd))
        }
        _ => None,
    };
    match known {
        Some(user) => user
            .make_known(root, files.passwd_entry.as_deref(), files.group_entry.as_deref())
            .map_err(failed()),
        None => Ok(()),
    }
}

/// The line for a user of the host, by name or number, with a shell that every image has.
fn host_entry(passwd: &str, user: &str) -> Result<String, Error> {
    let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found =
        entry.into_iter().find(|fields| fields.len() >= 6 && (fields[0] == user || fields[2] == user));
    match found {
        Some(f) => Ok(format!("{}:*:{}:{}:{}:{}:/bin/sh", f[0], f[2], f[3], f[4], f[5])),
        None => Err(Error::Request {
            what: format!("--hostuser: the host has no user {user}"),
            fix: Some("name one of the host's /etc/passwd".into()),
        }),
    }
}

/// What is said about the user. Ids are those inside.
#[derive(Debug, PartialEq, Eq)]
struct KnownUser {
    uid: u32,
    gid: u32,
    name: String,
    group: String,
    full_name: String,
    home: String,
}

/// Larger files are refused.
const MAX_FILE: usize = 4 << 20;

impl KnownUser {
    /// The user with `host` ids, who is `inside` ids in the container. `home` says where the home directory is, given the
    /// host's.
    fn of_host(host: (u32, u32), inside: (u32, u32), home: impl Fn(&str) -> String) -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let login = std::env::var("USER").unwrap_or_default();
        Self::new(host, inside, &read("/etc/passwd"), &read("/etc/group"), &login, home)
    }

    /// A number that the image has no entry for.
    fn of_number((uid, gid): (u32, u32), home: &str) -> Self {
        let full_name = "container user".to_owned();
        Self { uid, gid, name: uid.to_string(), group: gid.to_string(), full_name, home: home.to_owned() }
    }

    fn new(
        host: (u32, u32),
        inside: (u32, u32),
        passwd: &str,
        group: &str,
        login: &str,
        home: impl Fn(&str) -> String,
    ) -> Self {
        let entry = |file: &str, id: u32| {
            let id = id.to_string();
            let fields = file.lines().map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>());
            fields.into_iter().find(|fields| fields.get(2) == Some(&id)).unwrap_or_default()
        };
        let field = |entry: &[String], at: usize| entry.get(at).cloned().unwrap_or_default();
        // Users of a directory service are in no file.
        let or_else = |name: String, other: &str, id: u32| {
            let usable = |name: &&str| !name.is_empty() && !name.contains([':', '\n']);
            [name.as_str(), other].into_iter().find(usable).map_or_else(|| id.to_string(), str::to_owned)
        };
        let (user, group) = (entry(passwd, host.0), entry(group, host.1));
        let name = or_else(field(&user, 0), login, inside.0);
        Self {
            uid: inside.0,
            gid: inside.1,
            group: or_else(field(&group, 0), &name, inside.1),
            name,
            full_name: field(&user, 4),
            home: home(&field(&user, 5)),
        }
    }

    /// Adds the entries that are missing: as usual, or as these templates have them.
    fn make_known(&self, root: &Root, passwd: Option<&str>, group: Option<&str>) -> io::Result<()> {
        append(root, "/etc/passwd", |file| self.passwd_line(file, passwd))?;
        append(root, "/etc/group", |file| self.group_line(file, group))
    }

    fn passwd_line(&self, file: &[u8], template: Option<&str>) -> Option<String> {
        let Self { uid, gid, name, full_name, home, .. } = self;
        if has(file, 2, &uid.to_string()) {
            return None;
        }
        if let Some(template) = template {
            let (uid, gid) = (uid.to_string(), gid.to_string());
            let line =
                [("$USERNAME", name), ("$UID", &uid), ("$GID", &gid), ("$NAME", full_name), ("$HOME", home)]
                    .iter()
                    .fold(template.to_owned(), |line, (variable, value)| line.replace(variable, value));
            return Some(line + "\n");
        }
        Some(match has(file, 0, name) {
            false => format!("{name}:*:{uid}:{gid}:{full_name}:{home}:/bin/sh\n"),
            true => format!("{uid}:*:{uid}:{gid}:container user:{home}:/bin/sh\n"),
        })
    }

    fn group_line(&self, file: &[u8], template: Option<&str>) -> Option<String> {
        let Self { gid, group, name, .. } = self;
        let known = has(file, 2, &gid.to_string()) || has(file, 0, group);
        (!known).then(|| match template {
            None => format!("{group}:x:{gid}:{name}\n"),
            Some(template) => {
                let line = template.replace("$GROUPNAME", group).replace("$GID", &gid.to_string());
                line.replace("$USERLIST", name) + "\n"
            }
        })
    }
}

/// Whether a line of a passwd(5) or group(5) file has `value` in a field.
fn has(file: &[u8], field: usize, value: &str) -> bool {
    file.split(|&b| b == b'\n')
        .any(|line| line.trim_ascii().split(|&b| b == b':').nth(field) == Some(value.as_bytes()))
}

fn append(root: &Root, path: &str, line: impl FnOnce(&[u8]) -> Option<String>) -> io::Result<()> {
    let Some(bytes) = root.read_bounded(path, MAX_FILE)? else { return Ok(()) };
    let Some(line) = line(&bytes) else { return Ok(()) };
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut file = File::from(root.open(path, flags, Mode::empty())?);
    let ended = bytes.is_empty() || bytes.ends_with(b"\n");
    file.write_all(format!("{}{line}", if ended { "" } else { "\n" }).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn ann(inside: (u32, u32)) -> KnownUser {
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:1000:100:Ann A.,,,:/home/ann:/bin/zsh\n";
        KnownUser::new((1000, 100), inside, passwd, "users:x:100:\n", "", |home| format!("/in{home}"))
    }

    #[test]
    fn an_unknown_user_is_made_known_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        let (passwd, group) = (dir.path().join("etc/passwd"), dir.path().join("etc/group"));
        fs::write(&passwd, "root:x:0:0::/root:/bin/sh").unwrap();
        let root = Root::open_dir(dir.path()).unwrap();
        for _ in 0..2 {
            ann((1000, 100)).make_known(&root, None, None).unwrap();
        }
        let expected = "root:x:0:0::/root:/bin/sh\nann:*:1000:100:Ann A.,,,:/in/home/ann:/bin/sh\n";
        assert_eq!(fs::read_to_string(&passwd).unwrap(), expected);
        assert!(!group.exists(), "a file that the image does not have is not made");
        fs::write(&group, "").unwrap();
        ann((1000, 100)).make_known(&root, None, None).unwrap();
        assert_eq!(fs::read_to_string(&group).unwrap(), "users:x:100:ann\n");
    }

    #[test]
    fn ids_and_names_that_the_image_has_stay_as_they_are() {
        let ann = ann((200, 300));
        assert_eq!(ann.passwd_line(b"x:*:200:1::/:\n", None), None);
        assert_eq!(ann.group_line(b"x:x:300:\r\n", None), None);
        let line = ann.passwd_line(b"ann:x:1:1::/:\n", None).unwrap();
        assert_eq!(line, "200:*:200:300:container user:/in/home/ann:/bin/sh\n");
        assert_eq!(ann.group_line(b"users:x:9:\n", None), None);
        assert_eq!(ann.group_line(b"", None).unwrap(), "users:x:300:ann\n");
    }

    #[test]
    fn a_user_in_no_file_goes_by_the_login_name_or_the_number() {
        let user = |login: &str| KnownUser::new((7, 8), (5, 6), "", "", login, str::to_owned);
        assert_eq!((user("bob").name, user("bob").group), ("bob".to_owned(), "bob".to_owned()));
        assert_eq!((user("b:b").name, user("").group), ("5".to_owned(), "5".to_owned()));
    }

    #[test]
    fn a_passwd_file_that_is_something_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc/passwd")).unwrap();
        let root = Root::open_dir(dir.path()).unwrap();
        assert!(ann((1, 1)).make_known(&root, None, None).is_err());
    }

    #[test]
    fn a_number_is_known_as_itself_or_as_the_template_says() {
        let user = KnownUser::of_number((1234, 0), "/w");
        assert_eq!(user.passwd_line(b"", None).unwrap(), "1234:*:1234:0:container user:/w:/bin/sh\n");
        let line = user.passwd_line(b"", Some("u$UID:x:$UID:$GID:$NAME:$HOME:/bin/ash")).unwrap();
        assert_eq!(line, "u1234:x:1234:0:container user:/w:/bin/ash\n");
        assert_eq!(user.group_line(b"", Some("$GROUPNAME:x:$GID:$USERLIST")).unwrap(), "0:x:0:1234\n");
    }

    #[test]
    fn users_of_the_host_are_found_by_name_and_by_number() {
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:1000:100:Ann:/home/ann:/bin/zsh\n";
        for user in ["ann", "1000"] {
            assert_eq!(host_entry(passwd, user).unwrap(), "ann:*:1000:100:Ann:/home/ann:/bin/sh");
        }
        assert!(host_entry(passwd, "bob").is_err());
    }
}
