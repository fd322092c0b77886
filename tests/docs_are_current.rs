//! The man pages and completions in the repository are those of the command line's definition. To write them anew:
//! `CORACLE_WRITE_DOCS=1 cargo test --test docs_are_current`.

#![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff};
use coracle::cli;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// File name to contents.
type Files = BTreeMap<String, String>;

/// One page for the whole and one per command; a command below `container` or `image` that also stands alone
/// refers to that one's page.
fn man_pages() -> Files {
    let mut files = Files::new();
    let full = cli::full();
    let alone: Vec<(String, String)> = full
        .get_subcommands()
        .filter(|command| !command.has_subcommands())
        .map(|command| (about(command), command.get_name().to_owned()))
        .collect();
    add_pages(&full, "coracle", &alone, &mut files);
    files
}

fn add_pages(command: &Command, name: &str, alone: &[(String, String)], files: &mut Files) {
    files.insert(format!("{name}.1"), page(command.clone(), name));
    for below in command.get_subcommands() {
        let below_name = format!("{name}-{}", below.get_name());
        let same = alone.iter().find(|(text, _)| name != "coracle" && *text == about(below));
        match same {
            Some((_, alone)) => {
                files.insert(format!("{below_name}.1"), format!(".so man1/coracle-{alone}.1\n"));
            }
            None => add_pages(below, &below_name, alone, files),
        }
    }
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

fn page(command: Command, name: &str) -> String {
    let above = name.rsplit_once('-').map(|(above, _)| above.to_owned());
    let below: Vec<String> = command.get_subcommands().map(|c| format!("{name}-{}", c.get_name())).collect();
    // Without this, the pages of commands would have the title and name of their last word.
    let command = command.display_name(name.to_owned()).bin_name(name.replace('-', " "));
    let man = Man::new(command).title(name).source("coracle").manual("User Commands");
    let mut text = Vec::new();
    let sections = [
        Man::render_title,
        Man::render_name_section,
        Man::render_synopsis_section,
        Man::render_description_section,
        Man::render_options_section,
    ];
    for section in sections {
        section(&man, &mut text).unwrap();
    }
    if !below.is_empty() {
        man.render_subcommands_section(&mut text).unwrap();
    }
    let mut text = String::from_utf8(text).unwrap();
    if name == "coracle" {
        text.push_str(&common_sections());
    }
    let mut see_also = Roff::new();
    see_also.control("SH", ["SEE ALSO"]);
    let others: Vec<String> = above.into_iter().chain(below).map(|page| format!("{page}(1)")).collect();
    see_also.text([Inline::Roman(others.join(", "))]);
    text.push_str(&see_also.to_roff());
    text
}

/// What holds for every command.
fn common_sections() -> String {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in [
        ("125", "coracle itself failed, or its command line is wrong"),
        ("126", "the command in the container cannot be executed"),
        ("127", "the command does not exist in the container"),
        (
            "other",
            "what the command in the container exited with; 128 and the signal's number if one killed it",
        ),
    ] {
        roff.control("TP", []);
        roff.text([Inline::Bold(code.into())]);
        roff.text([Inline::Roman(meaning.into())]);
    }
    roff.control("SH", ["ENVIRONMENT"]);
    for (name, meaning) in [
        ("CORACLE_ROOT, CORACLE_RUNROOT", "what --root and --runroot say, if they are not given"),
        (
            "XDG_DATA_HOME",
            "images, containers and volumes are in its folder coracle (default ~/.local/share)",
        ),
        ("XDG_RUNTIME_DIR", "the state of running containers is in its folder coracle"),
        ("NO_COLOR", "no colours, if not empty"),
    ] {
        roff.control("TP", []);
        roff.text([Inline::Bold(name.into())]);
        roff.text([Inline::Roman(meaning.into())]);
    }
    roff.to_roff()
}

fn completions() -> Files {
    [(Shell::Bash, "coracle.bash"), (Shell::Zsh, "_coracle"), (Shell::Fish, "coracle.fish")]
        .into_iter()
        .map(|(shell, name)| (name.to_owned(), String::from_utf8(cli::completion::script(shell)).unwrap()))
        .collect()
}

fn check(folder: &str, wanted: &Files) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    if std::env::var_os("CORACLE_WRITE_DOCS").is_some() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in wanted {
            fs::write(folder.join(name), text).unwrap();
        }
    }
    let found: Files = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(wanted), "run: CORACLE_WRITE_DOCS=1 cargo test --test docs_are_current");
    for (name, text) in wanted {
        assert!(
            found[name] == *text,
            "{name} is not current: CORACLE_WRITE_DOCS=1 cargo test --test docs_are_current"
        );
    }
}

#[test]
fn man_pages_are_those_of_the_definition() {
    check("man", &man_pages());
}

#[test]
fn completions_are_those_of_the_definition() {
    check("completions", &completions());
}
