//! From a request and an image to a record ([`plan`], pure), and the record onto the disk ([`create`]).

use super::id::ContainerId;
use super::known_user::KnownUser;
use super::record::{FORMAT, MountKind, MountUse, Record};
use super::request::{CreateRequest, MountOptions, MountSource, NetworkMode, SeccompChoice, UsernsMode};
use super::store::{Places, now, save, take_name};
use super::{Error, names};
use crate::digest::Digest;
use crate::image::Image;
use crate::layers::Ownership;
use crate::rooted_fs::Root;
use crate::sandbox::capabilities::{CapSet, granted};
use crate::sandbox::cgroup::place::Mode as CgroupMode;
use crate::sandbox::{self, Network, Process, SeccompProfile, Spec, masks};
use crate::state::{self, Durability, Lock, Paths};
use crate::userns::{IdMap, Identity, Mode};
use crate::volume::{self, Fill, NewVolume, Volumes};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Docker's default for /dev/shm.
const SHM_SIZE: u64 = 64 << 20;
const STOP_TIMEOUT: u32 = 10;
const SIGTERM: i32 = 15;
/// Podman's, where the image has none.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a container takes over from its image.
#[derive(Clone, Debug, Default)]
pub struct ImageDefaults {
    /// `Env`.
    pub env: Vec<String>,
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `User`.
    pub user: String,
    /// `WorkingDir`.
    pub workdir: String,
    /// `Volumes`.
    pub volumes: Vec<String>,
    /// `Labels`.
    pub labels: BTreeMap<String, String>,
    /// `StopSignal`, a number.
    pub stop_signal: Option<i32>,
}

impl ImageDefaults {
    /// From an image's configuration.
    pub fn of(image: &Image) -> Self {
        let config = &image.config.config;
        Self {
            env: config.env.clone(),
            entrypoint: config.entrypoint.clone().unwrap_or_default(),
            cmd: config.cmd.clone().unwrap_or_default(),
            user: config.user.clone(),
            workdir: config.working_dir.clone(),
            volumes: config.volumes.iter().cloned().collect(),
            labels: config.labels.clone(),
            stop_signal: config.stop_signal.as_deref().and_then(sandbox::signal_number),
        }
    }
}

/// A container that is on disk and whose lock is held.
pub struct Created {
    /// What it is.
    pub record: Record,
    /// Where it is.
    pub places: Places,
    /// Its lock.
    pub lock: Lock,
}

/// Makes a container. Nothing is left of one that cannot be made.
pub fn create(
    paths: &Paths,
    identity: &Identity,
    request: &CreateRequest,
    image: &Image,
) -> Result<Created, Error> {
    let id = ContainerId::random().map_err(Error::io("draw a container id"))?;
    let mut record = plan(&id, identity, request, image.id, image.diff_ids(), &ImageDefaults::of(image))?;
    super::resources::check_host(&record)?;
    let places = Places::of(paths, &id);
    let lock = loop {
        state::create_dir_private(&places.run)?;
        match Lock::try_exclusive(&places.lock()) {
            Ok(Some(lock)) => break lock,
            // Somebody who recovers what is left over has just swept the empty folder away.
            Ok(None) => {}
            Err(e) if e.io_kind() == Some(std::io::ErrorKind::NotFound) => {}
            Err(e) => return Err(e.into()),
        }
    };
    let made = (|| {
        name(paths, identity, &mut record)?;
        state::create_dir_private(&places.data)?;
        let _volumes = prepare_mounts(paths, &record)?;
        save(&places, &record)
    })();
    if let Err(error) = made {
        let _ = super::store::release_name(paths, &record.name, &id);
        let _ = state::remove_tree(&places.data);
        let _ = super::recover::forget_run(&places);
        return Err(error);
    }
    Ok(Created { record, places, lock })
}

