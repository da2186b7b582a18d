//! The days of history: an event's id carries its time, so the id alone names the partition of everything that belongs to
//! the event. A statement that names the partition costs the same however many there are.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use uuid::Uuid;

use crate::domain::ids;

/// A UTC day, and with it one partition of `events`, `deliveries` and `attempts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(NaiveDate);

impl Day {
    /// The day whose partitions hold the event. Any id has one; whether it still has partitions is another question.
    pub fn of(event_id: Uuid) -> Day {
        let time = DateTime::<Utc>::from_timestamp_millis(ids::unix_ms(event_id)).unwrap_or_default();
        Day(time.date_naive())
    }

    pub fn date(&self) -> NaiveDate {
        self.0
    }

    /// The partition of one of the three tables, for the text of a statement. Digits only, so nothing in it needs quoting.
    pub fn table(&self, parent: &str) -> String {
        format!("posthaste.{parent}_{:04}{:02}{:02}", self.0.year(), self.0.month(), self.0.day())
    }
}

impl From<NaiveDate> for Day {
    fn from(date: NaiveDate) -> Day {
        Day(date)
    }
}

/// Groups what belongs to an event by its day, in the order of days. Within a day the order stays.
pub fn by_day<T>(items: impl IntoIterator<Item = T>, event_id: impl Fn(&T) -> Uuid) -> BTreeMap<Day, Vec<T>> {
    let mut days: BTreeMap<Day, Vec<T>> = BTreeMap::new();
    for item in items {
        days.entry(Day::of(event_id(&item))).or_default().push(item);
    }
    days
}

#[cfg(test)]
mod tests {
    use super::*;

    fn midnight(text: &str) -> i64 {
        text.parse::<NaiveDate>().unwrap().and_hms_opt(0, 0, 0).unwrap().and_utc().timestamp_millis()
    }

    #[test]
    fn a_day_begins_at_midnight_utc_and_names_its_partitions() {
        let start = midnight("2026-11-28");
        let first = Day::of(ids::floor(start));
        let last = Day::of(ids::new_v7(start as u64 + 86_399_999, [0xff; 10]));
        assert_eq!(first, last);
        assert_eq!(first.table("deliveries"), "posthaste.deliveries_20261128");
        assert_eq!(Day::of(ids::floor(start - 1)).table("attempts"), "posthaste.attempts_20261127");
        assert_eq!(Day::from(first.date()), first);
    }

    #[test]
    fn every_id_has_a_name_of_letters_and_digits() {
        for id in [Uuid::nil(), Uuid::max(), ids::floor(midnight("2026-01-02"))] {
            let table = Day::of(id).table("events");
            let name = table.strip_prefix("posthaste.events_").unwrap();
            assert!(name.len() >= 8 && name.bytes().all(|byte| byte.is_ascii_digit()), "{table}");
        }
    }

    #[test]
    fn grouping_keeps_the_order_within_a_day() {
        let (old, new) = (midnight("2026-11-27"), midnight("2026-11-28"));
        let ids = [new + 5, old + 9, new + 1, old + 3].map(ids::floor);
        let groups: Vec<Vec<Uuid>> = by_day(ids, |id| *id).into_values().collect();
        assert_eq!(groups, [vec![ids[1], ids[3]], vec![ids[0], ids[2]]]);
    }
}
