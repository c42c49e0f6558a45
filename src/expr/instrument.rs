//! Rewrites a checked expression so that it stays within its limits and gets what its functions
//! need: the meter, the compiled patterns, the clock. Called once by `compile`.
//!
//! Loops and the parts that build values are wrapped in the counting functions of `limits`. The
//! library runs `map` and `filter` in linear time only as long as their loop has the very shape
//! that it made, so there the counting goes inside the element.

use super::ast;
use super::bindings::NOW;
use super::functions::{self, Kind, PATTERNS};
use super::limits::{CHARGE, ELEMENT, METER, PAIRS, PATTERN, RANGE, TICK, TIMES, WORK};
use super::macros::{FROM_PAIRS, MERGED};
use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators};

/// Rewrites a node and all below it.
pub(super) fn instrument(node: &mut IdedExpr) {
    match &mut node.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) | Expr::Struct(_) => {}
        Expr::Select(select) => instrument(&mut select.operand),
        Expr::List(list) => list.elements.iter_mut().for_each(built),
        Expr::Map(map) => {
            for entry in &mut map.entries {
                if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                    built(&mut entry.key);
                    built(&mut entry.value);
                }
            }
        }
        Expr::Comprehension(loops) => comprehension(loops),
        Expr::Call(call) => {
            if let Some(target) = &mut call.target {
                instrument(target);
            }
            call.args.iter_mut().for_each(instrument);
            if rewrite_call(call) {
                wrap(CHARGE, node);
            }
        }
    }
}

/// A part of a value that is built.
fn built(node: &mut IdedExpr) {
    instrument(node);
    wrap(CHARGE, node);
}

/// Puts a counting function around a node; what stands in the source is counted by its length.
fn wrap(function: &str, node: &mut IdedExpr) {
    if function != TIMES && matches!(node.expr, Expr::Literal(_)) {
        return;
    }
    let inner = std::mem::take(node);
    let id = inner.id;
    *node = call(id, function, vec![ident(id, METER), inner]);
}

fn ident(id: u64, name: &str) -> IdedExpr {
    IdedExpr { id, expr: Expr::Ident(name.to_owned()) }
}

fn call(id: u64, name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    IdedExpr { id, expr: Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }) }
}

/// Rewrites one call; true if its result has to be counted.
fn rewrite_call(call: &mut CallExpr) -> bool {
    match call.func_name.as_str() {
        operators::ADD => return true,
        operators::IN => {
            call.args.iter_mut().skip(1).for_each(|list| wrap(WORK, list));
            return false;
        }
        FROM_PAIRS | MERGED => {
            call.args.insert(0, ident(0, METER));
            return false;
        }
        _ => {}
    }
    let Some((signature, namespaced)) = functions::called(call) else { return false };
    match signature.kind {
        Kind::Object(_) | Kind::Macro => return false,
        Kind::Clock(_) => {
            call.args.push(ident(0, NOW));
            return false;
        }
        Kind::Counts => {
            call.args.iter_mut().for_each(|count| wrap(TIMES, count));
            return true;
        }
        Kind::Reads | Kind::Builds | Kind::Metered(_) | Kind::Pattern(_) => {}
    }
    if let Some(target) = call.target.as_deref_mut().filter(|_| !namespaced) {
        wrap(WORK, target);
    }
    call.args.iter_mut().for_each(|arg| wrap(WORK, arg));
    if let Kind::Pattern(_) = signature.kind {
        // What stands in the source was compiled with it.
        let position = usize::from(call.target.is_none());
        call.args.get_mut(position).into_iter().for_each(|pattern| wrap(PATTERN, pattern));
    }
    match signature.kind {
        Kind::Metered(name) => rename(call, name, METER, namespaced),
        Kind::Pattern(name) => rename(call, name, PATTERNS, namespaced),
        _ => {}
    }
    matches!(signature.kind, Kind::Builds | Kind::Pattern("@findAll"))
}

/// Makes a global call of it that has what it needs as its first argument.
fn rename(call: &mut CallExpr, name: &str, needs: &str, namespaced: bool) {
    name.clone_into(&mut call.func_name);
    let target = call.target.take().filter(|_| !namespaced);
    call.args =
        [ident(0, needs)].into_iter().chain(target.map(|it| *it)).chain(call.args.drain(..)).collect();
}