fn name(paths: &Paths, identity: &Identity, record: &mut Record) -> Result<(), Error> {
    if !record.name.is_empty() {
        return match take_name(paths, &record.name, &record.id) {
            // It may be the name of what a killed process left, which no command has finished yet.
            Err(Error::NameTaken { by, .. }) if super::recover::is_left_over(paths, &by)? => {
                super::lifecycle::tidy(paths, identity)?;
                take_name(paths, &record.name, &record.id)
            }
            other => other,
        };
    }
    let mut attempt = 0;
    loop {
        let mut raw = [0; 4];
        rustix::rand::getrandom(&mut raw, rustix::rand::GetRandomFlags::empty())
            .map_err(Error::io("draw a name"))?;
        record.name = names::suggest(attempt, u32::from_ne_bytes(raw));
        match take_name(paths, &record.name, &record.id) {
            Err(Error::NameTaken { .. }) if attempt < 20 => attempt += 1,
            other => return other,
        }
    }
}

/// Makes the sources that are not there: volumes, and folders named with `-v`. The volumes cannot be removed until the
/// locks are dropped, which is when the record names them.
fn prepare_mounts(paths: &Paths, record: &Record) -> Result<Vec<Lock>, Error> {
    let mut locks = Vec::new();
    for used in &record.mounts {
        match &used.kind {
            MountKind::Volume { name, anonymous } => {
                let new = NewVolume {
                    anonymous: *anonymous,
                    durability: durability(record),
                    ..NewVolume::named(name)
                };
                locks.push(Volumes::new(paths).ensure(&new)?.1);
            }
            MountKind::Bind { path } => {
                fs::create_dir_all(path)
                    .or_else(|e| if path.exists() { Ok(()) } else { Err(e) })
                    .map_err(|source| state::Error::Io { action: "create", path: path.clone(), source })?;
            }
            MountKind::Tmpfs { .. } => {}
        }
    }
    Ok(locks)
}

/// What must survive a power cut of a container: nothing of one that is removed when it ends.
fn durability(record: &Record) -> Durability {
    if record.rm { Durability::Process } else { Durability::PowerCut }
}

/// What a container is: pure but for a look at bind sources that must exist.
pub fn plan(
    id: &ContainerId,
    identity: &Identity,
    request: &CreateRequest,
    image_id: Digest,
    layers: &[Digest],
    image: &ImageDefaults,
) -> Result<Record, Error> {
    let (entrypoint, command) = match &request.entrypoint {
        Some(entrypoint) => (entrypoint.clone(), request.command.clone()),
        None if request.command.is_empty() => (image.entrypoint.clone(), image.cmd.clone()),
        None => (image.entrypoint.clone(), request.command.clone()),
    };
    let args = [entrypoint.clone(), command.clone()].concat();
    if args.is_empty() {
        return Err(Error::Request {
            what: format!("no command: image {} has neither ENTRYPOINT nor CMD", request.image),
            fix: Some("name a command after the image".into()),
        });
    }
    let network = match request.network {
        NetworkMode::Host => Network::Host,
        NetworkMode::Default | NetworkMode::None => Network::None,
    };
    let hostname = match (&request.hostname, network) {
        (Some(name), _) => name.clone(),
        (None, Network::Host) => nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok())
            .unwrap_or_else(|| id.short().to_owned()),
        (None, Network::None) => id.short().to_owned(),
    };
    let keep_id = keep_id(&request.userns, identity)?;
    let user = match (&request.user, keep_id) {
        (Some(user), _) => user.clone(),
        (None, Some((uid, gid))) => format!("{uid}:{gid}"),
        (None, None) => image.user.clone(),
    };
    let capabilities = capabilities(request)?;
    let added = granted(CapSet::EMPTY, &request.cap_add, &[]).map_err(|e| bad(&e))?;
    let (masked_paths, read_only_paths) = if request.privileged {
        (Vec::new(), Vec::new())
    } else {
        let masks = &request.security;
        let paths =
            masks::resolve(&masks.mask, &masks.unmask, masks::processor_throttles()).map_err(|e| bad(&e))?;
        (paths.masked, paths.read_only)
    };
    let process = Process {
        args,
        env: environment(request, image, &hostname),
        cwd: request.workdir.clone().or_else(|| non_empty(&image.workdir)).unwrap_or_else(|| "/".into()),
        user,
        capabilities,
        added_capabilities: if request.privileged { capabilities } else { added.common(capabilities) },
        rlimits: request.rlimits.clone(),
        no_new_privileges: request.security.no_new_privileges.unwrap_or(false),
        seccomp: match &request.security.seccomp {
            SeccompChoice::Default if request.privileged => SeccompProfile::Unconfined,
            SeccompChoice::Default => SeccompProfile::Default,
            SeccompChoice::Unconfined => SeccompProfile::Unconfined,
            SeccompChoice::Profile(text) => SeccompProfile::Custom(text.clone()),
        },
        terminal: request.tty,
        init: request.init,
    };
    let mounts = mounts(request, image)?;
    request.limits.check()?;
    if request.cgroup.mode == CgroupMode::Disabled && !request.limits.is_empty() {
        return Err(Error::Request {
            what: format!("{} cannot be set with --cgroups=disabled", request.limits.flags()),
            fix: Some("leave out one of them".into()),
        });
    }
    Ok(Record {
        format: FORMAT,
        id: id.clone(),
        name: request.name.clone().unwrap_or_default(),
        created: now(),
        image: request.image.clone(),
        image_id,
        layers: layers.to_vec(),
        spec: Spec {
            hostname,
            process,
            read_only_root: request.read_only,
            mounts: Vec::new(),
            shm_size: request.shm_size.unwrap_or(SHM_SIZE),
            masked_paths,
            read_only_paths,
            network,
            keep_id,
            privileged: request.privileged,
            host_cgroup_namespace: request.cgroup.host_namespace,
        },
        entrypoint,
        command,
        mounts,
        labels: image.labels.iter().chain(&request.labels).map(|(k, v)| (k.clone(), v.clone())).collect(),
        network: request.network.clone(),
        add_hosts: request.add_hosts.clone(),
        dns: request.dns.clone(),
        log: request.log.clone(),
        interactive: request.interactive,
        rm: request.rm,
        stop_signal: request.stop_signal.or(image.stop_signal).unwrap_or(SIGTERM),
        stop_timeout: request.stop_timeout.unwrap_or(STOP_TIMEOUT),
        detach_keys: request.detach_keys.clone(),
        limits: request.limits.clone(),
        cgroup: request.cgroup.clone(),
    })
}

