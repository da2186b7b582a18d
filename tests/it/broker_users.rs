//! The users of `posthaste roles rabbitmq`: each can do its work, and nothing else.

use std::path::Path;

use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection};

use crate::harness::{OwnServers, Receiver, Reply, Stack};
use crate::kit::broker::connect;

const USERS: [&str; 4] = ["relay", "worker", "operator", "migrator"];
const PASSWORD: &str = "not-a-secret";

/// Of the users' names; they are the broker's, and a test that comes later gets new permissions for them.
const PREFIX: &str = "shop";

/// Applies the script as it is printed, and gives the users a password.
async fn make(own: &OwnServers, stack: &Stack) {
    apply(own, stack).await;
    for user in USERS {
        own.native.rabbitmq.control(&["change_password", &format!("{PREFIX}_{user}"), PASSWORD]).await.unwrap();
    }
}

async fn apply(own: &OwnServers, stack: &Stack) {
    let script = stack.cli(&["roles", "rabbitmq", "--prefix", PREFIX]).await.ok().stdout;
    let script = format!("PATH={}:$PATH\n{script}", own.native.rabbitmq.bin.display());
    let mut shell = own.native.rabbitmq.daemon.command(Path::new("sh"), &own.native.rabbitmq.environment);
    shell.args(["-c", &script]);
    let done = tokio::process::Command::from(shell).output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn url(stack: &Stack, user: &str) -> String {
    let mut url = url::Url::parse(&stack.binary.amqp_url).unwrap();
    url.set_username(&format!("{PREFIX}_{user}")).unwrap();
    url.set_password(Some(PASSWORD)).unwrap();
    url.into()
}

#[tokio::test]
async fn deliveries_retries_dead_letters_and_requeues_go_their_way_under_the_users() {
    let test = "deliveries_retries_dead_letters_and_requeues_go_their_way_under_the_users";
    let Some(own) = OwnServers::lock(test).await else { return };
    let own = own.as_ref().unwrap();
    let (stack, receiver) = (Stack::on(&own.servers, &[]).await, Receiver::start());
    make(own, &stack).await;
    // It takes nobody's password away.
    apply(own, &stack).await;
    let urls = USERS.map(|user| url(&stack, user));
    let [relay, worker, operator, migrator] = urls.each_ref().map(|url| [("broker.url", url.as_str())]);
    stack.cli_with(&["topology", "declare"], &migrator).await.ok();
    receiver.at("/", |n| if n == 1 { Reply::status(500) } else { Reply::ok() });
    receiver.at("/dead", |_| Reply::status(500));
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    let dead = stack.endpoint("dead", &receiver.url("/dead"), &[]).await.id;
    let relay = stack.start("relay", &relay).await;
    let worker = stack.start("worker", &worker).await;

    let retried = stack.emit("acme", "order.created", "{}").await;
    let failed = stack.emit("dead", "order.created", "{}").await;

    stack.wait_status(retried, "delivered").await;
    stack.wait_status(failed, "dead").await;
    stack.dead_letters(1).await;
    receiver.at("/dead", |_| Reply::ok());
    stack.cli_with(&["requeue", "--all", "--yes"], &operator).await.ok();
    stack.wait_status(failed, "delivered").await;
    stack.cli_with(&["reconcile"], &operator).await.ok();
    let removed = dead.to_string();
    stack.cli_with(&["endpoint", "disable", &removed], &operator).await.ok();
    let ended = stack.emit("dead", "order.created", "{}").await;
    stack.wait_status(ended, "held").await;
    // The relay writes this dead letter.
    stack.change(dead, "delete from posthaste.endpoints where id = $1").await;
    stack.wait_status(ended, "dead").await;
    stack.wait_depth("dead", 1).await;
    for process in [relay, worker] {
        assert!(process.is_running());
        let log = process.log();
        let refused = log.lines().find(|line| line.contains("ACCESS_REFUSED"));
        assert!(refused.is_none(), "{refused:?}");
    }
}

/// The connection ends with what it is part of.
async fn channel(stack: &Stack, user: &str) -> (Connection, Channel) {
    let connection = connect(&url(stack, user)).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

/// What a user must not do, and the broker's answer to it.
#[tokio::test]
async fn what_a_user_of_the_broker_must_not_do_is_refused() {
    let Some(own) = OwnServers::lock("what_a_user_of_the_broker_must_not_do_is_refused").await else { return };
    let own = own.as_ref().unwrap();
    let stack = Stack::on(&own.servers, &[]).await;
    make(own, &stack).await;
    stack.cli_with(&["topology", "declare"], &[("broker.url", &url(&stack, "migrator"))]).await.ok();
    let (deliver, dead) = (stack.queue("deliver"), stack.queue("dead"));
    let reads: [(&str, &str, bool); 6] = [
        ("relay", &deliver, false),
        ("relay", &dead, true),
        ("worker", &deliver, true),
        ("worker", &dead, false),
        ("operator", &deliver, false),
        ("operator", &dead, true),
    ];
    for (user, queue, allowed) in reads {
        let (_connection, channel) = channel(&stack, user).await;
        let got = channel.basic_get(queue.into(), BasicGetOptions::default()).await;
        assert_eq!(got.is_ok(), allowed, "{user} reads {queue}: {got:?}");
    }
    for user in ["relay", "worker", "operator"] {
        let own_queue = format!("{}.own", stack.prefix);
        let options = QueueDeclareOptions::default();
        let (_connection, channel) = channel(&stack, user).await;
        let declared = channel.queue_declare(own_queue.into(), options, FieldTable::default()).await;
        assert!(declared.is_err(), "{user} declares a queue");
    }
    let writes: [(&str, String, bool); 5] = [
        ("relay", stack.prefix.clone(), true),
        ("relay", stack.queue("delay"), false),
        ("operator", stack.queue("delay"), false),
        ("worker", stack.queue("delay"), true),
        ("worker", "amq.direct".to_owned(), false),
    ];
    for (user, exchange, allowed) in writes {
        let (_connection, channel) = channel(&stack, user).await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let options = BasicPublishOptions::default();
        let published = channel
            .basic_publish(exchange.as_str().into(), "nowhere".into(), options, b"{}", BasicProperties::default())
            .await;
        // What was refused closes the channel, and is not confirmed.
        let confirmed = async { published?.await }.await;
        assert_eq!(confirmed.is_ok(), allowed, "{user} writes to {exchange}: {confirmed:?}");
    }
}
