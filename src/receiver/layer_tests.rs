use axum::routing::post;
use axum::{Extension, Router};
use metrics_exporter_prometheus::PrometheusBuilder;

use super::*;
use crate::domain::signature::{self, Secret};

const NOW: u64 = 1_700_000_000;

fn secret() -> Secret {
    Secret::from_bytes(vec![7; 32]).unwrap()
}

fn clock() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

fn layer() -> VerifyLayer {
    VerifyLayer::new(Verifier::new(vec![secret()])).clock(clock).max_body_bytes(100)
}

/// Answers with what it was handed: the event, and the body as it is read from the request.
async fn echo(Extension(event): Extension<Event>, body: Bytes) -> String {
    assert_eq!(event.body, body);
    format!("{} {:?} {} {}", event.id, event.event_type, event.timestamp, String::from_utf8_lossy(&body))
}

async fn handed_on() -> StatusCode {
    panic!("handed on")
}

fn signed_at(timestamp: u64, id: &str, body: &str) -> http::request::Builder {
    let signature = signature::header(&[secret()], id, timestamp as i64, body.as_bytes());
    Request::post("/hook")
        .header("webhook-id", id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", signature)
        .header("posthaste-event-type", "order.created")
}

async fn send(app: &Router, request: Request<Body>) -> (u16, String, http::HeaderMap) {
    let response = app.clone().call(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status.as_u16(), String::from_utf8_lossy(&body).into_owned(), parts.headers)
}

#[tokio::test]
async fn the_verified_event_is_handed_on_with_the_body_as_it_was_signed() {
    let app = Router::new().route("/hook", post(echo)).layer(layer());
    let body = "{ \"a\" : 1 }";
    let (status, text, _) = send(&app, signed_at(NOW, "evt_1", body).body(Body::from(body)).unwrap()).await;
    assert_eq!((status, text), (200, format!("evt_1 Some(\"order.created\") {NOW} {body}")));
}

#[tokio::test]
async fn what_does_not_verify_is_refused_by_its_kind_and_not_handed_on() {
    let app = Router::new().route("/hook", post(handed_on)).layer(layer());
    let bare = Request::post("/hook").body(Body::from("{}")).unwrap();
    let changed = signed_at(NOW, "evt_1", "{}").body(Body::from("{} ")).unwrap();
    let old = signed_at(NOW - 301, "evt_1", "{}").body(Body::from("{}")).unwrap();
    let early = signed_at(NOW + 301, "evt_1", "{}").body(Body::from("{}")).unwrap();
    for (request, expected, says) in [
        (bare, 400, "webhook-id"),
        (changed, 401, "no signature matches"),
        (old, 401, "301 s ago"),
        (early, 401, "301 s in the future"),
    ] {
        let (status, text, _) = send(&app, request).await;
        assert!(status == expected && text.contains(says), "{status} {text}");
    }
}

/// A body of unknown length that fails after what it has sent.
struct Broken(Option<Bytes>);

impl http_body::Body for Broken {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        let next = self.0.take().map(http_body::Frame::data);
        Poll::Ready(Some(next.ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())))
    }
}

#[tokio::test]
async fn a_body_is_bounded_announced_or_not_and_must_be_whole() {
    let app = Router::new().route("/hook", post(handed_on)).layer(layer());
    let long = "x".repeat(101);
    let endless = Body::new(Broken(Some(long.clone().into())));
    for (body, expected) in
        [(Body::from(long.clone()), 413), (endless, 413), (Body::new(Broken(Some("{".into()))), 400)]
    {
        let (status, text, _) = send(&app, signed_at(NOW, "evt_1", &long).body(body).unwrap()).await;
        assert_eq!(status, expected, "{text}");
    }
    let app = Router::new().route("/hook", post(echo)).layer(layer());
    let fits = "x".repeat(100);
    assert_eq!(send(&app, signed_at(NOW, "evt_1", &fits).body(Body::from(fits.clone())).unwrap()).await.0, 200);
}

#[tokio::test]
async fn with_nonces_what_was_answered_with_2xx_has_no_second_effect() {
    let (cache, answers) = (NonceCache::default(), [500, 201, 599].map(|s| StatusCode::from_u16(s).unwrap()));
    let answers = Arc::new(std::sync::Mutex::new(answers.into_iter()));
    let hook = move || {
        let next = answers.lock().unwrap().next().unwrap();
        async move { next }
    };
    let app = Router::new().route("/hook", post(hook)).layer(layer().nonces(cache.clone()));
    let request = || signed_at(NOW, "evt_1", "{}").body(Body::from("{}")).unwrap();
    assert_eq!((send(&app, request()).await.0, send(&app, request()).await.0), (500, 201));
    let (status, text, headers) = send(&app, request()).await;
    assert_eq!((status, text.as_str()), (200, r#"{"duplicate":true}"#));
    assert_eq!(headers["webhook-duplicate"], "true");
    let Nonce::New(_permit) = cache.claim("evt_2", clock()) else { panic!("it is new") };
    let (status, _, headers) = send(&app, signed_at(NOW, "evt_2", "{}").body(Body::from("{}")).unwrap()).await;
    assert_eq!((status, headers["retry-after"].to_str().unwrap()), (409, "1"));
}

#[tokio::test]
async fn a_full_cache_asks_to_come_again_later() {
    let cache = NonceCache::new(1, Duration::from_secs(60));
    let app = Router::new().route("/hook", post(echo)).layer(layer().nonces(cache));
    let request = |id| signed_at(NOW, id, "{}").body(Body::from("{}")).unwrap();
    assert_eq!(send(&app, request("evt_1")).await.0, 200);
    let (status, _, headers) = send(&app, request("evt_2")).await;
    assert_eq!((status, headers["retry-after"].to_str().unwrap()), (503, "60"));
}

#[test]
fn every_request_is_counted_by_its_result() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let app = Router::new().route("/hook", post(echo)).layer(layer());
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            send(&app, signed_at(NOW, "evt_1", "{}").body(Body::from("{}")).unwrap()).await;
            send(&app, signed_at(NOW, "evt_1", "{}").body(Body::from("[]")).unwrap()).await;
            send(&app, Request::post("/hook").body(Body::from("x".repeat(101))).unwrap()).await;
        });
    });
    let counts = handle.render();
    for result in ["ok", "mismatch", "body_too_large"] {
        assert!(counts.contains(&format!("{METRIC}{{result=\"{result}\"}} 1")), "{counts}");
    }
}
