//! Words, numbers and names.

use super::{Invalid, nearest};
use crate::cli::image_options::PullPolicy;
use crate::container::request::{Joined, LogDriver, LogOptions, NetworkMode, Rlimit};
use crate::network::Mac;
use crate::sandbox::signal_number;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A truth value as Go's `strconv.ParseBool` takes it.
pub fn boolean(text: &str) -> Result<bool, Invalid> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Invalid::new("expected true or false")),
    }
}

/// A count.
pub fn number<T: std::str::FromStr>(text: &str) -> Result<T, Invalid> {
    text.parse().map_err(|_| Invalid::new("expected a whole number that is not negative"))
}

/// Any text but the empty one.
pub fn nonempty(text: &str) -> Result<String, Invalid> {
    if text.is_empty() { Err(Invalid::new("it is empty")) } else { Ok(text.to_owned()) }
}

/// A size as docker takes it (go-units' `RAMInBytes`): `64m`, `1.5g`, `64MiB`, `4096`; a k is 1024.
pub fn bytes(text: &str) -> Result<u64, Invalid> {
    let invalid = || Invalid::new("expected a size such as 65536, 64k, 64m or 1.5g");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start().to_ascii_lowercase();
    let letter = unit.chars().next().and_then(|letter| "kmgtp".find(letter));
    let shift = letter.map_or(0, |place| 10 * (place + 1));
    match (letter, &unit[usize::from(letter.is_some())..]) {
        (_, "" | "b") | (Some(_), "ib") => {}
        _ => return Err(invalid()),
    }
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 9 || fraction.contains('.') || number.ends_with('.') {
        return Err(invalid());
    }
    let whole: u64 = whole.parse().map_err(|_| invalid())?;
    let scale = 10u128.pow(u32::try_from(fraction.len()).map_err(|_| invalid())?);
    let fraction: u128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| invalid())? };
    let total = (u128::from(whole) << shift) + (fraction << shift) / scale;
    u64::try_from(total).map_err(|_| Invalid::new("that is more than any machine has"))
}

/// A signal, by number or by name with or without `SIG`, real-time ones as `RTMIN+3` (signal(7)).
pub fn signal(text: &str) -> Result<i32, Invalid> {
    if let Some(number) = signal_number(text) {
        return Ok(number);
    }
    if text.parse::<i64>().is_ok() {
        return Err(Invalid::new("signals are numbered from 1 to 64"));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let names: Vec<&str> = nix::sys::signal::Signal::iterator().map(|s| &s.as_str()[3..]).collect();
    let wrong = Invalid::new(format!("unknown signal '{text}'"));
    Err(match nearest(name, names.into_iter()) {
        Some(near) => wrong.fix(format!("did you mean '{near}'?")),
        None => wrong.fix("'kill -l' lists the signals' names"),
    })
}

/// Seconds before a stop becomes a kill; -1 is "for ever" (docker), kept as the largest number.
pub fn stop_timeout(text: &str) -> Result<u32, Invalid> {
    match text {
        "-1" => Ok(u32::MAX),
        _ => text.parse().map_err(|_| Invalid::new("expected seconds, or -1 to wait for ever")),
    }
}

/// Detach keys: single characters and `ctrl-x`, separated by commas, as the bytes that a terminal sends for
/// them. Empty: there is no way to detach.
pub fn detach_keys(text: &str) -> Result<Vec<u8>, Invalid> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.split(',')
        .map(|key| match (key.as_bytes(), key.strip_prefix("ctrl-").map(str::as_bytes)) {
            ([byte], _) if byte.is_ascii_graphic() => Ok(*byte),
            (_, Some([c])) if c.is_ascii_alphabetic() || b"@[\\]^_".contains(c) => {
                Ok(c.to_ascii_uppercase() & 0x1f)
            }
            _ => Err(Invalid::new(format!("unknown key '{key}'"))
                .fix("separate keys by commas; each is one character or ctrl- and one of a-z @ [ \\ ] ^ _")),
        })
        .collect()
}

const RLIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `nofile=1024:2048`, or one number for both.
pub fn ulimit(text: &str) -> Result<Rlimit, Invalid> {
    let (name, limits) = text
        .split_once('=')
        .ok_or_else(|| Invalid::new("expected NAME=SOFT[:HARD], as in nofile=1024:2048"))?;
    if !RLIMITS.contains(&name) {
        return Err(Invalid::unknown("limit", name, &RLIMITS));
    }
    let limit = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        _ => number(text),
    };
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let (soft, hard) = (limit(soft)?, limit(hard)?);
    if soft > hard {
        return Err(Invalid::new("the soft limit is above the hard limit"));
    }
    Ok(Rlimit { name: name.to_owned(), soft, hard })
}

