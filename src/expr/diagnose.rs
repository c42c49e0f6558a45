//! Why an evaluation failed: the library says what went wrong but not where, so the expression is
//! evaluated once more from the top down, and the smallest part that fails is named in our words.

use super::ast::{self, bare};
use super::bindings::Bindings;
use super::compile::Program;
use super::convert::type_name;
use super::errors::{EvalError, EvalErrorKind};
use super::evaluate::Frame;
use super::functions::{self, Style};
use super::limits::{LIMIT, is_operator};
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
        // Its target is no value.
        Expr::Call(call) if functions::called(call).is_some_and(|(_, namespaced)| namespaced) => {
            call.args.iter().find_map(|argument| search(program, argument, context))
        }
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
    let quoted = || part.quote(part.node);
    let (kind, message) = match error {
        ExecutionError::NoSuchKey(_) | ExecutionError::IndexOutOfBounds(_) => {
            (EvalErrorKind::Absent, format!("{} is absent", quoted()))
        }
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
            (EvalErrorKind::Failed, format!("{} divides by zero", quoted()))
        }
        ExecutionError::Overflow(..) => (EvalErrorKind::Failed, format!("{} overflows", quoted())),
        ExecutionError::DuplicateKey(_) => (EvalErrorKind::Failed, format!("{} has a key twice", quoted())),
        ExecutionError::UnsupportedKeyType(_) => {
            (EvalErrorKind::Type, format!("{} has a key that is not a string, int, uint or bool", quoted()))
        }
        ExecutionError::NoSuchOverload(overload) => return part.mismatch(overload),
        ExecutionError::UnexpectedType { got, want } => return part.unexpected(got, want),
        _ => return part.operands(),
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
    fn quote(&self, node: &IdedExpr) -> String {
        ast::quote(&self.program.info, node)
    }

    fn type_of(&self, node: &IdedExpr) -> String {
        let value = Value::resolve_val(node, self.context);
        value.map_or_else(|_| "nothing".to_owned(), |value| type_name(value.get_type().name()).to_owned())
    }

    fn error(&self, node: &IdedExpr, message: String) -> EvalError {
        EvalError { kind: EvalErrorKind::Type, message, span: ast::span(&self.program.info, node) }
    }

    /// A part of the node that has another type than it should.
    fn not(&self, node: &IdedExpr, got: &str, wanted: &str) -> EvalError {
        self.error(node, format!("{} is {}, not {wanted}", self.quote(node), type_name(got)))
    }

    /// An operator or a function that is not for the types of its operands.
    fn mismatch(&self, overload: &OverloadError) -> EvalError {
        let types: Vec<&str> = overload.argument_types().iter().map(|name| type_name(name)).collect();
        let operands: Vec<&IdedExpr> = ast::children(self.node);
        match (overload.function(), operands.as_slice(), types.as_slice()) {
            ("_._" | operators::OPT_SELECT, [operand, ..], [got, ..]) => {
                self.error(self.node, format!("{} is {got}, which has no fields", self.quote(operand)))
            }
            (operators::INDEX | operators::OPT_INDEX, [operand, _], [got, key]) => {
                let message = format!("{} is {got}, which has no elements at a {key}", self.quote(operand));
                self.error(self.node, message)
            }
            (operators::IN, [_, list], [_, got]) => self.not(list, got, "a list or map"),
            (operators::LOGICAL_NOT, [operand], [got]) => self.not(operand, got, "a bool"),
            (operators::NEGATE, [operand], [got]) => self.not(operand, got, "a number"),
            (operators::LOGICAL_AND | operators::LOGICAL_OR, [left, right], [of_left, of_right]) => {
                let (node, got) = if *of_left == "bool" { (right, of_right) } else { (left, of_left) };
                self.not(node, got, "a bool")
            }
            (name, operands, types) if !is_operator(name) => {
                self.error(self.node, self.call_mismatch(name, operands, types))
            }
            _ => self.operands(),
        }
    }

    /// A call with arguments of types that the function does not take.
    fn call_mismatch(&self, name: &str, operands: &[&IdedExpr], types: &[&str]) -> String {
        let shown = plain_name(name);
        let given: Vec<&str> = types.iter().copied().filter(|name| !name.starts_with('@')).collect();
        let member = functions::signature(&shown).is_some_and(|signature| signature.style != Style::Global);
        let renamed = given.len() < types.len();
        let called_on = matches!(&self.node.expr, Expr::Call(call) if call.target.is_some() || renamed);
        match (operands.get(usize::from(renamed)), given.as_slice()) {
            (Some(target), [got, rest @ ..]) if member && called_on => {
                format!("{} is {got}, which has no {shown}({})", self.quote(target), rest.join(", "))
            }
            _ => format!("{shown} does not take {}", given.join(", ")),
        }
    }

    /// A value of another type than the language itself wants here.
    fn unexpected(&self, got: &str, want: &str) -> EvalError {
        let wanted = match want {
            "bool" => "a bool",
            "iterable" => "a list or map",
            _ => return self.operands(),
        };
        let culprit = match &self.node.expr {
            Expr::Comprehension(loops) => Some(&loops.iter_range),
            _ => ast::children(self.node).into_iter().next(),
        };
        self.not(culprit.unwrap_or(self.node), got, wanted)
    }

    /// What the two sides of an operator are, when they do not go together.
    fn operands(&self) -> EvalError {
        let sides = match &self.node.expr {
            Expr::Call(call) => Some((call.func_name.as_str(), call.args.as_slice())),
            _ => None,
        };
        let Some((operator, [left, right])) = sides.filter(|(name, _)| is_operator(name)) else {
            // Only sorting compares without an operator.
            return self
                .error(self.node, format!("{} compares values that have no order", self.quote(self.node)));
        };
        let together = match operator {
            operators::ADD => "added to",
            operators::SUBSTRACT => "less",
            operators::MULTIPLY => "multiplied by",
            operators::DIVIDE | operators::MODULO => "divided by",
            _ => "compared with",
        };
        let (of_left, of_right) = (self.type_of(left), self.type_of(right));
        self.error(self.node, format!("{} is {of_left}, {together} {of_right}", self.quote(left)))
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
