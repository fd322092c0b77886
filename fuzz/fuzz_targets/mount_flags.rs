//! `-v`, `--mount`, `--tmpfs` and the other flags whose values have a grammar: a destination is absolute, a volume's name is
//! one path component.
#![no_main]

use coracle::cli::parse;
use coracle::container::request::{MountRequest, MountSource};
use libfuzzer_sys::fuzz_target;

fn check(mount: &MountRequest) {
    assert!(mount.destination.starts_with('/'), "{mount:?}");
    match &mount.source {
        MountSource::Volume { name } => {
            assert!(!name.contains('/') && !name.starts_with('.') && !name.is_empty(), "{mount:?}");
        }
        MountSource::Bind { path, .. } => assert!(path.is_absolute(), "{mount:?}"),
        MountSource::Glob { pattern } => assert!(pattern.starts_with('/'), "{mount:?}"),
        MountSource::Image { name, .. } => assert!(!name.is_empty(), "{mount:?}"),
        MountSource::AnonymousVolume | MountSource::Tmpfs { .. } | MountSource::New { .. } => {}
    }
}

fuzz_target!(|text: &str| {
    let host = parse::Host { cwd: "/home/me".into(), env: Vec::new(), selinux: false, apparmor: false };
    let mounts = [parse::volume(text, &host), parse::mount(text, &host), parse::tmpfs(text)];
    mounts.iter().flatten().for_each(check);
    let _ = parse::add_host(text);
    let _ = parse::bytes(text);
    let _ = parse::detach_keys(text);
    let _ = parse::signal(text);
    let _ = parse::ulimit(text);
    let _ = parse::userns(text);
    let _ = parse::id_range(text);
    let _ = parse::volumes_from(text);
    if let Ok((name, _)) = parse::sysctl(text) {
        assert!(!name.contains("..") && !name.starts_with('.'), "{name:?}");
    }
    if let Ok(zone) = parse::timezone(text) {
        assert!(!zone.starts_with('/') && !zone.split('/').any(|part| part == ".."), "{zone:?}");
    }
    let _ = parse::user(text);
    if let Ok(name) = parse::name(text) {
        assert!(!name.contains(['/', '\n', '\0']) && !name.starts_with('.'), "{name:?}");
    }
});
