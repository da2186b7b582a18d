//! What the pipeline and a publisher get from a broker, beside what they get from another one.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation};
use uuid::Uuid;

use crate::chaos::ledger::{FOR_TWO, TENANT};
use crate::chaos::producers::{Draft, Producer};
use crate::chaos::run::unfinished;
use crate::chaos::stack::Stack;
use crate::kit::ask_until;
use crate::kit::broker::{connect, delete};

const QUEUE: &str = "confirms";
const BODY: &[u8] = &[b'x'; 1_024];
/// One after the other.
const ALONE: usize = 300;
/// And with so many unconfirmed at a time.
const MANY: usize = 3_000;
const WINDOW: usize = 64;
/// Events of a burst, and of each of its transactions.
const BURST: usize = 1_000;
const AT_ONCE: usize = 100;
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const PERSISTENT: u8 = 2;

#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// From the publish of one message to its confirm, with none beside it.
    pub confirm_p50: Duration,
    pub confirm_p99: Duration,
    /// Messages confirmed in a second, many at a time.
    pub confirmed: f64,
    /// Deliveries in a second, of a burst through the whole pipeline.
    pub delivered: f64,
}

/// The second URL is of the broker that the processes use, which have nothing to do.
pub async fn measure(stack: &Stack, url: &str) -> Result<Measured, String> {
    let [confirm_p50, confirm_p99, all] = confirms(url).await.map_err(|error| error.to_string())?;
    let delivered = burst(stack).await?;
    Ok(Measured { confirm_p50, confirm_p99, confirmed: MANY as f64 / all.as_secs_f64(), delivered })
}

/// Of a quorum queue as those of the service: the median and the percentile of one after another, and the time of many.
async fn confirms(url: &str) -> lapin::Result<[Duration; 3]> {
    let connection = connect(url).await?;
    let channel = connection.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(QUEUE.into(), durable, arguments).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut alone = Vec::with_capacity(ALONE);
    for _ in 0..ALONE {
        alone.push(publish(&channel).await?);
    }
    alone.sort();
    let began = Instant::now();
    let publishing = stream::iter(0..MANY).map(|_| publish(&channel)).buffer_unordered(WINDOW);
    publishing.try_fold((), async |(), _| Ok(())).await?;
    let all = began.elapsed();
    delete(&channel, QUEUE).await?;
    connection.close(200, "done".into()).await?;
    Ok([alone[ALONE / 2], alone[ALONE * 99 / 100], all])
}

async fn publish(channel: &Channel) -> lapin::Result<Duration> {
    let began = Instant::now();
    let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
    let options = BasicPublishOptions::default();
    let confirm = channel.basic_publish("".into(), QUEUE.into(), options, BODY, properties).await?;
    match confirm.await? {
        Confirmation::Ack(_) => Ok(began.elapsed()),
        other => panic!("a message was not confirmed: {other:?}"),
    }
}

/// Deliveries a second, from the first commit until nothing is unfinished.
async fn burst(stack: &Stack) -> Result<f64, String> {
    let producer = Producer::new(&stack.database_url, TENANT, stack.ledger.clone(), stack.clock, stack.pause.clone());
    let before = stack.receiver.notes().requests;
    let began = Instant::now();
    for _ in 0..BURST / AT_ONCE {
        let drafts = (0..AT_ONCE).map(|number| Draft::new(Uuid::now_v7(), number % FOR_TWO)).collect();
        producer.commit(drafts, Duration::ZERO).await;
    }
    let done = async || (unfinished(stack).await.ok()? == 0).then_some(());
    ask_until(PATIENCE, LOOK_AGAIN, done).await.ok_or("the burst was not delivered")?;
    let requests = stack.receiver.notes().requests - before;
    Ok(requests as f64 / began.elapsed().as_secs_f64())
}
