//! `coracle system`: the whole of it.

pub mod df;
pub mod prune;
pub mod reset;

use super::{Action, Entry, info};

/// `coracle system`.
pub const ENTRY: Entry = Entry {
    name: "system",
    aliases: &[],
    about: "Look after everything together",
    usage: "COMMAND",
    action: Action::Group(&[df::ENTRY, info::ENTRY, prune::ENTRY, reset::ENTRY]),
};
