//! fother itself at work on a real control plane: remedies from the first match to the proof, identity through every
//! crash, and rights.
//!
//! Most scenarios share one control plane and one controller, each in a namespace of its own. Those that kill, restart
//! or count the controller take turns on a second one, where theirs is the only controller.

mod alertmanager;
mod controller;
mod crashes;
mod episodes;
mod every_request;
mod main_path;
mod rights;
mod scenario;
mod triggers;
