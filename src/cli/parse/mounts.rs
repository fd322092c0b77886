//! `-v`, `--mount` and `--tmpfs`.

use super::{Host, Invalid, boolean, bytes};
use crate::container::request::{MountOptions, MountRequest, MountSource, Propagation};
use std::path::{Component, Path, PathBuf};

/// `-v [SOURCE:]DESTINATION[:OPTIONS]`: a source with a slash or a dot in front is a path of the host, made if
/// it is missing; any other is a volume's name; none is an anonymous volume.
pub fn volume(text: &str, host: &Host) -> Result<MountRequest, Invalid> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, options) = match parts[..] {
        [destination] => ("", destination, ""),
        [source, destination] => (source, destination, ""),
        [source, destination, options] => (source, destination, options),
        _ => return Err(Invalid::new("expected [SOURCE:]DESTINATION[:OPTIONS]")),
    };
    if parts.len() > 1 && source.is_empty() {
        return Err(Invalid::new("the source is empty"));
    }
    let source = match source {
        "" => MountSource::AnonymousVolume,
        _ if source.starts_with(['/', '.']) => {
            MountSource::Bind { path: absolute(source, host), create: true }
        }
        _ => named_volume(source)?,
    };
    let mut parsed = MountOptions::default();
    for option in options.split(',').filter(|o| !o.is_empty()) {
        mount_option(option, &source, host, &mut parsed)?;
    }
    Ok(MountRequest { source, destination: destination_path(destination)?, options: parsed })
}

/// `--tmpfs DESTINATION[:OPTIONS]`.
pub fn tmpfs(text: &str) -> Result<MountRequest, Invalid> {
    let (destination, options) = text.split_once(':').unwrap_or((text, ""));
    let (mut size, mut mode) = (None, None);
    let mut parsed = MountOptions { no_exec: true, ..MountOptions::default() };
    for option in options.split(',').filter(|o| !o.is_empty()) {
        match option.split_once('=') {
            Some(("size", text)) => size = Some(bytes(text)?),
            Some(("mode", text)) => mode = Some(octal(text)?),
            Some((key @ ("uid" | "gid" | "nr_inodes" | "nr_blocks" | "mpol" | "huge"), _)) => {
                return Err(Invalid::new(format!("tmpfs option '{key}' is not supported yet")));
            }
            _ => tmpfs_option(option, &mut parsed)?,
        }
    }
    let destination = destination_path(destination)?;
    Ok(MountRequest { source: MountSource::Tmpfs { size, mode }, destination, options: parsed })
}

fn tmpfs_option(option: &str, to: &mut MountOptions) -> Result<(), Invalid> {
    match option {
        "tmpcopyup" => return Err(Invalid::new("tmpfs option 'tmpcopyup' is not supported yet")),
        "notmpcopyup" => {}
        _ if flag_option(option, to) => {}
        _ => {
            let known = ["size", "mode", "ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev"];
            return Err(Invalid::unknown("tmpfs option", option, &known));
        }
    }
    Ok(())
}

/// Options that every kind of mount has; whether `option` is one.
fn flag_option(option: &str, to: &mut MountOptions) -> bool {
    match option {
        "ro" => to.read_only = true,
        "rw" => to.read_only = false,
        "exec" => to.no_exec = false,
        "noexec" => to.no_exec = true,
        "suid" => to.suid = true,
        "nosuid" => to.suid = false,
        "dev" => to.dev = true,
        "nodev" => to.dev = false,
        _ => return false,
    }
    true
}

