//! What a measurement has shown: figures, and claims with their bounds.

use std::fmt::Write;

use serde::Serialize;

pub use crate::frame::Table;

#[derive(Debug, Serialize)]
pub struct Report {
    pub scenario: String,
    pub seconds: f64,
    pub build: &'static str,
    pub cores: usize,
    /// The load average of the last minute, before and after.
    pub load: (f64, f64),
    #[serde(flatten)]
    pub shown: Shown,
}

#[derive(Debug, Default, Serialize)]
pub struct Shown {
    pub tables: Vec<Table>,
    pub figures: Vec<Figure>,
    pub claims: Vec<Claim>,
}

#[derive(Debug, Serialize)]
pub struct Figure {
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
}

#[derive(Debug, Serialize)]
pub struct Claim {
    pub name: String,
    pub value: f64,
    pub bound: Bound,
    pub holds: bool,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Shown {
    pub fn figure(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.figures.push(Figure { name: name.into(), value, unit });
    }

    pub fn claim(&mut self, name: impl Into<String>, value: f64, bound: Bound) {
        let holds = match bound {
            Bound::AtMost(most) => value <= most,
            Bound::AtLeast(least) => value >= least,
        };
        self.claims.push(Claim { name: name.into(), value, bound, holds });
    }
}

impl Report {
    pub fn is_good(&self) -> bool {
        self.shown.claims.iter().all(|claim| claim.holds)
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a text cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let (before, after) = self.load;
        writeln!(
            text,
            "\n{}: {} build, {:.0} s, {} cores, load average {before:.1} before and {after:.1} after",
            self.scenario, self.build, self.seconds, self.cores
        )?;
        self.shown.tables.iter().try_for_each(|table| write!(text, "{table}"))?;
        for figure in &self.shown.figures {
            writeln!(text, "  {:<66} {:>12} {}", figure.name, number(figure.value), figure.unit)?;
        }
        for claim in &self.shown.claims {
            let (bound, verdict) = (claim.bound.text(), if claim.holds { "good" } else { "BROKEN" });
            writeln!(text, "  {:<66} {:>12} {bound}: {verdict}", claim.name, number(claim.value))?;
        }
        Ok(())
    }
}

impl Bound {
    fn text(self) -> String {
        match self {
            Bound::AtMost(most) => format!("(at most {})", number(most)),
            Bound::AtLeast(least) => format!("(at least {})", number(least)),
        }
    }
}

/// With as many digits as mean something.
pub fn number(value: f64) -> String {
    match value.abs() {
        whole if whole >= 1_000.0 || value == value.trunc() => format!("{value:.0}"),
        large if large >= 100.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
