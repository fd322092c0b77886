//! Everything that an image's layers may hold, and every form in which one may be served.
//!
//! Whole trees are compared with what a replay of the archives says (`tests/support/tree.py`): names, kinds, modes,
//! owners, times, attributes, links, content.

use crate::real_images::is_the_tree_of_its_archives;
use crate::support::image::{Image, Layer, digest, gzip, header};
use crate::support::registry::Registry;
use crate::support::{Engine, Output, busybox, has_program, host};
use serde_json::{Value, json};
use tar::EntryType;

const OCI: &str = "application/vnd.oci.image.";
const DOCKER: &str = "application/vnd.docker.";

/// Pulls an image and compares its files with its archives.
#[track_caller]
fn is_whole(image: &Image) {
    let (engine, registry) = (Engine::new(), Registry::start());
    let reference = engine.add(&registry, "odd", image);
    let layout = engine.scratch().join("layout");
    image.write_layout(&layout);
    is_the_tree_of_its_archives(&engine, &reference, layout.to_str().unwrap());
}

/// Runs a shell script in an image.
#[track_caller]
fn run_in(image: &Image, flags: &[&str], script: &str) -> Output {
    let (engine, registry) = (Engine::new(), Registry::start());
    let reference = engine.add(&registry, "odd", image);
    let run = ["run", "--rm", "-q", "--network", "none"];
    engine.run(&[&run, flags, &[&reference, "sh", "-c", script]].concat())
}

#[test]
fn whiteouts_of_every_form_hide_what_is_below_and_nothing_else() {
    let below = Layer::new()
        .dir("d", 0o755)
        .file("d/a", b"a", 0o644)
        .dir("d/sub", 0o700)
        .file("d/sub/x", b"x", 0o600)
        .dir("e", 0o755)
        .file("e/a", b"a", 0o644)
        .file("f", b"f", 0o644)
        .symlink("l", "d")
        .file("g", b"a file that becomes a folder", 0o644)
        .dir("h", 0o755)
        .file("h/gone", b"gone", 0o644)
        .dir("i", 0o755)
        .file("i/becomes a link", b"x", 0o644)
        .dir("k", 0o755)
        .file("k/1", b"1", 0o644)
        .file("k/2", b"2", 0o644);
    let above = Layer::new()
        // Opaque, told before what is new in it, after it, and by a folder that the layer does not have.
        .dir("d", 0o750)
        .file("d/.wh..wh..opq", b"", 0o644)
        .file("d/new", b"new", 0o644)
        .dir("h", 0o755)
        .file("h/new", b"new", 0o644)
        .file("h/.wh..wh..opq", b"", 0o644)
        .file("new/.wh..wh..opq", b"", 0o644)
        // Hidden and made again in one layer, in both orders.
        .file(".wh.e", b"", 0o644)
        .dir("e", 0o711)
        .file("e/new", b"new", 0o644)
        .dir("i", 0o755)
        .symlink("i/becomes a link", "nowhere")
        .file("i/.wh.becomes a link", b"", 0o644)
        // A file, a link, a thing that is not there, one name of several, with a content that means nothing.
        .file(".wh.f", b"", 0o644)
        .file(".wh.l", b"", 0o644)
        .file(".wh.never was", b"", 0o644)
        .file("k/.wh.1", b"what is in a whiteout does not matter", 0o000)
        .dir("g", 0o755)
        .file("g/inside", b"x", 0o644)
        // What aufs leaves behind.
        .dir(".wh..wh.plnk", 0o700)
        .file(".wh..wh.plnk/1.2", b"x", 0o644)
        .file(".wh..wh.aufs", b"", 0o644);
    // What was hidden can come again, and a whiteout is no file that anybody sees.
    let top = Layer::new().file("f", b"again", 0o600).dir("l", 0o755).file("l/x", b"x", 0o644);
    is_whole(&Image::tiny_with(vec![below, above, top]));
}

