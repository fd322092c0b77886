//! Pulling: a real registry, and one that lies.

use super::*;

#[test]
fn an_image_is_pulled_once_and_found_by_all_its_names() {
    let world = World::new();
    let Some(registry) = DockerRegistry::start(world.dir.path(), false) else { return };
    let (made, place) = layout(world.dir.path(), "oci", &["one", "two", "one"]);
    registry.push(&place, "org/app:1", &["--format=oci"]);
    let name = format!("{}/org/app:1", registry.host);

    let recorder = Recorder::default();
    let image = pull(&world.images, &world.layers, &world.request(&name), &recorder).unwrap();
    assert_eq!((image.id, image.manifest, image.index), (made.config, Some(made.manifest), None));
    assert_eq!((world.file(&image, 0).as_str(), world.file(&image, 1).as_str()), ("one", "two"));
    assert_eq!(
        (recorder.count("Resolved"), recorder.count("LayerStart"), recorder.count("LayerDone")),
        (1, 2, 2)
    );

    let recorder = Recorder::default();
    let again = pull(&world.images, &world.layers, &world.request(&name), &recorder).unwrap();
    assert_eq!(again.id, image.id);
    assert_eq!((recorder.count("LayerPresent"), recorder.count("LayerStart")), (3, 0));

    let id = image.id.hex();
    let digest = format!("{}/org/app@{}", registry.host, made.manifest);
    for what in [&name, &id, &id[..12], &id[..2], &format!("sha256:{id}"), "app:1", "org/app:1", &digest] {
        assert_eq!(world.images.resolve(what).unwrap().id, image.id, "{what}");
    }
    for what in ["app", "rg/app:1", "nothing", "quay.io/org/app:1", &id[..1]] {
        assert!(matches!(world.images.resolve(what), Err(Error::NotFound(_))), "{what}");
    }
    // By digest there is nothing to ask anybody: also when the registry is gone.
    world.pull(&digest).unwrap();
    drop(registry);
    world.pull(&digest).unwrap();
    assert!(world.pull(&name).is_err());
}

#[test]
fn all_forms_of_an_image_share_their_layers() {
    let world = World::new();
    let Some(registry) = DockerRegistry::start(world.dir.path(), false) else { return };
    let (_, place) = layout(world.dir.path(), "oci", &["one", "two"]);
    registry.push(&place, "app:oci", &["--format=oci"]);
    registry.push(&place, "app:docker", &["--format=v2s2"]);
    registry.push(&place, "app:zstd", &["--format=oci", "--dest-compress-format=zstd"]);
    let name = |tag: &str| format!("{}/app:{tag}", registry.host);
    let first = world.pull(&name("oci")).unwrap();
    for tag in ["docker", "zstd"] {
        let recorder = Recorder::default();
        let image = pull(&world.images, &world.layers, &world.request(&name(tag)), &recorder).unwrap();
        assert_eq!(image.diff_ids(), first.diff_ids(), "{tag}");
        assert_eq!((recorder.count("LayerPresent"), recorder.count("LayerStart")), (2, 0), "{tag}");
    }
    // And the zstd form by itself.
    let other = World::new();
    let image = other.pull(&name("zstd")).unwrap();
    assert_eq!(other.file(&image, 1), "two");
}