/// Options of `-v`.
fn mount_option(
    option: &str,
    source: &MountSource,
    host: &Host,
    to: &mut MountOptions,
) -> Result<(), Invalid> {
    const KNOWN: [&str; 18] = [
        "ro", "rw", "U", "z", "Z", "nocopy", "copy", "exec", "noexec", "suid", "nosuid", "dev", "nodev",
        "rprivate", "rslave", "rshared", "bind", "rbind",
    ];
    let is_bind = matches!(source, MountSource::Bind { .. });
    match option {
        "U" => to.chown = true,
        "z" | "Z" => check_relabel(host)?,
        "copy" | "nocopy" if is_bind => return Err(Invalid::new(format!("'{option}' is for volumes only"))),
        "copy" => to.no_copy = false,
        "nocopy" => to.no_copy = true,
        "bind" | "rbind" if is_bind => to.non_recursive = option == "bind",
        "bind" | "rbind" => return Err(Invalid::new(format!("'{option}' is for paths of the host only"))),
        // Hints for docker's virtual machine on macOS, without meaning anywhere else.
        "consistent" | "cached" | "delegated" => {}
        "O" | "idmap" | "upperdir" | "workdir" => {
            return Err(Invalid::new(format!("volume option '{option}' is not supported yet")));
        }
        _ if flag_option(option, to) => {}
        _ => match propagation(option) {
            Some(value) if is_bind => to.propagation = value,
            Some(_) => return Err(Invalid::new(format!("'{option}' is for paths of the host only"))),
            None if option.starts_with("idmap") || option.starts_with("upperdir=") => {
                let key = option.split('=').next().unwrap_or(option);
                return Err(Invalid::new(format!("volume option '{key}' is not supported yet")));
            }
            None => return Err(Invalid::unknown("volume option", option, &KNOWN)),
        },
    }
    Ok(())
}

fn propagation(text: &str) -> Option<Propagation> {
    match text {
        "private" | "rprivate" => Some(Propagation::Private),
        "slave" | "rslave" => Some(Propagation::Slave),
        "shared" | "rshared" => Some(Propagation::Shared),
        _ => None,
    }
}

/// Labels have no meaning where SELinux is off, and podman ignores them there; where it is on, a container
/// without its label would fail later and more obscurely.
fn check_relabel(host: &Host) -> Result<(), Invalid> {
    match host.selinux {
        false => Ok(()),
        true => Err(Invalid::new("relabelling for SELinux is not supported yet")
            .fix("label the source yourself: chcon -R -t container_file_t SOURCE")),
    }
}

/// `--mount type=bind|volume|tmpfs,KEY=VALUE…` (CSV, as docker's).
pub fn mount(text: &str, host: &Host) -> Result<MountRequest, Invalid> {
    let mut fields = Fields { kind: "volume", ..Fields::default() };
    let csv = csv(text)?;
    for field in &csv {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        fields.set(key, value, host)?;
    }
    fields.finish(host)
}

#[derive(Default)]
struct Fields<'a> {
    kind: &'a str,
    source: Option<&'a str>,
    destination: Option<&'a str>,
    size: Option<u64>,
    mode: Option<u32>,
    create: bool,
    exec_given: bool,
    /// Keys that only one kind of mount has, with the kind.
    only: Vec<(&'a str, &'static str)>,
    options: MountOptions,
}

