//! Archives and stores for this room's tests.

use super::{Claim, Error, LayerStore, Limits, Ownership, Unpacked};
use crate::digest::Digest;
use crate::state::Paths;
use std::path::PathBuf;

/// A tar archive in the making: every byte of it is the test's decision.
#[derive(Clone, Default)]
pub struct Archive(pub Vec<u8>);

impl Archive {
    pub fn new() -> Self {
        Self::default()
    }

    /// A ustar header with the given fields, and data after it.
    pub fn entry(
        &mut self,
        flag: u8,
        name: &[u8],
        link: &[u8],
        data: &[u8],
        change: impl FnOnce(&mut tar::UstarHeader),
    ) -> &mut Self {
        let mut header = tar::Header::new_ustar();
        header.set_mode(if flag == b'5' { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(data.len() as u64);
        header.set_entry_type(tar::EntryType::new(flag));
        let ustar = header.as_ustar_mut().unwrap();
        ustar.name[..name.len()].copy_from_slice(name);
        ustar.linkname[..link.len()].copy_from_slice(link);
        change(ustar);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.data(data)
    }

    /// Bytes, filled up to whole blocks.
    pub fn data(&mut self, data: &[u8]) -> &mut Self {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(&mut self, name: &str, data: &[u8]) -> &mut Self {
        self.entry(b'0', name.as_bytes(), b"", data, |_| ())
    }

    pub fn dir(&mut self, name: &str) -> &mut Self {
        self.entry(b'5', name.as_bytes(), b"", b"", |_| ())
    }

    pub fn symlink(&mut self, name: &str, target: &str) -> &mut Self {
        self.entry(b'2', name.as_bytes(), target.as_bytes(), b"", |_| ())
    }

    pub fn hard_link(&mut self, name: &str, target: &str) -> &mut Self {
        self.entry(b'1', name.as_bytes(), target.as_bytes(), b"", |_| ())
    }

    /// A PAX header for the next entry.
    pub fn pax(&mut self, records: &[(&str, &[u8])]) -> &mut Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length += 1;
            }
            body.extend_from_slice(format!("{length} {key}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self.entry(b'x', b"pax", b"", &body, |_| ())
    }

    /// The archive with its end.
    pub fn end(&self) -> Vec<u8> {
        [&self.0[..], &[0; 1024]].concat()
    }
}

/// A store in a folder of its own.
pub struct TestStore {
    pub dir: tempfile::TempDir,
    pub paths: Paths,
    pub store: LayerStore,
}

impl TestStore {
    pub fn new(ownership: Ownership) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::discover(Some(&dir.path().join("data")), Some(&dir.path().join("run"))).unwrap();
        paths.prepare().unwrap();
        let store = LayerStore::open(&paths, ownership);
        Self { dir, paths, store }
    }

    pub fn unpack(&self, archive: &[u8]) -> Result<(Digest, Unpacked), Error> {
        self.unpack_limited(archive, &Limits::default())
    }

    pub fn unpack_limited(&self, archive: &[u8], limits: &Limits) -> Result<(Digest, Unpacked), Error> {
        let diff_id = Digest::of(archive);
        let Claim::Build(staging) = self.store.claim(diff_id)? else { panic!("{diff_id} is there already") };
        Ok((diff_id, staging.unpack(archive, limits)?))
    }

    /// The archive as the store writes it again.
    pub fn written(&self, diff_id: Digest) -> Vec<u8> {
        let mut out = Vec::new();
        self.store.write_tar(diff_id, &mut out).unwrap();
        out
    }

    /// Nothing is left of any layer.
    pub fn assert_empty(&self) {
        for room in [self.paths.layers(), self.paths.staging(), self.paths.locks()] {
            let names: Vec<PathBuf> = std::fs::read_dir(&room)
                .map(|dir| dir.map(|e| e.unwrap().path()).collect())
                .unwrap_or_default();
            assert!(names.is_empty(), "{names:?}");
        }
        crate::state::empty_trash(&self.paths).unwrap();
    }
}

/// The ways of keeping owners that this process can take: only root, or root of a user namespace, can chown.
/// `the_tests_also_run_as_root_of_a_user_namespace` brings the other one where this process is an ordinary user.
pub fn ownerships() -> Vec<Ownership> {
    let mut ways = vec![Ownership::SingleId];
    if rustix::process::geteuid().is_root() {
        ways.push(Ownership::Mapped);
    }
    ways
}
