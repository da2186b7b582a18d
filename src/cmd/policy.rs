//! `policy ...`: the retry policies, and their budgets while the service runs.

use std::time::Duration;

use serde_json::{Value, json};

use super::compose;
use super::failure::{Failure, Outcome};
use super::output::{self, or_dash};
use crate::cli::{Policy, SetPolicy, Setting};
use crate::config::Config;
use crate::domain::backoff;
use crate::domain::budget;
use crate::store::Db;
use crate::store::budgets::{self, Budget};

pub async fn run(config: &Config, command: Policy) -> Outcome {
    match command {
        Policy::List(output) => list(config, output.json).await,
        Policy::Set(args) => set(config, args).await,
    }
}

fn all(config: &Config) -> impl Iterator<Item = &backoff::Policy> {
    std::iter::once(config.retry.default_policy()).chain(config.retry.named())
}

async fn list(config: &Config, as_json: bool) -> Outcome {
    let db = compose::command_db(config)?;
    let stored = budgets::all(&db).await?;
    let known: Vec<Known> = all(config).map(|policy| Known::new(config, policy, &stored)).collect();
    for budget in stored.iter().filter(|budget| all(config).all(|policy| policy.name != budget.policy)) {
        tracing::warn!(policy = budget.policy, "a budget is set for a policy that this configuration does not have");
    }
    if as_json {
        return output::json(&known.iter().map(Known::json).collect::<Vec<_>>());
    }
    let header = ["policy", "schedule", "retries", "budget", "set since", "worst case", "with retry-after"];
    output::table(&header, known.iter().map(Known::row))
}

async fn set(config: &Config, args: SetPolicy) -> Outcome {
    let name = args.policy;
    let Some(policy) = all(config).find(|policy| policy.name == name) else {
        let names: Vec<&str> = all(config).map(|policy| policy.name.as_str()).collect();
        return Err(Failure::Usage(format!(
            "policy '{name}': is not in the configuration; use one of {}",
            names.join(", ")
        )));
    };
    let db = compose::command_db(config)?;
    change(&db, &name, args.budget).await?;
    let stored = budgets::all(&db).await?;
    let known = Known::new(config, policy, &stored);
    if args.output.json {
        return output::json(&known.json());
    }
    output::pairs(&[
        ("policy", name),
        ("budget", known.budget_text()),
        ("retries", known.policy.retries(known.budget).to_string()),
        ("worst case", human(known.worst())),
        ("in force", "in every worker within a second or so; what waits for a retry is still tried once".into()),
    ])
}

async fn change(db: &Db, name: &str, budget: Setting<i32>) -> Outcome {
    match budget {
        Setting::To(budget) => budgets::set(db, name, budget).await?,
        Setting::Default => budgets::unset(db, name).await?,
    }
    Ok(())
}

/// A policy with the budget that is in force.
struct Known<'a> {
    policy: &'a backoff::Policy,
    stored: Option<&'a Budget>,
    budget: Option<u32>,
    timeout: Duration,
}

impl<'a> Known<'a> {
    fn new(config: &Config, policy: &'a backoff::Policy, stored: &'a [Budget]) -> Known<'a> {
        let stored = stored.iter().find(|stored| stored.policy == policy.name);
        let budget = budget::in_force(policy, stored.map(|stored| stored.budget.unsigned_abs()));
        Known { policy, stored, budget, timeout: config.delivery.timeout }
    }

    fn worst(&self) -> Duration {
        self.policy.worst_case(self.budget, self.timeout)
    }

    fn worst_when_asked(&self) -> Duration {
        self.policy.worst_case_when_asked(self.budget, self.timeout)
    }

    fn budget_text(&self) -> String {
        let budget = self.budget.map_or("no limit".to_owned(), |budget| budget.to_string());
        let place = if self.stored.is_some() { "set in the database" } else { "from the configuration" };
        format!("{budget} ({place})")
    }

    fn json(&self) -> Value {
        json!({
            "policy": self.policy.name, "schedule_ms": self.policy.schedule_ms().collect::<Vec<_>>(),
            "retries": self.policy.retries(self.budget), "budget": self.budget, "configured_budget": self.policy.budget,
            "budget_set_at": self.stored.map(|stored| stored.updated_at),
            "worst_case_to_dead_letter_s": self.worst().as_secs(),
            "worst_case_with_retry_after_s": self.worst_when_asked().as_secs(),
        })
    }

    fn row(&self) -> Vec<String> {
        let schedule: Vec<String> = self.policy.schedule_ms().map(|ms| human(Duration::from_millis(ms))).collect();
        vec![
            self.policy.name.clone(),
            schedule.join(", "),
            self.policy.retries(self.budget).to_string(),
            self.budget.map_or("no limit".to_owned(), |budget| budget.to_string()),
            or_dash(self.stored.map(|stored| output::time(stored.updated_at))),
            human(self.worst()),
            human(self.worst_when_asked()),
        ]
    }
}

/// Whole seconds, but for what is shorter.
fn human(time: Duration) -> String {
    let shown = if time.as_secs() > 0 { Duration::from_secs(time.as_secs()) } else { time };
    humantime::format_duration(shown).to_string().replace(' ', "")
}
