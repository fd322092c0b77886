//! Row 5: a setting of the kernel is written where it belongs, whatever else is called /proc (CVE-2019-19921,
//! CVE-2025-52881).

use crate::cell::{Cell, TINY};
use crate::support::image::{Image, Layer};
use crate::support::{Running, has_program};
use serde_json::json;

const SETTING: &str = "net.ipv4.ip_forward";
const FILE: &str = "proc/sys/net/ipv4/ip_forward";

/// A volume of the image's own over /proc, with a file of the setting's name in it, and with a link there to another
/// setting.
#[test]
fn a_setting_is_not_written_into_what_an_image_has_as_proc() {
    let cell = Cell::new();
    let layers =
        [Layer::new().file(FILE, b"mine\n", 0o666), Layer::new().symlink(FILE, "/proc/sys/net/other")];
    for (index, layer) in layers.into_iter().enumerate() {
        let name = format!("cell.test/settings:{index}");
        cell.load(&name, &Image::tiny_with(vec![layer]).with("Volumes", json!({"/proc": {}})));
        let flags = ["--privileged", "--sysctl", &format!("{SETTING}=1")];
        let script = format!(
            "cat /{FILE} 2>/dev/null; ls /proc/sys/net; mkdir /real && mount -t proc proc /real && cat /real/sys/net/ipv4/ip_forward"
        );
        let output = cell.run(&name, &flags, &script);
        let expected = ["mine\nipv4\n1\n", "ipv4\n1\n"][index];
        assert_eq!(output.stdout, expected, "{output}");
    }
}

/// Where the engine itself runs with something over a part of /proc, and is not able to mount a procfs: it says so,
/// and writes nothing there. A part of the same procfs gives itself away by nothing but being a mount.
#[test]
fn a_setting_is_not_written_into_what_covers_a_part_of_proc() {
    let cell = Cell::new();
    require!(has_program("unshare"), "no unshare(1)");
    // Not below /proc/sys/net, which shows each network namespace files of its own, and those uncovered.
    let covers = [
        "mount -t tmpfs t /proc/sys/kernel && echo mine > /proc/sys/kernel/sem",
        "mount --bind /proc/sysvipc /proc/sys/kernel",
    ];
    for cover in covers {
        let setting = "kernel.sem=250 32000 100 128";
        // Who may not mount a procfs of the host's processes falls back to the one that is there.
        let args = ["run", "--rm", "--pid", "host", "--network", "none", "--sysctl", setting, TINY, "true"];
        let script = format!("{cover} && \"$@\"; echo $?; head -n 1 /proc/sys/kernel/sem");
        let wrapper = ["unshare", "-Urm", "sh", "-c", &script, "sh"];
        let output = Running::start(cell.engine.wrapped(&wrapper, &args), b"").wait();
        assert!(output.stdout.starts_with("125\n") && !output.stdout.contains("250"), "{cover}: {output}");
        for words in ["set the sysctl kernel.sem", "cross-device"] {
            assert!(output.stderr.to_lowercase().contains(words), "{cover}: {output}");
        }
    }
}