fn bad(error: &dyn crate::diagnose::Diagnose) -> Error {
    Error::Request { what: error.to_string(), fix: error.fix() }
}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn keep_id(mode: &UsernsMode, identity: &Identity) -> Result<Option<(u32, u32)>, Error> {
    let UsernsMode::KeepId { uid, gid } = mode else { return Ok(None) };
    let ids = (uid.unwrap_or(identity.uid), gid.unwrap_or(identity.gid));
    if let Mode::Single { why } = &identity.mode {
        return Err(Error::Request {
            what: "--userns=keep-id needs subordinate ids".into(),
            fix: Some(format!("{why}; 'coracle doctor' has the command that an administrator can run")),
        });
    }
    Ok((ids != (0, 0)).then_some(ids))
}

fn capabilities(request: &CreateRequest) -> Result<CapSet, Error> {
    if request.privileged {
        return Ok(CapSet::ALL);
    }
    granted(CapSet::DEFAULT, &request.cap_add, &request.cap_drop).map_err(|e| bad(&e))
}

/// Later settings of a variable replace earlier ones in place.
fn environment(request: &CreateRequest, image: &ImageDefaults, hostname: &str) -> Vec<String> {
    let mut env: Vec<String> =
        vec![DEFAULT_PATH.into(), "container=coracle".into(), format!("HOSTNAME={hostname}")];
    let mut set = |name: &str, entry: String| {
        let is_it = |e: &String| e.split_once('=').is_some_and(|(n, _)| n == name);
        match env.iter_mut().find(|e| is_it(e)) {
            Some(old) => *old = entry,
            None => env.push(entry),
        }
    };
    for entry in image.env.iter().filter(|e| e.contains('=')) {
        let name = entry.split('=').next().unwrap_or_default();
        if !request.unset_env.iter().any(|unset| unset == name) {
            set(name, entry.clone());
        }
    }
    for (name, value) in &request.env {
        set(name, format!("{name}={value}"));
    }
    env
}

