//! Long-lived tasks that must all be there: one that ends too soon is noticed, by whoever can do something about it.
//!
//! Without the task that settles, or the one that claims, a process looks healthy and does nothing. Half a process is worse
//! than a restart.

use std::collections::HashMap;
use std::pin::pin;

use thiserror::Error;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// Tasks with names. Dropping it ends them all.
#[derive(Debug, Default)]
pub struct Supervised {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

/// A task that others rely on is not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Ended {
    #[error("the task '{0}' panicked")]
    Panicked(&'static str),
    #[error("the task '{0}' ended by itself")]
    TooSoon(&'static str),
}

impl Supervised {
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.tasks.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Does some work that needs all the tasks: to its end, or until one of them is missing. A task that ends after `stop`
    /// is not missing, unless it panicked.
    pub async fn during<T>(&mut self, work: impl Future<Output = T>, stop: &CancellationToken) -> Result<T, Ended> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                Some(joined) = self.tasks.join_next_with_id() => match self.ended(joined) {
                    Ended::TooSoon(_) if stop.is_cancelled() => {}
                    ended => return Err(ended),
                }
            }
        }
    }

    /// Waits for all, which were told to end.
    pub async fn finish(mut self) -> Result<(), Ended> {
        while let Some(joined) = self.tasks.join_next_with_id().await {
            if let panicked @ Ended::Panicked(_) = self.ended(joined) {
                return Err(panicked);
            }
        }
        Ok(())
    }

    fn ended(&mut self, joined: Result<(Id, ()), JoinError>) -> Ended {
        let (id, panicked) = match &joined {
            Ok((id, ())) => (*id, false),
            Err(error) => (error.id(), error.is_panic()),
        };
        let name = self.names.remove(&id).unwrap_or_default();
        if panicked { Ended::Panicked(name) } else { Ended::TooSoon(name) }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn until(stop: &CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        stop.clone().cancelled_owned()
    }

    #[tokio::test]
    async fn work_is_done_to_its_end_while_all_tasks_are_there() {
        let (mut tasks, stop) = (Supervised::default(), CancellationToken::new());
        assert_eq!(tasks.during(async { 6 }, &stop).await, Ok(6), "it needs no task");
        tasks.spawn("settler", until(&stop));
        assert_eq!(tasks.during(async { 7 }, &stop).await, Ok(7));
        stop.cancel();
        assert_eq!(tasks.finish().await, Ok(()));
    }

    #[tokio::test]
    async fn a_task_that_panics_or_returns_ends_the_work_and_is_named() {
        let stop = CancellationToken::new();
        let mut tasks = Supervised::default();
        tasks.spawn("settler", until(&stop));
        tasks.spawn("holder", async { panic!("on purpose") });
        assert_eq!(tasks.during(pending::<()>(), &stop).await, Err(Ended::Panicked("holder")));
        tasks.spawn("reader", async {});
        assert_eq!(tasks.during(pending::<()>(), &stop).await, Err(Ended::TooSoon("reader")));
    }

    #[tokio::test]
    async fn after_the_stop_a_task_may_end_and_must_not_panic() {
        let (mut tasks, stop) = (Supervised::default(), CancellationToken::new());
        tasks.spawn("claimer", until(&stop));
        let (told, all_ended) = tokio::sync::oneshot::channel::<()>();
        let stopped = until(&stop);
        tasks.spawn("release", async move {
            stopped.await;
            drop(told);
        });
        stop.cancel();
        assert!(tasks.during(all_ended, &stop).await.unwrap().is_err(), "the sender is gone: the task has ended");
        tasks.spawn("gauges", async { panic!("on purpose") });
        assert_eq!(tasks.finish().await, Err(Ended::Panicked("gauges")));
    }

    #[tokio::test]
    async fn tasks_end_with_their_supervisor() {
        let (alive, ended) = tokio::sync::oneshot::channel::<()>();
        let mut tasks = Supervised::default();
        tasks.spawn("settler", async move {
            pending::<()>().await;
            drop(alive);
        });
        drop(tasks);
        assert!(ended.await.is_err());
    }
}
