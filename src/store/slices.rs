//! Reading a long history of events: a bounded part of one day at a time, so that no statement takes longer the more there is.

use std::collections::VecDeque;

use sqlx::Arguments as _;
use sqlx::postgres::PgArguments;
use uuid::Uuid;

use super::days::{self, Day};
use super::{Db, Result, held};

/// Events of one slice at most. Without an index on what is looked for, all of them are read.
const MOST: i64 = 20_000;

/// Events of one day, from one id on and up to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    pub day: Day,
    pub from: Uuid,
    /// Not included.
    pub to: Uuid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    OldestFirst,
    NewestFirst,
}

/// The slices of all events between two ids, one after the other.
pub struct Slices {
    days: VecDeque<Day>,
    from: Uuid,
    to: Uuid,
    order: Order,
}

impl Slices {
    pub async fn new(db: &Db, from: Uuid, to: Uuid, order: Order) -> Result<Slices> {
        let mut days = held::days(db).await?;
        if order == Order::NewestFirst {
            days.reverse();
        }
        Ok(Slices { days: days.into(), from, to, order })
    }

    pub async fn next(&mut self, db: &Db) -> Result<Option<Slice>> {
        while let Some(day) = self.days.front().copied() {
            let (from, to) = (self.from.max(day.first_id()), self.to.min(day.end_id()));
            if from < to
                && let Some(cut) = self.cut(db, day, from, to).await?
            {
                let slice = match self.order {
                    Order::OldestFirst => Slice { day, from, to: cut },
                    Order::NewestFirst => Slice { day, from: cut, to },
                };
                match self.order {
                    Order::OldestFirst => self.from = cut,
                    Order::NewestFirst => self.to = cut,
                }
                return Ok(Some(slice));
            }
            self.days.pop_front();
            if from < to {
                return Ok(Some(Slice { day, from, to }));
            }
        }
        Ok(None)
    }

    /// Where a slice ends that takes no more than `MOST` events. `None`: there are no more than that.
    async fn cut(&self, db: &Db, day: Day, from: Uuid, to: Uuid) -> Result<Option<Uuid>> {
        let template = match self.order {
            Order::OldestFirst => CUT_AFTER,
            Order::NewestFirst => CUT_BEFORE,
        };
        let arguments = || {
            let mut arguments = PgArguments::default();
            arguments.add(from)?;
            arguments.add(to)?;
            arguments.add(MOST)?;
            Ok(arguments)
        };
        let cut: Vec<(Uuid,)> = days::rows(db, Some(day), template, &arguments).await?;
        Ok(cut.first().map(|(cut,)| *cut).filter(|cut| *cut > from))
    }
}

const CUT_AFTER: &str = "select id from posthaste.events{day} where id >= $1 and id < $2 order by id offset $3 limit 1";
const CUT_BEFORE: &str =
    "select id from posthaste.events{day} where id >= $1 and id < $2 order by id desc offset $3 - 1 limit 1";
