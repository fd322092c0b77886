//! Namespaces, ids, and what is set in them.

use super::{Invalid, number};
use crate::container::ids::GivenRange;
use crate::container::joins::is_namespaced;
use crate::container::request::UsernsMode;
use crate::container::settings::NamespaceMode;

/// `--userns`.
pub fn userns(text: &str) -> Result<UsernsMode, Invalid> {
    const KNOWN: [&str; 5] = ["host", "keep-id", "auto", "nomap", "container:NAME"];
    let (mode, options) = text.split_once(':').unwrap_or((text, ""));
    let each = || options.split(',').filter(|o| !o.is_empty());
    let unknown = |option: &str, mode: &str| Invalid::new(format!("unknown option '{option}' of {mode}"));
    match mode {
        // Rootless: the namespace that the user's own ids are mapped into is the host's for podman too.
        "" | "host" | "private" if options.is_empty() => Ok(UsernsMode::Default),
        "nomap" if options.is_empty() => Ok(UsernsMode::NoMap),
        "keep-id" => {
            let (mut uid, mut gid) = (None, None);
            for option in each() {
                match option.split_once('=') {
                    Some(("uid", id)) => uid = Some(number(id)?),
                    Some(("gid", id)) => gid = Some(number(id)?),
                    _ => return Err(unknown(option, "keep-id")),
                }
            }
            Ok(UsernsMode::KeepId { uid, gid })
        }
        "auto" => {
            let mut size = None;
            for option in each() {
                match option.split_once('=') {
                    Some(("size", text)) => match number(text)? {
                        0 => return Err(Invalid::new("the size must be greater than zero")),
                        count => size = Some(count),
                    },
                    Some((key @ ("uidmapping" | "gidmapping"), _)) => {
                        return Err(Invalid::new(format!("option '{key}' of auto is not supported"))
                            .fix("map ids yourself with --uidmap and --gidmap"));
                    }
                    _ => return Err(unknown(option, "auto")),
                }
            }
            Ok(UsernsMode::Auto { size })
        }
        "container" if !options.is_empty() => Ok(UsernsMode::Container(options.to_owned())),
        "ns" | "pod" => Err(Invalid::new(format!("user namespace mode '{mode}' is not supported"))),
        _ => Err(Invalid::unknown("user namespace mode", text, &KNOWN)),
    }
}

/// `--uidmap`, `--gidmap`: `CONTAINER:FROM[:COUNT]`, FROM an id of the user's namespace, or of the host after `@`.
pub fn id_range(text: &str) -> Result<GivenRange, Invalid> {
    let invalid = || Invalid::new("expected CONTAINER_ID:FROM_ID:COUNT, as in 0:1:1000");
    let fields: Vec<&str> = text.split(':').collect();
    let (inside, outside, count) = match fields[..] {
        [inside, outside] => (inside, outside, "1"),
        [inside, outside, count] => (inside, outside, count),
        _ => return Err(invalid()),
    };
    if inside.starts_with(['+', 'u', 'g']) {
        return Err(Invalid::new("the flags +, u and g of podman are not supported").fix("write the map out"));
    }
    let (outside, of_host) = outside.strip_prefix('@').map_or((outside, false), |id| (id, true));
    let id = |text: &str| text.parse::<u32>().map_err(|_| invalid());
    match id(count)? {
        0 => Err(Invalid::new("the count must be greater than zero")),
        count => Ok(GivenRange { inside: id(inside)?, outside: id(outside)?, count, of_host }),
    }
}

fn mode(text: &str, known: &[&str]) -> Result<NamespaceMode, Invalid> {
    let word = text.split(':').next().unwrap_or_default();
    let mode = match text.split_once(':') {
        Some(("container", name)) if !name.is_empty() => NamespaceMode::Container(name.to_owned()),
        Some(("container", _)) => return Err(Invalid::new("name the container, as in container:web")),
        Some(("ns", _)) => return Err(Invalid::new("a namespace given by its path is not supported")),
        _ => match text {
            "" => NamespaceMode::Default,
            "private" => NamespaceMode::Private,
            "shareable" => NamespaceMode::Shareable,
            "none" => NamespaceMode::None,
            "host" => NamespaceMode::Host,
            "pod" => return Err(Invalid::new("there are no pods")),
            _ => return Err(Invalid::unknown("mode", text, known)),
        },
    };
    if text.is_empty() || word == "container" || known.contains(&text) {
        Ok(mode)
    } else {
        Err(Invalid::unknown("mode", text, known))
    }
}

