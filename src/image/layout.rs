//! One image of an OCI layout (image-spec, image-layout.md) in a folder of the user's, used from there:
//! `oci-layout://` of `build --build-context`.
//!
//! It gets neither a name nor a record in the store. Its layers alone are brought in, and stay for as long as whoever uses
//! them holds a [pin](super::Pin), or longer if they become an image's or a cached step's.

use super::load::{FULL_NAME, Files, Item, REF_NAME, oci_document, oci_item, parse_config};
use super::manifest::{self, Raw};
use super::{Error, Image, Platform, Progress, Reference};
use crate::digest::Digest;
use crate::layers::LayerStore;
use oci_spec::image::Descriptor;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::PathBuf;

const SCHEME: &str = "oci-layout://";

/// How a folder with a layout comes to be.
const HOW: &str =
    "name a folder with index.json and blobs, as 'coracle save --format oci-dir -o FOLDER IMAGE' writes it";

/// What is used if no image is chosen.
const USUAL: &str = "latest";

/// An image of a layout, as it is named: `oci-layout://FOLDER[:TAG][@DIGEST]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    folder: PathBuf,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Layout {
    /// Reads a name as buildx does: what follows the last `:` and could be a tag is one. None if it names something else; an
    /// error is what is wrong with it.
    pub fn parse(text: &str) -> Option<Result<Layout, String>> {
        let rest = text.strip_prefix(SCHEME)?;
        let (rest, digest) = match rest.rsplit_once('@') {
            Some((before, after)) if after.starts_with("sha") && after.contains(':') => {
                match after.parse::<Digest>() {
                    Ok(digest) => (before, Some(digest)),
                    Err(error) => return Some(Err(error.to_string())),
                }
            }
            _ => (rest, None),
        };
        let (folder, tag) = match rest.rsplit_once(':') {
            Some((before, after)) if is_tag(after) => (before, Some(after.to_owned())),
            _ => (rest, None),
        };
        Some(match folder {
            "" => Err("it names no folder".into()),
            folder => Ok(Layout { folder: folder.into(), tag, digest }),
        })
    }

    /// Finds the image for a platform, for this machine if none is given. A digest chooses before a tag; without either it is
    /// the image that is tagged `latest`, or the only one.
    pub fn find(&self, platform: Option<&Platform>) -> Result<LayoutImage, Error> {
        let shown = self.to_string();
        let lacks = |why: &str| Error::Layout { layout: shown.clone(), why: why.into(), fix: HOW.into() };
        match self.folder.metadata() {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(lacks("it is no folder")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(lacks("there is no such folder")),
            Err(source) => return Err(Error::Archive { input: shown, source }),
        }
        let files = Files::Folder(self.folder.clone());
        let index = files.document("index.json");
        let index = index.map_err(|source| Error::Archive { input: shown.clone(), source })?;
        let index = index.ok_or_else(|| lacks("it has no index.json, so it is no OCI layout"))?;
        let top = Raw { digest: Digest::of(&index), bytes: index, media_type: manifest::OCI_INDEX.into() };
        let mut entries = manifest::index_entries(&shown, &top)?;
        entries.retain(manifest::leads_to_image);
        let top = match self.digest {
            // It may be one that the index of another leads to.
            Some(digest) if !self.folder.join("blobs/sha256").join(digest.hex()).exists() => {
                return Err(self.not_there(&format!("it has no manifest {digest}"), &entries));
            }
            Some(digest) => {
                Raw { bytes: oci_document(&files, &shown, digest)?, digest, media_type: String::new() }
            }
            None => manifest::index_of(&self.chosen(entries)?),
        };
        let wanted = platform.cloned().unwrap_or_else(Platform::host);
        let item = oci_item(&files, &shown, &top, &wanted)?;
        let config = parse_config(&shown, &item.config)?;
        let image = Image { id: Digest::of(&item.config), manifest: None, index: None, name: None, config };
        if platform.is_some() && !wanted.accepts(&image.platform()) {
            let available = vec![image.platform().to_string()];
            return Err(Error::Platform { name: shown, wanted, available });
        }
        Ok(LayoutImage { image, files, item, shown })
    }

    /// The entries of the index that are meant: one image, for several platforms perhaps.
    fn chosen(&self, mut entries: Vec<Descriptor>) -> Result<Vec<Descriptor>, Error> {
        if entries.is_empty() {
            let (layout, why) = (self.to_string(), "its index.json lists no image".into());
            return Err(Error::Layout { layout, why, fix: HOW.into() });
        }
        let tagged = |tag: &str| -> Vec<Descriptor> {
            entries.iter().filter(|entry| tags(entry).contains(tag)).cloned().collect()
        };
        if let Some(tag) = &self.tag {
            return match tagged(tag) {
                found if found.is_empty() => {
                    Err(self.not_there(&format!("it has no image tagged '{tag}'"), &entries))
                }
                found => Ok(found),
            };
        }
        let usual = tagged(USUAL);
        if !usual.is_empty() {
            return Ok(usual);
        }
        let (first_tags, first) = (tags(&entries[0]), entries[0].digest().clone());
        let is_one_image = entries.iter().all(|entry| *entry.digest() == first);
        let is_one_name = entries.iter().all(|entry| entry.platform().is_some() && tags(entry) == first_tags);
        if is_one_image {
            entries.truncate(1);
        } else if !is_one_name {
            return Err(self.not_there("it has several images, and none is chosen", &entries));
        }
        Ok(entries)
    }

    /// What is meant is not there, but these are.
    fn not_there(&self, why: &str, entries: &[Descriptor]) -> Error {
        const SHOWN: usize = 8;
        let layout = self.to_string();
        let mut known: Vec<String> = entries.iter().flat_map(tags).map(|tag| format!(":{tag}")).collect();
        let untagged = entries.iter().filter(|entry| tags(entry).is_empty());
        known.extend(untagged.map(|entry| format!("@{}", entry.digest())));
        known.dedup();
        let more = if known.len() > SHOWN { ", …" } else { "" };
        known.truncate(SHOWN);
        let folder = self.folder.display();
        let fix = match known.is_empty() {
            true => HOW.into(),
            false => format!("write one of these after {SCHEME}{folder}: {}{more}", known.join(", ")),
        };
        Error::Layout { layout, why: why.into(), fix }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.folder.display())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// As a registry takes one (distribution's grammar).
fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|byte| is_word(byte) || byte == b'.' || byte == b'-')
}