impl<'a> Fields<'a> {
    fn set(&mut self, key: &'a str, value: Option<&'a str>, host: &Host) -> Result<(), Invalid> {
        let text = || value.ok_or_else(|| Invalid::new(format!("'{key}' needs a value")));
        let truth = || value.map_or(Ok(true), boolean);
        match key {
            "type" => self.kind = text()?,
            "source" | "src" => self.source = Some(text()?),
            "target" | "dst" | "destination" => self.destination = Some(text()?),
            "readonly" | "ro" => self.options.read_only = truth()?,
            "rw" => self.options.read_only = !truth()?,
            "U" | "chown" => self.options.chown = truth()?,
            "exec" | "noexec" => {
                self.options.no_exec = truth()? == (key == "noexec");
                self.exec_given = true;
            }
            "suid" | "nosuid" => self.options.suid = truth()? == (key == "suid"),
            "dev" | "nodev" => self.options.dev = truth()? == (key == "dev"),
            "z" | "Z" => check_relabel(host)?,
            "relabel" => match text()? {
                "shared" | "private" => check_relabel(host)?,
                other => return Err(Invalid::unknown("relabel mode", other, &["shared", "private"])),
            },
            "consistency" => match text()? {
                "default" | "consistent" | "cached" | "delegated" => {}
                other => {
                    return Err(Invalid::unknown(
                        "consistency",
                        other,
                        &["consistent", "cached", "delegated"],
                    ));
                }
            },
            "bind-propagation" => {
                self.only.push((key, "bind"));
                let known = ["private", "rprivate", "slave", "rslave", "shared", "rshared"];
                let name = text()?;
                self.options.propagation =
                    propagation(name).ok_or_else(|| Invalid::unknown("propagation", name, &known))?;
            }
            "bind-nonrecursive" => {
                self.only.push((key, "bind"));
                self.options.non_recursive = truth()?;
            }
            "bind-recursive" => {
                self.only.push((key, "bind"));
                self.options.non_recursive = match text()? {
                    // A read-only mount is read-only below too, always.
                    "enabled" | "readonly" => false,
                    "disabled" => true,
                    "writable" => {
                        return Err(Invalid::new("'bind-recursive=writable' is not supported yet"));
                    }
                    other => {
                        return Err(Invalid::unknown("mode", other, &["enabled", "disabled", "readonly"]));
                    }
                };
            }
            "bind-create-src" => {
                self.only.push((key, "bind"));
                self.create = truth()?;
            }
            "volume-nocopy" => {
                self.only.push((key, "volume"));
                self.options.no_copy = truth()?;
            }
            "volume-driver" => {
                self.only.push((key, "volume"));
                if text()? != "local" {
                    return Err(Invalid::new("only the 'local' volume driver is supported"));
                }
            }
            "tmpfs-size" => {
                self.only.push((key, "tmpfs"));
                self.size = Some(bytes(text()?)?);
            }
            "tmpfs-mode" => {
                self.only.push((key, "tmpfs"));
                self.mode = Some(octal(text()?)?);
            }
            "notmpcopyup" => self.only.push((key, "tmpfs")),
            "tmpcopyup" | "volume-opt" | "volume-label" | "volume-subpath" | "subpath" | "idmap" => {
                return Err(Invalid::new(format!("mount option '{key}' is not supported yet")));
            }
            _ => {
                let known = [
                    "type",
                    "source",
                    "target",
                    "readonly",
                    "bind-propagation",
                    "bind-recursive",
                    "volume-nocopy",
                    "tmpfs-size",
                    "tmpfs-mode",
                    "relabel",
                    "chown",
                ];
                return Err(Invalid::unknown("mount option", key, &known));
            }
        }
        Ok(())
    }

    fn finish(mut self, host: &Host) -> Result<MountRequest, Invalid> {
        if let Some((key, kind)) = self.only.iter().find(|(_, kind)| *kind != self.kind) {
            return Err(Invalid::new(format!("'{key}' is for type={kind} only")));
        }
        let source = match (self.kind, self.source) {
            ("bind", Some("") | None) => return Err(Invalid::new("type=bind needs source=PATH")),
            ("bind", Some(path)) => MountSource::Bind { path: absolute(path, host), create: self.create },
            ("volume", Some("") | None) => MountSource::AnonymousVolume,
            ("volume", Some(name)) => named_volume(name)?,
            ("tmpfs", None) => {
                self.options.no_exec |= !self.exec_given;
                MountSource::Tmpfs { size: self.size, mode: self.mode }
            }
            ("tmpfs", Some(_)) => return Err(Invalid::new("a tmpfs has no source")),
            (kind @ ("image" | "devpts" | "ramfs" | "glob" | "cluster" | "npipe" | "artifact"), _) => {
                return Err(Invalid::new(format!("mounts of type '{kind}' are not supported yet")));
            }
            (kind, _) => return Err(Invalid::unknown("mount type", kind, &["bind", "volume", "tmpfs"])),
        };
        let destination = self.destination.ok_or_else(|| Invalid::new("target=PATH is missing"))?;
        Ok(MountRequest { source, destination: destination_path(destination)?, options: self.options })
    }
}

