//! What it costs to know whether a build's context has changed: `cargo bench --bench context -- [FOLDER...]`
//!
//! Without a folder, one of 10,000 files of 2 KB in 200 folders is made. Printed are the best of five runs, and files
//! per second: `find -newer`, which stats every file as the walk must; the first build, which reads and digests all;
//! the second one, of which nothing may be read; and one after a change of one file. Then what a layer made of a copy of the
//! folder costs beside `cp -a`: the builder's way of making one.

use coracle::build::context::{Context, Owners};
use coracle::build::ignore::Ignore;
use coracle::layers::{CommitOptions, LayerStore, Ownership, Take, Times};
use coracle::state::Paths;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const RUNS: usize = 5;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let mut folders: Vec<PathBuf> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).map(PathBuf::from).collect();
    let made = tempfile::tempdir()?;
    if folders.is_empty() {
        folders.push(made.path().join("context"));
        make(&folders[0])?;
    }
    for folder in folders {
        measure(&folder)?;
    }
    Ok(())
}

fn make(folder: &Path) -> Result<()> {
    for number in 0..10_000 {
        let within = folder.join(format!("package-{:03}/src", number % 200));
        fs::create_dir_all(&within)?;
        fs::write(within.join(format!("file-{number}.js")), format!("{number}\n").repeat(400))?;
    }
    // Till the files' times tell a later change.
    std::thread::sleep(Duration::from_millis(200));
    Ok(())
}

fn measure(folder: &Path) -> Result<()> {
    let scratch = tempfile::tempdir_in(folder.parent().unwrap_or(folder))?;
    let paths = Paths::discover(Some(&scratch.path().join("data")), Some(&scratch.path().join("run")))?;
    paths.prepare()?;
    let build = || -> Result<(usize, usize)> {
        let mut context = Context::open(&paths, folder, Ignore::default(), Owners::All(0, 0))?;
        let tree = context.tree(b"")?.ok_or("the folder is empty")?;
        tree.digest();
        context.save()?;
        Ok((tree.items().len(), context.files_read()))
    };
    let (files, _) = build()?;
    println!("{} ({files} files and folders)", folder.display());
    let reference = scratch.path().join("data");
    report("find's walk", files, || program("find", &[folder, "-newer".as_ref(), &reference]))?;
    report("first build", files, || {
        fs::remove_dir_all(paths.build_cache())?;
        build().map(drop)
    })?;
    build()?;
    report("unchanged", files, || match build()? {
        (_, 0) => Ok(()),
        (_, read) => Err(format!("{read} files were read again").into()),
    })?;
    let late = scratch.path().join("copies");
    fs::create_dir(&late)?;
    let mut number = 0;
    report("cp -a", files, || {
        number += 1;
        program("cp", &["-a".as_ref(), folder, &late.join(number.to_string())])
    })?;
    let ownership = if nix::unistd::geteuid().is_root() { Ownership::Mapped } else { Ownership::SingleId };
    let store = LayerStore::open(&paths, ownership);
    let mut number = 0;
    report("a layer of that, moved", files, || {
        number += 1;
        // Another time each: the same layer would be dropped at the end.
        let options = CommitOptions {
            take: Take::Move,
            below: &[],
            maps: None,
            mount_points: &[],
            times: Times::SetTo(number),
        };
        store.commit(&late.join(number.to_string()), &options)?;
        Ok(())
    })?;
    let mut number = 100;
    report("a layer of it, copied", files, || {
        number += 1;
        let options = CommitOptions {
            take: Take::Copy,
            below: &[],
            maps: None,
            mount_points: &[],
            times: Times::SetTo(number),
        };
        store.commit(folder, &options)?;
        Ok(())
    })
}

fn program(name: &str, args: &[&Path]) -> Result<()> {
    let status = Command::new(name).args(args).stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("{name} failed").into()) }
}

#[allow(clippy::cast_precision_loss, reason = "a rate that is printed")]
fn report(what: &str, files: usize, mut run: impl FnMut() -> Result<()>) -> Result<()> {
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed());
    }
    let rate = files as f64 / best.as_secs_f64() / 1000.0;
    println!("  {what:24} {:8.1} ms {rate:8.0} thousand files/s", best.as_secs_f64() * 1000.0);
    Ok(())
}