/// A name of a container or a volume.
pub fn name(text: &str) -> Result<String, Invalid> {
    let valid = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.len() <= 255
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    match valid {
        true => Ok(text.to_owned()),
        false => Err(Invalid::new("names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*")),
    }
}

/// A host name: at most 64 letters, digits, dots, dashes and underscores (hostname(7), sethostname(2)).
pub fn hostname(text: &str) -> Result<String, Invalid> {
    let valid = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    match valid {
        true => Ok(text.to_owned()),
        false => Err(Invalid::new("a host name is 1 to 64 letters, digits, dots and dashes")),
    }
}

/// `user[:group]`, names or numbers.
pub fn user(text: &str) -> Result<String, Invalid> {
    let (user, group) = text.split_once(':').map_or((text, None), |(u, g)| (u, Some(g)));
    let wrong = |part: &str| part.contains(|c: char| c.is_control() || c == ':');
    if wrong(user) || group.is_some_and(|group| group.is_empty() || wrong(group)) {
        return Err(Invalid::new("expected USER[:GROUP], names or numbers"));
    }
    // docker: an empty user is root, ":group" is root in that group.
    Ok(if user.is_empty() { format!("0{text}") } else { text.to_owned() })
}

/// An absolute path in the container.
pub fn workdir(text: &str) -> Result<String, Invalid> {
    if text.starts_with('/') {
        Ok(text.to_owned())
    } else {
        Err(Invalid::new("the working directory needs to be an absolute path"))
    }
}

/// `--entrypoint`: a JSON array of words or one word; empty clears the image's.
pub fn entrypoint(text: &str) -> Vec<String> {
    match serde_json::from_str::<Vec<String>>(text) {
        Ok(words) => words,
        Err(_) if text.is_empty() => Vec::new(),
        Err(_) => vec![text.to_owned()],
    }
}

/// `--network`.
pub fn network(text: &str) -> Result<NetworkMode, Invalid> {
    match text {
        "" | "default" | "bridge" => Ok(NetworkMode::Default),
        "none" => Ok(NetworkMode::None),
        "host" => Ok(NetworkMode::Host),
        _ if text.strip_prefix("container:").is_some_and(|name| !name.is_empty()) => {
            Ok(NetworkMode::Container(text["container:".len()..].to_owned()))
        }
        _ => Ok(NetworkMode::Named(vec![named_network(text)?])),
    }
}

/// `NAME[:ip=ADDRESS,alias=NAME…]`.
fn named_network(text: &str) -> Result<Joined, Invalid> {
    let (name, options) = text.split_once(':').unwrap_or((text, ""));
    if matches!(name, "container" | "ns" | "private" | "slirp4netns" | "pasta") {
        return Err(Invalid::new(format!("--network {name} is not supported"))
            .fix("use bridge, none, host, or a network that 'coracle network create' has made"));
    }
    let mut joined = Joined { network: name.to_owned(), ..Joined::default() };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            // podman has one word for both.
            Some(("ip", address)) if !address.contains(':') => joined.ip = Some(ipv4(address)?),
            Some(("ip" | "ip6", address)) => joined.ip6 = Some(ipv6(address)?),
            Some(("alias", alias)) => joined.aliases.push(alias.to_owned()),
            Some(("mac", mac)) => joined.mac = Some(self::mac(mac)?),
            Some(("interface_name", name)) => joined.interface = Some(interface_name(name)?),
            _ => {
                let key = option.split_once('=').map_or(option, |(key, _)| key);
                return Err(Invalid::unknown(
                    "option of a network",
                    key,
                    &["ip", "ip6", "alias", "mac", "interface_name"],
                ));
            }
        }
    }
    Ok(joined)
}

/// `--mac-address`.
pub fn mac(text: &str) -> Result<Mac, Invalid> {
    let octets: Vec<_> = text
        .split([':', '-'])
        .filter(|octet| octet.len() == 2)
        .filter_map(|octet| u8::from_str_radix(octet, 16).ok())
        .collect();
    match Mac::try_from(octets) {
        // The lowest bit of the first octet is that of groups.
        Ok(mac) if mac[0] & 1 == 0 && text.len() == 17 => Ok(mac),
        _ => Err(Invalid::new(format!("'{text}' is not a hardware address of one machine"))
            .fix("write it as in 02:42:0a:59:00:07")),
    }
}

/// The name of an interface (netdevice(7): 15 bytes, no slash, no blank).
fn interface_name(text: &str) -> Result<String, Invalid> {
    let is_name = !text.is_empty()
        && text.len() < 16
        && !matches!(text, "." | ".." | "lo")
        && text.bytes().all(|b| b.is_ascii_graphic() && !b"/:%".contains(&b));
    is_name
        .then(|| text.to_owned())
        .ok_or_else(|| Invalid::new(format!("'{text}' cannot be an interface's name")))
}

