//! The network between a process and a server is cut, swallows what is said, or loses answers.

use std::time::Duration;

use super::{Verdict, really};
use crate::chaos::kind::{Role, Server};
use crate::chaos::proxy::Mode;
use crate::chaos::service::Service;

pub async fn disturb(service: &Service, server: Server, mode: Mode, hold: Duration) -> Result<Verdict, String> {
    let proxy = service.proxy(server);
    proxy.set(mode);
    // The network is broken for that long.
    tokio::time::sleep(hold).await;
    proxy.set(Mode::Forward);
    really(proxy.has_disturbed(), "nothing was on its way")
}

/// What has to be lost at least is the answer to what the process is there for: a claim, or a settlement, of something.
pub async fn lose_answers(service: &Service, role: Role, hold: Duration) -> Result<Verdict, String> {
    let proxy = service.proxy(Server::Postgres);
    proxy.set(Mode::LoseAnswers);
    // Answers are lost for that long.
    tokio::time::sleep(hold).await;
    proxy.set(Mode::Forward);
    let lost = proxy.lost_answers();
    let (count, what) = match role {
        Role::Relay => (lost.claims, "claims"),
        Role::Worker => (lost.settlements, "settlements"),
    };
    if count == 0 {
        return Err(format!("no answer to one of its {what} was lost"));
    }
    let all = lost.claims + lost.settlements + lost.others;
    Ok(Verdict::of(format!("{all} answers lost after the commit, {count} of them to {what}")))
}
