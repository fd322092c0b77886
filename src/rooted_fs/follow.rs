//! Links on a path, where what is looked at is no root that the kernel could resolve in: several layers, or a folder of which
//! a part is left out.

use rustix::io::Errno;
use std::collections::VecDeque;

/// So many links are followed, as by Linux (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// Where a path leads. `link` says what the link of a name in a folder leads to, none if there is no link; the folder has no
/// link on its way. The result has no link, no `.` and no slash at its ends, and may not be there. It never leaves the top.
///
/// # Errors
/// `ELOOP` after too many links, and those of `link`.
pub fn follow(
    path: &[u8],
    mut link: impl FnMut(&[u8], &[u8]) -> Result<Option<Vec<u8>>, Errno>,
) -> Result<Vec<u8>, Errno> {
    let parts = |path: &[u8]| path.split(|&b| b == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
    let mut left = VecDeque::from(parts(path));
    let (mut here, mut links) = (Vec::new(), 0);
    while let Some(part) = left.pop_front() {
        match &part[..] {
            b"" | b"." => continue,
            b".." => {
                here.truncate(here.iter().rposition(|&b| b == b'/').unwrap_or(0));
                continue;
            }
            _ => {}
        }
        match link(&here, &part)? {
            Some(_) if links == MOST_LINKS => return Err(Errno::LOOP),
            Some(target) => {
                links += 1;
                if target.starts_with(b"/") {
                    here.clear();
                }
                parts(&target).into_iter().rev().for_each(|part| left.push_front(part));
            }
            None => {
                if !here.is_empty() {
                    here.push(b'/');
                }
                here.extend(part);
            }
        }
    }
    Ok(here)
}
