//! What the commands have in common: their options, and how they report.

use std::process::ExitCode;

use clap::{Args, Parser};
use serde::Serialize;

#[derive(Debug, Clone, Args)]
pub struct Output {
    /// Print one JSON value at the end instead of text; the progress goes to stderr.
    #[arg(long)]
    pub json: bool,
}

/// What comes after the name of the command.
pub fn options<T: Parser>() -> T {
    T::parse_from(std::env::args().skip(1))
}

pub fn build() -> &'static str {
    if cfg!(debug_assertions) { "debug" } else { "release" }
}

impl Output {
    /// At once: a later report may take long.
    pub fn say(&self, text: &str) {
        if self.json { eprintln!("{text}") } else { println!("{text}") }
    }

    pub fn end(&self, reports: &impl Serialize, is_good: bool) -> ExitCode {
        if self.json {
            println!("{}", serde_json::to_string_pretty(reports).expect("a report is plain data"));
        }
        if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
