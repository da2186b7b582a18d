//! Which hosts' connections are kept open from one request to the next.
//!
//! The HTTP client library bounds the idle connections of one host and not how many hosts there are. Whoever has a wildcard
//! in DNS has any number of hosts, and each would leave a connection behind for some seconds. So connections of a limited
//! number of hosts are kept; the others get one for each request.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use url::Url;

use super::transport::{Common, Transport};

/// Hosts (with scheme and port) whose connections are kept: about 50 KiB of memory and a file each, with TLS.
pub const MAX_KEPT_HOSTS: usize = 2_048;
/// Idle connections are kept for 4 s, and the library looks for those that are too old as often as they may be old. After
/// this time none is left.
const GONE: Duration = Duration::from_secs(9);
/// Between two looks for hosts that have none left, where there are too many.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What requests are made with. Cheap to clone: the copies share their connections.
#[derive(Clone)]
pub(super) struct Pools {
    keeping: Transport,
    closing: Transport,
    hosts: Arc<Mutex<KeptHosts>>,
}

impl Pools {
    pub fn new(common: &Common, tls: &Arc<ClientConfig>, max_idle_per_host: usize, max_kept_hosts: usize) -> Pools {
        Pools {
            keeping: Transport::new(common, tls.clone(), max_idle_per_host),
            closing: Transport::new(common, tls.clone(), 0),
            hosts: Arc::new(Mutex::new(KeptHosts::new(max_kept_hosts))),
        }
    }

    /// For one request to this URL.
    pub fn transport_for(&self, url: &Url) -> &Transport {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.may_keep(url, Instant::now()) { &self.keeping } else { &self.closing }
    }
}

/// The hosts that may have idle connections.
struct KeptHosts {
    most: usize,
    /// When each was last used, by the hash of its name: a host that shares its hash with another is kept with it.
    used: HashMap<u64, Instant>,
    hash: RandomState,
    looked: Option<Instant>,
}

impl KeptHosts {
    fn new(most: usize) -> KeptHosts {
        KeptHosts { most, used: HashMap::new(), hash: RandomState::new(), looked: None }
    }

    fn may_keep(&mut self, url: &Url, now: Instant) -> bool {
        let host = self.hash.hash_one((url.scheme(), url.host_str(), url.port_or_known_default()));
        if let Some(used) = self.used.get_mut(&host) {
            *used = now;
            return true;
        }
        let may_look = self.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK_AGAIN);
        if self.used.len() >= self.most && may_look {
            self.looked = Some(now);
            self.used.retain(|_, used| now.duration_since(*used) < GONE);
        }
        let has_room = self.used.len() < self.most;
        if has_room {
            self.used.insert(host, now);
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(n: usize) -> Url {
        Url::parse(&format!("https://h{n}.example.com/hook")).unwrap()
    }

    #[test]
    fn the_first_hosts_are_kept_until_they_have_not_been_used_for_a_while() {
        let (mut hosts, begin) = (KeptHosts::new(100), Instant::now());
        let kept = (0..100_000).filter(|n| hosts.may_keep(&url(*n), begin)).count();
        assert_eq!((kept, hosts.used.len()), (100, 100));
        let later = begin + Duration::from_secs(5);
        assert!(hosts.may_keep(&url(7), later) && !hosts.may_keep(&url(500), later));
        let much_later = begin + GONE;
        assert!(hosts.may_keep(&url(500), much_later), "the others have no connection any more");
        assert_eq!(hosts.used.len(), 2, "this one, and the one that was used since");
    }

    #[test]
    fn another_port_or_scheme_is_another_host_and_another_path_is_not() {
        let (mut hosts, now) = (KeptHosts::new(1), Instant::now());
        let mut may_keep = |text: &str| hosts.may_keep(&Url::parse(text).unwrap(), now);
        assert!(may_keep("https://example.com/a") && may_keep("https://example.com:443/b"));
        assert!(!may_keep("http://example.com/a") && !may_keep("https://example.com:444/a"));
    }
}
