//! One connection to the test receiver, which can be made to end in a TCP reset.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::control::{self, Control};
use super::reply;
use super::shared::Shared;

/// Serves requests until the peer leaves, or until the response in flight at `stop` is done.
pub(super) async fn run(stream: TcpStream, shared: Arc<Shared>, stop: CancellationToken) {
    // Without effect on what is answered, so a failure is of no interest.
    let _ = stream.set_nodelay(true);
    let broken = Arc::new(AtomicBool::new(false));
    let io = TokioIo::new(Breakable { stream, broken: broken.clone() });
    let service = service_fn(move |request| answer(shared.clone(), broken.clone(), request));
    let connection = http1::Builder::new().serve_connection(io, service);
    tokio::pin!(connection);
    tokio::select! {
        // An error is the peer's: it left in the middle, or it does not speak HTTP.
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn answer(
    shared: Arc<Shared>,
    broken: Arc<AtomicBool>,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::convert::Infallible> {
    match Control::of(request.method(), request.uri().path()) {
        Some(control) => Ok(control::answer(&shared, control, request).await),
        None => reply::webhook(&shared, &broken, request).await,
    }
}

/// Once `broken` is set, the next write fails and the socket is closed by a reset instead of orderly.
struct Breakable {
    stream: TcpStream,
    broken: Arc<AtomicBool>,
}

impl Breakable {
    fn check(&self) -> io::Result<()> {
        if !self.broken.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.stream.set_zero_linger()?;
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

impl AsyncRead for Breakable {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Breakable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
