//! The URL of an endpoint as any customer may write it.
#![cfg_attr(fuzzing, no_main)]

use std::net::IpAddr;

use posthaste::http::guard::{Guard, is_public};
use posthaste::http::target::{MAX_URL_BYTES, check_url};
use url::Host;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| check(input));

pub fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let url = match check_url(&text) {
        Ok(url) => url,
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with("url: ") && message.len() < 300, "{message}");
            return;
        }
    };
    assert!(matches!(url.scheme(), "http" | "https"));
    assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
    assert!(!url.as_str().contains(char::is_whitespace));
    // What is stored is what is checked again before every request.
    if url.as_str().len() <= MAX_URL_BYTES {
        assert_eq!(check_url(url.as_str()).as_ref(), Ok(&url), "the normal form is a URL of its own");
    }
    let address: IpAddr = match url.host() {
        Some(Host::Ipv4(address)) => address.into(),
        Some(Host::Ipv6(address)) => address.into(),
        Some(Host::Domain(name)) => {
            assert!(name.parse::<IpAddr>().is_err(), "an address in the disguise of a name: {name}");
            return;
        }
        None => panic!("a URL without a host"),
    };
    assert_eq!(Guard::default().permits(address), is_public(address), "nothing is allowed by default");
    assert!(!(address.is_loopback() || address.is_unspecified() || address.is_multicast()) || !is_public(address));
}