#[test]
fn of_an_index_the_right_platform_is_pulled() {
    let world = World::new();
    let Some(registry) = DockerRegistry::start(world.dir.path(), false) else { return };
    let (ours, theirs) = (Made::new("amd64", &["ours"]), Made::new("s390x", &["theirs"]));
    let inner = index_of(&[ours.entry("x", Some("amd64")), theirs.entry("x", Some("s390x"))]);
    let inner_digest = Digest::of(inner.as_bytes());
    let mut blobs: HashMap<_, _> = ours.blobs.clone().into_iter().chain(theirs.blobs.clone()).collect();
    let size = inner.len();
    blobs.insert(inner_digest, inner.into_bytes());
    let top = index_of(&[serde_json::json!({
        "mediaType": manifest::OCI_INDEX, "digest": inner_digest, "size": size,
        "annotations": {"org.opencontainers.image.ref.name": "img"},
    })]);
    let folder = world.dir.path().join("multi");
    write_layout(&folder, &blobs, &top);
    registry.push(&format!("oci:{}:img", folder.display()), "app:1", &["--all"]);
    let name = format!("{}/app:1", registry.host);
    let mut request = world.request(&name);
    for (platform, made) in [("linux/amd64", &ours), ("linux/s390x", &theirs), ("linux/amd64/v3", &ours)] {
        request.platform = Some(platform.parse().unwrap());
        let image = pull(&world.images, &world.layers, &request, &Silent).unwrap();
        assert_eq!((image.id, image.index), (made.config, Some(inner_digest)), "{platform}");
    }
    request.platform = Some("linux/riscv64".parse().unwrap());
    let error = pull(&world.images, &world.layers, &request, &Silent).unwrap_err().to_string();
    assert!(error.contains("linux/riscv64") && error.contains("linux/s390x"), "{error}");

    // A single image of another architecture is taken unless one was asked for.
    let lone = world.dir.path().join("lone");
    write_layout(&lone, &theirs.blobs, &index_of(&[theirs.entry("img", None)]));
    registry.push(&format!("oci:{}:img", lone.display()), "lone:1", &[]);
    let mut request = world.request(&format!("{}/lone:1", registry.host));
    assert_eq!(
        pull(&world.images, &world.layers, &request, &Silent).unwrap().platform().architecture,
        "s390x"
    );
    request.platform = Some("linux/amd64".parse().unwrap());
    assert!(matches!(pull(&world.images, &world.layers, &request, &Silent), Err(Error::Platform { .. })));
}

#[test]
fn mirrors_come_first_and_the_registry_itself_after_them() {
    let world = World::new();
    let Some(registry) = DockerRegistry::start(world.dir.path(), true) else { return };
    let (made, place) = layout(world.dir.path(), "oci", &["one"]);
    registry.push(&place, "mirror/library/app:1", &[]);
    let empty = Peer::start(|_, _| Reply::Answer(answer("404 Not Found", &[], b"")));
    let conf = world.dir.path().join("r.conf");
    fs::write(
        &conf,
        format!(
            "[[registry]]\nlocation='docker.io'\n[[registry.mirror]]\nlocation='{}'\n[[registry.mirror]]\nlocation='{}/mirror'\n",
            empty.host, registry.host
        ),
    )
    .unwrap();
    let mut request = world.request("app:1");
    request.options.places.registries_conf = Some(conf);
    request.options.credentials = Credentials::parse("coracle:secret");
    let image = pull(&world.images, &world.layers, &request, &Silent).unwrap();
    assert_eq!(image.id, made.config);
    assert_eq!(image.name.unwrap().to_string(), "docker.io/library/app:1");
    assert!(!empty.requests().is_empty());
}

/// A registry that serves these blobs and manifests, changed on the way by `tamper`.
fn peer(made: &Made, tamper: impl Fn(&str, Vec<u8>) -> Reply + Send + Sync + 'static) -> Peer {
    let made = made.clone();
    Peer::start(move |request, _| {
        let path = request.path().to_owned();
        let last = path.rsplit('/').next().unwrap_or_default();
        let digest = last.parse().unwrap_or(made.manifest);
        match (path.as_str(), made.blobs.get(&digest)) {
            ("/v2/", _) => Reply::Answer(answer("200 OK", &[], b"")),
            (path, Some(bytes)) => tamper(path, bytes.clone()),
            (_, None) => Reply::Answer(answer("404 Not Found", &[], b"")),
        }
    })
}

