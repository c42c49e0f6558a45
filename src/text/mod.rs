//! Text that others wrote, before it is kept or shown: without secrets, and without what a terminal takes for a command.
//!
//! - [`secrets`]: what looks like one is left out.
//! - [`printable()`]: a line stays a line.

pub mod printable;
pub mod secrets;

pub use printable::printable;
pub use secrets::without_secrets;