#[test]
fn hard_links_within_a_layer_are_one_file_and_outlive_each_other_over_layers() {
    let first = Layer::new()
        .dir("d", 0o755)
        .owned("d/one", b"one file", 0o4755, 7, 8)
        .hardlink("d/two", "d/one")
        .hardlink("three", "./d/two")
        .hardlink("d/four", "/d/one");
    let second = Layer::new().file("d/.wh.one", b"", 0o644).file("d/four", b"another file", 0o644);
    is_whole(&Image::tiny_with(vec![first]));
    let first = Layer::new()
        .dir("d", 0o755)
        .owned("d/one", b"one file", 0o4755, 7, 8)
        .hardlink("d/two", "d/one")
        .hardlink("three", "./d/two")
        .hardlink("d/four", "/d/one");
    let image = Image::tiny_with(vec![first, second]);
    let script = "cat d/two three d/four; test -e d/one || echo ' gone'; echo more >> d/two; cat three";
    let output = run_in(&image, &["-w", "/"], script);
    assert!(output.stdout.starts_with("one fileone fileanother file gone\none file"), "{output}");
}

/// A link to a file of a lower layer cannot be made of two folders. (podman 4.3.1 takes such an image, and cannot run it.)
#[test]
fn a_hard_link_to_a_file_of_another_layer_is_refused_with_its_name() {
    let image = Image::tiny_with(vec![Layer::new().hardlink("bin/linked", "bin/busybox")]);
    run_in(&image, &[], "true").explains(125, &["bin/linked"]);
}

#[test]
fn names_of_any_bytes_and_of_any_length_are_kept() {
    let long = "n".repeat(255);
    // As long as a path can be, of names as long as they can be.
    let most = format!("{}/x", [&"m".repeat(255)[..]; 15].join("/"));
    let layer = Layer::new()
        .pax(&[("path", b"latin1 \xe4\xf6\xfc")])
        .file("x", b"1", 0o644)
        .pax(&[("path", b"bytes \xff\xfe\x01\x7f/\x80")])
        .file("x", b"2", 0o644)
        .pax(&[("path", b"link \xff"), ("linkpath", b"target \xfe")])
        .symlink("x", "x")
        .pax(&[("path", b"hard \xff"), ("linkpath", b"bytes \xff\xfe\x01\x7f/\x80")])
        .hardlink("x", "x")
        .file("new\nline", b"3", 0o644)
        .file("tab\tand  blanks ", b"4", 0o644)
        .file("back\\slash", b"5", 0o644)
        .file("*?[a-z]", b"6", 0o644)
        .file("-rf", b"7", 0o644)
        .pax(&[("path", long.as_bytes())])
        .file("x", b"8", 0o644)
        .pax(&[("path", most.as_bytes())])
        .file("x", b"9", 0o644)
        .pax(&[("path", b"hidden \xff")])
        .file("x", b"10", 0o644);
    let above = Layer::new().pax(&[("path", b".wh.hidden \xff")]).file("x", b"", 0o644);
    is_whole(&Image::tiny_with(vec![layer, above]));
    let longer = Layer::new().pax(&[("path", format!("{long}n").as_bytes())]).file("x", b"", 0o644);
    run_in(&Image::tiny_with(vec![longer]), &[], "true").explains(125, &["file name too long"]);
}

/// `count` layers, each of which changes a file of the one below, hides one and adds one.
fn of_layers(count: usize) -> Image {
    let layers = (0..count).map(|n| {
        let layer = Layer::new().file("counter", format!("{n}\n").as_bytes(), 0o644);
        let layer = layer.dir("n", 0o755).file(&format!("n/{n}"), b"", 0o644);
        if n > 0 { layer.file(&format!("n/.wh.{}", n - 1), b"", 0o644) } else { layer }
    });
    Image::tiny_with(layers.collect())
}

#[test]
fn sixty_and_a_hundred_and_twenty_eight_layers_are_one_tree() {
    is_whole(&of_layers(60));
    let output = run_in(&of_layers(128), &[], "cat /counter; ls /n; echo more > /n/127; rm /n/127; ls /n");
    assert_eq!(output.ok(), "127\n127");
}

