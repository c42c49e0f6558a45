//! What is known of an expression without evaluating it: the fields that it reads, the conditions
//! without which it cannot be true (for an index), and the fields of which it asks that they be large.
//! Works on the tree as parsed, before `instrument`.

use super::ast;
use super::functions::{self, Kind};
use cel::IdedExpr;
use cel::common::ast::{CallExpr, Expr, LiteralValue, SourceInfo, operators};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A condition that holds of everything for which an expression is true: the field at `path` is
/// there, and is one of `values`.
///
/// An index may therefore look up the rules whose conjunct a field fulfils, and leave the others
/// out. It promises nothing in the other direction: what fulfils all conjuncts still has to be
/// evaluated. Where the field is absent the expression is not true; it may have been an error.
/// Conjuncts come from the terms that `&&` joins at the top of the expression: `path == literal`,
/// `path in [literals]`, `path.orValue(other) == literal`, and a boolean field by itself or with
/// `!`. Values are strings and booleans; numbers are left out, because `1 == 1.0`. What `||` joins
/// gives none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conjunct {
    /// The variable, and the fields below it.
    pub path: Vec<String>,
    /// What the field may be.
    pub values: Vec<Value>,
}

/// A field of which an expression asks that it be greater than something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LowerBound {
    /// Its name, without the path that leads to it.
    pub field: String,
    /// The name's bytes in the source.
    pub span: Range<usize>,
}

/// The part of a value that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    /// All of it.
    Whole,
    /// These fields.
    Fields(BTreeMap<String, Reads>),
}

/// By variable, the parts that these paths name.
pub(super) fn reads(paths: &BTreeSet<Vec<String>>) -> BTreeMap<String, Reads> {
    let mut found = Reads::Fields(BTreeMap::new());
    for path in paths {
        let mut place = &mut found;
        for name in path {
            let Reads::Fields(fields) = place else { break };
            place = fields.entry(name.clone()).or_insert_with(|| Reads::Fields(BTreeMap::new()));
        }
        *place = Reads::Whole;
    }
    match found {
        Reads::Fields(variables) => variables,
        Reads::Whole => BTreeMap::new(),
    }
}

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
    if let Some((fields, object, rest)) = predicate(node) {
        if let Some(path) = ast::path(object).filter(|path| !locals.contains(&path[0].as_str())) {
            let below =
                |field: &&str| path.iter().cloned().chain(field.split('.').map(str::to_owned)).collect();
            found.extend(fields.iter().map(below));
        } else {
            collect(object, locals, found);
        }
        return rest.iter().for_each(|argument| collect(argument, locals, found));
    }
    let Expr::Comprehension(loops) = &node.expr else {
        return ast::children(node).into_iter().for_each(|child| collect(child, locals, found));
    };
    collect(&loops.accu_init, locals, found);
    collect(&loops.iter_range, locals, found);
    let outer = locals.len();
    locals.extend([loops.iter_var.as_str(), &loops.accu_var]);
    locals.extend(loops.iter_var2.as_deref());
    for inner in [&loops.loop_cond, &loops.loop_step, &loops.result] {
        collect(inner, locals, found);
    }
    locals.truncate(outer);
}

/// The durations that calls are given as their last argument, where they are written out, with the function's name:
/// `(f, 10m)` of `f(x, duration('10m'))`.
pub(super) fn durations(node: &IdedExpr) -> Vec<(String, String)> {
    let mut found: Vec<_> = ast::children(node).into_iter().flat_map(durations).collect();
    if let Expr::Call(call) = &node.expr
        && let Some(Expr::Call(last)) = call.args.last().map(|last| &last.expr)
        && last.func_name == "duration"
        && let Some(text) = last.args.first().and_then(ast::literal_text)
    {
        found.push((call.func_name.clone(), text.to_owned()));
    }
    found
}

/// The fields that a predicate reads of its object, the object, and the other arguments.
fn predicate(node: &IdedExpr) -> Option<(&'static [&'static str], &IdedExpr, &[IdedExpr])> {
    let Expr::Call(call) = &node.expr else { return None };
    let (signature, _) = functions::called(call)?;
    let (Kind::Object(fields) | Kind::Clock(fields)) = signature.kind else { return None };
    let (object, rest) = call.args.split_first()?;
    Some((fields, object, rest))
}

