//! One request to one endpoint: the only module that names the HTTP client library.
//!
//! `client` makes the request and never fails: whatever happens is an `Outcome`. `target` checks a URL and `rules` what an
//! operator demands of one; `guard` and `resolver` see to it that a connection goes only to an address that was checked.
//! `connector` makes connections, straight or through the `proxy`; `tls` and `own_tls` say who is trusted. `transport` keeps
//! connections, and `pools` bounds them; `dns_cache` bounds what is remembered of names, and `sending` what is owed to hosts. `classify` turns typed errors into outcomes, and `stage` knows how far a request
//! had come when its time was up.

mod body;
mod classify;
pub mod client;
#[cfg(feature = "otel")]
pub mod collector;
mod connector;
mod dns_cache;
pub mod guard;
mod own_clients;
pub mod own_tls;
mod pools;
pub mod ports;
mod proxy;
pub mod resolver;
pub mod rules;
mod sending;
mod stage;
mod stream;
pub mod target;
mod tls;
mod transport;
mod tunnel;

#[cfg(test)]
mod test_certificates;
#[cfg(test)]
mod test_names;
#[cfg(test)]
mod test_server;
