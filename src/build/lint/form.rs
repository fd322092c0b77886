//! Rules about how things are written.

use super::{Findings, Rule};
use crate::build::dockerfile::ast::Head;
use crate::build::dockerfile::{Dockerfile, Kind, Stage};
use std::collections::BTreeSet;

/// Names that mean something else in FROM and `--from`.
const RESERVED: [&str; 2] = ["context", "scratch"];

pub(super) fn check(file: &Dockerfile, findings: &mut Findings) {
    for span in &file.empty_continuations {
        findings.add(None, Rule::NoEmptyContinuation, *span, "", "");
    }
    for instruction in &file.preamble {
        description_of_args(&instruction.kind, &instruction.head, findings);
    }
    for stage in &file.stages {
        stage_line(stage, findings);
        for instruction in &stage.instructions {
            let Head { span, comments, .. } = &instruction.head;
            if matches!(instruction.kind, Kind::Maintainer(_)) {
                let options = findings.options.with_comments(comments);
                findings.add(Some(&options), Rule::MaintainerDeprecated, *span, "", "");
            }
            description_of_args(&instruction.kind, &instruction.head, findings);
        }
    }
    stage_names(file, findings);
    casing(file, findings);
}

fn is_lower(text: &str) -> bool {
    text == text.to_lowercase()
}

fn is_upper(text: &str) -> bool {
    text == text.to_uppercase()
}

fn stage_line(stage: &Stage, findings: &mut Findings) {
    let Some(name) = &stage.name else { return };
    let options = findings.options.with_comments(&stage.head.comments);
    let (from, span) = (stage.head.keyword.text(), stage.head.span);
    if !is_lower(name.written.text()) {
        findings.add(Some(&options), Rule::StageNameCasing, span, name.written.text(), "");
    }
    // Where FROM itself is neither, that is another rule's business.
    let keyword = name.keyword.text();
    if (is_lower(from) && !is_lower(keyword)) || (is_upper(from) && !is_upper(keyword)) {
        findings.add(Some(&options), Rule::FromAsCasing, span, keyword, from);
    }
    description("FROM", &[name.folded.as_str()], &stage.head, findings);
}

fn description_of_args(kind: &Kind, head: &Head, findings: &mut Findings) {
    if let Kind::Arg(args) = kind {
        let names: Vec<&str> = args.iter().map(|arg| arg.name.text()).collect();
        description("ARG", &names, head, findings);
    }
}

/// A comment right above must begin with a name.
fn description(keyword: &str, names: &[&str], head: &Head, findings: &mut Findings) {
    let (Some(comment), Some(first)) = (head.comments.last(), names.first()) else { return };
    if names.contains(&comment.split(' ').next().unwrap_or_default()) {
        return;
    }
    let options = findings.options.with_comments(&head.comments);
    let name = if names.len() > 1 { "<arg_key>" } else { first };
    findings.add(Some(&options), Rule::InvalidDefinitionDescription, head.span, keyword, name);
}

fn stage_names(file: &Dockerfile, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for stage in &file.stages {
        let Some(name) = stage.name() else { continue };
        if RESERVED.contains(&name) {
            findings.add(None, Rule::ReservedStageName, stage.head.span, name, "");
        }
        if !seen.insert(name) {
            findings.add(None, Rule::DuplicateStageName, stage.head.span, name, "");
        }
    }
}

/// All keywords should be in the case that most are in.
fn casing(file: &Dockerfile, findings: &mut Findings) {
    let heads = || {
        file.stages.iter().flat_map(|stage| {
            std::iter::once(&stage.head).chain(stage.instructions.iter().map(|instruction| &instruction.head))
        })
    };
    let lower = heads().filter(|head| is_lower(head.keyword.text())).count();
    let upper =
        heads().filter(|head| !is_lower(head.keyword.text()) && is_upper(head.keyword.text())).count();
    for head in heads() {
        let keyword = head.keyword.text();
        let (is_right, wanted) =
            if lower > upper { (is_lower(keyword), "lowercase") } else { (is_upper(keyword), "uppercase") };
        if !is_right {
            findings.add(None, Rule::ConsistentInstructionCasing, head.span, keyword, wanted);
        }
    }
}
