//! What is mounted into a container, decided when it is created: what the user asked for, what comes from other
//! containers, the image's volumes, and the tmpfs of `--read-only` and `--systemd`. A later one gives way to an earlier one
//! with the same destination.

use super::Error;
use super::record::{MountKind, MountUse};
use super::request::{CreateRequest, MountOptions, MountSource};
use super::settings::ImageVolumes;
use crate::sandbox::masks;
use crate::state::Durability;
use crate::volume::NewVolume;
use std::fs;
use std::path::{Path, PathBuf};

/// The mounts, parents first. `from` are those of other containers (`--volumes-from`), `volumes` the image's.
pub(super) fn mounts(
    request: &CreateRequest,
    from: &[MountUse],
    volumes: &[String],
    systemd: bool,
) -> Result<Vec<MountUse>, Error> {
    let mut list: Vec<MountUse> = Vec::new();
    for mount in &request.mounts {
        for used in used(mount)? {
            if list.iter().any(|m| m.destination == used.destination) {
                return Err(Error::Request {
                    what: format!("{} is mounted on twice", used.destination),
                    fix: Some("name each destination once".into()),
                });
            }
            list.push(used);
        }
    }
    let mut unless_there = |used: MountUse| {
        if !list.iter().any(|m| m.destination == used.destination) {
            list.push(used);
        }
    };
    from.iter().cloned().for_each(&mut unless_there);
    if request.image_volumes != ImageVolumes::Ignore {
        for destination in volumes.iter().map(|v| clean(v)) {
            if destination == "/" {
                return Err(Error::Request {
                    what: format!(
                        "image {} has the volume /: a container's root cannot be one",
                        request.image
                    ),
                    fix: Some(
                        "run it with --image-volume ignore, and -v for the volumes that it needs".into(),
                    ),
                });
            }
            let kind = match request.image_volumes {
                ImageVolumes::Tmpfs => tmpfs(0o1777),
                _ => anonymous()?,
            };
            unless_there(MountUse { kind, destination, options: MountOptions::default() });
        }
    }
    let mut fresh = |destination: &str, mode| {
        let (destination, options) = (destination.to_owned(), MountOptions::default());
        unless_there(MountUse { kind: tmpfs(mode), destination, options });
    };
    if systemd {
        // What it wants to find (https://systemd.io/CONTAINER_INTERFACE), as podman has it.
        fresh("/run", 0o755);
        fresh("/run/lock", 0o1777);
        fresh("/tmp", 0o1777);
        fresh("/var/log/journal", 0o755);
    }
    if request.read_only && request.read_only_tmpfs {
        fresh("/run", 0o755);
        fresh("/tmp", 0o1777);
        fresh("/var/tmp", 0o1777);
    }
    list.sort_by_key(|m| m.destination.matches('/').count());
    Ok(list)
}

/// What a mount that was asked for comes to: one, or as many as a pattern finds.
fn used(mount: &super::request::MountRequest) -> Result<Vec<MountUse>, Error> {
    let (options, destination) = (mount.options, clean(&mount.destination));
    if let MountSource::Glob { pattern } = &mount.source {
        let found =
            glob(Path::new(pattern)).map_err(|e| Error::Request { what: e.to_string(), fix: None })?;
        if found.is_empty() {
            return Err(Error::Request {
                what: format!("no file or folder matches {pattern}"),
                fix: Some("check the pattern on the host: 'ls -d PATTERN'".into()),
            });
        }
        let place = |path: &Path| match destination.as_str() {
            // Without a destination each is where it is on the host.
            "/" => path.display().to_string(),
            folder => format!("{folder}/{}", path.file_name().unwrap_or_default().to_string_lossy()),
        };
        let used =
            |path: PathBuf| MountUse { destination: place(&path), kind: MountKind::Bind { path }, options };
        return Ok(found.into_iter().map(used).collect());
    }
    if destination == "/" {
        return Err(Error::Request {
            what: "the destination of a mount cannot be /".into(),
            fix: Some(
                "name a folder below it; --rootfs runs a folder of the host instead of an image".into(),
            ),
        });
    }
    let kind = match &mount.source {
        MountSource::Bind { path, create } => {
            if (!create || options.overlay) && fs::symlink_metadata(path).is_err() {
                return Err(Error::Request {
                    what: format!("bind source {} does not exist", path.display()),
                    fix: Some("create it, or use -v, which creates a missing folder".into()),
                });
            }
            if options.overlay && !path.is_dir() {
                return Err(Error::Request {
                    what: format!("{} is no folder: an overlay (:O) needs one", path.display()),
                    fix: Some("leave :O out, or use :ro".into()),
                });
            }
            MountKind::Bind { path: path.clone() }
        }
        MountSource::Volume { name } => MountKind::Volume { name: name.clone(), anonymous: false },
        MountSource::AnonymousVolume => anonymous()?,
        MountSource::Tmpfs { size, mode, options, copy_up } => MountKind::Tmpfs {
            size: *size,
            mode: mode.unwrap_or(0o1777),
            options: options.clone(),
            copy_up: *copy_up,
        },
        MountSource::New { kind, options } => MountKind::New { kind: kind.clone(), options: options.clone() },
        MountSource::Image { name, layers } => {
            MountKind::Image { name: name.clone(), layers: layers.clone() }
        }
        MountSource::Glob { .. } => return Ok(Vec::new()),
    };
    Ok(vec![MountUse { kind, destination, options }])
}

