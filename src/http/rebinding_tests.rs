//! A name whose address changes between two looks at it. The server on 127.0.0.1 stands for one on the internet, the one on
//! 127.0.0.2 for one inside: only the first address is allowed.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::*;
use crate::http::test_names;
use crate::http::test_server::{AMPLE, Server, options, post, read_request};

const PUBLIC: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1));
const PRIVATE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
const KEPT: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const CLOSED: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

struct Rebinding {
    public: Server,
    private: Server,
    client: Client,
    /// The name has the address of the private server from now on.
    turned: Arc<AtomicBool>,
}

/// A server on each address, at the same port.
async fn rebinding(answer: &'static [u8]) -> Rebinding {
    let serve = move |mut stream: TcpStream| async move {
        while read_request(&mut stream).await.is_some() {
            stream.write_all(answer).await.unwrap();
        }
    };
    let public = Server::start_at((PUBLIC, 0), serve).await;
    let private = Server::start_at((PRIVATE, public.addr.port()), serve).await;
    let turned = Arc::new(AtomicBool::new(false));
    let now = turned.clone();
    let guard = Guard { allow: vec!["127.0.0.1/32".parse().unwrap()] };
    let resolver = test_names::resolver(guard, move |name| match name {
        "both.example" => vec![PUBLIC, PRIVATE],
        _ if now.load(Ordering::SeqCst) => vec![PRIVATE],
        _ => vec![PUBLIC],
    })
    .await;
    let client = Client::with_resolver(options(), resolver).unwrap();
    Rebinding { public, private, client, turned }
}

impl Rebinding {
    async fn post(&self, host: &str) -> Ended {
        post(&self.client, &format!("http://{host}:{}/", self.public.addr.port()), AMPLE).await.outcome
    }
}

const BLOCKED: Ended = Ok(Outcome::Failed(Failure::BlockedAddress));

#[tokio::test]
async fn a_name_that_turns_to_a_private_address_is_refused_at_the_next_connection() {
    let there = rebinding(CLOSED).await;
    for _ in 0..3 {
        there.turned.store(false, Ordering::SeqCst);
        assert!(there.post("rebind.example").await.unwrap().is_delivered());
        there.turned.store(true, Ordering::SeqCst);
        assert_eq!(there.post("rebind.example").await, BLOCKED);
    }
    assert_eq!((there.public.accepted(), there.private.accepted()), (3, 0));
}

#[tokio::test]
async fn a_connection_that_is_used_again_goes_where_it_went_before() {
    let there = rebinding(KEPT).await;
    assert!(there.post("rebind.example").await.unwrap().is_delivered());
    there.turned.store(true, Ordering::SeqCst);
    for _ in 0..5 {
        assert!(there.post("rebind.example").await.unwrap().is_delivered());
    }
    assert_eq!((there.public.accepted(), there.private.accepted()), (1, 0));
    // Another name has connections of its own, and they are checked.
    assert_eq!(there.post("other.example").await, BLOCKED);
    assert_eq!((there.public.accepted(), there.private.accepted()), (1, 0));
}

#[tokio::test]
async fn a_private_address_beside_a_public_one_refuses_both() {
    let there = rebinding(KEPT).await;
    assert_eq!(there.post("both.example").await, BLOCKED);
    assert_eq!((there.public.accepted(), there.private.accepted()), (0, 0));
}
