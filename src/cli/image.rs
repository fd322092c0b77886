//! `coracle image`: the same commands as without the word, and a few that only images have.

use super::{Action, Entry, build, history, image_exists, image_prune, image_tree, images, import, inspect};
use super::{load, pull, push, rmi, save, tag, untag};

/// `coracle image`.
pub const ENTRY: Entry = Entry {
    name: "image",
    aliases: &[],
    about: "Manage images",
    usage: "COMMAND",
    action: Action::Group(&[
        build::ENTRY,
        image_exists::ENTRY,
        history::ENTRY,
        import::ENTRY,
        inspect::IMAGE,
        load::ENTRY,
        images::ENTRY.named("ls", &["list"]),
        image_prune::ENTRY,
        pull::ENTRY,
        push::ENTRY,
        rmi::ENTRY.named("rm", &["remove"]),
        save::ENTRY,
        tag::ENTRY,
        image_tree::ENTRY,
        untag::ENTRY,
    ]),
};
