//! What a process is given, and what is only recorded of a container.

use super::{Host, Invalid, number};
use crate::container::settings::{ImageVolumes, Rootfs, SystemdMode, VolumesFrom};
use crate::sandbox::Device;

/// `--umask`.
pub fn umask(text: &str) -> Result<u32, Invalid> {
    match u32::from_str_radix(text, 8) {
        Ok(mask) if mask <= 0o777 && !text.starts_with('+') => Ok(mask),
        _ => Err(Invalid::new("expected a umask in octal digits, as in 0022")),
    }
}

/// `--oom-score-adj`.
pub fn oom_score_adj(text: &str) -> Result<i32, Invalid> {
    match text.parse() {
        Ok(score) if (-1000..=1000).contains(&score) => Ok(score),
        _ => Err(Invalid::new("invalid value, range for oom score adj is [-1000, 1000]")),
    }
}

/// `--personality`: the execution domains of the OCI runtime specification (personality(2)).
pub fn personality(text: &str) -> Result<u32, Invalid> {
    match text {
        "LINUX" => Ok(0),
        "LINUX32" => Ok(8),
        _ => Err(Invalid::unknown("personality", text, &["LINUX", "LINUX32"])),
    }
}

/// `--device HOST[:CONTAINER][:PERMISSIONS]`.
pub fn device(text: &str, host: &Host) -> Result<Device, Invalid> {
    let is_permissions =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b"rwm".contains(&b)) && part.len() <= 3;
    let parts: Vec<&str> = text.split(':').collect();
    let (source, path, permissions) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, permissions] if is_permissions(permissions) => (source, source, permissions),
        [source, path] => (source, path, "rwm"),
        [source, path, permissions] if is_permissions(permissions) => (source, path, permissions),
        _ => return Err(Invalid::new("expected HOST_PATH[:CONTAINER_PATH][:rwm]")),
    };
    if !permissions.contains('r') || !permissions.contains('w') {
        return Err(Invalid::new(format!("permissions '{permissions}' cannot be enforced without root"))
            .fix("leave them out: the device file's own mode and owner decide"));
    }
    for path in [source, path] {
        if !path.starts_with('/') {
            return Err(Invalid::new(format!("'{path}' is not an absolute path")));
        }
    }
    if path.trim_end_matches('/').is_empty() || path.split('/').any(|part| part == "..") {
        return Err(Invalid::new(format!("'{path}' is no place for a device")));
    }
    let source = host.cwd.join(source);
    if let Err(error) = std::fs::metadata(&source) {
        return Err(Invalid::new(format!("cannot use the device {}: {error}", source.display()))
            .fix("check the path on the host"));
    }
    Ok(Device { host: source, path: path.to_owned() })
}

/// `--expose PORT[-PORT][/PROTOCOL]`: each port with its protocol.
pub fn expose(text: &str) -> Result<Vec<String>, Invalid> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let invalid = || Invalid::new("expected PORT[-PORT][/tcp|udp|sctp], as in 8080 or 5000-5010/udp");
    if !["tcp", "udp", "sctp"].contains(&protocol) {
        return Err(invalid());
    }
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(invalid);
    match (port(first)?, port(last)?) {
        (first, last) if first <= last => {
            Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
        }
        _ => Err(Invalid::new("the first port is above the last")),
    }
}

/// `--image-volume`.
pub fn image_volumes(text: &str) -> Result<ImageVolumes, Invalid> {
    match text {
        "anonymous" | "bind" => Ok(ImageVolumes::Anonymous),
        "tmpfs" => Ok(ImageVolumes::Tmpfs),
        "ignore" => Ok(ImageVolumes::Ignore),
        _ => Err(Invalid::unknown("kind of image volumes", text, &["anonymous", "tmpfs", "ignore"])),
    }
}

/// `--systemd`.
pub fn systemd(text: &str) -> Result<SystemdMode, Invalid> {
    match text {
        "always" => Ok(SystemdMode::Always),
        _ => match super::boolean(text) {
            Ok(true) => Ok(SystemdMode::Auto),
            Ok(false) => Ok(SystemdMode::Never),
            Err(_) => Err(Invalid::new("expected true, false or always")),
        },
    }
}

/// `--volumes-from CONTAINER[:OPTIONS]`.
pub fn volumes_from(text: &str) -> Result<VolumesFrom, Invalid> {
    let (container, options) = text.split_once(':').unwrap_or((text, ""));
    if container.is_empty() {
        return Err(Invalid::new("name a container, as in web or web:ro"));
    }
    let mut read_only = None;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = Some(true),
            "rw" => read_only = Some(false),
            // The volumes have the labels that their container gave them.
            "z" => {}
            _ => return Err(Invalid::unknown("option", option, &["ro", "rw", "z"])),
        }
    }
    Ok(VolumesFrom { container: container.to_owned(), read_only, text: text.to_owned() })
}

