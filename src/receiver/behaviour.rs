//! How the test receiver answers, written as a short text such as `fail-first:2` or `slow:1s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// The valid texts, for messages and for the command line's help.
pub const CHOICES: &str = "ok, fail-first:N, fail-share:0.3, status:CODE, slow:DURATION, hang, drip:DURATION, reset, \
                           redirect:URL, retry-after:SECONDS, retry-after:SECONDS:CODE";

#[derive(Debug, Clone, PartialEq)]
pub enum Behaviour {
    Ok,
    /// The first so many requests of each webhook id get 500.
    FailFirst(u32),
    /// This share of the requests gets 500. The same request of the same id always fares the same.
    FailShare(f64),
    Status(u16),
    /// 200, but only after this long.
    Slow(Duration),
    Hang,
    /// 200 and then one byte of the body in each interval, without end.
    Drip(Duration),
    /// The connection is reset.
    Reset,
    Redirect(String),
    RetryAfter {
        seconds: u64,
        status: u16,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("behaviour: {0}; use one of {CHOICES}")]
pub struct BehaviourError(String);

impl FromStr for Behaviour {
    type Err = BehaviourError;

    fn from_str(text: &str) -> Result<Behaviour, BehaviourError> {
        let text = text.trim();
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        let needed = argument.ok_or_else(|| BehaviourError(format!("'{name}' needs a value after a colon")));
        let behaviour = match name {
            "ok" => Behaviour::Ok,
            "hang" => Behaviour::Hang,
            "reset" => Behaviour::Reset,
            "fail-first" => Behaviour::FailFirst(value(name, needed?, "a whole number")?),
            "fail-share" => Behaviour::FailShare(share(needed?)?),
            "status" => Behaviour::Status(status(needed?)?),
            "slow" => Behaviour::Slow(duration(name, needed?)?),
            "drip" => Behaviour::Drip(duration(name, needed?)?),
            "redirect" => Behaviour::Redirect(location(needed?)?),
            "retry-after" => retry_after(needed?)?,
            _ => return Err(BehaviourError(format!("'{text}' is not known"))),
        };
        match (&behaviour, argument) {
            (Behaviour::Ok | Behaviour::Hang | Behaviour::Reset, Some(_)) => {
                Err(BehaviourError(format!("'{name}' takes no value")))
            }
            _ => Ok(behaviour),
        }
    }
}

fn value<T: FromStr>(name: &str, text: &str, wanted: &str) -> Result<T, BehaviourError> {
    text.parse().map_err(|_| BehaviourError(format!("'{text}' after '{name}:' is not {wanted}")))
}

fn share(text: &str) -> Result<f64, BehaviourError> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| BehaviourError(format!("'{text}' after 'fail-share:' is not a number from 0 to 1")))
}

fn status(text: &str) -> Result<u16, BehaviourError> {
    match value("status", text, "a status code")? {
        status @ 200..=599 => Ok(status),
        status => Err(BehaviourError(format!("the status code {status} is not within 200 to 599"))),
    }
}

fn duration(name: &str, text: &str) -> Result<Duration, BehaviourError> {
    humantime::parse_duration(text)
        .map_err(|_| BehaviourError(format!("'{text}' after '{name}:' is not a duration such as 250ms or 2s")))
}

fn location(text: &str) -> Result<String, BehaviourError> {
    let sendable = !text.is_empty() && axum::http::HeaderValue::try_from(text).is_ok();
    if sendable { Ok(text.to_owned()) } else { Err(BehaviourError("the URL after 'redirect:' cannot be sent".into())) }
}

fn retry_after(text: &str) -> Result<Behaviour, BehaviourError> {
    let (seconds, code) = text.split_once(':').unwrap_or((text, "429"));
    let seconds = value("retry-after", seconds, "a whole number of seconds")?;
    Ok(Behaviour::RetryAfter { seconds, status: status(code)? })
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Behaviour::Ok => f.write_str("ok"),
            Behaviour::FailFirst(requests) => write!(f, "fail-first:{requests}"),
            Behaviour::FailShare(share) => write!(f, "fail-share:{share}"),
            Behaviour::Status(status) => write!(f, "status:{status}"),
            Behaviour::Slow(delay) => write!(f, "slow:{}", compact(*delay)),
            Behaviour::Hang => f.write_str("hang"),
            Behaviour::Drip(interval) => write!(f, "drip:{}", compact(*interval)),
            Behaviour::Reset => f.write_str("reset"),
            Behaviour::Redirect(url) => write!(f, "redirect:{url}"),
            Behaviour::RetryAfter { seconds, status } => write!(f, "retry-after:{seconds}:{status}"),
        }
    }
}

fn compact(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}

/// Whether the n-th request of an id belongs to the failing share: a hash, so that a test can be repeated.
pub(super) fn in_share(share: f64, id: &str, nth: u32) -> bool {
    // FNV-1a, whose high bits are weak for short inputs, so they are mixed once more.
    let bytes = id.bytes().chain(nth.to_le_bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed >> 11) as f64) < share * (1_u64 << 53) as f64
}

#[cfg(test)]
#[path = "behaviour_tests.rs"]
mod tests;
