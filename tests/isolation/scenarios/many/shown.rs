//! What the periods have shown.

use crate::isolation::cpu::PARTS;
use crate::isolation::figures::{geometric_mean, noise, quantile};
use crate::isolation::healthy::Times;
use crate::isolation::options::Beside;
use crate::isolation::plot::{Axes, Line, Plots};
use crate::isolation::report::{Bound, Shown, Table, number};

use super::kinds::{Claim, Kind};
use super::period::{Got, Period};

/// The p99 of the healthy ones over that of the controls.
const RATIO: f64 = 1.5;
/// Where they notice: the bound of `burst`.
const BOUND_MS: f64 = 100.0;
/// Of the second half of a period over the first.
const GROWTH: f64 = 1.5;
/// Of the 40 ms endpoint.
const OWN_SHARE: f64 = 0.95;
const OPERATIONS: f64 = 4.5;

pub fn shown(periods: &[Period], kinds: &[Kind]) -> Shown {
    let mut shown = Shown::default();
    shown.tables.extend([times(periods, kinds), cost(periods, kinds), own(periods, kinds)]);
    let controls = (2..periods.len().saturating_sub(2)).step_by(2);
    let null: Vec<f64> = controls.map(|at| ratio(periods, at, 2, 0.99)).collect();
    shown.figure("control against controls, p99 ratio, lowest", quantile(&null, 0.0), "");
    shown.figure("control against controls, p99 ratio, highest", quantile(&null, 1.0), "");
    let growths: Vec<f64> = of(periods, Kind::Control).map(|(_, period)| period.times.growth()).collect();
    let growth = quantile(&growths, 1.0);
    shown.figure("second half of a control against the first, p90 ratio, highest", growth, "");
    for kind in kinds.iter().copied() {
        match kind.claim() {
            None => continue,
            Some(Claim::AsAlone) => {
                let ratios = ratios(periods, kind, 0.99);
                let bound = RATIO.max(noise(&null, ratios.len()));
                let name = format!("{}: p99 of the healthy ones / control", kind.name());
                shown.claim(name, geometric_mean(&ratios), Bound::AtMost(bound));
            }
            Some(Claim::Bounded) => {
                let name = format!("{}: p99 of the healthy ones, ms", kind.name());
                shown.claim(name, pooled(periods, kind).quantile(0.99), Bound::AtMost(BOUND_MS));
            }
        }
        let grown: Vec<f64> = of(periods, kind).map(|(_, period)| period.times.growth()).collect();
        let name = format!("{}: p90 of the second half / first half", kind.name());
        shown.claim(name, geometric_mean(&grown), Bound::AtMost(GROWTH.max(growth)));
    }
    for (_, period) in of(periods, Kind::Beside(Beside::Slow40)) {
        let share = period.groups.first().and_then(share).unwrap_or_default();
        shown.claim("40 ms: requests / what it can take", share, Bound::AtLeast(OWN_SHARE));
        shown.claim("40 ms: broker operations a request", period.operations, Bound::AtMost(OPERATIONS));
    }
    let bounded = periods.iter().filter(|period| period.kind == Kind::Control || period.kind.claim().is_some());
    let missing: usize = bounded.map(|period| period.times.missing()).sum();
    shown.claim("healthy events that did not arrive within 30 s", missing as f64, Bound::AtMost(0.0));
    shown
}

fn of(periods: &[Period], kind: Kind) -> impl Iterator<Item = (usize, &Period)> {
    periods.iter().enumerate().filter(move |(_, period)| period.kind == kind)
}

/// A period against the two controls that are `distance` before and after it, taken together.
fn ratio(periods: &[Period], at: usize, distance: usize, share: f64) -> f64 {
    let controls = periods[at - distance].times.clone().and(&periods[at + distance].times);
    periods[at].times.quantile(share) / controls.quantile(share).max(1e-3)
}

/// Every period that is not a control lies between two.
fn ratios(periods: &[Period], kind: Kind, share: f64) -> Vec<f64> {
    of(periods, kind).map(|(at, _)| ratio(periods, at, 1, share)).collect()
}

fn pooled(periods: &[Period], kind: Kind) -> Times {
    of(periods, kind).fold(Times::default(), |all, (_, period)| all.and(&period.times))
}

