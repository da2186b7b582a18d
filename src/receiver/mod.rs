//! For those who receive webhooks. `docs/receivers.md` says how they belong together.
//!
//! - `verify` checks a request's signature and needs nothing but the domain.
//! - `nonces` refuses a second effect of what was handled lately, in the memory of one process.
//! - `layer` does both for axum (feature `layer`).
//! - `inbox` handles each event once, with a table in the receiver's own PostgreSQL (feature `inbox`).
//!
//! `server` is the test receiver of the command line: it answers as its `behaviour` says and counts in `stats`.

pub mod event;
#[cfg(feature = "inbox")]
pub mod inbox;
pub mod key;
#[cfg(feature = "layer")]
pub mod layer;
pub mod nonces;
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