/// `--ip`.
pub fn ipv4(text: &str) -> Result<std::net::Ipv4Addr, Invalid> {
    text.parse().map_err(|_| Invalid::new(format!("'{text}' is not an IPv4 address")))
}

/// `--ip6`.
pub fn ipv6(text: &str) -> Result<std::net::Ipv6Addr, Invalid> {
    text.parse().map_err(|_| Invalid::new(format!("'{text}' is not an IPv6 address")))
}

/// `--add-host NAME:IP`, or with `=`; IPv6 addresses with or without brackets.
pub fn add_host(text: &str) -> Result<(String, String), Invalid> {
    let (name, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .ok_or_else(|| Invalid::new("expected NAME:IP"))?;
    if address == "host-gateway" {
        return Ok((hostname(name)?, address.to_owned()));
    }
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    let address: IpAddr =
        bare.parse().map_err(|_| Invalid::new(format!("'{address}' is not an IP address")))?;
    Ok((hostname(name)?, address.to_string()))
}

/// An address of a name server.
pub fn dns_server(text: &str) -> Result<String, Invalid> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(Invalid::new("expected an IP address")),
    }
}

/// `--log-driver`.
pub fn log_driver(text: &str) -> Result<LogDriver, Invalid> {
    match text {
        // As podman: docker's default name means our own default.
        "k8s-file" | "json-file" => Ok(LogDriver::K8sFile),
        "none" => Ok(LogDriver::None),
        "journald" | "syslog" | "local" | "passthrough" | "fluentd" | "gelf" | "awslogs" | "splunk" => {
            Err(Invalid::new("this log driver is not supported yet").fix("use k8s-file or none"))
        }
        _ => Err(Invalid::unknown("log driver", text, &["k8s-file", "json-file", "none"])),
    }
}

/// `--log-opt`: applies one option.
pub fn log_opt(text: &str, to: &mut LogOptions) -> Result<(), Invalid> {
    match text.split_once('=') {
        Some(("max-size", "-1")) => to.max_size = u64::MAX,
        Some(("max-size", size)) => match bytes(size)? {
            0 => return Err(Invalid::new("the size must be greater than zero, or -1 for no limit")),
            size => to.max_size = size,
        },
        Some(("max-file", count)) => match number(count)? {
            0 => return Err(Invalid::new("at least one file is kept")),
            count => to.max_file = count,
        },
        Some((key @ ("path" | "tag" | "labels" | "env" | "compress" | "mode"), _)) => {
            return Err(Invalid::new(format!("log option '{key}' is not supported yet")));
        }
        Some((key, _)) => return Err(Invalid::unknown("log option", key, &["max-size", "max-file"])),
        None => return Err(Invalid::new("expected KEY=VALUE")),
    }
    Ok(())
}

/// `OS[/ARCH[/VARIANT]]`.
pub fn platform(text: &str) -> Result<String, Invalid> {
    let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    match text.split('/').count() <= 3 && text.split('/').all(word) {
        true => Ok(text.to_owned()),
        false => Err(Invalid::new("expected OS[/ARCH[/VARIANT]], as in linux/arm64")),
    }
}

/// `--pull` of `run` and `create`, `--policy` of `pull`; the truth values are podman's older form.
pub fn pull_policy(text: &str) -> Result<PullPolicy, Invalid> {
    match text {
        "always" | "true" => Ok(PullPolicy::Always),
        "missing" | "false" => Ok(PullPolicy::Missing),
        "never" => Ok(PullPolicy::Never),
        "newer" => Ok(PullPolicy::Newer),
        _ => Err(Invalid::unknown("pull policy", text, &["always", "missing", "never", "newer"])),
    }
}

/// `USER:PASSWORD`.
pub fn credentials(text: &str) -> Result<(String, String), Invalid> {
    match text.split_once(':') {
        Some((user, password)) if !user.is_empty() => Ok((user.to_owned(), password.to_owned())),
        _ => Err(Invalid::new("expected USER:PASSWORD")),
    }
}

/// Whether labels have what `--filter label=` is given: `KEY`, or `KEY=VALUE`.
pub fn has_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
        None => labels.contains_key(wanted),
    }
}

