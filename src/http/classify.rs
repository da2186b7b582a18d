//! What an error of the HTTP client means, found by the types in its chain of sources, never by its text.

use std::error::Error;
use std::io;
use std::time::Duration;

use hyper_util::client::legacy;

use super::connector::ConnectError;
use super::proxy::NoTunnel;
use super::resolver::ResolveError;
use super::stage::Stage;
use super::stream::Flood;
use crate::domain::outcome::{Failure, OurFault, Outcome, Phase};

/// Error numbers without a stable `io::ErrorKind`: no file descriptor left in the system, or in the process.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// A timer of ours that is later than this was not kept waiting by the endpoint.
const STALL: Duration = Duration::from_secs(1);

/// What a request came to, or the fault of ours that kept it from being made or judged.
pub type Ended = Result<Outcome, OurFault>;

/// The limits of one exchange.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub connect: Duration,
    pub total: Duration,
}

/// A process that was frozen or starved finds its deadlines passed and its connections broken, whatever the endpoint has
/// done meanwhile: the outcome was found long after the deadline. A complete answer counts all the same.
pub(super) fn unless_stalled(outcome: Outcome, took: Duration, limits: Limits) -> Ended {
    let deadline = match outcome {
        Outcome::Timeout(Phase::Connect) => limits.connect.min(limits.total),
        _ => limits.total,
    };
    match outcome {
        Outcome::Timeout(_) | Outcome::Failed(_) if took >= deadline + STALL => Err(OurFault::Stalled),
        outcome => Ok(outcome),
    }
}

/// The deadline struck before the response's head was there.
pub(super) fn deadline(stage: Stage) -> Ended {
    match stage {
        Stage::Resolving => Err(OurFault::ResolverUnavailable),
        Stage::Connecting => Ok(Outcome::Timeout(Phase::Connect)),
        Stage::Proxy => Err(OurFault::ProxyUnavailable),
        Stage::Talking => Ok(Outcome::Timeout(Phase::Response)),
    }
}

/// The request failed before the response's head was there.
pub(super) fn request_error(error: &legacy::Error, stage: Stage) -> Ended {
    if let Some(ended) = typed(error) {
        return ended;
    }
    match io_kind(error) {
        // The kernel gives up on a silent peer by itself.
        Some(io::ErrorKind::TimedOut) => deadline(if error.is_connect() { Stage::Connecting } else { stage }),
        // A server that hangs up in the middle of the handshake does not speak TLS to us.
        Some(io::ErrorKind::UnexpectedEof) if error.is_connect() => Ok(Outcome::Failed(Failure::Tls)),
        Some(io::ErrorKind::UnexpectedEof) => Ok(Outcome::Failed(Failure::Unanswered)),
        kind => Ok(Outcome::Failed(failure(kind).unwrap_or_else(|| invalid_head(error)))),
    }
}

/// The body broke off.
pub(super) fn body_error(error: &hyper::Error) -> Ended {
    typed(error).unwrap_or_else(|| {
        Ok(match io_kind(error) {
            Some(io::ErrorKind::TimedOut) => Outcome::Timeout(Phase::Body),
            Some(io::ErrorKind::UnexpectedEof) => Outcome::Failed(Failure::ShortBody),
            Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => Outcome::Failed(Failure::Framing),
            kind => Outcome::Failed(failure(kind).unwrap_or_else(|| invalid_body(error))),
        })
    })
}

/// The server says that it has not looked at the request, so sending it again cannot do anything twice: it refused the
/// stream, or closed the connection with an earlier request as the last (RFC 9113, 8.7).
pub(super) fn is_unprocessed(error: &legacy::Error) -> bool {
    let unprocessed = find(error, &|cause| {
        let error = cause.downcast_ref::<h2::Error>().filter(|error| error.is_remote())?;
        let goes_away = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        let refuses = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        Some(goes_away || refuses)
    });
    unprocessed.unwrap_or(false)
}

fn failure(kind: Option<io::ErrorKind>) -> Option<Failure> {
    match kind {
        Some(io::ErrorKind::ConnectionRefused) => Some(Failure::Refused),
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe) => {
            Some(Failure::Reset)
        }
        _ => None,
    }
}

/// What is wrong with the head of an answer, as far as the library of HTTP says.
fn invalid_head(error: Cause<'_>) -> Failure {
    let of_head = |error: &hyper::Error| match error {
        error if error.is_parse_too_large() => Some(Failure::HeadersTooLarge),
        error if error.is_parse() => Some(Failure::NotHttp),
        error if error.is_incomplete_message() => Some(Failure::Unanswered),
        _ => None,
    };
    find(error, &|cause| cause.downcast_ref().and_then(of_head)).unwrap_or(Failure::Protocol)
}

fn invalid_body(error: &hyper::Error) -> Failure {
    match error {
        error if error.is_incomplete_message() => Failure::ShortBody,
        error if error.is_parse() => Failure::Framing,
        _ => Failure::Protocol,
    }
}