/// What is mounted: what the user asked for, the image's volumes, and the tmpfs of `--read-only`; parents first.
fn mounts(request: &CreateRequest, image: &ImageDefaults) -> Result<Vec<MountUse>, Error> {
    let mut list: Vec<MountUse> = Vec::new();
    let anonymous = || {
        let name = NewVolume::anonymous(Durability::Process)?.name;
        Ok::<_, Error>(MountKind::Volume { name, anonymous: true })
    };
    for mount in &request.mounts {
        let kind = match &mount.source {
            MountSource::Bind { path, create } => {
                if !create && fs::symlink_metadata(path).is_err() {
                    return Err(Error::Request {
                        what: format!("bind source {} does not exist", path.display()),
                        fix: Some("create it, or use -v, which creates a missing folder".into()),
                    });
                }
                MountKind::Bind { path: path.clone() }
            }
            MountSource::Volume { name } => MountKind::Volume { name: name.clone(), anonymous: false },
            MountSource::AnonymousVolume => anonymous()?,
            MountSource::Tmpfs { size, mode } => {
                MountKind::Tmpfs { size: *size, mode: mode.unwrap_or(0o1777) }
            }
        };
        let destination = clean(&mount.destination);
        if list.iter().any(|m| m.destination == destination) {
            return Err(Error::Request {
                what: format!("{destination} is mounted on twice"),
                fix: Some("name each destination once".into()),
            });
        }
        list.push(MountUse { kind, destination, options: mount.options });
    }
    for destination in image.volumes.iter().map(|v| clean(v)) {
        if !list.iter().any(|m| m.destination == destination) {
            list.push(MountUse { kind: anonymous()?, destination, options: MountOptions::default() });
        }
    }
    if request.read_only && request.read_only_tmpfs {
        for destination in ["/run", "/tmp", "/var/tmp"] {
            if !list.iter().any(|m| m.destination == destination) {
                let kind =
                    MountKind::Tmpfs { size: None, mode: if destination == "/run" { 0o755 } else { 0o1777 } };
                let (destination, options) = (destination.to_owned(), MountOptions::default());
                list.push(MountUse { kind, destination, options });
            }
        }
    }
    list.sort_by_key(|m| m.destination.matches('/').count());
    Ok(list)
}

