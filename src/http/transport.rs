//! The pooled connections that requests go out on.

use std::sync::Arc;
use std::time::Duration;

use ::http::{Request, Response};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;

use super::classify;
use super::connector::Connector;
use super::proxy::Proxy;
use super::resolver::Resolver;

/// Idle connections are dropped before the endpoint drops them: common servers keep theirs for 5 s or more, and a
/// request written to a connection that is just being closed is a failed attempt.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// How often a request is sent again that the server says it has not looked at.
const MAX_AGAIN: usize = 2;

/// What all transports of a client have in common.
#[derive(Clone)]
pub(super) struct Common {
    pub resolver: Resolver,
    pub proxy: Option<Proxy>,
    pub connect_timeout: Duration,
    pub max_idle_per_host: usize,
}

/// Cheap to clone. Connections are shared by the clones, and by nobody else.
#[derive(Clone)]
pub(super) struct Transport(Client<Connector, Full<Bytes>>);

impl Transport {
    pub fn new(common: &Common, tls: Arc<ClientConfig>) -> Transport {
        let Common { resolver, proxy, connect_timeout, max_idle_per_host } = common.clone();
        let connector = Connector::new(resolver, proxy, tls, connect_timeout);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(max_idle_per_host)
            .build(connector);
        Transport(client)
    }

    /// Up to the head of the response. Redirects are answers like any other.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, legacy::Error> {
        for _ in 0..MAX_AGAIN {
            match self.0.request(request.clone()).await {
                Err(error) if classify::is_unprocessed(&error) => {}
                result => return result,
            }
        }
        self.0.request(request).await
    }
}
