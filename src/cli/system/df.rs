//! `coracle system df`: docker's view of what images, containers, volumes and the build cache take.

use crate::build::cache;
use crate::cli::args::{Given, option, switch};
use crate::cli::engine::Engine;
use crate::cli::rows::shorten_id;
use crate::cli::stores::{Stores, Users};
use crate::cli::{Action, Context, Entry, Error, ListOptions, builder, container_view, parse};
use crate::container::record::MountKind;
use crate::container::store::Container;
use crate::image::Usage;
use crate::output::listing::Listing;
use crate::output::{self, human};
use crate::volume::{Listed, Volume, Volumes, disk_usage};
use clap::{ArgMatches, Command};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::SystemTime;

/// `coracle system df`.
pub const ENTRY: Entry = Entry {
    name: "df",
    aliases: &[],
    about: "Show the disk space that images, containers, volumes and the build cache take",
    usage: "[OPTIONS]",
    action: Action::Leaf { define, unsupported: &[], run },
};

const SUMMARY: Listing<'static> = Listing {
    table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    quiet: "Size",
    heads: &[("TotalCount", "TOTAL")],
};

const IMAGES: Listing<'static> = Listing {
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
    quiet: "ID",
    heads: &[
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
    ],
};

const CONTAINERS: Listing<'static> = Listing {
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
    quiet: "ID",
    heads: &[("ID", "CONTAINER ID"), ("LocalVolumes", "LOCAL VOLUMES"), ("RunningFor", "CREATED")],
};

const VOLUMES: Listing<'static> =
    Listing { table: "{{.Name}}\t{{.Links}}\t{{.Size}}", quiet: "Name", heads: &[("Name", "VOLUME NAME")] };

const CACHE: Listing<'static> = Listing {
    table: "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.Shared}}",
    quiet: "ID",
    heads: &[
        ("ID", "CACHE ID"),
        ("CacheType", "CACHE TYPE"),
        ("CreatedSince", "CREATED"),
        ("LastUsedSince", "LAST USED"),
    ],
};

fn define(command: Command) -> Command {
    command.args([
        switch("verbose").short('v').help("Show each image, container, volume and entry of the build cache"),
        option("format", "FORMAT").help("Show it by a template, or as 'json', or 'table TEMPLATE'"),
    ])
}

/// What there is, measured.
struct Facts {
    images: Usage,
    users: Users,
    /// Each container and the bytes it has written.
    containers: Vec<(Container, u64)>,
    /// Each volume, how many containers use it, and its bytes.
    volumes: Vec<(Volume, usize, u64)>,
    cache: cache::Usage,
}

impl Facts {
    fn gather(engine: &Engine, stores: &Stores) -> anyhow::Result<Self> {
        let users = Users::now(engine)?;
        let own = |c: &Container| crate::state::tree_size(&c.places.data.join("upper"));
        let containers: Vec<_> = users.containers.iter().map(|c| (c.clone(), own(c))).collect();
        let mut links: BTreeMap<&str, usize> = BTreeMap::new();
        for mount in users.containers.iter().flat_map(|c| &c.record.mounts) {
            if let MountKind::Volume { name, .. } = &mount.kind {
                *links.entry(name).or_default() += 1;
            }
        }
        let mut volumes = Vec::new();
        for listed in Volumes::new(&engine.paths).list()? {
            if let Listed::Volume(volume) = listed {
                let (links, size) =
                    (links.get(volume.name.as_str()).copied().unwrap_or(0), disk_usage(&volume.data()));
                volumes.push((volume, links, size));
            }
        }
        let images = Usage::of(&stores.images, &stores.layers)?;
        let needs = |layer| users.need_layer(layer);
        let cache = cache::Usage::of(&stores.images, &stores.layers, &needs)?;
        Ok(Self { images, containers, volumes, cache, users })
    }

    fn summary(&self) -> [Value; 4] {
        let active = |image: &crate::image::ImageUsage| self.users.count_of(image.entry.image.id) > 0;
        let images = &self.images;
        let active_images = images.images.iter().filter(|image| active(image)).count();
        let sum = |sizes: &mut dyn Iterator<Item = u64>| sizes.sum::<u64>();
        let idle = |c: &&(Container, u64)| !c.0.status.is_running();
        let unused = |v: &&(Volume, usize, u64)| v.1 == 0;
        [
            line("Images", images.images.len(), active_images, images.layers.1, images.reclaimable(active)),
            line(
                "Containers",
                self.containers.len(),
                self.containers.iter().filter(|c| !idle(c)).count(),
                sum(&mut self.containers.iter().map(|c| c.1)),
                sum(&mut self.containers.iter().filter(idle).map(|c| c.1)),
            ),
            line(
                "Local Volumes",
                self.volumes.len(),
                self.volumes.iter().filter(|v| !unused(v)).count(),
                sum(&mut self.volumes.iter().map(|v| v.2)),
                sum(&mut self.volumes.iter().filter(unused).map(|v| v.2)),
            ),
            line(
                "Build Cache",
                self.cache.records.len(),
                self.cache.records.iter().filter(|r| r.is_in_use).count(),
                self.cache.own_size(),
                sum(&mut self.cache.records.iter().filter(|r| !r.is_in_use).map(|r| r.own_size())),
            ),
        ]
    }
}

