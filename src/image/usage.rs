//! What images take up: layers that several have count once in the whole and as shared in each.

use super::{Error, ImageEntry, ImageStore, Listed};
use crate::digest::Digest;
use crate::layers::LayerStore;
use std::collections::{HashMap, HashSet};

/// One image's part.
#[derive(Clone, Debug)]
pub struct ImageUsage {
    /// The image and its names.
    pub entry: ImageEntry,
    /// Bytes of all its layers.
    pub size: u64,
    /// Bytes of those that another image has too.
    pub shared: u64,
}

impl ImageUsage {
    /// Bytes of what it alone has.
    pub fn unique(&self) -> u64 {
        self.size - self.shared
    }
}

/// The whole.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// The images that can be read.
    pub images: Vec<ImageUsage>,
    /// Each layer of an image once: how many, how many bytes.
    pub layers: (usize, u64),
    /// Layers that no image has: of containers whose image is gone, or garbage.
    pub others: (usize, u64),
    sizes: HashMap<Digest, u64>,
}

impl Usage {
    /// Looks at all images and layers.
    pub fn of(images: &ImageStore, layers: &LayerStore) -> Result<Self, Error> {
        let sizes: HashMap<Digest, u64> =
            layers.list()?.into_iter().map(|layer| (layer, layers.size(layer).unwrap_or(0))).collect();
        let mut entries = Vec::new();
        let mut users: HashMap<Digest, usize> = HashMap::new();
        for listed in images.list()? {
            let Listed::Image(entry) = listed else { continue };
            for layer in distinct(&entry) {
                *users.entry(layer).or_default() += 1;
            }
            entries.push(entry);
        }
        let size_of = |layer: &Digest| sizes.get(layer).copied().unwrap_or(0);
        let usage = |entry: ImageEntry| {
            let layers = distinct(&entry);
            let shared = layers.iter().filter(|layer| users.get(layer).is_some_and(|n| *n > 1));
            let (size, shared) = (layers.iter().map(size_of).sum(), shared.map(size_of).sum());
            ImageUsage { entry, size, shared }
        };
        let images: Vec<ImageUsage> = entries.into_iter().map(usage).collect();
        let sum = |is_ours: bool| {
            let fits = sizes.iter().filter(|(layer, _)| users.contains_key(layer) == is_ours);
            fits.fold((0, 0), |(count, bytes), (_, size)| (count + 1, bytes + size))
        };
        Ok(Self { images, layers: sum(true), others: sum(false), sizes })
    }

    /// Bytes of the layers that only images have for which `active` does not hold: what removing those would free.
    pub fn reclaimable(&self, active: impl Fn(&ImageUsage) -> bool) -> u64 {
        let (active, idle): (Vec<_>, Vec<_>) = self.images.iter().partition(|image| active(image));
        let layers = |images: Vec<&ImageUsage>| -> HashSet<Digest> {
            images.iter().flat_map(|image| distinct(&image.entry)).collect()
        };
        let (active, idle) = (layers(active), layers(idle));
        idle.difference(&active).map(|layer| self.sizes.get(layer).copied().unwrap_or(0)).sum()
    }
}

fn distinct(entry: &ImageEntry) -> HashSet<Digest> {
    entry.image.diff_ids().iter().copied().collect()
}