/// `--pid`.
pub fn pid(text: &str) -> Result<NamespaceMode, Invalid> {
    mode(text, &["private", "host", "container:NAME"])
}

/// `--ipc`.
pub fn ipc(text: &str) -> Result<NamespaceMode, Invalid> {
    mode(text, &["private", "shareable", "none", "host", "container:NAME"])
}

/// `--uts`.
pub fn uts(text: &str) -> Result<NamespaceMode, Invalid> {
    mode(text, &["private", "host", "container:NAME"])
}

/// `--sysctl NAME=VALUE`, with podman's words for those that are not for containers.
pub fn sysctl(text: &str) -> Result<(String, String), Invalid> {
    let (name, value) = text.split_once('=').ok_or_else(|| {
        Invalid::new(format!("{text} is invalid, sysctl values must be in the form of KEY=VALUE"))
    })?;
    if name.trim() != name || value.trim() != value {
        return Err(Invalid::new(format!("'{text}' is invalid, extra spaces found")));
    }
    if !is_namespaced(name) || name.contains("..") || name.ends_with('.') {
        return Err(Invalid::new(format!("sysctl '{name}' is not allowed"))
            .fix("those of a container are net.*, fs.mqueue.*, kernel.msg*, kernel.sem, kernel.shm*, kernel.domainname"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_namespace_modes_and_their_options() {
        for (text, expected) in [
            ("", UsernsMode::Default),
            ("host", UsernsMode::Default),
            ("keep-id", UsernsMode::KeepId { uid: None, gid: None }),
            ("keep-id:uid=200,gid=210", UsernsMode::KeepId { uid: Some(200), gid: Some(210) }),
            ("nomap", UsernsMode::NoMap),
            ("auto", UsernsMode::Auto { size: None }),
            ("auto:size=500", UsernsMode::Auto { size: Some(500) }),
            ("container:web", UsernsMode::Container("web".into())),
        ] {
            assert_eq!(userns(text), Ok(expected), "{text}");
        }
        for bad in [
            "keep-id:size=3",
            "keep_id",
            "auto:size=0",
            "auto:x=1",
            "nomap:x",
            "container:",
            "ns:/x",
            "host:x",
        ] {
            assert!(userns(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn id_ranges_are_three_numbers() {
        let range = |inside, outside, count, of_host| GivenRange { inside, outside, count, of_host };
        assert_eq!(id_range("0:1:1000"), Ok(range(0, 1, 1000, false)));
        assert_eq!(id_range("5:@1000"), Ok(range(5, 1000, 1, true)));
        for bad in ["", "1", "0:1:0", "a:1:1", "+0:1:1", "0:1:1:1", "0:-1:1"] {
            assert!(id_range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn namespace_modes_are_those_of_their_kind() {
        assert_eq!(pid("host"), Ok(NamespaceMode::Host));
        assert_eq!(pid("container:a:b"), Ok(NamespaceMode::Container("a:b".into())));
        assert_eq!(ipc("none"), Ok(NamespaceMode::None));
        assert_eq!(uts(""), Ok(NamespaceMode::Default));
        for bad in ["none", "shareable", "container", "container:", "ns:/proc/1/ns/pid", "pod", "hots"] {
            assert!(pid(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sysctls_are_those_of_a_container() {
        assert_eq!(sysctl("net.ipv4.ip_forward=1"), Ok(("net.ipv4.ip_forward".into(), "1".into())));
        assert_eq!(sysctl("kernel.sem=1 2 3 4").unwrap().1, "1 2 3 4");
        for (bad, why) in [
            ("kernel.panic=1", "sysctl 'kernel.panic' is not allowed"),
            ("vm.swappiness=1", "not allowed"),
            ("kernel.shm=1", "not allowed"),
            ("net.../x=1", "not allowed"),
            ("net.x", "KEY=VALUE"),
            ("net.x = 1", "extra spaces"),
        ] {
            let error = sysctl(bad).unwrap_err();
            assert!(error.why.contains(why), "{bad}: {}", error.why);
        }
    }
}
