//! The image that needs no registry: `coracle run hello`.
//!
//! Three layers around one static program, made in memory and the same bit for bit each time, so that their digests
//! are too. Every layer has a file `/.layers/NUMBER-NAME` that lists what it brings; the program draws its root
//! from these.

use super::{Error, Image, ImageStore, NewImage, Platform};
use crate::digest::Digest;
use crate::layers::{Claim, LayerStore, Limits};
use flate2::read::GzDecoder;
use serde_json::json;
use std::io::{self, Read};

/// The name under which the image is kept. `localhost` is no registry: the name never leads to one.
pub const NAME: &str = "localhost/hello:latest";

/// What means the image, where no image of another name answers to it.
const NAMES: [&str; 4] = ["hello", "hello:latest", "localhost/hello", NAME];

/// The label that tells one build of the image from another.
const BUILD_LABEL: &str = "coracle.hello.build";

/// Its value in the image of this binary.
const BUILD: &str = env!("CORACLE_HELLO_BUILD");

static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hello.gz"));

/// Whether a name means the embedded image, where no other image has it.
pub fn is_name(what: &str) -> bool {
    NAMES.contains(&what)
}

/// An image as it would come from a registry.
#[derive(Debug)]
pub struct EmbeddedImage {
    /// The OCI config.
    pub config_json: Vec<u8>,
    /// The layers, lowest first: diff id and tar.
    pub layers: Vec<(Digest, Vec<u8>)>,
}

/// The embedded image, if that is what `what` means, of which the store has `found`. It is installed if it is not
/// there whole, or as another version of this program had it.
pub fn find(
    what: &str,
    found: Option<Image>,
    images: &ImageStore,
    layers: &LayerStore,
) -> Result<Option<Image>, Error> {
    if !NAMES.contains(&what) {
        return Ok(None);
    }
    match found {
        None => install(images, layers).map(Some),
        Some(image) => match image.config.config.labels.get(BUILD_LABEL) {
            // Somebody's own image of this name.
            None => Ok(None),
            Some(build) if build == BUILD && image.diff_ids().iter().all(|id| layers.contains(*id)) => {
                Ok(Some(image))
            }
            Some(_) => install(images, layers).map(Some),
        },
    }
}

/// Puts the image into the stores, as a pull would.
pub fn install(images: &ImageStore, layers: &LayerStore) -> Result<Image, Error> {
    let image = hello()?;
    let _pin = images.pin()?;
    for (diff_id, tar) in &image.layers {
        if let Claim::Build(staging) = layers.claim(*diff_id)? {
            staging.unpack(&tar[..], &Limits::default())?;
        }
    }
    images.add(&NewImage { config: &image.config_json, manifest: None, index: None, names: &[NAME.parse()?] })
}

/// Makes the image.
pub fn hello() -> Result<EmbeddedImage, Error> {
    let broken = |source| Error::Archive { input: "the embedded image".into(), source };
    let mut program = Vec::new();
    GzDecoder::new(PROGRAM).read_to_end(&mut program).map_err(broken)?;
    let made = LAYERS.iter().map(|layer| layer.tar(&program)).collect::<io::Result<Vec<_>>>();
    let layers: Vec<_> = made.map_err(broken)?.into_iter().map(|tar| (Digest::of(&tar), tar)).collect();
    let platform = Platform::host();
    // No `created`: a time would change the image without a change in it.
    let config = json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Entrypoint": ["/bin/hello"],
            "WorkingDir": "/",
            "Labels": { BUILD_LABEL: BUILD },
        },
        "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|(id, _)| id).collect::<Vec<_>>() },
        "history": LAYERS.iter().map(|layer| json!({
            "created_by": format!("coracle: layer {}", layer.name),
        })).collect::<Vec<_>>(),
    });
    Ok(EmbeddedImage { config_json: config.to_string().into_bytes(), layers })
}

enum Entry {
    Folder { mode: u32 },
    Text(&'static str),
    Program,
}

struct Layer {
    name: &'static str,
    entries: &'static [(&'static str, Entry)],
}

const FOLDER: Entry = Entry::Folder { mode: 0o755 };

const LAYERS: [Layer; 3] = [
    Layer {
        name: "1-base",
        entries: &[
            ("bin", FOLDER),
            ("dev", FOLDER),
            ("etc", FOLDER),
            ("etc/group", Entry::Text("root:x:0:\nnogroup:x:65534:\n")),
            (
                "etc/os-release",
                Entry::Text("ID=hello\nNAME=\"coracle's hello\"\nPRETTY_NAME=\"coracle's hello\"\n"),
            ),
            (
                "etc/passwd",
                Entry::Text("root:x:0:0:root:/root:/bin/hello\nnobody:x:65534:65534:nobody:/:/bin/hello\n"),
            ),
            ("mnt", FOLDER),
            ("proc", FOLDER),
            ("root", Entry::Folder { mode: 0o700 }),
            ("run", FOLDER),
            ("sys", FOLDER),
            ("tmp", Entry::Folder { mode: 0o1777 }),
        ],
    },
    Layer { name: "2-program", entries: &[("bin/hello", Entry::Program)] },
    Layer {
        name: "3-message",
        entries: &[(
            "etc/motd",
            Entry::Text("Hello from coracle. This is a container, and here is what it sees of itself.\n"),
        )],
    },
];

