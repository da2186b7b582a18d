//! How much of a list is left after a page. Counting is bounded: that there are many is all that anybody wants to know.

use std::fmt;

/// Nothing is counted beyond this.
pub const MOST_COUNTED: i64 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    count: i64,
    /// Counting has ended before the list.
    or_more: bool,
}

impl Left {
    pub fn none() -> Left {
        Left::exactly(0)
    }

    pub fn exactly(count: i64) -> Left {
        Left { count, or_more: count >= MOST_COUNTED }
    }

    pub fn at_least(count: i64) -> Left {
        Left { count, or_more: true }
    }

    pub fn is_none(&self) -> bool {
        self.count == 0 && !self.or_more
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.count, self.or_more) {
            (0, true) => f.write_str("maybe more"),
            (count, true) => write!(f, "{count} or more"),
            (count, false) => write!(f, "{count} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_exact_as_long_as_it_was_counted() {
        assert!(Left::none().is_none() && !Left::at_least(0).is_none());
        let shown = [Left::exactly(39), Left::exactly(1_000), Left::at_least(12), Left::at_least(0)];
        assert_eq!(shown.map(|left| left.to_string()), ["39 more", "1000 or more", "12 or more", "maybe more"]);
    }
}
