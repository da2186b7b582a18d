//! A long history: what statements and commands cost beside a short one, and what live traffic feels when a day is dropped.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use chrono::{NaiveDate, TimeDelta, Utc};

use crate::isolation::figures::quantile;
use crate::isolation::healthy::{Healthy, Times};
use crate::isolation::history::{Plan, Question, Side, fill, looked_at};
use crate::isolation::options::Options;
use crate::isolation::report::{Bound, Shown, Table, number};
use crate::isolation::stack::Stack;

const EVENTS: usize = 100_000;
const ROUNDS: usize = 30;
/// Before anything is measured: connections, caches, statements that are planned once.
const WARM_UP: usize = 3;
/// Days that are dropped, one after the other.
const DROPS: usize = 5;
/// Before and after each.
const QUIET: Duration = Duration::from_secs(10);
/// What is committed so long after a drop belongs to it.
const AFTER: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

const RATIO: f64 = 1.2;
/// Read by one question: some for each event or delivery that it is about.
const ROWS: f64 = 2_000.0;
const DROP_SECONDS: f64 = 1.0;
/// p99 of the live traffic beside a drop to that before and after.
const BESIDE: f64 = 1.5;

/// In milliseconds, of one round each: the three sides in the order of `run`.
type Samples = [Vec<f64>; 3];

pub async fn run(options: &Options, dir: &Path) -> Result<Shown, String> {
    let events = i32::try_from(options.rows(EVENTS)).map_err(|_| "--rows: too many")?;
    let keep = (options.days + 2).to_string();
    let mut stack = Stack::servers(dir, "history", &[("retention.days", &keep)]).await?;
    // A new installation; one with as many days as the long history, in which nothing happened but to the small tenant; and that.
    let new = Side::beside(&stack, "new").await?;
    let empty = Side::beside(&stack, "empty").await?;
    let long = Side::new(stack.db.clone(), stack.binary.clone()).await?;
    let began = Instant::now();
    fill(&new, 0, 0).await?;
    fill(&empty, options.days, 0).await?;
    fill(&long, options.days, events).await?;
    let sides = [new, empty, long];
    eprintln!("  {} days of {events} events were made in {:.0} s", options.days, began.elapsed().as_secs_f64());
    let samples = asked(&sides, options.rounds(ROUNDS)).await?;
    let plans = looked_at(&sides[2], &stack.postgres.daemon.directory.join("output.log")).await?;
    let mut shown = Shown::default();
    shown.figure("events of the history", f64::from(options.days) * f64::from(events), "");
    shown.figure("size of the database", size(&sides[2]).await?, "MiB");
    show_questions(&mut shown, &samples, &plans);
    drop(sides);
    show_drops(&mut shown, &dropped(&mut stack, options.days).await?);
    stack.stop().await?;
    Ok(shown)
}

/// All are asked in turn, and none of them always first.
async fn asked(sides: &[Side; 3], rounds: usize) -> Result<BTreeMap<&'static str, Samples>, String> {
    let mut samples: BTreeMap<&str, Samples> = BTreeMap::new();
    for round in 0..WARM_UP + rounds {
        for question in Question::ALL {
            for turn in 0..sides.len() {
                let side = (round + turn) % sides.len();
                let took = question.ask(&sides[side]).await.map_err(|error| format!("{}: {error}", question.name()))?;
                if round >= WARM_UP {
                    samples.entry(question.name()).or_default()[side].push(took);
                }
            }
        }
    }
    Ok(samples)
}

async fn size(side: &Side) -> Result<f64, String> {
    let size = "select pg_database_size(current_database()) / 1048576.0::float8";
    sqlx::query_scalar(size).fetch_one(&side.db).await.map_err(|error| error.to_string())
}

fn show_questions(shown: &mut Shown, samples: &BTreeMap<&str, Samples>, plans: &[(Question, Plan)]) {
    let head = ["median, ms", "new", "empty", "long", "long / empty", "long / new", "statements", "days", "rows read"];
    let mut table = Table::new(&head);
    for (question, plan) in plans {
        let [new, empty, long] = samples[question.name()].each_ref().map(|ms| quantile(ms, 0.5));
        let figures = [plan.statements as f64, plan.days as f64, plan.rows as f64].map(number);
        let times = [new, empty, long, long / empty, long / new].map(|figure| format!("{figure:.2}"));
        table.row(question.name(), times.into_iter().chain(figures));
        shown.claim(format!("{}, long to empty", question.name()), long / empty, Bound::AtMost(RATIO));
    }
    shown.tables.push(table);
    let days =
        |question| plans.iter().find(|(of, _)| *of == question).map_or(f64::INFINITY, |(_, plan)| plan.days as f64);
    // Around midnight a batch may be of two.
    for question in [Question::Claim, Question::Settle, Question::Show] {
        shown.claim(format!("{}, days looked into", question.name()), days(question), Bound::AtMost(2.0));
    }
    let rows = plans.iter().map(|(_, plan)| plan.rows).max().unwrap_or_default();
    shown.claim("rows of the history that any of these has read", rows as f64, Bound::AtMost(ROWS));
}

