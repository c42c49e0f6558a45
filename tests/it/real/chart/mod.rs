//! The chart: what it renders to, what it does to a cluster, and what its policies refuse and admit.

mod cli;
mod lifecycle;
mod monitoring;
mod own_rights;
mod policies;
mod rendered;
mod stage;
mod token;
