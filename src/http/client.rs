//! One POST to one endpoint. Whatever the endpoint does is an `Outcome`; an error is a fault of ours.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ::http::header::{ACCEPT, CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use ::http::header::{TE, TRAILER, TRANSFER_ENCODING, UPGRADE, USER_AGENT};
use ::http::{Method, Response, Uri};
use bytes::Bytes;
use hyper::body::Incoming;
use ipnet::IpNet;
use rustls::RootCertStore;
use secrecy::SecretString;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};
use url::Url;
use uuid::Uuid;

use super::classify::Ended;
use super::guard::Guard;
use super::own_clients::OwnClients;
use super::own_tls::OwnTls;
pub use super::pools::MAX_KEPT_HOSTS;
use super::pools::Pools;
use super::proxy::{NotAProxy, Proxy};
use super::resolver::{Resolver, SetupError};
use super::sending::Sending;
use super::stage::Stage;
use super::transport::{Common, Transport};
use super::{body, classify, stage, target, tls};
use crate::domain::outcome::{Failure, OurFault, Outcome};
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
    /// The URL of the proxy that every request goes through.
    pub proxy: Option<SecretString>,
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
    /// Of an endpoint that has certificates of its own.
    pub own_tls: Option<(Uuid, &'a OwnTls)>,
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
    Tls(#[from] tls::SetupError),
    #[error(transparent)]
    Proxy(#[from] NotAProxy),
    #[error("delivery: the user agent cannot be sent in a header")]
    UserAgent,
}

#[derive(Clone)]
pub struct Client {
    shared: Pools,
    own: OwnClients<Transport>,
    common: Arc<Common>,
    authorities: Arc<RootCertStore>,
    user_agent: HeaderValue,
    max_response_bytes: usize,
    max_idle_per_host: usize,
}

impl Client {
    pub fn new(options: Options) -> Result<Client, ClientError> {
        let guard = Guard { allow: options.allow_cidrs.clone() };
        let resolver = Resolver::system(guard, options.connect_timeout)?;
        Client::with_resolver(options, resolver)
    }

    /// With another resolver than the system's; its guard is the one that counts.
    pub fn with_resolver(options: Options, resolver: Resolver) -> Result<Client, ClientError> {
        Client::build(options, resolver, tls::system_authorities()?)
    }

    fn build(options: Options, resolver: Resolver, authorities: Arc<RootCertStore>) -> Result<Client, ClientError> {
        let proxy = match &options.proxy {
            Some(url) => Some(Proxy::new(url, tls::for_the_proxy(authorities.clone())?)?),
            None => None,
        };
        let Options { connect_timeout, max_response_bytes, max_idle_per_host, max_kept_hosts, .. } = options;
        let common = Arc::new(Common { resolver, proxy, connect_timeout });
        let tls = tls::for_endpoints(authorities.clone(), None)?;
        let shared = Pools::new(&common, &tls, max_idle_per_host, max_kept_hosts);
        let user_agent = HeaderValue::try_from(options.user_agent).map_err(|_| ClientError::UserAgent)?;
        let own = OwnClients::default();
        Ok(Client { shared, own, common, authorities, user_agent, max_response_bytes, max_idle_per_host })
    }

    /// The resolver with its guard, to check a URL before it is stored.
    pub fn resolver(&self) -> &Resolver {
        &self.common.resolver
    }

    pub async fn deliver(&self, request: Request<'_>) -> Exchange {
        let started = Instant::now();
        let timeout = request.timeout.min(MAX_TIMEOUT);
        let deadline = started + timeout;
        // Until the exchange is over.
        let sending = Sending::new(request.body.clone());
        let mut exchange = match self.send(request, &sending, deadline).await {
            Ok(response) => self.receive(response, deadline).await,
            Err(ended) => {
                Exchange { outcome: ended, response_headers: vec![], response_body: None, duration: Duration::ZERO }
            }
        };
        exchange.duration = started.elapsed();
        let limits = classify::Limits { connect: self.common.connect_timeout, total: timeout };
        exchange.outcome =
            exchange.outcome.and_then(|outcome| classify::unless_stalled(outcome, exchange.duration, limits));
        exchange
    }

    /// Up to the head of the response.
    async fn send(
        &self,
        request: Request<'_>,
        sending: &Sending,
        deadline: Instant,
    ) -> Result<Response<Incoming>, Ended> {
        let invalid = || Ok(Outcome::Failed(Failure::InvalidRequest));
        let Ok(url) = target::check_url(request.url) else { return Err(invalid()) };
        self.resolver().check_literal(&url).map_err(|error| classify::resolve_error(&error))?;
        let transport = self.transport(&url, request.own_tls)?;
        let Some(message) = self.message(&url, request) else { return Err(invalid()) };
        stage::scope(async {
            // The future of the request is polled first, also when the deadline has struck: the stage is the latest.
            let mut answer = stage::talking(transport.send(&message, sending));
            match timeout_at(deadline, &mut answer).await {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(error)) => Err(classify::request_error(&error, stage::current())),
                Err(_) => {
                    let stage = stage::current();
                    // Somebody must still wait for the response, or the connection would try to write what it has first.
                    if stage == Stage::Talking && sending.take_back() {
                        let _ = tokio::time::timeout(TAKING_BACK, answer).await;
                    }
                    Err(classify::deadline(stage))
                }
            }
        })
        .await
    }

    /// The connections that the request may use.
    fn transport(&self, url: &Url, own: Option<(Uuid, &OwnTls)>) -> Result<Transport, Ended> {
        let Some((endpoint, own)) = own else { return Ok(self.shared.transport_for(url).clone()) };
        let make = || -> Result<Transport, tls::SetupError> {
            let authorities = own.roots.clone().unwrap_or_else(|| self.authorities.clone());
            let tls = tls::for_endpoints(authorities, own.identity.clone())?;
            Ok(Transport::new(&self.common, tls, self.max_idle_per_host))
        };
        // Certificates that were read before can always be used, so this is as if they could not be read.
        self.own.get(endpoint, own, make).map_err(|_| Err(OurFault::SecretsUnreadable))
    }

    /// `None` when something cannot be sent.
    fn message(&self, url: &Url, request: Request<'_>) -> Option<::http::Request<()>> {
        let mut message = ::http::Request::new(());
        *message.method_mut() = Method::POST;
        *message.uri_mut() = Uri::try_from(url.as_str()).ok()?;
        let mut headers = headers(request.headers)?;
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        headers.entry(USER_AGENT).or_insert_with(|| self.user_agent.clone());
        *message.headers_mut() = headers;
        Some(message)
    }

    async fn receive(&self, response: Response<Incoming>, deadline: Instant) -> Exchange {
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|value| retry_after::parse(value, SystemTime::now()));
        let response_headers = body::headers(response.headers());
        let (kept, complete) = body::read(response.into_body(), self.max_response_bytes, deadline).await;
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

#[cfg(test)]
#[path = "trust_tests.rs"]
mod trust_tests;

#[cfg(test)]
#[path = "h2_tests.rs"]
mod h2_tests;

#[cfg(test)]
#[path = "rebinding_tests.rs"]
mod rebinding_tests;
