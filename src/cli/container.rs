//! `coracle container`: the same commands as without the word.

use super::{
    Action, Entry, attach, create, exec, inspect, kill, logs, ps, restart, rm, run, start, stop, wait,
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
        ps::ENTRY.named("ls", &["list", "ps"]),
        restart::ENTRY,
        rm::ENTRY,
        run::ENTRY,
        start::ENTRY,
        stop::ENTRY,
        wait::ENTRY,
    ]),
};
