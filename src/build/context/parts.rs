//! Work on the parts of a list, by several threads.

use super::Error;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Does every part of a list, so many of it at once, each by whoever of so many threads is free. Gives what came of them, in their order.
/// `begin` makes what a thread works with. After a failure no further part is begun.
pub(super) fn by_parts<T: Sync, W, R: Send>(
    list: &[T],
    (size, threads): (usize, usize),
    begin: impl Fn() -> Result<W, Error> + Sync,
    work: impl Fn(&mut W, &[T]) -> Result<R, Error> + Sync,
) -> Result<Vec<R>, Error> {
    let parts: Vec<&[T]> = list.chunks(size.max(1)).collect();
    let next = AtomicUsize::new(0);
    let thread = || {
        let mut with = begin()?;
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(part) = parts.get(number) else { return Ok(done) };
            match work(&mut with, part) {
                Ok(result) => done.push((number, result)),
                Err(error) => {
                    next.store(parts.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
    };
    let mut all = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(thread)).collect();
        let own = thread();
        others.into_iter().fold(own, |all, other| {
            let done = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let mut all = all?;
            all.extend(done?);
            Ok(all)
        })
    })?;
    all.sort_unstable_by_key(|(number, _)| *number);
    Ok(all.into_iter().map(|(_, result)| result).collect())
}