/// The causes that say it all, wherever in the chain they are.
fn typed(error: Cause<'_>) -> Option<Ended> {
    find(error, &|cause| {
        if let Some(error) = cause.downcast_ref::<ConnectError>() {
            return connect_error(error);
        }
        if let Some(error) = cause.downcast_ref::<ResolveError>() {
            return Some(resolve_error(error));
        }
        if cause.is::<rustls::Error>() {
            return Some(Ok(Outcome::Failed(Failure::Tls)));
        }
        if cause.is::<Flood>() {
            return Some(Ok(Outcome::Failed(Failure::HeadersTooLarge)));
        }
        if let Some(error) = cause.downcast_ref::<h2::Error>() {
            let is_reset = error.is_remote() && (error.is_reset() || error.is_go_away());
            // What we give up ourselves, because of its size or form.
            let is_invalid = error.is_library() && (error.is_reset() || error.is_go_away());
            let failure = if is_reset { Some(Failure::Reset) } else { is_invalid.then_some(Failure::Http2) };
            return failure.map(|failure| Ok(Outcome::Failed(failure)));
        }
        cause.downcast_ref::<io::Error>().filter(|error| is_local(error)).map(|_| Err(OurFault::LocalResources))
    })
}

fn is_local(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory)
        || matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

/// `None`: what caused it says more.
fn connect_error(error: &ConnectError) -> Option<Ended> {
    match error {
        ConnectError::Resolve(error) => Some(resolve_error(error)),
        ConnectError::Proxy(NoTunnel::Fault(fault)) => Some(Err(*fault)),
        ConnectError::Proxy(NoTunnel::Unreachable(outcome)) => Some(Ok(*outcome)),
        // Whatever happens on the way to the proxy says nothing about the endpoint.
        ConnectError::Proxy(NoTunnel::Io(error)) if is_local(error) => Some(Err(OurFault::LocalResources)),
        ConnectError::Proxy(NoTunnel::Io(_)) => Some(Err(OurFault::ProxyUnavailable)),
        ConnectError::NoServerName => Some(Ok(Outcome::Failed(Failure::InvalidRequest))),
        ConnectError::TimedOut(stage) => Some(deadline(*stage)),
        ConnectError::Tcp(_) | ConnectError::Tls(_) => None,
    }
}

pub(super) fn resolve_error(error: &ResolveError) -> Ended {
    match error {
        ResolveError::DoesNotExist => Ok(Outcome::Failed(Failure::Dns)),
        ResolveError::Blocked(_) => Ok(Outcome::Failed(Failure::BlockedAddress)),
        ResolveError::NoAnswer => Err(OurFault::ResolverUnavailable),
    }
}

/// The first kind that says something: `Other` is a wrapping of another error.
fn io_kind(error: Cause<'_>) -> Option<io::ErrorKind> {
    find(error, &|cause| {
        cause.downcast_ref::<io::Error>().map(io::Error::kind).filter(|kind| *kind != io::ErrorKind::Other)
    })
}

type Cause<'a> = &'a (dyn Error + 'static);

/// The first cause that `pick` recognises, from the outside in. An `io::Error` hides the error that it wraps from
/// `source`, so that one is looked at by itself.
fn find<T>(error: Cause<'_>, pick: &impl Fn(Cause<'_>) -> Option<T>) -> Option<T> {
    if let Some(found) = pick(error) {
        return Some(found);
    }
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    if let Some(found) = wrapped.and_then(|inner| find(inner, pick)) {
        return Some(found);
    }
    error.source().and_then(|source| find(source, pick))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_out_of_a_local_resource_is_our_fault_however_deep_it_is_wrapped() {
        let wrapped = io::Error::other(io::Error::other(io::Error::from_raw_os_error(EMFILE)));
        assert_eq!(typed(&wrapped), Some(Err(OurFault::LocalResources)));
        let ports = io::Error::from(io::ErrorKind::AddrNotAvailable);
        assert_eq!(typed(&ports), Some(Err(OurFault::LocalResources)));
        assert_eq!(typed(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
    }

    #[test]
    fn a_deadline_that_was_found_passed_long_after_is_our_fault_and_an_answer_counts() {
        let limits = Limits { connect: Duration::from_secs(5), total: Duration::from_secs(30) };
        let found = |outcome: Outcome, seconds| unless_stalled(outcome, Duration::from_secs(seconds), limits);
        let stalled = Err(OurFault::Stalled);
        assert_eq!(found(Outcome::Timeout(Phase::Connect), 5), Ok(Outcome::Timeout(Phase::Connect)));
        assert_eq!(found(Outcome::Timeout(Phase::Connect), 6), stalled);
        assert_eq!(found(Outcome::Timeout(Phase::Response), 30), Ok(Outcome::Timeout(Phase::Response)));
        assert_eq!(found(Outcome::Timeout(Phase::Response), 31), stalled);
        assert_eq!(found(Outcome::Failed(Failure::Reset), 30), Ok(Outcome::Failed(Failure::Reset)));
        assert_eq!(found(Outcome::Failed(Failure::Reset), 31), stalled);
        let answer = Outcome::response(500, None);
        assert_eq!(found(answer, 60), Ok(answer));
    }

    #[test]
    fn a_wrapped_tls_error_is_found() {
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::HandshakeNotComplete);
        assert_eq!(typed(&wrapped), Some(Ok(Outcome::Failed(Failure::Tls))));
    }
}
