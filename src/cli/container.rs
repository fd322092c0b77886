//! `coracle container`: the same commands as without the word, and two that are only here.

use super::{
    Action, Entry, attach, commit, container_prune, cp, create, diff, exec, exists, export, inspect, kill,
    logs, pause, port, ps, rename, restart, rm, run, start, stats, stop, top, update, wait,
};

/// `coracle container`.
pub const ENTRY: Entry = Entry {
    name: "container",
    aliases: &[],
    about: "Manage containers",
    usage: "COMMAND",
    action: Action::Group(&[
        attach::ENTRY,
        commit::ENTRY,
        cp::ENTRY,
        create::ENTRY,
        diff::ENTRY,
        exec::ENTRY,
        exists::CONTAINER,
        export::ENTRY,
        inspect::CONTAINER,
        kill::ENTRY,
        logs::ENTRY,
        pause::ENTRY,
        port::ENTRY,
        container_prune::ENTRY,
        ps::ENTRY.named("ls", &["list", "ps"]),
        rename::ENTRY,
        restart::ENTRY,
        rm::ENTRY,
        run::ENTRY,
        start::ENTRY,
        stats::ENTRY,
        stop::ENTRY,
        top::ENTRY,
        pause::UNPAUSE,
        update::ENTRY,
        wait::ENTRY,
    ]),
};
