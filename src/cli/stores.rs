//! Images for the commands: the local stores, and getting what is not there.
//!
//! Whatever unpacks layers needs the ids that own their files, so it runs as root of the user's namespace. `run` itself
//! must stay outside (its monitor's id map is written from there): it pulls in a child process.

use super::Error;
use super::engine::Engine;
use super::image_options::{ImageOptions, PullPolicy};
use crate::build::cache;
use crate::container::create::ownership;
use crate::container::recover;
use crate::container::store::{self, Container, Entry};
use crate::digest::Digest;
use crate::image::{
    self, Image, ImageEntry, ImageStore, InUse, Instance, Layout, Platform, PullRequest, embedded,
};
use crate::kernel::process::{self, Side};
use crate::layers::{Claim, LayerStore};
use crate::{output, userns};
use rustix::process::{WaitId, WaitIdOptions};
use std::cell::OnceCell;
use std::os::fd::AsFd;

/// The local stores.
pub struct Stores {
    /// Names and configs.
    pub images: ImageStore,
    /// Files.
    pub layers: LayerStore,
}

impl Stores {
    /// For looking; nothing is entered or made.
    pub fn open(engine: &Engine) -> Self {
        let layers = LayerStore::open(&engine.paths, ownership(&engine.identity));
        Self { images: ImageStore::open(&engine.paths), layers }
    }

    /// For changing: this process becomes root in the user's namespace, for good.
    pub fn enter(engine: &Engine) -> anyhow::Result<Self> {
        userns::enter(&engine.paths, &engine.identity)?;
        Ok(Self::open(engine))
    }

    /// Whether every layer of an image can be used.
    fn is_whole(&self, image: &Image) -> bool {
        image.diff_ids().iter().all(|layer| self.layers.contains(*layer))
    }

    /// Lays hands on every layer: one that a power cut may have damaged is verified, and dropped if it was.
    fn repair(&self, image: &Image) -> anyhow::Result<bool> {
        let mut whole = true;
        for layer in image.diff_ids() {
            whole &= matches!(self.layers.claim(*layer)?, Claim::Present);
        }
        Ok(whole)
    }
}