/// `--tz`.
pub fn timezone(text: &str) -> Result<String, Invalid> {
    let wrong = text.starts_with('/') || text.split('/').any(|part| part.is_empty() || part.starts_with('.'));
    if wrong {
        Err(Invalid::new("expected 'local' or a zone such as Europe/Paris"))
    } else {
        Ok(text.to_owned())
    }
}

/// `--passwd-entry`, `--group-entry`: one line.
pub fn entry(text: &str) -> Result<String, Invalid> {
    match text.trim_end_matches('\n') {
        line if line.contains(':') && !line.contains(['\n', '\r', '\0']) => Ok(line.to_owned()),
        _ => Err(Invalid::new("expected one line with fields between colons (passwd(5), group(5))")),
    }
}

/// The operand of `--rootfs`: `PATH[:O]`.
pub fn rootfs(text: &str, host: &Host) -> Result<Rootfs, Invalid> {
    let (path, overlay) = match text.rsplit_once(':') {
        Some((path, "O")) => (path, true),
        Some((_, options)) if options == "idmap" || options.starts_with("idmap=") => {
            return Err(Invalid::new(
                "idmap is not for ordinary users: the kernel wants root for id-mapped mounts",
            )
            .fix("run 'coracle unshare chown' on a copy of the folder"));
        }
        _ => (text, false),
    };
    let absolute = host.cwd.join(path);
    match absolute.is_dir() {
        true => Ok(Rootfs { path: absolute, overlay }),
        false => Err(Invalid::new(format!("{path} is no folder")).fix("name an unpacked root file system")),
    }
}

/// `--timeout`: seconds.
pub fn timeout(text: &str) -> Result<u32, Invalid> {
    number(text)
}

/// `--domainname`.
pub fn domainname(text: &str) -> Result<String, Invalid> {
    let valid = text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    match valid {
        true => Ok(text.to_owned()),
        false => Err(Invalid::new("a domain name is at most 64 letters, digits, dots and dashes")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_host;
    use super::*;

    #[test]
    fn devices_have_a_place_and_permissions() {
        let host = test_host();
        let parsed = |text: &str| device(text, &host).map(|d| (d.host.display().to_string(), d.path));
        let pair = |a: &str, b: &str| Ok((a.to_owned(), b.to_owned()));
        assert_eq!(parsed("/dev/null"), pair("/dev/null", "/dev/null"));
        assert_eq!(parsed("/dev/null:rwm"), pair("/dev/null", "/dev/null"));
        assert_eq!(parsed("/dev/null:/dev/x"), pair("/dev/null", "/dev/x"));
        assert_eq!(parsed("/dev/null:/dev/x:rw"), pair("/dev/null", "/dev/x"));
        for bad in
            ["/dev/null:/dev/x:r", "/dev/null:x", "/dev/none", "/dev/null:/a:b:c", "/dev/null:/", "null"]
        {
            assert!(device(bad, &host).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_are_numbers_with_a_protocol() {
        assert_eq!(expose("80").unwrap(), ["80/tcp"]);
        assert_eq!(expose("5000-5002/udp").unwrap(), ["5000/udp", "5001/udp", "5002/udp"]);
        for bad in ["", "0", "70000", "80/icmp", "9-8", "a"] {
            assert!(expose(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn small_values_are_checked() {
        assert_eq!((umask("0027"), personality("LINUX32")), (Ok(0o27), Ok(8)));
        assert_eq!((oom_score_adj("-1000"), systemd("always")), (Ok(-1000), Ok(SystemdMode::Always)));
        assert!(umask("8").is_err() && umask("1777").is_err() && personality("BSD").is_err());
        assert!(oom_score_adj("1001").is_err() && systemd("maybe").is_err());
        for bad in ["../x", "/etc/passwd", "Europe/../x", "", "a//b"] {
            assert!(timezone(bad).is_err(), "{bad}");
        }
        assert_eq!(timezone("Europe/Paris").as_deref(), Ok("Europe/Paris"));
        assert!(entry("a:b\nc:d").is_err() && entry("x").is_err() && entry("$UID:x\n").is_ok());
        assert_eq!(volumes_from("web:ro,z").unwrap().read_only, Some(true));
        assert!(volumes_from(":ro").is_err() && volumes_from("web:no").is_err());
        let host = Host { cwd: "/".into(), ..test_host() };
        assert_eq!(rootfs("tmp:O", &host), Ok(Rootfs { path: "/tmp".into(), overlay: true }));
        assert!(rootfs("/tmp:idmap", &host).is_err() && rootfs("/no/such", &host).is_err());
    }
}