/// The tags that an entry of an index has: what is written may be a tag alone, or a full name.
fn tags(entry: &Descriptor) -> BTreeSet<String> {
    let names = [REF_NAME, FULL_NAME].into_iter();
    let names = names.filter_map(|key| entry.annotations().as_ref()?.get(key));
    let tag = |name: &String| match is_tag(name) {
        true => Some(name.clone()),
        false => name.parse::<Reference>().ok()?.tag().map(str::to_owned),
    };
    names.filter_map(tag).collect()
}

/// An image that was found in a layout.
pub struct LayoutImage {
    /// The image. Its layers need not be in the store.
    pub image: Image,
    files: Files,
    item: Item,
    shown: String,
}

impl LayoutImage {
    /// Brings its layers into the store. The caller holds a pin.
    pub fn bring(&self, layers: &LayerStore, progress: &dyn Progress) -> Result<(), Error> {
        self.item.bring(&self.files, &self.shown, layers, progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_folder_a_tag_and_a_digest() {
        let digest = Digest::of(b"x");
        let table = [
            ("oci-layout:///a/b".to_owned(), "/a/b", None, None),
            ("oci-layout://a:1.3".to_owned(), "a", Some("1.3"), None),
            (format!("oci-layout:///a@{digest}"), "/a", None, Some(digest)),
            (format!("oci-layout:///a/@/b:x_y@{digest}"), "/a/@/b", Some("x_y"), Some(digest)),
            ("oci-layout:///a/@/b".to_owned(), "/a/@/b", None, None),
            ("oci-layout:///a:b/c".to_owned(), "/a:b/c", None, None),
            ("oci-layout:///a:-x".to_owned(), "/a:-x", None, None),
            ("oci-layout:///a@b:1".to_owned(), "/a@b", Some("1"), None),
        ];
        for (text, folder, tag, digest) in table {
            let layout = Layout::parse(&text).unwrap().unwrap();
            assert_eq!(layout.to_string(), text);
            let expected = Layout { folder: folder.into(), tag: tag.map(str::to_owned), digest };
            assert_eq!(layout, expected);
        }
        assert!(Layout::parse("/a/b").is_none() && Layout::parse("docker-image://a").is_none());
        for bad in
            ["oci-layout://", "oci-layout://:1", "oci-layout:///a@sha256:xyz", "oci-layout:///a@sha512:00"]
        {
            assert!(Layout::parse(bad).unwrap().is_err(), "{bad}");
        }
    }
}
