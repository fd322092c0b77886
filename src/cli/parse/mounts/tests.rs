use super::super::test_host;
use super::*;

fn request(source: MountSource, destination: &str, options: MountOptions) -> MountRequest {
    MountRequest { source, destination: destination.into(), options }
}

fn bind(path: &str) -> MountSource {
    MountSource::Bind { path: path.into(), create: true }
}

fn tmpfs_of(size: Option<u64>, mode: Option<u32>) -> MountSource {
    MountSource::Tmpfs { size, mode, options: Vec::new(), copy_up: false }
}

fn named(name: &str) -> MountSource {
    MountSource::Volume { name: name.into() }
}

#[test]
fn the_forms_of_a_volume_are_dockers_and_podmans() {
    let plain = MountOptions::default();
    let ro = MountOptions { read_only: true, ..plain };
    let table = [
        ("/p", request(MountSource::AnonymousVolume, "/p", plain)),
        ("data:/p", request(named("data"), "/p", plain)),
        ("/a:/b", request(bind("/a"), "/b", plain)),
        ("./a:/b/", request(bind("/home/me/a"), "/b", plain)),
        ("../a:/b/../c//d", request(bind("/home/me/../a"), "/c/d", plain)),
        (".:/b", request(bind("/home/me"), "/b", plain)),
        ("/a:/b:ro", request(bind("/a"), "/b", ro)),
        ("/a:/b:ro,U,z", request(bind("/a"), "/b", MountOptions { chown: true, ..ro })),
        ("data:/p:nocopy", request(named("data"), "/p", MountOptions { no_copy: true, ..plain })),
        ("/a:/b:exec,dev,suid", request(bind("/a"), "/b", MountOptions { dev: true, suid: true, ..plain })),
        (
            "/a:/b:rslave,bind,cached",
            request(
                bind("/a"),
                "/b",
                MountOptions { propagation: Propagation::Slave, non_recursive: true, ..plain },
            ),
        ),
    ];
    for (text, expected) in table {
        assert_eq!(volume(text, &test_host()), Ok(expected), "{text}");
    }
}

#[test]
fn what_is_no_volume_is_refused() {
    for bad in [
        "",
        ":/p",
        "a:b",
        "/a:",
        "/a:/",
        "/a:/b/..",
        "a/b:/p",
        "/a:/b:rwx",
        "/a:/b:ro:z",
        "/a:/b:nocopy",
        "data:/p:rslave",
        "data:/b:O",
        "/a:/b:O,U",
        "/a:/b:O,upperdir=/c",
        "/a:/b:idmap=uids=1",
        "-x:/p",
    ] {
        assert!(volume(bad, &test_host()).is_err(), "{bad}");
    }
}

#[test]
fn relabelling_is_refused_only_where_selinux_is_on() {
    let on = Host { selinux: true, ..test_host() };
    assert!(volume("/a:/b:Z", &test_host()).is_ok());
    assert!(volume("/a:/b:Z", &on).is_err() && mount("type=bind,src=/a,dst=/b,z", &on).is_err());
}

#[test]
fn mounts_take_dockers_keys() {
    let plain = MountOptions::default();
    let ro = MountOptions { read_only: true, ..plain };
    let host_path = MountSource::Bind { path: "/a,b".into(), create: false };
    let table = [
        ("type=bind,\"source=/a,b\",target=/p,readonly", request(host_path, "/p", ro)),
        ("source=data,target=/p", request(named("data"), "/p", plain)),
        ("type=volume,dst=/p,ro=false", request(MountSource::AnonymousVolume, "/p", plain)),
        (
            "type=tmpfs,destination=/t,tmpfs-size=64m,tmpfs-mode=1770",
            request(tmpfs_of(Some(64 << 20), Some(0o1770)), "/t", MountOptions { no_exec: true, ..plain }),
        ),
        (
            "type=bind,src=x,dst=/p,bind-propagation=shared,bind-recursive=disabled,bind-create-src",
            request(
                bind("/home/me/x"),
                "/p",
                MountOptions { propagation: Propagation::Shared, non_recursive: true, ..plain },
            ),
        ),
    ];
    for (text, expected) in table {
        assert_eq!(mount(text, &test_host()), Ok(expected), "{text}");
    }
}

