//! Decisions in the whole controller: it runs in this process on the in-memory API, and single requests are refused,
//! held or counted on their way there.

mod bay;
mod by_hand;
mod executions;
mod gathered;
mod lives;
mod owners;
mod rules;
mod time;
mod together;
