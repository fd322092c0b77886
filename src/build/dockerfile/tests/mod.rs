//! Tables of cases, by subject.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod instructions;
mod lines;
mod mounts;
mod scopes;
mod words;

use super::*;

/// What a text parses to; a panic with the problem if it does not.
fn good(text: &str) -> Dockerfile {
    parse(&Source::new("Dockerfile", text)).unwrap_or_else(|problem| panic!("{problem}\n--- in\n{text}"))
}

/// Line, column and message of what is wrong in a text.
fn bad(text: &str) -> (usize, usize, String) {
    match parse(&Source::new("Dockerfile", text)) {
        Ok(file) => panic!("parsed: {text:?}\n{file:#?}"),
        Err(problem) => {
            let place = problem.position();
            (place.line, place.column, problem.message().to_owned())
        }
    }
}

/// The only instruction after `FROM x`, which is put before it.
fn only(text: &str) -> Kind {
    let mut file = good(&format!("FROM x\n{text}"));
    let stage = file.stages.pop().unwrap();
    assert_eq!(stage.instructions.len(), 1, "{text}");
    stage.instructions.into_iter().next().unwrap().kind
}
