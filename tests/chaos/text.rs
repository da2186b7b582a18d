//! The report as people read it.

use std::fmt::Write;

use crate::chaos::growth;
use crate::chaos::report::Report;
use crate::frame::Table;

/// What a hard kill may cost at most, of all deliveries, and how soon a killed process shall be back; aims that are printed.
const AIM_PERCENT: f64 = 0.05;
const AIM_SECONDS: f64 = 5.0;

impl Report {
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a text cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let (run, found, made) = (&self.run, &self.findings, &self.transactions);
        writeln!(text, "\n{} with seed {}, {} build, {:.0} s", run.scenario, run.seed, run.program, run.seconds)?;
        writeln!(
            text,
            "events       {} committed in {} transactions, {:.0}/s; {} transactions rolled back, {} late,",
            found.events, made.committed, self.events_per_second, made.rolled_back, made.late
        )?;
        writeln!(
            text,
            "             {} with an idempotency key used twice, {} commits without an answer looked up",
            made.with_key, made.uncertain
        )?;
        let statuses: Vec<String> =
            found.deliveries_by_status.iter().map(|(status, n)| format!("{status} {n}")).collect();
        writeln!(text, "deliveries   {} owed; in the database: {}", found.deliveries, statuses.join(", "))?;
        writeln!(
            text,
            "attempts     {}, of them {} failed without a receiver that was told to fail (must be 0); {} answers came late",
            found.attempts, found.attempts_spent_on_our_faults, self.late_answers
        )?;
        writeln!(
            text,
            "processes    {} messages published again as lost, {} stale copies discarded, {} held",
            run.republished, run.copies_discarded, run.held
        )?;
        let died: Vec<String> = run.died.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
        writeln!(
            text,
            "died         {}",
            if died.is_empty() { "none".to_owned() } else { died.join(", ") + "; requeued" }
        )?;
        for (name, value) in &run.measured {
            writeln!(text, "measured     {name}: {value}")?;
        }
        if !self.tenths.is_empty() {
            write!(text, "\n{}", growth::table(&self.tenths))?;
        }
        self.write_faults(text)?;
        self.write_verdict(text)
    }

    fn write_verdict(&self, text: &mut String) -> std::fmt::Result {
        let found = &self.findings;
        writeln!(text, "\nlost         {}   (must be 0)", found.lost)?;
        writeln!(text, "phantom      {}   delivered without a commit (must be 0)", found.phantom)?;
        let share = self.duplicate_share * 100.0;
        writeln!(
            text,
            "duplicates   {}   {share:.4} % of all deliveries (at most {} were in flight at the hard faults)",
            self.duplicates, self.duplicates_at_most
        )?;
        self.write_hard_kills(text)?;
        writeln!(
            text,
            "wrong        parked {}, altered {}, misdirected {}, bad signatures {}, not recorded {}, unexplained {}, keys used twice {}, left over {}",
            found.parked,
            found.altered,
            found.misdirected,
            found.bad_signatures,
            found.unrecorded,
            found.unexplained,
            found.doubled_keys,
            found.left_over
        )?;
        for line in found.examples.iter().chain(&self.problems) {
            writeln!(text, "             {line}")?;
        }
        writeln!(text, "result       {}", if self.is_good() { "good" } else { "BAD" })
    }

    fn write_hard_kills(&self, text: &mut String) -> std::fmt::Result {
        let kills = &self.hard_kills;
        if kills.count == 0 {
            return Ok(());
        }
        writeln!(
            text,
            "hard kills   {} with {} duplicates: {:.4} % of all deliveries for each, {:.4} % for the worst (the aim is {AIM_PERCENT} %)",
            kills.count,
            kills.duplicates,
            kills.mean_share * 100.0,
            kills.worst_share * 100.0
        )?;
        kills.process_recovery_max.map_or(Ok(()), |seconds| {
            writeln!(
                text,
                "             a relay or worker killed alone was back within {seconds:.1} s (the aim is {AIM_SECONDS} s)"
            )
        })
    }

    fn write_faults(&self, text: &mut String) -> std::fmt::Result {
        if self.faults.is_empty() {
            return Ok(());
        }
        let mut table = Table::new(&[
            "fault",
            "times",
            "duplicates",
            "share of each",
            "flows, max",
            "all work again, p50",
            "max",
            "beside another",
            "whole again",
        ]);
        let seconds = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1} s"));
        for (name, of) in &self.kinds {
            let times =
                [of.flowing_max, of.recovery_p50, of.recovery_max, of.recovery_max_beside_another, of.made_whole_max];
            let share = format!("{:.4} %", of.share_per_fault * 100.0);
            let cells = [of.count.to_string(), of.duplicates.to_string(), share];
            table.row(*name, cells.into_iter().chain(times.map(seconds)));
        }
        write!(text, "\n{table}")?;
        self.write_seen(text)
    }

    /// What single faults have shown beside that.
    fn write_seen(&self, text: &mut String) -> std::fmt::Result {
        for fault in &self.faults {
            let Some(seen) = &fault.seen else { continue };
            writeln!(text, "{} at {:.1} s: {seen}", fault.name, fault.began)?;
        }
        Ok(())
    }
}
