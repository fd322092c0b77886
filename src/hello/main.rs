//! The program of the image that is embedded in coracle: `coracle run hello`.
//!
//! It is the first process of a container and tells what it finds: who it is, what its root is made of, and what
//! it may not do. Nothing is taken for granted: each line is read from the kernel (/proc), from the image's layers,
//! or from a call that was just tried. The calls are chosen so that they do no harm where they succeed, as they
//! may in a container that was given more than the default.
//!
//! A program of its own, without dependencies: `build/hello.rs` compiles it, `src/image/embedded.rs` makes the
//! image around it. Every layer has a file `/.layers/NUMBER-NAME` that lists what the layer brings.

mod attempts;
mod facts;
mod page;
#[allow(unsafe_code)]
mod sys;

use facts::Mount;
use page::Page;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::ExitCode;

const MESSAGE: &str = "/etc/motd";
const NEW_FILE: &str = "/hello.txt";

fn main() -> ExitCode {
    let (own, shared) = namespaces();
    // Outside of a container what is tried below would not be harmless: with root's power it would succeed.
    if !["user", "mnt"].iter().all(|needed| own.iter().any(|name| name == needed)) {
        eprintln!(
            "hello tells about the container that it runs in, and it runs in none: try 'coracle run hello'"
        );
        return ExitCode::FAILURE;
    }
    let mut page = Page::new();
    let mounts = Mount::parse_all(&read("/proc/self/mountinfo"));
    let status = read("/proc/self/status");
    let message = Message::change();

    page.heading(&message.greeting());
    page.gap();
    page.fact("process", &process());
    page.fact("user", &user(&status, &mounts));
    page.fact("host name", read("/proc/sys/kernel/hostname").trim_end());
    page.fact("network", &network(own.iter().any(|n| n == "net")));
    page.fact("namespaces", &namespaces_text(&own, &shared));
    page.gap();
    root(&mut page, &mounts, &message);
    page.gap();

    page.heading("Tried just now, to see what it may not do");
    for (what, call, end) in attempts::all() {
        page.attempt(what, call, &end);
    }
    page.fact("capabilities", &capabilities(&status));
    page.fact("system calls", &filter(&status));
    page.gap();
    page.heading("Next");
    page.command("coracle run -it debian", "a shell in an image from a registry");
    page.command("coracle doctor", "what this machine allows, and what to do about it");

    // The reader may be gone already (`| head`): there is nobody to tell.
    let _ = io::stdout().write_all(page.finish().as_bytes());
    ExitCode::SUCCESS
}

