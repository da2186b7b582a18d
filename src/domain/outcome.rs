//! What one HTTP request came to. A failure of the customer's side is an outcome, not an error.

use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A complete answer within the deadline. `retry_after` is the wait that the header asks for, already relative.
    Response { status: u16, retry_after: Option<Duration> },
    /// No complete answer within the deadline (connecting, waiting, or reading the body).
    Timeout(Phase),
    /// The connection could not be made or broke; the endpoint's side is to blame.
    Failed(Failure),
    /// A fault on our side kept the request from being made or judged: it spends no attempt.
    NotSent(OurFault),
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
    /// Any other break of the exchange, for example an answer that is not HTTP.
    Protocol,
}

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
}

impl Outcome {
    pub fn status(&self) -> Option<u16> {
        match self {
            Outcome::Response { status, .. } => Some(*status),
            _ => None,
        }
    }

    pub fn is_delivered(&self) -> bool {
        matches!(self, Outcome::Response { status: 200..=299, .. })
    }

    /// A short, fixed text for the row, the log and the dead letter: never a URL, never a body.
    pub fn error(&self) -> Option<String> {
        match self {
            Outcome::Response { status: 200..=299, .. } => None,
            Outcome::Response { status, .. } => Some(format!("status {status}")),
            Outcome::Timeout(Phase::Connect) => Some("time-out while connecting".into()),
            Outcome::Timeout(Phase::Response) => Some("time-out while waiting for the response".into()),
            Outcome::Timeout(Phase::Body) => Some("time-out while reading the response body".into()),
            Outcome::Failed(failure) => Some(failure.text().into()),
            Outcome::NotSent(fault) => Some(fault.text().into()),
        }
    }

    /// The label `status_class` of the metrics.
    pub fn status_class(&self) -> &'static str {
        match self {
            Outcome::Response { status: 100..=199, .. } => "1xx",
            Outcome::Response { status: 200..=299, .. } => "2xx",
            Outcome::Response { status: 300..=399, .. } => "3xx",
            Outcome::Response { status: 400..=499, .. } => "4xx",
            Outcome::Response { .. } => "5xx",
            Outcome::Timeout(_) => "timeout",
            Outcome::Failed(failure) => failure.class(),
            Outcome::NotSent(_) => "not_sent",
        }
    }
}

impl Failure {
    fn text(self) -> &'static str {
        match self {
            Failure::Dns => "the host name does not resolve",
            Failure::Refused => "connection refused",
            Failure::Reset => "connection reset",
            Failure::Tls => "TLS handshake failed",
            Failure::BlockedAddress => "the host resolves to an address that is not public (delivery.allow_cidrs)",
            Failure::InvalidRequest => "the endpoint's URL or headers cannot be sent",
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
            Failure::Protocol => "protocol",
        }
    }
}

impl OurFault {
    fn text(self) -> &'static str {
        match self {
            OurFault::ResolverUnavailable => "our DNS resolver gave no answer",
            OurFault::LocalResources => "out of local resources (file descriptors, ports or memory)",
            OurFault::SecretsUnreadable => "the endpoint's secrets cannot be decrypted with the configured key",
            OurFault::Stalled => "this process stood still beyond the deadline",
        }
    }
}
