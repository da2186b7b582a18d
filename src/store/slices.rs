//! Reading a long history of events: a bounded part of it at a time, so that no statement takes longer the more there is.

use std::collections::VecDeque;

use sqlx::Arguments as _;
use sqlx::postgres::PgArguments;
use uuid::Uuid;

use super::days::{self, Day};
use super::{Db, Result, held};

/// Events of one slice at most. Without an index on what is looked for, all of them are read.
const MOST: i64 = 20_000;
/// Days of one slice at most, where only the events of one tenant are read: it may have few in each, and a statement looks into
/// the index of every day.
const DAYS: usize = 31;

/// The first event after a slice that begins with the oldest. `$3`: how many events it has.
macro_rules! cut_after {
    ($more:literal) => {
        concat!(
            "select id from posthaste.events{day} where id >= $1 and id < $2",
            $more,
            " order by id offset $3 limit 1"
        )
    };
}

/// The last event of a slice that begins with the newest.
macro_rules! cut_before {
    ($more:literal) => {
        concat!(
            "select id from posthaste.events{day} where id >= $1 and id < $2",
            $more,
            " order by id desc offset $3 - 1 limit 1"
        )
    };
}

/// Events from one id on and up to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    pub from: Uuid,
    /// Not included.
    pub to: Uuid,
}

impl Slice {
    /// The day of all of its events. `None`: it has several.
    pub fn day(&self) -> Option<Day> {
        let day = Day::of(self.from);
        (self.to <= day.end_id()).then_some(day)
    }

    /// The table of its day, or that of all days.
    pub fn table(&self, parent: &str) -> String {
        self.day().map_or_else(|| format!("posthaste.{parent}"), |day| day.table(parent))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    OldestFirst,
    NewestFirst,
}

/// The slices of all events between two ids, one after the other.
pub struct Slices {
    /// Of whole days; no slice has events of two of them.
    spans: VecDeque<Slice>,
    from: Uuid,
    to: Uuid,
    order: Order,
    tenant: Option<String>,
}

impl Slices {
    /// For all events: each slice is of one day.
    pub async fn new(db: &Db, from: Uuid, to: Uuid, order: Order) -> Result<Slices> {
        let spans = spans(&held::days(db).await?, 1, order);
        Ok(Slices { spans, from, to, order, tenant: None })
    }

    /// For statements that ask for events of this tenant alone, by the index of tenants (`events_tenant`).
    pub async fn of_tenant(db: &Db, tenant: &str, from: Uuid, to: Uuid, order: Order) -> Result<Slices> {
        let spans = spans(&held::days(db).await?, DAYS, order);
        Ok(Slices { spans, from, to, order, tenant: Some(tenant.to_owned()) })
    }

    pub async fn next(&mut self, db: &Db) -> Result<Option<Slice>> {
        while let Some(span) = self.spans.front().copied() {
            let slice = Slice { from: self.from.max(span.from), to: self.to.min(span.to) };
            let is_empty = slice.from >= slice.to;
            if !is_empty && let Some(cut) = self.cut(db, &slice).await? {
                return Ok(Some(match self.order {
                    Order::OldestFirst => {
                        self.from = cut;
                        Slice { to: cut, ..slice }
                    }
                    Order::NewestFirst => {
                        self.to = cut;
                        Slice { from: cut, ..slice }
                    }
                }));
            }
            self.spans.pop_front();
            if !is_empty {
                return Ok(Some(slice));
            }
        }
        Ok(None)
    }

    /// Where a slice ends that takes no more than `MOST` events. `None`: there are no more than that.
    async fn cut(&self, db: &Db, slice: &Slice) -> Result<Option<Uuid>> {
        let template = match (self.order, &self.tenant) {
            (Order::OldestFirst, None) => cut_after!(""),
            (Order::NewestFirst, None) => cut_before!(""),
            (Order::OldestFirst, Some(_)) => cut_after!(" and tenant collate \"C\" = $4"),
            (Order::NewestFirst, Some(_)) => cut_before!(" and tenant collate \"C\" = $4"),
        };
        let arguments = || {
            let mut arguments = PgArguments::default();
            arguments.add(slice.from)?;
            arguments.add(slice.to)?;
            arguments.add(MOST)?;
            if let Some(tenant) = &self.tenant {
                arguments.add(tenant)?;
            }
            Ok(arguments)
        };
        let cut: Vec<(Uuid,)> = days::rows(db, slice.day(), template, &arguments).await?;
        Ok(cut.first().map(|(cut,)| *cut).filter(|cut| *cut > slice.from))
    }
}

/// So many days each.
fn spans(days: &[Day], of_days: usize, order: Order) -> VecDeque<Slice> {
    let span = |days: &[Day]| Some(Slice { from: days.first()?.first_id(), to: days.last()?.end_id() });
    let mut spans: VecDeque<Slice> = days.chunks(of_days).filter_map(span).collect();
    if order == Order::NewestFirst {
        spans.make_contiguous().reverse();
    }
    spans
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;

    use super::*;

    #[test]
    fn a_slice_knows_whether_its_events_are_of_one_day() {
        let day = |n| Day::from(NaiveDate::from_ymd_opt(2026, 11, n).unwrap());
        let whole = Slice { from: day(28).first_id(), to: day(28).end_id() };
        assert_eq!((whole.day(), whole.table("events").as_str()), (Some(day(28)), "posthaste.events_20261128"));
        let two = Slice { from: day(28).first_id(), to: day(29).end_id() };
        assert_eq!((two.day(), two.table("events").as_str()), (None, "posthaste.events"));
        assert_eq!(Slice { from: day(29).first_id(), ..two }.day(), Some(day(29)));
        assert_eq!(Slice { from: Uuid::nil(), to: Uuid::max() }.day(), None);
    }

    #[test]
    fn spans_have_so_many_days_and_are_in_the_order_that_is_asked_for() {
        let days: Vec<Day> = (1..=5).map(|n| Day::from(NaiveDate::from_ymd_opt(2026, 11, n).unwrap())).collect();
        let newest_first = spans(&days, 2, Order::NewestFirst);
        let first = |n: usize| days[n].first_id();
        assert_eq!(newest_first.iter().map(|span| span.from).collect::<Vec<_>>(), [first(4), first(2), first(0)]);
        assert_eq!(spans(&days, 1, Order::OldestFirst).len(), 5);
        assert!(spans(&[], 2, Order::OldestFirst).is_empty());
    }
}
