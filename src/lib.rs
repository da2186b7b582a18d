//! Posthaste turns committed database rows into delivered webhooks.
//!
//! `docs/architecture.md` is the map. Imports go down only (a test holds it):
//! `domain, tls <- config, telemetry, lifecycle, supervise, reconnect <- store, broker, http <- relay, worker <- requeue <- cmd <- main`.
//!
//! What is public is what the binary, the tests and receivers need. The rest is private, so that the compiler sees what is dead.

#![forbid(unsafe_code)]
// A test may unwrap; the program says what is wrong.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::print_stdout))]

#[cfg(feature = "service")]
pub mod broker;
#[cfg(feature = "service")]
pub mod cli;
#[cfg(feature = "service")]
pub mod cmd;
#[cfg(feature = "service")]
pub mod config;
pub mod domain;
#[cfg(feature = "service")]
pub mod http;
#[cfg(feature = "service")]
mod lifecycle;
#[cfg(feature = "receiver")]
pub mod receiver;
#[cfg(feature = "service")]
mod reconnect;
#[cfg(feature = "service")]
mod relay;
#[cfg(feature = "service")]
mod requeue;
#[cfg(feature = "service")]
pub mod store;
#[cfg(feature = "service")]
mod supervise;
#[cfg(feature = "service")]
mod telemetry;
#[cfg(feature = "service")]
pub mod tls;
#[cfg(feature = "service")]
mod worker;
