//! One POST to one endpoint. Whatever the endpoint does is an `Outcome`; an error is a fault of ours.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use ipnet::IpNet;
use reqwest::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::header::{TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use super::classify::Ended;
use super::guard::Guard;
pub use super::pools::MAX_KEPT_HOSTS;
use super::pools::Pools;
use super::resolver::{Resolver, SetupError};
use super::sending::{self, Sending};
use super::stage::{self, NoteConnecting, Stage};
use super::{body, classify, target};
use crate::domain::outcome::{Failure, Outcome};
use crate::domain::retry_after;

/// No exchange takes longer than this, whatever is asked for.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// For a connection to end whose request was taken back.
const TAKING_BACK: Duration = Duration::from_millis(200);
/// These belong to the connection, not to the message: another value would contradict what is sent.
const OURS: [HeaderName; 7] = [CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

#[derive(Debug, Clone)]
pub struct Options {
    /// Limits resolving, connecting and the TLS handshake together.
    pub connect_timeout: Duration,
    pub allow_cidrs: Vec<IpNet>,
    /// What is kept of a response's body.
    pub max_response_bytes: usize,
    pub max_idle_per_host: usize,
    /// Hosts that connections are kept open to; the others get a new one for each request.
    pub max_kept_hosts: usize,
    pub user_agent: String,
}

pub struct Request<'a> {
    pub url: &'a str,
    /// Sent in this order.
    pub headers: Vec<(&'a str, &'a str)>,
    pub body: Bytes,
    /// For everything from the resolver to the last byte of the response.
    pub timeout: Duration,
}

#[derive(Debug)]
pub struct Exchange {
    pub outcome: Ended,
    /// What came of the response, also when it broke off.
    pub response_headers: Vec<(String, String)>,
    pub response_body: Option<String>,
    pub duration: Duration,
}

#[derive(Debug, Error)]
pub enum ClientError {
    #[error(transparent)]
    Resolver(#[from] SetupError),
    #[error("cannot set up TLS; is the package ca-certificates installed, or SSL_CERT_FILE set? ({0})")]
    Tls(#[source] reqwest::Error),
}

#[derive(Clone)]
pub struct Client {
    http: Pools,
    resolver: Resolver,
    connect_timeout: Duration,
    max_response_bytes: usize,
}

impl Client {
    pub fn new(options: Options) -> Result<Client, ClientError> {
        let guard = Guard { allow: options.allow_cidrs.clone() };
        let resolver = Resolver::system(guard, options.connect_timeout)?;
        Client::with_resolver(options, resolver)
    }

    /// With another resolver than the system's; its guard is the one that counts.
    pub fn with_resolver(options: Options, resolver: Resolver) -> Result<Client, ClientError> {
        Client::build(reqwest::Client::builder, options, resolver)
    }

    fn build(
        http: impl Fn() -> reqwest::ClientBuilder,
        options: Options,
        resolver: Resolver,
    ) -> Result<Client, ClientError> {
        // An error says that a provider was installed before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = || {
            http()
                .user_agent(&options.user_agent)
                .connect_timeout(options.connect_timeout)
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .dns_resolver(resolver.clone())
                .connector_layer(NoteConnecting)
        };
        let http = Pools::new(builder, options.max_idle_per_host, options.max_kept_hosts).map_err(ClientError::Tls)?;
        let Options { connect_timeout, max_response_bytes, .. } = options;
        Ok(Client { http, resolver, connect_timeout, max_response_bytes })
    }

    /// The resolver with its guard, to check a URL before it is stored.
    pub fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    pub async fn deliver(&self, request: Request<'_>) -> Exchange {
        let started = Instant::now();
        let timeout = request.timeout.min(MAX_TIMEOUT);
        let deadline = started + timeout;
        let Request { url, headers, body, .. } = request;
        // Until the exchange is over.
        let (body, sending) = sending::body(body);
        let mut exchange = match self.send(url, headers, body, &sending, deadline).await {
            Ok(response) => self.receive(response, deadline).await,
            Err(ended) => {
                Exchange { outcome: ended, response_headers: vec![], response_body: None, duration: Duration::ZERO }
            }
        };
        exchange.duration = started.elapsed();
        let limits = classify::Limits { connect: self.connect_timeout, total: timeout };
        exchange.outcome =
            exchange.outcome.and_then(|outcome| classify::unless_stalled(outcome, exchange.duration, limits));
        exchange
    }

    /// Up to the head of the response.
    async fn send(
        &self,
        url: &str,
        pairs: Vec<(&str, &str)>,
        body: reqwest::Body,
        sending: &Sending,
        deadline: Instant,
    ) -> Result<reqwest::Response, Ended> {
        let invalid = Ok(Outcome::Failed(Failure::InvalidRequest));
        let Ok(url) = target::check_url(url) else { return Err(invalid) };
        let Some(headers) = headers(pairs) else { return Err(invalid) };
        self.resolver.check_literal(&url).map_err(|error| classify::resolve_error(&error))?;
        let request = self.http.client_for(&url).post(url).headers(headers).body(body).send();
        stage::scope(async {
            let mut request = stage::talking(request);
            // The future of the request is polled first, also when the deadline has struck: the stage is the latest.
            match timeout_at(deadline, &mut request).await {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(error)) => Err(classify::request_error(&error, stage::current())),
                Err(_) => {
                    let stage = stage::current();
                    // Somebody must still wait for the response, or the connection would try to write what it has first.
                    if stage == Stage::Talking && sending.take_back() {
                        let _ = tokio::time::timeout(TAKING_BACK, request).await;
                    }
                    Err(classify::deadline(stage))
                }
            }
        })
        .await
    }

    async fn receive(&self, response: reqwest::Response, deadline: Instant) -> Exchange {
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|value| retry_after::parse(value, SystemTime::now()));
        let response_headers = body::headers(response.headers());
        let (kept, complete) = body::read(response, self.max_response_bytes, deadline).await;
        let outcome = match complete {
            Ok(()) => Ok(Outcome::response(status, retry_after)),
            Err(ended) => ended,
        };
        let response_body = Some(body::text(&kept, self.max_response_bytes));
        Exchange { outcome, response_headers, response_body, duration: Duration::ZERO }
    }
}

/// `None` when a name or a value cannot be sent.
fn headers(pairs: Vec<(&str, &str)>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(pairs.len());
    for (name, value) in pairs {
        let name = HeaderName::try_from(name).ok().filter(|name| !OURS.contains(name))?;
        headers.append(name, HeaderValue::try_from(value).ok()?);
    }
    Some(headers)
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "failure_tests.rs"]
mod failure_tests;

#[cfg(test)]
#[path = "hostile_tests.rs"]
mod hostile_tests;

#[cfg(test)]
#[path = "hostile_tls_tests.rs"]
mod hostile_tls_tests;

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tls_tests;