fn median(periods: &[Period], kind: Kind, value: impl Fn(&Period) -> f64) -> f64 {
    let values: Vec<f64> = of(periods, kind).map(|(_, period)| value(period)).collect();
    quantile(&values, 0.5)
}

fn with_control(kinds: &[Kind]) -> impl Iterator<Item = Kind> {
    [Kind::Control].into_iter().chain(kinds.iter().copied())
}

fn times(periods: &[Period], kinds: &[Kind]) -> Table {
    let mut table = Table::new(&[
        "healthy ones beside",
        "events",
        "p50 ms",
        "p99 ms",
        "max ms",
        "p50 ratio",
        "p99 ratio",
        "growth",
        "missing",
    ]);
    for kind in with_control(kinds) {
        let all = pooled(periods, kind);
        let mut cells = vec![number(all.len() as f64)];
        cells.extend([0.5, 0.99, 1.0].map(|share| number(all.quantile(share))));
        cells.extend([0.5, 0.99].map(|share| match kind {
            Kind::Control => "-".to_owned(),
            kind => number(geometric_mean(&ratios(periods, kind, share))),
        }));
        cells.push(number(median(periods, kind, |period| period.times.growth())));
        cells.push(number(all.missing() as f64));
        table.row(kind.name(), cells);
    }
    table
}

fn cost(periods: &[Period], kinds: &[Kind]) -> Table {
    let head = ["CPU, % of a core"].into_iter().chain(PARTS).chain(["workers MiB", "relay MiB"]);
    let mut table = Table::new(&head.collect::<Vec<_>>());
    for kind in with_control(kinds) {
        let cpu = (0..PARTS.len()).map(|part| median(periods, kind, |period| period.cpu.parts()[part]));
        let memory = [
            median(periods, kind, |period| period.peaks.workers_mib),
            median(periods, kind, |period| period.peaks.relays_mib),
        ];
        table.row(kind.name(), cpu.chain(memory).map(number));
    }
    table
}

/// Of the first round; what they get there is what they get in others.
fn own(periods: &[Period], kinds: &[Kind]) -> Table {
    let mut table = Table::new(&["bad ones", "requests", "per second", "of capacity", "operations", "held", "waiting"]);
    for kind in kinds {
        let Some((_, period)) = of(periods, *kind).next() else { continue };
        for got in &period.groups {
            let share = share(got).map_or("-".to_owned(), number);
            let cells = [number(got.requests as f64), number(got.per_second), share];
            let of_all = [period.operations, period.held as f64, period.peaks.waiting as f64];
            let name =
                if period.groups.len() > 1 { format!("{}: {}", kind.name(), got.name) } else { kind.name().to_owned() };
            table.row(name, cells.into_iter().chain(of_all.map(number)));
        }
    }
    table
}

fn share(got: &Got) -> Option<f64> {
    got.capacity.map(|capacity| got.per_second / capacity)
}

/// How many of the healthy events took longer than so many milliseconds.
pub fn draw(periods: &[Period], kinds: &[Kind], plots: &Plots) -> Result<(), String> {
    let lines = with_control(kinds).map(|kind| {
        let mut all = pooled(periods, kind).ms();
        all.retain(|ms| ms.is_finite());
        all.sort_by(f64::total_cmp);
        let shares = (0..=60).map(|step| 10f64.powf(-f64::from(step) / 20.0));
        let points = shares.map(|share| (quantile(&all, 1.0 - share).max(1.0), share * 100.0)).collect();
        Line::new(kind.name(), points)
    });
    let axes = Axes {
        title: "Events of 50 healthy endpoints, alone and beside others",
        x: "milliseconds from commit to arrival",
        y: "% that took longer",
        mark: None,
    };
    plots.log_lines("many", &axes, &lines.collect::<Vec<_>>())?;
    let each_second = kinds.iter().filter_map(|kind| {
        let (_, period) = of(periods, *kind).next()?;
        Some(Line::new(kind.name(), period.times.each_second(period.began, 0.99)))
    });
    let axes = Axes {
        title: "Beside each kind: p99 of each second",
        x: "seconds since it began",
        y: "milliseconds from commit to arrival",
        mark: None,
    };
    plots.lines("many-seconds", &axes, &each_second.collect::<Vec<_>>())
}