/// The first destination that two mounts share.
pub fn duplicate_destination(mounts: &[MountRequest]) -> Option<&str> {
    let mut seen = std::collections::BTreeSet::new();
    mounts.iter().map(|m| m.destination.as_str()).find(|destination| !seen.insert(*destination))
}

/// The fields of one line of comma-separated values (RFC 4180 without line breaks).
fn csv(text: &str) -> Result<Vec<String>, Invalid> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
            Some(quoted) => {
                let (mut field, mut tail) = (String::new(), quoted);
                loop {
                    let end = tail.find('"').ok_or_else(|| Invalid::new("a quote is not closed"))?;
                    field.push_str(&tail[..end]);
                    tail = &tail[end + 1..];
                    match tail.strip_prefix('"') {
                        Some(more) => {
                            field.push('"');
                            tail = more;
                        }
                        None => break (field, tail),
                    }
                }
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None if after.is_empty() => return Ok(fields),
            None => return Err(Invalid::new("text after a closing quote")),
        }
    }
}

fn named_volume(name: &str) -> Result<MountSource, Invalid> {
    match super::name(name) {
        Ok(name) => Ok(MountSource::Volume { name }),
        Err(_) => Err(Invalid::new(format!("'{name}' is no name for a volume"))
            .fix("names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*; begin a path with / or ./")),
    }
}

fn octal(text: &str) -> Result<u32, Invalid> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 && !text.starts_with('+') => Ok(mode),
        _ => Err(Invalid::new(format!("'{text}' is not a mode in octal digits"))),
    }
}

