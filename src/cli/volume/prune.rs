//! `coracle volume prune`.

use super::{used_names, user_ids};
use crate::cli::args::{Given, list, switch};
use crate::cli::engine::Engine;
use crate::cli::stores::{self, Stores};
use crate::cli::{Action, Context, Entry, Error, parse};
use crate::container::store;
use crate::output::{self, human};
use crate::state::Paths;
use crate::volume::{Pruned, Volume, Volumes};
use clap::{ArgMatches, Command};

/// `coracle volume prune`.
pub const ENTRY: Entry = Entry {
    name: "prune",
    aliases: &[],
    about: "Remove the volumes that no container uses",
    usage: "[OPTIONS]",
    action: Action::Leaf { define, unsupported: &[], run },
};

/// What `volume prune` is asked for.
#[derive(Clone, Debug)]
pub struct VolumePruneOptions {
    /// `-f`: don't ask.
    pub force: bool,
    /// `-a`: named ones too, not only anonymous ones.
    pub all: bool,
    /// `--filter label=…`, `label!=…`.
    pub filters: Vec<(String, String)>,
}

fn define(command: Command) -> Command {
    command.args([
        switch("force").short('f').help("Don't ask first"),
        switch("all").short('a').help("Remove named volumes too, not only anonymous ones"),
        list("filter", "KEY=VALUE").help("Remove only: label=KEY[=VALUE], label!=KEY[=VALUE]"),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<VolumePruneOptions, Error> {
    Ok(VolumePruneOptions {
        force: args.on("force"),
        all: args.on("all"),
        filters: args.each("filter", |text| parse::filter(text, &["label", "label!"]))?,
    })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    engine.tidy();
    let which = if options.all { "all" } else { "all anonymous" };
    let question = format!("This will remove {which} volumes not used by at least one container.");
    if !options.force && !output::ask::confirm(&question)? {
        return Ok(0);
    }
    // Before anything is entered: it is a reason to stop here.
    refuse_with_broken(&engine.paths)?;
    // What the volumes occupy is counted, and their files belong to ids of the namespace.
    let stores = Stores::enter(&engine)?;
    let pruned = prune(&engine.paths, &options)?;
    output::print(&report(&pruned))?;
    let mut worst = 0;
    for (_, error) in pruned.failed {
        worst = crate::cli::report(&error.into());
    }
    stores::settle(&stores, &engine);
    Ok(worst)
}

/// The anonymous volumes that nobody uses, for `system prune`. The caller is root of the user's namespace; filters of age are
/// for what has one.
pub fn unused(engine: &Engine, filters: &[(String, String)]) -> anyhow::Result<Pruned> {
    refuse_with_broken(&engine.paths)?;
    let filters = filters.iter().filter(|(key, _)| key != "until").cloned().collect();
    prune(&engine.paths, &VolumePruneOptions { force: true, all: false, filters })
}

fn prune(paths: &Paths, options: &VolumePruneOptions) -> anyhow::Result<Pruned> {
    let used = used_names(paths)?;
    let pruned = Volumes::new(paths).prune(
        |volume| !used.contains(&volume.name) && wanted(volume, options),
        |name| user_ids(paths, name),
    );
    Ok(pruned?)
}

/// A container whose record cannot be read may use any volume.
fn refuse_with_broken(paths: &Paths) -> anyhow::Result<()> {
    for entry in store::list_with_steps(paths)? {
        if let store::Entry::Broken(id, error) = entry {
            let what = format!("cannot tell which volumes container {} uses: {error}", id.short());
            return Err(Error::usage(what, format!("remove it first: coracle rm {}", id.short())).into());
        }
    }
    Ok(())
}

fn wanted(volume: &Volume, options: &VolumePruneOptions) -> bool {
    let passes =
        |(key, value): &(String, String)| parse::has_label(&volume.labels, value) == (key == "label");
    (options.all || volume.anonymous) && options.filters.iter().all(passes)
}

/// docker's list of what is gone.
pub fn list_of(pruned: &Pruned) -> String {
    let names: String = pruned.removed.iter().map(|volume| format!("{}\n", volume.name)).collect();
    if names.is_empty() { String::new() } else { format!("Deleted Volumes:\n{names}\n") }
}

/// docker's text.
fn report(pruned: &Pruned) -> String {
    let head = list_of(pruned);
    format!("{head}Total reclaimed space: {}\n", human::size(pruned.reclaimed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::NewVolume;

    #[test]
    fn only_what_was_asked_for_is_pruned() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::discover(Some(&dir.path().join("data")), Some(&dir.path().join("run"))).unwrap();
        paths.prepare().unwrap();
        let make = |name: &str, anonymous, label: &str| {
            let labels = [(label.to_owned(), "1".to_owned())].into();
            Volumes::new(&paths).create(&NewVolume { labels, anonymous, ..NewVolume::named(name) }).unwrap()
        };
        let volumes = [make("named", false, "a"), make("anonymous", true, "b")];
        for (all, filters, expected) in [
            (false, &[][..], &["anonymous"][..]),
            (true, &[], &["named", "anonymous"]),
            (true, &[("label", "a=1")], &["named"]),
            (true, &[("label!", "a")], &["anonymous"]),
            (false, &[("label", "a")], &[]),
        ] {
            let filters = filters.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
            let options = VolumePruneOptions { force: true, all, filters };
            let names: Vec<_> =
                volumes.iter().filter(|v| wanted(v, &options)).map(|v| v.name.as_str()).collect();
            assert_eq!(names, expected, "{options:?}");
        }
    }

    #[test]
    fn the_report_is_dockers() {
        assert_eq!(report(&Pruned::default()), "Total reclaimed space: 0B\n");
    }
}
