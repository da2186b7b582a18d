//! The relay that leads is cut off from PostgreSQL without a word: its session stays open there, with the locks in it.

use std::time::{Duration, Instant};

use super::{Verdict, really};
use crate::chaos::kind::{Role, Server};
use crate::chaos::proxy::Mode;
use crate::chaos::service::Service;
use crate::chaos::stack::Stack;

/// PostgreSQL ends a session with locks that is silent for 15 s; the rest is for a busy machine.
const AT_MOST: Duration = Duration::from_secs(30);
/// So long it is waited for all the same, to say how late it was.
const WAIT: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Another relay has to lead within the bound, and none of them may say so while another one does.
pub async fn swallow(stack: &Stack, hold: Duration) -> Result<Verdict, String> {
    let leader = leading(stack, None).await.ok_or("no relay said that it leads")?;
    let proxy = leader.proxy(Server::Postgres);
    proxy.set(Mode::Swallow);
    // It lasts for that long, or until another one leads.
    let (successor, ()) = tokio::join!(succeeded(stack, leader), tokio::time::sleep(hold));
    proxy.set(Mode::Forward);
    really(proxy.has_disturbed(), "nothing was on its way")?;
    let Some((successor, after, both)) = successor else {
        return Ok(Verdict::bounded(format!("no other relay led within {WAIT:?}"), false));
    };
    if both {
        return Ok(Verdict::bounded(
            format!("{} and {} said at the same time that they lead", leader.name, successor.name),
            false,
        ));
    }
    let seen = format!(
        "{} led {:.1} s after {} was cut off (at most {AT_MOST:?})",
        successor.name,
        after.as_secs_f64(),
        leader.name
    );
    Ok(Verdict::bounded(seen, after <= AT_MOST))
}

/// The relay that leads now, which is not this one.
async fn leading<'a>(stack: &'a Stack, except: Option<&Service>) -> Option<&'a Service> {
    for service in stack.services.iter().filter(|service| service.role == Role::Relay) {
        let excepted = except.is_some_and(|except| std::ptr::eq(except, service.as_ref()));
        if !excepted && service.leads().await == Some(true) {
            return Some(service);
        }
    }
    None
}

/// Who leads next, how long that took, and whether the one before it still says that it does.
async fn succeeded<'a>(stack: &'a Stack, before: &Service) -> Option<(&'a Service, Duration, bool)> {
    let began = Instant::now();
    while began.elapsed() < WAIT {
        if let Some(successor) = leading(stack, Some(before)).await {
            return Some((successor, began.elapsed(), before.leads().await == Some(true)));
        }
        // Their metrics are all that they say about it.
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    None
}
