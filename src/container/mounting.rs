//! What is mounted when a container starts: its root, and what was decided when it was created, as the sandbox takes it.
//!
//! Most of it is mounted inside, by the container's first process. What that process could not mount is made before, by a
//! helper outside of the container's user namespace ([`crate::sandbox::outside`]): everything, if the user's own id is
//! not among the container's ids, else only overlays (`:O`) and images that are mounted.

use super::etc_files::{self, HostFiles, Hosts};
use super::record::{MountKind, MountUse, Record};
use super::request::MountOptions;
use super::settings::Rootfs;
use super::store::Places;
use super::{Error, ids};
use crate::digest::Digest;
use crate::layers::{LayerStore, ShiftedLayers};
use crate::network::Lease;
use crate::rooted_fs::Root;
use crate::sandbox::{self, Ids, Mount, MountAttributes, Network, Source, outside};
use crate::state::{self, Paths};
use crate::union::{self, Layers, Upper};
use crate::userns::{IdMap, Identity};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

const ZONES: &str = "/usr/share/zoneinfo";

/// A mount of a container that is not in its record, since it is there for one run: of a step of a build.
pub struct ExtraMount<'a> {
    /// Where in the container.
    pub destination: String,
    /// How.
    pub attributes: MountAttributes,
    /// Makes it, attached to nothing. Called with a folder of its own in the container's data, empty at the first start, as
    /// root of the user's namespace with mounts of its own.
    pub make: Box<MakeMount<'a>>,
}

/// Makes a mount, given a folder.
pub type MakeMount<'a> = dyn Fn(&Path) -> Result<OwnedFd, sandbox::Error> + 'a;

/// A tree to be mounted.
enum Tree<'a> {
    /// A union of layers.
    Union(Layers),
    /// Something of the host.
    Bind { path: PathBuf, recursive: bool },
    /// What the caller makes, in a folder for it.
    Extra { mount: &'a ExtraMount<'a>, folder: PathBuf },
}

impl Tree<'_> {
    fn mount(&self) -> Result<OwnedFd, sandbox::Error> {
        match self {
            Tree::Extra { mount, folder } => (mount.make)(folder),
            Tree::Bind { path, recursive } => outside::tree(path, *recursive),
            Tree::Union(layers) => union::mount(layers).map_err(|e| sandbox::Error::Step {
                step: "mount the container's root".into(),
                why: in_one_line(&e),
                errno: 0,
            }),
        }
    }
}

/// Everything that a container mounts at a start.
pub(super) struct Mounting<'a> {
    /// The maps of its ids over U.
    pub(super) maps: (IdMap, IdMap),
    /// What the sandbox mounts besides the root.
    pub(super) mounts: Vec<Mount>,
    /// Whether the root is mounted outside too.
    outside: bool,
    root: Tree<'a>,
    made: Vec<Tree<'a>>,
}

/// What a helper has mounted outside.
#[derive(Default)]
pub(super) struct Made {
    /// The container's root.
    pub(super) root: Option<OwnedFd>,
    /// Trees for [`Source::Ready`].
    pub(super) ready: Vec<OwnedFd>,
}

