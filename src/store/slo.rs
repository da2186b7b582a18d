//! First attempts of one day, and how many began in time. One statement a day, which reads that day's attempts once.

use sqlx::Arguments as _;
use sqlx::postgres::PgArguments;

use super::days::{self, Day};
use super::{Db, Result};
use crate::domain::slo::{Counted, WITHIN_MS};

/// Counted are first attempts that were answered with 2xx, by endpoints without a rate limit of their own. Of the late ones, those
/// of a replay are left out: their events are old on purpose. Their time is that of the event's id, which is from before the
/// commit. What was held cannot be told from what was late, and counts as late.
const COUNT: &str = "
select count(*) as counted, count(*) filter (where not f.late) as in_time
  from (select a.event_id, a.endpoint_id,
               (extract(epoch from a.started_at) * 1000)::bigint
                 - ('x' || lpad(replace(left(a.event_id::text, 13), '-', ''), 16, '0'))::bit(64)::bigint > $1 as late
          from posthaste.attempts{day} a
         where a.attempt = 1 and a.outcome = 'delivered'
           and not exists (select from posthaste.endpoints e
                            where e.id = a.endpoint_id and e.rate_limit_per_second is not null)) f
 where not f.late
    or not exists (select from posthaste.deliveries{day} d join posthaste.events{day} v on v.id = d.event_id
                    where d.event_id = f.event_id and d.endpoint_id = f.endpoint_id and d.created_at > v.published_at)";

pub async fn of_day(db: &Db, day: Day) -> Result<Counted> {
    let arguments = || {
        let mut arguments = PgArguments::default();
        arguments.add(WITHIN_MS)?;
        Ok(arguments)
    };
    let rows: Vec<(i64, i64)> = days::rows(db, Some(day), COUNT, &arguments).await?;
    Ok(rows.first().map_or(Counted::default(), |(all, in_time)| Counted { all: *all, in_time: *in_time }))
}
