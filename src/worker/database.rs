//! Asking the database until it answers: that it cannot be reached is our fault, and must cost nobody anything.

use tokio_util::sync::CancellationToken;

use crate::reconnect::Backoff;
use crate::store::StoreError;

/// The grace period is over: what is in flight stays unacknowledged.
#[derive(Debug, Clone, Copy)]
pub struct Stopping;

/// Repeats a database operation until it succeeds: an unreachable database is our fault and must cost nobody anything.
pub async fn until_answered<T, F>(
    abandon: &CancellationToken,
    what: &'static str,
    operation: impl Fn() -> F,
) -> Result<T, Stopping>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let (value, _) = until_answered_or_done(abandon, what, operation).await?;
    Ok(value)
}

/// The same for what can be done only once. The flag says that an earlier try may have done it: its answer did not come.
pub async fn until_answered_or_done<T, F>(
    abandon: &CancellationToken,
    what: &'static str,
    operation: impl Fn() -> F,
) -> Result<(T, bool), Stopping>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut backoff = Backoff::default();
    let mut unsure = false;
    loop {
        match abandon.run_until_cancelled(operation()).await.ok_or(Stopping)? {
            Ok(value) => return Ok((value, unsure)),
            Err(error) => {
                unsure |= error.may_be_done();
                tracing::warn!(%error, failures = backoff.failures(), what, "database operation failed; trying again");
                if !backoff.pause_until(abandon).await {
                    return Err(Stopping);
                }
            }
        }
    }
}