/// The image for a container: the local one, or the registry's, as the pull policy says.
pub fn obtain(engine: &Engine, what: &str, options: &ImageOptions) -> anyhow::Result<Image> {
    let stores = Stores::open(engine);
    let platform = parsed_platform(options)?;
    match stores.images.in_list(what, platform.as_ref())? {
        Some(Instance::Here(image)) if stores.is_whole(&image) => return Ok(*image),
        Some(Instance::There(name)) => return obtain(engine, &name.to_string(), options),
        _ => {}
    }
    let found = match stores.images.resolve(what) {
        Ok(image) => {
            Some(image).filter(|image| platform.as_ref().is_none_or(|p| p.accepts(&image.platform())))
        }
        Err(image::Error::NotFound(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let policy = options.policy.unwrap_or_default();
    if embedded::is_name(what) && policy != PullPolicy::Always {
        in_child(engine, |stores| {
            embedded::find(what, stores.images.resolve(what).ok(), &stores.images, &stores.layers)?;
            Ok(())
        })
        .map(drop)?;
        return Ok(stores.images.resolve(what)?);
    }
    match (&found, policy) {
        (Some(image), PullPolicy::Missing | PullPolicy::Never) if stores.is_whole(image) => {
            return Ok(image.clone());
        }
        (Some(image), PullPolicy::Missing | PullPolicy::Never) => {
            // After a power cut: what has not reached the disk for sure is checked before it is used.
            let _ = in_child(engine, |stores| stores.repair(image).map(drop));
            if stores.is_whole(image) {
                return Ok(image.clone());
            }
        }
        _ => {}
    }
    if policy == PullPolicy::Never {
        return Err(image::Error::NotFound(what.to_owned()).into());
    }
    let pulled = in_child(engine, |stores| {
        pull(stores, engine, &request(what, options)?, options.quiet)?;
        Ok(())
    });
    match (pulled, found) {
        (Err(_), Some(image)) if policy == PullPolicy::Newer => Ok(image),
        (Err(error), _) => Err(error),
        (Ok(()), _) => Ok(stores.images.resolve(what)?),
    }
}

/// An image of a folder of the user's, its layers brought in. The store has no record of it: the caller holds a pin.
pub fn from_layout(engine: &Engine, layout: &Layout, options: &ImageOptions) -> anyhow::Result<Image> {
    let found = layout.find(parsed_platform(options)?.as_ref())?;
    if !Stores::open(engine).is_whole(&found.image) {
        in_child(engine, |stores| {
            let progress = output::progress::progress_of("loading", options.quiet);
            let brought = found.bring(&stores.layers, &*progress);
            drop(progress);
            Ok(unless_failed(engine, brought)?)
        })?;
    }
    Ok(found.image)
}

fn parsed_platform(options: &ImageOptions) -> Result<Option<Platform>, image::Error> {
    options.platform.as_deref().map(str::parse::<Platform>).transpose()
}

/// What to ask a registry for.
pub fn request(what: &str, options: &ImageOptions) -> anyhow::Result<PullRequest> {
    let mut request = PullRequest::new(what);
    request.platform = parsed_platform(options)?;
    request.options = options.registry.clone();
    Ok(request)
}

/// Pulls, showing progress. The layers are made durable by a process that nobody waits for.
pub fn pull(stores: &Stores, engine: &Engine, request: &PullRequest, quiet: bool) -> anyhow::Result<Image> {
    let progress = output::progress::progress(quiet);
    let pulled = image::pull(&stores.images, &stores.layers, request, &*progress);
    drop(progress);
    let image = unless_failed(engine, pulled)?;
    settle(stores, engine);
    Ok(image)
}

/// What has been unpacked of an image that could not be brought in goes at once: the disk may be full of it.
pub fn unless_failed<T, E>(engine: &Engine, done: Result<T, E>) -> Result<T, E> {
    if done.is_err() {
        let _ = crate::state::empty_trash(&engine.paths);
    }
    done
}

/// Makes new layers durable, finishes what killed processes left and empties the trash, in a process of its own. That there is none to be had is no
/// reason to fail: what is not durable is verified after a power cut.
pub fn settle(stores: &Stores, engine: &Engine) {
    settle_after(stores, engine, || {});
}

/// [`settle`] after something else that nobody waits for.
pub fn settle_after(stores: &Stores, engine: &Engine, work: impl FnOnce()) {
    if let Ok(Side::Child) = process::fork() {
        let _ = rustix::process::setsid();
        if let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
            for target in 0..=2 {
                let _ = process::replace_stdio(null.as_fd(), target);
            }
            // Of the caller's locks above all: nobody else could collect garbage for as long as this takes.
            let _ = process::close_all_from(3, null.into());
        }
        let _ = process::set_title("coracle: settling layers");
        let _ = stores.layers.make_durable();
        work();
        let _ = recover::recover(&engine.paths);
        let _ = crate::state::keep_ballast(&engine.paths);
        process::exit_now(0)
    }
}

/// [`settle`] by a child that is root in the user's namespace, where there is something to do.
pub fn settle_as_root(engine: &Engine) {
    let trash = std::fs::read_dir(engine.paths.trash()).is_ok_and(|mut entries| entries.next().is_some());
    if trash {
        // The child reports what is wrong; the trash is emptied by the next command.
        let _ = in_child(engine, |stores| {
            settle(stores, engine);
            Ok(())
        });
    }
}

/// Does it in a child process that is root in the user's namespace. The child reports its own error.
pub(super) fn in_child(
    engine: &Engine,
    work: impl FnOnce(&Stores) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    match process::fork()? {
        Side::Child => {
            let code = match Stores::enter(engine).and_then(|stores| work(&stores)) {
                Ok(()) => 0,
                Err(error) => super::report(&error).max(1),
            };
            process::exit_now(code)
        }
        Side::Parent(child) => {
            let status = rustix::process::waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED)?;
            match status.and_then(|s| s.exit_status()) {
                Some(0) => Ok(()),
                code => Err(Error::Reported(code.and_then(|c| u8::try_from(c).ok()).unwrap_or(125)).into()),
            }
        }
    }
}

/// Who uses what, as the records of containers say.
#[derive(Debug, Default)]
pub struct Users {
    /// The containers that can be read.
    pub containers: Vec<Container>,
    /// One that cannot be read: it may use any layer.
    pub unreadable: Option<String>,
}

impl Users {
    /// Looks now.
    pub fn now(engine: &Engine) -> anyhow::Result<Self> {
        let mut users = Self::default();
        for entry in store::list_with_steps(&engine.paths)? {
            match entry {
                Entry::Whole(container) => users.containers.push(*container),
                Entry::Broken(id, _) => users.unreadable = Some(id.short().to_owned()),
            }
        }
        Ok(users)
    }

    /// Whether a container needs a layer, or may.
    pub fn need_layer(&self, layer: Digest) -> bool {
        self.unreadable.is_some()
            || self.containers.iter().any(|c| c.record.needed_layers().any(|needed| *needed == layer))
    }

    /// How many containers are made from an image.
    pub fn count_of(&self, image: Digest) -> usize {
        self.containers.iter().filter(|c| c.record.image_id == Some(image)).count()
    }

    /// Why an image must stay; with `stopped_too` also for containers that do not run.
    fn user_of(&self, image: &Image, stopped_too: bool) -> Option<String> {
        let user = self
            .containers
            .iter()
            .filter(|c| c.record.image_id == Some(image.id) && (stopped_too || c.status.is_running()))
            .max_by_key(|c| c.status.is_running())?;
        let doing = if user.status.is_running() { "running" } else { "stopped" };
        Some(format!("it is used by the {doing} container {} ({})", user.record.name, user.record.id.short()))
    }
}

/// Asks for the users of layers when it is first asked itself: by then nobody new can come, and a container that was
/// made since the command began is seen.
fn layer_users(engine: &Engine) -> impl Fn(Digest) -> bool {
    let (containers, cached) = (OnceCell::new(), OnceCell::new());
    move |layer| {
        let cached = cached.get_or_init(|| cache::layers(&engine.paths).ok());
        containers.get_or_init(|| needs_of_containers(engine))(layer)
            || cached.as_ref().is_none_or(|cached| cached.contains(&layer))
    }
}

/// Whether a container needs a layer, as it is now. What cannot be listed may need anything.
pub fn needs_of_containers(engine: &Engine) -> cache::Needs {
    let users = Users::now(engine).ok();
    Box::new(move |layer| users.as_ref().is_none_or(|users| users.need_layer(layer)))
}

/// Removes of the build cache what the policy says, and the layers that nobody needs then.
pub fn prune_cache(
    engine: &Engine,
    stores: &Stores,
    policy: &cache::Policy,
) -> anyhow::Result<cache::Pruned> {
    let prune = || cache::prune(&stores.images, &stores.layers, &|| needs_of_containers(engine), policy);
    Ok(crate::state::with_ballast(stores.images.paths(), prune)?)
}

/// Removes an image as `rmi` does, minding the containers that use it. With `force`, stopped ones do not count.
pub fn remove(
    engine: &Engine,
    stores: &Stores,
    users: &Users,
    what: &str,
    force: bool,
) -> anyhow::Result<image::Removed> {
    let uses = |image: &Image| users.user_of(image, !force);
    let in_use = InUse { image: &uses, layer: &layer_users(engine) };
    let remove = || stores.images.remove(&stores.layers, what, force, &in_use);
    Ok(crate::state::with_ballast(stores.images.paths(), remove)?)
}

/// Removes the images that `wanted` picks and no container is made from, and layers that nobody needs.
pub fn prune(
    engine: &Engine,
    stores: &Stores,
    wanted: &dyn Fn(&ImageEntry) -> bool,
) -> anyhow::Result<image::Pruned> {
    let users = Users::now(engine)?;
    let uses = |image: &Image| users.user_of(image, true);
    let in_use = InUse { image: &uses, layer: &layer_users(engine) };
    let prune = || stores.images.prune(&stores.layers, wanted, &in_use);
    Ok(crate::state::with_ballast(stores.images.paths(), prune)?)
}

/// Moves layers that nobody needs to the trash: what pulls that were given up, and removals during a pull, left.
pub fn collect_garbage(engine: &Engine, stores: &Stores) -> anyhow::Result<()> {
    stores.images.collect_garbage(&stores.layers, &layer_users(engine))?;
    Ok(())
}

/// docker's report of an image's removal, in the words of `rmi` or, in lower case, of `prune`.
pub fn removed_text(removed: &image::Removed, capital: bool) -> String {
    let (untagged, deleted) = if capital { ("Untagged", "Deleted") } else { ("untagged", "deleted") };
    let names = removed.untagged.iter().map(|name| format!("{untagged}: {}\n", name.familiar()));
    let digests = removed.deleted.iter().chain(&removed.layers);
    names.chain(digests.map(|digest| format!("{deleted}: {digest}\n"))).collect()
}

/// Bytes of layers.
pub fn layers_size(engine: &Engine, layers: &[Digest]) -> u64 {
    let store = Stores::open(engine).layers;
    layers.iter().map(|layer| store.size(*layer).unwrap_or(0)).sum()
}
