//! Names to addresses, through the guard: what comes out of here is what may be connected to.
//!
//! The system's resolver functions cannot tell "the name does not exist" from "the name server is away", and that is
//! the difference between the customer's failure and ours. So the lookups are made here, with a typed answer.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{Either, select};
use hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver, system_conf};
use hyper_util::client::legacy::connect::dns;
use thiserror::Error;
use tower::Service;
use url::{Host, Url};

use super::dns_cache::DnsCache;
use super::guard::{Blocked, Guard};
use super::stage::{self, Stage};

/// How long to wait for the second address family once the first has given addresses: name servers exist that never
/// answer for IPv6.
const SECOND_FAMILY_WAIT: Duration = Duration::from_millis(250);
/// Queries open at once to one name server; above it they wait.
const MAX_OPEN_QUERIES: usize = 1024;

#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum ResolveError {
    /// An answer: no such name, or no address records.
    #[error("url: the host name does not resolve to any address")]
    DoesNotExist,
    /// No answer within the connect time-out, an error code (SERVFAIL, REFUSED), or no way to the name server: ours to fix.
    #[error("our DNS resolver gave no answer; check /etc/resolv.conf and the network")]
    NoAnswer,
    #[error(transparent)]
    Blocked(#[from] Blocked),
}

#[derive(Debug, Error)]
#[error("cannot set up the DNS resolver: {0}")]
pub struct SetupError(#[from] NetError);

#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    dns: TokioResolver,
    cache: DnsCache,
    hosts: Hosts,
    guard: Guard,
    timeout: Duration,
}