impl<'a> Mounting<'a> {
    /// Decides what is mounted, and makes the folders that overlays need. The caller is root in U.
    pub(super) fn prepare(
        paths: &Paths,
        identity: &Identity,
        record: &Record,
        places: &Places,
        files: Vec<(PathBuf, String)>,
        extra: &'a [ExtraMount<'a>],
    ) -> Result<Self, Error> {
        let maps = ids::maps(identity, &record.spec.ids);
        let host = Host { paths, store: LayerStore::open(paths, super::create::ownership(identity)), places };
        let root = host.root(record, &maps)?;
        let outside = !ids::include_user(&maps);
        let mut mounting = Self { maps, mounts: Vec::new(), outside, root, made: Vec::new() };
        for used in &record.mounts {
            let source = mounting.source(&host, record, used)?;
            let options = &used.options;
            let attributes = MountAttributes {
                // An image is shown as it is, unless it may be written for this container alone.
                read_only: options.read_only,
                no_exec: options.no_exec,
                suid: options.suid,
                dev: options.dev,
                propagation: options.propagation,
            };
            mounting.mounts.push(Mount { source, destination: used.destination.clone(), attributes });
        }
        for (path, destination) in files {
            let source = mounting.bind(path, false);
            mounting.mounts.push(Mount { source, destination, attributes: MountAttributes::default() });
        }
        for mount in extra {
            let folder = host.places.data.join(format!("mounts/{}", mounting.made.len()));
            state::create_dir_private(&folder)?;
            let source = mounting.ready(Tree::Extra { mount, folder });
            let (destination, attributes) = (mount.destination.clone(), mount.attributes);
            mounting.mounts.push(Mount { source, destination, attributes });
        }
        Ok(mounting)
    }

    fn source(&mut self, host: &Host<'_>, record: &Record, used: &MountUse) -> Result<Source, Error> {
        Ok(match &used.kind {
            MountKind::Bind { path } if used.options.overlay => {
                let layers = host.over_folder(path, &format!("mounts/{}", self.made.len()))?;
                self.ready(Tree::Union(layers))
            }
            MountKind::Bind { path } => self.bind(path.clone(), !used.options.non_recursive),
            MountKind::Volume { name, .. } => self.bind(host.paths.volumes().join(name).join("_data"), true),
            MountKind::Tmpfs { size, mode, options, copy_up } => {
                let size = size.map(|size| format!("size={size}"));
                let options =
                    std::iter::once(format!("mode={mode:o}")).chain(size).chain(options.iter().cloned());
                Source::New { kind: "tmpfs".into(), options: options.collect(), copy_up: *copy_up }
            }
            MountKind::New { kind, options } => {
                Source::New { kind: kind.clone(), options: options.clone(), copy_up: false }
            }
            MountKind::Image { layers, .. } => {
                let name = format!("mounts/{}", self.made.len());
                let layers = host.union(layers, &record.spec.ids, &self.maps, &name, true)?;
                self.ready(Tree::Union(layers))
            }
        })
    }

    fn bind(&mut self, path: PathBuf, recursive: bool) -> Source {
        match self.outside {
            false => Source::Bind { path, recursive },
            true => self.ready(Tree::Bind { path, recursive }),
        }
    }

    fn ready(&mut self, tree: Tree<'a>) -> Source {
        self.made.push(tree);
        Source::Ready { index: self.made.len() - 1 }
    }

    /// Mounts outside what has to be. `furnish` is done to the root if that is among it.
    pub(super) fn make(&self, furnish: &dyn Fn(&Root) -> Result<(), Error>) -> Result<Made, Error> {
        if !self.outside && self.made.is_empty() {
            return Ok(Made::default());
        }
        let mut trees = outside::mounted(&|send| {
            if self.outside {
                let root = self.root.mount()?;
                let guarded = root
                    .try_clone()
                    .and_then(Root::from_fd)
                    .map_err(sandbox::Error::step("open the root"))?;
                furnish(&guarded).map_err(|e| sandbox::Error::Step {
                    step: "prepare the volumes".into(),
                    why: in_one_line(&e),
                    errno: 0,
                })?;
                send(&root)?;
            }
            self.made.iter().try_for_each(|tree| send(&tree.mount()?))
        })?;
        let root = self.outside.then(|| trees.remove(0));
        Ok(Made { root, ready: trees })
    }

    /// Mounts the root inside.
    pub(super) fn mount_root(&self) -> Result<OwnedFd, String> {
        self.root.mount().map_err(|e| match e {
            sandbox::Error::Step { why, .. } => why,
            e => e.to_string(),
        })
    }

    /// Whether the root was mounted, and furnished, outside.
    pub(super) fn is_outside(&self) -> bool {
        self.outside
    }

    /// A folder to mount the root over: one that the container's root can look up.
    pub(super) fn place(&self, places: &Places) -> PathBuf {
        let others = ["/tmp", "/var", "/usr"].map(Path::new).into_iter();
        match self.outside {
            false => places.data.clone(),
            true => others
                .filter(|place| place.is_dir())
                .map(Path::to_owned)
                .next()
                .unwrap_or_else(|| "/proc".into()),
        }
    }
}

/// What is the host's.
struct Host<'a> {
    paths: &'a Paths,
    store: LayerStore,
    places: &'a Places,
}

