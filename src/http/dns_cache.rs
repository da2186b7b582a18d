//! The answers of name servers, kept for as long as they say and within a fixed amount of memory.
//!
//! The resolver library would keep whole answers and bound their number, not their size. Whoever owns a zone can answer
//! with 64 KiB for each of as many names as they like, so only addresses are kept here, and few for each name.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::proto::rr::{Name, RecordType};
use moka::Expiry;
use moka::sync::Cache;

/// How long at most an answer is kept, so that a moved host is found before its next retry.
const MAX_TTL: Duration = Duration::from_secs(300);
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(5);
/// All answers together.
const MAX_BYTES: u64 = 8 * 1024 * 1024;
/// What an answer takes beside its name and its addresses; generously.
const ENTRY_BYTES: usize = 512;
/// The addresses of one family that are used. What comes on top is neither judged nor connected to.
const MAX_ADDRESSES: usize = 16;

/// A name in one address family.
type Question = (Name, RecordType);

/// Cheap to clone.
#[derive(Debug, Clone)]
struct Answer {
    /// None: the name server says that there are none.
    addresses: Arc<[IpAddr]>,
    ttl: Duration,
}

pub(super) struct DnsCache(Cache<Question, Answer>);

impl Default for DnsCache {
    fn default() -> DnsCache {
        let bytes = |(name, _): &Question, answer: &Answer| {
            let addresses = size_of_val::<[IpAddr]>(&answer.addresses);
            u32::try_from(ENTRY_BYTES + name.len() + addresses).unwrap_or(u32::MAX)
        };
        DnsCache(Cache::builder().max_capacity(MAX_BYTES).weigher(bytes).expire_after(AsItSays).build())
    }
}

impl DnsCache {
    /// What was answered, if that still counts. Without an address: there is no such name, or it has none.
    pub fn get(&self, name: &Name, family: RecordType) -> Option<Arc<[IpAddr]>> {
        self.0.get(&(name.clone(), family)).map(|answer| answer.addresses)
    }

    /// Keeps an answer, and returns what of it is used.
    pub fn keep(&self, name: Name, family: RecordType, addresses: Vec<IpAddr>, ttl_seconds: u32) -> Arc<[IpAddr]> {
        let addresses: Arc<[IpAddr]> = addresses.into_iter().take(MAX_ADDRESSES).collect();
        let most = if addresses.is_empty() { MAX_NEGATIVE_TTL } else { MAX_TTL };
        let ttl = Duration::from_secs(ttl_seconds.into()).min(most);
        if !ttl.is_zero() {
            self.0.insert((name, family), Answer { addresses: addresses.clone(), ttl });
        }
        addresses
    }
}

struct AsItSays;

impl Expiry<Question, Answer> for AsItSays {
    fn expire_after_create(&self, _: &Question, answer: &Answer, _: Instant) -> Option<Duration> {
        Some(answer.ttl)
    }

    fn expire_after_update(&self, _: &Question, answer: &Answer, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(answer.ttl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: usize) -> Name {
        Name::from_str_relaxed(format!("h{n}.{}.example", "x".repeat(60))).unwrap()
    }

    #[test]
    fn a_hundred_thousand_names_take_no_more_memory_than_is_allowed() {
        let cache = DnsCache::default();
        let many: Vec<IpAddr> = (0..=255).map(|n| IpAddr::from([8, 8, 8, n])).collect();
        for n in 0..100_000 {
            cache.keep(name(n), RecordType::A, many.clone(), 300);
        }
        cache.0.run_pending_tasks();
        assert!(cache.0.weighted_size() <= MAX_BYTES, "{}", cache.0.weighted_size());
        assert!((1_000..100_000).contains(&cache.0.entry_count()), "{}", cache.0.entry_count());
    }

    #[test]
    fn few_addresses_of_an_answer_are_used_and_one_without_a_time_is_not_kept() {
        let cache = DnsCache::default();
        let many: Vec<IpAddr> = (0..=255).map(|n| IpAddr::from([8, 8, 8, n])).collect();
        assert_eq!(*cache.keep(name(1), RecordType::A, many.clone(), 300), many[..MAX_ADDRESSES]);
        assert_eq!(cache.get(&name(1), RecordType::A).as_deref(), Some(&many[..MAX_ADDRESSES]));
        assert_eq!(cache.get(&name(1), RecordType::AAAA), None, "another question");
        cache.keep(name(2), RecordType::A, many, 0);
        assert_eq!(cache.get(&name(2), RecordType::A), None);
        cache.keep(name(3), RecordType::A, Vec::new(), 300);
        assert_eq!(cache.get(&name(3), RecordType::A).as_deref(), Some(&[][..]), "there is no such name");
    }
}
