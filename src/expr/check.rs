//! What the library leaves to the evaluation and a user wants to know when he writes: unknown
//! variables and functions, wrong numbers of arguments, literals that no function can read. Called
//! by `compile` on the parsed tree.

use super::ast;
use super::errors::{ExprError, closest};
use super::functions::{self, Kind, Quantity, Signature, Style};
use super::limits::is_operator;
use super::scope::Scope;
use cel::common::ast::{CallExpr, Expr, SourceInfo};
use cel::common::types::CelString;
use cel::common::value::CowVal;
use cel::{ExecutionError, IdedExpr};
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};

/// The names of types, which may stand where a variable may: `type(x) == int`.
const TYPES: [&str; 11] =
    ["bool", "bytes", "double", "int", "list", "map", "null_type", "optional_type", "string", "type", "uint"];

/// What a check finds out besides mistakes.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) errors: Vec<ExprError>,
    pub(super) patterns: BTreeMap<String, Regex>,
    pub(super) variables: BTreeSet<String>,
    pub(super) reads_now: bool,
}

/// Checks a whole expression.
pub(super) fn check(info: &SourceInfo, root: &IdedExpr, scope: &Scope) -> Found {
    let mut checker = Checker { info, scope, locals: Vec::new(), found: Found::default() };
    checker.node(root);
    checker.found
}

struct Checker<'a> {
    info: &'a SourceInfo,
    scope: &'a Scope,
    /// The variables of the loops around the node.
    locals: Vec<&'a str>,
    found: Found,
}

impl<'a> Checker<'a> {
    fn node(&mut self, node: &'a IdedExpr) {
        match &node.expr {
            Expr::Ident(name) => self.variable(node, name),
            Expr::Call(call) => self.call(node, call),
            Expr::Select(_) if ast::is_type_name(node) => {}
            Expr::Struct(literal) => {
                let message = format!("unknown type {:?}", literal.type_name);
                self.error(ExprError::new(message, ast::span(self.info, node)));
            }
            Expr::Comprehension(loops) => {
                self.node(&loops.accu_init);
                self.node(&loops.iter_range);
                let outer = self.locals.len();
                self.locals.extend([loops.iter_var.as_str(), &loops.accu_var]);
                self.locals.extend(loops.iter_var2.as_deref());
                for inner in [&loops.loop_cond, &loops.loop_step, &loops.result] {
                    self.node(inner);
                }
                self.locals.truncate(outer);
            }
            _ => self.below(node),
        }
    }

    fn below(&mut self, node: &'a IdedExpr) {
        for child in ast::children(node) {
            self.node(child);
        }
    }

    fn error(&mut self, error: ExprError) {
        self.found.errors.push(error);
    }

    fn variable(&mut self, node: &IdedExpr, name: &str) {
        let name = name.trim_start_matches('.');
        if self.locals.contains(&name) || name.contains('@') {
            return;
        }
        if self.scope.has(name) {
            self.found.reads_now |= name == "now";
            self.found.variables.insert(name.to_owned());
        } else if !TYPES.contains(&name) {
            let place = self.scope.place_of(name);
            let known = self.scope.variables().chain(self.locals.iter().copied()).filter(|_| place.is_none());
            let place = place.map(|place| format!(": {place}")).unwrap_or_default();
            let error =
                ExprError::new(format!("unknown variable {name:?}{place}"), ast::span(self.info, node));
            let suggestion =
                closest(name, known.filter(|name| !name.contains(['@', '#']))).map(str::to_owned);
            self.error(error.suggest(suggestion));
        }
    }

