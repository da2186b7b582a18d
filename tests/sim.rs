//! The policy in simulated time: who waits for whom, and for how long.
//!
//! A small simulation of discrete events drives the project's own rules (`domain`: the turns of the claim, the gate, the
//! rooms, the circuits, the window of the release) through the situations that `docs/isolation.md` promises something
//! about, and asserts the promises. It knows no noise: the same seed gives the same run. Tests that leave one part of the
//! rule out prove that the part is needed, and that the scenarios notice.
//!
//! The machine is a model: two cores that make 5 000 deliveries a second, a relay that can claim three times that, a broker
//! with two queues. Nothing here measures the real programs; `scripts/isolation` does.

#[path = "sim/broker.rs"]
mod broker;
#[path = "sim/circuits.rs"]
mod circuits;
#[path = "sim/clock.rs"]
mod clock;
#[path = "sim/figures.rs"]
mod figures;
#[path = "sim/gate.rs"]
mod gate;
#[path = "sim/outbox.rs"]
mod outbox;
#[path = "sim/processor.rs"]
mod processor;
#[path = "sim/random.rs"]
mod random;
#[path = "sim/relay.rs"]
mod relay;
#[path = "sim/release.rs"]
mod release;
#[path = "sim/scenarios.rs"]
mod scenarios;
#[path = "sim/seats.rs"]
mod seats;
#[path = "sim/settle.rs"]
mod settle;
#[path = "sim/setup.rs"]
mod setup;
#[path = "sim/traffic.rs"]
mod traffic;
#[path = "sim/worker.rs"]
mod worker;
#[path = "sim/world.rs"]
mod world;
