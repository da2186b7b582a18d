//! When a day of history ends: it is kept for so many days after its last event, and what is unfinished by then is ended
//! first, or keeps it.

/// Of one day.
const DAY_MS: i64 = 86_400_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub days: u32,
    /// A day in which something was ended is kept for this long after it: for its dead letters, for workers that come late, and
    /// for whoever wants to send it again.
    pub grace_ms: i64,
    pub unfinished: Unfinished,
}

/// What becomes of deliveries that are unfinished when their day is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfinished {
    /// They end as dead.
    Expire,
    /// They keep the day.
    Keep,
}

/// What a day says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Facts {
    /// A delivery is pending, retrying or held.
    pub unfinished: bool,
    /// An event is still in the outbox.
    pub in_outbox: bool,
    /// When retention last ended something in it, as Unix time.
    pub expired_at_ms: Option<i64>,
}

/// Why a day is there longer than it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pin {
    /// Deliveries that are not finished.
    Unfinished,
    /// Events that no relay has moved yet.
    Outbox,
    /// Somebody uses its tables, for longer than dropping them may keep others waiting.
    Locked,
}

impl Pin {
    pub const ALL: [Pin; 3] = [Pin::Unfinished, Pin::Outbox, Pin::Locked];

    pub fn as_str(self) -> &'static str {
        match self {
            Pin::Unfinished => "unfinished",
            Pin::Outbox => "outbox",
            Pin::Locked => "locked",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is not over yet, or it waits for the grace after what was ended.
    Wait,
    /// What is unfinished is to be ended.
    Expire,
    Pinned(Pin),
    Drop,
}

impl Rule {
    /// When a day is to go that ended at this time.
    pub fn due_ms(&self, day_end_ms: i64, facts: &Facts) -> i64 {
        let of_age = day_end_ms + i64::from(self.days) * DAY_MS;
        facts.expired_at_ms.map_or(of_age, |expired| of_age.max(expired + self.grace_ms))
    }

    /// Whether a day that ended at this time is older than the retention, whatever is in it.
    pub fn is_over(&self, day_end_ms: i64, now_ms: i64) -> bool {
        now_ms >= self.due_ms(day_end_ms, &Facts::default())
    }

    pub fn judge(&self, day_end_ms: i64, facts: &Facts, now_ms: i64) -> Verdict {
        if !self.is_over(day_end_ms, now_ms) {
            return Verdict::Wait;
        }
        match (facts.in_outbox, facts.unfinished, self.unfinished) {
            (true, ..) => Verdict::Pinned(Pin::Outbox),
            (_, true, Unfinished::Keep) => Verdict::Pinned(Pin::Unfinished),
            (_, true, Unfinished::Expire) => Verdict::Expire,
            _ if now_ms < self.due_ms(day_end_ms, facts) => Verdict::Wait,
            _ => Verdict::Drop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { days: 30, grace_ms: DAY_MS, unfinished: Unfinished::Expire };
    const END: i64 = 1_000 * DAY_MS;
    const OVER: i64 = END + 30 * DAY_MS;
    const FINISHED: Facts = Facts { unfinished: false, in_outbox: false, expired_at_ms: None };

    #[test]
    fn a_finished_day_goes_when_its_last_event_is_old_enough_and_not_before() {
        assert_eq!(RULE.judge(END, &FINISHED, OVER - 1), Verdict::Wait);
        assert_eq!(RULE.judge(END, &FINISHED, OVER), Verdict::Drop);
    }

    #[test]
    fn what_is_unfinished_is_ended_and_the_day_stays_for_the_grace() {
        let unfinished = Facts { unfinished: true, ..FINISHED };
        assert_eq!(RULE.judge(END, &unfinished, OVER - 1), Verdict::Wait);
        assert_eq!(RULE.judge(END, &unfinished, OVER), Verdict::Expire);
        let ended = Facts { expired_at_ms: Some(OVER), ..FINISHED };
        assert_eq!(RULE.judge(END, &ended, OVER + DAY_MS - 1), Verdict::Wait);
        assert_eq!(RULE.judge(END, &ended, OVER + DAY_MS), Verdict::Drop);
        assert_eq!(RULE.due_ms(END, &ended), OVER + DAY_MS);
        let sent_again = Facts { unfinished: true, ..ended };
        assert_eq!(RULE.judge(END, &sent_again, OVER + DAY_MS), Verdict::Expire);
    }

    #[test]
    fn a_day_can_be_kept_by_what_is_unfinished_and_always_is_by_what_no_relay_has_moved() {
        let keep = Rule { unfinished: Unfinished::Keep, ..RULE };
        let unfinished = Facts { unfinished: true, ..FINISHED };
        assert_eq!(keep.judge(END, &unfinished, OVER), Verdict::Pinned(Pin::Unfinished));
        assert_eq!(keep.judge(END, &FINISHED, OVER), Verdict::Drop);
        let in_outbox = Facts { in_outbox: true, ..unfinished };
        assert_eq!(RULE.judge(END, &in_outbox, OVER), Verdict::Pinned(Pin::Outbox));
    }
}
