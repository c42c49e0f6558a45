//! Why an evaluation failed: the library says what went wrong but not where, so the expression is
//! evaluated once more from the top down, and the smallest part that fails is named in our words.

use super::ast::{self, bare};
use super::bindings::Bindings;
use super::compile::Program;
use super::convert::type_name;
use super::errors::{EvalError, EvalErrorKind};
use super::evaluate::Frame;
use super::functions::{self, Style};
use super::limits::LIMIT;
use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, operators};
use cel::{Context, ExecutionError, IdedExpr, OverloadError, Value};

/// The error of a program that has failed over these bindings.
pub(super) fn diagnose(program: &Program, bindings: &Bindings) -> EvalError {
    let frame = Frame::new(program, bindings);
    let context = frame.context();
    let found = search(program, &program.root, &context);
    found.unwrap_or_else(|| EvalError {
        kind: EvalErrorKind::Failed,
        message: "cannot be evaluated".to_owned(),
        span: 0..program.info.source.len(),
    })
}

/// The smallest failing part of a node that may have failed; none if it does not fail.
fn search(program: &Program, node: &IdedExpr, context: &Context<'_, '_>) -> Option<EvalError> {
    let error = Value::resolve_val(node, context).err()?;
    let below = match &node.expr {
        Expr::Comprehension(loops) => search_loop(program, loops, context),
        Expr::Call(call) if call.func_name == operators::CONDITIONAL => search_choice(program, call, context),
        _ => ast::children(node).into_iter().find_map(|child| search(program, child, context)),
    };
    Some(below.unwrap_or_else(|| describe(program, node, &error, context)))
}

/// Of a choice only the condition and the branch that it takes are evaluated.
fn search_choice(program: &Program, call: &CallExpr, context: &Context<'_, '_>) -> Option<EvalError> {
    let [condition, then, otherwise] = call.args.as_slice() else { return None };
    match Value::resolve(condition, context) {
        Err(_) => search(program, condition, context),
        Ok(Value::Bool(true)) => search(program, then, context),
        Ok(Value::Bool(false)) => search(program, otherwise, context),
        Ok(_) => None,
    }
}

/// In a loop, the first element over which the step fails.
fn search_loop(program: &Program, loops: &ComprehensionExpr, context: &Context<'_, '_>) -> Option<EvalError> {
    if let Some(found) =
        [&loops.accu_init, &loops.iter_range].into_iter().find_map(|it| search(program, it, context))
    {
        return Some(found);
    }
    let range = Value::resolve_val(&loops.iter_range, context).ok()?;
    let start = Value::resolve_val(&loops.accu_init, context).ok()?;
    let mut items = range.as_iterable()?.iter();
    while let Some(item) = items.next() {
        let mut inner = context.new_inner_scope();
        inner.add_variable_as_val(&loops.accu_var, start.clone().into_owned());
        inner.add_variable_as_val(&loops.iter_var, item.clone_as_boxed());
        if let Some(found) = search(program, &loops.loop_step, &inner) {
            return Some(found);
        }
    }
    let mut inner = context.new_inner_scope();
    inner.add_variable_as_val(&loops.accu_var, start.into_owned());
    search(program, &loops.result, &inner)
}

/// Says what is wrong with a node all of whose parts have a value.
fn describe(
    program: &Program,
    node: &IdedExpr,
    error: &ExecutionError,
    context: &Context<'_, '_>,
) -> EvalError {
    let part = Part { program, node: bare(node), context };
    let (kind, message) = match error {
        ExecutionError::NoSuchKey(_) => (EvalErrorKind::Absent, format!("{} is absent", part.quote())),
        ExecutionError::IndexOutOfBounds(_) => (EvalErrorKind::Absent, format!("{} is absent", part.quote())),
        ExecutionError::UndeclaredReference(name) => {
            (EvalErrorKind::Absent, format!("{} is not set", name.split('.').next().unwrap_or_default()))
        }
        ExecutionError::FunctionError { function, message } if function == LIMIT => {
            (EvalErrorKind::Limit, message.clone())
        }
        ExecutionError::FunctionError { function, message } => {
            (EvalErrorKind::Failed, format!("{}: {message}", plain_name(function)))
        }
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            (EvalErrorKind::Failed, format!("{} divides by zero", part.quote()))
        }
        ExecutionError::Overflow(..) => (EvalErrorKind::Failed, format!("{} overflows", part.quote())),
        ExecutionError::DuplicateKey(_) => {
            (EvalErrorKind::Failed, format!("{} has a key twice", part.quote()))
        }
        ExecutionError::NoSuchOverload(overload) => (EvalErrorKind::Type, part.mismatch(overload)),
        ExecutionError::UnexpectedType { got, want } => (EvalErrorKind::Type, part.unexpected(got, want)),
        _ => (EvalErrorKind::Type, part.operands()),
    };
    EvalError { kind, message, span: ast::span(&program.info, part.node) }
}

