//! What one HTTP request came to. A failure of the customer's side is an outcome; a fault of ours is none.

use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A complete answer within the deadline.
    Response(Response),
    /// No complete answer within the deadline (connecting, waiting, or reading the body).
    Timeout(Phase),
    /// The connection could not be made or broke; the endpoint's side is to blame.
    Failed(Failure),
}

/// A complete answer, classified when it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    status: u16,
    class: Class,
}

/// What an endpoint means by its answer. All that is not about one of the named codes is the same failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// 2xx
    Delivered,
    /// 410: it is gone for good.
    Gone,
    /// 429, and 503 when it says when to come back: all of its deliveries should slow down.
    SlowDown {
        retry_after: Option<Duration>,
    },
    Failed,
}

impl Response {
    /// The one place where status codes are judged. `retry_after`: the wait that the header asks for, already relative.
    pub fn new(status: u16, retry_after: Option<Duration>) -> Response {
        let class = match (status, retry_after) {
            (200..=299, _) => Class::Delivered,
            (410, _) => Class::Gone,
            (429, _) | (503, Some(_)) => Class::SlowDown { retry_after },
            _ => Class::Failed,
        };
        Response { status, class }
    }

    pub fn status(&self) -> u16 {
        self.status
    }

    pub fn class(&self) -> Class {
        self.class
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Connect,
    Response,
    Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The resolver answered that the name has no address.
    Dns,
    Refused,
    Reset,
    Tls,
    /// The host resolves to an address that is not public and not allowed.
    BlockedAddress,
    /// The stored URL cannot be requested at all.
    InvalidRequest,
    /// The connection was closed before the head of an answer was complete.
    Unanswered,
    /// The head of the answer exceeds our limits.
    HeadersTooLarge,
    /// The answer is not HTTP/1, or its head is invalid.
    NotHttp,
    /// The chunks of the body or its trailers are invalid, or exceed our limits.
    Framing,
    /// The body ended before its announced end.
    ShortBody,
    /// The answer breaks HTTP/2, or its headers exceed our limits: the library does not tell these apart.
    Http2,
    /// Any other break of the exchange.
    Protocol,
}

/// A fault on our side kept the request from being made or judged: it spends no attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OurFault {
    /// Our resolver gave no answer (as opposed to answering that the name does not exist).
    ResolverUnavailable,
    /// We ran out of a local resource, such as file descriptors or ports.
    LocalResources,
    /// The endpoint's secrets or headers could not be decrypted with the configured key.
    SecretsUnreadable,
    /// This process stood still beyond the deadline: frozen, or starved of CPU. What it found then is no judgement.
    Stalled,
    /// The proxy that all requests go through cannot be reached, or gives no answer.
    ProxyUnavailable,
    /// The proxy does not accept our credentials.
    ProxyLogin,
    /// The proxy opens no connection, and does not say that it is the endpoint's fault.
    ProxyRefuses,
}

impl Outcome {
    pub fn response(status: u16, retry_after: Option<Duration>) -> Outcome {
        Outcome::Response(Response::new(status, retry_after))
    }

    pub fn status(&self) -> Option<u16> {
        match self {
            Outcome::Response(response) => Some(response.status),
            Outcome::Timeout(_) | Outcome::Failed(_) => None,
        }
    }

    pub fn is_delivered(&self) -> bool {
        matches!(self, Outcome::Response(response) if response.class == Class::Delivered)
    }

    /// A short, fixed text for the row, the log and the dead letter: never a URL, never a body.
    pub fn error(&self) -> Option<String> {
        match self {
            Outcome::Response(Response { class: Class::Delivered, .. }) => None,
            Outcome::Response(Response { status, .. }) => Some(format!("status {status}")),
            Outcome::Timeout(Phase::Connect) => Some("time-out while connecting".into()),
            Outcome::Timeout(Phase::Response) => Some("time-out while waiting for the response".into()),
            Outcome::Timeout(Phase::Body) => Some("time-out while reading the response body".into()),
            Outcome::Failed(failure) => Some(failure.text().into()),
        }
    }

    /// The label `status_class` of the metrics.
    pub fn status_class(&self) -> &'static str {
        match self {
            Outcome::Response(response) => match response.status / 100 {
                1 => "1xx",
                2 => "2xx",
                3 => "3xx",
                4 => "4xx",
                _ => "5xx",
            },
            Outcome::Timeout(_) => "timeout",
            Outcome::Failed(failure) => failure.class(),
        }
    }
}

/// Kinds of errors without a status code, as operators name them and as the metrics do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    Timeout,
    Failed(Failure),
}