/// `--filter KEY=VALUE`, with one of the keys that the listing knows; `label!=x` has the key `label!`.
pub fn filter(text: &str, known: &[&str]) -> Result<(String, String), Invalid> {
    let (key, value) = text.split_once('=').ok_or_else(|| Invalid::new("expected KEY=VALUE"))?;
    let key = key.trim().to_ascii_lowercase();
    if known.contains(&key.as_str()) {
        Ok((key, value.trim().to_owned()))
    } else {
        Err(Invalid::unknown("filter", &key, known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_dockers() {
        let table = [
            ("0", 0),
            ("4096", 4096),
            ("64m", 64 << 20),
            ("64M", 64 << 20),
            ("64MB", 64 << 20),
            ("64MiB", 64 << 20),
            ("64 kb", 64 << 10),
            ("1.5g", 3 << 29),
            ("32b", 32),
            ("1t", 1 << 40),
        ];
        for (text, size) in table {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for bad in ["", "m", "-1", "1.2.3", "1x", "1mm", "1ii", "1bb", ".5", "1.", "99999999999p", "1 e 3"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in
            [("9", 9), ("KILL", 9), ("sigterm", 15), ("SIGRTMIN", 34), ("rtmin+3", 37), ("SIGRTMAX-1", 63)]
        {
            assert_eq!(signal(text), Ok(number), "{text}");
        }
        for bad in ["0", "65", "-9", "", "SIG", "RTMIN+99", "RTMAX--5"] {
            assert!(signal(bad).is_err(), "{bad}");
        }
        assert_eq!(signal("TREM").unwrap_err().fix.unwrap(), "did you mean 'TERM'?");
    }

    #[test]
    fn detach_keys_are_the_bytes_of_the_terminal() {
        assert_eq!(detach_keys("ctrl-p,ctrl-q"), Ok(vec![0x10, 0x11]));
        assert_eq!(detach_keys("ctrl-@,a,ctrl-["), Ok(vec![0, b'a', 0x1b]));
        assert_eq!(detach_keys(""), Ok(vec![]));
        for bad in ["ctrl-", "ctrl-pp", "ab", "a,,b", "ctrl-1"] {
            assert!(detach_keys(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ulimits_name_a_limit_and_one_or_two_numbers() {
        let limit = |name: &str, soft, hard| Ok(Rlimit { name: name.into(), soft, hard });
        assert_eq!(ulimit("nofile=1024:2048"), limit("nofile", 1024, 2048));
        assert_eq!(ulimit("nproc=7"), limit("nproc", 7, 7));
        assert_eq!(ulimit("core=0:-1"), limit("core", 0, u64::MAX));
        for bad in ["nofile", "nofile=", "nofile=2:1", "nofile=-1:5", "host", "files=1"] {
            assert!(ulimit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_and_host_names_are_checked() {
        for good in ["a", "web-1", "A.b_c"] {
            assert!(name(good).is_ok() && hostname(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a b", "a/b", ".a", "ä"] {
            assert!(name(bad).is_err() && hostname(bad).is_err(), "{bad}");
        }
        assert!(hostname(&"h".repeat(65)).is_err());
    }

    #[test]
    fn an_entrypoint_is_a_list_or_one_word() {
        assert_eq!(entrypoint(r#"["sh", "-c"]"#), ["sh", "-c"]);
        assert_eq!(entrypoint("/bin/sh -c"), ["/bin/sh -c"]);
        assert!(entrypoint("").is_empty() && entrypoint("[]").is_empty());
    }

    #[test]
    fn hosts_take_both_separators_and_both_families() {
        let host = |name: &str, ip: &str| Ok((name.to_owned(), ip.to_owned()));
        assert_eq!(add_host("db:10.0.0.1"), host("db", "10.0.0.1"));
        assert_eq!(add_host("db=10.0.0.1"), host("db", "10.0.0.1"));
        assert_eq!(add_host("db:::1"), host("db", "::1"));
        assert_eq!(add_host("db:[fe80::1]"), host("db", "fe80::1"));
        assert_eq!(add_host("db:host-gateway"), host("db", "host-gateway"));
        for bad in ["db", "db:", ":1.2.3.4", "db:1.2.3"] {
            assert!(add_host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn log_options_are_applied_or_refused() {
        let mut options = LogOptions::default();
        log_opt("max-size=10m", &mut options).unwrap();
        log_opt("max-file=5", &mut options).unwrap();
        assert_eq!((options.max_size, options.max_file), (10 << 20, 5));
        log_opt("max-size=-1", &mut options).unwrap();
        assert_eq!(options.max_size, u64::MAX);
        for bad in ["max-size", "max-size=0", "max-file=0", "tag=x", "maxsize=1m"] {
            assert!(log_opt(bad, &mut options).is_err(), "{bad}");
        }
    }

    #[test]
    fn users_may_be_empty_for_root() {
        assert_eq!(user("1000:1000").as_deref(), Ok("1000:1000"));
        assert_eq!(user(":wheel").as_deref(), Ok("0:wheel"));
        for bad in ["a:", "a:b:c", "a\nb"] {
            assert!(user(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_filter_is_one_that_the_listing_knows() {
        assert_eq!(filter("label=a=b", &["label"]), Ok(("label".into(), "a=b".into())));
        assert_eq!(filter("lable=a", &["label"]).unwrap_err().fix.unwrap(), "did you mean 'label'?");
        assert!(filter("label", &["label"]).is_err());
    }
}