#[test]
fn more_layers_than_a_mount_can_have_are_an_error_that_says_so() {
    run_in(&of_layers(520), &[], "cat /counter").explains(125, &["521 layers", "500", "fix:"]);
}

#[test]
fn empty_layers_and_the_same_layer_twice_are_nothing_special() {
    let nothing = Layer::new().finish();
    let something = Layer::new().file("something", b"x", 0o644).finish();
    let hide = Layer::new().file(".wh.something", b"", 0o644).finish();
    let layers = [
        Layer::tiny().finish(),
        nothing.clone(),
        something.clone(),
        nothing.clone(),
        // An archive without even its end.
        Vec::new(),
        hide.clone(),
        something.clone(),
        hide,
        nothing,
        something,
    ];
    let image = Image::of(layers.to_vec());
    is_whole(&image);
    // Shown under other owners, too.
    let output =
        run_in(&image, &["--userns", "keep-id"], "cat /something; test $(id -u) != 0 && echo ' other'");
    assert_eq!(output.stdout, "x other\n", "{output}");
}

#[test]
fn devices_are_left_out_and_everything_else_in_their_layer_is_there() {
    let mut block = header("d/sda", EntryType::Block, 0o660, "", 0);
    block.set_device_major(8).unwrap();
    block.set_device_minor(0).unwrap();
    block.set_cksum();
    let layer = Layer::new()
        .device("dev/null", 1, 3)
        .device("dev/console", 5, 1)
        .dir("d", 0o755)
        .device("d/mem", 1, 1)
        .raw(block, b"")
        .entry("d/pipe", EntryType::Fifo, 0o620, b"", "")
        .file("d/file", b"x", 0o644);
    is_whole(&Image::tiny_with(vec![layer]));
}

/// vfs_cap_data of version 2 (capabilities(7)): effective, one permitted capability.
fn file_capability(number: u8) -> Vec<u8> {
    let mut data = 0x0200_0001_u32.to_le_bytes().to_vec();
    data.extend((1_u32 << number).to_le_bytes());
    data.resize(20, 0);
    data
}

/// An ACL as its attribute has it (version 2; tag, permission, id): alice may read.
fn acl_for(uid: u32) -> Vec<u8> {
    let none = u32::MAX;
    let entries = [(1_u16, 6_u16, none), (2, 4, uid), (4, 0, none), (0x10, 4, none), (0x20, 0, none)];
    let mut data = 2_u32.to_le_bytes().to_vec();
    for (tag, permission, id) in entries {
        data.extend(tag.to_le_bytes());
        data.extend(permission.to_le_bytes());
        data.extend(id.to_le_bytes());
    }
    data
}

#[test]
fn set_id_bits_capabilities_acls_and_attributes_are_kept_and_work() {
    let program = std::fs::read(busybox()).unwrap();
    let capability = file_capability(10);
    let layer = || {
        Layer::new()
            .dir("set", 0o755)
            .file("set/uid", &program, 0o4755)
            .owned("set/gid", &program, 0o2755, 0, 42)
            .dir("set/sticky", 0o1777)
            .dir("set/group", 0o2770)
            .pax(&[("SCHILY.xattr.security.capability", &capability)])
            .file("set/grep", &program, 0o755)
            .pax(&[("SCHILY.xattr.system.posix_acl_access", &acl_for(1000))])
            .file("set/acl", b"for alice\n", 0o640)
            .pax(&[("SCHILY.xattr.user.note", b"k\xc3\xbcche\0\xff"), ("SCHILY.xattr.user.empty", b"")])
            .file("set/noted", b"x", 0o644)
            .pax(&[("SCHILY.xattr.user.note", b"on a folder")])
            .dir("set/folder", 0o500)
            // What no user namespace may have, or this file system does not know, is left out.
            .pax(&[("SCHILY.xattr.trusted.x", b"x"), ("SCHILY.xattr.security.selinux", b"system_u")])
            .file("set/labelled", b"x", 0o644)
            .owned("set/bob's", b"bob's\n", 0o600, 1001, 1001)
    };
    is_whole(&Image::tiny_with(vec![layer()]));
    let script = "cd /set; ./grep CapEff /proc/self/status; /bin/busybox grep CapEff /proc/self/status
        cat acl; cat 'bob'\\''s' 2>/dev/null || echo denied";
    let image = Image::tiny_with(vec![layer()]);
    let output = run_in(&image, &["--user", "alice"], script);
    let expected = "CapEff:\t0000000000000400\nCapEff:\t0000000000000000\nfor alice\ndenied\n";
    assert_eq!(output.stdout, expected, "{output}");
}

