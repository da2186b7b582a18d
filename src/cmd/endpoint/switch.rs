//! `endpoint disable`, `endpoint enable` and `endpoint resume`: whether an endpoint is sent to.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::super::compose;
use super::super::failure::{Failure, Outcome};
use super::known::{existing, unknown};
use super::{show, url};
use crate::cli::EndpointId;
use crate::config::Config;
use crate::store::pauses::{self, Pause};
use crate::store::{Db, endpoints};

pub async fn disable(config: &Config, args: &EndpointId, reason: &str) -> Outcome {
    let db = compose::command_db(config)?;
    if !endpoints::disable(&db, args.id, reason).await? {
        return Err(unknown(args.id));
    }
    show::one(config, args).await
}

pub async fn enable(config: &Config, args: &EndpointId) -> Outcome {
    let db = compose::command_db(config)?;
    // It would be disabled again at its next delivery.
    url::may_be_sent_to(config, &db, &existing(&db, args.id).await?).await?;
    let before = pauses::of(&db, &[args.id]).await?;
    if !endpoints::enable(&db, args.id, config.circuit.enabled).await? {
        return Err(unknown(args.id));
    }
    make_due(&db, args.id, &before).await?;
    show::one(config, args).await
}

pub async fn resume(config: &Config, args: &EndpointId) -> Outcome {
    let db = compose::command_db(config)?;
    existing(&db, args.id).await?;
    let before = pauses::of(&db, &[args.id]).await?;
    if !pauses::resume(&db, args.id).await? {
        return Err(Failure::Failed(format!(
            "endpoint {}: is disabled; `posthaste endpoint enable` lifts that and all its pauses",
            args.id
        )));
    }
    make_due(&db, args.id, &before).await?;
    show::one(config, args).await
}

/// What is held for the endpoint may go now. Where workers promised times, one that has not heard of it yet may promise
/// another one meanwhile, so it is done again once all have.
async fn make_due(db: &Db, id: Uuid, before: &[Pause]) -> Outcome {
    const ALL_HAVE_HEARD: Duration = Duration::from_secs(2);
    let began = Instant::now();
    let mut deliveries = pauses::bring_forward(db, id).await?;
    if before.iter().any(|pause| matches!(pause.reason.as_str(), "slowed" | "rate_limit")) {
        tokio::time::sleep(ALL_HAVE_HEARD.saturating_sub(began.elapsed())).await;
        deliveries += pauses::bring_forward(db, id).await?;
    }
    if deliveries > 0 {
        tracing::info!(deliveries, "held deliveries are due now");
    }
    Ok(())
}
