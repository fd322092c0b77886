//! `--security-opt` and capabilities.

use super::{Host, Invalid, boolean};
use crate::container::request::{SeccompChoice, SecurityOptions};
use std::str::FromStr;

/// One `--cap-add` or `--cap-drop`: one or more names (podman allows commas), with or without `CAP_`, or `ALL`.
pub fn capabilities(text: &str) -> Result<Vec<String>, Invalid> {
    text.split(',')
        .map(|name| {
            let upper = name.to_ascii_uppercase();
            if upper == "ALL" {
                return Ok(upper);
            }
            let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
            match caps::Capability::from_str(&full) {
                Ok(_) => Ok(full),
                Err(_) => {
                    let all: Vec<String> =
                        caps::all().iter().map(|c| c.to_string()[4..].to_owned()).collect();
                    let wrong = Invalid::new(format!("unknown capability '{name}'"));
                    Err(match super::nearest(&full[4..], all.iter().map(String::as_str)) {
                        Some(near) => wrong.fix(format!("did you mean '{near}'?")),
                        None => wrong.fix("capabilities(7) lists them"),
                    })
                }
            }
        })
        .collect()
}

/// Applies one `--security-opt`. `read` reads a seccomp profile.
pub fn security_opt(
    text: &str,
    host: &Host,
    to: &mut SecurityOptions,
    read: impl Fn(&str) -> Result<String, Invalid>,
) -> Result<(), Invalid> {
    // docker still takes its old separator too.
    let (key, value) = match text.split_once(['=', ':']) {
        Some((key, value)) => (key, Some(value)),
        None => (text, None),
    };
    match (key, value) {
        ("no-new-privileges", value) => {
            to.no_new_privileges = Some(value.map_or(Ok(true), boolean)?);
        }
        ("seccomp", Some("unconfined")) => to.seccomp = SeccompChoice::Unconfined,
        ("seccomp", Some("builtin" | "")) => to.seccomp = SeccompChoice::Default,
        ("seccomp", Some(file)) => to.seccomp = SeccompChoice::Profile(read(file)?),
        ("unmask" | "mask", Some(paths)) => {
            let list = if key == "mask" { &mut to.mask } else { &mut to.unmask };
            for path in paths.split(':') {
                match path {
                    "ALL" | "all" if key == "unmask" => list.push("ALL".into()),
                    _ if path.starts_with('/') => list.push(path.to_owned()),
                    _ => return Err(Invalid::new(format!("'{path}' is not an absolute path"))),
                }
            }
        }
        ("systempaths", Some("unconfined")) => to.unmask.push("ALL".into()),
        // We set no labels and load no profile: asking for none is what happens anyway.
        ("label", Some("disable")) | ("apparmor", Some("unconfined")) => {}
        ("label", Some(_)) if !host.selinux => {}
        ("apparmor", Some(_)) if !host.apparmor => {}
        ("label", Some(_)) => {
            return Err(Invalid::new("SELinux labels are not supported yet").fix("use label=disable"));
        }
        ("apparmor", Some(_)) => {
            return Err(
                Invalid::new("AppArmor profiles are not supported yet").fix("use apparmor=unconfined")
            );
        }
        ("proc-opts", _) => return Err(Invalid::new("proc-opts is not supported yet")),
        ("seccomp" | "label" | "apparmor" | "mask" | "unmask" | "systempaths", _) => {
            return Err(Invalid::new(format!("'{key}' needs a value, as in {key}=VALUE")));
        }
        _ => {
            let known =
                ["no-new-privileges", "seccomp", "label", "apparmor", "mask", "unmask", "systempaths"];
            return Err(Invalid::unknown("security option", key, &known));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::test_host;
    use super::*;

    fn apply(texts: &[&str], host: &Host) -> Result<SecurityOptions, Invalid> {
        let mut options = SecurityOptions::default();
        for text in texts {
            security_opt(text, host, &mut options, |file| Ok(format!("text of {file}")))?;
        }
        Ok(options)
    }

    #[test]
    fn capabilities_get_their_full_name() {
        assert_eq!(capabilities("net_admin").unwrap(), ["CAP_NET_ADMIN"]);
        assert_eq!(capabilities("CAP_SYS_TIME,all").unwrap(), ["CAP_SYS_TIME", "ALL"]);
        assert_eq!(capabilities("NETADMIN").unwrap_err().fix.unwrap(), "did you mean 'NET_ADMIN'?");
        assert!(capabilities("").is_err());
    }

    #[test]
    fn security_options_add_up() {
        let options = apply(
            &["no-new-privileges:false", "seccomp=p.json", "mask=/a:/b", "unmask=ALL", "label=disable"],
            &test_host(),
        )
        .unwrap();
        assert_eq!(options.no_new_privileges, Some(false));
        assert_eq!(options.seccomp, SeccompChoice::Profile("text of p.json".into()));
        assert_eq!((options.mask, options.unmask), (vec!["/a".into(), "/b".into()], vec!["ALL".into()]));
    }

    #[test]
    fn labels_and_profiles_are_ignored_only_where_their_module_is_off() {
        let off = test_host();
        let on = Host { selinux: true, apparmor: true, ..test_host() };
        for text in ["label=type:spc_t", "apparmor=mine"] {
            assert!(apply(&[text], &off).is_ok() && apply(&[text], &on).is_err(), "{text}");
        }
        assert!(apply(&["label=disable", "apparmor=unconfined"], &on).is_ok());
    }

    #[test]
    fn unknown_security_options_are_refused() {
        for bad in ["", "secomp=unconfined", "seccomp", "mask=a", "no-new-privileges=maybe", "proc-opts=x"] {
            assert!(apply(&[bad], &test_host()).is_err(), "{bad}");
        }
    }
}
