//! `reconcile`: one round of what the relay does continuously, with an explanation; and the sweep of the dead letters.

use serde_json::json;

use super::compose;
use super::failure::{Failure, Outcome};
use super::output::{self, or_dash, time};
use crate::broker::publisher::Publisher;
use crate::cli::Reconcile;
use crate::config::Config;
use crate::domain::reconcile::SLACK;
use crate::relay;
use crate::requeue::lost;
use crate::requeue::sweep::{GRACE, Sweep, Swept};
use crate::store::Db;
use crate::store::locks::Role;
use crate::store::reconcile::{self, Lost, Proofs};

/// Lost deliveries shown one by one.
const SHOWN: i64 = 20;

pub async fn run(config: &Config, args: Reconcile) -> Outcome {
    let options = compose::service_options(config, "posthaste reconcile")?;
    let db = Db::new(&options)?;
    let proofs = relay::reconcile::proofs(&db, compose::reconcile_grace(config)).await?;
    let lost = reconcile::count(&db, proofs).await?;
    let examples = reconcile::list(&db, proofs, SHOWN).await?;
    if args.dry_run {
        return report(args.output.json, proofs, lost, &examples, 0, None);
    }
    let broker = compose::broker_settings(config)?;
    let names = compose::topology(config).names;
    let publisher = Publisher::new(broker.clone(), names.clone(), "posthaste reconcile");
    let (session, identity) = relay::open_session(&options).await?;
    let republished = lost::republish(&db, &publisher, identity.into(), proofs)
        .await
        .map_err(|error| Failure::Failed(format!("{error}; nothing is lost: a relay publishes the rest")))?;
    let swept = if session.try_role_for_a_while(Role::Requeue).await? {
        let sweep = Sweep { db, broker, names, publisher: publisher.clone(), grace: GRACE };
        Some(sweep.run().await.map_err(|error| Failure::Failed(error.to_string()))?)
    } else {
        // Two sweeps at once would each take the dead letters that the other one has in hand for missing.
        tracing::warn!("a requeue or another reconcile is running; the dead-letter queue is left to it");
        None
    };
    publisher.close().await;
    session.close().await;
    report(args.output.json, proofs, lost, &examples, republished, swept)
}

fn report(
    as_json: bool,
    proofs: Proofs,
    lost: i64,
    examples: &[Lost],
    republished: u64,
    swept: Option<Swept>,
) -> Outcome {
    if as_json {
        return output::json(&json!({
            "lost": lost, "examples": examples, "republished": republished, "letters": swept,
            "proof": {"retry": proofs.retry, "deliver": proofs.deliver},
        }));
    }
    output::pairs(&[
        ("proven by the retry queue until", or_dash(proofs.retry.map(time))),
        ("proven by the deliver queue until", or_dash(proofs.deliver.map(time))),
        ("lost by the broker", lost.to_string()),
        ("published again", republished.to_string()),
    ])?;
    if let Some(swept) = swept {
        let text = format!("{} kept, {} removed, {} written", swept.kept, swept.dropped, swept.written);
        output::pairs(&[("dead-letter queue", text)])?;
    }
    if proofs.retry.is_none() {
        output::line("no marker has come through yet: are a relay and a worker running?")?;
    }
    if examples.is_empty() {
        return Ok(());
    }
    output::line(&format!(
        "\nunfinished, and due more than {SLACK:?} before a marker that has come through since; the first {SHOWN}:"
    ))?;
    let rows = examples.iter().map(|lost| {
        vec![
            lost.event_id.to_string(),
            lost.endpoint_id.to_string(),
            lost.status.clone(),
            lost.attempts.to_string(),
            time(lost.due_at),
        ]
    });
    output::table(&["event", "endpoint", "status", "attempts", "due"], rows)
}
