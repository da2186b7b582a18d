//! Which trace an event belongs to, by W3C's Trace Context.

use uuid::Uuid;

use super::share::Share;

pub type TraceId = [u8; 16];
pub type SpanId = [u8; 8];

const SAMPLED: u8 = 1;
/// The trace id has enough random bits.
const RANDOM: u8 = 2;

/// The place of an event in its trace: spans about the event are children of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    pub trace_id: TraceId,
    /// Of the producer; or of the first span about the event, where the trace begins with it.
    pub parent: SpanId,
    pub begins_here: bool,
    flags: u8,
}

impl Context {
    /// The producer's flag decides whether its trace is sampled, and the share decides about the others.
    ///
    /// A trace that begins here has the event's id for its id. So whoever looks at the event at any time, in any process, comes
    /// to the same trace, and to the same decision.
    pub fn of(traceparent: Option<&str>, event_id: Uuid, share: Share) -> Context {
        traceparent.and_then(parse).unwrap_or_else(|| {
            let trace_id = *event_id.as_bytes();
            let [.., a, b, c, d, e, f, g, h] = trace_id;
            let flags = RANDOM | if share.has(event_id) { SAMPLED } else { 0 };
            Context { trace_id, parent: [a, b, c, d, e, f, g, h], begins_here: true, flags }
        })
    }

    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// For whoever continues the trace below this span.
    pub fn traceparent(&self, span: SpanId) -> String {
        format!("00-{}-{}-{:02x}", hex(&self.trace_id), hex(&span), self.flags & (SAMPLED | RANDOM))
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Version 00. The outbox takes no other, so anything else was not made by the way of an event.
fn parse(text: &str) -> Option<Context> {
    let mut parts = text.split('-');
    let (version, trace_id, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version != "00" || parts.next().is_some() {
        return None;
    }
    let (trace_id, parent, [flags]) = (bytes(trace_id)?, bytes(parent)?, bytes(flags)?);
    let is_valid = trace_id != TraceId::default() && parent != SpanId::default();
    is_valid.then_some(Context { trace_id, parent, begins_here: false, flags })
}

fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let digits = hex.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(digit)) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&hex[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn event() -> Uuid {
        super::super::ids::new_v7(1_700_000_000_000, [9; 10])
    }

    #[test]
    fn a_trace_of_a_producer_goes_on_as_the_producer_has_decided() {
        let sampled = Context::of(Some(PRODUCER), event(), Share::NOTHING);
        assert!(sampled.is_sampled() && !sampled.begins_here);
        assert_eq!(sampled.traceparent(sampled.parent), PRODUCER);
        let not = Context::of(Some(&PRODUCER.replace("-01", "-00")), event(), Share::new(1.0));
        assert!(!not.is_sampled() && !not.begins_here);
        let random = PRODUCER.replace("-01", "-03");
        assert_eq!(Context::of(Some(&random), event(), Share::NOTHING).traceparent(sampled.parent), random);
    }

    #[test]
    fn a_trace_that_begins_here_has_the_id_of_the_event_and_is_sampled_by_its_share() {
        let context = Context::of(None, event(), Share::new(1.0));
        assert!(context.is_sampled() && context.begins_here);
        assert_eq!(hex(&context.trace_id), event().simple().to_string());
        assert_eq!(context.parent[..], event().as_bytes()[8..]);
        assert!(context.traceparent(context.parent).ends_with("-03"));
        assert_eq!(Context::of(None, event(), Share::new(1.0)), context);
        assert!(!Context::of(None, event(), Share::NOTHING).is_sampled());
    }

    #[test]
    fn what_is_no_traceparent_is_none() {
        let cut = &PRODUCER[..PRODUCER.len() - 1];
        let zeros = [
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        ];
        let others = ["", "x", "00", cut, "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"];
        let more = format!("{PRODUCER}-x");
        let capitals = PRODUCER.to_uppercase();
        for text in zeros.into_iter().chain(others).chain([more.as_str(), capitals.as_str(), "00-ü-ü-ü"]) {
            assert!(Context::of(Some(text), event(), Share::NOTHING).begins_here, "{text}");
        }
    }
}
