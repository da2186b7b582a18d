//! Asking a proxy for a connection to an address (RFC 9110, 9.3.6), and what its answer means.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stream::Io;
use crate::domain::outcome::{Failure, OurFault, Outcome, Phase};

/// The head of an answer, in bytes. Proxies that explain themselves do so in the body, which is not read.
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// ETIMEDOUT, as Squid reports it.
const TIMED_OUT: &str = "110";

/// What a proxy says to a CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Open,
    /// It says that it cannot reach the address, and that this is the address's fault.
    Unreachable(Outcome),
    /// It does not want to, or does not say why it cannot. Nothing is known about the endpoint.
    Refused(OurFault),
}

/// The address is always one that was checked here: a name would be resolved by the proxy, which checks nothing.
pub(super) async fn ask(io: &mut impl Io, address: SocketAddr, authorization: Option<&str>) -> io::Result<Answer> {
    let authorization = authorization.map(|value| format!("proxy-authorization: {value}\r\n")).unwrap_or_default();
    let request = format!("CONNECT {address} HTTP/1.1\r\nhost: {address}\r\n{authorization}\r\n");
    io.write_all(request.as_bytes()).await?;
    io.flush().await?;
    let mut head = Vec::with_capacity(1024);
    loop {
        if io.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // Nothing follows the head: whoever speaks first through the tunnel is us.
        match parse(&head) {
            Some(answer) => return Ok(answer),
            None if head.len() > MAX_HEAD_BYTES => return Ok(Answer::Refused(OurFault::ProxyRefuses)),
            None => {}
        }
    }
}

/// `None`: the head has not ended yet.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(httparse::Status::Partial) => None,
        Ok(httparse::Status::Complete(_)) => Some(judge(response.code.unwrap_or_default(), response.headers)),
        Err(_) => Some(Answer::Refused(OurFault::ProxyRefuses)),
    }
}

