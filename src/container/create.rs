//! From a request and an image to a record ([`plan`], pure), and the record onto the disk ([`create`]).

use super::environment::environment;
use super::id::ContainerId;
use super::record::{FORMAT, MountKind, MountUse, Record};
use super::request::{CreateRequest, NetworkMode, SeccompChoice, UsernsMode};
use super::settings::{Modes, Settings, SystemdMode};
use super::store::{Places, gone_name, now, save, take_name};
use super::{Error, ids, mount_plan, names};
use crate::digest::Digest;
use crate::image::Image;
use crate::layers::{LayerStore, Ownership};
use crate::rooted_fs::Root;
use crate::sandbox::capabilities::{CapSet, granted};
use crate::sandbox::cgroup::place::Mode as CgroupMode;
use crate::sandbox::{self, Ids, Network, Owner, Process, SeccompProfile, Spec, masks};
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
/// What stops systemd: SIGRTMIN+3 (systemd(1)).
const SYSTEMD_STOP: i32 = 37;
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
    /// That its data folder is in use, for those who look at it from another run root.
    pub kept: Option<Lock>,
}

/// What other containers and the machine decide of a new one.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// The container whose namespaces it joins.
    pub joined: Option<Record>,
    /// The mounts of `--volumes-from`.
    pub volumes: Vec<MountUse>,
    /// Its ids.
    pub ids: Ids,
}

/// Makes a container of an image, or of a folder (`--rootfs`). Nothing is left of one that cannot be made.
pub fn create(
    paths: &Paths,
    identity: &Identity,
    request: &CreateRequest,
    image: Option<&Image>,
) -> Result<Created, Error> {
    let id = ContainerId::random().map_err(Error::io("draw a container id"))?;
    let defaults = image.map(ImageDefaults::of).unwrap_or_default();
    let layers = image.map(|image| image.diff_ids().to_vec()).unwrap_or_default();
    // Held until the record says which ids are taken.
    let _parts = match request.userns {
        UsernsMode::Auto { .. } => {
            state::create_dir_private(&paths.locks())?;
            Some(Lock::exclusive(&paths.locks().join("ids"))?)
        }
        _ => None,
    };
    let user = request.user.as_deref().unwrap_or(&defaults.user);
    let surroundings = surroundings(paths, identity, request, &layers, user)?;
    let mut record = plan(&id, request, image.map(|image| image.id), &layers, &defaults, &surroundings)?;
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
        let kept = make_data(&places)?;
        let _volumes = prepare_mounts(paths, &record)?;
        save(&places, &record)?;
        Ok(kept)
    })();
    match made {
        Ok(kept) => Ok(Created { record, places, lock, kept }),
        Err(error) => {
            let _ = super::store::release_name(paths, &record.name, &id);
            let _ = state::remove_tree(&places.data);
            let _ = super::recover::forget_run(&places);
            Err(error)
        }
    }
}

