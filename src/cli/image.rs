//! `coracle image`: the same commands as without the word.

use super::{Action, Entry, images, inspect, load, pull, rmi, tag, untag};

/// `coracle image`.
pub const ENTRY: Entry = Entry {
    name: "image",
    aliases: &[],
    about: "Manage images",
    usage: "COMMAND",
    action: Action::Group(&[
        inspect::IMAGE,
        load::ENTRY,
        images::ENTRY.named("ls", &["list"]),
        pull::ENTRY,
        rmi::ENTRY.named("rm", &["remove"]),
        tag::ENTRY,
        untag::ENTRY,
    ]),
};