/// The part of an expression that a message is about.
struct Part<'a> {
    program: &'a Program,
    node: &'a IdedExpr,
    context: &'a Context<'a, 'a>,
}

impl Part<'_> {
    fn quote(&self) -> String {
        ast::quote(&self.program.info, self.node)
    }

    fn named(&self, node: &IdedExpr) -> String {
        ast::quote(&self.program.info, node)
    }

    fn type_of(&self, node: &IdedExpr) -> String {
        let value = Value::resolve_val(node, self.context);
        value.map_or_else(|_| "nothing".to_owned(), |value| type_name(value.get_type().name()).to_owned())
    }

    /// An operator or a function that is not for the types of its operands.
    fn mismatch(&self, overload: &OverloadError) -> String {
        let types: Vec<&str> = overload.argument_types().iter().map(|name| type_name(name)).collect();
        let operands: Vec<&IdedExpr> = ast::children(self.node);
        match (overload.function(), operands.as_slice(), types.as_slice()) {
            ("_._" | operators::OPT_SELECT, [operand, ..], [got, ..]) => {
                format!("{} is {got}, which has no fields", self.named(operand))
            }
            (operators::INDEX | operators::OPT_INDEX, [operand, _], [got, key]) => {
                format!("{} is {got}, which has no elements at a {key}", self.named(operand))
            }
            (operators::IN, [_, list], [_, got]) => {
                format!("{} is {got}, not a list or map", self.named(list))
            }
            (operators::LOGICAL_NOT, [operand], [got]) => {
                format!("{} is {got}, not a bool", self.named(operand))
            }
            (operators::NEGATE, [operand], [got]) => {
                format!("{} is {got}, not a number", self.named(operand))
            }
            (operators::LOGICAL_AND | operators::LOGICAL_OR, [left, right], [of_left, of_right]) => {
                let (node, got) = if *of_left == "bool" { (right, of_right) } else { (left, of_left) };
                format!("{} is {got}, not a bool", self.named(node))
            }
            (name, _, types) if !super::limits::is_operator(name) => call_mismatch(name, types),
            _ => self.operands(),
        }
    }

    /// A value of another type than the language itself wants here.
    fn unexpected(&self, got: &str, want: &str) -> String {
        let wanted = match want {
            "bool" => "a bool",
            "iterable" => "a list or map",
            _ => return self.operands(),
        };
        let culprit = match &self.node.expr {
            Expr::Comprehension(loops) => Some(&loops.iter_range),
            _ => ast::children(self.node).into_iter().next(),
        };
        let named = culprit.map_or_else(|| self.quote(), |node| self.named(node));
        format!("{named} is {}, not {wanted}", type_name(got))
    }

    /// What the two sides of an operator are, when they do not go together.
    fn operands(&self) -> String {
        let Expr::Call(call) = &self.node.expr else {
            return format!("{} cannot be evaluated", self.quote());
        };
        let [left, right] = call.args.as_slice() else {
            return format!("{} cannot be evaluated", self.quote());
        };
        let together = match call.func_name.as_str() {
            operators::ADD => "added to",
            operators::SUBSTRACT => "less",
            operators::MULTIPLY => "multiplied by",
            operators::DIVIDE | operators::MODULO => "divided by",
            _ => "compared with",
        };
        format!("{} is {}, {together} {}", self.named(left), self.type_of(left), self.type_of(right))
    }
}

/// A call with arguments of types that the function does not take.
fn call_mismatch(name: &str, types: &[&str]) -> String {
    let shown = plain_name(name);
    let given: Vec<&str> = types.iter().copied().filter(|name| !name.starts_with('@')).collect();
    match (functions::signature(&shown), given.as_slice()) {
        (Some(signature), [target, rest @ ..]) if signature.style != Style::Global => {
            format!("{target} has no {shown}({})", rest.join(", "))
        }
        _ => format!("{shown} does not take {}", given.join(", ")),
    }
}

/// The name that a user has written for one that `instrument` or a macro has put in its place.
fn plain_name(name: &str) -> String {
    match name {
        "math.@max" => "math.greatest".to_owned(),
        "math.@min" => "math.least".to_owned(),
        "@sortByAssociatedKeys" => "sortBy".to_owned(),
        name => name.replace('@', ""),
    }
}
