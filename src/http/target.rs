//! Which URLs an endpoint may have.

use thiserror::Error;
use url::Url;

/// The longest URL, in bytes. Longer ones are refused by many servers and proxies.
pub const MAX_URL_BYTES: usize = 2048;

/// None of these texts repeats the URL: what is malformed may well hold a password.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum UrlError {
    #[error("url: has {0} bytes; use at most {MAX_URL_BYTES}")]
    TooLong(usize),
    #[error("url: contains a space or a control character; percent-encode it")]
    Whitespace,
    #[error("url: cannot be parsed ({0}); write it as https://host/path")]
    Malformed(url::ParseError),
    #[error("url: the scheme is neither https nor http; begin it with https://")]
    Scheme,
    #[error("url: has no host; write it as https://host/path")]
    NoHost,
    #[error("url: carries a user name or password; remove it, receivers check the signature instead")]
    Credentials,
    #[error("url: has a fragment, which is never sent; remove the '#' and what follows")]
    Fragment,
    #[error("url: the port is 0; use 1 to 65535, or leave it out")]
    Port,
}

/// The URL in its normal form; hosts in odd notations (`0x7f.1`, full-width digits) come out as what they mean.
pub fn check_url(text: &str) -> Result<Url, UrlError> {
    if text.len() > MAX_URL_BYTES {
        return Err(UrlError::TooLong(text.len()));
    }
    // The parser would drop them silently, and the stored text would differ from what is requested.
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(UrlError::Whitespace);
    }
    let url = Url::parse(text).map_err(|error| match error {
        url::ParseError::EmptyHost => UrlError::NoHost,
        url::ParseError::RelativeUrlWithoutBase => UrlError::Scheme,
        other => UrlError::Malformed(other),
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(UrlError::Scheme);
    }
    if !url.has_host() {
        return Err(UrlError::NoHost);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError::Credentials);
    }
    if url.fragment().is_some() {
        return Err(UrlError::Fragment);
    }
    if url.port() == Some(0) {
        return Err(UrlError::Port);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_can_be_requested_are_taken_in_their_normal_form() {
        for (text, normal) in [
            ("https://example.com/hooks?x=1", "https://example.com/hooks?x=1"),
            ("HTTP://Example.COM:8080", "http://example.com:8080/"),
            ("https://bücher.example/", "https://xn--bcher-kva.example/"),
            ("https://[2001:DB8::1]:444/", "https://[2001:db8::1]:444/"),
            ("https://example.com./", "https://example.com./"),
        ] {
            assert_eq!(check_url(text).unwrap().as_str(), normal);
        }
    }

    #[test]
    fn an_ipv4_host_in_an_odd_notation_is_seen_as_the_address_that_it_is() {
        for text in [
            "http://0x7f.1/",
            "http://2130706433/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://127.0.0.1./",
            "http://１２７.0.0.1/",
            "http://%31%32%37.0.0.1/",
        ] {
            assert_eq!(check_url(text).unwrap().host_str(), Some("127.0.0.1"), "{text}");
        }
    }

    #[test]
    fn a_refused_url_is_told_apart_by_what_is_wrong_with_it() {
        let long = format!("https://example.com/{}", "x".repeat(MAX_URL_BYTES));
        for (text, error) in [
            ("ftp://example.com/", UrlError::Scheme),
            ("example.com/hooks", UrlError::Scheme),
            ("mailto:a@example.com", UrlError::Scheme),
            ("https://", UrlError::NoHost),
            ("https://user@example.com/", UrlError::Credentials),
            ("https://:pass@example.com/", UrlError::Credentials),
            ("https://example.com/#top", UrlError::Fragment),
            ("https://example.com:0/", UrlError::Port),
            ("https://exam\nple.com/", UrlError::Whitespace),
            (" https://example.com/", UrlError::Whitespace),
            ("https://example.com:99999/", UrlError::Malformed(url::ParseError::InvalidPort)),
            ("http://1.2.3.4.5/", UrlError::Malformed(url::ParseError::InvalidIpv4Address)),
            (&long, UrlError::TooLong(long.len())),
        ] {
            assert_eq!(check_url(text), Err(error), "{text}");
        }
    }

    #[test]
    fn no_message_repeats_a_password_and_each_names_the_field() {
        for text in ["https://u:hunter2@example.com/", "u:hunter2@example.com", "https://u:hunter2@exa mple.com/"] {
            let message = check_url(text).unwrap_err().to_string();
            assert!(message.starts_with("url: ") && !message.contains("hunter2"), "{message}");
        }
    }
}
