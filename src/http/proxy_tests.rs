use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::domain::outcome::{Failure, Phase};
use crate::http::client::{Client, Options};
use crate::http::guard::Guard;
use crate::http::test_certificates::{self, Authority, Tls};
use crate::http::test_names;
use crate::http::test_server::{AMPLE, Server, client, options, post, post_own, read_request};
use crate::http::tls;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// What a proxy does when it is asked for a connection.
#[derive(Clone)]
enum Act {
    Connect,
    Say(&'static str),
    Hang,
    /// Hangs for this port, and connects to others.
    HangAt(u16),
    HangUp,
}

/// A proxy that remembers what it was asked for.
struct Watched {
    server: Server,
    heads: Arc<Mutex<Vec<String>>>,
}

async fn proxy(act: Act) -> Watched {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    let server = Server::start(move |mut stream| {
        let (act, seen) = (act.clone(), seen.clone());
        async move {
            let Some((head, _)) = read_request(&mut stream).await else { return };
            let target: SocketAddr = head.split(' ').nth(1).unwrap().parse().unwrap();
            seen.lock().unwrap().push(head);
            match act {
                Act::HangUp => {}
                Act::Say(text) => stream.write_all(format!("HTTP/1.1 {text}\r\n\r\n").as_bytes()).await.unwrap(),
                Act::Hang => std::future::pending().await,
                Act::HangAt(port) if port == target.port() => std::future::pending().await,
                Act::Connect | Act::HangAt(_) => tunnel_to(stream, target).await,
            }
        }
    })
    .await;
    Watched { server, heads }
}

async fn tunnel_to(mut client: TcpStream, target: SocketAddr) {
    let Ok(mut server) = TcpStream::connect(target).await else {
        let text = b"HTTP/1.1 502 Bad Gateway\r\nproxy-status: test; error=connection_refused\r\n\r\n";
        return client.write_all(text).await.unwrap();
    };
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

impl Watched {
    fn options(&self) -> Options {
        self.options_with("")
    }

    fn options_with(&self, login: &str) -> Options {
        Options { proxy: Some(format!("http://{login}{}", self.server.addr).into()), ..options() }
    }

    /// The addresses that it was asked for.
    fn targets(&self) -> Vec<String> {
        let heads = self.heads.lock().unwrap();
        heads.iter().map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect()
    }
}

/// Names that resolve to 127.0.0.1, where receivers are; `private.example` to an address that is not allowed.
async fn by_name(options: Options) -> Client {
    let guard = Guard { allow: vec!["127.0.0.1/32".parse().unwrap()] };
    let resolver = test_names::resolver(guard, |name| {
        vec![if name == "private.example" { [10, 0, 0, 1].into() } else { [127, 0, 0, 1].into() }]
    });
    Client::with_resolver(options, resolver.await).unwrap()
}

async fn fault(act: Act, options: impl Fn(&Watched) -> Options) -> OurFault {
    let (proxy, server) = (proxy(act).await, Server::answering(OK).await);
    let exchange = post(&Client::new(options(&proxy)).unwrap(), &server.url(), AMPLE).await;
    assert_eq!(server.accepted(), 0);
    exchange.outcome.unwrap_err()
}

#[tokio::test]
async fn the_proxy_is_asked_for_a_checked_address_and_the_receiver_gets_the_name() {
    let (proxy, heads) = (proxy(Act::Connect).await, Arc::new(Mutex::new(Vec::new())));
    let seen = heads.clone();
    let server = Server::start(move |mut stream| {
        let seen = seen.clone();
        async move {
            let (head, _) = read_request(&mut stream).await.unwrap();
            seen.lock().unwrap().push(head);
            stream.write_all(OK).await.unwrap();
        }
    })
    .await;
    let client = by_name(proxy.options()).await;
    let port = server.addr.port();
    let exchange = post(&client, &format!("http://hooks.example:{port}/a"), AMPLE).await;
    assert!(exchange.outcome.unwrap().is_delivered(), "{exchange:?}");
    assert_eq!(proxy.targets(), [format!("127.0.0.1:{port}")]);
    let head = heads.lock().unwrap()[0].clone();
    assert!(head.starts_with("POST /a HTTP/1.1\r\n"), "as without a proxy: {head}");
    assert!(head.contains(&format!("\r\nhost: hooks.example:{port}")), "{head}");
    assert!(!head.contains("proxy-"), "{head}");
}

#[tokio::test]
async fn certificates_are_checked_for_the_name_through_the_proxy_too() {
    let authority = Authority::new();
    let proxy = proxy(Act::Connect).await;
    let client = by_name(proxy.options()).await;
    for (name, accepted) in [("hooks.example", true), ("other.example", false), ("127.0.0.1", false)] {
        let shows = authority.issue(&[name]);
        let server = test_certificates::server(&Tls { shows: &shows, asks: None, protocols: &["h2"] }).await;
        let url = format!("https://hooks.example:{}/", server.addr.port());
        let exchange = post_own(&client, &url, 1, &authority.trusted()).await;
        if accepted {
            assert_eq!(exchange.response_body.as_deref(), Some("HTTP/2.0 nobody"), "{exchange:?}");
        } else {
            assert_eq!(exchange.outcome, Ok(Outcome::Failed(Failure::Tls)), "{name}");
        }
    }
    assert!(proxy.targets().iter().all(|target| target.starts_with("127.0.0.1:")), "{:?}", proxy.targets());
}

#[tokio::test]
async fn the_guard_decides_before_the_proxy_is_asked() {
    let proxy = proxy(Act::Connect).await;
    let client = by_name(proxy.options()).await;
    for host in ["private.example", "10.0.0.1", "[::1]", "169.254.169.254", "127.0.0.2"] {
        for scheme in ["http", "https"] {
            let exchange = post(&client, &format!("{scheme}://{host}/"), AMPLE).await;
            assert_eq!(exchange.outcome, Ok(Outcome::Failed(Failure::BlockedAddress)), "{scheme} {host}");
        }
    }
    assert_eq!(proxy.server.accepted(), 0);
}

#[tokio::test]
async fn a_name_that_turns_to_a_private_address_never_gets_there_through_the_proxy() {
    let (proxy, server) = (proxy(Act::Connect).await, Server::answering(OK).await);
    let turned = Arc::new(AtomicBool::new(false));
    let now = turned.clone();
    let guard = Guard { allow: vec!["127.0.0.1/32".parse().unwrap()] };
    let resolver = test_names::resolver(guard, move |_| {
        vec![IpAddr::from([127, 0, 0, if now.load(Ordering::SeqCst) { 2 } else { 1 }])]
    })
    .await;
    let client = Client::with_resolver(proxy.options(), resolver).unwrap();
    let url = format!("http://rebind.example:{}/", server.addr.port());
    for _ in 0..3 {
        turned.store(false, Ordering::SeqCst);
        assert!(post(&client, &url, AMPLE).await.outcome.unwrap().is_delivered());
        turned.store(true, Ordering::SeqCst);
        assert_eq!(post(&client, &url, AMPLE).await.outcome, Ok(Outcome::Failed(Failure::BlockedAddress)));
    }
    assert_eq!(proxy.targets(), vec![format!("127.0.0.1:{}", server.addr.port()); 3]);
}

#[tokio::test]
async fn whatever_is_wrong_with_the_proxy_spends_no_attempt() {
    let login = Act::Say("407 Proxy Authentication Required");
    assert_eq!(fault(login, Watched::options).await, OurFault::ProxyLogin);
    for text in ["403 Forbidden", "400 Bad Request", "500 Oops", "502 Bad Gateway", "503 Unavailable", "504 Time-out"] {
        assert_eq!(fault(Act::Say(text), Watched::options).await, OurFault::ProxyRefuses, "{text}");
    }
    assert_eq!(fault(Act::HangUp, Watched::options).await, OurFault::ProxyUnavailable);
    let soon = Duration::from_millis(300);
    let hasty = |proxy: &Watched| Options { connect_timeout: soon, ..proxy.options() };
    assert_eq!(fault(Act::Hang, hasty).await, OurFault::ProxyUnavailable);
    for url in ["http://127.0.0.1:1/", "http://nowhere.invalid:3128/"] {
        let connect_timeout = Duration::from_secs(1);
        let elsewhere = |_: &Watched| Options { proxy: Some(url.to_owned().into()), connect_timeout, ..options() };
        assert_eq!(fault(Act::Connect, elsewhere).await, OurFault::ProxyUnavailable, "{url}");
    }
}

#[tokio::test]
async fn the_total_time_out_blames_the_proxy_as_the_one_for_connecting_does() {
    let (proxy, server) = (proxy(Act::Hang).await, Server::answering(OK).await);
    let client = Client::new(proxy.options()).unwrap();
    let exchange = post(&client, &server.url(), Duration::from_millis(300)).await;
    assert_eq!(exchange.outcome, Err(OurFault::ProxyUnavailable));
}

#[tokio::test]
async fn an_endpoint_that_the_proxy_cannot_reach_has_failed() {
    let proxy = proxy(Act::Connect).await;
    let client = Client::new(proxy.options()).unwrap();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let exchange = post(&client, &format!("http://{closed}/"), AMPLE).await;
    assert_eq!(exchange.outcome, Ok(Outcome::Failed(Failure::Refused)));
}

#[tokio::test]
async fn a_silence_while_others_are_connected_is_the_endpoints() {
    let (silent, other) = (Server::answering(OK).await, Server::answering(OK).await);
    let proxy = proxy(Act::HangAt(silent.addr.port())).await;
    let client = Client::new(Options { connect_timeout: Duration::from_secs(2), ..proxy.options() }).unwrap();
    let (silent_url, other_url) = (silent.url(), other.url());
    let waiting = post(&client, &silent_url, AMPLE);
    let meanwhile = async {
        // Once it has been asked for the silent one.
        while proxy.targets().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        post(&client, &other_url, AMPLE).await
    };
    let (waiting, meanwhile) = tokio::join!(waiting, meanwhile);
    assert!(meanwhile.outcome.unwrap().is_delivered());
    assert_eq!(waiting.outcome, Ok(Outcome::Timeout(Phase::Connect)));
}

#[tokio::test]
async fn another_address_is_tried_where_the_first_cannot_be_reached() {
    let proxy = proxy(Act::Connect).await;
    let server = Server::start_at("127.0.0.3:0", |mut stream| async move {
        let _ = read_request(&mut stream).await;
        stream.write_all(OK).await.unwrap();
    })
    .await;
    let guard = Guard { allow: vec!["127.0.0.0/8".parse().unwrap()] };
    let names = |_: &str| vec![IpAddr::from([127, 0, 0, 4]), IpAddr::from([127, 0, 0, 3])];
    let client = Client::with_resolver(proxy.options(), test_names::resolver(guard, names).await).unwrap();
    let exchange = post(&client, &format!("http://two.example:{}/", server.addr.port()), AMPLE).await;
    assert!(exchange.outcome.unwrap().is_delivered(), "{exchange:?}");
}

#[tokio::test]
async fn the_credentials_are_sent_to_the_proxy_alone_and_never_printed() {
    let (proxy, server) = (proxy(Act::Connect).await, Server::answering(OK).await);
    let options = proxy.options_with("user:hunter%232@");
    assert!(!format!("{options:?}").contains("hunter"));
    let exchange = post(&Client::new(options).unwrap(), &server.url(), AMPLE).await;
    assert!(exchange.outcome.unwrap().is_delivered(), "{exchange:?}");
    let head = proxy.heads.lock().unwrap()[0].clone();
    assert!(head.ends_with(&format!("\r\nproxy-authorization: Basic {}", STANDARD.encode("user:hunter#2"))), "{head}");
}

#[tokio::test]
async fn what_is_no_proxy_is_refused_without_repeating_it() {
    for url in ["", "proxy:3128", "socks5://u:hunter2@proxy:1080", "http://", "https://u:hunter2@"] {
        let error = Client::new(Options { proxy: Some(url.to_owned().into()), ..options() }).err().unwrap().to_string();
        assert!(error.starts_with("delivery.proxy: ") && !error.contains("hunter2"), "{url}: {error}");
    }
    assert!(post(&client(), "http://127.0.0.1:1/", AMPLE).await.outcome.is_ok(), "without a proxy nothing is ours");
}

#[tokio::test]
async fn a_proxy_can_be_spoken_to_by_tls() {
    let authority = Authority::new();
    let shows = authority.issue(&["localhost"]);
    let acceptor = test_certificates::acceptor(&Tls { shows: &shows, asks: None, protocols: &[] });
    let server = Server::start(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            let mut head = vec![0; 4096];
            let length = stream.read(&mut head).await.unwrap();
            assert!(head[..length].starts_with(b"CONNECT 192.0.2.1:443 HTTP/1.1\r\n"));
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            stream.read_exact(&mut [0; 2]).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
        }
    })
    .await;
    let config = tls::for_the_proxy(authority.trusted().roots.unwrap()).unwrap();
    let url = format!("https://localhost:{}", server.addr.port()).into();
    let proxy = Proxy::new(&url, config).unwrap();
    let resolver = Resolver::system(Guard::default(), AMPLE).unwrap();
    let mut io = proxy.tunnel(&resolver, &[[192, 0, 2, 1].into()], 443).await.unwrap();
    io.write_all(b"hi").await.unwrap();
    let mut greeting = [0; 5];
    io.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"hello");
}
