//! What things are called that users name, and what those are called that nobody does.

use crate::digest::Digest;
use std::io;

/// Whether a text can be the name of a container, volume or network, docker's rule: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, of at most
/// `longest` bytes.
pub fn is_name(text: &str, longest: usize) -> bool {
    text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        && text.len() <= longest
}

/// 64 hexadecimal digits from the kernel's random numbers.
///
/// # Errors
/// Those of getrandom(2); up to 256 bytes come as a whole.
pub fn random_id() -> io::Result<String> {
    let mut raw = [0; 32];
    rustix::io::retry_on_intr(|| rustix::rand::getrandom(&mut raw, rustix::rand::GetRandomFlags::empty()))?;
    Ok(Digest::from_raw(raw).hex())
}
