//! The table for docs/runbook.md.

use std::fmt::Write;

use crate::incident::catalogue::Incident;
use crate::incident::scene::Seen;

pub struct Row {
    cells: Vec<String>,
    is_good: bool,
}

impl Row {
    pub fn seen(incident: Incident, seen: &Seen, also: &[String]) -> Row {
        let (cause, repair) = incident.story();
        let seconds = |time: std::time::Duration| format!("{:.0} s", time.as_secs_f64());
        let also: Vec<String> = also.iter().map(|alert| format!("`{alert}`")).collect();
        let cells = vec![
            format!("`{}`", seen.alert),
            format!("`{}`: {cause}", incident.name()),
            seconds(seen.fired),
            seen.commands.to_string(),
            repair.to_owned(),
            seconds(seen.cleared),
            also.join(", "),
        ];
        Row { cells, is_good: true }
    }

    pub fn failed(incident: Incident, alert: &str, error: &str) -> Row {
        let first = error.lines().next().unwrap_or_default();
        let cells = [format!("`{alert}`"), incident.name(), format!("failed: {first}")];
        Row { cells: cells.into_iter().chain(std::iter::repeat_n(String::new(), 4)).collect(), is_good: false }
    }

    pub fn is_good(&self) -> bool {
        self.is_good
    }
}

pub fn markdown(rows: &[Row], factor: u32) -> String {
    let mut text = format!("Durations of the rules divided by {factor}.\n\n");
    text.push_str(
        "| alert | incident | fired after | commands run | repaired by | cleared after | fired beside it |\n",
    );
    text.push_str("|---|---|--:|--:|---|--:|---|\n");
    for row in rows {
        let _ = writeln!(text, "| {} |", row.cells.join(" | "));
    }
    text
}
