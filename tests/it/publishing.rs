//! Publishing more than a window of unconfirmed messages holds.

use std::time::Duration;

use bytes::Bytes;
use posthaste::broker::Settings;
use posthaste::broker::published::PublishError;
use posthaste::broker::publisher::{Publisher, Target};
use posthaste::broker::topology::Names;
use posthaste::domain::message::{Body, Carried, Message};
use posthaste::tls;
use uuid::Uuid;

use crate::harness::Stack;

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
