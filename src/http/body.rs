//! Reading what the endpoint answers, without trusting its size, its pace or its encoding.

use ::http::header::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::classify::{self, Ended};
use crate::domain::outcome::{Outcome, Phase};

/// What is read and thrown away beyond the part that is kept, in bytes: a connection whose response was read to its end
/// can be used again, and a little reading is cheaper than a new handshake.
const DISCARD_BYTES: usize = 64 * 1024;
/// Response headers that are kept, and the length of each value, in bytes.
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 1024;

/// Reads the body and keeps its first `keep` bytes. `Err` is what the request came to instead of the response, along with
/// what had come until then.
pub(super) async fn read(mut body: Incoming, keep: usize, deadline: Instant) -> (Vec<u8>, Result<(), Ended>) {
    let mut kept = Vec::new();
    let mut discarded = 0;
    loop {
        let frame = match timeout_at(deadline, body.frame()).await {
            Err(_) => return (kept, Err(Ok(Outcome::Timeout(Phase::Body)))),
            Ok(None) => return (kept, Ok(())),
            Ok(Some(Err(error))) => return (kept, Err(classify::body_error(&error))),
            Ok(Some(Ok(frame))) => frame,
        };
        // Trailers say nothing that anybody asks for.
        let Ok(chunk) = frame.into_data() else { continue };
        let part = chunk.len().min(keep - kept.len());
        kept.extend_from_slice(&chunk[..part]);
        discarded += chunk.len() - part;
        if discarded > DISCARD_BYTES {
            return (kept, Ok(()));
        }
    }
}

/// Text that PostgreSQL takes: UTF-8 without NUL, at most `limit` bytes, cut between characters.
pub(super) fn text(bytes: &[u8], limit: usize) -> String {
    let mut text = String::from_utf8_lossy(bytes).replace('\0', "");
    let end = (0..=limit.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    text.truncate(end);
    text
}

pub(super) fn headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let pair = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), text(value.as_bytes(), MAX_HEADER_BYTES))
    };
    headers.iter().take(MAX_HEADERS).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters_and_has_no_nul() {
        assert_eq!(text(b"a\0b\xff", 100), "ab\u{fffd}");
        assert_eq!(text("aé".as_bytes(), 2), "a");
        assert_eq!(text("aé".as_bytes(), 3), "aé");
        assert_eq!(text(b"\xff\xff", 4), "\u{fffd}", "a replacement is longer than what it replaces");
    }
}
