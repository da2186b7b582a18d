//! Transports of endpoints that have TLS of their own. Connections made with one certificate must not serve another
//! endpoint, so each has its own; there is a limit to how many are kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::own_tls::OwnTls;

/// Transports that are kept. Each holds a key, a few connections and some kilobytes.
const MOST: usize = 512;
/// One that was not used for this long goes when another one is made.
const IDLE: Duration = Duration::from_secs(600);

pub(super) struct OwnClients<T> {
    most: usize,
    all: Arc<Mutex<HashMap<Uuid, Entry<T>>>>,
}

struct Entry<T> {
    /// Of the certificates that it was made with.
    digest: [u8; 32],
    transport: T,
    used: Instant,
}

impl<T> Clone for OwnClients<T> {
    fn clone(&self) -> OwnClients<T> {
        OwnClients { most: self.most, all: self.all.clone() }
    }
}

impl<T> Default for OwnClients<T> {
    fn default() -> OwnClients<T> {
        OwnClients { most: MOST, all: Arc::default() }
    }
}

impl<T: Clone> OwnClients<T> {
    /// The endpoint's transport. One that was made with other certificates is dropped, and with it its idle connections; a
    /// request that is under way ends on the connection that it has.
    pub fn get<E>(&self, endpoint: Uuid, own: &OwnTls, make: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(entry) = all.get_mut(&endpoint)
            && entry.digest == own.digest
        {
            entry.used = now;
            return Ok(entry.transport.clone());
        }
        all.remove(&endpoint);
        all.retain(|_, entry| now.duration_since(entry.used) < IDLE);
        while all.len() >= self.most {
            let Some(oldest) = all.iter().min_by_key(|(_, entry)| entry.used).map(|(id, _)| *id) else { break };
            all.remove(&oldest);
        }
        let transport = make()?;
        all.insert(endpoint, Entry { digest: own.digest, transport: transport.clone(), used: now });
        Ok(transport)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(digest: u8) -> OwnTls {
        OwnTls { identity: None, roots: None, digest: [digest; 32] }
    }

    fn get(clients: &OwnClients<u32>, endpoint: u128, digest: u8, made: u32) -> u32 {
        clients.get(Uuid::from_u128(endpoint), &own(digest), || Ok::<_, ()>(made)).unwrap()
    }

    #[test]
    fn a_transport_is_kept_until_the_certificates_change() {
        let clients = OwnClients::default();
        assert_eq!(get(&clients, 1, 1, 10), 10);
        assert_eq!(get(&clients, 1, 1, 11), 10);
        assert_eq!(get(&clients, 2, 1, 20), 20, "another endpoint has its own, also with the same certificates");
        assert_eq!(get(&clients, 1, 2, 12), 12);
        assert_eq!(get(&clients, 1, 1, 13), 13, "the old one is gone");
    }

    #[test]
    fn there_are_never_too_many_and_the_one_used_longest_ago_goes() {
        let clients = OwnClients { most: 2, ..OwnClients::default() };
        get(&clients, 1, 1, 10);
        get(&clients, 2, 1, 20);
        assert_eq!(get(&clients, 1, 1, 11), 10);
        get(&clients, 3, 1, 30);
        assert_eq!(clients.all.lock().unwrap().len(), 2);
        assert_eq!((get(&clients, 1, 1, 12), get(&clients, 2, 1, 21)), (10, 21), "2 was used before 1");
    }
}