#[test]
fn sparse_files_of_every_form_have_their_holes() {
    require!(has_program("tar") && has_program("truncate"), "no tar or truncate");
    for format in [
        "--format=gnu",
        "--format=posix --sparse-version=0.0",
        "--format=posix --sparse-version=0.1",
        "--format=posix --sparse-version=1.0",
    ] {
        let engine = Engine::new();
        let folder = engine.folder("made");
        // Data in more places than a header's own map has, a hole at the end, and a file that is all hole.
        let make = format!(
            "cd {folder}; truncate -s 30M holes; for n in $(seq 40); do
                printf 'data %s' $n | dd of=holes bs=1 seek=$((n * 524288)) conv=notrunc status=none; done
             truncate -s 5M hole; sha256sum holes hole >sums; tar -cS --owner=0 --group=0 {format} -f ../holes.tar ."
        );
        host(&make);
        let layer = std::fs::read(engine.scratch().join("holes.tar")).unwrap();
        assert!(layer.len() < 1 << 20, "{format}: they are holes");
        let mut image = Image::tiny_with(vec![]);
        image.layers.push(layer);
        let output = run_in(&image, &[], "busybox sha256sum -c /sums; stat -c %b /holes /hole");
        let mut lines = output.stdout.lines();
        assert_eq!((lines.next(), lines.next()), (Some("holes: OK"), Some("hole: OK")), "{format}: {output}");
        let blocks: Vec<u64> = lines.map(|line| line.parse().unwrap()).collect();
        assert!(blocks[0] <= 40 * 16 && blocks[1] <= 16, "{format}: they take room: {blocks:?}");
    }
}

#[test]
fn an_owner_beyond_the_users_ids_is_explained_with_the_way_out() {
    let layer = Layer::new().owned("etc/mine", b"x", 0o644, 3_000_000_000, 0);
    let (engine, registry) = (Engine::new(), Registry::start());
    let image = engine.add(&registry, "many", &Image::tiny_with(vec![layer]));
    let output = engine.run(&["pull", "-q", &image]);
    if crate::userns::has_subordinate_ids() {
        output.explains(125, &["uid 3000000000", "etc/mine", "fix:", "usermod --add-subuids", "3000000001"]);
        assert_eq!(engine.ok(&["images", "-q"]), "");
    } else {
        output.ok();
    }
    let layer = Layer::new().owned("etc/mine", b"x", 0o644, 0, 4_294_967_295);
    let image = engine.add(&registry, "none", &Image::tiny_with(vec![layer]));
    engine.run(&["pull", "-q", &image]).explains(125, &["owner is out of range"]);
}

/// Layers compressed by hand: what each blob is, and that the image runs.
#[track_caller]
fn runs_with_blobs(what: &str, media: &str, compress: impl Fn(&[u8]) -> Vec<u8>) {
    let (engine, registry) = (Engine::new(), Registry::start());
    let image = Image::tiny_with(vec![Layer::new().file("mark", b"whole\n", 0o644)]);
    let layers: Vec<Value> = image
        .layers
        .iter()
        .map(|layer| registry.add_blob(&format!("{OCI}{media}"), compress(layer)))
        .collect();
    let config = registry.add_blob(&format!("{OCI}config.v1+json"), image.config_blob());
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
    registry.add_manifest("packed", "latest", &format!("{OCI}manifest.v1+json"), &manifest);
    engine.trust(registry.address());
    let reference = format!("{}/packed", registry.address());
    let run = ["run", "--rm", "-q", "--network", "none", &reference, "cat", "/mark"];
    assert_eq!(engine.run(&run).ok(), "whole", "{what}");
}

