//! What is done to make a container's root, as a list of steps: pure, so that it can be tested and shown.

use super::spec::{Device, Owner};
use super::{Interface, Mount, Network, Spec};

/// One step. All paths are in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Mount a kernel file system.
    Filesystem {
        /// Which.
        kind: Kind,
        /// Where.
        at: &'static str,
    },
    /// Make /dev: a tmpfs with the standard nodes and links.
    Dev {
        /// Its /dev/shm.
        shm: Shm,
        /// Whether the message queues shown are the host's.
        host_queues: bool,
        /// Bind all of the host's devices, not only the standard ones.
        all_devices: bool,
    },
    /// Show the host's /proc.
    HostProc,
    /// Show the host's /sys, read-only.
    HostSys,
    /// Show the host's tree of cgroups, read-only.
    HostCgroups,
    /// Bind a device of the host, or all in a folder.
    Device(Device),
    /// Mount something that was asked for.
    Mount(Mount),
    /// Make the terminal and bind it to /dev/console.
    Console,
    /// Hide a path.
    Mask(String),
    /// Forbid writing to a path.
    ReadOnly(String),
    /// Make the working directory.
    WorkingDirectory(String),
    /// Forbid writing to the root.
    ReadOnlyRoot,
    /// Leave the host's root behind.
    Pivot,
    /// Set the host name.
    Hostname(String),
    /// Set the NIS domain name.
    Domainname(String),
    /// Set a kernel setting of the container's namespaces.
    Sysctl(String, String),
    /// Set the loopback interface up.
    Loopback,
    /// Once the container's interfaces are there: their addresses and routes.
    Interfaces(Vec<Interface>),
}

/// What /dev/shm is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shm {
    /// A tmpfs of its own, with so many bytes.
    Own(u64),
    /// The host's.
    Host,
    /// The other container's: the tree that [`super::Hooks`] brings.
    Joined,
    /// Not there.
    None,
}

/// A kernel file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// proc(5).
    Proc,
    /// sysfs(5), read-only.
    Sysfs,
    /// sysfs(5), writable (`--privileged`).
    SysfsWritable,
    /// cgroup v2, read-only, of the container's own cgroup namespace.
    Cgroup,
}

/// The steps for a container, in order.
pub fn plan(spec: &Spec, interfaces: &[Interface]) -> Vec<Step> {
    let shm = match spec.sharing.ipc {
        Owner::Own if spec.sharing.no_shm => Shm::None,
        Owner::Own => Shm::Own(spec.shm_size),
        Owner::Host => Shm::Host,
        Owner::Joined => Shm::Joined,
    };
    // Before anything is masked: the kernel gives no new procfs to who sees a part of one only.
    let sysctls = spec.sysctls.iter().map(|(name, value)| Step::Sysctl(name.clone(), value.clone()));
    let mut steps: Vec<Step> = sysctls.collect();
    // Without CAP_NET_RAW, root may ping all the same (icmp(7)); as podman has it.
    const PING: &str = "net.ipv4.ping_group_range";
    if !interfaces.is_empty() && !spec.sysctls.iter().any(|(name, _)| name == PING) {
        steps.push(Step::Sysctl(PING.to_owned(), "0 0".to_owned()));
    }
    steps.extend([
        match spec.sharing.pid {
            // A procfs can only be mounted by who owns the namespace of the processes that it shows.
            Owner::Host => Step::HostProc,
            Owner::Own | Owner::Joined => Step::Filesystem { kind: Kind::Proc, at: "/proc" },
        },
        Step::Dev { shm, host_queues: spec.sharing.ipc == Owner::Host, all_devices: spec.privileged },
    ]);
    steps.extend(spec.devices.iter().cloned().map(Step::Device));
    match spec.network {
        // A sysfs can only be mounted by who owns the network namespace that it shows.
        Network::Host => steps.push(Step::HostSys),
        Network::None | Network::Joined if spec.privileged => {
            steps.push(Step::Filesystem { kind: Kind::SysfsWritable, at: "/sys" });
        }
        Network::None | Network::Joined => steps.push(Step::Filesystem { kind: Kind::Sysfs, at: "/sys" }),
    }
    steps.push(match spec.host_cgroup_namespace {
        // A cgroup file system can only be mounted by who owns the cgroup namespace that it shows.
        true => Step::HostCgroups,
        false => Step::Filesystem { kind: Kind::Cgroup, at: "/sys/fs/cgroup" },
    });
    steps.extend(spec.mounts.iter().cloned().map(Step::Mount));
    if spec.process.terminal {
        steps.push(Step::Console);
    }
    steps.extend(spec.masked_paths.iter().cloned().map(Step::Mask));
    steps.extend(spec.read_only_paths.iter().cloned().map(Step::ReadOnly));
    steps.push(Step::WorkingDirectory(spec.process.cwd.clone()));
    if spec.read_only_root {
        steps.push(Step::ReadOnlyRoot);
    }
    steps.push(Step::Pivot);
    if spec.sharing.uts == Owner::Own {
        steps.push(Step::Hostname(spec.hostname.clone()));
        steps.extend(spec.domainname.iter().cloned().map(Step::Domainname));
    }
    if spec.network == Network::None {
        steps.push(match interfaces {
            [] => Step::Loopback,
            some => Step::Interfaces(some.to_vec()),
        });
    }
    steps
}