fn line(kind: &str, total: usize, active: usize, size: u64, reclaimable: u64) -> Value {
    // docker's: of nothing, nothing is said.
    let percent = (u128::from(reclaimable) * 100).checked_div(u128::from(size));
    let reclaimable = match percent {
        Some(percent) => format!("{} ({percent}%)", human::size(reclaimable)),
        None => human::size(reclaimable),
    };
    json!({
        "Type": kind,
        "TotalCount": total.to_string(),
        // podman's name for it.
        "Total": total.to_string(),
        "Active": active.to_string(),
        "Size": human::size(size),
        "Reclaimable": reclaimable,
    })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let show = ListOptions::of(args);
    let verbose = args.on("verbose");
    if verbose && show.format.as_deref().is_some_and(|format| format != "json") {
        let fix = "leave out one of them, or use --format json";
        return Err(Error::usage("--verbose and --format exclude each other", fix).into());
    }
    let engine = Engine::open(context)?;
    // What containers wrote belongs to ids of the namespace.
    let stores = Stores::enter(&engine)?;
    let facts = Facts::gather(&engine, &stores)?;
    if !verbose {
        output::print(&SUMMARY.render(&facts.summary(), show.style())?)?;
        return Ok(0);
    }
    let now = SystemTime::now();
    let (images, containers, volumes) = details(&facts, now);
    let cache = builder::rows(&facts.cache.records, now, show.format.is_some());
    if show.format.is_some() {
        let all = json!({
            "Images": images, "Containers": containers, "Volumes": volumes, "BuildCache": cache,
        });
        output::print(&format!("{all}\n"))?;
        return Ok(0);
    }
    for (head, listing, rows) in [
        ("Images", IMAGES, images),
        ("Containers", CONTAINERS, containers),
        ("Local Volumes", VOLUMES, volumes),
    ] {
        let table = listing.render(&rows, show.style())?;
        output::print(&format!("{head} space usage:\n\n{table}\n"))?;
    }
    let (table, size) = (CACHE.render(&cache, show.style())?, human::size(facts.cache.own_size()));
    output::print(&format!("Build cache usage: {size}\n\n{table}\n"))?;
    Ok(0)
}

fn details(facts: &Facts, now: SystemTime) -> (Vec<Value>, Vec<Value>, Vec<Value>) {
    let mut images = Vec::new();
    for usage in &facts.images.images {
        let image = &usage.entry.image;
        let created = image.config.created.as_deref().and_then(|text| parse::moment(text, now).ok());
        let names: Vec<Option<_>> = match usage.entry.names.is_empty() {
            true => vec![None],
            false => usage.entry.names.iter().map(Some).collect(),
        };
        for name in names {
            let none = "<none>";
            images.push(json!({
                "Repository": name.map_or_else(|| none.into(), |n| n.reference.familiar_name()),
                "Tag": name.and_then(|n| n.reference.tag()).unwrap_or(none),
                "ID": shorten_id(&image.id.hex()),
                "CreatedSince": created.map_or_else(|| "N/A".into(), |at| human::ago(at, now)),
                "Size": human::size(usage.size),
                "SharedSize": human::size(usage.shared),
                "UniqueSize": human::size(usage.unique()),
                "Containers": facts.users.count_of(image.id).to_string(),
            }));
        }
    }
    let container = |(container, size): &(Container, u64)| {
        let mut row = container_view::row(container, now, false, None);
        row["Size"] = human::size(*size).into();
        if let Some(fields) = row.as_object_mut() {
            fields.remove("Label");
        }
        row
    };
    let volume = |(volume, links, size): &(Volume, usize, u64)| json!({ "Name": volume.name, "Links": links.to_string(), "Size": human::size(*size) });
    (images, facts.containers.iter().map(container).collect(), facts.volumes.iter().map(volume).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_freed_is_said_in_percent_where_there_is_anything() {
        assert_eq!(line("Images", 2, 1, 2000, 500)["Reclaimable"], "500B (25%)");
        assert_eq!(line("Images", 0, 0, 0, 0)["Reclaimable"], "0B");
    }
}
