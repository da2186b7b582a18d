//! One request to one endpoint: the only module that names the HTTP client library.
//!
//! `client` makes the request and never fails: whatever happens is an `Outcome`. `target` checks a URL, `guard` and
//! `resolver` see to it that a connection goes only to an address that was checked, `classify` turns typed errors into
//! outcomes, and `stage` knows how far a request had come when its time was up. `dns_cache` and `pools` bound what is
//! remembered of hosts, and `sending` what is owed to them.

mod body;
mod classify;
pub mod client;
mod dns_cache;
pub mod guard;
mod pools;
pub mod resolver;
mod sending;
mod stage;
pub mod target;

#[cfg(test)]
mod test_server;
