//! All workers die again and again, with requests under way that nobody answers. What they have in hand becomes suspect of
//! having killed them, and none of it has.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::{Verdict, really};
use crate::chaos::commits;
use crate::chaos::kind::{CRASHES, Role};
use crate::chaos::receiver::Manner;
use crate::chaos::schedule::{ENDPOINTS, Fault, WORKERS};
use crate::chaos::service::Service;
use crate::chaos::stack::Stack;
use crate::wait_for;

/// For the workers to take work again.
const WORK: Duration = Duration::from_secs(20);
/// Until nobody is a suspect any more, once the workers stay alive and the endpoints answer.
const ACQUITTAL: Duration = Duration::from_secs(45);
/// Suspects whose delivery is not done, and those of them that were begun twice and never ended: they are tried one at a time.
const SUSPECTS: &str = "select count(*), count(*) filter (where s.unfinished >= 2)
    from posthaste.suspects s join posthaste.deliveries d using (event_id, endpoint_id)
    where d.status in ('pending', 'retrying', 'held')";

pub async fn crash(stack: &Stack, fault: Fault) -> Result<Verdict, String> {
    let silent = || (0..ENDPOINTS).filter(|endpoint| *endpoint != fault.target);
    silent().for_each(|endpoint| stack.receiver.behave(endpoint, Manner::Hang));
    // More than the silent endpoints may have in flight.
    commits::measure(stack).await;
    let hung = || silent().map(|endpoint| stack.receiver.treated(endpoint, Manner::Hang)).sum::<u64>();
    let crashed = again_and_again(stack, hung, fault.hold).await;
    let suspects = suspects(stack).await;
    silent().for_each(|endpoint| stack.receiver.behave(endpoint, Manner::Accept));
    really(crashed?, "a worker was not running")?;
    let (all, alone) = suspects.ok_or("nobody could count the suspects")?;
    really(all > 0, "no message became a suspect")?;
    let began = Instant::now();
    let none = async || self::suspects(stack).await.filter(|(left, _)| *left == 0).map(drop);
    let acquitted = wait_for("an end of all suspicion", ACQUITTAL, none).await.is_ok();
    let took = began.elapsed().as_secs_f64();
    let end = if acquitted { "none" } else { "some" };
    let seen = format!(
        "{CRASHES} times {WORKERS} workers: {all} suspects, {alone} of them to be tried alone; {end} left after {took:.1} s"
    );
    Ok(Verdict::bounded(seen, acquitted))
}

/// False: a worker was not running.
async fn again_and_again(stack: &Stack, hung: impl Fn() -> u64, life: Duration) -> Result<bool, String> {
    let workers: Vec<&Service> =
        stack.services.iter().map(AsRef::as_ref).filter(|service| service.role == Role::Worker).collect();
    let mut ran = true;
    for _ in 0..CRASHES {
        let before = hung();
        wait_for("work in hand", WORK, async || (hung() > before).then_some(())).await?;
        // They live on for that long.
        tokio::time::sleep(life).await;
        ran &= join_all(workers.iter().map(|worker| worker.kill())).await.into_iter().all(|was_running| was_running);
        join_all(workers.iter().map(|worker| worker.start())).await;
    }
    Ok(ran)
}

async fn suspects(stack: &Stack) -> Option<(i64, i64)> {
    sqlx::query_as(SUSPECTS).fetch_one(&stack.db).await.ok()
}
