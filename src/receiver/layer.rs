//! Verifying as a tower layer for axum: what comes through it was signed by somebody who holds a key, over these bytes.
//!
//! ```no_run
//! use axum::{Extension, Router, routing::post};
//! use posthaste::receiver::{event::Event, layer::VerifyLayer, verify::Verifier};
//!
//! async fn hook(Extension(event): Extension<Event>) -> &'static str {
//!     println!("{} {} bytes", event.id, event.body.len());
//!     "stored"
//! }
//!
//! # fn app() -> Result<Router, Box<dyn std::error::Error>> {
//! let verifier: Verifier = std::env::var("WEBHOOK_KEYS")?.parse()?;
//! let app = Router::new().route("/hooks", post(hook)).layer(VerifyLayer::new(verifier));
//! # Ok(app)
//! # }
//! ```
//!
//! Time for reading the body is the server's to limit, and connections too.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use axum_core::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tower_layer::Layer;
use tower_service::Service;

use super::event::{Event, HEADER_DUPLICATE, HEADER_EVENT_TYPE};
use super::nonces::{Nonce, NonceCache};
use super::verify::{Headers, Verifier};

/// The counter of all requests that came, by result: `ok`, or why not.
pub const METRIC: &str = "posthaste_receiver_verifications_total";
/// The largest body that is taken unless set otherwise, in bytes.
pub const DEFAULT_MAX_BODY_BYTES: usize = 1024 * 1024;
/// When to come again with an event that is being handled.
const BUSY_RETRY: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub struct VerifyLayer {
    settings: Arc<Settings>,
}

#[derive(Clone)]
struct Settings {
    verifier: Verifier,
    max_body_bytes: usize,
    clock: fn() -> SystemTime,
    nonces: Option<NonceCache>,
}

impl VerifyLayer {
    pub fn new(verifier: Verifier) -> VerifyLayer {
        let (max_body_bytes, clock) = (DEFAULT_MAX_BODY_BYTES, SystemTime::now as fn() -> SystemTime);
        VerifyLayer { settings: Arc::new(Settings { verifier, max_body_bytes, clock, nonces: None }) }
    }

    fn with(self, change: impl FnOnce(&mut Settings)) -> VerifyLayer {
        let mut settings = (*self.settings).clone();
        change(&mut settings);
        VerifyLayer { settings: Arc::new(settings) }
    }

    /// A larger body gets 413, before it is read if its length is announced.
    pub fn max_body_bytes(self, bytes: usize) -> VerifyLayer {
        self.with(|settings| settings.max_body_bytes = bytes)
    }

    pub fn clock(self, clock: fn() -> SystemTime) -> VerifyLayer {
        self.with(|settings| settings.clock = clock)
    }

    /// For those without the inbox: an event that was answered with 2xx gets 200 again and is not handed on.
    pub fn nonces(self, nonces: NonceCache) -> VerifyLayer {
        self.with(|settings| settings.nonces = Some(nonces))
    }
}

impl<S> Layer<S> for VerifyLayer {
    type Service = VerifyService<S>;

    fn layer(&self, inner: S) -> VerifyService<S> {
        VerifyService { settings: self.settings.clone(), inner }
    }
}

#[derive(Clone)]
pub struct VerifyService<S> {
    settings: Arc<Settings>,
    inner: S,
}

impl<S> Service<Request<Body>> for VerifyService<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that was polled is ready; the clone is not.
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        Box::pin(answer(self.settings.clone(), ready, request))
    }
}

async fn answer<S>(settings: Arc<Settings>, mut inner: S, request: Request<Body>) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    let (mut parts, body) = request.into_parts();
    let verified = verify(&settings, &parts, body).await;
    count(verified.as_ref().map_or_else(|refusal| refusal.label, |_| "ok"));
    let event = match verified {
        Ok(event) => event,
        Err(refusal) => return Ok(refusal.response()),
    };
    let permit = match &settings.nonces {
        None => None,
        Some(nonces) => match nonces.claim(&event.id, (settings.clock)()) {
            Nonce::New(permit) => Some(permit),
            Nonce::Handled => return Ok(duplicate()),
            Nonce::InProgress => return Ok(later(StatusCode::CONFLICT, BUSY_RETRY)),
            Nonce::Full(wait) => return Ok(later(StatusCode::SERVICE_UNAVAILABLE, wait)),
        },
    };
    let body = Body::from(event.body.clone());
    parts.extensions.insert(event);
    let response = inner.call(Request::from_parts(parts, body)).await?;
    if let Some(permit) = permit.filter(|_| response.status().is_success()) {
        permit.keep((settings.clock)());
    }
    Ok(response)
}

async fn verify(settings: &Settings, parts: &Parts, body: Body) -> Result<Event, Refusal> {
    let body = read(body, settings.max_body_bytes).await?;
    let header = |name: &'static str| parts.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let headers = Headers::read(header);
    let verified = settings.verifier.verify(headers, &body, (settings.clock)()).map_err(|error| Refusal {
        status: StatusCode::from_u16(error.status()).unwrap_or(StatusCode::UNAUTHORIZED),
        label: error.label(),
        text: error.to_string(),
    })?;
    Ok(Event::new(verified, headers, header(HEADER_EVENT_TYPE), body))
}

async fn read(body: Body, max_bytes: usize) -> Result<Bytes, Refusal> {
    let too_large = || Refusal {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        label: "body_too_large",
        text: format!("the body is longer than {max_bytes} bytes"),
    };
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(too_large());
    }
    match Limited::new(body, max_bytes).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(Refusal {
            status: StatusCode::BAD_REQUEST,
            label: "body_broken_off",
            text: "the body broke off".to_owned(),
        }),
    }
}

struct Refusal {
    status: StatusCode,
    label: &'static str,
    text: String,
}

impl Refusal {
    fn response(self) -> Response<Body> {
        with_type(self.status, "text/plain; charset=utf-8", Body::from(self.text))
    }
}

fn count(result: &'static str) {
    metrics::counter!(METRIC, "result" => result).increment(1);
}

fn duplicate() -> Response<Body> {
    let mut response = with_type(StatusCode::OK, "application/json", Body::from(r#"{"duplicate":true}"#));
    response.headers_mut().insert(HEADER_DUPLICATE, HeaderValue::from_static("true"));
    response
}

/// Not yet; whoever asks again sooner is told the same.
fn later(status: StatusCode, wait: Duration) -> Response<Body> {
    let mut response = with_type(status, "text/plain; charset=utf-8", Body::from("come again later"));
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    response
}

fn with_type(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
#[path = "layer_tests.rs"]
mod tests;