#[test]
fn layers_of_several_frames_members_and_skippable_frames_are_whole() {
    require!(has_program("zstd"), "no zstd");
    let zstd = |data: &[u8], options: &str| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("in"), data).unwrap();
        host(&format!("cd {} && zstd -q {options} in -o out", folder.path().display()));
        std::fs::read(folder.path().join("out")).unwrap()
    };
    let skippable = |magic: u8, length: usize| {
        let mut frame = vec![magic, 0x2a, 0x4d, 0x18];
        frame.extend(u32::try_from(length).unwrap().to_le_bytes());
        frame.resize(frame.len() + length, b's');
        frame
    };
    let pieces = |data: &[u8]| data.chunks(100_001).map(<[u8]>::to_vec).collect::<Vec<_>>();
    runs_with_blobs("gzip of many members", "layer.v1.tar+gzip", |data| {
        pieces(data).iter().flat_map(|piece| gzip(piece)).collect()
    });
    runs_with_blobs("gzip with an empty member at its end", "layer.v1.tar+gzip", |data| {
        [gzip(data), gzip(b"")].concat()
    });
    runs_with_blobs("zstd with skippable frames around it", "layer.v1.tar+zstd", |data| {
        [skippable(0x50, 0), skippable(0x5f, 200_000), zstd(data, "-3"), skippable(0x51, 7)].concat()
    });
    runs_with_blobs("zstd of many frames with skippable ones between", "layer.v1.tar+zstd", |data| {
        pieces(data).iter().flat_map(|piece| [zstd(piece, "-1"), skippable(0x5a, 33)].concat()).collect()
    });
    runs_with_blobs("zstd with a checksum and a long window", "layer.v1.tar+zstd", |data| {
        zstd(data, "-19 --long=27 --check")
    });
    runs_with_blobs("not compressed at all", "layer.v1.tar", <[u8]>::to_vec);
    runs_with_blobs("a media type that lies", "layer.v1.tar+gzip", |data| zstd(data, "-1"));
    runs_with_blobs("another that lies", "layer.v1.tar", gzip);
}

/// An image of docker's schema 2, its manifest's descriptor, and one for another machine.
fn docker_image(registry: &Registry, name: &str, mark: &str) -> Value {
    let image = Image::tiny_with(vec![Layer::new().file("mark", mark.as_bytes(), 0o644)]);
    let media = format!("{DOCKER}image.rootfs.diff.tar.gzip");
    let layers: Vec<Value> =
        image.layers.iter().map(|layer| registry.add_blob(&media, gzip(layer))).collect();
    let config = registry.add_blob(&format!("{DOCKER}container.image.v1+json"), image.config_blob());
    let media = format!("{DOCKER}distribution.manifest.v2+json");
    let manifest = json!({"schemaVersion": 2, "mediaType": media, "config": config, "layers": layers});
    registry.add_manifest(name, mark, &media, &manifest)
}

fn for_platform(mut descriptor: Value, os: &str, architecture: &str) -> Value {
    descriptor["platform"] = json!({"os": os, "architecture": architecture});
    descriptor
}

const NATIVE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