/// A file's text; a file that cannot be read has none, and what it would tell is left out.
fn read(path: &str) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn names_in(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn process() -> String {
    let program = fs::read_link("/proc/self/exe").unwrap_or_default();
    let seen = names_in("/proc").iter().filter(|n| n.bytes().all(|b| b.is_ascii_digit())).count();
    let others = match seen.saturating_sub(1) {
        0 => "no other process is to be seen".to_owned(),
        n => format!("{n} more to be seen"),
    };
    format!("PID {}, {}; {others}", std::process::id(), program.display())
}

/// Who this is inside and on the host. In nested user namespaces the id map only leads to the next one outside; but
/// the options of a tmpfs tell its owner's id as the host has it, and stat(2) the same owner's id in here.
fn user(status: &str, mounts: &[Mount]) -> String {
    let uid = facts::status_field(status, "Uid").and_then(|f| f.split_whitespace().nth(1)?.parse().ok());
    let uid: u32 = uid.unwrap_or_default();
    let name = facts::user_name(&read("/etc/passwd"), uid).map_or(format!("uid {uid}"), str::to_owned);
    let (count, outside) = facts::id_map(&read("/proc/self/uid_map"));
    let on_host = mounts.iter().filter(|m| m.kind == "tmpfs").find_map(|mount| {
        let owner = fs::metadata(&mount.point).ok()?.uid();
        // The option is left out for the host's root.
        (owner == uid).then(|| mount.option("uid").unwrap_or("0").to_owned())
    });
    let ids = match count {
        1 => "the only id there is".to_owned(),
        n => format!("one of {n} ids"),
    };
    match (on_host, outside) {
        (Some(host), Some(outside)) if uid == 0 && host != outside.to_string() => format!(
            "{name} here, uid {host} on the host; {ids} in a user namespace that is nested in another, in which it \
             is {outside}"
        ),
        (Some(host), _) => format!("{name} here, uid {host} on the host; {ids} in its user namespace"),
        (None, Some(outside)) if uid == 0 => {
            format!("{name} here, uid {outside} in the user namespace outside; {ids} in its own")
        }
        _ => format!("{name}, {ids} in its user namespace"),
    }
}

/// The namespaces of this process that belong to its user namespace, and those that do not.
fn namespaces() -> (Vec<String>, Vec<String>) {
    const HOST_USER_NAMESPACE: u64 = 0xeffffffd;
    let ours = fs::metadata("/proc/self/ns/user").map(|m| m.ino()).unwrap_or(HOST_USER_NAMESPACE);
    let is_own = |name: &String| {
        let owner = || File::from(sys::owner_of(File::open(format!("/proc/self/ns/{name}"))?)?).metadata();
        match name.as_str() {
            "user" => ours != HOST_USER_NAMESPACE,
            _ => owner().is_ok_and(|m| m.ino() == ours),
        }
    };
    names_in("/proc/self/ns").into_iter().filter(|n| !n.ends_with("_for_children")).partition(is_own)
}

fn namespaces_text(own: &[String], shared: &[String]) -> String {
    match (own.join(" "), shared.join(" ")) {
        (own, shared) if shared.is_empty() => format!("{own}: all its own"),
        (own, shared) if own.is_empty() => format!("{shared}: all shared with the host"),
        (own, shared) => format!("{own} are its own; shared with the host: {shared}"),
    }
}

fn network(is_own: bool) -> String {
    let text = read("/proc/net/dev");
    let names = facts::interfaces(&text);
    match names.as_slice() {
        _ if !is_own => format!("the host's: {}", names.join(" ")),
        ["lo"] => "lo and nothing else: it cannot reach or be reached".to_owned(),
        _ => format!("{}, in a network of its own", names.join(" ")),
    }
}

/// The image's message, changed by this process to see the layers at work.
struct Message {
    text: String,
    written: io::Result<()>,
    /// Whether the page that was mapped before the write is still what it was.
    layer_is_untouched: bool,
}

impl Message {
    /// Turns the first full stop into an exclamation mark. A mapping made beforehand goes on showing the layer's
    /// file, since overlayfs copies the file up and writes to the copy.
    fn change() -> Self {
        let mut text = String::new();
        let mut layer_is_untouched = false;
        let written = File::open(MESSAGE).and_then(|mut file| {
            file.read_to_string(&mut text)?;
            fs::write(NEW_FILE, "written by a container\n")?;
            let Some(place) = text.find('.') else { return Ok(()) };
            let before = sys::Mapped::new(&file, place + 1)?;
            let copy = File::options().write(true).open(MESSAGE)?;
            copy.write_all_at(b"!", place as u64)?;
            layer_is_untouched = before.read().last() == Some(&b'.') && read(MESSAGE) != text;
            Ok(())
        });
        Self { text, written, layer_is_untouched }
    }

    fn greeting(&self) -> String {
        self.text.trim_end().to_owned()
    }

    fn remark(&self) -> String {
        match &self.written {
            Err(e) => format!("Writing to {MESSAGE} was refused ({}).", attempts::reason(e)),
            Ok(()) if self.layer_is_untouched => format!(
                "Copy on write, seen: the first '.' of {MESSAGE} was just made a '!'. The kernel copied the file \
                 to the top for that; below, as memory mapped before the write shows, it still is a '.'."
            ),
            Ok(()) => {
                format!("{MESSAGE} was changed; what a container has written it keeps until it is removed.")
            }
        }
    }
}

fn root(page: &mut Page, mounts: &[Mount], message: &Message) {
    let root = mounts.iter().rfind(|m| m.point == "/");
    let kind = root.map_or("file system", |m| m.kind.as_str());
    let names: Vec<_> = names_in("/.layers").into_iter().rev().collect();
    let mut lower = root.map(Mount::lower_folders).unwrap_or_default();
    // Without one folder for each layer it cannot be told whose is whose.
    if lower.len() != names.len() {
        lower.clear();
    }
    let is_writable = !root.is_some_and(|m| m.options.iter().any(|option| option == "ro"));
    page.heading(&match (kind, is_writable) {
        ("overlay", true) => {
            format!("Its root, an overlay: a writable layer on {} read-only ones", names.len())
        }
        ("overlay", false) => format!("Its root, an overlay: {} layers, mounted read-only", names.len()),
        (other, _) => format!("Its root, of type {other}, made of {} layers", names.len()),
    });
    let contents: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let content = read(&format!("/.layers/{name}")).split_whitespace().collect::<Vec<_>>().join(" ");
            let digest = lower.get(i).and_then(|folder| facts::digest_in(folder));
            let digest = digest.map(|d| format!("sha256:{d}")).unwrap_or_default();
            (name.replacen('-', " ", 1), content, digest)
        })
        .collect();
    let changes = match &message.written {
        Ok(()) => format!("{NEW_FILE} (new)  {MESSAGE} (changed)"),
        Err(_) => "empty".to_owned(),
    };
    let mut rows = Vec::new();
    if is_writable {
        rows.push(["writable", changes.as_str(), "this container's"]);
    }
    rows.extend(contents.iter().map(|(name, content, digest)| [name.as_str(), content, digest]));
    page.stack(&rows);
    page.remark(&message.remark());
}

fn capabilities(status: &str) -> String {
    let names = facts::capabilities(facts::status_field(status, "CapBnd").unwrap_or_default());
    let last: usize = read("/proc/sys/kernel/cap_last_cap").trim_end().parse().unwrap_or_default();
    match names.len() {
        0 => "none".to_owned(),
        n if n > last => format!("all {n}"),
        n => format!("{n} of {}: {}", last + 1, names.join(" ")),
    }
}

fn filter(status: &str) -> String {
    let seccomp = match facts::status_field(status, "Seccomp") {
        Some("2") => "filtered by seccomp",
        Some("0") => "not filtered",
        _ => "filter unknown",
    };
    let gain = match facts::status_field(status, "NoNewPrivs") {
        Some("1") => "no program can gain privileges (no_new_privs)",
        _ => "set-id programs work",
    };
    format!("{seccomp}; {gain}")
}
