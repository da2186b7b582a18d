//! Requests alone, by the client that workers use, to the test receiver in a process of its own.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use posthaste::http::client::{Client, MAX_KEPT_HOSTS, Options, Request};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Part;
use crate::bench::work::{KIB, payload};
use crate::isolation::stack::Stack;
use crate::isolation::usage::usage;
use crate::kit::process::Process;
use crate::kit::servers::daemon::free_port;
use crate::wait_for;

/// As many as one endpoint may have by default.
const IN_FLIGHT: usize = 32;
const PATIENCE: Duration = Duration::from_secs(30);
/// As long as those of a delivery.
const HEADERS: [(&str, &str); 5] = [
    ("content-type", "application/json"),
    ("webhook-id", "01a203e0-23fc-705e-8d5e-f952401a4268"),
    ("webhook-timestamp", "1795946400"),
    ("webhook-signature", "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="),
    ("posthaste-event-type", "order.created"),
];

pub async fn measure(stack: &Stack, requests: usize) -> Result<Part, String> {
    let port = free_port();
    let log = File::create(stack.binary.dir.join("receiver.log")).map_err(|error| error.to_string())?;
    let receiver =
        Process::start(stack.command(&["receiver", "--quiet", "--listen", &format!("127.0.0.1:{port}")]), log);
    let listens = async || TcpStream::connect(("127.0.0.1", port)).await.ok();
    wait_for("the receiver", PATIENCE, listens).await?;
    let client = Arc::new(client().map_err(|error| error.to_string())?);
    let url = Arc::new(format!("http://127.0.0.1:{port}/bench"));
    send(&client, &url, requests / 10).await?;
    let (began, server, cpu) = (Instant::now(), usage(receiver.id()).cpu_seconds, stack.cpu());
    send(&client, &url, requests).await?;
    let seconds = began.elapsed().as_secs_f64();
    let server = usage(receiver.id()).cpu_seconds - server;
    let used = (stack.cpu() - cpu).scaled(1e6 / requests as f64);
    Ok(Part {
        server_us: server * 1e6 / requests as f64,
        client_us: used.program,
        per_second: requests as f64 / seconds,
    })
}

fn client() -> Result<Client, posthaste::http::client::ClientError> {
    Client::new(Options {
        connect_timeout: Duration::from_secs(5),
        allow_cidrs: vec![ipnet::IpNet::new_assert([127, 0, 0, 0].into(), 8)],
        proxy: None,
        max_response_bytes: KIB,
        max_idle_per_host: IN_FLIGHT,
        max_kept_hosts: MAX_KEPT_HOSTS,
        user_agent: "posthaste/bench".to_owned(),
    })
}

async fn send(client: &Arc<Client>, url: &Arc<String>, requests: usize) -> Result<(), String> {
    let (next, body, mut senders) = (Arc::new(AtomicUsize::new(0)), Bytes::from(payload(KIB)), JoinSet::new());
    for _ in 0..IN_FLIGHT {
        let (client, url, next, body) = (client.clone(), url.clone(), next.clone(), body.clone());
        senders.spawn(async move {
            while next.fetch_add(1, Ordering::Relaxed) < requests {
                let timeout = Duration::from_secs(15);
                let (headers, body) = (HEADERS.to_vec(), body.clone());
                let exchange =
                    client.deliver(Request { url: url.as_str(), headers, body, timeout, own_tls: None }).await;
                if !matches!(&exchange.outcome, Ok(outcome) if outcome.is_delivered()) {
                    return Err(format!("a request was not answered well: {:?}", exchange.outcome));
                }
            }
            Ok(())
        });
    }
    senders.join_all().await.into_iter().collect()
}
