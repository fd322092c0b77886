//! `coracle builder`: what builds leave to later ones.

pub mod du;
pub mod prune;

use super::engine::Engine;
use super::{Action, Entry, Error, build, parse};
use crate::build::cache::{Kind, Record};
use crate::cli::rows::shorten_id;
use crate::output::human;
use serde_json::{Value, json};
use std::time::SystemTime;

/// `coracle builder`.
pub const ENTRY: Entry = Entry {
    name: "builder",
    aliases: &["buildx"],
    about: "Look after the cache of builds",
    usage: "COMMAND",
    action: Action::Group(&[build::ENTRY, du::ENTRY, prune::ENTRY]),
};

/// Says how large the cache may be after a build.
const BUDGET: &str = "CORACLE_BUILD_CACHE_SIZE";

/// The least that is kept of it if nothing is said, however small the disk is.
const LEAST: u64 = 2 << 30;

/// How many bytes a build leaves in the cache at most: a tenth of the file system, as docker's, if nothing else is said.
pub fn budget(engine: &Engine) -> Result<u64, Error> {
    let given = std::env::var(BUDGET).unwrap_or_default();
    if !given.is_empty() {
        let fix = format!("set {BUDGET} to a size such as 20g, or unset it");
        return parse::bytes(&given)
            .map_err(|_| Error::usage(format!("{BUDGET} is no size: '{given}'"), fix));
    }
    let data = engine.paths.data();
    let disk = rustix::fs::statvfs(data).map_err(|e| Error::file("look at", data)(e.into()))?;
    Ok((disk.f_blocks.saturating_mul(disk.f_frsize) / 10).max(LEAST))
}

/// A kind, by BuildKit's word for it.
fn kind(word: &str) -> Result<Kind, parse::Invalid> {
    let known = Kind::ALL.map(Kind::word);
    let found = Kind::ALL.into_iter().find(|kind| kind.word() == word);
    found.ok_or_else(|| parse::Invalid::unknown("type", word, &known))
}

/// What is said of a thing in the cache, by the names that docker has for it.
fn row(record: &Record, now: SystemTime, no_trunc: bool) -> Value {
    let id = if no_trunc { &record.id } else { shorten_id(&record.id) };
    let ago = |at: SystemTime| human::ago(at, now);
    json!({
        "ID": id,
        "CacheType": record.kind.word(),
        "Type": record.kind.word(),
        "Description": record.text,
        "Size": human::size(record.size),
        "CreatedAt": record.created.map(human::rfc3339),
        "CreatedSince": record.created.map_or_else(|| "N/A".into(), ago),
        "LastUsedAt": human::rfc3339(record.used),
        "LastUsedSince": ago(record.used),
        "InUse": record.is_in_use,
        "Reclaimable": !record.is_in_use,
        "Shared": record.is_shared,
    })
}

/// As `system df` shows the cache.
pub fn rows(records: &[Record], now: SystemTime, no_trunc: bool) -> Vec<Value> {
    records.iter().map(|record| row(record, now, no_trunc)).collect()
}