/// Lexically: the host's links are none of our business, the kernel follows them.
fn absolute(path: &str, host: &Host) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in host.cwd.join(path).components() {
        match part {
            Component::ParentDir => {
                // `/a/link/..` is not `/a`: keep what only the kernel can resolve.
                clean.push("..");
            }
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    clean
}

/// The destination in the container, absolute and without `.`, `..` and doubled slashes.
fn destination_path(text: &str) -> Result<String, Invalid> {
    if !text.starts_with('/') {
        return Err(Invalid::new(format!(
            "the destination '{text}' is not an absolute path in the container"
        )));
    }
    let mut clean = PathBuf::from("/");
    for part in Path::new(text).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    if clean == Path::new("/") {
        return Err(Invalid::new("the destination can't be '/'"));
    }
    Ok(clean.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::super::test_host;
    use super::*;

    fn request(source: MountSource, destination: &str, options: MountOptions) -> MountRequest {
        MountRequest { source, destination: destination.into(), options }
    }

    fn bind(path: &str) -> MountSource {
        MountSource::Bind { path: path.into(), create: true }
    }

    fn named(name: &str) -> MountSource {
        MountSource::Volume { name: name.into() }
    }

    #[test]
    fn the_forms_of_a_volume_are_dockers_and_podmans() {
        let plain = MountOptions::default();
        let ro = MountOptions { read_only: true, ..plain };
        let table = [
            ("/p", request(MountSource::AnonymousVolume, "/p", plain)),
            ("data:/p", request(named("data"), "/p", plain)),
            ("/a:/b", request(bind("/a"), "/b", plain)),
            ("./a:/b/", request(bind("/home/me/a"), "/b", plain)),
            ("../a:/b/../c//d", request(bind("/home/me/../a"), "/c/d", plain)),
            (".:/b", request(bind("/home/me"), "/b", plain)),
            ("/a:/b:ro", request(bind("/a"), "/b", ro)),
            ("/a:/b:ro,U,z", request(bind("/a"), "/b", MountOptions { chown: true, ..ro })),
            ("data:/p:nocopy", request(named("data"), "/p", MountOptions { no_copy: true, ..plain })),
            (
                "/a:/b:exec,dev,suid",
                request(bind("/a"), "/b", MountOptions { dev: true, suid: true, ..plain }),
            ),
            (
                "/a:/b:rslave,bind,cached",
                request(
                    bind("/a"),
                    "/b",
                    MountOptions { propagation: Propagation::Slave, non_recursive: true, ..plain },
                ),
            ),
        ];
        for (text, expected) in table {
            assert_eq!(volume(text, &test_host()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_volume_is_refused() {
        for bad in [
            "",
            ":/p",
            "a:b",
            "/a:",
            "/a:/",
            "/a:/b/..",
            "a/b:/p",
            "/a:/b:rwx",
            "/a:/b:ro:z",
            "/a:/b:nocopy",
            "data:/p:rslave",
            "/a:/b:O",
            "/a:/b:idmap=uids=1",
            "-x:/p",
        ] {
            assert!(volume(bad, &test_host()).is_err(), "{bad}");
        }
    }

    #[test]
    fn relabelling_is_refused_only_where_selinux_is_on() {
        let on = Host { selinux: true, ..test_host() };
        assert!(volume("/a:/b:Z", &test_host()).is_ok());
        assert!(volume("/a:/b:Z", &on).is_err() && mount("type=bind,src=/a,dst=/b,z", &on).is_err());
    }

    #[test]
    fn mounts_take_dockers_keys() {
        let plain = MountOptions::default();
        let ro = MountOptions { read_only: true, ..plain };
        let host_path = MountSource::Bind { path: "/a,b".into(), create: false };
        let table = [
            ("type=bind,\"source=/a,b\",target=/p,readonly", request(host_path, "/p", ro)),
            ("source=data,target=/p", request(named("data"), "/p", plain)),
            ("type=volume,dst=/p,ro=false", request(MountSource::AnonymousVolume, "/p", plain)),
            (
                "type=tmpfs,destination=/t,tmpfs-size=64m,tmpfs-mode=1770",
                request(
                    MountSource::Tmpfs { size: Some(64 << 20), mode: Some(0o1770) },
                    "/t",
                    MountOptions { no_exec: true, ..plain },
                ),
            ),
            (
                "type=bind,src=x,dst=/p,bind-propagation=shared,bind-recursive=disabled,bind-create-src",
                request(
                    bind("/home/me/x"),
                    "/p",
                    MountOptions { propagation: Propagation::Shared, non_recursive: true, ..plain },
                ),
            ),
        ];
        for (text, expected) in table {
            assert_eq!(mount(text, &test_host()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_mount_is_refused() {
        for bad in [
            "",
            "type=bind,target=/p",
            "type=bind,source=/a",
            "type=tmpfs,src=/a,dst=/p",
            "type=nfs,dst=/p",
            "type=bind,src=/a,dst=/p,tmpfs-size=1m",
            "type=bind,src=/a,dst=p",
            "dst=/p,volume-opt=o=x",
            "type=bind,src=/a,dst=/p,readonly=maybe",
            "type=bind,\"src=/a,dst=/p",
            "dst=/p,tagret=/q",
        ] {
            assert!(mount(bad, &test_host()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tmpfs_has_a_size_a_mode_and_no_programs() {
        let source = MountSource::Tmpfs { size: Some(64 << 20), mode: Some(0o1777) };
        let options = MountOptions { no_exec: true, ..MountOptions::default() };
        assert_eq!(tmpfs("/t:size=64m,mode=1777"), Ok(request(source, "/t", options)));
        let plain = MountSource::Tmpfs { size: None, mode: None };
        assert_eq!(tmpfs("/t:exec").unwrap(), request(plain, "/t", MountOptions::default()));
        for bad in ["t", "/", "/t:size=x", "/t:mode=9", "/t:uid=5", "/t:size", "/t:nope"] {
            assert!(tmpfs(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn two_mounts_at_one_place_are_noticed() {
        let mounts = ["/a:/x", "/b:/y", "data:/x/"].map(|text| volume(text, &test_host()).unwrap());
        assert_eq!(duplicate_destination(&mounts), Some("/x"));
        assert_eq!(duplicate_destination(&mounts[..2]), None);
    }
}
