use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::questions::Question;
use super::side::Side;
use crate::isolation::stack::PRODUCER;

/// The server writes what it has logged a moment later.
const LOGGED: Duration = Duration::from_millis(500);
/// Sessions that begin from now on log how each statement was executed.
const EXPLAIN: [&str; 4] = [
    "session_preload_libraries = 'auto_explain'",
    "auto_explain.log_min_duration = 0",
    "auto_explain.log_analyze = on",
    "auto_explain.log_timing = off",
];

/// What the statements of one question have looked at.
#[derive(Debug, Default)]
pub struct Plan {
    pub statements: usize,
    /// Days that one statement has looked into, at most.
    pub days: usize,
    /// Rows that scans of the history have returned, and rows of all tables that were read and left out.
    pub rows: u64,
}

/// Asks once more, with the executed plans.
pub async fn looked_at(side: &Side, log: &Path) -> Result<Vec<(Question, Plan)>, String> {
    for setting in EXPLAIN {
        let alter = "do $$ begin execute format('alter database %I set SETTING', current_database()); end $$";
        let alter = sqlx::AssertSqlSafe(alter.replace("SETTING", &setting.replace('\'', "''")));
        sqlx::query(alter).execute(&side.db).await.map_err(|error| format!("{setting}: {error}"))?;
    }
    // What this program asks itself is nobody's plan.
    let ours = format!("alter role {PRODUCER} set auto_explain.log_min_duration = -1");
    sqlx::query(sqlx::AssertSqlSafe(ours)).execute(&side.db).await.map_err(|error| error.to_string())?;
    let side = side.afresh()?;
    let mut plans = Vec::new();
    for question in Question::ALL {
        let before = read(log)?.len();
        question.ask(&side).await?;
        // There is no other signal that the log is complete.
        tokio::time::sleep(LOGGED).await;
        plans.push((question, plan(&read(log)?[before..])));
    }
    let reset =
        "do $$ begin execute format('alter database %I reset session_preload_libraries', current_database()); end $$";
    sqlx::query(reset).execute(&side.db).await.map_err(|error| error.to_string())?;
    Ok(plans)
}

fn read(log: &Path) -> Result<String, String> {
    let bytes = std::fs::read(log).map_err(|error| format!("{}: {error}", log.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn plan(log: &str) -> Plan {
    let mut plan = Plan::default();
    for statement in log.split("Query Text:").skip(1) {
        let mut days = BTreeSet::new();
        for (line, day) in statement.lines().filter_map(|line| Some((line, day_of(line)?))) {
            if !line.contains("(never executed)") {
                days.insert(day);
                plan.rows += rows(line);
            }
        }
        let left_out = statement.lines().filter_map(|line| line.split_once("Rows Removed by Filter: "));
        plan.rows += left_out.filter_map(|(_, count)| count.trim().parse::<u64>().ok()).sum::<u64>();
        plan.days = plan.days.max(days.len());
        plan.statements += 1;
    }
    plan
}

/// The day in the name of a table that is scanned.
fn day_of(line: &str) -> Option<&str> {
    let tables = [" on events_", " on deliveries_", " on attempts_"];
    let rest = tables.iter().find_map(|table| Some(line.split_once(table)?.1))?;
    rest.get(..8).filter(|day| day.bytes().all(|byte| byte.is_ascii_digit()) && line.contains("Scan"))
}

/// Of all loops of a scan.
fn rows(line: &str) -> u64 {
    let number = |name: &str| {
        let digits = line.rsplit_once(name)?.1;
        digits.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
    };
    number("actual rows=").unwrap_or_default() * number("loops=").unwrap_or(1)
}
