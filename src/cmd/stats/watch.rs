//! `stats --watch`: what is going on just now, drawn in place at a terminal, and otherwise one block or one JSON value each time.

mod look;
mod shown;

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::super::failure::{Failure, Outcome};
use super::super::output;
use crate::cli::Stats;
use crate::config::Config;
use crate::lifecycle::signals;
use look::{Eye, Look};
use shown::Shown;

pub async fn run(config: &Config, args: &Stats) -> Outcome {
    let mut signals = signals().map_err(|error| Failure::Failed(error.to_string()))?;
    let mut eye = Eye::new(config)?;
    let mut screen = Screen::new(args.output.json);
    let watched = tokio::select! {
        watched = watch(&mut eye, &mut screen, args.interval, args.samples) => watched,
        // Ending it is what it is ended by.
        _ = signals.recv() => Ok(()),
    };
    screen.end();
    eye.close().await;
    watched
}

async fn watch(eye: &mut Eye, screen: &mut Screen, interval: Duration, samples: Option<u32>) -> Outcome {
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // A rate needs two readings.
    tick.tick().await;
    let mut before: Look = eye.look().await?;
    let mut shown = 0;
    while samples.is_none_or(|samples| shown < samples) {
        tick.tick().await;
        let now = eye.look().await?;
        screen.show(&Shown::between(&before, &now))?;
        before = now;
        shown += 1;
    }
    Ok(())
}

/// Where it is shown.
enum Screen {
    Lines { json: bool },
    Terminal(ProgressBar),
}

impl Screen {
    fn new(json: bool) -> Screen {
        if json || !std::io::stdout().is_terminal() {
            return Screen::Lines { json };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        Screen::Terminal(bar)
    }

    fn show(&mut self, shown: &Shown) -> Outcome {
        match self {
            Screen::Lines { json: true } => output::json(&shown.json()),
            Screen::Lines { json: false } => output::line(&format!("{}\n", shown.lines().join("\n"))),
            Screen::Terminal(bar) => {
                bar.set_message(shown.lines().join("\n"));
                bar.tick();
                Ok(())
            }
        }
    }

    /// What was shown last stays.
    fn end(&self) {
        if let Screen::Terminal(bar) = self {
            bar.abandon();
        }
    }
}
