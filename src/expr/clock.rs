//! When the answer of an expression can change though nothing happens: at the instant at which a
//! comparison of times turns, or at which a predicate's span has passed.
//!
//! A comparison is not understood but measured: the distance between its sides is taken now and a
//! second later, and where it shrinks evenly, the instant at which it is nothing is known. Only sides
//! that move evenly are measured: `now` by itself, plus or minus something that stands still.
//! What a term that stands still decides (`false && …`) does not change at all.

use super::ast::{self, bare};
use super::bindings::{Bindings, NOW};
use super::compile::{Expression, Program};
use super::convert;
use super::evaluate::Frame;
use super::limits::is_operator;
use cel::common::ast::{CallExpr, Expr, operators};
use cel::common::types::{CelBool, CelDuration, CelTimestamp};
use cel::{IdedExpr, Value};
use jiff::{SignedDuration, Timestamp};

/// What is put before the name of a predicate that reads the clock, for the function that tells when
/// its answer changes. It takes the same arguments, and gives a timestamp or null.
pub(super) const NEXT: &str = "@next_";

/// When an answer can change by the passing of time alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextChange {
    /// The first foreseeable moment after which it may be another one.
    pub at: Option<Timestamp>,
    /// Whether it may also change at a time that cannot be foreseen (`now.getHours() > 8`, or a loop
    /// that reads the clock), so that it has to be asked from time to time.
    pub unforeseen: bool,
}

impl Expression {
    /// When its value over these bindings can change by the passing of time alone.
    pub fn next_change(&self, bindings: &Bindings) -> NextChange {
        let mut found = NextChange::default();
        if self.reads_now() {
            Search { program: &self.program, bindings }.node(&self.program.root, &mut found);
        }
        found
    }
}

struct Search<'a> {
    program: &'a Program,
    bindings: &'a Bindings,
}

