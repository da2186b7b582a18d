//! The binary: parse, dispatch, exit code. What a command does is in `cmd`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

/// A message costs many short-lived allocations, which took a fifth of our time in a drain with glibc's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match posthaste::cli::parse() {
        Ok(cli) => posthaste::cmd::main(cli),
        Err(code) => code,
    }
}