/// Makes the data folder, which has its name only when it is kept: whoever tidies up from another run root does not see
/// the lock, and would take a folder without a record for left over.
fn make_data(places: &Places) -> Result<Option<Lock>, Error> {
    let io = |source| state::Error::Io { action: "create", path: places.data.clone(), source };
    let name = places.data.file_name().unwrap_or_default().to_string_lossy();
    let unnamed = places.data.with_file_name(gone_name(&name));
    state::create_dir_private(&unnamed)?;
    // Where the file system knows no locks we do without.
    let kept = Lock::keep(&unnamed).ok();
    if let Err(e) = fs::rename(&unnamed, &places.data) {
        let _ = state::remove_tree(&unnamed);
        return Err(io(e).into());
    }
    Ok(kept)
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

/// Looks at what is not the new container's own.
fn surroundings(
    paths: &Paths,
    identity: &Identity,
    request: &CreateRequest,
    layers: &[Digest],
    user: &str,
) -> Result<Surroundings, Error> {
    if let Some(zone) = &request.settings.timezone
        && !super::mounting::zone_file(zone).is_file()
    {
        return Err(Error::Request {
            what: format!(
                "unknown time zone {zone}: {} is no file",
                super::mounting::zone_file(zone).display()
            ),
            fix: Some("zones are named as below /usr/share/zoneinfo, which the package tzdata brings".into()),
        });
    }
    let joined = super::joins::joined(paths, request)?;
    let mut volumes: Vec<MountUse> = Vec::new();
    for from in &request.volumes_from {
        let record = super::store::find(paths, &from.container)?.record;
        for used in super::mount_plan::taken_over(&record.mounts, from.read_only) {
            if !volumes.iter().any(|m| m.destination == used.destination) {
                volumes.push(used);
            }
        }
    }
    let of_joined = joined.as_ref().map(|record| &record.spec.ids);
    let ids = ids::resolve(&request.userns, identity, of_joined, |size| {
        let store = LayerStore::open(paths, ownership(identity));
        let folders: Vec<PathBuf> = layers.iter().rev().map(|layer| store.fs_dir(*layer)).collect();
        ids::free_part(paths, identity, size.unwrap_or_else(|| ids::needed(&folders, user)))
    })?;
    Ok(Surroundings { joined, volumes, ids })
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
            MountKind::Tmpfs { .. } | MountKind::New { .. } | MountKind::Image { .. } => {}
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
    request: &CreateRequest,
    image_id: Option<Digest>,
    layers: &[Digest],
    image: &ImageDefaults,
    surroundings: &Surroundings,
) -> Result<Record, Error> {
    let (entrypoint, command) = match &request.entrypoint {
        Some(entrypoint) => (entrypoint.clone(), request.command.clone()),
        None if request.command.is_empty() => (image.entrypoint.clone(), image.cmd.clone()),
        None => (image.entrypoint.clone(), request.command.clone()),
    };
    let args = [entrypoint.clone(), command.clone()].concat();
    if args.is_empty() {
        return Err(Error::Request {
            what: match image_id {
                Some(_) => format!("no command: image {} has neither ENTRYPOINT nor CMD", request.image),
                None => "no command: a root file system has no default".to_owned(),
            },
            fix: Some("name a command after the image".into()),
        });
    }
    let joined = surroundings.joined.as_ref();
    let network = super::joins::network(request, joined)?;
    let sharing = super::joins::sharing(request, joined)?;
    let of_host = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let hostname = match (&request.hostname, sharing.uts, network) {
        (Some(name), Owner::Own, _) => name.clone(),
        (_, Owner::Joined, _) => joined.map_or_else(String::new, |record| record.spec.hostname.clone()),
        (_, Owner::Host, _) | (None, _, Network::Host) => of_host().unwrap_or_else(|| id.short().to_owned()),
        // docker: what shares a network answers to its name.
        (None, Owner::Own, Network::Joined) => {
            joined.map_or_else(String::new, |record| record.spec.hostname.clone())
        }
        (None, Owner::Own, Network::None) => id.short().to_owned(),
    };
    let user = match (&request.user, &surroundings.ids) {
        (Some(user), _) => user.clone(),
        (None, Ids::Keep { uid, gid }) => format!("{uid}:{gid}"),
        (None, _) => image.user.clone(),
    };
    let systemd = is_systemd(request.systemd, &args);
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
    let mut env = environment(request, image, &hostname);
    if systemd && !env.iter().any(|e| e.starts_with("container_uuid=")) {
        env.push(format!("container_uuid={}", &id.as_str()[..32]));
    }
    let process = Process {
        args,
        env,
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
        attributes: request.attributes.clone(),
    };
    super::joins::check_sysctls(request, &sharing, network)?;
    let mounts = mount_plan::mounts(request, &surroundings.volumes, &image.volumes, systemd)?;
    let settings = Settings {
        modes: Modes {
            userns: request.userns.name().to_owned(),
            pid: request.pid.text(),
            ipc: request.ipc.text(),
            uts: request.uts.text(),
        },
        joins: joined.map(|record| record.id.clone()),
        systemd,
        ..request.settings.clone()
    };
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
            domainname: request.domainname.clone(),
            process,
            read_only_root: request.read_only,
            mounts: Vec::new(),
            devices: request.devices.clone(),
            sysctls: request.sysctls.clone(),
            shm_size: request.shm_size.unwrap_or(SHM_SIZE),
            masked_paths,
            read_only_paths,
            network,
            sharing,
            ids: surroundings.ids.clone(),
            privileged: request.privileged,
            host_cgroup_namespace: request.cgroup.host_namespace,
        },
        entrypoint,
        command,
        mounts,
        labels: image.labels.iter().chain(&request.labels).map(|(k, v)| (k.clone(), v.clone())).collect(),
        network: match (&request.network, joined) {
            (NetworkMode::Container(_), Some(record)) => {
                NetworkMode::Container(record.id.as_str().to_owned())
            }
            (other, _) => other.clone(),
        },
        publish: request.publish.clone(),
        add_hosts: request.add_hosts.clone(),
        dns: request.dns.clone(),
        log: request.log.clone(),
        interactive: request.interactive,
        rm: request.rm,
        stop_signal: request.stop_signal.or(image.stop_signal).unwrap_or(if systemd {
            SYSTEMD_STOP
        } else {
            SIGTERM
        }),
        stop_timeout: request.stop_timeout.unwrap_or(STOP_TIMEOUT),
        detach_keys: request.detach_keys.clone(),
        limits: request.limits.clone(),
        cgroup: request.cgroup.clone(),
        settings,
    })
}

