//! What an error of the HTTP client means, found by the types in its chain of sources, never by its text.

use std::error::Error;
use std::io;
use std::time::Duration;

use super::resolver::ResolveError;
use super::stage::Stage;
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
        Stage::Talking => Ok(Outcome::Timeout(Phase::Response)),
    }
}

/// The request failed before the response's head was there.
pub(super) fn request_error(error: &reqwest::Error, stage: Stage) -> Ended {
    if error.is_builder() {
        return Ok(Outcome::Failed(Failure::InvalidRequest));
    }
    if let Some(ended) = typed(error) {
        return ended;
    }
    if error.is_timeout() {
        // The limit of connecting covers the resolver; the kernel gives up on a silent peer by itself.
        let connecting = error.is_connect() && stage == Stage::Talking;
        return deadline(if connecting { Stage::Connecting } else { stage });
    }
    Ok(Outcome::Failed(match io_kind(error) {
        // A server that hangs up in the middle of the handshake does not speak TLS to us.
        Some(io::ErrorKind::UnexpectedEof) if error.is_connect() => Failure::Tls,
        kind => failure(kind),
    }))
}

/// The body broke off.
pub(super) fn body_error(error: &reqwest::Error) -> Ended {
    if let Some(ended) = typed(error) {
        return ended;
    }
    Ok(if error.is_timeout() { Outcome::Timeout(Phase::Body) } else { Outcome::Failed(failure(io_kind(error))) })
}

fn failure(kind: Option<io::ErrorKind>) -> Failure {
    match kind {
        Some(io::ErrorKind::ConnectionRefused) => Failure::Refused,
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe) => {
            Failure::Reset
        }
        _ => Failure::Protocol,
    }
}

/// The causes that say it all, wherever in the chain they are.
fn typed(error: Cause<'_>) -> Option<Ended> {
    find(error, &|cause| {
        if let Some(error) = cause.downcast_ref::<ResolveError>() {
            return Some(resolve_error(error));
        }
        if cause.is::<rustls::Error>() {
            return Some(Ok(Outcome::Failed(Failure::Tls)));
        }
        let error = cause.downcast_ref::<io::Error>()?;
        let ours = matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory)
            || matches!(error.raw_os_error(), Some(ENFILE | EMFILE));
        ours.then_some(Err(OurFault::LocalResources))
    })
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
