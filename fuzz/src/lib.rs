//! What the targets share.

/// Cuts an input into texts at bytes of 0xFF, which no UTF-8 has: so the seeds can be read, and written by hand. What is
/// missing is empty.
pub fn parts<const N: usize>(input: &[u8]) -> [&[u8]; N] {
    let mut pieces = input.splitn(N, |&byte| byte == 0xff);
    [(); N].map(|()| pieces.next().unwrap_or_default())
}

/// The same as text.
pub fn texts<const N: usize>(input: &[u8]) -> Option<[&str; N]> {
    let mut good = true;
    let texts = parts::<N>(input).map(|part| std::str::from_utf8(part).unwrap_or_else(|_| {
        good = false;
        ""
    }));
    good.then_some(texts)
}

/// A data root and a run root of a target's own, in memory.
pub fn roots() -> (tempfile::TempDir, coracle::state::Paths) {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let paths =
        coracle::state::Paths::discover(Some(&dir.path().join("data")), Some(&dir.path().join("run"))).unwrap();
    paths.prepare().unwrap();
    (dir, paths)
}