impl Search<'_> {
    fn node(&self, node: &IdedExpr, found: &mut NextChange) {
        let node = bare(node);
        match &node.expr {
            Expr::Ident(name) => found.unforeseen |= name == "now",
            Expr::Call(call) if is_predicate(call) => self.predicate(node, call, found),
            Expr::Call(call) => self.call(node, call, found),
            // What a loop reads differs from turn to turn.
            Expr::Comprehension(_) => found.unforeseen |= reads_clock(node),
            _ => self.children(node, found),
        }
    }

    fn children(&self, node: &IdedExpr, found: &mut NextChange) {
        for child in ast::children(node) {
            self.node(child, found);
        }
    }

    fn call(&self, node: &IdedExpr, call: &CallExpr, found: &mut NextChange) {
        match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::LOGICAL_AND, sides) if self.is_settled(sides, false) => {}
            (operators::LOGICAL_OR, sides) if self.is_settled(sides, true) => {}
            (operators::CONDITIONAL, [condition, yes, no]) if !reads_clock(condition) => {
                match self.truth(condition) {
                    Some(true) => self.node(yes, found),
                    Some(false) => self.node(no, found),
                    None => {}
                }
            }
            (name, [left, right])
                if is_comparison(name)
                    && reads_clock(node)
                    && is_even(left)
                    && is_even(right)
                    && self.comparison(left, right, found) => {}
            _ => self.children(node, found),
        }
    }

    /// Whether one of the sides stands still and decides for both.
    fn is_settled(&self, sides: &[IdedExpr], decisive: bool) -> bool {
        sides.iter().any(|side| !reads_clock(side) && self.truth(side) == Some(decisive))
    }

    fn truth(&self, node: &IdedExpr) -> Option<bool> {
        let frame = Frame::new(self.program, self.bindings);
        let context = frame.context();
        let value = Value::resolve_val(node, &context).ok()?;
        value.downcast_ref::<CelBool>().map(|truth| *truth.inner())
    }

    fn predicate(&self, node: &IdedExpr, call: &CallExpr, found: &mut NextChange) {
        let (_, given) = call.args.split_last().unwrap_or((node, &[]));
        found.unforeseen |= given.iter().any(reads_clock);
        let asked = CallExpr { func_name: format!("{NEXT}{}", call.func_name), ..call.clone() };
        let asked = IdedExpr { id: node.id, expr: Expr::Call(asked) };
        let frame = Frame::new(self.program, self.bindings);
        let context = frame.context();
        // An error is one at any time.
        let Ok(turns) = Value::resolve_val(&asked, &context) else { return };
        if let Some(turns) = turns.downcast_ref::<CelTimestamp>().and_then(convert::to_timestamp) {
            self.at(turns, found);
        }
    }

    /// Whether it is a comparison of times; then when it turns is noted.
    fn comparison(&self, left: &IdedExpr, right: &IdedExpr, found: &mut NextChange) -> bool {
        let now = self.bindings.now;
        let Ok(before) = self.distance(left, right, now) else {
            // A side that has no value has none later either.
            return true;
        };
        let later = now.checked_add(SignedDuration::from_secs(1)).ok();
        let after = later.and_then(|later| self.distance(left, right, later).ok()).flatten();
        let (Some(before), Some(after)) = (before, after) else { return false };
        let speed = after - before;
        if speed == 0 {
            return true;
        }
        let turns = before.checked_mul(-1_000_000_000).map(|nanos| nanos / speed);
        let turns = turns.and_then(|nanos| i64::try_from(nanos).ok());
        let turns = turns.and_then(|nanos| now.checked_add(SignedDuration::from_nanos(nanos)).ok());
        // Beyond all calendars it does not turn.
        let Some(turns) = turns else { return true };
        let even = self.distance(left, right, turns).ok().flatten().is_some_and(|rest| rest.abs() < 1_000);
        if even {
            self.at(turns, found);
        }
        even
    }

    /// From one side to the other in nanoseconds; none if they are no times.
    fn distance(
        &self,
        left: &IdedExpr,
        right: &IdedExpr,
        now: Timestamp,
    ) -> Result<Option<i128>, cel::ExecutionError> {
        let bindings = self.bindings.moved_to(now);
        let frame = Frame::new(self.program, &bindings);
        let context = frame.context();
        let (left, right) = (Value::resolve_val(left, &context)?, Value::resolve_val(right, &context)?);
        let moments =
            [&left, &right].map(|side| side.downcast_ref::<CelTimestamp>().and_then(convert::to_timestamp));
        let lengths =
            [&left, &right].map(|side| side.downcast_ref::<CelDuration>().map(convert::to_duration));
        Ok(match (moments, lengths) {
            ([Some(left), Some(right)], _) => Some(right.as_nanosecond() - left.as_nanosecond()),
            (_, [Some(left), Some(right)]) => Some(right.as_nanos() - left.as_nanos()),
            _ => None,
        })
    }

    /// Notes an instant, if it is still to come. At the instant itself `<` and `<=` differ, so it is the one after.
    fn at(&self, turns: Timestamp, found: &mut NextChange) {
        if turns < self.bindings.now {
            return;
        }
        let after = turns.checked_add(SignedDuration::from_nanos(1)).unwrap_or(turns);
        found.at = Some(found.at.map_or(after, |known| known.min(after)));
    }
}

fn is_comparison(name: &str) -> bool {
    let order = [operators::LESS, operators::LESS_EQUALS, operators::GREATER, operators::GREATER_EQUALS];
    is_operator(name) && (order.contains(&name) || name == operators::EQUALS || name == operators::NOT_EQUALS)
}

/// Whether a side of a comparison stands still, or moves as the clock does.
fn is_even(side: &IdedExpr) -> bool {
    let side = bare(side);
    match &side.expr {
        Expr::Ident(_) => true,
        Expr::Call(call) if matches!(&*call.func_name, operators::ADD | operators::SUBSTRACT) => {
            call.args.iter().all(is_even)
        }
        _ => !reads_clock(side),
    }
}

/// `instrument` has given the clock to it.
fn is_predicate(call: &CallExpr) -> bool {
    matches!(call.args.last(), Some(IdedExpr { expr: Expr::Ident(name), .. }) if name == NOW)
}

fn reads_clock(node: &IdedExpr) -> bool {
    matches!(&node.expr, Expr::Ident(name) if name == "now" || name == NOW)
        || ast::children(node).into_iter().any(reads_clock)
}
