//! `coracle container`: the same commands as without the word.

use super::{
    Action, Entry, attach, create, exec, inspect, kill, logs, pause, ps, restart, rm, run, start, stats,
    stop, update, wait,
};

/// `coracle container`.
pub const ENTRY: Entry = Entry {
    name: "container",
    aliases: &[],
    about: "Manage containers",
    usage: "COMMAND",
    action: Action::Group(&[
        attach::ENTRY,
        create::ENTRY,
        exec::ENTRY,
        inspect::CONTAINER,
        kill::ENTRY,
        logs::ENTRY,
        pause::ENTRY,
        ps::ENTRY.named("ls", &["list", "ps"]),
        restart::ENTRY,
        rm::ENTRY,
        run::ENTRY,
        start::ENTRY,
        stats::ENTRY,
        stop::ENTRY,
        pause::UNPAUSE,
        update::ENTRY,
        wait::ENTRY,
    ]),
};