impl Resolver {
    /// As the system is configured, including `/etc/hosts`. Like the C library, a machine without a readable
    /// `/etc/resolv.conf` asks a name server on itself.
    pub fn system(guard: Guard, timeout: Duration) -> Result<Resolver, SetupError> {
        let (config, options) = system_conf::read_system_conf().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot use /etc/resolv.conf; asking a name server on this machine");
            let local = NameServerConfig::udp_and_tcp(IpAddr::from([127, 0, 0, 1]));
            (ResolverConfig::from_name_servers(vec![local]), ResolverOpts::default())
        });
        Resolver::build(config, options, Hosts::from_system().unwrap_or_default(), guard, timeout)
    }

    /// Asks only these name servers and no file.
    #[cfg(test)]
    pub fn with_name_servers(servers: &[SocketAddr], guard: Guard, timeout: Duration) -> Result<Resolver, SetupError> {
        use hickory_resolver::config::ConnectionConfig;

        let servers = servers.iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
            NameServerConfig::new(server.ip(), true, connections.into())
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        Resolver::build(config, ResolverOpts::default(), Hosts::default(), guard, timeout)
    }

    fn build(
        config: ResolverConfig,
        mut options: ResolverOpts,
        hosts: Hosts,
        guard: Guard,
        timeout: Duration,
    ) -> Result<Resolver, SetupError> {
        options.timeout = options.timeout.min(timeout);
        options.max_active_requests = MAX_OPEN_QUERIES;
        // Ours is bounded by its size.
        options.cache_size = 0;
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let dns = builder.with_options(options).build()?;
        Ok(Resolver(Arc::new(Inner { dns, cache: DnsCache::default(), hosts, guard, timeout })))
    }

    /// The addresses of the URL's host, every one of them permitted.
    pub async fn check(&self, url: &Url) -> Result<Vec<IpAddr>, ResolveError> {
        match url.host() {
            Some(Host::Domain(name)) => self.resolve_name(name).await,
            Some(Host::Ipv4(ip)) => self.literal(ip.into()),
            Some(Host::Ipv6(ip)) => self.literal(ip.into()),
            None => Err(ResolveError::DoesNotExist),
        }
    }

    /// A host that is an address already. The HTTP client connects to it without asking any resolver.
    pub(super) fn check_literal(&self, url: &Url) -> Result<(), ResolveError> {
        match url.host() {
            Some(Host::Ipv4(ip)) => self.literal(ip.into()).map(drop),
            Some(Host::Ipv6(ip)) => self.literal(ip.into()).map(drop),
            _ => Ok(()),
        }
    }

    fn literal(&self, ip: IpAddr) -> Result<Vec<IpAddr>, ResolveError> {
        self.0.guard.check(&[ip])?;
        Ok(vec![ip])
    }

    async fn resolve_name(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let addresses = self.look_up(name).await?;
        self.0.guard.check(&addresses)?;
        Ok(addresses)
    }

    /// The addresses of a server that the operator has named: the guard has nothing to say about it.
    pub(super) async fn unguarded(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        match host.parse() {
            Ok(ip) => Ok(vec![ip]),
            Err(_) => self.look_up(host).await,
        }
    }

    async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        // What is no valid name cannot exist; it is not worth a question.
        let name = Name::from_str_relaxed(name).map_err(|_| ResolveError::DoesNotExist)?;
        match self.in_hosts_file(&name) {
            found if !found.is_empty() => Ok(found),
            _ => tokio::time::timeout(self.0.timeout, self.ask(name)).await.unwrap_or(Err(ResolveError::NoAnswer)),
        }
    }

    /// The file decides for both families: a name that it gives an IPv4 address must not wait for a name server's IPv6.
    fn in_hosts_file(&self, name: &Name) -> Vec<IpAddr> {
        let lookups = [RecordType::A, RecordType::AAAA]
            .into_iter()
            .filter_map(|family| self.0.hosts.lookup_static_host(&Query::query(name.clone(), family)));
        lookups
            .flat_map(|lookup| lookup.answers().iter().filter_map(|r| r.data.ip_addr()).collect::<Vec<_>>())
            .collect()
    }

    async fn ask(&self, name: Name) -> Result<Vec<IpAddr>, ResolveError> {
        let v4 = Box::pin(self.lookup(name.clone(), RecordType::A));
        let v6 = Box::pin(self.lookup(name, RecordType::AAAA));
        let (first, rest) = match select(v4, v6).await {
            Either::Left((first, rest)) => (first, Either::Left(rest)),
            Either::Right((first, rest)) => (first, Either::Right(rest)),
        };
        let second = if first.is_ok() {
            tokio::time::timeout(SECOND_FAMILY_WAIT, rest).await.unwrap_or(Err(ResolveError::NoAnswer))
        } else {
            rest.await
        };
        match (first, second) {
            (Ok(first), Ok(second)) => Ok(first.into_iter().chain(second).collect()),
            (Ok(addresses), Err(_)) | (Err(_), Ok(addresses)) => Ok(addresses),
            // Half an answer is none: the family that was not heard may be the one with the addresses.
            (Err(ResolveError::NoAnswer), _) | (_, Err(ResolveError::NoAnswer)) => Err(ResolveError::NoAnswer),
            (Err(error), Err(_)) => Err(error),
        }
    }

    async fn lookup(&self, name: Name, family: RecordType) -> Result<Vec<IpAddr>, ResolveError> {
        let addresses = match self.0.cache.get(&name, family) {
            Some(addresses) => addresses,
            None => self.question(name, family).await?,
        };
        if addresses.is_empty() { Err(ResolveError::DoesNotExist) } else { Ok(addresses.to_vec()) }
    }

    /// The name server's own word. Without an address: there is no such name, or it has none of this family.
    async fn question(&self, name: Name, family: RecordType) -> Result<Arc<[IpAddr]>, ResolveError> {
        let (addresses, ttl) = match self.0.dns.lookup(name.clone(), family).await {
            Ok(answer) => {
                let ttl = answer.answers().iter().map(|record| record.ttl).min();
                (answer.answers().iter().filter_map(|record| record.data.ip_addr()).collect(), ttl)
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => (Vec::new(), none.negative_ttl),
            // An error code says that the name server cannot tell: it has no way to its own, or does not serve us.
            Err(_) => return Err(ResolveError::NoAnswer),
        };
        Ok(self.0.cache.keep(name, family, addresses, ttl.unwrap_or_default()))
    }
}

/// For connections that are made without a proxy.
impl Service<dns::Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = ResolveError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ResolveError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ResolveError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: dns::Name) -> Self::Future {
        let resolver = self.clone();
        Box::pin(stage::during(Stage::Resolving, Stage::Connecting, async move {
            let addresses = resolver.resolve_name(name.as_str()).await?;
            // Port 0 stands for the port of the URL.
            let addresses: Vec<SocketAddr> = addresses.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            Ok(addresses.into_iter())
        }))
    }
}

#[cfg(test)]
#[path = "resolver_tests.rs"]
mod tests;
