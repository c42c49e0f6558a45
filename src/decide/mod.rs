//! The verbs, pure: no I/O, no clock, no randomness. Time arrives as an argument; what shells are to do leaves as
//! values.
//!
//! - [`identity`]: names that are the same whoever computes them, so that nothing happens twice.
//! - [`matching`]: a rule, compiled: what matches it.
//! - [`index`]: of many rules, those that an object may match.
//! - [`view`]: which objects of a watch match a rule, and since when.
//! - [`aim`], [`interest`], [`inbox`]: what a Webhook received: where it leads, who wants it, how it stands.
//! - [`firing`], [`owed`], [`unmatched`]: which alerts fire, which outcomes are owed, and what no Rule matches yet.
//! - [`ended`]: whether the end of an alert gets an Execution now, later, or not.
//! - [`episode`]: whether a target that matches gets an Execution now, later, or not again.
//! - [`guards`]: by name, what a decision has to pass and what holds a target.
//! - [`definition`]: what an Execution runs, frozen at the decision.
//! - [`execution`]: the ladder, as a state machine over what was observed.
//! - [`parameters`], [`job`], [`expansion`], [`pod`], [`outcome`], [`operation`], [`verify`]: the parts of a rung.
//! - [`check`]: what is wrong with a Rule or an Action, as [`problem`]s with a [`path`].
//! - [`pack`]: from the files of a revision to objects, or to all their problems.
//! - [`sync`]: from the objects of a revision to what changes in the cluster.
//! - [`lineage`]: whether a revision may follow the one that is in force.
//! - [`rights`]: what a Rule's account will need, known in advance.
//! - [`capture`], [`correlation`], [`given`]: several events that mean something together; [`alerts`]: the same of states.
//! - [`guard`]: what stops a decision that is otherwise due.
//! - [`unless`]: what speaks against acting now.
//! - [`schedule`]: when a schedule is due.
//! - [`ends`]: ends of Executions, as events.
//! - [`change`], [`lifecycle`]: what happens to objects, as events: changes, creations and deletions.
//! - [`aim`]: where an event leads that is about no object.
//! - [`unknown`]: what a later version wrote and this one does not know.
//! - [`retention`]: which finished Executions may go; [`room`]: which `EventBatch`es that are over make room.

pub mod aim;
pub mod alerts;
pub mod capture;
pub mod change;
pub mod check;
pub mod correlation;
pub mod definition;
#[cfg(test)]
pub mod deliveries;
pub mod ended;
pub mod ends;
pub mod episode;
mod excerpt;
pub mod execution;
pub mod expansion;
pub mod firing;
pub mod gathering;
pub mod given;
pub mod guard;
pub mod guards;
pub mod hearing;
pub mod identity;
pub mod inbox;
pub mod index;
pub mod interest;
pub mod job;
pub mod keeping;
pub mod lead;
pub mod lifecycle;
pub mod lineage;
pub mod matching;
pub mod operation;
pub mod outcome;
pub mod owed;
pub mod pack;
pub mod parameters;
pub mod path;
pub mod pod;
pub mod problem;
pub mod retention;
pub mod rights;
pub mod room;
pub mod schedule;
pub mod sync;
pub mod turning;
pub mod unknown;
pub mod unless;
pub mod unmatched;
pub mod verify;
pub mod view;
