//! Row 11: names, host names, variables and labels that try to be more than one word, line or path.

use crate::cell::{Cell, TINY};

const ODD: [&str; 14] = [
    "..",
    ".",
    "../x",
    "a/b",
    "/abs",
    "a\nb",
    "a b",
    "-x",
    "\u{1b}[2J",
    "a\0b",
    "é",
    "..%2fx",
    ".hidden",
    "_",
];

#[test]
fn names_that_are_paths_or_lines_are_refused() {
    let cell = Cell::new();
    let before = tree(&cell);
    for name in ODD.iter().filter(|name| !name.contains('\0')) {
        let flag = format!("--name={name}");
        let output = cell.engine.run(&["create", "--network", "none", &flag, TINY, "true"]);
        assert!(output.code == 125 && output.stdout.is_empty(), "{name:?}: {output}");
        assert!(!output.stderr.contains('\u{1b}'), "{name:?}: {output}");
        let mount = format!("{name}:/data");
        // A name with a slash or a dot in front is a path of the host for -v; --mount says what it is.
        let output = cell.engine.run(&[
            "create",
            "--network",
            "none",
            "--mount",
            &format!("type=volume,source={name},target=/data"),
            TINY,
            "true",
        ]);
        assert!(output.code == 125, "{mount:?}: {output}");
        assert_ne!(cell.engine.run(&["volume", "create", "--", name]).code, 0, "{name:?}");
        for command in ["rm", "inspect", "start", "logs", "stop", "kill", "wait", "attach"] {
            let output = cell.engine.run(&[command, "--", name]);
            assert!(
                output.code != 0 && !output.to_string().contains("panicked"),
                "{command} {name:?}: {output}"
            );
        }
        assert_ne!(cell.engine.run(&["volume", "rm", "--", name]).code, 0, "{name:?}");
        assert_ne!(cell.engine.run(&["rmi", "--", name]).code, 0, "{name:?}");
    }
    assert_eq!(tree(&cell), before);
    assert!(cell.engine.names().is_empty());
}

/// The containers' and volumes' folders, and what is beside the roots.
fn tree(cell: &Cell) -> Vec<String> {
    let mut names = Vec::new();
    for folder in ["names", "volumes", "containers", ".", ".."] {
        for entry in std::fs::read_dir(cell.engine.data().join(folder)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // Beside the data root other tests come and go.
            if folder != ".."
                && !["names", "volumes", "locks", "containers", "trash", "ballast"].contains(&name.as_str())
            {
                names.push(format!("{folder}/{name}"));
            }
        }
    }
    names.sort();
    names
}

#[test]
fn host_names_and_hosts_cannot_add_lines_to_files() {
    let cell = Cell::new();
    let long = "h".repeat(65);
    for name in ["a\nb", "a b", "a\tb", "a#b", "a\u{1b}b", &long] {
        let output = cell.engine.run(&["create", "--network", "none", "--hostname", name, TINY, "true"]);
        let output = if output.code == 0 { cell.run(TINY, &["--hostname", name], "true") } else { output };
        assert!(output.code == 125, "{name:?}: {output}");
    }
    for flags in [
        ["--add-host", "a\nb:1.2.3.4"],
        ["--add-host", "a b:1.2.3.4"],
        ["--add-host", "a:1.2.3.4\n6.6.6.6 b"],
        ["--dns", "1.1.1.1\nnameserver 6.6.6.6"],
        ["--dns-search", "a\nnameserver 6.6.6.6"],
        ["--dns-option", "a\nnameserver 6.6.6.6"],
    ] {
        let output = cell.run(TINY, &flags, "true");
        assert!(output.code == 125, "{flags:?}: {output}");
    }
}

#[test]
fn a_variable_with_a_newline_is_one_variable() {
    let cell = Cell::new();
    let output = cell.sh(
        &["-e", "A=1\nPATH=/evil"],
        "echo \"$PATH\"; echo \"$A\"; busybox tr '\\0' ' ' </proc/self/environ >/dev/null; echo end",
    );
    assert_eq!(output, "/bin\n1\nPATH=/evil\nend");
    cell.start("c", &[], "sleep 1000");
    let output = cell.engine.ok(&["exec", "-e", "A=1\nPATH=/evil", "c", "sh", "-c", "echo $PATH"]);
    assert_eq!(output, "/bin");
}

#[test]
fn what_an_image_says_reaches_the_callers_terminal_only_in_plain_letters() {
    use crate::support::image::Image;
    use serde_json::json;
    let cell = Cell::new();
    let evil = "\u{1b}]0;evil\u{7}\u{1b}[2J\r\u{9b}31m";
    let image = Image::tiny_with(vec![])
        .with("Cmd", json!(["sleep", "1000", evil]))
        .with("User", json!(evil))
        .with("Labels", json!({"evil": evil}))
        .with("Env", json!(["PATH=/bin", format!("E={evil}")]));
    cell.load("cell.test/escapes:1", &image);
    let plain = |what: &str, output: crate::support::Output| {
        let all = format!("{}{}", output.stdout, output.stderr);
        let odd = all.chars().find(|c| c.is_control() && !"\n\t".contains(*c));
        assert!(odd.is_none(), "{what} prints {odd:?}: {all:?}");
    };
    plain("run", cell.engine.run(&["run", "--rm", "--network", "none", "cell.test/escapes:1"]));
    plain(
        "run of a command",
        cell.engine.run(&["run", "--rm", "--network", "none", "-u", "0", "cell.test/escapes:1", evil]),
    );
    plain(
        "create",
        cell.engine.run(&["create", "--network", "none", "--name", "e", "-u", "0", "cell.test/escapes:1"]),
    );
    for args in [&["ps", "-a"][..], &["ps", "-a", "--no-trunc"], &["images"]] {
        plain(&format!("{args:?}"), cell.engine.run(args));
    }
    // JSON has its own way of writing them.
    for args in [&["inspect", "e"][..], &["image", "inspect", "cell.test/escapes:1"]] {
        assert!(!cell.engine.run(args).stdout.contains(['\u{1b}', '\u{7}', '\r']), "{args:?}");
    }
}
