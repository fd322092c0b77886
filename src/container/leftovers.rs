//! The end of a container without a pid namespace of its own.
//!
//! Where the container's first process is process 1 of a namespace, the kernel ends all others with it. With `--pid host` or
//! `container:X` nobody does. They can be told by their mount namespace, which is the container's alone and which they
//! cannot leave: its file is held open from the start, so that its number cannot be another's later.

use super::Error;
use crate::kernel::process::Child;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

/// A container's mount namespace.
pub(super) struct MountNamespace(File);

impl MountNamespace {
    /// Of a living child.
    pub(super) fn of(child: &Child) -> Result<Self, Error> {
        File::open(format!("/proc/{}/ns/mnt", child.pid))
            .map(Self)
            .map_err(Error::io("look at the container"))
    }

    /// Kills every process in it, and those that they have started meanwhile.
    pub(super) fn end(&self) {
        let Ok(own) = self.0.metadata().map(|m| (m.dev(), m.ino())) else { return };
        // Bounded: what is in uninterruptible sleep dies when it wakes up.
        for _ in 0..100 {
            let mut found = false;
            for pid in pids() {
                let in_it =
                    || fs::metadata(format!("/proc/{pid}/ns/mnt")).is_ok_and(|m| (m.dev(), m.ino()) == own);
                if !in_it() {
                    continue;
                }
                let process = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
                // Only now does the number stay this process's.
                if let Some(process) = process
                    && in_it()
                {
                    found |= pidfd_send_signal(&process, Signal::KILL).is_ok();
                }
            }
            if !found {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
