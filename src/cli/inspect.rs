//! `coracle inspect`, and the same for one kind of thing only.

use super::args::{Given, operands, option, switch};
use super::engine::Engine;
use super::{Action, Context, Entry, parse};
use super::{Error, container_view};
use crate::container::{lifecycle, store};
use crate::output::{self, template};
use clap::{ArgMatches, Command};
use serde_json::Value;

/// `coracle inspect`.
pub const ENTRY: Entry = Entry {
    name: "inspect",
    aliases: &[],
    about: "Show all there is to know about containers, images or volumes",
    usage: "[OPTIONS] NAME [NAME...]",
    action: Action::Leaf { define, unsupported: &["latest,l"], run },
};

/// `coracle container inspect`.
pub const CONTAINER: Entry = Entry {
    about: "Show all there is to know about containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    action: Action::Leaf { define: define_container, unsupported: &["latest,l"], run: run_container },
    ..ENTRY
};

/// `coracle image inspect`.
pub const IMAGE: Entry = Entry {
    about: "Show all there is to know about images",
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    action: Action::Leaf { define: define_kind, unsupported: &["platform"], run: run_image },
    ..ENTRY
};

/// `coracle volume inspect`.
pub const VOLUME: Entry = Entry {
    about: "Show all there is to know about volumes",
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    action: Action::Leaf { define: define_kind, unsupported: &["all,a"], run: run_volume },
    ..ENTRY
};

/// What is looked for under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A container, else an image, else a volume.
    Any,
    /// A container.
    Container,
    /// An image.
    Image,
    /// A volume.
    Volume,
}

/// What `inspect` is asked for.
#[derive(Clone, Debug)]
pub struct InspectOptions {
    /// What there is to look for.
    pub kind: Kind,
    /// The names, as typed.
    pub names: Vec<String>,
    /// `-f`: a template, or `json`.
    pub format: Option<String>,
    /// `-s`: with a container's sizes.
    pub size: bool,
}

fn define_kind(command: Command) -> Command {
    command.args([
        option("format", "FORMAT").short('f').help("Show each by a template, or as 'json'"),
        operands("NAME", 1..),
    ])
}

fn define_container(command: Command) -> Command {
    define_kind(command).arg(switch("size").short('s').help("Show the sizes of containers too"))
}

fn define(command: Command) -> Command {
    let kind =
        option("type", "TYPE").short('t').help("Look only for a container, image or volume (default all)");
    define_container(command).arg(kind)
}

fn options(args: &ArgMatches, kind: Kind) -> InspectOptions {
    InspectOptions {
        kind,
        names: args.operands(),
        format: args.text("format").map(str::to_owned),
        size: args.on("size"),
    }
}

fn kind(text: &str) -> Result<Kind, parse::Invalid> {
    match text {
        "all" | "" => Ok(Kind::Any),
        "container" => Ok(Kind::Container),
        "image" => Ok(Kind::Image),
        "volume" => Ok(Kind::Volume),
        "network" | "pod" => Err(parse::Invalid::new(format!("type '{text}' is not supported yet"))),
        _ => Err(parse::Invalid::unknown("type", text, &["all", "container", "image", "volume"])),
    }
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    show(context, &options(args, args.parsed("type", kind)?.unwrap_or(Kind::Any)))
}

fn run_container(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    show(context, &options(args, Kind::Container))
}

fn run_image(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    show(context, &options(args, Kind::Image))
}

fn run_volume(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    show(context, &options(args, Kind::Volume))
}

/// Shows what is found; what is not is an error at the end.
fn show(context: &Context, options: &InspectOptions) -> anyhow::Result<u8> {
    let engine = Engine::open(context)?;
    let (mut found, mut worst) = (Vec::new(), 0);
    for name in &options.names {
        match look_up(&engine, options, name) {
            Ok(value) => found.push(value),
            Err(error) => worst = super::report(&error),
        }
    }
    match options.format.as_deref() {
        None | Some("json" | "") => {
            let text = serde_json::to_string_pretty(&found)?;
            output::print(&format!("{text}\n"))?;
        }
        Some(template) => {
            for value in &found {
                output::print(&format!(
                    "{}\n",
                    template::format(Some(template), value)?.trim_end_matches('\n')
                ))?;
            }
        }
    }
    Ok(worst)
}

fn look_up(engine: &Engine, options: &InspectOptions, name: &str) -> anyhow::Result<Value> {
    let any = options.kind == Kind::Any;
    if any || options.kind == Kind::Container {
        match store::find(&engine.paths, name) {
            Ok(container) => {
                let size =
                    options.size.then(|| crate::state::tree_size(&container.places.data.join("upper")));
                return Ok(container_view::inspect(&container, size));
            }
            Err(error) if any && lifecycle::is_missing(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::usage(
        format!("no such object: {name}"),
        "'coracle ps -a', 'coracle images' and 'coracle volume ls' list what there is",
    )
    .into())
}
