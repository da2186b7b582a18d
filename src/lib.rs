//! Posthaste turns committed database rows into delivered webhooks.
//!
//! `docs/architecture.md` is the map. Imports go down only (a test holds it):
//! `domain <- config, telemetry, lifecycle, supervise, reconnect <- store, broker, http <- relay, worker <- requeue <- cmd <- main`.

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
pub mod lifecycle;
#[cfg(feature = "receiver")]
pub mod receiver;
#[cfg(feature = "service")]
pub mod reconnect;
#[cfg(feature = "service")]
pub mod relay;
#[cfg(feature = "service")]
pub mod requeue;
#[cfg(feature = "service")]
pub mod store;
#[cfg(feature = "service")]
pub mod supervise;
#[cfg(feature = "service")]
pub mod telemetry;
#[cfg(feature = "service")]
pub mod worker;
