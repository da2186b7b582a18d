//! Which addresses a webhook may go to: what is routed on the public internet, plus what the operator allows by CIDR.
//!
//! A customer chooses the URL, and we are inside the operator's network: without this, a webhook to
//! `http://169.254.169.254/` reads the cloud's credentials. Sources: the IANA special-purpose address registries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use thiserror::Error;

/// Networks that are not globally reachable, with the length of their prefix. A few single addresses inside
/// 192.0.0.0/24 are, but no webhook lives there.
const NOT_PUBLIC_V4: [(Ipv4Addr, u32); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),       // "this network"
    (Ipv4Addr::new(10, 0, 0, 0), 8),      // private
    (Ipv4Addr::new(100, 64, 0, 0), 10),   // carrier-grade NAT
    (Ipv4Addr::new(127, 0, 0, 0), 8),     // loopback
    (Ipv4Addr::new(169, 254, 0, 0), 16),  // link-local, metadata services
    (Ipv4Addr::new(172, 16, 0, 0), 12),   // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),    // protocol assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24),    // documentation
    (Ipv4Addr::new(192, 88, 99, 0), 24),  // 6to4 relays, deprecated
    (Ipv4Addr::new(192, 168, 0, 0), 16),  // private
    (Ipv4Addr::new(198, 18, 0, 0), 15),   // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24), // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),  // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),     // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),     // reserved, broadcast
];

const GLOBAL_UNICAST: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// Everything outside of global unicast is refused at once: loopback, link-local, unique local, multicast, the
/// discard prefix, segment routing, local-use NAT64, IPv4-compatible. These are the exceptions inside of it.
const NOT_PUBLIC_V6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments, with Teredo
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4, leads to an IPv4 address of anybody's choice
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];
/// The parts of 2001::/23 that the registry calls globally reachable.
const PUBLIC_V6: [(Ipv6Addr, u32); 7] = [
    (Ipv6Addr::new(0x2001, 1, 0, 0, 0, 0, 0, 1), 128),
    (Ipv6Addr::new(0x2001, 1, 0, 0, 0, 0, 0, 2), 128),
    (Ipv6Addr::new(0x2001, 1, 0, 0, 0, 0, 0, 3), 128),
    (Ipv6Addr::new(0x2001, 3, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2001, 4, 0x112, 0, 0, 0, 0, 0), 48),
    (Ipv6Addr::new(0x2001, 0x20, 0, 0, 0, 0, 0, 0), 28),
    (Ipv6Addr::new(0x2001, 0x30, 0, 0, 0, 0, 0, 0), 28),
];
/// NAT64: the translator connects to the IPv4 address in the last 32 bits.
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Whether the address is reachable on the public internet.
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) if in_v6(v6, NAT64) => is_public_v4(Ipv4Addr::from_bits(v6.to_bits() as u32)),
        IpAddr::V6(v6) => {
            let within = |networks: &[(Ipv6Addr, u32)]| networks.iter().any(|network| in_v6(v6, *network));
            in_v6(v6, GLOBAL_UNICAST) && (!within(&NOT_PUBLIC_V6) || within(&PUBLIC_V6))
        }
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    !NOT_PUBLIC_V4.iter().any(|(base, prefix)| (ip.to_bits() ^ base.to_bits()) >> (32 - prefix) == 0)
}

fn in_v6(ip: Ipv6Addr, (base, prefix): (Ipv6Addr, u32)) -> bool {
    (ip.to_bits() ^ base.to_bits()) >> (128 - prefix) == 0
}

/// What may be connected to.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// Networks that are allowed although they are not public.
    pub allow: Vec<IpNet>,
}

#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
#[error(
    "url: the host has the address {0}, which is not public; use a public host, or allow it in delivery.allow_cidrs"
)]
pub struct Blocked(pub IpAddr);

impl Guard {
    pub fn permits(&self, ip: IpAddr) -> bool {
        // An IPv4-mapped address is the IPv4 address to the kernel, so a network allows it in both forms.
        let canonical = ip.to_canonical();
        is_public(ip) || self.allow.iter().any(|network| network.contains(&canonical) || network.contains(&ip))
    }

    /// One address that is not permitted refuses the host: it has no business among public ones.
    pub fn check(&self, addresses: &[IpAddr]) -> Result<(), Blocked> {
        match addresses.iter().find(|ip| !self.permits(**ip)) {
            Some(ip) => Err(Blocked(*ip)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "guard_table_tests.rs"]
mod table;
