//! Makes connections: to addresses that were checked, straight or through the proxy, with TLS where the URL says so.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::Uri;
use ::http::uri::Scheme;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower::Service;
use url::Url;

use super::proxy::{NoTunnel, Proxy};
use super::resolver::{ResolveError, Resolver};
use super::stage::{self, Stage};
use super::stream::{Io, Stream};

const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_RETRIES: u32 = 3;
/// How long sent bytes may stay unacknowledged.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Error)]
pub(super) enum ConnectError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error("cannot connect")]
    Tcp(#[source] Box<dyn Error + Send + Sync>),
    #[error(transparent)]
    Proxy(#[from] NoTunnel),
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    #[error("the host is no name for a server")]
    NoServerName,
    #[error("time-out while connecting")]
    TimedOut(Stage),
}

#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector<Resolver>,
    resolver: Resolver,
    proxy: Option<Proxy>,
    tls: TlsConnector,
    /// For all of it, from the resolver to the end of the TLS handshake.
    timeout: Duration,
}

impl Connector {
    pub fn new(resolver: Resolver, proxy: Option<Proxy>, tls: Arc<ClientConfig>, timeout: Duration) -> Connector {
        let mut tcp = HttpConnector::new_with_resolver(resolver.clone());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Divided among the addresses, so that one that does not answer leaves time for the next.
        tcp.set_connect_timeout(Some(timeout));
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE));
        tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
        tcp.set_tcp_user_timeout(Some(USER_TIMEOUT));
        Connector { tcp, resolver, proxy, tls: TlsConnector::from(tls), timeout }
    }

    async fn connect(mut self, uri: Uri) -> Result<TokioIo<Stream>, ConnectError> {
        let is_https = uri.scheme() == Some(&Scheme::HTTPS);
        let name = if is_https { Some(server_name(&uri)?) } else { None };
        let io = match self.proxy.clone() {
            None => self.straight(uri).await?,
            Some(proxy) => self.through(&proxy, &uri).await?,
        };
        let Some(name) = name else { return Ok(TokioIo::new(Stream::new(io, false))) };
        let tls = self.tls.connect(name, io).await.map_err(ConnectError::Tls)?;
        let is_h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(TokioIo::new(Stream::new(Box::new(tls), is_h2)))
    }

    async fn straight(&mut self, uri: Uri) -> Result<Box<dyn Io>, ConnectError> {
        let tcp = self.tcp.call(uri).await.map_err(|error| ConnectError::Tcp(error.into()))?;
        Ok(Box::new(tcp.into_inner()))
    }

    async fn through(&self, proxy: &Proxy, uri: &Uri) -> Result<Box<dyn Io>, ConnectError> {
        // As the resolver sees every URL, in its normal form.
        let url = Url::parse(&uri.to_string()).map_err(|_| ConnectError::NoServerName)?;
        let port = url.port_or_known_default().ok_or(ConnectError::NoServerName)?;
        let resolving = self.resolver.check(&url);
        let addresses = stage::during(Stage::Resolving, Stage::Proxy, resolving).await?;
        Ok(proxy.tunnel(&self.resolver, &addresses, port).await?)
    }
}

/// The name that the certificate must be for: that of the URL, wherever the connection goes.
fn server_name(uri: &Uri) -> Result<ServerName<'static>, ConnectError> {
    let host = uri.host().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(host.to_owned()).map_err(|_| ConnectError::NoServerName)
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Stream>, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let limit = self.timeout;
        let connecting = self.clone().connect(uri);
        Box::pin(stage::during(Stage::Connecting, Stage::Talking, async move {
            // The connection is polled first, also when the time is up: the stage is the latest.
            match timeout(limit, connecting).await {
                Ok(result) => result,
                Err(_) => Err(ConnectError::TimedOut(stage::current())),
            }
        }))
    }
}
