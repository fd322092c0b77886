//! What a container should not be able to do, tried.

use crate::sys;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

const CORE_PATTERN: &str = "/proc/sys/kernel/core_pattern";

/// What is tried, by what call, and how it ended. The one that changes this process comes last.
pub fn all() -> [(&'static str, &'static str, String); 10] {
    [
        ("mount a file system", "mount(2)", end(sys::mount_tmpfs(c"/mnt"))),
        ("change the host name", "sethostname(2)", end(rename_host())),
        ("make a disk device", "mknod(2)", end(make_disk())),
        ("load a kernel module", "init_module(2)", end(sys::offer_module())),
        ("reboot the machine", "reboot(2)", end(sys::ask_to_reboot())),
        ("watch the network", "socket(2), AF_PACKET", end(sys::open_packet_socket().map(drop))),
        ("read the kernel's log", "syslog(2)", end(sys::ask_for_kernel_log())),
        ("read the kernel's memory", "/proc/kcore", read_memory()),
        ("change a kernel setting", CORE_PATTERN, end(open_setting())),
        ("make a namespace", "unshare(2)", end(sys::unshare_host_name())),
    ]
}

fn rename_host() -> io::Result<()> {
    sys::set_host_name(fs::read_to_string("/proc/sys/kernel/hostname")?.trim_end())
}

fn make_disk() -> io::Result<()> {
    sys::make_disk(c"/disk").and_then(|()| fs::remove_file("/disk"))
}

fn open_setting() -> io::Result<()> {
    File::options().write(true).open(CORE_PATTERN).map(drop)
}

fn read_memory() -> String {
    const DEV_NULL: u64 = 1 << 8 | 3;
    match fs::metadata("/proc/kcore") {
        Ok(m) if m.file_type().is_char_device() && m.rdev() == DEV_NULL => "masked by /dev/null".to_owned(),
        _ => end(File::open("/proc/kcore").map(drop)),
    }
}

fn end(result: io::Result<()>) -> String {
    match result {
        Ok(()) => "allowed".to_owned(),
        Err(e) => format!("refused ({})", reason(&e)),
    }
}

/// The kernel's reason, by its name in errno(3) where it is one that a container meets.
pub fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(1) => "EPERM".to_owned(),
        Some(2) => "ENOENT".to_owned(),
        Some(13) => "EACCES".to_owned(),
        Some(30) => "EROFS".to_owned(),
        Some(38) => "ENOSYS".to_owned(),
        _ => error.to_string(),
    }
}
