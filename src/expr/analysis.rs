//! What is known of an expression without evaluating it: the fields that it reads, the conditions
//! without which it cannot be true (for an index), and the fields of which it asks that they be large.
//! Works on the tree as parsed, before `instrument`.

use super::ast;
use super::functions::{self, Kind};
use cel::IdedExpr;
use cel::common::ast::{CallExpr, Expr, LiteralValue, SourceInfo, operators};
use serde_json::{Number, Value};
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
/// `!`. Values are strings, booleans and numbers; numbers are the same if their [`magnitude`] is. What
/// `||` joins gives none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conjunct {
    /// The variable, and the fields below it.
    pub path: Vec<String>,
    /// What the field may be.
    pub values: Vec<Value>,
}

impl Conjunct {
    /// Whether it may hold of a field that is there.
    pub fn allows(&self, field: &Value) -> bool {
        self.values.iter().any(|value| is_same(value, field))
    }
}

/// What numbers have in common that are equal: `500`, `500u` and `500.0`. Very large ones that are not equal may have
/// it in common, too.
pub fn magnitude(number: &Number) -> Option<u64> {
    // Nothing and minus nothing are equal, and their bits are not.
    number.as_f64().map(|number| (number + 0.0).to_bits())
}

/// Whether two values are equal to an expression; very large numbers may seem so.
pub(super) fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => magnitude(one) == magnitude(other),
        _ => one == other,
    }
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

/// What a tree reads of the elements of a list, as paths below each; the empty path is all of an element.
pub(super) fn elements(root: &IdedExpr, list: &str) -> BTreeSet<Vec<String>> {
    let mut search = Elements { list, locals: Vec::new(), found: BTreeSet::new() };
    search.node(root);
    search.found
}

struct Elements<'a> {
    list: &'a str,
    /// The variables of the loops around the node, each with whether it stands for an element.
    locals: Vec<(&'a str, bool)>,
    found: BTreeSet<Vec<String>>,
}

impl<'a> Elements<'a> {
    fn node(&mut self, node: &'a IdedExpr) {
        if let Some((path, key)) = self.below(node) {
            self.found.insert(path);
            return key.into_iter().for_each(|key| self.node(key));
        }
        match &node.expr {
            // What becomes of the list is not known.
            Expr::Ident(_) if self.is_list(node) => drop(self.found.insert(Vec::new())),
            Expr::Call(call) if call.func_name == "size" => {
                let counted = call.target.as_deref().or(call.args.first());
                counted.filter(|counted| !self.is_list(counted)).into_iter().for_each(|one| self.node(one));
            }
            Expr::Comprehension(loops) => {
                let over_list = self.is_list(&loops.iter_range);
                if !over_list {
                    self.node(&loops.iter_range);
                }
                self.node(&loops.accu_init);
                let outer = self.locals.len();
                self.locals.extend([(loops.iter_var.as_str(), over_list), (loops.accu_var.as_str(), false)]);
                if let Some(value) = &loops.iter_var2 {
                    self.locals[outer].1 = false;
                    self.locals.push((value, over_list));
                }
                for inner in [&loops.loop_cond, &loops.loop_step, &loops.result] {
                    self.node(inner);
                }
                self.locals.truncate(outer);
            }
            _ => ast::children(node).into_iter().for_each(|child| self.node(child)),
        }
    }

    fn local(&self, name: &str) -> Option<bool> {
        self.locals.iter().rev().find(|(local, _)| *local == name).map(|(_, is_element)| *is_element)
    }

    fn is_list(&self, node: &IdedExpr) -> bool {
        matches!(&node.expr, Expr::Ident(name)
            if name.trim_start_matches('.') == self.list && self.local(name).is_none())
    }

    /// The path below an element that a node reads, and what chooses the element if that is no loop.
    fn below(&self, node: &'a IdedExpr) -> Option<(Vec<String>, Option<&'a IdedExpr>)> {
        let (operand, last) = match &node.expr {
            Expr::Ident(name) => {
                return self.local(name).filter(|is_element| *is_element).map(|_| (Vec::new(), None));
            }
            Expr::Select(select) => (&*select.operand, select.field.clone()),
            Expr::Call(call) => {
                let ([operand, key], operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT) =
                    (call.args.as_slice(), &*call.func_name)
                else {
                    return None;
                };
                if self.is_list(operand) {
                    return Some((Vec::new(), Some(key)));
                }
                (operand, ast::literal_text(key)?.to_owned())
            }
            _ => return None,
        };
        let (mut path, key) = self.below(operand)?;
        path.push(last);
        Some((path, key))
    }
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

/// Pairs of fields that have to be there and to be equal for an expression to be true.
pub(super) fn equal_paths(root: &IdedExpr) -> Vec<(Vec<String>, Vec<String>)> {
    let Expr::Call(call) = &root.expr else { return Vec::new() };
    match (call.func_name.as_str(), call.args.as_slice()) {
        (operators::LOGICAL_AND, [left, right]) => [equal_paths(left), equal_paths(right)].concat(),
        (operators::EQUALS, [left, right]) if is_plain(left) && is_plain(right) => {
            ast::path(left).zip(ast::path(right)).into_iter().collect()
        }
        _ => Vec::new(),
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
    (!is_same(&literal(other)?, value) && is_path(target)).then(|| ast::path(target)).flatten()
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
        Expr::Literal(LiteralValue::Int(number)) => Some((*number.inner()).into()),
        Expr::Literal(LiteralValue::UInt(number)) => Some((*number.inner()).into()),
        Expr::Literal(LiteralValue::Double(number)) => Number::from_f64(*number.inner()).map(Value::Number),
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
