//! The `coracle` command, and the init that it is inside a container with `--init`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    match words.split_first() {
        Some((name, rest)) if name == coracle::sandbox::INIT_NAME => coracle::sandbox::init_main(rest).into(),
        _ => coracle::cli::main(words).into(),
    }
}
