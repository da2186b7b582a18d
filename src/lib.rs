//! Posthaste turns committed database rows into delivered webhooks.
//!
//! `docs/architecture.md` is the map. Imports go down only (a test holds it):
//! `domain <- config, telemetry, lifecycle <- store, broker, http <- relay, worker <- cmd <- main`.

pub mod domain;
#[cfg(feature = "service")]
pub mod http;
#[cfg(feature = "receiver")]
pub mod receiver;