impl Host<'_> {
    fn root(&self, record: &Record, maps: &(IdMap, IdMap)) -> Result<Tree<'static>, Error> {
        match &record.settings.rootfs {
            None => self.union(&record.layers, &record.spec.ids, maps, "", record.rm).map(Tree::Union),
            Some(rootfs) if !rootfs.path.is_dir() => Err(Error::Request {
                what: format!("{} is no folder that a container could run in", rootfs.path.display()),
                fix: Some("--rootfs takes the path of an unpacked root file system".into()),
            }),
            Some(rootfs) if rootfs.overlay => {
                let upper = self.upper("", record.rm, false)?;
                dress(&upper.upper, &rootfs.path)?;
                let lower = vec![rootfs.path.clone()];
                Ok(Tree::Union(Layers { lower, data_only: Vec::new(), upper: Some(upper) }))
            }
            Some(rootfs) => Ok(Tree::Bind { path: rootfs.path.clone(), recursive: true }),
        }
    }

    /// An image's layers, and a writable one that belongs to the container's root, in a folder of the container's.
    fn union(
        &self,
        layers: &[Digest],
        ids: &Ids,
        maps: &(IdMap, IdMap),
        name: &str,
        volatile: bool,
    ) -> Result<Layers, Error> {
        let (lower, data_only) = lower(&self.store, None, layers, ids, maps)?;
        let upper = self.upper(name, volatile, !name.is_empty())?;
        super::create::dress_upper(lower.first().map(PathBuf::as_path), &upper.upper, maps)?;
        Ok(Layers { lower, data_only, upper: Some(upper) })
    }

    /// A folder of the host with a layer over it that lasts for one run.
    fn over_folder(&self, path: &Path, name: &str) -> Result<Layers, Error> {
        let upper = self.upper(name, true, true)?;
        dress(&upper.upper, path)?;
        Ok(Layers { lower: vec![path.to_owned()], data_only: Vec::new(), upper: Some(upper) })
    }

    fn upper(&self, name: &str, volatile: bool, anew: bool) -> Result<Upper, Error> {
        let folder = if name.is_empty() { self.places.data.clone() } else { self.places.data.join(name) };
        if anew {
            state::remove_tree(&folder)?;
            state::create_dir_private(&folder)?;
        }
        let upper = Upper { upper: folder.join("upper"), work: folder.join("work"), volatile };
        for folder in [&upper.upper, &upper.work] {
            match fs::create_dir(folder) {
                Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(state::Error::Io { action: "create", path: folder.clone(), source: e }.into());
                }
                _ => {}
            }
        }
        Ok(upper)
    }
}

/// The layers of a container's root, top first, and data-only ones where they are shown under other owners.
pub(super) fn lower_layers(
    paths: &Paths,
    identity: &Identity,
    record: &Record,
) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Error> {
    let store = LayerStore::open(paths, super::create::ownership(identity));
    lower(
        &store,
        record.settings.rootfs.as_ref(),
        &record.layers,
        &record.spec.ids,
        &ids::maps(identity, &record.spec.ids),
    )
}

/// The same with the writable one, for a container that has one.
pub(super) fn prepare_layers(
    paths: &Paths,
    identity: &Identity,
    record: &Record,
    places: &Places,
) -> Result<Layers, Error> {
    let host = Host { paths, store: LayerStore::open(paths, super::create::ownership(identity)), places };
    match host.root(record, &ids::maps(identity, &record.spec.ids))? {
        Tree::Union(layers) => Ok(layers),
        Tree::Bind { path, .. } => Ok(Layers { lower: vec![path], data_only: Vec::new(), upper: None }),
        // A root is none.
        Tree::Extra { folder, .. } => Ok(Layers { lower: vec![folder], data_only: Vec::new(), upper: None }),
    }
}

/// What of the host is mounted in a container, for looking into one that does not run; the places of everything
/// else, which it has only while it runs.
pub(super) fn lasting_mounts(paths: &Paths, record: &Record) -> (Vec<Mount>, Vec<String>) {
    let (mut mounts, mut absent) = (Vec::new(), Vec::new());
    for used in &record.mounts {
        let MountOptions { read_only, no_exec, suid, dev, propagation, non_recursive, .. } = used.options;
        let (path, recursive) = match &used.kind {
            MountKind::Bind { path } if !used.options.overlay => (path.clone(), !non_recursive),
            MountKind::Volume { name, .. } => (paths.volumes().join(name).join("_data"), true),
            _ => {
                absent.push(used.destination.clone());
                continue;
            }
        };
        let attributes = MountAttributes { read_only, no_exec, suid, dev, propagation };
        let source = Source::Bind { path, recursive };
        mounts.push(Mount { source, destination: used.destination.clone(), attributes });
    }
    (mounts, absent)
}

