//! For those who receive webhooks: `verify` checks a request's signature and needs nothing but the domain.
//!
//! `server` is the test receiver of the command line: it answers as its `behaviour` says and counts in `stats`.

pub mod verify;

#[cfg(feature = "service")]
pub mod behaviour;
#[cfg(feature = "service")]
mod connection;
#[cfg(feature = "service")]
mod control;
#[cfg(feature = "service")]
mod reply;
#[cfg(feature = "service")]
pub mod server;
#[cfg(feature = "service")]
pub mod settings;
#[cfg(feature = "service")]
mod shared;
#[cfg(feature = "service")]
pub mod stats;
