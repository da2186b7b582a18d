//! Several hosts in the URL of PostgreSQL.

use crate::harness::{Receiver, Stack, nowhere};

/// The same URL, with a host before it at which nobody answers.
fn behind_one_that_is_down(url: &str) -> String {
    let (before, host) = url.rsplit_once('@').expect("a URL with a user");
    format!("{before}@127.0.0.1:1,{host}")
}

#[tokio::test]
async fn a_service_and_its_commands_pass_over_a_host_that_is_down() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let url = behind_one_that_is_down(&stack.binary.database_url);
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    for command in ["relay", "worker"] {
        stack.start(command, &[("database.url", &url)]).await;
    }

    let id = stack.emit("acme", "order.created", "{}").await;

    assert_eq!(receiver.wait_for(1).await[0].id(), id.to_string());
    let listed = stack.cli_with(&["endpoint", "list", "--json"], &[("database.url", &url)]).await.json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_named_where_one_is_asked_for_that_does() {
    let stack = Stack::new().await;
    let read_only = format!("{}?options=-c%20default_transaction_read_only%3Don", stack.binary.database_url);
    let wanted = format!("{read_only}&target_session_attrs=read-write");

    // Reading needs no more, unless the URL says so.
    stack.cli_with(&["stats"], &[("database.url", &read_only)]).await.ok();
    let refused = stack.cli_with(&["stats"], &[("database.url", &wanted)]).await;

    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("it takes no writes"), "{}", refused.stderr);
}

#[tokio::test]
async fn a_list_of_hosts_that_asks_for_a_standby_is_refused() {
    let url = "postgres://u:hunter2@db1,db2/x?target_session_attrs=prefer-standby";
    let refused = nowhere(&["stats"], &[("database.url", url)]).await;

    assert_eq!(refused.code, 64, "{refused:?}");
    assert!(refused.stderr.contains("database.url: has target_session_attrs=prefer-standby"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("hunter2"), "{}", refused.stderr);
}
