//! A PostgreSQL and a RabbitMQ of our own, from the programs that are installed.
//!
//! Each has everything of its own: data, ports, log, and RabbitMQ also its node name, its cookie and its epmd. They end
//! with this process, whatever becomes of it. Nothing here needs more than the standard library, so that scripts can have it
//! compiled (`main.rs`) in a moment.

pub mod daemon;
pub mod postgres;
pub mod programs;
pub mod rabbitmq;