fn comprehension(loops: &mut ComprehensionExpr) {
    let pairs = loops.iter_var2.take().map(|second| over_pairs(loops, &second));
    built(&mut loops.accu_init);
    instrument(&mut loops.iter_range);
    wrap(if pairs.is_some() { PAIRS } else { RANGE }, &mut loops.iter_range);
    let plain = matches!(loops.loop_cond.expr, Expr::Literal(_));
    if plain && is_ident(&loops.result, &loops.accu_var) && appending(&mut loops.loop_step, &loops.accu_var) {
        return;
    }
    instrument(&mut loops.loop_cond);
    instrument(&mut loops.loop_step);
    instrument(&mut loops.result);
    ticking(&mut loops.loop_cond);
}

/// Makes a loop over pairs of one with two variables, which the library does not evaluate. Only the
/// step of such a loop names them.
fn over_pairs(loops: &mut ComprehensionExpr, second: &str) {
    // No other loop's pair may have the same name: an inner step can name the variables of an outer one.
    let pair = format!("@pair{}", loops.iter_range.id);
    let first = std::mem::replace(&mut loops.iter_var, pair.clone());
    substitute(&mut loops.loop_step, &first, &|id| part(id, &pair, 0));
    substitute(&mut loops.loop_step, second, &|id| part(id, &pair, 1));
}

fn part(id: u64, pair: &str, position: i64) -> Expr {
    let position = IdedExpr { id, expr: Expr::Literal(LiteralValue::Int(position.into())) };
    call(id, operators::INDEX, vec![ident(id, pair), position]).expr
}

/// Puts something else where a variable is named, except where an inner loop has one of that name.
fn substitute(node: &mut IdedExpr, name: &str, made: &dyn Fn(u64) -> Expr) {
    if matches!(&node.expr, Expr::Ident(found) if found == name) {
        node.expr = made(node.id);
        return;
    }
    if let Expr::Comprehension(inner) = &mut node.expr {
        substitute(&mut inner.accu_init, name, made);
        substitute(&mut inner.iter_range, name, made);
        let hidden = [Some(&inner.iter_var), inner.iter_var2.as_ref(), Some(&inner.accu_var)];
        if hidden.into_iter().flatten().any(|hidden| hidden == name) {
            return;
        }
        for part in [&mut inner.loop_cond, &mut inner.loop_step, &mut inner.result] {
            substitute(part, name, made);
        }
        return;
    }
    for child in ast::children_mut(node) {
        substitute(child, name, made);
    }
}

/// Counts a turn before a condition is asked. An `&&` would not do, because it absorbs errors.
fn ticking(condition: &mut IdedExpr) {
    let id = condition.id;
    let tick = call(id, TICK, vec![ident(id, METER)]);
    let stop = IdedExpr { id, expr: Expr::Literal(LiteralValue::Boolean(false.into())) };
    let asked = std::mem::take(condition);
    *condition = call(id, operators::CONDITIONAL, vec![tick, asked, stop]);
}

/// The step of `map` and `filter`: `@result + [x]`, or `guard ? @result + [x] : @result`. True if
/// it is one, and then it is rewritten.
fn appending(step: &mut IdedExpr, accumulator: &str) -> bool {
    let Expr::Call(step) = &mut step.expr else { return false };
    match (step.func_name.as_str(), step.args.as_mut_slice()) {
        (operators::ADD, [_, _]) => append(step, accumulator),
        (operators::CONDITIONAL, [guard, then, otherwise]) if is_ident(otherwise, accumulator) => {
            let Expr::Call(then) = &mut then.expr else { return false };
            if then.func_name != operators::ADD || !append(then, accumulator) {
                return false;
            }
            instrument(guard);
            ticking(guard);
            true
        }
        _ => false,
    }
}

fn append(call: &mut CallExpr, accumulator: &str) -> bool {
    let [result, appended] = call.args.as_mut_slice() else { return false };
    let Expr::List(list) = &mut appended.expr else { return false };
    if !is_ident(result, accumulator) {
        return false;
    }
    for element in &mut list.elements {
        instrument(element);
        // A literal element is counted as well: the turn is what matters.
        let inner = std::mem::take(element);
        *element = self::call(inner.id, ELEMENT, vec![ident(inner.id, METER), inner]);
    }
    true
}

fn is_ident(node: &IdedExpr, name: &str) -> bool {
    matches!(&node.expr, Expr::Ident(found) if found == name)
}