fn anonymous() -> Result<MountKind, Error> {
    let name = NewVolume::anonymous(Durability::Process)?.name;
    Ok(MountKind::Volume { name, anonymous: true })
}

fn tmpfs(mode: u32) -> MountKind {
    MountKind::Tmpfs { size: None, mode, options: Vec::new(), copy_up: false }
}

/// The mounts of another container that `--volumes-from` takes over: what is of the host or a volume.
pub(super) fn taken_over(of: &[MountUse], read_only: Option<bool>) -> Vec<MountUse> {
    let take = |used: &MountUse| {
        let kind = match &used.kind {
            MountKind::Bind { .. } => used.kind.clone(),
            // The other container's, not ours to remove.
            MountKind::Volume { name, .. } => MountKind::Volume { name: name.clone(), anonymous: false },
            _ => return None,
        };
        let read_only = read_only.unwrap_or(used.options.read_only);
        // It has been filled and given away by its first user.
        let options = MountOptions { read_only, chown: false, no_copy: true, ..used.options };
        Some(MountUse { kind, destination: used.destination.clone(), options })
    };
    of.iter().filter_map(take).collect()
}

/// The paths that match a pattern, as path.Match has it: part by part, sorted.
fn glob(pattern: &Path) -> Result<Vec<PathBuf>, masks::Error> {
    let mut found = vec![PathBuf::from("/")];
    for part in pattern.components().skip(1) {
        let part = part.as_os_str().to_string_lossy();
        let matching = masks::Pattern::parse(&part)?;
        let mut next = Vec::new();
        for folder in found {
            if !part.contains(['*', '?', '[', '\\']) {
                next.extend(Some(folder.join(&*part)).filter(|path| path.symlink_metadata().is_ok()));
                continue;
            }
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let hidden = name.as_encoded_bytes().starts_with(b".") && !part.starts_with('.');
                if !hidden && matching.matches(name.as_encoded_bytes()) {
                    next.push(entry.path());
                }
            }
        }
        found = next;
    }
    found.sort();
    Ok(found)
}

/// An absolute path without `.`, `..` and repeated slashes.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::request;

    fn mount(at: &str) -> request::MountRequest {
        request::MountRequest {
            source: MountSource::AnonymousVolume,
            destination: at.into(),
            options: MountOptions::default(),
        }
    }

    #[test]
    fn destinations_are_cleaned_parents_come_first_and_doubles_are_refused() {
        let mut request = CreateRequest {
            mounts: vec![mount("/a//b/../c"), mount("/a")],
            read_only: true,
            read_only_tmpfs: true,
            ..Default::default()
        };
        let list = mounts(&request, &[], &["/a/".to_owned()], false).unwrap();
        let at: Vec<_> = list.iter().map(|m| m.destination.as_str()).collect();
        assert_eq!(at, ["/a", "/run", "/tmp", "/a/c", "/var/tmp"]);
        request.mounts.push(mount("/a/."));
        assert!(mounts(&request, &[], &[], false).is_err());
    }

    #[test]
    fn a_volume_of_an_image_cannot_be_its_root() {
        let mut request = CreateRequest { image: "odd".into(), ..Default::default() };
        let error = mounts(&request, &[], &["/".to_owned()], false).unwrap_err().to_string();
        assert!(error.contains("odd has the volume /"), "{error}");
        request.image_volumes = ImageVolumes::Ignore;
        assert!(mounts(&request, &[], &["/".to_owned()], false).unwrap().is_empty());
        request.mounts.push(mount("/x/.."));
        assert!(mounts(&request, &[], &[], false).is_err());
    }

    #[test]
    fn patterns_find_what_there_is() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a/one.so", "b/two.so", "b/.hidden.so", "c"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = |pattern: &str| -> Vec<String> {
            let found = glob(&dir.path().join(pattern)).unwrap();
            let short = |path: &PathBuf| path.strip_prefix(dir.path()).unwrap().display().to_string();
            found.iter().map(short).collect()
        };
        assert_eq!(found("*/*.so"), ["a/one.so", "b/two.so"]);
        assert_eq!(found("[ac]"), ["a", "c"]);
        assert!(found("none/*").is_empty());
    }
}
