//! `coracle inspect`, and the same for one kind of thing only.

use super::args::{Given, operands, option, switch};
use super::engine::Engine;
use super::selection::latest;
use super::stores::{self, Stores};
use super::{Action, Context, Entry, Error, parse};
use super::{container_view, image_view, network, volume};
use crate::container::lifecycle;
use crate::container::store::Container;
use crate::network::{self as networks, Networks};
use crate::output::{self, template::Template};
use crate::volume::{self as volumes, Volumes};
use crate::{image, state};
use clap::{Arg, ArgMatches, Command};
use serde_json::Value;

/// `coracle inspect`.
pub const ENTRY: Entry = Entry {
    name: "inspect",
    aliases: &[],
    about: "Show all there is to know about containers, images or volumes",
    usage: "[OPTIONS] NAME [NAME...]",
    action: Action::Leaf { define, unsupported: &[], run },
};

/// `coracle container inspect`.
pub const CONTAINER: Entry = Entry {
    about: "Show all there is to know about containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    action: Action::Leaf { define: define_container, unsupported: &[], run: run_container },
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

/// `coracle network inspect`.
pub const NETWORK: Entry = Entry {
    about: "Show all there is to know about networks",
    usage: "[OPTIONS] NETWORK [NETWORK...]",
    action: Action::Leaf { define: define_kind, unsupported: &["verbose,v"], run: run_network },
    ..ENTRY
};

/// What is looked for under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A container, else an image, else a volume, else a network.
    Any,
    /// A container.
    Container,
    /// An image.
    Image,
    /// A volume.
    Volume,
    /// A network.
    Network,
}

/// What `inspect` is asked for.
#[derive(Clone, Debug)]
pub struct InspectOptions {
    /// What there is to look for.
    pub kind: Kind,
    /// The names, as typed.
    pub names: Vec<String>,
    /// `-l`: the container that was made last.
    pub latest: bool,
    /// `-f`: a template, or `json`.
    pub format: Option<String>,
    /// `-s`: with a container's sizes.
    pub size: bool,
}

fn format() -> Arg {
    option("format", "FORMAT").short('f').help("Show each by a template, or as 'json'")
}

fn define_kind(command: Command) -> Command {
    command.args([format(), operands("NAME", 1..)])
}

fn define_container(command: Command) -> Command {
    command.args([
        format(),
        switch("size").short('s').help("Show the sizes of containers too"),
        latest(),
        operands("NAME", 0..),
    ])
}

fn define(command: Command) -> Command {
    let kind = option("type", "TYPE")
        .short('t')
        .help("Look only for a container, image, volume or network (default all)");
    define_container(command).arg(kind)
}

fn options(args: &ArgMatches, kind: Kind) -> InspectOptions {
    InspectOptions {
        kind,
        names: args.operands(),
        latest: args.on("latest"),
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
        "network" => Ok(Kind::Network),
        "pod" => Err(parse::Invalid::new(format!("type '{text}' is not supported yet"))),
        _ => Err(parse::Invalid::unknown("type", text, &["all", "container", "image", "volume", "network"])),
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

fn run_network(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    show(context, &options(args, Kind::Network))
}

/// Shows what is found; what is not is an error at the end.
fn show(context: &Context, options: &InspectOptions) -> anyhow::Result<u8> {
    let engine = Engine::open(context)?;
    // A template that is none is an error before anything is looked for.
    let template = match options.format.as_deref() {
        None | Some("json" | "") => None,
        Some(text) => Some(Template::parse(text)?),
    };
    let names = match (options.latest, options.names.is_empty()) {
        (true, true) => vec![engine.latest()?.record.id.to_string()],
        (false, false) => options.names.clone(),
        (true, false) => {
            return Err(Error::usage("--latest and names exclude each other", "leave out one of them").into());
        }
        (false, true) => {
            return Err(Error::usage("nothing named", "name one or more, or use --latest").into());
        }
    };
    let (mut found, mut worst) = (Vec::new(), 0);
    for name in &names {
        match look_up(&engine, options, name) {
            Ok(value) => found.push(value),
            Err(error) => worst = super::report(&error),
        }
    }
    match template {
        // docker's two forms.
        None if options.format.as_deref() == Some("json") => {
            output::print(&format!("{}\n", Value::Array(found)))?;
        }
        None => output::print(&format!("{:#}\n", Value::Array(found)))?,
        Some(template) => {
            for value in &found {
                output::print(&format!("{}\n", template.render(value)?))?;
            }
        }
    }
    Ok(worst)
}

/// The thing of this name: of the kind asked for, or the first of container, image, volume and network.
fn look_up(engine: &Engine, options: &InspectOptions, name: &str) -> anyhow::Result<Value> {
    let any = options.kind == Kind::Any;
    if any || options.kind == Kind::Container {
        match engine.find(name) {
            Ok(container) => return Ok(container_of(engine, options, &container)),
            Err(error) if any && lifecycle::is_missing(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if any || options.kind == Kind::Image {
        let stores = Stores::open(engine);
        match stores.images.resolve(name) {
            Ok(image) => return image_view::inspect(&stores, &image),
            // What no image can be called may be a volume's name.
            Err(image::Error::NotFound(_) | image::Error::Reference(_)) if any => {}
            Err(error) => return Err(error.into()),
        }
    }
    if any || options.kind == Kind::Volume {
        match Volumes::new(&engine.paths).get(name) {
            Ok(volume) => return Ok(volume::inspect(&volume)),
            Err(volumes::Error::Missing(_) | volumes::Error::Name(_)) if any => {}
            Err(error) => return Err(error.into()),
        }
    }
    match Networks::new(&engine.paths).find(name) {
        Ok(network) => Ok(network::inspect(&engine.paths, &network)?),
        Err(networks::Error::Missing(_)) if any => Err(Error::usage(
            format!("no such object: {name}"),
            "'coracle ps -a', 'coracle images', 'coracle volume ls' and 'coracle network ls' list what there is",
        )
        .into()),
        Err(error) => Err(error.into()),
    }
}

fn container_of(engine: &Engine, options: &InspectOptions, container: &Container) -> Value {
    let size = options.size.then(|| {
        let own = state::tree_size(&container.places.data.join("upper"));
        (own, own + stores::layers_size(engine, &container.record.layers))
    });
    // An image that is gone or broken takes nothing from its container but what it alone knows.
    let by_id = |id| Stores::open(engine).images.by_id(id).ok().flatten();
    let image = container.record.image_id.and_then(by_id);
    container_view::inspect(&engine.paths, container, image.as_ref(), size)
}
