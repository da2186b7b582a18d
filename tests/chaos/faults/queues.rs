//! A queue is deleted with what is in it.

use std::time::Duration;

use super::Verdict;
use crate::chaos::receiver::Manner;
use crate::chaos::stack::{PREFIX, Stack};
use crate::wait_for;

/// So long an endpoint fails before a delay queue is deleted, so that there is something in it.
const FILL: Duration = Duration::from_millis(800);
/// And so long at most, where there is nothing yet.
const FILL_FOR: Duration = Duration::from_secs(5);

pub async fn delete_work_queue(stack: &Stack, target: usize) -> Result<Verdict, String> {
    let queue = format!("{PREFIX}.{}", ["deliver", "retry"][target]);
    let rabbitmq = stack.rabbitmq.lock().await;
    rabbitmq.delete_queue(&queue).await.map(|_| Verdict::default())
}

/// Of the delay queues, the one that has the most in it.
pub async fn delete_delay_queue(stack: &Stack, endpoint: usize) -> Result<Verdict, String> {
    // Those of an endpoint that fails altogether would wait in PostgreSQL.
    stack.receiver.behave(endpoint, Manner::FailSome);
    // Nothing says that enough retries are in the delay queues.
    tokio::time::sleep(FILL).await;
    let delete = async || delete_fullest(stack, false).await.ok();
    let deleted = wait_for("something in a delay queue", FILL_FOR, delete).await;
    stack.receiver.behave(endpoint, Manner::Accept);
    deleted.map(|()| Verdict::default())
}

/// By force where our user may not declare it, which is the right that deleting needs too.
pub async fn delete_fullest(stack: &Stack, by_force: bool) -> Result<(), String> {
    let known = "select name from posthaste.delay_queues";
    let names: Vec<String> = sqlx::query_scalar(known).fetch_all(&stack.db).await.map_err(|error| error.to_string())?;
    let rabbitmq = stack.rabbitmq.lock().await;
    let mut fullest = (0, None);
    for name in &names {
        let depth = rabbitmq.depth(name).await?.unwrap_or(0);
        if depth > fullest.0 {
            fullest = (depth, Some(name));
        }
    }
    let queue = fullest.1.ok_or("nothing waits in a delay queue")?;
    if by_force {
        rabbitmq.delete_queue_by_force(queue).await?;
    } else {
        rabbitmq.delete_queue(queue).await?;
    }
    eprintln!("  {queue} had {} messages", fullest.0);
    Ok(())
}
