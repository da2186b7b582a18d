//! The binary: parse, dispatch, exit code. What a command does is in `cmd`.

use std::process::ExitCode;

fn main() -> ExitCode {
    match posthaste::cli::parse() {
        Ok(cli) => posthaste::cmd::main(cli),
        Err(code) => code,
    }
}
