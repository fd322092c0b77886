//! The language of Dockerfiles: text in, a typed tree with places out.
//!
//! ```text
//! Source ── lines: comments away, continuations joined ──> Logical lines, each byte with its place
//!        ── instruction: keyword, flags, arguments, heredocs ──> Instruction
//!        ── here: ARGs before the first FROM, FROMs into stages ──> Dockerfile
//! ```
//!
//! What is accepted is what BuildKit accepts, with its oddities, because files in the wild rely on them; so the steps are
//! cut where BuildKit cuts them. Nothing is expanded here: [`ast::Word`] keeps the text, [`words::Lexer`] expands it when
//! the variables are known. A [`Text`] remembers for each byte where in the file it came from, through joined lines,
//! quotes and JSON, and so an error in the middle of a word that goes over three lines still points at its column.
//!
//! The file may be hostile: everything is linear in its length, `${…}` nests to a limit, ONBUILD does not nest.
//! Not here: whether a stage that is named exists, since a name may be an image as well; what a base image says.

pub mod ast;
mod csv;
mod directive;
pub mod expose;
mod flags;
mod healthcheck;
mod heredoc;
mod instruction;
mod json;
mod lines;
mod problem;
mod run_mount;
pub mod scope;
mod shell_pattern;
mod source;
mod split;
pub(super) mod suggest;
pub mod words;

pub use ast::{Dockerfile, Instruction, Kind, Stage};
pub(super) use flags::boolean;
pub use problem::{Problem, excerpt};
pub use run_mount::{Access, CacheSharing, Mount, MountKind, RunMount};
pub use source::{Position, Source, Span, Text};

#[cfg(test)]
mod tests;

use instruction::Parsed;
use lines::Lines;

/// Parses a whole Dockerfile. The first thing that is wrong is the error.
pub fn parse(source: &Source) -> Result<Dockerfile, Box<Problem>> {
    let mut lines = Lines::new(source);
    let (mut preamble, mut stages, mut empty_continuations) = (Vec::new(), Vec::<Stage>::new(), Vec::new());
    while let Some(line) = lines.logical()? {
        empty_continuations.extend(line.empty_line);
        match (instruction::parse(source, &mut lines, line)?, stages.last_mut()) {
            (Parsed::From(stage), _) => stages.push(stage),
            (Parsed::Instruction(instruction), Some(stage)) => stage.instructions.push(instruction),
            (Parsed::Instruction(instruction @ Instruction { kind: Kind::Arg(_), .. }), None) => {
                preamble.push(instruction);
            }
            (Parsed::Instruction(instruction), None) => {
                let problem =
                    Problem::new(source, instruction.head.span, "no build stage in current context");
                return Err(Box::new(problem.hint("begin with FROM; only ARG may stand before it")));
            }
        }
    }
    if stages.is_empty() {
        let end = Span { start: source.text().len(), end: source.text().len() };
        let message = if source.text().is_empty() {
            "the Dockerfile cannot be empty"
        } else if preamble.is_empty() {
            "file with no instructions"
        } else {
            "dockerfile contains no stages to build"
        };
        return Err(Box::new(Problem::new(source, end, message).hint("begin with FROM")));
    }
    Ok(Dockerfile {
        source: source.clone(),
        directives: lines.directives().clone(),
        preamble,
        stages,
        empty_continuations,
    })
}

/// Parses one instruction of the list that an image's configuration calls `OnBuild`. Its places are in the [`Source`] that
/// comes with it; errors are told where they are in there, see [`Problem::moved`].
pub fn parse_trigger(text: &str) -> Result<(Source, Instruction), Box<Problem>> {
    let source = Source::new("ONBUILD trigger", text);
    let all = Span { start: 0, end: text.len() };
    let wrong = |message: &str| Err(Box::new(Problem::new(&source, all, message)));
    let mut lines = Lines::new(&source);
    let Some(line) = lines.logical()? else { return wrong("onbuild trigger should be a single expression") };
    let parsed = instruction::parse(&source, &mut lines, line)?;
    if lines.logical()?.is_some() {
        return wrong("onbuild trigger should be a single expression");
    }
    match parsed {
        Parsed::From(_) => wrong("FROM isn't allowed as an ONBUILD trigger"),
        Parsed::Instruction(instruction) => Ok((source, instruction)),
    }
}

impl Dockerfile {
    /// The arguments before the first FROM, in order.
    pub fn global_args(&self) -> impl Iterator<Item = &ast::Arg> {
        self.preamble.iter().flat_map(|instruction| match &instruction.kind {
            Kind::Arg(args) => args.as_slice(),
            _ => &[],
        })
    }

    /// What expands its words.
    pub fn lexer(&self) -> words::Lexer {
        words::Lexer::new(self.directives.escape_character())
    }

    /// The stage that a name of `--target` or `--from` means among those before the `before`th: by name without regard to
    /// case (the last of that name), else by number.
    pub fn find_stage(&self, name: &str, before: usize) -> Option<usize> {
        let folded = name.to_lowercase();
        let earlier = &self.stages[..before.min(self.stages.len())];
        earlier
            .iter()
            .rposition(|stage| stage.name() == Some(&folded))
            .or_else(|| name.parse().ok().filter(|number| *number < earlier.len()))
    }
}
