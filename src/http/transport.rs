//! Connections that requests go out on, and are kept for the next one.

use std::sync::Arc;
use std::time::Duration;

use ::http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;

use super::classify;
use super::connector::Connector;
use super::proxy::Proxy;
use super::resolver::Resolver;
use super::sending::{Parts, Sending};

/// Idle connections are dropped before the endpoint drops them: common servers keep theirs for 5 s or more, and a
/// request written to a connection that is just being closed is a failed attempt.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// How often a request is sent again that the server says it has not looked at.
const MAX_AGAIN: usize = 2;
/// Response bytes on their way that HTTP/2 allows for one request, and for all requests of a connection. Little more of a
/// response's body is read than that; by default it would be 2 and 5 MiB.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// Of a response's head over HTTP/2. HTTP/1.1 has the library's own limits: 100 headers, and about 400 KiB.
const MAX_HEAD_BYTES: u32 = 16 * 1024;

/// What all transports of a client have in common.
#[derive(Clone)]
pub(super) struct Common {
    pub resolver: Resolver,
    pub proxy: Option<Proxy>,
    pub connect_timeout: Duration,
}

/// Cheap to clone. Connections are shared by the clones, and by nobody else.
#[derive(Clone)]
pub(super) struct Transport(Client<Connector, Parts>);

impl Transport {
    /// `max_idle_per_host`: connections that are kept for the next request; with 0, each request has its own.
    pub fn new(common: &Common, tls: Arc<ClientConfig>, max_idle_per_host: usize) -> Transport {
        let Common { resolver, proxy, connect_timeout } = common.clone();
        let connector = Connector::new(resolver, proxy, tls, connect_timeout);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(max_idle_per_host)
            .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_max_header_list_size(MAX_HEAD_BYTES)
            .build(connector);
        Transport(client)
    }

    /// Up to the head of the response. Redirects are answers like any other.
    pub async fn send(&self, request: &Request<()>, sending: &Sending) -> Result<Response<Incoming>, legacy::Error> {
        let once = || self.0.request(request.clone().map(|()| sending.body()));
        for _ in 0..MAX_AGAIN {
            match once().await {
                Err(error) if classify::is_unprocessed(&error) => {}
                result => return result,
            }
        }
        once().await
    }
}
