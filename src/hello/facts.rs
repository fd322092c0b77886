//! What this process can read about itself, mostly in /proc: pure readers of those files' texts.

/// One line of /proc/self/mountinfo, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub point: String,
    /// File system type.
    pub kind: String,
    /// Options of the mount and of the file system, in this order.
    pub options: Vec<String>,
}

impl Mount {
    /// Reads all lines; what is mounted over something comes after it.
    pub fn parse_all(mountinfo: &str) -> Vec<Self> {
        mountinfo.lines().filter_map(Self::parse).collect()
    }

    fn parse(line: &str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(4);
        let mut right = right.split(' ');
        let (point, own) = (unescape(left.next()?), left.next()?);
        let (kind, of_file_system) = (right.next()?.to_owned(), right.nth(1)?);
        let options = own.split(',').chain(of_file_system.split(',')).map(unescape).collect();
        Some(Self { point, kind, options })
    }

    /// The value of an option `name=value`.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find_map(|o| o.strip_prefix(name)?.strip_prefix('='))
    }

    /// The read-only folders of an overlay, top first. Newer kernels list them one by one.
    pub fn lower_folders(&self) -> Vec<&str> {
        let one_by_one: Vec<_> = self.options.iter().filter_map(|o| o.strip_prefix("lowerdir+=")).collect();
        if !one_by_one.is_empty() {
            return one_by_one;
        }
        let list = self.option("lowerdir").unwrap_or_default();
        // What follows `::` holds file contents only.
        list.split("::").next().unwrap_or_default().split(':').filter(|f| !f.is_empty()).collect()
    }
}

/// Undoes the kernel's `\040` for a blank and the like.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        let octal = (*byte == b'\\').then(|| tail.get(..3)).flatten();
        let code = octal.and_then(|o| u8::from_str_radix(std::str::from_utf8(o).ok()?, 8).ok());
        out.push(code.unwrap_or(*byte));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The digest that a path carries: the first twelve digits of a component of 64 hexadecimal ones.
pub fn digest_in(path: &str) -> Option<&str> {
    let is_digest = |c: &&str| c.len() == 64 && c.bytes().all(|b| b.is_ascii_hexdigit());
    path.split('/').find(is_digest).map(|c| &c[..12])
}

/// How many ids a uid_map maps, and the one outside that 0 is mapped to.
pub fn id_map(text: &str) -> (u64, Option<u64>) {
    let rows = text.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map_while(|n| n.parse::<u64>().ok());
        Some((numbers.next()?, numbers.next()?, numbers.next()?))
    });
    rows.fold((0, None), |(count, zero), (inside, outside, n)| {
        (count + n, if inside == 0 { Some(outside) } else { zero })
    })
}

/// A field of /proc/self/status.
pub fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// The interfaces of /proc/net/dev.
pub fn interfaces(net_dev: &str) -> Vec<&str> {
    net_dev.lines().skip(2).filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim()).collect()
}

/// The name of a user in the text of a passwd file.
pub fn user_name(passwd: &str, uid: u32) -> Option<&str> {
    let uid = uid.to_string();
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then_some(name)
    })
}

/// The names of the capabilities in a mask as /proc/self/status has it (linux/capability.h, in order).
pub fn capabilities(mask: &str) -> Vec<String> {
    let mask = u64::from_str_radix(mask, 16).unwrap_or_default();
    let name = |bit: usize| CAPABILITIES.split(' ').nth(bit).map_or_else(|| format!("#{bit}"), str::to_owned);
    (0..64).filter(|bit| mask >> bit & 1 == 1).map(name).collect()
}

const CAPABILITIES: &str = "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap \
    linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner \
    sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice \
    sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap \
    mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf \
    checkpoint_restore";

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: &str = r"100 99 0:50 / / rw,relatime - overlay overlay rw,lowerdir+=/a\040b/2/fs,lowerdir+=/l/1/fs,upperdir=/u,workdir=/w,userxattr";
    const OLD: &str = r"100 99 0:50 / / rw - overlay overlay rw,lowerdir=/l/2:/l/1::/data,upperdir=/u";

    #[test]
    fn an_overlay_tells_its_layers_top_first() {
        let mounts = Mount::parse_all(NEW);
        assert_eq!(mounts[0].lower_folders(), ["/a b/2/fs", "/l/1/fs"]);
        assert_eq!(mounts[0].option("upperdir"), Some("/u"));
        assert_eq!(Mount::parse_all(OLD)[0].lower_folders(), ["/l/2", "/l/1"]);
    }

    #[test]
    fn a_mount_that_is_no_overlay_has_no_layers() {
        let mounts =
            Mount::parse_all("1 0 0:5 / /dev rw,nosuid shared:1 - tmpfs tmpfs rw,size=4k,uid=1000\nbad\n");
        assert_eq!(mounts.len(), 1);
        assert_eq!((mounts[0].point.as_str(), mounts[0].kind.as_str()), ("/dev", "tmpfs"));
        assert_eq!(mounts[0].option("uid"), Some("1000"));
        assert!(mounts[0].lower_folders().is_empty());
    }

    #[test]
    fn a_map_tells_how_many_ids_there_are_and_what_zero_is() {
        assert_eq!(
            id_map("         0       1000          1\n         1     100000      65536\n"),
            (65537, Some(1000))
        );
        assert_eq!(id_map("1000 0 1\n"), (1, None));
        assert_eq!(id_map(""), (0, None));
    }

    #[test]
    fn only_a_whole_digest_counts() {
        let digest = "a".repeat(64);
        assert_eq!(digest_in(&format!("/x/layers/{digest}/fs")), Some("aaaaaaaaaaaa"));
        assert_eq!(digest_in("/x/layers/abc/fs"), None);
    }

    #[test]
    fn capabilities_have_names() {
        assert_eq!(capabilities("00000000a0000001"), ["chown", "audit_write", "setfcap"]);
        assert_eq!(capabilities("0000020000000000"), ["#41"]);
        assert!(capabilities("junk").is_empty());
    }

    #[test]
    fn interfaces_and_users_are_found_by_their_fields() {
        assert_eq!(interfaces("Inter-|\n face |\n    lo: 0 0\n  eth0:1 2\n"), ["lo", "eth0"]);
        assert_eq!(user_name("root:x:0:0::/:\nann:x:1000:1000::/:\n", 1000), Some("ann"));
        assert_eq!(status_field("Seccomp:\t2\nSeccomp_filters:\t1\n", "Seccomp"), Some("2"));
    }
}