/// An absolute path without `.`, `..` and repeated slashes.
fn clean(path: &str) -> String {
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

/// How owners are kept in layers.
pub fn ownership(identity: &Identity) -> Ownership {
    match identity.mode {
        Mode::Subordinate { .. } => Ownership::Mapped,
        Mode::Single { .. } => Ownership::SingleId,
    }
}

/// Gives the writable layer's root the mode of the image's and makes it the container root's.
pub(super) fn dress_upper(top: Option<&Path>, upper: &Path, maps: &(IdMap, IdMap)) -> Result<(), Error> {
    let io = |source| state::Error::Io { action: "prepare", path: PathBuf::from(upper), source };
    let mode = top.and_then(|top| fs::metadata(top).ok()).map_or(0o755, |m| m.mode() & 0o7777);
    fs::set_permissions(upper, fs::Permissions::from_mode(mode)).map_err(io)?;
    let (uid, gid) = (maps.0.outside(0).unwrap_or(0), maps.1.outside(0).unwrap_or(0));
    if (uid, gid) != (0, 0) {
        chown(upper, Some(uid), Some(gid)).map_err(io)?;
    }
    Ok(())
}

/// Inside the container, with only the image mounted: makes the user known who keeps their ids, fills fresh volumes with
/// what the image has there, and gives sources marked `U` to the container's user.
pub(super) fn furnish(paths: &Paths, identity: &Identity, record: &Record, root: &Root) -> Result<(), Error> {
    if let Some(inside) = record.spec.keep_id {
        let user = KnownUser::of_host((identity.uid, identity.gid), inside, |home| home_of(record, home));
        user.make_known(root).map_err(Error::io("make the user known in the container"))?;
    }
    if record.mounts.is_empty() {
        return Ok(());
    }
    let user = sandbox::users::exec_user(root, &record.spec.process.user).map_err(|e| bad(&e))?;
    let volumes = Volumes::new(paths);
    for used in &record.mounts {
        let source = match &used.kind {
            MountKind::Volume { name, .. } => {
                let volume = volumes.get(name)?;
                volumes.fill(
                    &volume,
                    &Fill {
                        root,
                        path: Path::new(&used.destination),
                        copy: !used.options.no_copy,
                        owner: (user.uid, user.gid),
                        durability: durability(record),
                    },
                )?;
                volume.data()
            }
            MountKind::Bind { path } => path.clone(),
            MountKind::Tmpfs { .. } => continue,
        };
        if used.options.chown {
            volume::chown_recursive(&source, user.uid, user.gid)?;
        }
    }
    Ok(())
}

/// Where the user is at home: in the home directory of the host if that is mounted, or a folder that it is in; else where
/// the container's command starts, as podman has it.
fn home_of(record: &Record, host: &str) -> String {
    let is_there = |m: &MountUse| !host.is_empty() && Path::new(host).starts_with(&m.destination);
    let home = if record.mounts.iter().any(is_there) { host } else { &record.spec.process.cwd };
    home.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::request;

    fn identity() -> Identity {
        Identity {
            uid: 1000,
            gid: 1000,
            mode: Mode::Subordinate { uids: IdMap::default(), gids: IdMap::default() },
        }
    }

    fn planned(request: &CreateRequest, image: &ImageDefaults) -> Result<Record, Error> {
        plan(&ContainerId::random().unwrap(), &identity(), request, Digest::of(b""), &[], image)
    }

    #[test]
    fn entry_point_and_command_combine_as_dockers() {
        let words = |s: &str| s.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let image = ImageDefaults { entrypoint: words("ep"), cmd: words("cmd"), ..Default::default() };
        for (entrypoint, command, expected) in [
            (None, "", "ep cmd"),
            (None, "x y", "ep x y"),
            (Some("e2"), "", "e2"),
            (Some("e2"), "x", "e2 x"),
            (Some(""), "x", "x"),
        ] {
            let request = CreateRequest {
                entrypoint: entrypoint.map(words),
                command: words(command),
                ..Default::default()
            };
            assert_eq!(planned(&request, &image).unwrap().spec.process.args, words(expected));
        }
        let request = CreateRequest { entrypoint: Some(vec![]), ..Default::default() };
        assert!(planned(&request, &image).is_err());
    }

    #[test]
    fn later_variables_replace_earlier_ones_and_unset_ones_are_gone() {
        let request = CreateRequest {
            command: vec!["x".into()],
            env: vec![("A".into(), "2".into()), ("B".into(), "=".into())],
            unset_env: vec!["C".into()],
            ..Default::default()
        };
        let image = ImageDefaults {
            env: ["PATH=/x", "A=1", "C=3"].map(str::to_owned).to_vec(),
            ..Default::default()
        };
        let env = planned(&request, &image).unwrap().spec.process.env;
        assert_eq!(env[0], "PATH=/x");
        assert_eq!(env[3..], ["A=2".to_owned(), "B==".to_owned()]);
    }

    #[test]
    fn destinations_are_cleaned_parents_come_first_and_doubles_are_refused() {
        let mount = |at: &str| request::MountRequest {
            source: MountSource::AnonymousVolume,
            destination: at.into(),
            options: MountOptions::default(),
        };
        let mut request = CreateRequest {
            command: vec!["x".into()],
            mounts: vec![mount("/a//b/../c"), mount("/a")],
            read_only: true,
            read_only_tmpfs: true,
            ..Default::default()
        };
        let record =
            planned(&request, &ImageDefaults { volumes: vec!["/a/".into()], ..Default::default() }).unwrap();
        let at: Vec<_> = record.mounts.iter().map(|m| m.destination.as_str()).collect();
        assert_eq!(at, ["/a", "/run", "/tmp", "/a/c", "/var/tmp"]);
        request.mounts.push(mount("/a/."));
        assert!(planned(&request, &ImageDefaults::default()).is_err());
    }
}
