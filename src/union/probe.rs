//! What this kernel's overlayfs can do here, found out by doing it: version numbers lie (vendors port back and forth).

use super::{Error, Layers, mount};
use crate::kernel::process::{self, CloneFlags, Side};
use crate::state::{self, Durability, Paths, boot_id, create_dir_private, read_json, write_json};
use rustix::fs::{Mode, OFlags, XattrFlags, ftruncate, openat};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const DATA: &[u8] = b"data";

/// Says that a file's content is in a data-only layer; empty: without a digest of it
/// (Documentation/filesystems/overlayfs.rst, "Data-only lower layers").
pub const METACOPY: &str = "user.overlay.metacopy";
/// Where in the data-only layers, from their root.
pub const REDIRECT: &str = "user.overlay.redirect";

/// The answer, kept in the run root. A store can be moved to another file system, and where the run root is in /tmp it
/// may see another kernel.
#[derive(Serialize, Deserialize)]
struct Answer {
    boot_id: String,
    device: u64,
    works: bool,
}

/// Whether a metadata layer and data-only layers work for us: in user namespaces since Linux 6.16. The caller is root
/// in its user namespace, and has one thread when the question is asked for the first time.
pub fn reads_data_only(paths: &Paths) -> Result<bool, Error> {
    let staging = paths.staging();
    let boot_id = boot_id()?;
    create_dir_private(&staging)?;
    let device = fs::metadata(&staging).map_err(io_error("read", &staging))?.dev();
    let note = paths.run().join("data-only.json");
    if let Ok(Some(answer)) = read_json::<Answer>(&note)
        && (&answer.boot_id, answer.device) == (&boot_id, device)
    {
        return Ok(answer.works);
    }
    let place = staging.join(format!("probe-{}", std::process::id()));
    state::remove_tree(&place)?;
    let works = try_data_only(&place);
    state::remove_tree(&place)?;
    let works = works.map_err(io_error("try an overlay mount in", &place))?;
    write_json(&note, &Answer { boot_id, device, works }, Durability::Process)?;
    Ok(works)
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| state::Error::Io { action, path, source }.into()
}

/// One file, mounted in a process that has a mount namespace for it, and read there.
fn try_data_only(place: &Path) -> io::Result<bool> {
    let (metadata, data) = (place.join("metadata"), place.join("data"));
    fs::create_dir_all(&metadata)?;
    fs::create_dir_all(&data)?;
    fs::write(data.join("there"), DATA)?;
    let file = fs::File::create(metadata.join("here"))?;
    ftruncate(&file, DATA.len() as u64)?;
    let marked = rustix::fs::fsetxattr(&file, METACOPY, b"", XattrFlags::empty())
        .and_then(|()| rustix::fs::fsetxattr(&file, REDIRECT, b"/there", XattrFlags::empty()));
    if marked.is_err() {
        return Ok(false);
    }
    match process::clone(CloneFlags::CLONE_NEWNS, None)? {
        Side::Child => {
            let layers = Layers { lower: vec![metadata], data_only: vec![data], upper: None };
            let read = mount(&layers).ok().and_then(|root| read_file(&root, "here").ok());
            process::exit_now(u8::from(read.as_deref() != Some(DATA)))
        }
        Side::Parent(child) => {
            let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED)?;
            Ok(status.and_then(|status| status.exit_status()) == Some(0))
        }
    }
}

fn read_file(root: &OwnedFd, name: &str) -> io::Result<Vec<u8>> {
    let file = openat(root, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = Vec::new();
    fs::File::from(file).read_to_end(&mut bytes)?;
    Ok(bytes)
}
