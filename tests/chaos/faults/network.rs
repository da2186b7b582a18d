//! The network between a process and a server is cut, or swallows what is said.

use std::time::Duration;

use super::{Verdict, really};
use crate::kind::Server;
use crate::proxy::Mode;
use crate::service::Service;

pub async fn disturb(service: &Service, server: Server, mode: Mode, hold: Duration) -> Result<Verdict, String> {
    let proxy = service.proxy(server);
    proxy.set(mode);
    // The network is broken for that long.
    tokio::time::sleep(hold).await;
    proxy.set(Mode::Forward);
    really(proxy.has_disturbed(), "nothing was on its way")
}
