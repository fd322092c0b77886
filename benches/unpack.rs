//! What it costs to turn layer blobs into layers: `cargo bench --bench unpack -- BLOB...`
//!
//! For each blob (gzip, zstd or plain tar) the best of five runs is printed: CPU seconds and wall seconds of reading,
//! hashing (blob and archive), decompressing, and unpacking below `$TMPDIR`, on one line each for decompressing and
//! hashing alone and for all of it. Run it as root of a user namespace (`unshare --map-auto --map-root-user`) to
//! have owners set by chown, else they are kept in attributes.

use coracle::digest::{Digest, Hashing};
use coracle::layers::{Claim, LayerStore, Limits, Ownership, decompress};
use coracle::state::Paths;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

const RUNS: usize = 5;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let blobs: Vec<_> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    if blobs.is_empty() {
        println!("no layer blobs given, nothing to measure");
    }
    for blob in blobs {
        measure(Path::new(&blob))?;
    }
    Ok(())
}

fn measure(blob: &Path) -> Result<()> {
    let mut diff_id = Digest::of(b"");
    let bytes = File::open(blob)?.metadata()?.len();
    println!("{} ({} MB)", blob.display(), bytes / 1_000_000);
    report("decompress and hash", || {
        let mut tar = Hashing::new(decompress(Hashing::new(File::open(blob)?))?);
        let mut buffer = vec![0; 256 * 1024];
        while tar.read(&mut buffer)? > 0 {}
        diff_id = tar.finish().1;
        Ok(())
    })?;
    let ownership = if nix::unistd::geteuid().is_root() { Ownership::Mapped } else { Ownership::SingleId };
    let (mut entries, mut size) = (0, 0);
    // Deleted after the last run: ext4 creates files more slowly after a mass delete.
    let mut used = Vec::new();
    report("and unpack", || {
        let dir = tempfile::tempdir()?;
        let paths = Paths::discover(Some(&dir.path().join("data")), Some(&dir.path().join("run")))?;
        paths.prepare()?;
        let store = LayerStore::open(&paths, ownership);
        let Claim::Build(staging) = store.claim(diff_id)? else { return Err("it is there already".into()) };
        let unpacked = staging.unpack(decompress(Hashing::new(File::open(blob)?))?, &Limits::default())?;
        (entries, size) = (unpacked.entries, unpacked.size);
        used.push(dir);
        Ok(())
    })?;
    println!("  {entries} entries, {} MB of files, {ownership:?}", size / 1_000_000);
    Ok(())
}

fn report(what: &str, mut run: impl FnMut() -> Result<()>) -> Result<()> {
    let mut best = (f64::MAX, f64::MAX, 0.0, 0.0);
    for _ in 0..RUNS {
        let (before, start) = (cpu()?, Instant::now());
        run()?;
        let (wall, after) = (start.elapsed().as_secs_f64(), cpu()?);
        let (user, system) = (after.0 - before.0, after.1 - before.1);
        if user + system < best.0 {
            best = (user + system, wall, user, system);
        }
    }
    let (cpu, wall, user, system) = best;
    println!("  {what:20} {cpu:6.2} s CPU ({user:.2} user, {system:.2} system), {wall:6.2} s");
    Ok(())
}

fn cpu() -> Result<(f64, f64)> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let seconds = |time: nix::sys::time::TimeVal| time.num_microseconds() as f64 / 1e6;
    Ok((seconds(usage.user_time()), seconds(usage.system_time())))
}
