//! Rows 3 and 9: what a container can uncover with all that it may do in its own mount namespace.

use crate::cell::{Cell, TINY};
use crate::support::image::{Image, Layer};

#[test]
fn without_cap_sys_admin_nothing_can_be_mounted_or_taken_off() {
    let cell = Cell::new();
    let script = "umount /proc/sys; umount -l /proc/kcore; umount /sys/firmware; umount -l /proc; mount -o remount,rw /sys; \
        mount -o remount,bind,rw /proc/sys; mount -t proc proc /tmp; mount -t tmpfs t /tmp; mount --bind / /tmp; \
        busybox unshare -Urm true && echo unshared; busybox chroot / mount -t tmpfs t /tmp; echo end";
    for flags in [&[][..], &["-u", "alice"], &["--cap-add", "NET_ADMIN"]] {
        let output = cell.run(TINY, flags, script);
        assert_eq!(output.stdout, "end\n", "{output}");
    }
}

/// With CAP_SYS_ADMIN a container may undo what was mounted in its own namespace, as with podman. What then comes to
/// light is the kernel's own guard: its root is nobody on the host.
#[test]
fn what_cap_sys_admin_can_uncover_still_belongs_to_the_hosts_root() {
    let cell = Cell::new();
    let script = "for p in /proc/kcore /proc/keys /proc/timer_list /proc/sys /proc/sysrq-trigger /sys/firmware /sys; do \
          umount -l $p; done 2>/dev/null; \
        mount -t sysfs s /sys; mount -o remount,rw /proc; mount -o remount,bind,rw /proc/sys; \
        head -c 1 /proc/kcore; echo h >/proc/sysrq-trigger && echo sysrq; \
        echo '|/x' >/proc/sys/kernel/core_pattern && echo core_pattern; \
        echo 1 >/proc/sys/kernel/panic && echo panic; echo 1 >/proc/sys/vm/drop_caches && echo drop_caches; \
        echo x >/sys/kernel/uevent_helper && echo uevent; echo x >/sys/power/state && echo power; echo end";
    for flags in [&["--cap-add", "SYS_ADMIN"][..], &["--cap-add", "ALL"], &["--privileged"]] {
        let output = cell.run(TINY, flags, script);
        assert_eq!(output.stdout, "end\n", "{output}");
    }
}

#[test]
fn below_the_mounts_of_a_container_there_is_nothing_of_the_host() {
    let cell = Cell::new();
    let before = cell.attack(&[], "mounts");
    assert!(before.contains(&"root entry bin".to_owned()), "{before:?}");
    for flags in [&["--privileged"][..], &["--cap-add", "SYS_ADMIN"]] {
        let found = cell.attack(flags, "mounts");
        for line in found {
            assert!(line.starts_with("root mode") || before.contains(&line), "{line} has come to light");
        }
    }
    cell.host_is_as_it_was();
}

#[test]
fn a_proc_that_is_a_link_does_not_leave_an_unmasked_one_behind() {
    let cell = Cell::new();
    for (index, target) in ["tmp", "dev/shm", "sys", "data", "run/proc"].iter().enumerate() {
        let name = format!("cell.test/proc:{index}");
        let layers = vec![Layer::new().file(".wh.proc", b"", 0o644), Layer::new().symlink("proc", target)];
        cell.load(&name, &Image::tiny_with(layers));
        let script = "for d in /proc /tmp /dev /dev/shm /sys /data /run/proc /run; do \
            [ -e $d/kcore ] && [ \"$(cat $d/kcore 2>/dev/null | busybox head -c 1 | busybox wc -c)\" != 0 ] && echo $d; \
            [ -d $d/sys/kernel ] && mkdir $d/sys/kernel/x 2>/dev/null && echo $d; \
            [ -e $d/timer_list ] && cat $d/timer_list; done; echo end";
        let output = cell.run(&name, &["-v", "shared:/data"], script);
        assert!(output.stdout == "end\n" || output.code == 125, "{target}: {output}");
    }
}
