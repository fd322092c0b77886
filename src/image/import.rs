//! An image of one layer from a tar archive of a file system.

use super::manifest::Blob;
use super::plain::{self, Packing, Style};
use super::{Change, Error, History, Image, ImageConfig, ImageStore, NewImage, Platform, Reference, RootFs};
use crate::digest::{Digest, Hashing};
use crate::layers::{Claim, LayerStore, Limits, decompress};
use crate::timestamp::Timestamp;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// What becomes an image, and of what sort.
pub struct Import<'a> {
    /// The archive, compressed or not.
    pub archive: Box<dyn Read + Send + 'a>,
    /// What messages call it.
    pub shown: String,
    /// For which platform it is said to be.
    pub platform: Platform,
    /// How it is run.
    pub changes: &'a [Change],
    /// A note in its history.
    pub message: Option<String>,
    /// The name it gets.
    pub name: Option<Reference>,
}

impl Import<'_> {
    /// Makes the image. An archive that is none, or hostile, leaves nothing.
    pub fn run(self, images: &ImageStore, layers: &LayerStore) -> Result<Image, Error> {
        let shown = &self.shown;
        let bad = |source| Error::Archive { input: shown.clone(), source };
        // A layer's place is its digest, which is known when all of it has passed.
        let (file, size, diff_id) = spool(images, self.archive).map_err(bad)?;
        let _pin = images.pin()?;
        if let Claim::Build(staging) = layers.claim(diff_id)? {
            staging.unpack(file, &Limits::default())?;
        }
        let created = Timestamp::now().to_string();
        let mut config = ImageConfig {
            created: Some(created.clone()),
            architecture: self.platform.architecture,
            os: self.platform.os,
            variant: self.platform.variant,
            rootfs: RootFs { diff_ids: vec![diff_id], ..RootFs::default() },
            history: vec![History {
                created: Some(created),
                created_by: format!("/bin/sh -c #(nop) ADD file:{} in / ", diff_id.hex()),
                comment: self.message.unwrap_or_else(|| format!("Imported from {shown}")),
                ..History::default()
            }],
            ..ImageConfig::default()
        };
        for change in self.changes {
            change.apply(&mut config.config);
        }
        let config = serde_json::to_vec(&config).map_err(|e| bad(e.into()))?;
        let blob = Blob { digest: Digest::of(&config), size: config.len() as u64 };
        // With a manifest of its own it has the same digest wherever it is saved and loaded.
        let manifest =
            plain::manifest(Style::Oci, None, blob, &[(Blob { digest: diff_id, size }, Packing::Plain)]);
        images.add(&NewImage {
            config: &config,
            manifest: Some(&manifest),
            index: None,
            names: self.name.as_slice(),
        })
    }
}

/// The decompressed archive in a file without a name, its length and its digest.
fn spool(images: &ImageStore, archive: Box<dyn Read + Send + '_>) -> io::Result<(File, u64, Digest)> {
    let file = images.nameless()?;
    let limit = Limits::default().bytes;
    let mut plain = Hashing::new(decompress(archive).map_err(io::Error::other)?.take(limit + 1));
    let size = io::copy(&mut plain, &mut &file)?;
    if size > limit {
        return Err(io::Error::other(format!("it has more than {limit} bytes")));
    }
    // What is no archive at all is refused by the unpacker; an empty input is no archive either.
    if size == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is empty"));
    }
    (&file).seek(SeekFrom::Start(0))?;
    Ok((file, size, plain.finish().1))
}