impl ErrorClass {
    pub const ALL: [ErrorClass; 8] = [
        ErrorClass::Timeout,
        ErrorClass::Failed(Failure::Dns),
        ErrorClass::Failed(Failure::Refused),
        ErrorClass::Failed(Failure::Reset),
        ErrorClass::Failed(Failure::Tls),
        ErrorClass::Failed(Failure::BlockedAddress),
        ErrorClass::Failed(Failure::InvalidRequest),
        ErrorClass::Failed(Failure::Protocol),
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            ErrorClass::Timeout => Outcome::Timeout(Phase::Connect).status_class(),
            ErrorClass::Failed(failure) => failure.class(),
        }
    }

    pub fn parse(text: &str) -> Option<ErrorClass> {
        ErrorClass::ALL.into_iter().find(|class| class.as_str() == text)
    }

    /// What is recorded of such errors.
    pub fn texts(self) -> Vec<String> {
        let outcomes = match self {
            ErrorClass::Timeout => [Phase::Connect, Phase::Response, Phase::Body].map(Outcome::Timeout).to_vec(),
            ErrorClass::Failed(failure) => {
                let same = |other: &Failure| other.class() == failure.class();
                Failure::ALL.into_iter().filter(same).map(Outcome::Failed).collect()
            }
        };
        outcomes.iter().filter_map(Outcome::error).collect()
    }
}

impl Failure {
    pub const ALL: [Failure; 13] = [
        Failure::Dns,
        Failure::Refused,
        Failure::Reset,
        Failure::Tls,
        Failure::BlockedAddress,
        Failure::InvalidRequest,
        Failure::Unanswered,
        Failure::HeadersTooLarge,
        Failure::NotHttp,
        Failure::Framing,
        Failure::ShortBody,
        Failure::Http2,
        Failure::Protocol,
    ];

    fn text(self) -> &'static str {
        match self {
            Failure::Dns => "the host name does not resolve",
            Failure::Refused => "connection refused",
            Failure::Reset => "connection reset",
            Failure::Tls => "TLS handshake failed",
            Failure::BlockedAddress => "the host resolves to an address that is not public (delivery.allow_cidrs)",
            Failure::InvalidRequest => "the endpoint's URL or headers cannot be sent",
            Failure::Unanswered => "the connection was closed before the response's headers were complete",
            Failure::HeadersTooLarge => "the response's headers are too many or too large",
            Failure::NotHttp => "the response is not valid HTTP",
            Failure::Framing => "the response body's chunks or trailers are invalid, or too large",
            Failure::ShortBody => "the response body ended before its announced end",
            Failure::Http2 => "the response is not valid HTTP/2, or its headers are too large",
            // Up to 0.1.0 the text of all of these.
            Failure::Protocol => "the exchange broke before a complete response",
        }
    }

    fn class(self) -> &'static str {
        match self {
            Failure::Dns => "dns",
            Failure::Refused => "refused",
            Failure::Reset => "reset",
            Failure::Tls => "tls",
            Failure::BlockedAddress => "blocked_address",
            Failure::InvalidRequest => "invalid_request",
            Failure::Unanswered
            | Failure::HeadersTooLarge
            | Failure::NotHttp
            | Failure::Framing
            | Failure::ShortBody
            | Failure::Http2
            | Failure::Protocol => "protocol",
        }
    }
}

impl OurFault {
    /// As short and fixed as the text of an outcome.
    pub fn text(self) -> &'static str {
        match self {
            OurFault::ResolverUnavailable => "our DNS resolver gave no answer",
            OurFault::LocalResources => "out of local resources (file descriptors, ports or memory)",
            OurFault::SecretsUnreadable => "the endpoint's secrets cannot be decrypted with the configured key",
            OurFault::Stalled => "this process stood still beyond the deadline",
            OurFault::ProxyUnavailable => "the proxy gives no answer (delivery.proxy)",
            OurFault::ProxyLogin => "the proxy does not accept our credentials (delivery.proxy)",
            OurFault::ProxyRefuses => "the proxy refused to connect (delivery.proxy); its log says why",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_of_errors_is_found_by_its_name_and_by_what_is_recorded() {
        for class in ErrorClass::ALL {
            assert_eq!(ErrorClass::parse(class.as_str()), Some(class));
        }
        let of_timeouts = ErrorClass::Timeout.texts();
        assert_eq!(of_timeouts.len(), 3);
        assert!(of_timeouts.iter().all(|text| text.starts_with("time-out while")), "{of_timeouts:?}");
        assert_eq!(ErrorClass::Failed(Failure::Refused).texts(), ["connection refused"]);
        assert_eq!(ErrorClass::parse("5xx"), None);
        let broken = ErrorClass::Failed(Failure::Protocol).texts();
        assert!(broken.len() == 7 && broken.contains(&"the exchange broke before a complete response".to_owned()));
    }

    #[test]
    fn every_failure_has_a_class_and_a_text_of_its_own() {
        let texts: std::collections::BTreeSet<&str> = Failure::ALL.into_iter().map(Failure::text).collect();
        assert_eq!(texts.len(), Failure::ALL.len());
        for failure in Failure::ALL {
            assert!(ErrorClass::ALL.iter().any(|class| class.as_str() == failure.class()), "{failure:?}");
        }
    }
}
