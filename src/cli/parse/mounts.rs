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
    if parsed.overlay && parsed.chown {
        return Err(Invalid::new("'O' and 'U' do not go together: an overlay leaves the source alone"));
    }
    Ok(MountRequest { source, destination: destination_path(destination)?, options: parsed })
}

/// `--tmpfs DESTINATION[:OPTIONS]`.
pub fn tmpfs(text: &str) -> Result<MountRequest, Invalid> {
    let (destination, options) = text.split_once(':').unwrap_or((text, ""));
    let (mut size, mut mode, mut copy_up, mut further) = (None, None, false, Vec::new());
    let mut parsed = MountOptions { no_exec: true, ..MountOptions::default() };
    for option in options.split(',').filter(|o| !o.is_empty()) {
        match option.split_once('=') {
            Some(("size", text)) => size = Some(bytes(text)?),
            Some(("mode", text)) => mode = Some(octal(text)?),
            // tmpfs(5)
            Some((key @ ("uid" | "gid"), text)) => {
                further.push(format!("{key}={}", super::number::<u32>(text)?));
            }
            Some(("nr_inodes" | "nr_blocks" | "mpol" | "huge", _)) => further.push(option.to_owned()),
            _ if option == "tmpcopyup" => copy_up = true,
            _ if option == "notmpcopyup" => copy_up = false,
            _ if flag_option(option, &mut parsed) => {}
            _ => {
                let known = [
                    "size",
                    "mode",
                    "uid",
                    "gid",
                    "nr_inodes",
                    "tmpcopyup",
                    "ro",
                    "rw",
                    "exec",
                    "noexec",
                    "suid",
                    "nosuid",
                    "dev",
                    "nodev",
                ];
                return Err(Invalid::unknown("tmpfs option", option, &known));
            }
        }
    }
    let destination = destination_path(destination)?;
    let source = MountSource::Tmpfs { size, mode, options: further, copy_up };
    Ok(MountRequest { source, destination, options: parsed })
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
    const KNOWN: [&str; 19] = [
        "ro", "rw", "U", "z", "Z", "O", "nocopy", "copy", "exec", "noexec", "suid", "nosuid", "dev", "nodev",
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
        "O" if is_bind => to.overlay = true,
        "O" => return Err(Invalid::new("'O' is for folders of the host only")),
        _ if flag_option(option, to) => {}
        _ => match propagation(option) {
            Some(value) if is_bind => to.propagation = value,
            Some(_) => return Err(Invalid::new(format!("'{option}' is for paths of the host only"))),
            None if option.starts_with("idmap") => return Err(no_idmap()),
            None if option.starts_with("upperdir=") || option.starts_with("workdir=") => {
                let key = option.split('=').next().unwrap_or(option);
                return Err(Invalid::new(format!(
                    "'{key}' is not supported: what is written to an overlay is thrown away"
                ))
                .fix("mount the folder without O to keep what is written"));
            }
            None => return Err(Invalid::unknown("volume option", option, &KNOWN)),
        },
    }
    Ok(())
}

fn no_idmap() -> Invalid {
    Invalid::new("idmap is not for ordinary users: the kernel wants root for id-mapped mounts")
        .fix("use --userns keep-id to own the folder inside, or U to give it to the container's user")
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

/// `--mount type=bind|volume|tmpfs|image|devpts|ramfs|glob,KEY=VALUE…` (CSV, as docker's).
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
    copy_up: bool,
    exec_given: bool,
    read_only: Option<bool>,
    /// Options of devpts(5).
    pty: Vec<String>,
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
            "readonly" | "ro" => self.read_only = Some(truth()?),
            "rw" | "readwrite" => self.read_only = Some(!truth()?),
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
            // Of a ramfs too, which has no size.
            "tmpfs-mode" => self.mode = Some(octal(text()?)?),
            "tmpcopyup" | "notmpcopyup" => {
                self.only.push((key, "tmpfs"));
                self.copy_up = truth()? == (key == "tmpcopyup");
            }
            "uid" | "gid" | "max" => {
                self.only.push((key, "devpts"));
                self.pty.push(format!("{key}={}", super::number::<u32>(text()?)?));
            }
            "mode" => {
                self.only.push((key, "devpts"));
                self.pty.push(format!("mode={:o}", octal(text()?)?));
            }
            "idmap" => return Err(no_idmap()),
            "volume-opt" | "volume-label" | "volume-subpath" | "subpath" => {
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
        if self.mode.is_some() && !matches!(self.kind, "tmpfs" | "ramfs") {
            return Err(Invalid::new("'tmpfs-mode' is for type=tmpfs and type=ramfs only"));
        }
        // As with podman, an image may be written only if that is asked for; its set-id programs count.
        self.options.read_only = self.read_only.unwrap_or(self.kind == "image");
        self.options.suid |= self.kind == "image";
        let source = match (self.kind, self.source) {
            ("bind", Some("") | None) => return Err(Invalid::new("type=bind needs source=PATH")),
            ("bind", Some(path)) => MountSource::Bind { path: absolute(path, host), create: self.create },
            ("volume", Some("") | None) => MountSource::AnonymousVolume,
            ("volume", Some(name)) => named_volume(name)?,
            ("tmpfs", None) => {
                self.options.no_exec |= !self.exec_given;
                let (size, mode, options) = (self.size, self.mode, Vec::new());
                MountSource::Tmpfs { size, mode, options, copy_up: self.copy_up }
            }
            ("ramfs", None) => {
                self.options.no_exec |= !self.exec_given;
                let mode = self.mode.unwrap_or(0o1777);
                MountSource::New { kind: "ramfs".into(), options: vec![format!("mode={mode:o}")] }
            }
            ("devpts", None) => {
                self.pty.extend(["newinstance".to_owned(), "ptmxmode=0666".to_owned()]);
                MountSource::New { kind: "devpts".into(), options: self.pty }
            }
            (kind @ ("tmpfs" | "ramfs" | "devpts"), Some(_)) => {
                return Err(Invalid::new(format!("a {kind} has no source")));
            }
            (kind @ ("image" | "glob"), Some("") | None) => {
                return Err(Invalid::new(format!("type={kind} needs a source")));
            }
            ("image", Some(name)) => MountSource::Image { name: name.to_owned(), layers: Vec::new() },
            ("glob", Some(pattern)) if pattern.starts_with('/') => {
                let destination = self.destination.map_or(Ok("/".to_owned()), destination_path)?;
                let source = MountSource::Glob { pattern: pattern.to_owned() };
                return Ok(MountRequest { source, destination, options: self.options });
            }
            ("glob", Some(_)) => return Err(Invalid::new("the pattern needs to be an absolute path")),
            (kind @ ("cluster" | "npipe" | "artifact"), _) => {
                return Err(Invalid::new(format!("mounts of type '{kind}' are not supported yet")));
            }
            (kind, _) => {
                return Err(Invalid::unknown(
                    "mount type",
                    kind,
                    &["bind", "volume", "tmpfs", "image", "ramfs", "devpts", "glob"],
                ));
            }
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
pub fn csv(text: &str) -> Result<Vec<String>, Invalid> {
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
mod tests;
