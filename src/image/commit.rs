//! An image of another one and what a container changed of it.

use super::manifest::Blob;
use super::plain::{self, Packing, Style};
use super::{Error, History, Image, ImageConfig, ImageStore, NewImage, Platform, Reference, RootFs};
use crate::digest::Digest;
use crate::layers::{CommittedLayer, LayerStore, Times};
use crate::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What becomes an image.
pub struct Commit<'a> {
    /// The config of the image that the container was made from, if that is still there.
    pub parent: Option<ImageConfig>,
    /// That image's layers, the lowest first.
    pub below: &'a [Digest],
    /// What the container changed; none if that is nothing.
    pub layer: Option<CommittedLayer>,
    /// How the new image is run.
    pub config: super::RunConfig,
    /// By whom it was made.
    pub author: String,
    /// A note in its history.
    pub message: String,
    /// What the container ran, for the history.
    pub created_by: String,
    /// All is made one layer, and the history starts anew.
    pub squash: bool,
    /// Whose manifest it gets.
    pub style: Style,
    /// The name it gets.
    pub name: Option<Reference>,
}

impl Commit<'_> {
    /// Makes the image. Nobody collects garbage meanwhile: the caller holds a pin since before there was the layer.
    pub fn run(self, images: &ImageStore, layers: &LayerStore) -> Result<Image, Error> {
        let Self { parent, below, style, name, .. } = &self;
        let (style, name) = (*style, name.clone());
        let mut diff_ids = below.to_vec();
        diff_ids.extend(self.layer.map(|layer| layer.diff_id));
        let mut parent = parent.clone().unwrap_or_else(|| {
            let Platform { os, architecture, variant } = Platform::host();
            ImageConfig { os, architecture, variant, ..ImageConfig::default() }
        });
        let mut empty_layer = self.layer.is_none();
        if self.squash {
            let whole = layers.squash(&[], &diff_ids, Times::Kept)?;
            diff_ids = whole.iter().map(|layer| layer.diff_id).collect();
            parent.history = Vec::new();
            empty_layer = whole.is_none();
        }
        let config = config(parent, self, diff_ids, empty_layer, Timestamp::now().to_string());
        Documents::of(&config, style, &BTreeMap::new(), layers)?.store(name.as_slice(), images)
    }
}

/// An image as it leaves its making: the exact bytes of its two documents.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Documents {
    /// The config.
    pub config: Vec<u8>,
    /// The manifest, which lists the layers uncompressed.
    pub manifest: Vec<u8>,
}

impl Documents {
    /// Of a config whose layers are in the store; docker's manifests have no annotations.
    pub fn of(
        config: &ImageConfig,
        style: Style,
        annotations: &BTreeMap<String, String>,
        layers: &LayerStore,
    ) -> Result<Self, Error> {
        let mut blobs = Vec::new();
        for diff_id in &config.rootfs.diff_ids {
            blobs.push((Blob { digest: *diff_id, size: layers.tar_size(*diff_id)? }, Packing::Plain));
        }
        let config = serde_json::to_vec(config).map_err(Error::document)?;
        let blob = Blob { digest: Digest::of(&config), size: config.len() as u64 };
        // With a manifest of its own it has the same digest wherever it is saved and loaded.
        let manifest = plain::manifest(style, None, blob, &blobs);
        let manifest = plain::annotated(manifest, annotations).map_err(Error::document)?;
        Ok(Self { config, manifest })
    }

    /// The image's id.
    pub fn id(&self) -> Digest {
        Digest::of(&self.config)
    }

    /// Keeps it. The caller holds a pin.
    pub fn store(&self, names: &[Reference], images: &ImageStore) -> Result<Image, Error> {
        let Self { config, manifest } = self;
        images.add(&NewImage { config, manifest: Some(manifest), index: None, names })
    }
}

/// The new image's config: what the old one says about itself stays.
fn config(
    parent: ImageConfig,
    new: Commit<'_>,
    diff_ids: Vec<Digest>,
    empty_layer: bool,
    now: String,
) -> ImageConfig {
    let mut history = parent.history;
    history.push(History {
        created: Some(now.clone()),
        created_by: new.created_by,
        author: new.author.clone(),
        comment: new.message,
        empty_layer,
    });
    ImageConfig {
        created: Some(now),
        author: new.author,
        config: new.config,
        rootfs: RootFs { diff_ids, ..RootFs::default() },
        history,
        ..parent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> Commit<'static> {
        Commit {
            parent: None,
            below: &[],
            layer: None,
            config: super::super::RunConfig { user: "u".into(), ..Default::default() },
            author: "me".into(),
            message: "why".into(),
            created_by: "touch /x".into(),
            squash: false,
            style: Style::Oci,
            name: None,
        }
    }

    #[test]
    fn the_history_of_the_image_is_continued() {
        let old = History { created_by: "FROM".into(), ..History::default() };
        let parent = ImageConfig {
            architecture: "arm64".into(),
            author: "somebody".into(),
            history: vec![old.clone()],
            ..ImageConfig::default()
        };
        let layer = Digest::of(b"layer");
        let made = config(parent, new(), vec![layer], true, "now".into());
        assert_eq!((made.author.as_str(), made.architecture.as_str()), ("me", "arm64"));
        assert_eq!((made.config.user.as_str(), &made.rootfs.diff_ids[..]), ("u", &[layer][..]));
        assert_eq!(made.history.len(), 2);
        assert_eq!(made.history[0], old);
        let History { created, created_by, author, comment, empty_layer } = &made.history[1];
        assert_eq!(created.as_deref(), Some("now"));
        assert_eq!([created_by, author, comment], ["touch /x", "me", "why"]);
        assert!(empty_layer);
    }
}
