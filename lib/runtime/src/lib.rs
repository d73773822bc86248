//! What every process stands on: time, randomness, supervised tasks, shutdown, back-off, the admin
//! endpoint, metrics and tracing.
//!
//! Only this crate reads clocks, draws random numbers and spawns tasks; clippy refuses it elsewhere, so
//! that tests and simulation can own them.

pub mod admin;
pub mod backoff;
pub mod clock;
pub mod code;
pub mod random;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;
pub mod unit;

pub use backoff::Backoff;
pub use clock::Clock;
pub use code::Code;
pub use shutdown::{Shutdown, signals};
pub use tasks::{OnError, Tasks, in_place};