#[test]
fn a_tampered_layer_is_never_published() {
    let made = Made::new("amd64", &["one"]);
    // The same archive in another compression: right by its diff id, wrong by its blob's digest.
    let other_bytes = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&tar_of("one")).unwrap();
        encoder.finish().unwrap()
    };
    let wrong = gzip(&tar_of("evil"));
    let layer = made.layers[0];
    for bytes in [other_bytes, wrong] {
        let mut lying = made.clone();
        // Its size is announced right, so that only the digest can tell.
        let text = String::from_utf8(made.blobs[&made.manifest].clone()).unwrap();
        let old = format!(r#""size":{}"#, made.blobs[&layer].len());
        let text = text.replace(&old, &format!(r#""size":{}"#, bytes.len()));
        lying.manifest = Digest::of(text.as_bytes());
        lying.blobs.insert(lying.manifest, text.into_bytes());
        lying.blobs.insert(layer, bytes);
        let world = World::new();
        let registry = peer(&lying, |_, bytes| Reply::Answer(answer("200 OK", &[], &bytes)));
        let error = world.pull(&format!("{}/app", registry.host)).unwrap_err();
        assert!(matches!(error, Error::Registry(registry::Error::Digest { .. })), "{error:?}");
        nothing_is_left(&world);
    }
}

#[test]
fn a_layer_that_is_another_than_the_config_says_is_never_published() {
    let mut made = Made::new("amd64", &["one"]);
    let config = String::from_utf8(made.blobs[&made.config].clone()).unwrap();
    let lie = config.replace(&Digest::of(&tar_of("one")).hex(), &Digest::of(b"lie").hex());
    let text = String::from_utf8(made.blobs[&made.manifest].clone()).unwrap();
    let text = text.replace(&made.config.hex(), &Digest::of(lie.as_bytes()).hex());
    made.manifest = Digest::of(text.as_bytes());
    made.blobs.insert(made.manifest, text.into_bytes());
    made.blobs.insert(Digest::of(lie.as_bytes()), lie.into_bytes());
    let world = World::new();
    let registry = peer(&made, |_, bytes| Reply::Answer(answer("200 OK", &[], &bytes)));
    let error = world.pull(&format!("{}/app", registry.host)).unwrap_err();
    assert!(matches!(error, Error::Layers(crate::layers::Error::Digest { .. })), "{error:?}");
    nothing_is_left(&world);
}

#[test]
fn a_layer_that_breaks_off_goes_on_and_says_so() {
    let made = Made::new("amd64", &[&"0123456789abcdef\n".repeat(1000)]);
    let layer = format!("/v2/app/blobs/{}", made.layers[0]);
    let first = Mutex::new(true);
    let registry = peer(&made, move |path, bytes| {
        let whole = answer("200 OK", &[], &bytes);
        if path == layer && std::mem::take(&mut *first.lock().unwrap()) {
            return Reply::Close(whole[..whole.len() - 20].to_vec());
        }
        Reply::Answer(whole)
    });
    let world = World::new();
    let recorder = Recorder::default();
    let name = format!("{}/app", registry.host);
    pull(&world.images, &world.layers, &world.request(&name), &recorder).unwrap();
    assert_eq!((recorder.count("LayerRetry"), recorder.count("LayerDone")), (1, 1));
}

#[test]
fn a_manifest_whose_layers_are_not_the_configs_is_refused() {
    let mut made = Made::new("amd64", &["one", "two"]);
    let mut manifest: serde_json::Value = serde_json::from_slice(&made.blobs[&made.manifest]).unwrap();
    manifest["layers"].as_array_mut().unwrap().pop();
    let text = manifest.to_string();
    made.manifest = Digest::of(text.as_bytes());
    made.blobs.insert(made.manifest, text.into_bytes());
    let registry = peer(&made, |_, bytes| Reply::Answer(answer("200 OK", &[], &bytes)));
    let world = World::new();
    let error = world.pull(&format!("{}/app", registry.host)).unwrap_err().to_string();
    assert!(error.contains("1 layers") && error.contains("2"), "{error}");
    nothing_is_left(&world);
}

#[test]
fn several_processes_pulling_at_once_fetch_each_layer_once() {
    let made = Made::new("amd64", &["one", "two", "three"]);
    let registry = peer(&made, |_, bytes| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        Reply::Answer(answer("200 OK", &[], &bytes))
    });
    let world = World::new();
    let name = format!("{}/app", registry.host);
    std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..4).map(|_| scope.spawn(|| world.pull(&name).unwrap().id)).collect();
        for pull in pulls {
            assert_eq!(pull.join().unwrap(), made.config);
        }
    });
    let requests = registry.requests();
    for layer in &made.layers {
        let fetched = requests.iter().filter(|r| r.path().ends_with(&layer.hex())).count();
        assert_eq!(fetched, 1);
    }
}