/// One day that was dropped.
struct Dropped {
    /// Seconds from the moment at which the day was out of the history to the one at which its tables were gone.
    took: f64,
    /// The command from its start to its end.
    command: f64,
    beside: Times,
    apart: Times,
}

/// The oldest days, one after the other, while healthy endpoints get their events.
async fn dropped(stack: &mut Stack, days: i32) -> Result<Vec<Dropped>, String> {
    stack.listen()?;
    stack.add_relay().await?;
    stack.add_worker().await?;
    let healthy = Healthy::add(stack).await?;
    healthy.over(stack, QUIET).await?;
    let mut all = Vec::new();
    for drop in 0..DROPS {
        let day = (Utc::now() - TimeDelta::days(i64::from(days))).date_naive() + TimeDelta::days(drop as i64);
        let ((took, [began, ended]), times) = healthy.beside(stack, drop_day(stack, day)).await?;
        let dropped = Dropped {
            took,
            command: ended.duration_since(began).as_secs_f64(),
            beside: times.between(began, ended + AFTER),
            apart: times.between(began - QUIET, began).and(&times.between(ended + AFTER, ended + QUIET)),
        };
        eprintln!(
            "  {day} was dropped in {:.2} s: beside {}, else {}",
            dropped.took,
            dropped.beside.text(),
            dropped.apart.text()
        );
        all.push(dropped);
    }
    Ok(all)
}

/// A quiet time before and after it.
async fn drop_day(stack: &Stack, day: NaiveDate) -> Result<(f64, [Instant; 2]), String> {
    // There is nothing to wait for but time.
    tokio::time::sleep(QUIET).await;
    let began = Instant::now();
    let before = (day + TimeDelta::days(1)).to_string();
    let command = ["history", "drop", "--before", &before, "--yes"];
    let (printed, took) = tokio::join!(stack.run(&command), watched(stack, day));
    let ended = Instant::now();
    let printed = printed?;
    // There is nothing to wait for but time.
    tokio::time::sleep(QUIET).await;
    if printed.contains("dropped") { Ok((took?, [began, ended])) } else { Err(printed) }
}

/// Looks at the tables of the day until they are gone.
async fn watched(stack: &Stack, day: NaiveDate) -> Result<f64, String> {
    let look = "select count(*), count(*) filter (where not relispartition) from pg_class
                 where relkind = 'r' and relname like '%' || $1";
    let mut detached = None;
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let look = sqlx::query_as(look).bind(day.format("_%Y%m%d").to_string()).fetch_one(&stack.db).await;
        let (tables, free): (i64, i64) = look.map_err(|error| error.to_string())?;
        if free > 0 || tables == 0 {
            detached.get_or_insert(Instant::now());
        }
        if tables == 0 {
            return Ok(detached.map_or(0.0, |at| at.elapsed().as_secs_f64()));
        }
        // The server does not tell anybody.
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Err(format!("{day} was not dropped within {PATIENCE:?}"))
}

fn show_drops(shown: &mut Shown, drops: &[Dropped]) {
    let all = |of: fn(&Dropped) -> &Times| drops.iter().fold(Times::default(), |all, drop| all.and(of(drop)));
    let (beside, apart) = (all(|drop| &drop.beside), all(|drop| &drop.apart));
    for (name, times) in [("beside a drop", &beside), ("else", &apart)] {
        shown.figure(format!("live events {name}"), times.len() as f64, "");
        shown.figure(format!("live events {name}: p50"), times.quantile(0.5), "ms");
        shown.figure(format!("live events {name}: p99"), times.quantile(0.99), "ms");
        shown.figure(format!("live events {name}: longest"), times.quantile(1.0), "ms");
    }
    let longest = drops.iter().map(|drop| drop.took).fold(0.0, f64::max);
    shown.claim("one day dropped, longest, s", longest, Bound::AtMost(DROP_SECONDS));
    let commands: Vec<f64> = drops.iter().map(|drop| drop.command).collect();
    shown.figure("history drop of one day, from its start to its end, median", quantile(&commands, 0.5), "s");
    let ratio = beside.quantile(0.99) / apart.quantile(0.99);
    shown.claim("p99 of live events beside a drop to that before and after", ratio, Bound::AtMost(BESIDE));
    let missing = beside.missing() + apart.missing();
    shown.claim("live events that did not arrive", missing as f64, Bound::AtMost(0.0));
}
