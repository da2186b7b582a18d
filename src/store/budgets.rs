//! Retry budgets that an operator has set while the service runs. A policy without a row has that of the configuration.

use chrono::{DateTime, Utc};

use super::{Db, Result};

/// More policies than any configuration has.
const MOST: i64 = 1_000;

#[derive(Debug, Clone, serde::Serialize, sqlx_macros::FromRow)]
pub struct Budget {
    pub policy: String,
    /// Retries at most; 0: no such limit.
    pub budget: i32,
    pub updated_at: DateTime<Utc>,
}

pub async fn all(db: &Db) -> Result<Vec<Budget>> {
    let all = "select policy, budget, updated_at from posthaste.retry_budgets order by policy limit $1";
    db.run(async |c| sqlx::query_as(all).bind(MOST).fetch_all(c).await).await
}

pub async fn set(db: &Db, policy: &str, budget: i32) -> Result<()> {
    db.run(async |c| {
        sqlx::query(
            "insert into posthaste.retry_budgets (policy, budget) values ($1, $2)
             on conflict (policy) do update set budget = excluded.budget, updated_at = now()",
        )
        .bind(policy)
        .bind(budget)
        .execute(c)
        .await
    })
    .await?;
    Ok(())
}

/// The configuration counts again.
pub async fn unset(db: &Db, policy: &str) -> Result<()> {
    let delete = "delete from posthaste.retry_budgets where policy = $1";
    db.run(async |c| sqlx::query(delete).bind(policy).execute(c).await).await?;
    Ok(())
}