    fn call(&mut self, node: &'a IdedExpr, call: &'a CallExpr) {
        if is_operator(&call.func_name) || call.func_name.contains('@') {
            return self.below(node);
        }
        let is_variable = |name: &str| self.locals.contains(&name) || self.scope.has(name);
        let namespaced = functions::namespace(call, is_variable);
        let name = match namespaced {
            Some(space) => format!("{space}.{}", call.func_name),
            None => call.func_name.clone(),
        };
        let signature = functions::signature(&name);
        if let Some(signature) = signature {
            self.known_call(node, call, signature, namespaced.is_some());
        } else {
            let span = ast::name_span(self.info, node, &call.func_name);
            let span = span.start - (name.len() - call.func_name.len())..span.end;
            let error = ExprError::new(format!("unknown function {name:?}"), span);
            self.error(error.suggest(closest(&name, functions::names())));
        }
        let target = call.target.as_deref().filter(|_| namespaced.is_none());
        // What follows a macro that did not expand names variables that it would have made.
        let expands = signature.is_some_and(|signature| signature.kind == Kind::Macro);
        let args = call.args.iter().filter(|_| !expands);
        for below in target.into_iter().chain(args) {
            self.node(below);
        }
    }

    fn known_call(&mut self, node: &IdedExpr, call: &CallExpr, signature: &Signature, namespaced: bool) {
        let span = ast::name_span(self.info, node, &call.func_name);
        let name = signature.name;
        let on_a_value = call.target.is_some() && !namespaced;
        match signature.style {
            Style::Global if on_a_value => {
                return self.error(ExprError::new(format!("write {name}(x), not x.{name}()"), span));
            }
            Style::Member if !on_a_value => {
                return self.error(ExprError::new(format!("write x.{name}(), not {name}(x)"), span));
            }
            _ => {}
        }
        let (mut least, mut most) = signature.arguments;
        if signature.style == Style::Both && !on_a_value {
            (least, most) = (least + 1, most + 1);
        }
        if !(least..=most).contains(&call.args.len()) {
            let message = format!("{name} takes {}, not {}", arguments(least, most), call.args.len());
            return self.error(ExprError::new(message, span));
        }
        self.found.reads_now |= matches!(signature.kind, Kind::Clock(_));
        self.literals(call, signature);
    }

    /// Literals that a function cannot read are mistakes already now.
    fn literals(&mut self, call: &CallExpr, signature: &Signature) {
        let position = usize::from(matches!(signature.kind, Kind::Pattern(_)) && call.target.is_none());
        let literal = call.args.get(position).and_then(|arg| Some((arg, ast::literal_text(arg)?)));
        let Some((literal, text)) = literal else { return };
        let problem = match (signature.name, signature.kind) {
            ("duration", _) => unreadable("duration", text, "a duration, such as \"10m\" or \"1h30m\""),
            ("timestamp", _) => unreadable("timestamp", text, "a time, such as \"2026-01-31T09:00:00Z\""),
            ("quantity", _) if Quantity::parse(text).is_none() => {
                Some(format!("{text:?} is not a quantity, such as \"500Mi\" or \"250m\""))
            }
            (_, Kind::Pattern(_)) => match functions::compile_pattern(text) {
                Ok(pattern) => {
                    self.found.patterns.insert(text.to_owned(), pattern);
                    None
                }
                Err(problem) => Some(problem),
            },
            _ => None,
        };
        if let Some(problem) = problem {
            self.error(ExprError::new(problem, ast::span(self.info, literal)));
        }
    }
}

/// What is wrong with a literal for one of the library's conversions, if it refuses it.
fn unreadable(function: &str, text: &str, wanted: &str) -> Option<String> {
    let args = vec![CowVal::owned(CelString::from(text.to_owned()))];
    let convert = functions::environment().find_overload(function, &args)?;
    let refused: Result<CowVal<'_, '_>, ExecutionError> = convert(args);
    refused.err().map(|_| format!("{text:?} is not {wanted}"))
}

fn arguments(least: usize, most: usize) -> String {
    let plural = |count: usize| if count == 1 { "argument" } else { "arguments" };
    match (least, most) {
        (least, most) if least == most => format!("{least} {}", plural(least)),
        (least, usize::MAX) => format!("at least {least} {}", plural(least)),
        (least, most) => format!("{least} to {most} arguments"),
    }
}
