//! `--cache-from` and `--cache-to` of `build`.

use super::args::{Given, list};
use super::{Error, parse};
use crate::build::{self, Built};
use crate::image::{CachePlace, StepCache, Steps};
use crate::output;
use crate::registry::Options;
use clap::{ArgMatches, Command};
use parse::Invalid;

/// Which caches of other machines a build uses, and which it writes.
#[derive(Clone, Debug, Default)]
pub struct CacheFlags {
    from: Vec<CachePlace>,
    to: Vec<To>,
    /// The image is to be a cache itself.
    pub inline: bool,
}

/// A cache to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct To {
    place: CachePlace,
    /// With the steps of other stages than the target (`mode=max`).
    all: bool,
    ignore_error: bool,
}

const KINDS: [&str; 3] = ["registry", "local", "inline"];

/// Adds the flags.
pub fn define(command: Command) -> Command {
    command.args([
        list("cache-from", "CACHE")
            .help("Take what steps made elsewhere from NAME in a registry, or type=registry,ref=NAME or type=local,src=FOLDER"),
        list("cache-to", "CACHE").help(
            "Keep what steps made for builds elsewhere: NAME in a registry, type=registry,ref=NAME, \
             type=local,dest=FOLDER (each with mode=min or max), or type=inline",
        ),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<CacheFlags, Error> {
    let mut flags = CacheFlags { from: args.each("cache-from", from)?, ..CacheFlags::default() };
    for to in args.each("cache-to", to)? {
        match to {
            Some(to) => flags.to.push(to),
            None => flags.inline = true,
        }
    }
    Ok(flags)
}

/// The keys and values; a word alone is a name in a registry.
fn fields(text: &str) -> Result<(String, Vec<(String, String)>), Invalid> {
    let fields = parse::csv(text)?;
    if let [word] = &fields[..]
        && !word.contains('=')
    {
        return Ok(("registry".into(), vec![("ref".into(), parse::nonempty(word)?)]));
    }
    let mut kind = None;
    let mut pairs = Vec::new();
    for field in fields {
        match field.split_once('=') {
            Some(("type", value)) => kind = Some(value.to_owned()),
            Some((key, value)) => pairs.push((key.to_owned(), value.to_owned())),
            None => return Err(Invalid::new(format!("expected KEY=VALUE, not '{field}'"))),
        }
    }
    let kind = kind.ok_or_else(|| Invalid::new("it has no type").fix("begin it with type=registry, say"))?;
    match KINDS.contains(&kind.as_str()) {
        true => Ok((kind, pairs)),
        false => Err(Invalid::unknown("type of cache", &kind, &KINDS)),
    }
}

fn unknown(kind: &str, key: &str, value: &str) -> Invalid {
    Invalid::new(format!("'{key}={value}' is not supported for type={kind}"))
}

fn from(text: &str) -> Result<CachePlace, Invalid> {
    let (kind, pairs) = fields(text)?;
    let mut place = None;
    for (key, value) in &pairs {
        place = Some(match (kind.as_str(), key.as_str()) {
            ("registry", "ref") => CachePlace::Registry(parse::nonempty(value)?),
            ("local", "src") => CachePlace::Folder(parse::nonempty(value)?.into()),
            _ => return Err(unknown(&kind, key, value)),
        });
    }
    place.ok_or_else(|| match kind.as_str() {
        "registry" => Invalid::new("it needs ref=NAME"),
        "local" => Invalid::new("it needs src=FOLDER"),
        _ => Invalid::new("an image with a cache of its own is named: type=registry,ref=NAME"),
    })
}

/// None is `inline`.
fn to(text: &str) -> Result<Option<To>, Invalid> {
    let (kind, pairs) = fields(text)?;
    let (mut place, mut all, mut ignore_error) = (None, false, false);
    for (key, value) in &pairs {
        match (kind.as_str(), key.as_str()) {
            ("registry", "ref") => place = Some(CachePlace::Registry(parse::nonempty(value)?)),
            ("local", "dest") => place = Some(CachePlace::Folder(parse::nonempty(value)?.into())),
            ("registry" | "local", "mode") => {
                all = match value.as_str() {
                    "max" => true,
                    "min" => false,
                    _ => return Err(Invalid::unknown("mode", value, &["min", "max"])),
                }
            }
            ("registry" | "local", "ignore-error") => ignore_error = parse::boolean(value)?,
            _ => return Err(unknown(&kind, key, value)),
        }
    }
    match (kind.as_str(), place) {
        ("inline", _) => Ok(None),
        (_, Some(place)) => Ok(Some(To { place, all, ignore_error })),
        ("registry", None) => Err(Invalid::new("it needs ref=NAME")),
        (_, None) => Err(Invalid::new("it needs dest=FOLDER")),
    }
}

impl CacheFlags {
    /// Opens the caches that there are. One that is not there, or damaged, is told: it costs time only.
    pub fn open(&self, registry: &Options) -> Vec<StepCache> {
        let open = |place: &CachePlace| match StepCache::open(place, registry) {
            Ok(cache) => Some(cache),
            Err(error) => {
                output::warn(&format!("{error}; the build goes on without this cache"));
                None
            }
        };
        self.from.iter().filter_map(open).collect()
    }

    /// Has the caches written, each with these steps.
    pub fn write(
        &self,
        built: &Built,
        write: &mut dyn FnMut(&CachePlace, &Steps) -> Result<(), build::Error>,
    ) -> anyhow::Result<()> {
        for To { place, all, ignore_error } in &self.to {
            match write(place, if *all { &built.steps } else { &built.own_steps }) {
                Err(error) if *ignore_error => {
                    output::warn(&format!("the cache {place} could not be written: {error}"));
                }
                written => written?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_named_as_docker_and_podman_name_them() {
        let registry = |name: &str| CachePlace::Registry(name.into());
        assert_eq!(from("r.io/a").unwrap(), registry("r.io/a"));
        assert_eq!(from("type=registry,ref=r.io/a:1").unwrap(), registry("r.io/a:1"));
        assert_eq!(from("type=local,src=dir").unwrap(), CachePlace::Folder("dir".into()));
        let local = to("type=local,dest=dir,mode=max,ignore-error=true").unwrap();
        assert_eq!(
            local,
            Some(To { place: CachePlace::Folder("dir".into()), all: true, ignore_error: true })
        );
        assert_eq!(to("r.io/a").unwrap().unwrap().place, registry("r.io/a"));
        assert_eq!(to("type=inline").unwrap(), None);
        for text in
            ["", "type=gha", "type=local", "type=registry", "src=x", "type=local,src=x,tag=y", "type=inline"]
        {
            assert!(from(text).is_err(), "{text}");
        }
        for text in
            ["type=s3,bucket=x", "type=local,src=x", "type=registry,ref=x,mode=all", "type=inline,ref=x"]
        {
            assert!(to(text).is_err(), "{text}");
        }
    }
}
