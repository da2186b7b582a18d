//! The proxy that all requests go through, so that receivers see its fixed addresses and not ours.
//!
//! The guard keeps deciding: a name is resolved here, its addresses are checked, and the proxy is asked for a connection to
//! one of them. TLS and HTTP then speak through the tunnel to the name, so certificates are checked as without a proxy.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::resolver::Resolver;
use super::stage::{self, Stage};
use super::stream::Io;
use super::tunnel::{self, Answer};
use crate::domain::outcome::{OurFault, Outcome};

/// Addresses of one endpoint that the proxy is asked for, one after the other.
const MAX_ADDRESSES: usize = 4;

#[derive(Debug, Error, PartialEq, Eq)]
#[error("delivery.proxy: is not the URL of a proxy; write it like http://user:password@proxy.internal:3128")]
pub struct NotAProxy;

#[derive(Clone)]
pub(super) struct Proxy(Arc<Inner>);

struct Inner {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// The header, with the password in it.
    authorization: Option<SecretString>,
    /// Tunnels that it has opened so far.
    opened: Arc<AtomicU64>,
}

/// Why there is no tunnel.
#[derive(Debug, Error)]
pub(super) enum NoTunnel {
    #[error("{}", .0.text())]
    Fault(OurFault),
    /// A resource of ours may be exhausted, which is told apart by the error itself.
    #[error("the connection to the proxy failed")]
    Io(#[source] io::Error),
    #[error("the proxy cannot reach the endpoint")]
    Unreachable(Outcome),
}

impl Proxy {
    /// `tls` is for a proxy that is spoken to by TLS.
    pub fn new(url: &SecretString, tls: Arc<ClientConfig>) -> Result<Proxy, NotAProxy> {
        let url = Url::parse(url.expose_secret()).map_err(|_| NotAProxy)?;
        let host = match url.host().ok_or(NotAProxy)? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(ip) => ip.to_string(),
            Host::Ipv6(ip) => ip.to_string(),
        };
        let tls = match url.scheme() {
            "http" => None,
            "https" => {
                let name = ServerName::try_from(host.clone()).map_err(|_| NotAProxy)?;
                Some((TlsConnector::from(tls), name))
            }
            _ => return Err(NotAProxy),
        };
        let port = url.port_or_known_default().ok_or(NotAProxy)?;
        let authorization = authorization(&url);
        Ok(Proxy(Arc::new(Inner { host, port, tls, authorization, opened: Arc::default() })))
    }

    /// A connection to one of these addresses, which the guard has permitted.
    pub async fn tunnel(&self, resolver: &Resolver, addresses: &[IpAddr], port: u16) -> Result<Box<dyn Io>, NoTunnel> {
        let mut addresses = addresses.to_vec();
        // A proxy with fixed addresses often has no IPv6.
        addresses.sort_by_key(IpAddr::is_ipv6);
        let mut first = None;
        for ip in addresses.into_iter().take(MAX_ADDRESSES) {
            match self.tunnel_to(resolver, SocketAddr::new(ip, port)).await {
                Err(NoTunnel::Unreachable(outcome)) => first = first.or(Some(outcome)),
                result => return result,
            }
        }
        Err(first.map_or(NoTunnel::Fault(OurFault::ProxyRefuses), NoTunnel::Unreachable))
    }

    async fn tunnel_to(&self, resolver: &Resolver, address: SocketAddr) -> Result<Box<dyn Io>, NoTunnel> {
        let mut io = stage::during(Stage::Proxy, Stage::Proxy, self.connect(resolver)).await?;
        let authorization = self.0.authorization.as_ref().map(ExposeSecret::expose_secret);
        let asking = tunnel::ask(&mut io, address, authorization);
        let answer = stage::during_what(self.blame(), Stage::Connecting, asking).await;
        match answer.map_err(unavailable)? {
            Answer::Open => {
                self.0.opened.fetch_add(1, Relaxed);
                Ok(io)
            }
            Answer::Unreachable(outcome) => Err(NoTunnel::Unreachable(outcome)),
            Answer::Refused(fault) => Err(NoTunnel::Fault(fault)),
        }
    }

    /// Who keeps us waiting for the answer: the address, if the proxy has opened tunnels to others meanwhile, else the proxy.
    fn blame(&self) -> impl Fn() -> Stage + Send + use<> {
        let (opened, before) = (self.0.opened.clone(), self.0.opened.load(Relaxed));
        move || if opened.load(Relaxed) > before { Stage::Connecting } else { Stage::Proxy }
    }

    async fn connect(&self, resolver: &Resolver) -> Result<Box<dyn Io>, NoTunnel> {
        let unknown = NoTunnel::Fault(OurFault::ProxyUnavailable);
        let addresses = resolver.unguarded(&self.0.host).await.map_err(|_| unknown)?;
        let addresses: Vec<SocketAddr> = addresses.into_iter().map(|ip| SocketAddr::new(ip, self.0.port)).collect();
        let tcp = TcpStream::connect(addresses.as_slice()).await.map_err(unavailable)?;
        tcp.set_nodelay(true).map_err(unavailable)?;
        match &self.0.tls {
            None => Ok(Box::new(tcp)),
            Some((tls, name)) => Ok(Box::new(tls.connect(name.clone(), tcp).await.map_err(unavailable)?)),
        }
    }
}

fn unavailable(error: io::Error) -> NoTunnel {
    NoTunnel::Io(error)
}

/// Basic authentication, if the URL has a user.
fn authorization(url: &Url) -> Option<SecretString> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let decoded = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
    let login = [decoded(url.username()), b":".to_vec(), decoded(url.password().unwrap_or_default())].concat();
    Some(format!("Basic {}", STANDARD.encode(login)).into())
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({}:{})", self.0.host, self.0.port)
    }
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
