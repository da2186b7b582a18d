//! What is required of outgoing requests: https, ports, and the way through a proxy.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Authority, ConnectProxy, PemFiles, Receiver, SecureReceiver, Stack, eventually, nowhere};

const KEY: (&str, &str) = ("security.encryption_key", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
/// `localhost` may be both.
const LOCAL: (&str, &str) = ("delivery.allow_cidrs", r#"["127.0.0.0/8", "::1/128"]"#);

/// Waits until a worker has disabled the endpoint, and returns why.
async fn disabled(stack: &Stack, endpoint: &str) -> String {
    eventually("the endpoint is disabled", async || {
        let shown = stack.cli(&["endpoint", "show", endpoint, "--json"]).await.json();
        (shown["status"] == "disabled").then(|| shown["disabled_reason"].as_str().unwrap_or_default().to_owned())
    })
    .await
}

#[tokio::test]
async fn a_url_that_the_rules_do_not_allow_is_refused_before_anything_connects() {
    let add = |url: &'static str| ["endpoint", "add", "--tenant", "acme", "--url", url];
    let https = ("delivery.require_https", "true");
    let ports = ("delivery.allow_ports", r#"[443, "8000-8999"]"#);
    for (url, setting, said) in [
        ("http://example.com/", https, "https is required (delivery.require_https); begin it with https://"),
        ("http://example.com:25/", KEY, "the port 25 is not allowed; use 443, or allow it in delivery.allow_ports"),
        ("https://example.com:22/", KEY, "the port 22 is not allowed"),
        ("https://example.com:9000/", ports, "the port 9000 is not allowed"),
        ("http://example.com/", ports, "the port 80 is not allowed"),
    ] {
        let done = nowhere(&add(url), &[KEY, setting]).await;
        assert_eq!(done.code, 64, "{url}: {}", done.stderr);
        assert!(done.stderr.contains(said), "{url}: {}", done.stderr);
    }
    for (setting, said) in [
        (("delivery.allow_ports", r#"["https"]"#), "delivery.allow_ports: item 1 ('https') is not a port"),
        (("delivery.allow_ports", "[0]"), "delivery.allow_ports: item 1 ('0') is not a port"),
        (("delivery.proxy", "socks5://u:hunter2@proxy:1080"), "delivery.proxy: begins with socks5://"),
        (("delivery.proxy", "http://u:hunter2@proxy:3128/path"), "delivery.proxy: has something after the port"),
    ] {
        let done = nowhere(&["stats"], &[setting]).await;
        assert!(done.code == 64 && done.stderr.contains(said), "{}", done.stderr);
        assert!(!done.stderr.contains("hunter2"), "{}", done.stderr);
    }
}

#[tokio::test]
async fn https_that_is_required_later_stops_plain_http_and_loses_nothing() {
    let (stack, plain) = (Stack::new().await, Receiver::start());
    let (authority, files) = (Authority::new("an authority"), PemFiles::new());
    let secure = SecureReceiver::start(&authority.server(&["127.0.0.1"]), None, Duration::ZERO);
    let url = plain.url("/");
    let added = stack.cli(&["endpoint", "add", "--tenant", "acme", "--url", &url, "--json"]).await;
    assert!(added.stderr.contains("payloads travel unencrypted"), "{}", added.stderr);
    let id = added.json()["id"].as_str().unwrap().to_owned();
    let required = ("delivery.require_https", "true");
    stack.start("run", &[required]).await;
    let event = stack.emit("acme", "order.created", r#"{"n":1}"#).await;
    let why = disabled(&stack, &id).await;
    assert!(why.contains("https is required (delivery.require_https)"), "{why}");
    let held = stack.wait_status(event, "held").await;
    assert_eq!((held.attempts, plain.count()), (0, 0));
    let shown = stack.cli(&["endpoint", "show", &id, "--json"]).await.json();
    assert_eq!(shown["pauses"][0]["reason"], "disabled");

    for command in ["enable", "test"] {
        let refused = stack.cli_with(&["endpoint", command, &id], &[required]).await;
        assert!(refused.code == 64 && refused.stderr.contains("https is required"), "{command}: {}", refused.stderr);
    }
    let moved = secure.url("127.0.0.1", "/");
    let ca = files.put("ca.pem", &authority.pem());
    let set = ["endpoint", "set", &id, "--url", &moved, "--ca", &ca];
    stack.cli_with(&set, &[required]).await.ok();
    stack.cli_with(&["endpoint", "enable", &id], &[required]).await.ok();
    let delivered = stack.wait_status(event, "delivered").await;
    assert_eq!((delivered.attempts, secure.count(), plain.count()), (1, 1, 0));
}

#[tokio::test]
async fn a_tenant_that_requires_https_has_it_and_the_others_do_not() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let url = receiver.url("/");
    let id = stack.endpoint("acme", &url, &[]).await.id.to_string();
    stack.endpoint("other", &url, &[]).await;
    stack.run().await;
    let first = stack.emit("acme", "order.created", "{}").await;
    stack.wait_status(first, "delivered").await;

    let set = stack.cli(&["tenant", "set", "acme", "--require-https", "true", "--json"]).await;
    assert!(set.stderr.contains("the tenant has endpoints with http://"), "{}", set.stderr);
    let set = set.json();
    assert_eq!((&set["require_https"], &set["plain_http_endpoints"]), (&json!(true), &json!(1)));
    let refused = stack.cli(&["endpoint", "add", "--tenant", "acme", "--url", &url]).await;
    assert!(refused.code == 64 && refused.stderr.contains("its tenant requires https"), "{}", refused.stderr);
    let refused = stack.cli(&["endpoint", "set", &id, "--url", &url]).await;
    assert_eq!(refused.code, 64, "{}", refused.stderr);
    let insert = "insert into posthaste.endpoints (tenant, url) values ('acme', 'http://example.com/')";
    let refused = sqlx::query(insert).execute(&stack.db).await.unwrap_err().to_string();
    assert!(refused.contains("posthaste: url: begins with http://"), "{refused}");
    stack.execute("update posthaste.endpoints set description = 'still changeable', url = url").await;

    // The worker knows the endpoint from before, and hears of the change.
    let second = stack.emit("acme", "order.created", "{}").await;
    let why = disabled(&stack, &id).await;
    assert!(why.contains("its tenant requires https"), "{why}");
    assert_eq!(stack.wait_status(second, "held").await.attempts, 0);
    let third = stack.emit("other", "order.created", "{}").await;
    stack.wait_status(third, "delivered").await;

    let listed = stack.cli(&["tenant", "list", "--json"]).await.json();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["tenant"]), (1, &json!("acme")));
    stack.cli(&["tenant", "set", "acme", "--require-https", "false"]).await.ok();
    let shown = stack.cli(&["tenant", "show", "acme"]).await.ok().stdout;
    assert!(shown.contains("require https") && shown.contains("false"), "{shown}");
    let never = stack.cli(&["tenant", "show", "nobody", "--json"]).await.json();
    assert_eq!((&never["require_https"], &never["updated_at"]), (&json!(false), &json!(null)));
    stack.cli(&["endpoint", "enable", &id]).await.ok();
    assert_eq!(stack.wait_status(second, "delivered").await.attempts, 1);
}

#[tokio::test]
async fn a_port_that_is_not_allowed_any_more_disables_the_endpoint() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let id = stack.endpoint("acme", &receiver.url("/"), &[]).await.id.to_string();
    let run = stack.start("run", &[("delivery.allow_ports", "[443]")]).await;
    let event = stack.emit("acme", "order.created", "{}").await;
    let why = disabled(&stack, &id).await;
    assert!(why.contains("is not allowed; use 443"), "{why}");
    assert_eq!((stack.wait_status(event, "held").await.attempts, receiver.count()), (0, 0));
    run.terminate();
    assert_eq!(run.exit_code().await, Some(0));
    stack.run().await;
    stack.cli(&["endpoint", "enable", &id]).await.ok();
    stack.wait_status(event, "delivered").await;
}

#[tokio::test]
async fn requests_go_through_the_proxy_and_its_faults_spend_no_attempt() {
    let proxy = ConnectProxy::start();
    // The time-out is not what this is about.
    let patient = ("delivery.connect_timeout", "20s");
    let stack = Stack::with(&[LOCAL, patient, ("delivery.proxy", &proxy.url("user:hunter2@"))]).await;
    let (authority, files) = (Authority::new("an authority"), PemFiles::new());
    let receiver = SecureReceiver::start(&authority.server(&["localhost"]), None, Duration::ZERO);
    let url = receiver.url("localhost", "/");
    stack.endpoint("acme", &url, &["--ca", &files.put("ca.pem", &authority.pem())]).await;
    let run = stack.run().await;

    for (n, status) in ["407 Proxy Authentication Required", "503 Service Unavailable"].into_iter().enumerate() {
        proxy.refuse(Some(status));
        let event = stack.emit("acme", "order.created", "{}").await;
        proxy.asked(n + 1).await;
        let held = stack.wait_status(event, "held").await;
        assert_eq!((held.attempts, receiver.count()), (0, 0), "{status}");
    }
    proxy.refuse(None);
    receiver.wait_for(2).await;
    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 2)].into());
    assert!(stack.deliveries().await.iter().all(|delivery| delivery.attempts == 1));

    let address = receiver.address().to_string();
    for head in proxy.heads() {
        assert!(head.starts_with(&format!("CONNECT {address} HTTP/1.1\r\n")), "{head}");
        assert!(head.contains("proxy-authorization: Basic dXNlcjpodW50ZXIy\r\n"), "{head}");
    }
    assert!(run.metric("posthaste_held_total").await >= 2.0);
    assert!(!run.log().contains("hunter2") && run.log().contains("the proxy refused to connect"), "{}", run.log());
}
