//! `coracle manifest`: lists of images, one name for several platforms.

pub mod add;
pub mod annotate;
pub mod create;
pub mod exists;
pub mod inspect;
pub mod push;
pub mod remove;
pub mod rm;

use super::args::{Given, list, option};
use super::{Action, Entry, Error, parse};
use crate::image::ListEntry;
use clap::{Arg, ArgMatches};
use std::collections::BTreeMap;

/// `coracle manifest`.
pub const ENTRY: Entry = Entry {
    name: "manifest",
    aliases: &[],
    about: "Make and push lists of images for several platforms",
    usage: "COMMAND",
    action: Action::Group(&[
        add::ENTRY,
        annotate::ENTRY,
        create::ENTRY,
        exists::ENTRY,
        inspect::ENTRY,
        push::ENTRY,
        remove::ENTRY,
        rm::ENTRY,
    ]),
};

/// The flags that say what an image of a list is for.
fn entry_flags() -> [Arg; 7] {
    [
        list("annotation", "NAME=VALUE").help("Set an annotation of the image in the list"),
        option("arch", "ARCH").help("Say that the image is for this architecture"),
        list("features", "LIST").help("Say that it needs these features of the processor"),
        option("os", "OS").help("Say that it is for this operating system"),
        list("os-features", "LIST").help("Say that it needs these features of the operating system"),
        option("os-version", "VERSION").help("Say that it is for this version of the operating system"),
        option("variant", "VARIANT").help("Say that it is for this variant of the architecture"),
    ]
}

/// What is to be said of an image instead of what it says itself.
#[derive(Clone, Debug, Default)]
struct Said {
    annotations: BTreeMap<String, String>,
    arch: Option<String>,
    features: Vec<String>,
    os: Option<String>,
    os_features: Vec<String>,
    os_version: Option<String>,
    variant: Option<String>,
}

impl Said {
    fn of(args: &ArgMatches) -> Result<Self, Error> {
        let text = |name: &'static str| args.text(name).map(str::to_owned);
        let words = |name: &'static str| -> Result<Vec<String>, Error> {
            let lists = args.each(name, |text| {
                Ok::<_, parse::Invalid>(text.split(',').map(str::to_owned).collect::<Vec<_>>())
            })?;
            Ok(lists.concat())
        };
        Ok(Self {
            annotations: args.each("annotation", annotation)?.into_iter().collect(),
            arch: text("arch"),
            features: words("features")?,
            os: text("os"),
            os_features: words("os-features")?,
            os_version: text("os-version"),
            variant: text("variant"),
        })
    }

    fn apply(&self, entry: &mut ListEntry) {
        let platform = &mut entry.platform;
        for (said, field) in [
            (&self.arch, &mut platform.architecture),
            (&self.os, &mut platform.os),
            (&self.os_version, &mut platform.os_version),
            (&self.variant, &mut platform.variant),
        ] {
            if let Some(said) = said {
                field.clone_from(said);
            }
        }
        for (said, field) in
            [(&self.features, &mut platform.features), (&self.os_features, &mut platform.os_features)]
        {
            if !said.is_empty() {
                field.clone_from(said);
            }
        }
        entry.annotations.extend(self.annotations.clone());
    }
}

fn annotation(text: &str) -> Result<(String, String), parse::Invalid> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(parse::Invalid::new("expected NAME=VALUE")),
    }
}
