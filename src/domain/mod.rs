//! Deciding, without doing: no clock, no randomness, no network, no database in here.
//!
//! Everything that the relay and the worker do follows from a value computed in this module, so the rules
//! can be read, property-tested and model-checked on their own.

pub mod backoff;
pub mod bounds;
pub mod budget;
#[cfg(feature = "service")]
pub mod capacity;
pub mod circuit;
pub mod dead_reason;
pub mod decision;
pub mod delivery;
#[cfg(feature = "service")]
pub mod doctor;
pub mod event_type;
pub mod familiar;
pub mod few;
pub mod flows;
pub mod gate;
pub mod ids;
pub mod key_pair;
pub mod left;
pub mod message;
pub mod outcome;
pub mod outgoing;
pub mod places;
pub mod poison;
pub mod reconcile;
pub mod reconnect;
pub mod retention;
pub mod retry_after;
pub mod rooms;
#[cfg(feature = "service")]
pub mod sealing;
pub mod servers;
pub mod share;
pub mod signature;
pub mod signing_key;
pub mod slo;
pub mod throttle;
pub mod trace;
pub mod turns;
pub mod window;
pub mod work_queue;
