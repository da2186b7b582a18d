//! A database with a long history and one without, which have the same otherwise: what `history` measures is asked of both in turn.

mod fill;
mod plans;
mod questions;
mod side;

pub use fill::fill;
pub use plans::{Plan, looked_at};
pub use questions::Question;
pub use side::Side;
