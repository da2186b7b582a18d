//! Publishing more than a window of unconfirmed messages holds, and publishing again what was not confirmed.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use lapin::options::QueueBindOptions;
use lapin::types::{AMQPValue, FieldTable};
use posthaste::broker::Settings;
use posthaste::broker::published::PublishError;
use posthaste::broker::publisher::{Publisher, Target};
use posthaste::broker::topology::Names;
use posthaste::domain::message::{Body, Carried, Message};
use posthaste::tls;
use uuid::Uuid;

use crate::harness::{Proxy, Stack, eventually, in_a_thread};
use crate::kit::proxy::{self, Passed, Servers, Wire};

struct Counted;

impl Wire for Counted {
    fn asked(&self, _: &[u8]) {}

    fn answered<'a>(&self, bytes: &'a [u8]) -> Passed<'a> {
        ControlFlow::Continue(Cow::Borrowed(bytes))
    }
}

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

fn publisher(stack: &Stack, url: &str) -> Publisher {
    let (operation_timeout, heartbeat) = (Duration::from_secs(20), Duration::from_secs(10));
    let (url, tls, carried) = (url.to_owned().into(), tls::Files::default(), Carried::Payload);
    let settings = Settings { url, tls, carried, operation_timeout, heartbeat };
    Publisher::new(settings, Names::new(&stack.prefix), "posthaste tests")
}

#[tokio::test]
async fn many_messages_and_large_ones_are_all_confirmed_and_each_answer_is_in_its_place() {
    let stack = Stack::new().await;
    stack.cli(&["topology", "declare"]).await.ok();
    let publisher = publisher(&stack, &stack.binary.amqp_url);

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

/// A node of a cluster that refuses may go on doing so, while another one, or a fresh channel, would be served.
#[tokio::test]
async fn after_a_message_that_was_refused_the_next_one_has_a_connection_of_its_own() {
    let stack = Stack::new().await;
    stack.cli(&["topology", "declare"]).await.ok();
    let mut full = FieldTable::default();
    full.insert("x-max-length".into(), AMQPValue::LongLongInt(2));
    full.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    stack.declare("full", full).await;
    let (channel, exchange) = (stack.channel().await, Names::new(&stack.prefix).delay_exchange());
    let bind = channel.queue_bind(
        stack.queue("full").into(),
        exchange.into(),
        "7".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bind.await.unwrap();
    let made = Arc::new(AtomicUsize::new(0));
    let counter = made.clone();
    let wire = move || {
        counter.fetch_add(1, Ordering::Relaxed);
        Counted
    };
    let (proxy, serving) = proxy::Proxy::to(Servers::of(&[&stack.binary.amqp_url]), wire);
    in_a_thread(serving);
    let publisher = publisher(&stack, &proxy.url(&stack.binary.amqp_url));
    let one = message(1, 100);
    let offer = async || {
        let answer = publisher.publish(&[(Target::Delay(7), &one)]).await.remove(0);
        (answer.is_ok(), made.load(Ordering::Relaxed))
    };

    assert_eq!((offer().await, offer().await), ((true, 1), (true, 1)));
    assert_eq!((offer().await, offer().await, offer().await), ((false, 1), (false, 2), (false, 3)));
    publisher.close().await;
}