fn lower(
    store: &LayerStore,
    rootfs: Option<&Rootfs>,
    layers: &[Digest],
    ids: &Ids,
    maps: &(IdMap, IdMap),
) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Error> {
    Ok(match (rootfs, ids) {
        (Some(rootfs), _) => (vec![rootfs.path.clone()], Vec::new()),
        (None, Ids::All) => (layers.iter().rev().map(|layer| store.fs_dir(*layer)).collect(), Vec::new()),
        (None, _) => {
            let ShiftedLayers { lower, data_only } = store.shifted(layers, &maps.0, &maps.1)?;
            (lower, data_only)
        }
    })
}

/// Gives a writable layer the mode and the owner of the folder that it is over.
fn dress(upper: &Path, folder: &Path) -> Result<(), Error> {
    let io = |source| state::Error::Io { action: "prepare", path: upper.to_owned(), source };
    let of = fs::metadata(folder).map_err(|source| state::Error::Io {
        action: "read",
        path: folder.to_owned(),
        source,
    })?;
    fs::set_permissions(upper, fs::Permissions::from_mode(of.mode() & 0o7777)).map_err(io)?;
    // Of somebody who has no id here it stays the user's.
    let _ = chown(upper, Some(of.uid()), Some(of.gid()));
    Ok(())
}

/// The files that the container gets from us instead of from its image, unless the user mounts something there: made in the
/// run root; each with its destination.
pub(super) fn write_files(
    record: &Record,
    places: &Places,
    leases: &[&Lease],
) -> Result<Vec<(PathBuf, String)>, Error> {
    let settings = &record.settings;
    let way = super::networks::way_of(leases.iter().copied()).map(|way| leases[way]);
    let host = record.spec.network == Network::Host;
    let mut files: Vec<(&str, Vec<u8>)> = Vec::new();
    let of_host = HostFiles::read();
    // Who shares another's network has its files, too.
    let of_other = |name: &str| {
        let other = settings.joins.as_ref().filter(|_| record.spec.network == Network::Joined)?;
        fs::read(places.run.with_file_name(other.as_str()).join(name)).ok()
    };
    if let Some(hosts) = of_other("hosts").filter(|_| !settings.files.no_hosts) {
        files.push(("hosts", hosts));
    } else if !settings.files.no_hosts {
        let hosts = Hosts {
            host: host.then_some(of_host.hosts.as_str()),
            add_hosts: &record.add_hosts,
            names: &[&record.spec.hostname, &record.name],
            addresses: &leases.iter().flat_map(|lease| lease.addresses()).collect::<Vec<_>>(),
            host_address: way.map(|_| crate::network::HOST.into()),
        };
        files.push(("hosts", hosts.text()?.into()));
    }
    if !settings.files.no_hostname {
        files.push(("hostname", etc_files::hostname(&record.spec.hostname)?.into()));
    }
    let gateway = way.map(|lease| lease.network().gateway.into());
    if let Some(resolv_conf) = of_other("resolv.conf").filter(|_| !settings.files.no_resolv_conf) {
        files.push(("resolv.conf", resolv_conf));
    } else if !settings.files.no_resolv_conf {
        files.push(("resolv.conf", etc_files::resolv_conf(&of_host, &record.dns, host, gateway)?.into()));
    }
    if let Some(zone) = &settings.timezone {
        let path = zone_file(zone);
        let bytes = fs::read(&path).map_err(|source| state::Error::Io { action: "read", path, source })?;
        files.push(("localtime", bytes));
    }
    let mut written = Vec::new();
    for (name, bytes) in files {
        let destination = format!("/etc/{name}");
        if record.mounts.iter().any(|m| m.destination == destination) {
            continue;
        }
        let path = places.run.join(name);
        let io = |source| state::Error::Io { action: "write", path: path.clone(), source };
        fs::write(&path, bytes).map_err(io)?;
        // World-readable inside, whatever the umask was; the folder is private.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).map_err(io)?;
        written.push((path, destination));
    }
    Ok(written)
}

/// Where the host keeps a time zone.
pub(super) fn zone_file(zone: &str) -> PathBuf {
    match zone {
        "local" => "/etc/localtime".into(),
        zone => Path::new(ZONES).join(zone),
    }
}

/// An error with its causes, for crossing into another process's error.
pub fn in_one_line(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", in_one_line(source)),
        None => error.to_string(),
    }
}
