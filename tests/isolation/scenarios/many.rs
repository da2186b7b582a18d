//! Healthy endpoints beside many bad ones, and beside slow ones that are owed more than they can take.
//!
//! Periods of each kind alternate with controls, in which the healthy ones are alone. Every period has new bad endpoints, so
//! the worst phase counts, and begins with nothing left of the one before.

mod kinds;
mod period;
mod shown;

use std::path::Path;
use std::time::Duration;

use crate::isolation::healthy::Healthy;
use crate::isolation::options::Options;
use crate::isolation::plot::Plots;
use crate::isolation::report::Shown;
use crate::isolation::stack::Stack;

use kinds::Kind;
use period::period;

const WORKERS: usize = 1;
const WARM_UP: Duration = Duration::from_secs(4);

/// Of a bad period, and of a control.
fn times(options: &Options) -> (Duration, Duration) {
    let (bad, control) = match (options.quick, options.long) {
        (true, _) => (6, 4),
        (_, true) => (300, 60),
        _ => (26, 13),
    };
    (Duration::from_secs(bad), Duration::from_secs(control))
}

pub async fn run(options: &Options, dir: &Path, plots: &Plots) -> Result<Shown, String> {
    let stack = Stack::start(dir, "many", &[], options.workers(WORKERS)).await?;
    stack.listen()?;
    let healthy = Healthy::add(&stack).await?;
    let (bad, control) = times(options);
    period(&stack, &healthy, Kind::Control, WARM_UP).await?;
    let kinds: Vec<Kind> = options.beside().into_iter().map(Kind::Beside).collect();
    let mut periods = vec![period(&stack, &healthy, Kind::Control, control).await?];
    for kind in (0..options.rounds(1)).flat_map(|_| &kinds) {
        periods.push(period(&stack, &healthy, *kind, bad).await?);
        periods.push(period(&stack, &healthy, Kind::Control, control).await?);
    }
    let shown = shown::shown(&periods, &kinds);
    shown::draw(&periods, &kinds, plots)?;
    stack.stop().await?;
    Ok(shown)
}