/// The conjuncts of a tree.
pub(super) fn conjuncts(root: &IdedExpr) -> Vec<Conjunct> {
    match &root.expr {
        Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::LOGICAL_AND, [left, right]) => [conjuncts(left), conjuncts(right)].concat(),
            _ => conjunct(call).into_iter().collect(),
        },
        _ => boolean(root, true).into_iter().collect(),
    }
}

fn conjunct(call: &CallExpr) -> Option<Conjunct> {
    match (call.func_name.as_str(), call.args.as_slice()) {
        (operators::EQUALS, [left, right]) => equality(left, right).or_else(|| equality(right, left)),
        (operators::IN, [path, list]) => {
            let Expr::List(list) = &list.expr else { return None };
            let values = list.elements.iter().map(literal).collect::<Option<Vec<_>>>()?;
            (is_plain(path) && list.optional_indices.is_empty())
                .then(|| ast::path(path))?
                .map(|path| Conjunct { path, values })
        }
        (operators::LOGICAL_NOT, [operand]) => boolean(operand, false),
        _ => None,
    }
}

fn equality(path: &IdedExpr, value: &IdedExpr) -> Option<Conjunct> {
    let value = literal(value)?;
    let found = if is_plain(path) { ast::path(path) } else { with_default(path, &value) };
    found.map(|path| Conjunct { path, values: vec![value] })
}

/// The path of `path.orValue(other)`, where what is absent counts as something else than `value`.
fn with_default(node: &IdedExpr, value: &Value) -> Option<Vec<String>> {
    let Expr::Call(call) = &node.expr else { return None };
    let ("orValue", Some(target), [other]) = (call.func_name.as_str(), &call.target, call.args.as_slice())
    else {
        return None;
    };
    (literal(other)? != *value && is_path(target)).then(|| ast::path(target)).flatten()
}

/// A field that has to be true, or false, by itself. A variable alone is none.
fn boolean(node: &IdedExpr, value: bool) -> Option<Conjunct> {
    let path = is_plain(node).then(|| ast::path(node)).flatten()?;
    (path.len() > 1).then(|| Conjunct { path, values: vec![value.into()] })
}

fn literal(node: &IdedExpr) -> Option<Value> {
    match &node.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner().into()),
        Expr::Literal(LiteralValue::Boolean(truth)) => Some((*truth.inner()).into()),
        _ => None,
    }
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

/// Whether a node is a path and nothing else, with or without `.?`.
fn is_path(node: &IdedExpr) -> bool {
    match &node.expr {
        Expr::Ident(_) => true,
        Expr::Select(select) => !select.test && is_path(&select.operand),
        Expr::Call(call) => call.args.first().is_some_and(is_path),
        _ => false,
    }
}

/// The fields of which a tree asks, somewhere and not under `!`, that they be greater than a number.
pub(super) fn lower_bounds(info: &SourceInfo, root: &IdedExpr) -> Vec<LowerBound> {
    let mut found = Vec::new();
    bounds(info, root, &mut found);
    found
}

fn bounds(info: &SourceInfo, node: &IdedExpr, found: &mut Vec<LowerBound>) {
    if let Expr::Call(call) = &node.expr {
        let larger = match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::GREATER | operators::GREATER_EQUALS, [larger, other])
            | (operators::LESS | operators::LESS_EQUALS, [other, larger])
                if matches!(other.expr, Expr::Literal(_)) =>
            {
                Some(larger)
            }
            (operators::LOGICAL_NOT, _) => return,
            _ => None,
        };
        found.extend(larger.and_then(|larger| bounded(info, larger)));
    }
    for child in ast::children(node) {
        bounds(info, child, found);
    }
}

/// The field that a side of a comparison is, perhaps with a value for where it is absent.
fn bounded(info: &SourceInfo, node: &IdedExpr) -> Option<LowerBound> {
    match &node.expr {
        Expr::Select(select) => {
            Some(LowerBound { span: ast::field_span(info, node, &select.field), field: select.field.clone() })
        }
        Expr::Call(call) if call.func_name == operators::OPT_SELECT => {
            let field = ast::literal_text(call.args.get(1)?)?;
            Some(LowerBound { span: ast::field_span(info, node, field), field: field.to_owned() })
        }
        Expr::Call(call) if matches!(call.func_name.as_str(), "orValue" | "value" | "dyn" | "int") => {
            bounded(info, call.target.as_deref().or(call.args.first())?)
        }
        _ => None,
    }
}