impl Layer {
    fn tar(&self, program: &[u8]) -> io::Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut list = String::new();
        for (path, entry) in self.entries {
            let (mode, kind, content) = match entry {
                Entry::Folder { mode } => (*mode, tar::EntryType::Directory, &[][..]),
                Entry::Text(text) => (0o644, tar::EntryType::Regular, text.as_bytes()),
                Entry::Program => (0o755, tar::EntryType::Regular, program),
            };
            if kind.is_file() {
                list.push_str(&format!("/{path}\n"));
            }
            append(&mut tar, path, mode, kind, content)?;
        }
        append(&mut tar, ".layers", 0o755, tar::EntryType::Directory, &[])?;
        append(&mut tar, &format!(".layers/{}", self.name), 0o644, tar::EntryType::Regular, list.as_bytes())?;
        tar.into_inner()
    }
}

fn append(
    tar: &mut tar::Builder<Vec<u8>>,
    path: &str,
    mode: u32,
    kind: tar::EntryType,
    content: &[u8],
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(content.len() as u64);
    let path = if kind.is_dir() { format!("{path}/") } else { path.to_owned() };
    tar.append_data(&mut header, path, content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::Ownership;
    use crate::state::Paths;

    #[test]
    fn the_image_is_the_same_each_time() {
        let (one, two) = (hello().unwrap(), hello().unwrap());
        assert_eq!(one.config_json, two.config_json);
        assert_eq!(one.layers, two.layers);
        assert_eq!(one.layers.len(), 3);
    }

    #[test]
    fn the_config_names_the_layers_and_the_program() {
        let image = hello().unwrap();
        let config: serde_json::Value = serde_json::from_slice(&image.config_json).unwrap();
        let ids: Vec<_> = image.layers.iter().map(|(id, _)| json!(id)).collect();
        assert_eq!(config["rootfs"]["diff_ids"], json!(ids));
        assert_eq!(config["config"]["Entrypoint"], json!(["/bin/hello"]));
        assert_eq!(config["config"]["Labels"][BUILD_LABEL], json!(BUILD));
    }

    #[test]
    fn every_layer_lists_its_files() {
        let image = hello().unwrap();
        let (_, top) = image.layers.last().unwrap();
        let mut tar = tar::Archive::new(&top[..]);
        let mut entries = tar.entries().unwrap().map(|e| e.unwrap());
        let list = entries.find(|e| e.path_bytes().as_ref() == b".layers/3-message").unwrap();
        assert_eq!(io::read_to_string(list).unwrap(), "/etc/motd\n");
    }

    fn stores(dir: &std::path::Path) -> (ImageStore, LayerStore) {
        let paths = Paths::discover(Some(&dir.join("data")), Some(&dir.join("run"))).unwrap();
        paths.prepare().unwrap();
        (ImageStore::open(&paths), LayerStore::open(&paths, Ownership::SingleId))
    }

    #[test]
    fn hello_is_installed_once_and_found_by_its_short_name() {
        let dir = tempfile::tempdir().unwrap();
        let (images, layers) = stores(dir.path());
        let first = find("hello", None, &images, &layers).unwrap().unwrap();
        assert!(layers.fs_dir(first.diff_ids()[1]).join("bin/hello").is_file());
        let again = images.resolve("hello").unwrap();
        assert_eq!(again.name, Some(NAME.parse().unwrap()));
        let again = find("hello:latest", Some(again), &images, &layers).unwrap().unwrap();
        assert_eq!(again.id, first.id);
    }

    #[test]
    fn what_is_missing_of_it_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let (images, layers) = stores(dir.path());
        let image = install(&images, &layers).unwrap();
        let layer = image.diff_ids()[0];
        layers.remove(layer).unwrap();
        find(NAME, Some(image), &images, &layers).unwrap();
        assert!(layers.contains(layer));
    }

    #[test]
    fn other_images_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (images, layers) = stores(dir.path());
        assert!(find("debian", None, &images, &layers).unwrap().is_none());
        let mut own = install(&images, &layers).unwrap();
        own.config.config.labels.clear();
        assert!(find("hello", Some(own), &images, &layers).unwrap().is_none());
    }
}
