//! One request to the test receiver: count it, verify it, and answer as the behaviour says.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::{ALLOW, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode};
use futures_util::stream;
use hyper::body::{Body as _, Incoming};

use super::behaviour::{Behaviour, in_share};
use super::settings::{MAX_BODY_BYTES, Recorded};
use super::shared::{InFlight, Shared};
use super::verify::{Headers, VerifyError};
use crate::domain::signature::HEADER_ID;

/// A webhook on whatever path. `broken` makes the connection end in a reset.
pub(super) async fn webhook(
    shared: &Shared,
    broken: &AtomicBool,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    if request.method() != Method::POST {
        let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "webhooks are sent by POST");
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return Ok(refusal);
    }
    let (parts, body) = request.into_parts();
    let now = SystemTime::now();
    let mut in_flight = InFlight::arrived(shared, parts.headers.get(HEADER_ID).cloned(), now);
    let response = match read(body).await {
        None => plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large or broke off"),
        Some(body) => {
            let verified = verify(shared, &parts, &body, now);
            record(shared, &parts, body, now);
            match verified {
                Err(error) => plain(StatusCode::UNAUTHORIZED, error.to_string()),
                Ok(()) => obey(shared, broken, in_flight.id()).await,
            }
        }
    };
    in_flight.ok = response.status().is_success() && response.extensions().get::<Endless>().is_none();
    log(shared, in_flight.id(), response.status());
    Ok(response)
}

/// A body that announces too much is refused before it comes.
async fn read(body: Incoming) -> Option<Bytes> {
    if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
        return None;
    }
    to_bytes(Body::new(body), MAX_BODY_BYTES).await.ok()
}

fn verify(shared: &Shared, parts: &Parts, body: &[u8], now: SystemTime) -> Result<(), VerifyError> {
    let Some(verifier) = &shared.verifier else { return Ok(()) };
    let headers = Headers::read(|name| parts.headers.get(name).and_then(|value| value.to_str().ok()));
    let result = verifier.verify(headers, body, now).map(drop);
    if let Some(on_verification) = shared.settings.on_verification {
        on_verification(result.as_ref().map_or_else(VerifyError::label, |()| "ok"));
    }
    let stats = &mut shared.state().ledger.stats;
    match result {
        Ok(()) => stats.verified += 1,
        Err(_) => stats.rejected += 1,
    }
    result
}

fn record(shared: &Shared, parts: &Parts, body: Bytes, arrived: SystemTime) {
    if shared.settings.record == 0 {
        return;
    }
    let headers = parts.headers.iter();
    let headers =
        headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let recorded = Recorded { path: parts.uri.to_string(), headers: headers.collect(), body, arrived };
    let mut state = shared.state();
    if state.recorded.len() == shared.settings.record {
        state.recorded.pop_front();
    }
    state.recorded.push_back(recorded);
}

async fn obey(shared: &Shared, broken: &AtomicBool, id: Option<&str>) -> Response<Body> {
    let (behaviour, nth) = {
        let mut state = shared.state();
        (state.behaviour.clone(), id.map_or(1, |id| state.ledger.nth(id)))
    };
    let fine = || plain(StatusCode::OK, "ok");
    let fails = || plain(StatusCode::INTERNAL_SERVER_ERROR, "fails on purpose");
    match behaviour {
        Behaviour::Ok => fine(),
        Behaviour::FailFirst(requests) => {
            if nth <= requests {
                fails()
            } else {
                fine()
            }
        }
        Behaviour::FailShare(share) => {
            if in_share(share, id.unwrap_or(""), nth) {
                fails()
            } else {
                fine()
            }
        }
        Behaviour::Status(status) => plain(code(status), ""),
        Behaviour::Slow(delay) => {
            tokio::time::sleep(delay).await;
            fine()
        }
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Drip(interval) => drip(interval),
        Behaviour::Reset => {
            broken.store(true, Ordering::Relaxed);
            plain(StatusCode::INTERNAL_SERVER_ERROR, "")
        }
        Behaviour::Redirect(url) => with(plain(StatusCode::FOUND, ""), LOCATION, &url),
        Behaviour::RetryAfter { seconds, status } => with(plain(code(status), ""), RETRY_AFTER, &seconds.to_string()),
    }
}

/// Marks a response that never ends: its status is no success.
#[derive(Clone)]
struct Endless;

fn drip(interval: std::time::Duration) -> Response<Body> {
    let bytes = stream::unfold((), move |()| async move {
        tokio::time::sleep(interval).await;
        Some((Ok::<_, Infallible>(Bytes::from_static(b".")), ()))
    });
    let mut response = Response::new(Body::from_stream(bytes));
    response.extensions_mut().insert(Endless);
    response
}

pub(super) fn plain(status: StatusCode, text: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn with(mut response: Response<Body>, name: axum::http::HeaderName, value: &str) -> Response<Body> {
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(name, value);
    }
    response
}

fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn log(shared: &Shared, id: Option<&str>, status: StatusCode) {
    if !shared.settings.quiet {
        tracing::info!(webhook_id = id.unwrap_or("-"), status = status.as_u16(), "webhook answered");
    }
}
