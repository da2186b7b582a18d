//! The days of history: an event's id carries its time, so the id alone names the partition of everything that belongs to
//! the event. A statement that names the partition costs the same however many there are.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Utc};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{AssertSqlSafe, FromRow};
use uuid::Uuid;

use super::{Db, Result, StoreError};
use crate::domain::ids;

/// SQLSTATEs after which the parent tables have to say what is there: the partition is gone, or only the parents are granted.
const ASK_THE_PARENT: [&str; 2] = ["42P01", "42501"];

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

    /// The lowest id of the day.
    pub fn first_id(&self) -> Uuid {
        ids::floor(self.0.and_time(NaiveTime::MIN).and_utc().timestamp_millis())
    }

    /// The lowest id after the day.
    pub fn end_id(&self) -> Uuid {
        self.0.succ_opt().map_or(Uuid::max(), |next| Day(next).first_id())
    }

    /// When the day is over, as Unix time.
    pub fn end_ms(&self) -> i64 {
        ids::unix_ms(self.end_id())
    }

    /// The partition of one of the three tables, for the text of a statement. Digits only, so nothing in it needs quoting.
    pub fn table(&self, parent: &str) -> String {
        format!("posthaste.{parent}{}", self.suffix())
    }

    fn suffix(&self) -> String {
        format!("_{:04}{:02}{:02}", self.0.year(), self.0.month(), self.0.day())
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

/// Joins the deliveries `d` with keys. The first column is compared through an array of one: a plain equality would allow
/// a hash or merge join over the whole index, which is what the planner takes for a day that is still empty or nearly so, and it
/// keeps that plan when the day has filled. The second one is not: two arrays would make the index look for the first alone.
macro_rules! same_key {
    ($keys:literal) => {
        concat!("d.event_id = any (array[", $keys, ".event_id]) and d.endpoint_id = ", $keys, ".endpoint_id")
    };
}
pub(super) use same_key;

/// Joins the events `e` with rows that have their ids, for the same reason in the same way.
macro_rules! same_event {
    ($rows:literal) => {
        concat!("e.id = any (array[", $rows, ".event_id])")
    };
}
pub(super) use same_event;

/// The day that all of the events have, if it is one.
pub fn only_day(event_ids: impl IntoIterator<Item = Uuid>) -> Option<Day> {
    let mut days = event_ids.into_iter().map(Day::of);
    let first = days.next()?;
    days.all(|day| day == first).then_some(first)
}

/// The values of a statement, made once more where it is run by the parents after all.
pub(super) type Arguments = std::result::Result<PgArguments, BoxDynError>;

/// Runs one statement for deliveries of one day, or of several (shortly after midnight, and for retries). In its template
/// `{day}` stands after the name of each partitioned table: it becomes the day, or nothing where there are several or
/// where the day's partition is not there. So a day that was dropped counts as rows that are not there, and a schema that
/// is not there is an error.
pub(super) async fn rows<R>(
    db: &Db,
    day: Option<Day>,
    template: &'static str,
    arguments: &(dyn Fn() -> Arguments + Sync),
) -> Result<Vec<R>>
where
    R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
{
    if let Some(day) = day {
        match rows_of(db, text(template, Some(day)), arguments()).await {
            Err(error) if error.code().is_some_and(|code| ASK_THE_PARENT.contains(&code)) => {}
            answer => return answer,
        }
    }
    rows_of(db, text(template, None), arguments()).await
}

/// A template's statement for one day, or by the parents.
pub fn text(template: &str, day: Option<Day>) -> String {
    template.replace("{day}", &day.map_or(String::new(), |day| day.suffix()))
}

async fn rows_of<R>(db: &Db, text: String, arguments: Arguments) -> Result<Vec<R>>
where
    R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
{
    let arguments = arguments.map_err(|error| StoreError::Other(error.to_string()))?;
    // A template is part of the program, and a day is digits.
    db.run(async |c| sqlx::query_as_with(AssertSqlSafe(text), arguments).fetch_all(c).await).await
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
        assert_eq!((first.first_id(), first.end_id()), (ids::floor(start), ids::floor(start + 86_400_000)));
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
        assert_eq!(only_day(ids), None);
        assert_eq!(only_day([ids[0], ids[2]]), Some(Day::of(ids[0])));
        assert_eq!(only_day([]), None);
    }
}