#[test]
fn lists_and_indexes_in_one_another_lead_to_the_image_for_this_machine() {
    let (engine, registry) = (Engine::new(), Registry::start());
    engine.trust(registry.address());
    let right = for_platform(docker_image(&registry, "many", "right"), "linux", NATIVE);
    let wrong = for_platform(docker_image(&registry, "many", "wrong"), "linux", "s390x");
    let windows = for_platform(docker_image(&registry, "many", "windows"), "windows", NATIVE);
    // BuildKit's attestations: manifests for no platform, whose layers are not archives.
    let statement = registry.add_blob("application/vnd.in-toto+json", b"{}".to_vec());
    let empty = registry.add_blob(&format!("{OCI}config.v1+json"), b"{}".to_vec());
    let manifest = format!("{OCI}manifest.v1+json");
    let attestation =
        json!({"schemaVersion": 2, "mediaType": manifest, "config": empty, "layers": [statement]});
    let attestation = registry.add_manifest("many", "attestation", &manifest, &attestation);
    let mut attestation = for_platform(attestation, "unknown", "unknown");
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let list = |manifests: &[&Value], media: &str, tag: &str| {
        let document = json!({"schemaVersion": 2, "mediaType": media, "manifests": manifests});
        registry.add_manifest("many", tag, media, &document)
    };
    let docker_list = format!("{DOCKER}distribution.manifest.list.v2+json");
    let index = format!("{OCI}index.v1+json");
    list(&[&wrong, &windows, &right], &docker_list, "docker");
    list(&[&attestation, &right, &attestation], &index, "attested");
    let inner = list(&[&wrong, &right], &docker_list, "inner");
    let middle = list(&[&attestation, &inner], &index, "middle");
    list(&[&windows, &middle], &index, "outer");
    let other = list(&[&wrong], &index, "other");
    list(&[&other, &inner], &index, "second");
    for tag in ["docker", "attested", "middle", "outer", "second"] {
        let reference = format!("{}/many:{tag}", registry.address());
        let run = ["run", "--rm", "-q", "--network", "none", &reference, "cat", "/mark"];
        assert_eq!(engine.run(&run).ok(), "right", "{tag}");
    }
    let reference = format!("{}/many:other", registry.address());
    engine.run(&["pull", "-q", &reference]).explains(125, &[&format!("linux/{NATIVE}"), "s390x"]);
    list(&[&attestation], &index, "only-attested");
    let reference = format!("{}/many:only-attested", registry.address());
    assert_eq!(engine.run(&["pull", "-q", &reference]).code, 125);
}

#[test]
fn a_config_needs_no_history_and_counts_no_layer_for_steps_that_made_none() {
    let layer = Layer::new().file("mark", b"ran\n", 0o644);
    let image = Image::tiny_with(vec![layer]);
    let diff_ids: Vec<String> = image.layers.iter().map(|layer| digest(layer)).collect();
    let step = |what: &str, empty: bool| json!({"created_by": what, "empty_layer": empty});
    let histories = [
        Value::Null,
        json!([]),
        json!([step("ENV A=b", true), step("ADD x", false), step("CMD sh", true), step("COPY y", false)]),
        // Fewer than layers, more than layers: it is only told, never counted on.
        json!([step("ADD x", false)]),
        json!([step("a", false), step("b", false), step("c", false), step("d", true)]),
    ];
    for history in histories {
        let (engine, registry) = (Engine::new(), Registry::start());
        engine.trust(registry.address());
        let mut config = json!({
            "architecture": NATIVE, "os": "linux", "config": {"Cmd": ["cat", "/mark"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": history,
        });
        if history.is_null() {
            config.as_object_mut().unwrap().remove("history");
        }
        let media = format!("{OCI}layer.v1.tar+gzip");
        let layers: Vec<Value> = image.layers.iter().map(|l| registry.add_blob(&media, gzip(l))).collect();
        let config = registry.add_blob(&format!("{OCI}config.v1+json"), serde_json::to_vec(&config).unwrap());
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        registry.add_manifest("told", "latest", &format!("{OCI}manifest.v1+json"), &manifest);
        let reference = format!("{}/told", registry.address());
        let run = ["run", "--rm", "-q", "--network", "none", &reference];
        assert_eq!(engine.run(&run).ok(), "ran", "{history}");
    }
}
