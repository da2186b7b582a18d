//! What the commands have in common: their options, and how they report.

use std::fmt;
use std::process::ExitCode;

use clap::{Args, Parser};
use serde::Serialize;

#[derive(Debug, Clone, Args)]
pub struct Output {
    /// Print one JSON value at the end instead of text; the progress goes to stderr.
    #[arg(long)]
    pub json: bool,
}

/// Rows under a head. The first cell of each is its name.
#[derive(Debug, Serialize)]
pub struct Table {
    head: Vec<String>,
    pub rows: Vec<Vec<String>>,
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

impl Table {
    pub fn new(head: &[&str]) -> Table {
        Table { head: head.iter().map(|&name| name.to_owned()).collect(), rows: Vec::new() }
    }

    pub fn row(&mut self, name: impl Into<String>, cells: impl IntoIterator<Item = String>) {
        self.rows.push(std::iter::once(name.into()).chain(cells).collect());
    }
}

/// Each column is as wide as its widest cell.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = || std::iter::once(&self.head).chain(&self.rows);
        let width = |column: usize| {
            rows().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        for row in rows() {
            for (column, cell) in row.iter().enumerate() {
                match (column, width(column)) {
                    (0, width) => write!(f, "  {cell:<width$}")?,
                    (_, width) => write!(f, "  {cell:>width$}")?,
                }
            }
            writeln!(f)?;
        }
        writeln!(f)
    }
}
