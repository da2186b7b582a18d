//! Taking messages from the two work queues, and acknowledging what is settled.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::access::Access;
use super::acks::Acks;
use super::consumed;
use super::processing::Processor;
use super::queue_share::QueueShare;
use super::replicas::Replicas;
use super::running::Running;
use super::stall::{Flow, StallDetector};
use crate::broker::BrokerError;
use crate::broker::connection::Link;
use crate::broker::consumer::Subscription;
use crate::broker::declare;
use crate::broker::silence::{self, Silence};
use crate::reconnect::Backoff;
use crate::telemetry::readiness::Readiness;

const HEALTH: Duration = Duration::from_secs(1);

/// What takes messages, and hands each to a task of its own.
pub struct Consumer {
    /// Of the worker.
    pub name: String,
    pub access: Arc<Access>,
    pub shares: [Arc<QueueShare>; 2],
    pub replicas: Arc<Replicas>,
    pub running: Running,
    pub processor: Arc<Processor>,
}

/// How a worker ends: `stop` asks for no more, `abandon` ends the grace period.
pub struct Ends {
    pub stop: CancellationToken,
    pub abandon: CancellationToken,
}

impl Consumer {
    /// Consumes until `stop`, reconnecting by itself; returns when everything that it took is finished or abandoned, also what
    /// came by a channel that is gone.
    pub async fn run(&self, ready: Readiness, ends: Ends) {
        let stop = &ends.stop;
        let mut backoff = Backoff::default();
        while !stop.is_cancelled() {
            match self.session(&ready, &ends, &mut backoff).await {
                Ok(()) => return,
                Err(error) => {
                    ready.not_ready("broker", error.to_string());
                    if error.is_not_found() {
                        self.access.declare_again().await;
                    }
                    tracing::warn!(%error, failures = backoff.failures(), "lost the broker; reconnecting");
                    backoff.pause_until(stop).await;
                }
            }
        }
        drain(&self.running, &mut JoinSet::new(), &ends.abandon).await;
    }

    async fn session(&self, ready: &Readiness, ends: &Ends, backoff: &mut Backoff) -> Result<(), BrokerError> {
        let name = format!("posthaste worker {} consume", self.name);
        let link = tokio::select! {
            link = self.access.open(&name) => Arc::new(link?),
            () = ends.stop.cancelled() => {
                drain(&self.running, &mut JoinSet::new(), &ends.abandon).await;
                return Ok(());
            }
        };
        let over = CancellationToken::new();
        let mut consuming = JoinSet::new();
        let flows: [Arc<Flow>; 2] = Default::default();
        // Counted before it consumes, so that it takes no more than its share from the beginning.
        if let Some(figures) = declare::figures(&link, &self.shares[0].name).await? {
            self.replicas.are(figures.consumers + 1);
        }
        for (share, flow) in self.shares.iter().zip(&flows) {
            let tag = format!("{}.{}", self.name, if share.is_first() { "first" } else { "retry" });
            let prefetch = share.take_places(self.replicas.get());
            let subscription = Subscription::open(link.clone(), &share.name, prefetch, &tag).await?;
            let channel = Channel {
                share: share.clone(),
                flow: flow.clone(),
                ends: consumed::Ends { stop: ends.stop.clone(), over: over.clone() },
            };
            let (replicas, running, processor) = (self.replicas.clone(), self.running.clone(), self.processor.clone());
            consuming.spawn(consume(channel, subscription, replicas, running, processor));
        }
        ready.ready("broker");
        backoff.reset();
        tracing::info!("consuming");
        let result = tokio::select! {
            result = first_end(&mut consuming) => result,
            reason = disconnected(&link, &self.shares, &flows, &self.replicas, ready) => {
                Err(BrokerError::Unavailable(reason.into()))
            }
        };
        if result.is_ok() {
            // A graceful stop: what is in flight is finished and settled, or the grace period ends it.
            drain(&self.running, &mut consuming, &ends.abandon).await;
        }
        over.cancel();
        link.close().await;
        result
    }
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
    link: &Link,
    shares: &[Arc<QueueShare>; 2],
    flows: &[Arc<Flow>; 2],
    replicas: &Replicas,
    ready: &Readiness,
) -> &'static str {
    let mut stalls: [StallDetector; 2] = Default::default();
    let silence = Silence::default();
    while link.is_connected() {
        for ((share, flow), stall) in shares.iter().zip(flows).zip(&mut stalls) {
            let was_silent = silence.is_on();
            let answer = silence.ask(declare::figures(link, &share.name)).await;
            match (was_silent, silence.is_on()) {
                (_, true) => ready.not_ready("broker", silence::REASON),
                (true, false) => ready.ready("broker"),
                (false, false) => {}
            }
            // Best effort: while the broker cannot say, what is known counts.
            let Ok(Some(figures)) = answer else { continue };
            if share.is_first() {
                replicas.are(figures.consumers);
            }
            share.divide_among(replicas.get());
            if stall.look(flow, figures.messages) {
                return "messages wait, and the broker hands out none";
            }
        }
        tokio::time::sleep(HEALTH).await;
    }
    "the connection is gone"
}

async fn drain(running: &Running, consuming: &mut JoinSet<Result<(), BrokerError>>, abandon: &CancellationToken) {
    let finish = async {
        while consuming.join_next().await.is_some() {}
        running.settled().await;
    };
    tokio::select! {
        () = finish => {}
        () = abandon.cancelled() => tracing::warn!(
            deliveries = running.deliveries(),
            "abandoned at the end of the grace period; another worker takes them, and no attempt is spent"
        ),
    }
}

/// What belongs to one subscription.
struct Channel {
    share: Arc<QueueShare>,
    flow: Arc<Flow>,
    ends: consumed::Ends,
}

async fn consume(
    Channel { share, flow, ends }: Channel,
    mut subscription: Subscription,
    replicas: Arc<Replicas>,
    running: Running,
    processor: Arc<Processor>,
) -> Result<(), BrokerError> {
    let (acks, acknowledging) = Acks::new(subscription.acknowledger(), share.clone(), flow, ends.over.clone());
    running.spawn("acknowledgements", acknowledging);
    let mut renewing = false;
    loop {
        let incoming = tokio::select! {
            incoming = subscription.next() => incoming,
            () = share.off(), if !renewing => {
                renewing = true;
                subscription.cancel().await?;
                continue;
            }
            () = ends.stop.cancelled() => return subscription.cancel().await,
            () = ends.over.cancelled() => return Ok(()),
        };
        let incoming = match incoming {
            Some(Ok(incoming)) => incoming,
            Some(Err(error)) => return Err(error),
            // All that came before the cancellation has been taken.
            None if renewing => {
                tokio::select! {
                    () = share.bytes.half_free() => {}
                    () = ends.stop.cancelled() => return Ok(()),
                    () = ends.over.cancelled() => return Ok(()),
                }
                subscription.renew(share.take_places(replicas.get())).await?;
                renewing = false;
                continue;
            }
            None => return Err(BrokerError::Unavailable("the broker cancelled the consumer".into())),
        };
        let receipt = acks.receive(incoming.tag, share.bytes.take(incoming.content.bytes()));
        let processing = processor.clone().process(share.clone(), incoming, receipt, ends.clone());
        running.spawn("a message", processing);
        // The broker hands out more whether or not it is taken, so the consumer ends until there is room.
        if !renewing && share.bytes.is_full() {
            renewing = true;
            subscription.cancel().await?;
        }
    }
}
