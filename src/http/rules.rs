//! What an endpoint's URL must fulfil beyond being one: the operator's rules, and those of its tenant.

use std::net::IpAddr;

use thiserror::Error;
use url::{Host, Url};

use super::guard::is_public;
use super::ports::Ports;

#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Of every endpoint.
    pub require_https: bool,
    pub ports: Ports,
}

/// Unlike a refused address, this is known of the URL alone, and does not change by itself.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
pub enum Refused {
    #[error("url: begins with http://, and https is required (delivery.require_https); begin it with https://")]
    Http,
    #[error(
        "url: begins with http://, and its tenant requires https (posthaste.tenant_settings); begin it with https://"
    )]
    HttpOfTenant,
    #[error("url: the port {0} is not allowed; use 443, or allow it in delivery.allow_ports")]
    Port(u16),
}

impl Rules {
    /// `tenant_requires_https`: the tenant's own setting.
    pub fn check(&self, url: &Url, tenant_requires_https: bool) -> Result<(), Refused> {
        if url.scheme() != "https" {
            if self.require_https {
                return Err(Refused::Http);
            }
            if tenant_requires_https {
                return Err(Refused::HttpOfTenant);
            }
        }
        match url.port_or_known_default() {
            Some(port) if !self.ports.permit(port, is_opened(url)) => Err(Refused::Port(port)),
            _ => Ok(()),
        }
    }
}

/// The host is an address that is not public: whoever may send there at all has opened its network.
fn is_opened(url: &Url) -> bool {
    let address: IpAddr = match url.host() {
        Some(Host::Ipv4(ip)) => ip.into(),
        Some(Host::Ipv6(ip)) => ip.into(),
        _ => return false,
    };
    !is_public(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rules: &Rules, url: &str, tenant: bool) -> Result<(), Refused> {
        rules.check(&url.parse().unwrap(), tenant)
    }

    #[test]
    fn plain_http_is_refused_where_the_operator_or_the_tenant_requires_https() {
        let (lax, strict) = (Rules::default(), Rules { require_https: true, ..Rules::default() });
        assert_eq!(check(&lax, "http://example.com/", false), Ok(()));
        assert_eq!(check(&lax, "http://example.com/", true), Err(Refused::HttpOfTenant));
        assert_eq!(check(&strict, "http://example.com/", false), Err(Refused::Http));
        assert_eq!(check(&strict, "HTTP://example.com/", true), Err(Refused::Http));
        assert_eq!(check(&strict, "http://127.0.0.1/", false), Err(Refused::Http), "an opened network is no exception");
        assert_eq!(check(&strict, "https://example.com/", true), Ok(()));
    }

    #[test]
    fn the_port_counts_whether_it_is_written_or_not() {
        let only_https = Rules { ports: Ports::only(vec![443..=443]), ..Rules::default() };
        for (url, port) in [
            ("https://example.com/", None),
            ("https://example.com:443/", None),
            ("http://example.com/", Some(80)),
            ("http://example.com:443/", None),
            ("https://example.com:8443/", Some(8443)),
            ("https://127.0.0.1:8443/", Some(8443)),
        ] {
            assert_eq!(check(&only_https, url, false).err(), port.map(Refused::Port), "{url}");
        }
    }

    #[test]
    fn without_a_list_other_protocols_are_refused_in_public_and_open_networks_may_have_any_port() {
        for (url, port) in [
            ("http://example.com:8080/", None),
            ("http://example.com:25/", Some(25)),
            ("https://example.com:22/", Some(22)),
            ("http://8.8.8.8:53/", Some(53)),
            ("http://localhost:25/", Some(25)),
            ("http://127.0.0.1:25/", None),
            ("http://[fd00::1]:6667/", None),
        ] {
            assert_eq!(check(&Rules::default(), url, false).err(), port.map(Refused::Port), "{url}");
        }
    }
}