#[test]
fn what_is_no_mount_is_refused() {
    for bad in [
        "",
        "type=bind,target=/p",
        "type=bind,source=/a",
        "type=tmpfs,src=/a,dst=/p",
        "type=nfs,dst=/p",
        "type=bind,src=/a,dst=/p,tmpfs-size=1m",
        "type=bind,src=/a,dst=p",
        "dst=/p,volume-opt=o=x",
        "type=bind,src=/a,dst=/p,readonly=maybe",
        "type=bind,\"src=/a,dst=/p",
        "dst=/p,tagret=/q",
    ] {
        assert!(mount(bad, &test_host()).is_err(), "{bad}");
    }
}

#[test]
fn a_tmpfs_has_a_size_a_mode_and_no_programs() {
    let source = tmpfs_of(Some(64 << 20), Some(0o1777));
    let options = MountOptions { no_exec: true, ..MountOptions::default() };
    assert_eq!(tmpfs("/t:size=64m,mode=1777"), Ok(request(source, "/t", options)));
    let plain = tmpfs_of(None, None);
    assert_eq!(tmpfs("/t:exec").unwrap(), request(plain, "/t", MountOptions::default()));
    for bad in ["t", "/", "/t:size=x", "/t:mode=9", "/t:uid=x", "/t:size", "/t:nope"] {
        assert!(tmpfs(bad).is_err(), "{bad}");
    }
}

#[test]
fn further_options_of_a_tmpfs_go_to_the_kernel() {
    let source = |options: &[&str], copy_up| MountSource::Tmpfs {
        size: None,
        mode: None,
        options: options.iter().map(|&option| option.to_owned()).collect(),
        copy_up,
    };
    assert_eq!(
        tmpfs("/t:uid=5,gid=6,nr_inodes=1k").unwrap().source,
        source(&["uid=5", "gid=6", "nr_inodes=1k"], false)
    );
    assert_eq!(tmpfs("/t:tmpcopyup").unwrap().source, source(&[], true));
    assert_eq!(mount("type=tmpfs,dst=/t,tmpcopyup", &test_host()).unwrap().source, source(&[], true));
}

#[test]
fn other_kinds_of_mounts_have_their_options() {
    let host = test_host();
    let image = mount("type=image,src=debian,dst=/i", &host).unwrap();
    assert_eq!(image.source, MountSource::Image { name: "debian".into(), layers: Vec::new() });
    assert!(image.options.read_only && image.options.suid);
    assert!(!mount("type=image,src=debian,dst=/i,rw=true", &host).unwrap().options.read_only);
    let new = |kind: &str, options: &[&str]| MountSource::New {
        kind: kind.into(),
        options: options.iter().map(|&option| option.to_owned()).collect(),
    };
    assert_eq!(
        mount("type=devpts,dst=/p,mode=620,max=10", &host).unwrap().source,
        new("devpts", &["mode=620", "max=10", "newinstance", "ptmxmode=0666"])
    );
    assert_eq!(mount("type=ramfs,dst=/r,tmpfs-mode=700", &host).unwrap().source, new("ramfs", &["mode=700"]));
    let globbed = mount("type=glob,src=/usr/lib/x*", &host).unwrap();
    assert_eq!(
        (globbed.source, globbed.destination.as_str()),
        (MountSource::Glob { pattern: "/usr/lib/x*".into() }, "/")
    );
    for bad in [
        "type=image,dst=/i",
        "type=devpts,src=/a,dst=/p",
        "type=ramfs,dst=/r,tmpfs-size=1m",
        "type=glob,dst=/x",
        "type=image,src=a,dst=/i,uid=5",
        "type=glob,src=lib*",
    ] {
        assert!(mount(bad, &host).is_err(), "{bad}");
    }
}

#[test]
fn an_overlay_is_for_folders_of_the_host() {
    assert!(volume("/a:/b:O", &test_host()).unwrap().options.overlay);
    assert!(volume("/a:/b:idmap", &test_host()).unwrap_err().why.contains("idmap"));
}

#[test]
fn two_mounts_at_one_place_are_noticed() {
    let mounts = ["/a:/x", "/b:/y", "data:/x/"].map(|text| volume(text, &test_host()).unwrap());
    assert_eq!(duplicate_destination(&mounts), Some("/x"));
    assert_eq!(duplicate_destination(&mounts[..2]), None);
}
