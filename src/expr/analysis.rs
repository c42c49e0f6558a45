//! What an expression reads, found without evaluating it: for the index, and to keep of an old
//! object only what expressions look at. Works on the tree as parsed, before `instrument`.

use super::ast;
use super::functions::{self, Kind};
use cel::IdedExpr;
use cel::common::ast::{CallExpr, Expr, LiteralValue, operators};
use serde_json::Value;
use std::collections::BTreeSet;

/// The paths that a tree reads, without those that another one covers.
pub(super) fn paths(root: &IdedExpr) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    collect(root, &mut Vec::new(), &mut found);
    let covered = |path: &[String]| (1..path.len()).any(|length| found.contains(&path[..length]));
    found.iter().filter(|path| !covered(path)).cloned().collect()
}

fn collect<'a>(node: &'a IdedExpr, locals: &mut Vec<&'a str>, found: &mut BTreeSet<Vec<String>>) {
    if let Some(path) = ast::path(node) {
        if !locals.contains(&path[0].as_str()) && !path[0].contains('@') {
            found.insert(path);
        }
        return;
    }
    let Expr::Comprehension(loops) = &node.expr else {
        return ast::children(node).into_iter().for_each(|child| collect(child, locals, found));
    };
    collect(&loops.accu_init, locals, found);
    collect(&loops.iter_range, locals, found);
    let outer = locals.len();
    locals.extend([loops.iter_var.as_str(), &loops.accu_var]);
    for inner in [&loops.loop_cond, &loops.loop_step, &loops.result] {
        collect(inner, locals, found);
    }
    locals.truncate(outer);
}

/// The `path == literal` terms among the conjuncts of a tree. Numbers are left out: `1 == 1.0`.
pub(super) fn equalities(root: &IdedExpr) -> Vec<(Vec<String>, Value)> {
    let Expr::Call(call) = &root.expr else { return Vec::new() };
    match (call.func_name.as_str(), call.args.as_slice()) {
        (operators::LOGICAL_AND, [left, right]) => [equalities(left), equalities(right)].concat(),
        (operators::EQUALS, [left, right]) => {
            let either = equality(left, right).or_else(|| equality(right, left));
            either.into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// Predicates that read the clock and become false as time passes, never true.
const ENDING: [&str; 2] = ["crashLooping", "rolledOutWithin"];

/// Whether the clock alone can make a tree true: wherever it is read, but for the predicates above in `&&`, `||` and the
/// branches of a choice.
pub(super) fn comes_true_with_time(root: &IdedExpr) -> bool {
    !only_ends(root)
}

/// Whether the clock can do no more than make a tree false.
fn only_ends(node: &IdedExpr) -> bool {
    let Expr::Call(call) = &node.expr else { return is_timeless(node) };
    match (call.func_name.as_str(), call.args.as_slice()) {
        (operators::LOGICAL_AND | operators::LOGICAL_OR, args) => args.iter().all(only_ends),
        (operators::CONDITIONAL, [condition, yes, no]) => {
            is_timeless(condition) && only_ends(yes) && only_ends(no)
        }
        (name, args) if ENDING.contains(&name) => args.iter().all(is_timeless),
        _ => is_timeless(node),
    }
}

fn is_timeless(node: &IdedExpr) -> bool {
    let reads = match &node.expr {
        Expr::Ident(name) => name.trim_start_matches('.') == "now",
        Expr::Call(call) => reads_clock(call),
        _ => false,
    };
    !reads && ast::children(node).into_iter().all(is_timeless)
}

fn reads_clock(call: &CallExpr) -> bool {
    functions::called(call).is_some_and(|(signature, _)| signature.kind == Kind::Clock)
}

fn equality(path: &IdedExpr, literal: &IdedExpr) -> Option<(Vec<String>, Value)> {
    let value = match &literal.expr {
        Expr::Literal(LiteralValue::String(text)) => Value::from(text.inner()),
        Expr::Literal(LiteralValue::Boolean(truth)) => Value::from(*truth.inner()),
        _ => return None,
    };
    is_plain(path).then(|| ast::path(path)).flatten().map(|path| (path, value))
}

/// Whether a path gives the value itself; one with `.?` gives an optional, which equals no literal.
fn is_plain(node: &IdedExpr) -> bool {
    match &node.expr {
        Expr::Ident(_) => true,
        Expr::Select(select) => !select.test && is_plain(&select.operand),
        Expr::Call(call) => call.func_name == operators::INDEX && call.args.first().is_some_and(is_plain),
        _ => false,
    }
}
