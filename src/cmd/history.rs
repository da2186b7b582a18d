//! `history show` and `history drop`: the days of history, and ending them by hand.

use chrono::{NaiveDate, TimeDelta};
use serde_json::json;

use super::failure::{Failure, Outcome};
use super::output::{self, or_dash};
use super::{compose, confirm};
use crate::broker::publisher::Publisher;
use crate::cli::{DropDays, History};
use crate::config::Config;
use crate::domain::retention::{Facts, Pin, Rule, Unfinished, Verdict};
use crate::relay::retention::{Ended, Retention};
use crate::store::days::Day;
use crate::store::history_list::{self, ListedDay};
use crate::store::{Db, history};

pub async fn run(config: &Config, command: History) -> Outcome {
    match command {
        History::Show(output) => show(config, output.json).await,
        History::Drop(args) => drop(config, args).await,
    }
}

async fn show(config: &Config, as_json: bool) -> Outcome {
    let db = compose::command_db(config)?;
    let (days, now_ms) = (history_list::list(&db).await?, history::now_ms(&db).await?);
    let rule = config.retention.rule();
    let states: Vec<String> = days.iter().map(|day| state(&rule, day, now_ms)).collect();
    if as_json {
        let days: Vec<_> = days
            .iter()
            .zip(&states)
            .map(|(day, state)| {
                let mut value = json!(day);
                value["bytes"] = day.bytes().into();
                value["state"] = state.as_str().into();
                value
            })
            .collect();
        return output::json(&days);
    }
    let rows = days.iter().zip(states).map(|(day, state)| {
        let [events, deliveries, attempts] =
            [&day.events, &day.deliveries, &day.attempts].map(|table| or_dash(table.map(|table| table.rows)));
        let size = indicatif::HumanBytes(day.bytes().unsigned_abs()).to_string();
        let waiting = [day.on_their_way, day.held, day.expired].map(|count| count.to_string());
        [vec![day.day.to_string(), size, events, deliveries, attempts], waiting.to_vec(), vec![state]].concat()
    });
    let header = ["day", "size", "events", "deliveries", "attempts", "on their way", "held", "expired", "state"];
    output::table(&header, rows)
}

/// What retention makes of a day.
fn state(rule: &Rule, day: &ListedDay, now_ms: i64) -> String {
    if !day.is_attached() {
        return "detached".to_owned();
    }
    let expired_at_ms = day.expired_at.map(|time| time.timestamp_millis());
    let facts = Facts { unfinished: day.is_unfinished(), in_outbox: day.in_outbox, expired_at_ms };
    let end_ms = Day::from(day.day).end_ms();
    match rule.judge(end_ms, &facts, now_ms) {
        Verdict::Wait => {
            let due = chrono::DateTime::from_timestamp_millis(rule.due_ms(end_ms, &facts)).unwrap_or_default();
            format!("kept until {}", due.format("%Y-%m-%d %H:%MZ"))
        }
        Verdict::Expire => "to be expired".to_owned(),
        Verdict::Pinned(pin) => format!("pinned: {}", pin.as_str()),
        Verdict::Drop => "to be dropped".to_owned(),
    }
}

/// Whatever is older is meant, however young by the configuration.
fn rule(args: &DropDays) -> Rule {
    let unfinished = if args.expire { Unfinished::Expire } else { Unfinished::Keep };
    Rule { days: 0, grace_ms: 0, unfinished }
}

async fn drop(config: &Config, args: DropDays) -> Outcome {
    let db = Db::new(&compose::service_options(config, "posthaste history")?)?;
    let today = chrono::DateTime::from_timestamp_millis(history::now_ms(&db).await?).unwrap_or_default().date_naive();
    // Ids may be a day old when they are inserted.
    let latest = today - TimeDelta::days(1);
    if args.before > latest {
        return Err(Failure::Usage(format!(
            "--before: {} is too late; days from {latest} on are still written to, so use {latest} or earlier",
            args.before
        )));
    }
    let days: Vec<ListedDay> =
        history_list::list(&db).await?.into_iter().filter(|day| day.day < args.before && day.is_attached()).collect();
    if args.dry_run {
        let planned: Vec<_> = days.iter().map(|day| (day.day, planned(&args, day))).collect();
        return report(&args, &planned);
    }
    if !days.is_empty() {
        let bytes = indicatif::HumanBytes(days.iter().map(|day| day.bytes().unsigned_abs()).sum());
        confirm::ask(&format!("Drop {} days of history, {bytes}?", days.len()), args.yes)?;
    }
    let names = compose::topology(config).names;
    let publisher = Publisher::new(compose::broker_settings(config)?, names, "posthaste history");
    let retention = Retention { db, publisher: publisher.clone(), rule: rule(&args) };
    retention.finish_detached().await?;
    let mut done = Vec::new();
    for day in days {
        done.push((day.day, said(retention.end(Day::from(day.day)).await?)));
    }
    publisher.close().await;
    report(&args, &done)?;
    match done.iter().filter(|(_, result)| *result != DROPPED).count() {
        0 => Ok(()),
        kept => Err(Failure::Failed(format!("{kept} days were kept; `posthaste history show` says more"))),
    }
}

const DROPPED: &str = "dropped";

fn planned(args: &DropDays, day: &ListedDay) -> &'static str {
    let facts = Facts { unfinished: day.is_unfinished(), in_outbox: day.in_outbox, expired_at_ms: None };
    match rule(args).judge(Day::from(day.day).end_ms(), &facts, i64::MAX) {
        Verdict::Expire => "would be dropped, after what is unfinished has ended as expired",
        Verdict::Drop | Verdict::Wait => "would be dropped",
        Verdict::Pinned(pin) => kept(pin),
    }
}

fn said(ended: Ended) -> &'static str {
    match ended {
        Ended::Dropped => DROPPED,
        Ended::Waits => "kept: it is needed again",
        Ended::Pinned(pin) => kept(pin),
    }
}

fn kept(pin: Pin) -> &'static str {
    match pin {
        Pin::Unfinished => "kept: deliveries are unfinished; --expire ends them",
        Pin::Outbox => "kept: events are still in the outbox",
        Pin::Locked => "kept: somebody uses its tables, such as a backup; try again later",
    }
}

fn report(args: &DropDays, days: &[(NaiveDate, &'static str)]) -> Outcome {
    if args.output.json {
        let days: Vec<_> = days.iter().map(|(day, result)| json!({"day": day, "result": result})).collect();
        return output::json(&json!({"dry_run": args.dry_run, "days": days}));
    }
    if days.is_empty() {
        return output::line(&format!("there is no day before {}", args.before));
    }
    output::table(&["day", "result"], days.iter().map(|(day, result)| vec![day.to_string(), (*result).to_owned()]))
}
