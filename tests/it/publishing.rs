//! Publishing more than a window of unconfirmed messages holds, and publishing again what was not confirmed.

use std::time::Duration;

use bytes::Bytes;
use lapin::types::AMQPValue;
use posthaste::broker::Settings;
use posthaste::broker::published::PublishError;
use posthaste::broker::publisher::{Publisher, Target};
use posthaste::broker::topology::Names;
use posthaste::domain::message::{Body, Carried, Message};
use posthaste::tls;
use uuid::Uuid;

use crate::harness::{Proxy, Stack, eventually};

fn message(n: u128, bytes: usize) -> Message {
    Message {
        event_id: Uuid::from_u128(n),
        endpoint_id: Uuid::nil(),
        tenant: "acme".into(),
        event_type: "order.created".into(),
        body: Body::Here(Bytes::from(vec![b'1'; bytes])),
        attempt: 1,
        max_attempts: 5,
        base_attempts: 0,
        traceparent: None,
        claimed_ms: None,
    }
}

#[tokio::test]
async fn many_messages_and_large_ones_are_all_confirmed_and_each_answer_is_in_its_place() {
    let stack = Stack::new().await;
    stack.cli(&["topology", "declare"]).await.ok();
    let (operation_timeout, heartbeat) = (Duration::from_secs(20), Duration::from_secs(10));
    let (url, tls, carried) = (stack.binary.amqp_url.clone().into(), tls::Files::default(), Carried::Payload);
    let settings = Settings { url, tls, carried, operation_timeout, heartbeat };
    let publisher = Publisher::new(settings, Names::new(&stack.prefix), "posthaste tests");

    let messages: Vec<Message> = (0..1_300).map(|n| message(n, if n % 300 == 299 { 6 << 20 } else { 100 })).collect();
    // No such delay queue: the broker returns it.
    let nowhere = [0, 650, 1_299];
    let target = |n: usize| if nowhere.contains(&n) { Target::Delay(1) } else { Target::Deliver };
    let batch: Vec<(Target, &Message)> = messages.iter().enumerate().map(|(n, m)| (target(n), m)).collect();
    let answers = publisher.publish(&batch).await;

    assert_eq!(answers.len(), messages.len());
    for (n, answer) in answers.iter().enumerate() {
        match answer {
            Ok(()) => assert!(!nowhere.contains(&n), "{n} was confirmed"),
            Err(PublishError::Returned(_)) => assert!(nowhere.contains(&n), "{n} was returned"),
            Err(error) => panic!("{n}: {error}"),
        }
    }
    assert!(publisher.publish(&[]).await.is_empty());
    assert!(publisher.is_ready().await.unwrap(), "the channel is as good as before");
    publisher.close().await;
}

#[tokio::test]
async fn a_first_attempt_that_is_published_again_says_that_it_may_not_be_the_only_copy() {
    let stack = Stack::new().await;
    let broker = Proxy::to(&stack.binary.amqp_url);
    stack.endpoint("acme", "https://1.1.1.1/", &[]).await;
    // One marker in the queue, and no second one in between.
    let settings = [("broker.url", &*broker.url(&stack.binary.amqp_url)), ("reconcile.interval", "1h")];
    stack.start("relay", &settings).await;
    let depth = async |count| {
        let there = async || (stack.depth("deliver").await == count).then_some(());
        eventually(&format!("{count} messages are in the queue"), there).await;
    };
    depth(1).await;
    stack.emit("acme", "order.created", "{}").await;
    depth(2).await;

    broker.mute();
    stack.emit("acme", "order.created", "{}").await;
    depth(3).await;
    broker.cut();
    broker.forward();
    depth(4).await;

    let mut claimed_at = Vec::new();
    for _ in 0..4 {
        let properties = stack.take("deliver").await;
        claimed_at.extend(properties.headers().as_ref().and_then(|headers| headers.inner().get("claimed-at").cloned()));
    }
    let AMQPValue::LongLongInt(0) = claimed_at.pop().unwrap() else {
        panic!("no worker may skip the row for this one")
    };
    let claimed = |at: &AMQPValue| matches!(at, AMQPValue::LongLongInt(at) if *at > 0);
    assert!(claimed_at.len() == 2 && claimed_at.iter().all(claimed), "{claimed_at:?}");
}
