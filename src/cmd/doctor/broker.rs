//! RabbitMQ.

use std::time::Instant;

use secrecy::SecretString;

use super::super::compose;
use super::super::failure::Failure;
use crate::broker::connection::Link;
use crate::broker::topology::Topology;
use crate::broker::{BrokerError, Settings, declare, greeting, management, probe};
use crate::config::Config;
use crate::domain::doctor::Check;
use crate::domain::doctor::broker::{self, Handles};

pub async fn checks(config: &Config) -> Vec<Check> {
    let settings = match compose::broker_settings(config) {
        Ok(settings) => settings,
        Err(failure) => return vec![unreachable(&failure)],
    };
    let topology = compose::topology(config);
    let mut checks = Vec::new();
    let began = Instant::now();
    match Link::open(&settings, "posthaste doctor").await {
        Ok(link) => {
            checks.push(broker::connection(began.elapsed().as_secs_f64() * 1_000.0));
            checks.extend(of_the_link(&link, &settings, &topology).await);
            link.close().await;
        }
        Err(error) => checks.push(unreachable(&error.into())),
    }
    // What the schedules need is known without a broker.
    checks.push(broker::file_handles(topology.queues.len(), topology.file_handles(), &handles(config).await));
    checks
}

/// By the management API, where one is configured.
async fn handles(config: &Config) -> Handles {
    let Some(url) = &config.broker.management_url else { return Handles::NotAsked };
    let url: SecretString = url.expose().to_owned().into();
    let nodes = match management::nodes(&url, config.broker.operation_timeout).await {
        Ok(nodes) => nodes,
        Err(why) => return Handles::NoAnswer(why),
    };
    let counted = nodes.iter().filter_map(|node| Some((node.fd_total.filter(|total| *total > 0)?, node.fd_used?)));
    let fewest_left = counted.min_by_key(|(total, used)| total.saturating_sub(*used));
    fewest_left.map_or(Handles::NotCounted, |(total, used)| Handles::Counted { total, used })
}

fn unreachable(failure: &Failure) -> Check {
    Check::fail("broker.connection", failure.to_string(), "see broker.url, and that RabbitMQ runs and can be reached")
}

async fn of_the_link(link: &Link, settings: &Settings, topology: &Topology) -> Vec<Check> {
    let version = broker::version(greeting::version(settings).await.as_deref());
    let queues = topology.queues.len();
    let differences = match declare::check(link, topology).await {
        // Comparing arguments is declaring, which not everybody may.
        Err(error) if error.is_access_refused() => missing(link, topology).await.map(|missing| (missing, false)),
        found => found.map(|found| (found.iter().map(ToString::to_string).collect(), true)),
    };
    let differences = match differences {
        Ok((differences, compared)) => broker::topology(queues, &differences, compared),
        Err(error) => unanswered("broker.topology", &error),
    };
    let alarm = match probe::probe(link, &topology.names).await {
        Ok(probe) => broker::alarm(probe),
        Err(error) => unanswered("broker.alarm", &error),
    };
    let dead = match declare::message_count(link, &topology.names.dead()).await {
        Ok(Some(messages)) => Some(broker::dead_letters(messages)),
        // The check of the topology tells that it is missing.
        Ok(None) => None,
        Err(error) => Some(unanswered("flow.dead_letters", &error)),
    };
    [Some(version), Some(differences), Some(alarm), dead].into_iter().flatten().collect()
}

/// Queues that are not there, by looking only.
async fn missing(link: &Link, topology: &Topology) -> Result<Vec<String>, BrokerError> {
    let mut missing = Vec::new();
    for queue in &topology.queues {
        if declare::figures(link, &queue.name).await?.is_none() {
            missing.push(format!("queue '{}' is missing", queue.name));
        }
    }
    Ok(missing)
}

fn unanswered(name: &'static str, error: &BrokerError) -> Check {
    if error.is_access_refused() {
        return Check::unknown(name, "this user may not see it", "run it as the migrator (posthaste roles rabbitmq)");
    }
    if error.is_not_found() {
        return Check::fail(
            name,
            error.to_string(),
            "declare the exchanges and queues with `posthaste topology declare`",
        );
    }
    Check::fail(name, error.to_string(), "see that the broker is well")
}
