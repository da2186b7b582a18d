//! `topology declare`, `topology check` and `topology prune`.

use std::collections::BTreeSet;

use serde_json::json;

use super::failure::{Failure, Outcome};
use super::{compose, confirm, output};
use crate::broker::connection::Link;
use crate::broker::declare;
use crate::broker::topology::Topology as Queues;
use crate::cli::Topology;
use crate::config::Config;
use crate::relay;
use crate::store::Db;
use crate::store::delay_queues::{self, Known};

pub async fn run(config: &Config, command: Topology) -> Outcome {
    match command {
        Topology::Declare => declare_all(config).await,
        Topology::Check(output) => check(config, output.json).await,
        Topology::Prune { dry_run, yes, output } => prune(config, dry_run, yes, output.json).await,
    }
}

async fn declare_all(config: &Config) -> Outcome {
    let topology = compose::topology(config);
    let db = compose::command_db(config)?;
    relay::declare(&db, &compose::broker_settings(config)?, &topology).await?;
    output::line(&format!("declared {} exchanges and {} queues", topology.exchanges.len(), topology.queues.len()))
}

async fn check(config: &Config, as_json: bool) -> Outcome {
    let topology = compose::topology(config);
    let link = Link::open(&compose::broker_settings(config)?, "posthaste topology").await?;
    let differences: Vec<String> = declare::check(&link, &topology).await?.iter().map(ToString::to_string).collect();
    link.close().await;
    let (queues, handles) = (topology.queues.len(), topology.file_handles());
    if as_json {
        let same = differences.is_empty();
        output::json(&json!({"same": same, "differences": differences, "queues": queues, "file_handles": handles}))?;
    } else if differences.is_empty() {
        output::line("the broker has every exchange and queue as configured")?;
        output::line(&format!("{queues} queues, for which RabbitMQ 3 reserves {handles} file handles"))?;
    } else {
        output::line(&differences.join("\n"))?;
    }
    match differences.len() {
        0 => Ok(()),
        count => Err(Failure::Failed(format!("{count} differences"))),
    }
}

/// What became of a delay queue that no policy names.
#[derive(serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
enum Pruned {
    /// Unbound now; what is in it expires into the retry queue. To be deleted by a later run.
    Retired,
    /// Unbound earlier; its last message may not have expired yet.
    Draining {
        messages: u32,
    },
    Deleted,
}

/// Retires in two steps: a queue that is unbound is deleted only when its last message must have expired, since a quorum
/// queue cannot be deleted on the condition that it is empty.
async fn prune(config: &Config, dry_run: bool, yes: bool, as_json: bool) -> Outcome {
    let topology = compose::topology(config);
    let db = compose::command_db(config)?;
    let wanted: BTreeSet<String> = topology.delay_queues().into_iter().map(|(name, _)| name).collect();
    let known = delay_queues::known(&db, topology.names.prefix()).await?;
    let unwanted: Vec<Known> = known.into_iter().filter(|queue| !wanted.contains(&queue.name)).collect();
    if !dry_run && !unwanted.is_empty() {
        confirm::ask(&format!("Retire {} delay queues that no policy names?", unwanted.len()), yes)?;
    }
    let link = Link::open(&compose::broker_settings(config)?, "posthaste topology").await?;
    let mut pruned = Vec::new();
    for queue in unwanted {
        let state = prune_one(&db, &link, &topology, &queue, dry_run).await?;
        pruned.push((queue.name, state));
    }
    link.close().await;
    report(&pruned, dry_run, as_json)
}

async fn prune_one(db: &Db, link: &Link, topology: &Queues, queue: &Known, dry_run: bool) -> Result<Pruned, Failure> {
    let Some(messages) = declare::message_count(link, &queue.name).await? else {
        if !dry_run {
            delay_queues::forget(db, &queue.name).await?;
        }
        return Ok(Pruned::Deleted);
    };
    if queue.retired_at.is_none() {
        if !dry_run {
            declare::unbind_delay(link, topology, &queue.name, queue.ttl_ms.unsigned_abs()).await?;
            delay_queues::retire(db, &queue.name).await?;
        }
        return Ok(Pruned::Retired);
    }
    if !queue.drained || messages > 0 {
        return Ok(Pruned::Draining { messages });
    }
    if !dry_run {
        declare::delete(link, &queue.name).await?;
        delay_queues::forget(db, &queue.name).await?;
    }
    Ok(Pruned::Deleted)
}

fn report(pruned: &[(String, Pruned)], dry_run: bool, as_json: bool) -> Outcome {
    if as_json {
        let queues: Vec<_> = pruned.iter().map(|(name, state)| json!({"queue": name, "result": state})).collect();
        return output::json(&json!({"dry_run": dry_run, "queues": queues}));
    }
    if pruned.is_empty() {
        return output::line("nothing to prune: every delay queue is named by a policy");
    }
    let rows = pruned.iter().map(|(name, state)| {
        let text = match state {
            Pruned::Retired => "unbound; run prune again when its last message has expired".to_owned(),
            Pruned::Draining { messages } => format!("draining, {messages} messages left; run prune again later"),
            Pruned::Deleted => "deleted".to_owned(),
        };
        vec![name.clone(), if dry_run { format!("would be: {text}") } else { text }]
    });
    output::table(&["queue", "result"], rows)
}
