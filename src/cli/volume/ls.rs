//! `coracle volume ls`.

use super::used_names;
use crate::cli::args::{Given, list, option, switch};
use crate::cli::engine::Engine;
use crate::cli::rows::{self, VolumeRow};
use crate::cli::{Action, Context, Entry, Error, ListOptions, parse};
use crate::output;
use crate::volume::{Listed, Volume, Volumes};
use clap::{ArgMatches, Command};
use std::collections::BTreeSet;

/// `coracle volume ls`.
pub const ENTRY: Entry = Entry {
    name: "ls",
    aliases: &["list"],
    about: "List volumes",
    usage: "[OPTIONS]",
    action: Action::Leaf { define, unsupported: &["cluster"], run },
};

/// What `volume ls` is asked for.
#[derive(Clone, Debug)]
pub struct VolumeLsOptions {
    /// `-f`: `name`, `label`, `driver`, `dangling`.
    pub filters: Vec<(String, String)>,
    /// How the rows are shown.
    pub show: ListOptions,
}

fn define(command: Command) -> Command {
    command.args([
        list("filter", "KEY=VALUE")
            .short('f')
            .help("Show only: name=, label=KEY[=VALUE], driver=, dangling=BOOL"),
        option("format", "FORMAT").help("Show each by a template, or as 'json', or 'table TEMPLATE'"),
        switch("quiet").short('q').help("Show names only"),
        switch("noheading").short('n').help("Leave out the column heads"),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<VolumeLsOptions, Error> {
    Ok(VolumeLsOptions {
        filters: args.each("filter", |text| {
            let (key, value) = parse::filter(text, &["name", "label", "driver", "dangling"])?;
            if key == "dangling" {
                parse::boolean(&value)?;
            }
            Ok((key, value))
        })?,
        show: ListOptions::of(args),
    })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    // Who uses what is only asked for where it matters.
    let used = match options.filters.iter().any(|(key, _)| key == "dangling") {
        true => used_names(&engine.paths)?,
        false => BTreeSet::new(),
    };
    let (mut rows, mut broken) = (Vec::new(), Vec::new());
    for listed in Volumes::new(&engine.paths).list()? {
        match listed {
            Listed::Volume(volume) if accepts(&volume, &options.filters, &used) => rows.push(row(&volume)),
            Listed::Volume(_) => {}
            Listed::Broken { name, error } => broken.push((name, error)),
        }
    }
    output::print(&rows::VOLUMES.render(&rows, options.show.style())?)?;
    for (name, error) in broken {
        output::warn(&format!(
            "volume {name} cannot be read: {error}; its data is in {}",
            engine.paths.volumes().join(&name).display()
        ));
    }
    Ok(0)
}

fn row(volume: &Volume) -> serde_json::Value {
    let mountpoint = volume.data().display().to_string();
    VolumeRow { name: &volume.name, mountpoint: &mountpoint, labels: &volume.labels }.fields()
}

/// Whether a volume passes: all keys must hold, of several values of one key any, but every label.
fn accepts(volume: &Volume, filters: &[(String, String)], used: &BTreeSet<String>) -> bool {
    let one = |(key, value): &(String, String)| match key.as_str() {
        "name" => volume.name.contains(value.as_str()),
        "driver" => value == "local",
        "dangling" => parse::boolean(value).is_ok_and(|wanted| wanted != used.contains(&volume.name)),
        // label
        _ => parse::has_label(&volume.labels, value),
    };
    filters.iter().all(|filter| {
        let same_key = |other: &&(String, String)| other.0 == filter.0 && filter.0 != "label";
        one(filter) || filters.iter().filter(same_key).any(one)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Paths;
    use crate::volume::NewVolume;

    #[test]
    fn filters_of_one_key_are_alternatives_and_labels_must_all_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::discover(Some(&dir.path().join("data")), Some(&dir.path().join("run"))).unwrap();
        paths.prepare().unwrap();
        let labels = [("a", "1"), ("b", "2")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let new = NewVolume { labels, ..NewVolume::named("db-data") };
        let volume = Volumes::new(&paths).create(&new).unwrap();
        let used = BTreeSet::from(["db-data".to_owned()]);
        for (filters, expected) in [
            (&[][..], true),
            (&["name=data"], true),
            (&["name=web", "name=db"], true),
            (&["name=web"], false),
            (&["label=a", "label=b=2"], true),
            (&["label=a", "label=b=3"], false),
            (&["dangling=false"], true),
            (&["dangling=true", "name=db"], false),
            (&["driver=local"], true),
            (&["driver=nfs"], false),
        ] {
            let filters: Vec<_> = filters
                .iter()
                .map(|f| f.split_once('=').unwrap())
                .map(|(k, v)| (k.into(), v.into()))
                .collect();
            assert_eq!(accepts(&volume, &filters, &used), expected, "{filters:?}");
        }
    }
}
