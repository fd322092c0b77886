//! Where entities are kept: an event of epoll(7) names a place.

use super::Entity;
use std::collections::HashMap;

/// Entities by number.
#[derive(Default)]
pub(super) struct Table {
    /// An entity that is taken out leaves its place empty.
    pub(super) places: Vec<Option<Entity>>,
    free: Vec<usize>,
}

impl Table {
    pub(super) fn add(&mut self, entity: Entity) -> usize {
        match self.free.pop() {
            Some(place) => {
                self.places[place] = Some(entity);
                place
            }
            None => {
                self.places.push(Some(entity));
                self.places.len() - 1
            }
        }
    }

    pub(super) fn get(&mut self, place: usize) -> Option<&mut Entity> {
        self.places.get_mut(place)?.as_mut()
    }

    /// Takes an entity out and keeps its place, for [`Table::put`] or [`Table::forget`].
    pub(super) fn take(&mut self, place: usize) -> Option<Entity> {
        self.places.get_mut(place)?.take()
    }

    /// Those of these entries whose entity is over, or gone.
    pub(super) fn over<K: Copy>(
        &self,
        places: &HashMap<K, usize>,
        is_over: impl Fn(&Entity) -> bool,
    ) -> Vec<(K, usize)> {
        let is_over = |place: usize| self.places.get(place).and_then(Option::as_ref).is_none_or(&is_over);
        places.iter().filter(|(_, place)| is_over(**place)).map(|(key, place)| (*key, *place)).collect()
    }

    pub(super) fn put(&mut self, place: usize, entity: Entity) {
        self.places[place] = Some(entity);
    }

    /// Frees the place of an entity that was taken out.
    pub(super) fn forget(&mut self, place: usize) {
        self.places[place] = None;
        self.free.push(place);
    }
}
