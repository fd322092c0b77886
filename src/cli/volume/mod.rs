//! `coracle volume`: one file per command below it.

pub mod create;
pub mod ls;
pub mod prune;
pub mod rm;

use super::{Action, Entry, inspect};

/// `coracle volume`.
pub const ENTRY: Entry = Entry {
    name: "volume",
    aliases: &[],
    about: "Manage volumes",
    usage: "COMMAND",
    action: Action::Group(&[create::ENTRY, ls::ENTRY, inspect::VOLUME, rm::ENTRY, prune::ENTRY]),
};
