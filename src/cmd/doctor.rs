//! `doctor`: one line for each check, with what to do about it.

mod broker;
mod database;
mod host;

use serde_json::{Value, json};

use super::failure::{Failure, Outcome};
use super::output;
use crate::cli::Doctor;
use crate::config::Config;
use crate::domain::doctor::{Check, Level};

pub async fn run(config: &Config, args: &Doctor) -> Outcome {
    let mut checks = database::checks(config, &args.role_prefix).await;
    checks.extend(broker::checks(config).await);
    checks.extend(host::checks(config).await);
    let failed = checks.iter().filter(|check| check.level == Level::Fail).count();
    if args.output.json {
        output::json(&json!({"ok": failed == 0, "checks": checks.iter().map(value).collect::<Vec<_>>()}))?;
    } else {
        output::line(&checks.iter().map(line).collect::<Vec<_>>().join("\n"))?;
    }
    match failed {
        0 => Ok(()),
        failed => Err(Failure::Failed(format!("{failed} of {} checks failed", checks.len()))),
    }
}

fn value(check: &Check) -> Value {
    let Check { name, level, says, fix } = check;
    json!({"name": name, "level": level.as_str(), "says": says, "fix": fix})
}

fn line(check: &Check) -> String {
    let fix = check.fix.as_ref().map(|fix| format!(" -> {fix}")).unwrap_or_default();
    let text = format!("{:7}  {:28}  {}{fix}", check.level.as_str(), check.name, check.says);
    output::plain(&text).into_owned()
}
