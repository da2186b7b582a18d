//! How the objective stands in this month.

use std::time::{Duration, Instant};

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use serde_json::{Value, json};

use crate::domain::slo::{Counted, OBJECTIVE};
use crate::store::days::Day;
use crate::store::{Db, StoreError, held, slo};

/// No more days are begun after this time.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Month {
    first: NaiveDate,
    counted: Counted,
    /// Days of the month that there are, and those that were counted, the newest ones.
    days: usize,
    read: usize,
}

/// Day by day, the newest first.
pub async fn read(db: &Db, now: DateTime<Utc>) -> Result<Month, StoreError> {
    let today = now.date_naive();
    let first = today.with_day(1).unwrap_or(today);
    let mut days: Vec<Day> = held::days(db).await?;
    days.retain(|day| (first..=today).contains(&day.date()));
    let mut month = Month { first, counted: Counted::default(), days: days.len(), read: 0 };
    let began = Instant::now();
    for day in days.into_iter().rev() {
        if began.elapsed() > PATIENCE {
            break;
        }
        match slo::of_day(db, day).await {
            Ok(counted) => month.counted = month.counted.plus(counted),
            // A day that takes longer than a statement may: older ones are no smaller.
            Err(error) if error.is_time_out() => break,
            Err(error) => return Err(error),
        }
        month.read += 1;
    }
    Ok(month)
}

impl Month {
    pub fn json(&self) -> Value {
        json!({
            "month": self.first.format("%Y-%m").to_string(), "objective": OBJECTIVE, "first_attempts": self.counted.all,
            "within_a_second": self.counted.in_time, "share": self.counted.share(),
            "error_budget_used": self.counted.error_budget_used(), "days": self.days, "days_read": self.read,
        })
    }

    pub fn text(&self) -> String {
        let (Some(share), Some(used)) = (self.counted.share(), self.counted.error_budget_used()) else {
            return "no first attempt to count in this month".to_owned();
        };
        let days = if self.read < self.days {
            format!(", the newest {} of {} days", self.read, self.days)
        } else {
            String::new()
        };
        format!(
            "{:.3} % of {} first attempts at healthy endpoints within a second in {}{days}; objective {:.0} %, {:.0} % of the error budget used",
            share * 100.0,
            self.counted.all,
            self.first.format("%Y-%m"),
            OBJECTIVE * 100.0,
            used * 100.0,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_told_with_what_was_left_out() {
        let month = |all, in_time, days| Month {
            first: NaiveDate::from_ymd_opt(2026, 11, 1).unwrap(),
            counted: Counted { all, in_time },
            days,
            read: 2,
        };
        assert_eq!(
            month(2000, 1990, 9).text(),
            "99.500 % of 2000 first attempts at healthy endpoints within a second in 2026-11, the newest 2 of 9 days; objective 99 %, 50 % of the error budget used"
        );
        assert!(!month(2000, 1990, 2).text().contains("newest"));
        assert_eq!(month(0, 0, 2).text(), "no first attempt to count in this month");
        assert_eq!(month(2000, 1990, 9).json()["days_read"], json!(2));
    }
}
