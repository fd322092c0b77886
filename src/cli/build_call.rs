//! `build --call`: what a Dockerfile says of itself, without building it.

use super::Error;
use super::args::{Given, option, switch};
use super::parse::{self, Invalid};
use crate::build::outline::{Needed, Outline, Target};
use crate::output;
use clap::{ArgMatches, Command};
use output::table::align;
use serde_json::json;

/// What is asked of the Dockerfile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Call {
    /// To be built.
    #[default]
    Build,
    /// What is unwise in it.
    Check,
    /// What the target can be given.
    Outline(Form),
    /// Which targets there are.
    Targets(Form),
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// As tables.
    #[default]
    Text,
    /// As JSON with BuildKit's keys.
    Json,
}

/// Adds the flags.
pub fn define(to: Command) -> Command {
    to.args([
        option("call", "METHOD").help(
            "What to do: build (default), check, outline (tell what the target can be given) or targets; \
             outline,format=json",
        ),
        switch("check").help("Tell what is unwise in the Dockerfile, and build nothing: --call check"),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<Call, Error> {
    let call = args.filled("call", call)?;
    match (call, args.on("check")) {
        (None | Some(Call::Check), true) => Ok(Call::Check),
        (Some(_), true) => {
            Err(Error::usage("--check and --call exclude each other", "leave out one of them"))
        }
        (call, false) => Ok(call.unwrap_or_default()),
    }
}

fn call(text: &str) -> Result<Call, Invalid> {
    let fields = parse::csv(text)?;
    let (method, fields) = fields.split_first().ok_or_else(|| Invalid::new("it is empty"))?;
    let mut form = Form::Text;
    for field in fields {
        form = match field.as_str() {
            "format=json" => Form::Json,
            "format=text" => Form::Text,
            _ => return Err(Invalid::new(format!("expected format=json or format=text, not '{field}'"))),
        };
    }
    match (method.as_str(), form) {
        ("build", Form::Text) => Ok(Call::Build),
        ("check" | "lint", Form::Text) => Ok(Call::Check),
        ("outline", form) => Ok(Call::Outline(form)),
        ("targets", form) => Ok(Call::Targets(form)),
        ("build" | "check" | "lint", Form::Json) => {
            Err(Invalid::new("JSON is for outline and targets only").fix("leave out format="))
        }
        _ => Err(Invalid::unknown("method", method, &["build", "check", "outline", "targets"])),
    }
}

/// Shows the targets.
pub fn show_targets(targets: &[Target], form: Form) -> anyhow::Result<()> {
    output::print(&match form {
        Form::Json => format!("{:#}\n", json!({ "targets": targets })),
        Form::Text => targets_text(targets),
    })?;
    Ok(())
}

fn targets_text(targets: &[Target]) -> String {
    let mut text = "TARGET\tDESCRIPTION\n".to_owned();
    for target in targets {
        let name = [target.name.as_str(), if target.default { "(default)" } else { "" }];
        let name: Vec<&str> = name.into_iter().filter(|word| !word.is_empty()).collect();
        // One without a name cannot be named by it.
        if !name.is_empty() {
            text += &format!("{}\t{}\n", name.join(" "), target.description);
        }
    }
    table(&text)
}

/// Aligned, without blanks where a line's last cell is empty.
fn table(text: &str) -> String {
    align(text).lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Shows what a target can be given.
pub fn show_outline(outline: &Outline, form: Form) -> anyhow::Result<()> {
    output::print(&match form {
        Form::Json => format!("{:#}\n", serde_json::to_value(outline)?),
        Form::Text => outline_text(outline),
    })?;
    Ok(())
}

fn outline_text(outline: &Outline) -> String {
    let mut tables = Vec::new();
    let words = [("TARGET", &outline.name), ("DESCRIPTION", &outline.description)];
    tables.push(
        words
            .iter()
            .filter(|(_, said)| !said.is_empty())
            .map(|(what, said)| format!("{what}:\t{said}\n"))
            .collect(),
    );
    if !outline.args.is_empty() {
        let mut text = "BUILD ARG\tVALUE\tDESCRIPTION\n".to_owned();
        for arg in &outline.args {
            text += &format!("{}\t{}\t{}\n", arg.name, arg.value, arg.description);
        }
        tables.push(text);
    }
    for (title, needed) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if !needed.is_empty() {
            let line = |one: &Needed| format!("{}\t{}\n", one.name, if one.required { "true" } else { "" });
            tables.push(format!("{title}\tREQUIRED\n{}", needed.iter().map(line).collect::<String>()));
        }
    }
    let tables: Vec<String> =
        tables.iter().filter(|text: &&String| !text.is_empty()).map(|text| table(text)).collect();
    tables.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_buildxs() {
        assert_eq!(call("check").unwrap(), Call::Check);
        assert_eq!(call("outline").unwrap(), Call::Outline(Form::Text));
        assert_eq!(call("targets,format=json").unwrap(), Call::Targets(Form::Json));
        for text in ["describe", "check,format=json", "outline,format=xml", ",format=json"] {
            assert!(call(text).is_err(), "{text}");
        }
    }
}
