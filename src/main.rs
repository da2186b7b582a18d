//! The binary: parse, dispatch, exit code. What a command does is in `cmd`.

use std::process::ExitCode;

/// Half the time that glibc takes for the many short-lived allocations of a message, and no fragmented heap.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match posthaste::cli::parse() {
        Ok(cli) => posthaste::cmd::main(cli),
        Err(code) => code,
    }
}
