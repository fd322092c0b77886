//! `coracle store`: what is kept on disk, and whether it is whole.

pub mod df;
pub mod verify;

use super::{Action, Entry};

/// `coracle store`.
pub const ENTRY: Entry = Entry {
    name: "store",
    aliases: &[],
    about: "Look after what is kept on disk",
    usage: "COMMAND",
    action: Action::Group(&[df::ENTRY, verify::ENTRY]),
};
