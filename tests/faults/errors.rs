//! Each state-changing call of a command made to fail: the disk is full, no process can be made, the kernel refuses. The
//! command says so or does without, and leaves nothing half-made.

use crate::injector::{Action, Call, Fault};
use crate::kills::{SLEEP, check, nothing, sample, sleeper};
use crate::support::tiny;
use crate::world::World;
use nix::errno::Errno;

/// The same for what is not somebody else's: relative paths are those of a layer, or of the container's root.
pub fn own_failure(world: &World, call: &Call) -> Option<Errno> {
    failure(call).filter(|_| !call.path.starts_with('/') || world.is_ours(&call.path))
}

/// What this call can be expected to fail with; none for what cannot fail.
fn failure(call: &Call) -> Option<Errno> {
    match call.name {
        "open" | "openat" | "openat2" | "creat" | "mkdir" | "mkdirat" | "rename" | "renameat"
        | "renameat2" | "link" | "linkat" | "symlink" | "symlinkat" | "mknod" | "mknodat" | "ftruncate"
        | "fallocate" | "fsync" | "fdatasync" | "syncfs" | "copy_file_range" | "setxattr" | "fsetxattr" => {
            Some(Errno::ENOSPC)
        }
        // Pipes and sockets, of which /proc gives no path, and what is not ours fail otherwise.
        "write" | "writev" | "pwrite64" if call.path.starts_with('/') => Some(Errno::ENOSPC),
        "unlink" | "unlinkat" | "rmdir" | "fchmod" | "fchmodat" | "chmod" | "fchown" | "fchownat"
        | "lchown" => Some(Errno::EIO),
        "fork" | "clone3" => Some(Errno::EAGAIN),
        "unshare" | "setns" | "mount" | "move_mount" | "fsopen" | "fsmount" | "open_tree"
        | "mount_setattr" | "pivot_root" | "chroot" | "setresuid" | "setresgid" | "sethostname"
        | "seccomp" => Some(Errno::EPERM),
        "lock" => Some(Errno::ENOLCK),
        "bind" | "listen" => Some(Errno::EADDRINUSE),
        "socketpair" => Some(Errno::EMFILE),
        _ => None,
    }
}

fn matrix(world: World, args: &[&str], prepare: impl Fn(&World)) {
    prepare(&world);
    let (whole, output) = world.trace(args, Fault::None, None);
    assert_eq!(whole.code, 0, "{args:?}: {output}");
    world.must_be_sound(&whole.processes);
    let calls: Vec<Call> =
        whole.calls.into_iter().filter(|call| own_failure(&world, call).is_some()).collect();
    check(world, "failures", args, calls.len(), &sample(&calls), |world, call| {
        prepare(world);
        let errno = failure(call).unwrap();
        let (traced, output) = world.trace(args, Fault::At(&call.point, Action::Fail(errno)), None);
        assert!(!output.contains("panicked"), "{output}");
        assert!(
            traced.code == 0 || output.contains("Error: "),
            "{errno}: ended with {}, {output}",
            traced.code
        );
        world.must_be_sound(&traced.processes);
        traced.hit
    });
}

#[test]
fn run() {
    let image = tiny();
    let args = ["run", "--network", "none", "--name", "victim", "-v", "vol:/v", "-v", "/a", &image, "true"];
    matrix(world!(), &args, nothing);
}

#[test]
fn run_in_the_background() {
    let image = tiny();
    let args = ["run", "-d", "--rm", "--network", "none", "--name", "victim", &image, "sleep", "1000"];
    matrix(world!(), &args, nothing);
}

#[test]
fn start() {
    matrix(world!(), &["start", "victim"], |world| {
        world.engine.ok(&["create", "--network", "none", "--name", "victim", &tiny(), "sh", "-c", SLEEP]);
    });
}

#[test]
fn exec() {
    matrix(world!(), &["exec", "victim", "true"], sleeper);
}

#[test]
fn rm() {
    matrix(world!(), &["rm", "-f", "-t", "0", "victim"], sleeper);
}

#[test]
fn pull() {
    let world = world!();
    let other = world.other.clone();
    matrix(world, &["pull", "-q", &other], nothing);
}

#[test]
fn load() {
    let world = world!();
    let archive = world.archive.clone();
    matrix(world, &["load", "-q", "-i", &archive], nothing);
}

#[test]
fn rmi() {
    let world = world!();
    let other = world.other.clone();
    matrix(world, &["rmi", &other], |world| {
        world.engine.ok(&["pull", "-q", &world.other]);
    });
}

/// From some call on nothing can be written any more, until the command has ended.
#[test]
fn a_disk_that_fills_up_while_an_image_is_pulled() {
    let world = world!();
    let args = ["pull", "-q", &world.other.clone()];
    let (whole, output) = world.trace(&args, Fault::None, None);
    assert_eq!(whole.code, 0, "{output}");
    world.must_be_sound(&whole.processes);
    let writes = |world: &World, call: &Call| own_failure(world, call) == Some(Errno::ENOSPC);
    let calls: Vec<Call> = whole.calls.into_iter().filter(|call| writes(&world, call)).collect();
    check(world, "full disks", &args, calls.len(), &sample(&calls), |world, first| {
        let is_full = std::cell::Cell::new(false);
        let full = |call: &Call| {
            is_full.set(is_full.get() || call.point == first.point);
            is_full.get() && writes(world, call)
        };
        let (traced, output) = world.trace(&args, Fault::Each(&full, Errno::ENOSPC), None);
        assert!(!output.contains("panicked"), "{output}");
        assert!(traced.code == 0 || output.contains("fix: free some space"), "{}: {output}", traced.code);
        world.must_be_sound(&traced.processes);
        traced.hit
    });
}
