//! Caches of other machines, in which steps are looked for that are not here.

use super::Made;
use crate::build::job;
use crate::container::session::Failure;
use crate::digest::Digest;
use crate::image::StepCache;
use crate::layers::LayerStore;
use crate::state::Paths;
use crate::userns::Identity;
use std::cell::RefCell;
use std::collections::BTreeSet;

pub struct Elsewhere<'a> {
    pub paths: &'a Paths,
    pub identity: &'a Identity,
    pub caches: &'a [StepCache],
    /// Those that have failed: they are not asked again.
    pub broken: RefCell<BTreeSet<usize>>,
}

impl Elsewhere<'_> {
    /// What the step with this key made, its layer fetched. That a cache fails is told by `warn`, and costs time only.
    pub fn find(&self, key: Digest, layers: &LayerStore, warn: &dyn Fn(usize, &str)) -> Option<Made> {
        for (at, cache) in self.caches.iter().enumerate() {
            let is_broken = self.broken.borrow().contains(&at);
            let Some(step) = cache.step(key).filter(|_| !is_broken) else { continue };
            let made = Made { layer: step.layer, created: step.created.clone(), key: None };
            let Some(layer) = made.layer.filter(|layer| !layers.contains(*layer)) else { return Some(made) };
            let fetched = job::as_root(self.paths, self.identity, |layers| {
                cache.fetch(layer, layers).map_err(|e| Failure::of(&e))
            });
            match fetched {
                Ok(()) => return Some(made),
                Err(error) => {
                    warn(at, &format!("the cache {} is not used any further: {error}", cache.place));
                    self.give_up(at);
                }
            }
        }
        None
    }

    /// Does not ask a cache again; false if that was so.
    pub fn give_up(&self, at: usize) -> bool {
        self.broken.borrow_mut().insert(at)
    }
}
