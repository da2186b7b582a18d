//! The HTTP server for operators: `/metrics`, `/healthz` (the process lives), `/readyz` (it can do its work), and what
//! else a command adds.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::{BuildError, PrometheusHandle};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::readiness::Readiness;
use super::{metrics, top};

/// Histograms gather samples until the next upkeep or scrape folds them into buckets.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// A client that reads slowly must not hold up the end of the process.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Debug, Error)]
pub enum StartError {
    #[error("metrics: {0}")]
    Recorder(#[from] BuildError),
    #[error(transparent)]
    Listen(#[from] ListenError),
}

#[derive(Debug, Error)]
#[error(
    "telemetry.listen: cannot listen on {address}: {source}; choose another address, port 0 for any free one, or \"\" for no server"
)]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

/// Starts recording and serving. Without an address nothing is recorded either: samples that nobody folds pile up.
pub async fn start(
    listen: Option<SocketAddr>,
    readiness: Readiness,
    more: Router,
) -> Result<Option<Server>, StartError> {
    let Some(listen) = listen else { return Ok(None) };
    let handle = metrics::install()?;
    let router = more.merge(router(handle.clone(), readiness));
    Ok(Some(Server::start(listen, handle, router).await?))
}

/// A server that runs until it is stopped.
#[derive(Debug)]
pub struct Server {
    /// With the port that was chosen when 0 was asked for.
    #[cfg(test)]
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(listen: SocketAddr, metrics: PrometheusHandle, router: Router) -> Result<Server, ListenError> {
        let refused = |source| ListenError { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let stop = CancellationToken::new();
        tracing::info!(%address, "serving /metrics, /healthz and /readyz");
        let task = tokio::spawn(serve(listener, metrics, router, stop.clone()));
        Ok(Server {
            #[cfg(test)]
            address,
            stop,
            task,
        })
    }

    /// To be called last, so that the drain can be watched.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if timeout(STOP_TIMEOUT, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

async fn serve(listener: TcpListener, metrics: PrometheusHandle, router: Router, stop: CancellationToken) {
    let upkeep = upkeep(metrics);
    let server = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    tokio::select! {
        result = server.into_future() => {
            if let Err(error) = result {
                tracing::error!(%error, "the server of /metrics has ended");
            }
        }
        () = upkeep => {}
    }
}

async fn upkeep(metrics: PrometheusHandle) {
    let mut ticks = interval(UPKEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}

fn router(metrics: PrometheusHandle, readiness: Readiness) -> Router {
    Router::new()
        .route(
            "/metrics",
            get({
                let readiness = readiness.clone();
                move || async move { scrape(&metrics, &readiness) }
            }),
        )
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(move || async move { readyz(&readiness) }))
}

fn scrape(handle: &PrometheusHandle, readiness: &Readiness) -> impl IntoResponse + use<> {
    metrics::tasks(Handle::current().metrics().num_alive_tasks());
    metrics::process();
    for (check, up) in readiness.all() {
        metrics::dependency_up(check, up);
    }
    ([(CONTENT_TYPE, PROMETHEUS_TEXT)], handle.render() + &top::render())
}

fn readyz(readiness: &Readiness) -> impl IntoResponse + use<> {
    let missing = readiness.missing();
    let status = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({ "ready": missing.is_empty(), "not_ready": missing });
    (status, [(CONTENT_TYPE, "application/json")], format!("{body}\n"))
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn started(readiness: &Readiness) -> Server {
        let recorder = PrometheusBuilder::new().build_recorder();
        ::metrics::with_local_recorder(&recorder, || ::metrics::counter!("seen_total").increment(3));
        let router = router(recorder.handle(), readiness.clone());
        Server::start(([127, 0, 0, 1], 0).into(), recorder.handle(), router).await.unwrap()
    }

    async fn answer(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn metrics_and_health_are_served_on_a_port_of_its_own_choice() {
        let server = started(&Readiness::new(&["database"])).await;
        assert_ne!(server.address.port(), 0);
        let metrics = answer(server.address, "/metrics").await;
        assert!(metrics.contains("200 OK") && metrics.contains("version=0.0.4") && metrics.contains("seen_total 3"));
        assert!(answer(server.address, "/healthz").await.contains("200 OK"));
        assert!(answer(server.address, "/other").await.contains("404"));
        server.stop().await;
    }

    #[tokio::test]
    async fn without_an_address_nothing_is_recorded() {
        assert!(start(None, Readiness::new(&[]), Router::new()).await.unwrap().is_none());
        assert!(metrics::install().is_ok(), "no recorder is there, whose samples nobody would fold");
    }

    #[tokio::test]
    async fn readiness_lists_what_is_missing_and_recovers() {
        let readiness = Readiness::new(&["database", "broker"]);
        let server = started(&readiness).await;
        readiness.ready("database");
        readiness.not_ready("broker", "connection refused");
        let not_yet = answer(server.address, "/readyz").await;
        assert!(
            not_yet.contains("503") && not_yet.contains(r#""not_ready":{"broker":"connection refused"}"#),
            "{not_yet}"
        );
        readiness.ready("broker");
        let ready = answer(server.address, "/readyz").await;
        assert!(ready.contains("200 OK") && ready.contains(r#""ready":true"#), "{ready}");
        server.stop().await;
    }

    #[tokio::test]
    async fn an_address_in_use_is_named_with_its_key() {
        let readiness = Readiness::new(&[]);
        let server = started(&readiness).await;
        let handle = PrometheusBuilder::new().build_recorder().handle();
        let error = Server::start(server.address, handle, Router::new()).await.unwrap_err().to_string();
        assert!(error.starts_with("telemetry.listen: cannot listen on 127.0.0.1:"), "{error}");
        server.stop().await;
    }

    #[tokio::test]
    async fn a_client_that_hangs_does_not_hold_up_the_stop() {
        let server = started(&Readiness::new(&[])).await;
        let address = server.address;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\n").await.unwrap();
        timeout(5 * STOP_TIMEOUT, server.stop()).await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