/// An attempt is spent only where the proxy says that it could not reach the endpoint. A status alone does not: 502 and 503
/// are also what a proxy answers that is out of order itself.
fn judge(status: u16, headers: &[httparse::Header<'_>]) -> Answer {
    match status {
        200..=299 => Answer::Open,
        407 => Answer::Refused(OurFault::ProxyLogin),
        500..=599 => blamed(headers).map_or(Answer::Refused(OurFault::ProxyRefuses), Answer::Unreachable),
        _ => Answer::Refused(OurFault::ProxyRefuses),
    }
}

/// What the proxy says about the other side: `Proxy-Status` (RFC 9209), or Squid's own header.
fn blamed(headers: &[httparse::Header<'_>]) -> Option<Outcome> {
    let values = |name: &str| {
        let named = headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.filter_map(|header| std::str::from_utf8(header.value).ok()).collect::<Vec<_>>()
    };
    let standard = values("proxy-status").into_iter().find_map(proxy_status);
    standard.or_else(|| values("x-squid-error").into_iter().find_map(squid_error))
}

/// The last member is the proxy that is nearest to us, but whichever of them failed, it says so in its own.
fn proxy_status(value: &str) -> Option<Outcome> {
    let parameters = value.split([';', ',']).filter_map(|part| part.trim().split_once('='));
    let mut errors = parameters.filter(|(name, _)| *name == "error").map(|(_, error)| error.trim_matches('"'));
    errors.find_map(|error| match error {
        "connection_refused" | "destination_unavailable" | "destination_ip_unroutable" => {
            Some(Outcome::Failed(Failure::Refused))
        }
        "connection_terminated" => Some(Outcome::Failed(Failure::Reset)),
        "connection_timeout" => Some(Outcome::Timeout(Phase::Connect)),
        _ => None,
    })
}

/// The name of the page that Squid shows, and the error number: `ERR_CONNECT_FAIL 111`.
fn squid_error(value: &str) -> Option<Outcome> {
    let (page, number) = value.split_once(' ').unwrap_or((value, ""));
    match (page, number) {
        ("ERR_CONNECT_FAIL", TIMED_OUT) => Some(Outcome::Timeout(Phase::Connect)),
        ("ERR_CONNECT_FAIL", _) => Some(Outcome::Failed(Failure::Refused)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REFUSED: Answer = Answer::Refused(OurFault::ProxyRefuses);
    const UNREACHABLE: Answer = Answer::Unreachable(Outcome::Failed(Failure::Refused));
    const SILENT: Answer = Answer::Unreachable(Outcome::Timeout(Phase::Connect));

    #[test]
    fn only_a_proxy_that_blames_the_endpoint_spends_an_attempt() {
        for (head, answer) in [
            ("HTTP/1.1 200 Connection established", Answer::Open),
            ("HTTP/1.0 200 OK", Answer::Open),
            ("HTTP/1.1 407 Proxy Authentication Required", Answer::Refused(OurFault::ProxyLogin)),
            ("HTTP/1.1 403 Forbidden", REFUSED),
            ("HTTP/1.1 302 Found", REFUSED),
            ("HTTP/1.1 429 Too Many Requests", REFUSED),
            ("HTTP/1.1 500 Unable to connect", REFUSED),
            ("HTTP/1.1 502 Bad Gateway", REFUSED),
            ("HTTP/1.1 503 Service Unavailable", REFUSED),
            ("HTTP/1.1 504 Gateway Timeout", REFUSED),
            ("HTTP/1.1 502 Bad Gateway\r\nProxy-Status: egress; error=connection_refused", UNREACHABLE),
            ("HTTP/1.1 504 Gateway Timeout\r\nproxy-status: egress; error=connection_timeout; details=\"x\"", SILENT),
            (
                "HTTP/1.1 502 Bad Gateway\r\nproxy-status: a, b; received-status=502; error=destination_unavailable",
                UNREACHABLE,
            ),
            ("HTTP/1.1 502 Bad Gateway\r\nproxy-status: egress; error=proxy_internal_error", REFUSED),
            ("HTTP/1.1 502 Bad Gateway\r\nproxy-status: egress; error=destination_ip_prohibited", REFUSED),
            ("HTTP/1.1 403 Forbidden\r\nproxy-status: egress; error=connection_refused", REFUSED),
            ("HTTP/1.1 503 Service Unavailable\r\nX-Squid-Error: ERR_CONNECT_FAIL 111", UNREACHABLE),
            ("HTTP/1.1 503 Service Unavailable\r\nX-Squid-Error: ERR_CONNECT_FAIL 110", SILENT),
            ("HTTP/1.1 503 Service Unavailable\r\nX-Squid-Error: ERR_CANNOT_FORWARD 0", REFUSED),
            ("SSH-2.0-OpenSSH_9.6\r\n", REFUSED),
        ] {
            assert_eq!(parse(format!("{head}\r\n\r\n").as_bytes()), Some(answer), "{head}");
        }
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nvia: 1.1"), None);
    }

    #[tokio::test]
    async fn an_endless_head_and_a_proxy_that_hangs_up_are_faults_of_ours() {
        let address = "192.0.2.1:443".parse().unwrap();
        let mut endless = scripted(&["HTTP/1.1 200 OK\r\n", &"x: y\r\n".repeat(10_000)].concat());
        assert_eq!(ask(&mut endless, address, None).await.unwrap(), REFUSED);
        let mut gone = scripted("HTTP/1.1 200");
        assert!(ask(&mut gone, address, None).await.is_err());
    }

    proptest! {
        #[test]
        fn whatever_a_proxy_says_opens_a_tunnel_only_with_2xx_and_spends_an_attempt_only_with_5xx(
            status in 100_u16..1000,
            rest in "[ -~]{0,40}",
            headers in "([a-z-]{1,20}: [ -~]{0,40}\r\n){0,4}",
        ) {
            let head = format!("HTTP/1.1 {status} {rest}\r\n{headers}\r\n");
            let answer = parse(head.as_bytes()).expect("a whole head");
            prop_assert_eq!(answer == Answer::Open, (200..300).contains(&status));
            prop_assert!(!matches!(answer, Answer::Unreachable(_)) || (500..600).contains(&status));
        }

        #[test]
        fn bytes_of_any_kind_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_ne!(parse(&bytes), Some(Answer::Open));
        }
    }

    /// Takes what is written, and gives this to read.
    fn scripted(text: &str) -> impl Io + use<> {
        tokio::io::join(std::io::Cursor::new(text.to_owned().into_bytes()), tokio::io::sink())
    }

    #[tokio::test]
    async fn the_proxy_is_asked_for_an_address_and_gets_the_credentials() {
        for (address, authority) in [("192.0.2.1:443", "192.0.2.1:443"), ("[2001:db8::1]:80", "[2001:db8::1]:80")] {
            let (mut ours, mut theirs) = tokio::io::duplex(1024);
            let asking =
                tokio::spawn(
                    async move { ask(&mut ours, address.parse().unwrap(), Some("Basic dTpw")).await.unwrap() },
                );
            let mut request = vec![0; 1024];
            let length = theirs.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            assert_eq!(
                request,
                format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\nproxy-authorization: Basic dTpw\r\n\r\n")
            );
            theirs.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            assert_eq!(asking.await.unwrap(), Answer::Open);
        }
    }
}
