//! Taking messages from the two work queues, and acknowledging what is settled.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::acks::Acks;
use super::bytes::{MOST_BYTES, UnackedBytes};
use super::context::Context;
use super::processing;
use super::queue_share::QueueShare;
use super::stall::{Flow, StallDetector};
use crate::broker::BrokerError;
use crate::broker::connection::Link;
use crate::broker::consumer::Subscription;
use crate::broker::declare;
use crate::domain::work_queue::WorkQueue;
use crate::reconnect::Backoff;
use crate::telemetry::readiness::Readiness;

const HEALTH: Duration = Duration::from_secs(1);

fn shares(context: &Context) -> [Arc<QueueShare>; 2] {
    let names = &context.successors.topology.names;
    let bytes = UnackedBytes::new(MOST_BYTES);
    let share = |queue, name| Arc::new(QueueShare::new(queue, name, context.limits.capacity, bytes.clone()));
    [share(WorkQueue::Deliver, names.deliver_queue()), share(WorkQueue::Retry, names.retry_queue())]
}

/// How a worker ends: `stop` asks for no more, `abandon` ends the grace period.
pub struct Ends {
    pub stop: CancellationToken,
    pub abandon: CancellationToken,
}

/// Consumes until `stop`, reconnecting by itself; returns when everything that it took is finished or abandoned, also what came
/// by a channel that is gone.
pub async fn run(context: Arc<Context>, ready: Readiness, ends: Ends) {
    let stop = &ends.stop;
    let shares = shares(&context);
    let mut backoff = Backoff::default();
    while !stop.is_cancelled() {
        match session(&context, &shares, &ready, &ends, &mut backoff).await {
            Ok(()) => return,
            Err(error) => {
                ready.not_ready("broker", error.to_string());
                if error.is_not_found() {
                    context.successors.declare_again().await;
                }
                tracing::warn!(%error, failures = backoff.failures(), "lost the broker; reconnecting");
                backoff.pause_until(stop).await;
            }
        }
    }
    drain(&context, &mut JoinSet::new(), &ends.abandon).await;
}

async fn session(
    context: &Arc<Context>,
    shares: &[Arc<QueueShare>; 2],
    ready: &Readiness,
    ends: &Ends,
    backoff: &mut Backoff,
) -> Result<(), BrokerError> {
    let name = format!("posthaste worker {} consume", context.name);
    let link = tokio::select! {
        link = Link::open(&context.successors.broker, &name) => Arc::new(link?),
        () = ends.stop.cancelled() => {
            drain(context, &mut JoinSet::new(), &ends.abandon).await;
            return Ok(());
        }
    };
    let over = CancellationToken::new();
    let mut consuming = JoinSet::new();
    let flows: [Arc<Flow>; 2] = Default::default();
    // Counted before it consumes, so that it takes no more than its share from the beginning.
    if let Some(figures) = declare::figures(&link, &shares[0].name).await? {
        context.replicas.are(figures.consumers + 1);
    }
    for (share, flow) in shares.iter().zip(&flows) {
        let tag = format!("{}.{}", context.name, if share.is_first() { "first" } else { "retry" });
        let prefetch = share.take_places(context.replicas.get());
        let subscription = Subscription::open(link.clone(), &share.name, prefetch, &tag).await?;
        consuming.spawn(consume(
            context.clone(),
            share.clone(),
            flow.clone(),
            subscription,
            ends.stop.clone(),
            over.clone(),
        ));
    }
    ready.ready("broker");
    backoff.reset();
    tracing::info!("consuming");
    let result = tokio::select! {
        result = first_end(&mut consuming) => result,
        reason = disconnected(context, &link, shares, &flows) => Err(BrokerError::Unavailable(reason.into())),
    };
    if result.is_ok() {
        // A graceful stop: what is in flight is finished and settled, or the grace period ends it.
        drain(context, &mut consuming, &ends.abandon).await;
    }
    over.cancel();
    link.close().await;
    result
}

async fn first_end(consuming: &mut JoinSet<Result<(), BrokerError>>) -> Result<(), BrokerError> {
    match consuming.join_next().await {
        Some(Ok(result)) => result,
        Some(Err(panic)) => Err(BrokerError::Unavailable(format!("the consumer task failed: {panic}"))),
        None => Ok(()),
    }
}

/// A consumer can stay silent for long after a crash of the broker, or be forgotten, so the connection is watched too. And
/// the number of workers, which the broker knows as the number of consumers.
async fn disconnected(
    context: &Context,
    link: &Link,
    shares: &[Arc<QueueShare>; 2],
    flows: &[Arc<Flow>; 2],
) -> &'static str {
    let mut stalls: [StallDetector; 2] = Default::default();
    while link.is_connected() {
        for ((share, flow), stall) in shares.iter().zip(flows).zip(&mut stalls) {
            // Best effort: while the broker cannot say, what is known counts.
            let Ok(Some(figures)) = declare::figures(link, &share.name).await else { continue };
            if share.is_first() {
                context.replicas.are(figures.consumers);
            }
            share.divide_among(context.replicas.get());
            if stall.look(flow, figures.messages) {
                return "messages wait, and the broker hands out none";
            }
        }
        tokio::time::sleep(HEALTH).await;
    }
    "the connection is gone"
}

async fn drain(context: &Context, consuming: &mut JoinSet<Result<(), BrokerError>>, abandon: &CancellationToken) {
    let finish = async {
        while consuming.join_next().await.is_some() {}
        context.under_way.close();
        context.under_way.wait().await;
        context.locks.emptied().await;
    };
    tokio::select! {
        () = finish => {}
        () = abandon.cancelled() => tracing::warn!(
            deliveries = context.locks.len(),
            "abandoned at the end of the grace period; another worker takes them, and no attempt is spent"
        ),
    }
}

async fn consume(
    context: Arc<Context>,
    share: Arc<QueueShare>,
    flow: Arc<Flow>,
    mut subscription: Subscription,
    stop: CancellationToken,
    over: CancellationToken,
) -> Result<(), BrokerError> {
    let ends = processing::Ends { stop: stop.clone(), over: over.clone() };
    let (acks, acknowledging) = Acks::new(subscription.acknowledger(), share.clone(), flow, over.clone());
    context.under_way.spawn(context.helpers.watched("acknowledgements", acknowledging));
    let mut renewing = false;
    loop {
        let incoming = tokio::select! {
            incoming = subscription.next() => incoming,
            () = share.off(), if !renewing => {
                renewing = true;
                subscription.cancel().await?;
                continue;
            }
            () = stop.cancelled() => return subscription.cancel().await,
            () = over.cancelled() => return Ok(()),
        };
        let incoming = match incoming {
            Some(Ok(incoming)) => incoming,
            Some(Err(error)) => return Err(error),
            // All that came before the cancellation has been taken.
            None if renewing => {
                tokio::select! {
                    () = share.bytes.half_free() => {}
                    () = stop.cancelled() => return Ok(()),
                    () = over.cancelled() => return Ok(()),
                }
                subscription.renew(share.take_places(context.replicas.get())).await?;
                renewing = false;
                continue;
            }
            None => return Err(BrokerError::Unavailable("the broker cancelled the consumer".into())),
        };
        let receipt = acks.receive(incoming.tag, share.bytes.take(incoming.content.bytes()));
        let processing = processing::process(context.clone(), share.clone(), incoming, receipt, ends.clone());
        context.under_way.spawn(context.helpers.watched("a message", processing));
        // The broker hands out more whether or not it is taken, so the consumer ends until there is room.
        if !renewing && share.bytes.is_full() {
            renewing = true;
            subscription.cancel().await?;
        }
    }
}
