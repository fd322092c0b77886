//! `run`: what goes in, what comes out, how it ends.

use crate::engine;

#[test]
fn output_and_exit_code_are_those_of_the_command() {
    let engine = engine!();
    let output = engine.try_sh(&[], "echo out; echo err >&2; exit 7");
    assert_eq!(
        (output.code, output.stdout.as_str(), output.stderr.as_str()),
        (7, "out\n", "err\n"),
        "{output}"
    );
}
