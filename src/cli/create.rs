//! `coracle create`.

use super::create_flags::{self, CreateOptions};
use super::engine::Engine;
use super::{Action, Context, Entry, Error, parse};
use crate::container::create::{Created, create};
use crate::container::request::{MountSource, NetworkMode};
use crate::container::{self, lifecycle, recover};
use crate::image::ImageStore;
use crate::network::{self, Network, Networks, Publish};
use crate::output;
use crate::state::{self, Durability};
use clap::ArgMatches;
use std::collections::BTreeSet;

/// `coracle create`.
pub const ENTRY: Entry = Entry {
    name: "create",
    aliases: &[],
    about: "Create a container without starting it",
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    action: Action::Leaf { define: create_flags::define, unsupported: create_flags::UNSUPPORTED, run },
};

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<CreateOptions, Error> {
    create_flags::options(args)
}

/// Makes a container, pulling its image if need be.
pub(super) fn make(engine: &Engine, options: &CreateOptions) -> anyhow::Result<Created> {
    // From the look at the image's layers until the record names them, nobody may collect them.
    let _pin = ImageStore::open(&engine.paths).pin()?;
    let mut request = options.request.clone();
    let image = match &request.settings.rootfs {
        None => Some(super::stores::obtain(engine, &request.image, &options.image)?),
        Some(_) => None,
    };
    for mount in &mut request.mounts {
        if let MountSource::Image { name, layers } = &mut mount.source {
            *layers = super::stores::obtain(engine, name, &options.image)?.diff_ids().to_vec();
        }
    }
    if request.network == NetworkMode::Default && request.publish.is_empty() && !network::is_possible() {
        output::note(
            "/dev/net/tun cannot be opened: this container has loopback only ('coracle doctor' tells more; --network host \
             gives it the host's network, --network none leaves this note out)",
        );
        request.network = NetworkMode::None;
    }
    if options.publish_all {
        let of_image = image.iter().flat_map(|image| &image.config.config.exposed_ports);
        for port in of_image.chain(&request.settings.exposed).collect::<BTreeSet<_>>() {
            let ports = parse::publish(port).map_err(Error::value("publish-all", port))?;
            let is_new = |new: &Publish| {
                !request
                    .publish
                    .iter()
                    .any(|p| (p.container_port, p.transport) == (new.container_port, new.transport))
            };
            let new: Vec<_> = ports.into_iter().filter(is_new).collect();
            request.publish.extend(new);
        }
    }
    let networks = Networks::new(&engine.paths);
    let mut held = None;
    engine.mention_single_id();
    if options.replace
        && let Some(name) = &request.name
    {
        replace(engine, name)?;
    }
    if let NetworkMode::Named(several) = &mut request.network {
        // Until the record names them.
        held = Some(networks.hold()?);
        let mut all: Vec<Network> = Vec::new();
        for joined in several {
            let found = networks.find(&joined.network)?;
            joined.network.clone_from(&found.name);
            found.check_aliases(&joined.aliases)?;
            all.push(found);
        }
        if let Some(way) = container::networks::way(all.iter().map(|network| network.internal)) {
            all[way].config().check_publish(&request.publish)?;
        }
    }
    let created = create(&engine.paths, &engine.identity, &request, image.as_ref())?;
    drop(held);
    if let Some(path) = &options.cidfile {
        create_flags::write_cidfile(path, created.record.id.as_str())?;
    }
    Ok(created)
}

/// Removes the container that has the name, if any: stopped as it wants to be.
fn replace(engine: &Engine, name: &str) -> anyhow::Result<()> {
    match engine.find(name) {
        Ok(old) if old.record.name == name => {
            // In a process of its own: it may have to become root in the user's namespace, and we must stay outside.
            super::stores::in_child(engine, |_| {
                Ok(lifecycle::remove(&engine.paths, &engine.identity, &old, true, None, false)?)
            })
        }
        Ok(_) => Ok(()),
        Err(error) if lifecycle::is_missing(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let engine = Engine::open(context)?;
    let created = make(&engine, &options(args)?)?;
    if created.record.rm {
        // What is in the run root without a monitor is the trace of a killed one: it rests with the others until it is
        // started.
        state::write_json(&created.places.record(false), &created.record, Durability::PowerCut)?;
    }
    recover::forget_run(&created.places)?;
    output::print(&format!("{}\n", created.record.id))?;
    Ok(0)
}