/// Whether the command is an init that wants what systemd wants, as podman decides it.
fn is_systemd(mode: SystemdMode, args: &[String]) -> bool {
    let command = args.first().map_or("", String::as_str);
    match mode {
        SystemdMode::Always => true,
        SystemdMode::Never => false,
        SystemdMode::Auto => {
            matches!(command, "/sbin/init" | "/usr/sbin/init" | "/usr/local/sbin/init")
                || command.rsplit('/').next() == Some("systemd")
        }
    }
}

fn bad(error: &dyn crate::diagnose::Diagnose) -> Error {
    Error::Request { what: error.to_string(), fix: error.fix() }
}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn capabilities(request: &CreateRequest) -> Result<CapSet, Error> {
    if request.privileged {
        return Ok(CapSet::ALL);
    }
    granted(CapSet::DEFAULT, &request.cap_add, &request.cap_drop).map_err(|e| bad(&e))
}

/// How owners are kept in layers.
pub fn ownership(identity: &Identity) -> Ownership {
    match identity.mode {
        Mode::Subordinate { .. } => Ownership::Mapped,
        Mode::Single { .. } => Ownership::SingleId,
    }
}

/// Gives the writable layer's root the mode of the image's and makes it the container root's.
pub fn dress_upper(top: Option<&Path>, upper: &Path, maps: &(IdMap, IdMap)) -> Result<(), Error> {
    let io = |source| state::Error::Io { action: "prepare", path: PathBuf::from(upper), source };
    let mode = top.and_then(|top| fs::metadata(top).ok()).map_or(0o755, |m| m.mode() & 0o7777);
    fs::set_permissions(upper, fs::Permissions::from_mode(mode)).map_err(io)?;
    let (uid, gid) = (maps.0.outside(0).unwrap_or(0), maps.1.outside(0).unwrap_or(0));
    if (uid, gid) != (0, 0) {
        chown(upper, Some(uid), Some(gid)).map_err(io)?;
    }
    Ok(())
}

/// With only the image mounted: makes users known, fills fresh volumes with what the image has there, and gives sources
/// marked `U` to the container's user. Done inside; or outside, in U, where the container has no id for the user's files: then
/// `maps` are the container's.
pub(super) fn furnish(
    paths: &Paths,
    identity: &Identity,
    record: &Record,
    root: &Root,
    maps: Option<&(IdMap, IdMap)>,
) -> Result<(), Error> {
    super::known_user::make_known(identity, record, root)?;
    if record.mounts.is_empty() {
        return Ok(());
    }
    let user = sandbox::users::exec_user(root, &record.spec.process.user).map_err(|e| bad(&e))?;
    let owner = match maps {
        None => (user.uid, user.gid),
        Some((uids, gids)) => (uids.outside(user.uid).unwrap_or(0), gids.outside(user.gid).unwrap_or(0)),
    };
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
                        owner,
                        durability: durability(record),
                    },
                )?;
                volume.data()
            }
            MountKind::Bind { path } => path.clone(),
            _ => continue,
        };
        // With an overlay it is the overlay's root that is given away.
        if used.options.chown && !used.options.overlay {
            volume::chown_recursive(&source, owner.0, owner.1)?;
        }
    }
    Ok(())
}

/// Where the user is at home: in the home directory of the host if that is mounted, or a folder that it is in; else where
/// the container's command starts, as podman has it.
pub(super) fn home_of(record: &Record, host: &str) -> String {
    let is_there = |m: &MountUse| !host.is_empty() && Path::new(host).starts_with(&m.destination);
    let home = if record.mounts.iter().any(is_there) { host } else { &record.spec.process.cwd };
    home.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(request: &CreateRequest, image: &ImageDefaults) -> Result<Record, Error> {
        let id = ContainerId::random().unwrap();
        plan(&id, request, Some(Digest::of(b"")), &[], image, &Surroundings::default())
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
}
