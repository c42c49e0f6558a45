//! Webhooks, from a request to an Execution: the controller in this process on the in-memory API.

mod alerts;
mod budget;
mod events;
mod formats;
mod joined;
mod mended;
mod refusals;
mod resolved;
mod sets;
pub mod stage;
mod stopping;
mod strangers;
mod time;
mod timing;
mod unled;
mod unmatched;
