//! The macros that the library does not have: `cel.bind` and the loops with two variables.
//!
//! A loop with two variables is parsed into the form that CEL defines for it, which the library
//! cannot evaluate; `instrument` makes a loop over pairs of it. `transformMap` and
//! `transformMapEntry` collect pairs or small maps in a list, in linear time, and make one map of them.

use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, ListExpr, LiteralValue, operators};
use cel::parser::{Macro, MacroExprHelper};
use cel::{DeclarationError, Env, IdedExpr, ParseError};

/// `@fromPairs(@meter, [[key, value], …])`: a map.
pub(super) const FROM_PAIRS: &str = "@fromPairs";
/// `@merged(@meter, [{…}, …])`: one map of all their entries.
pub(super) const MERGED: &str = "@merged";

/// The parser's words, which `syntax` passes on.
pub(super) const SAME_NAME: &str = "the two variables of a loop need different names";

const RESULT: &str = "@result";

/// Adds them.
pub(super) fn register(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_macro(Macro::receiver("bind", 3, bind))?;
    env.add_macro(Macro::receiver("all", 3, |helper, target, args| quantifier(helper, target, args, true)))?;
    env.add_macro(Macro::receiver("exists", 3, |helper, target, args| {
        quantifier(helper, target, args, false)
    }))?;
    for name in ["existsOne", "exists_one"] {
        env.add_macro(Macro::receiver(name, 3, exists_one))?;
    }
    for count in [3, 4] {
        env.add_macro(Macro::receiver("transformList", count, |helper, target, args| {
            Ok(Some(transform(helper, target, args, |_, value| value)?))
        }))?;
        env.add_macro(Macro::receiver("transformMap", count, transform_map))?;
        env.add_macro(Macro::receiver("transformMapEntry", count, |helper, target, args| {
            let entries = transform(helper, target, args, |_, value| value)?;
            Ok(Some(call(helper, MERGED, vec![entries])))
        }))?;
    }
    Ok(())
}

type Expanded = Result<Option<IdedExpr>, ParseError>;
type Target = Option<IdedExpr>;

fn call(helper: &mut MacroExprHelper<'_>, name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    helper.next_expr(Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }))
}

fn ident(helper: &mut MacroExprHelper<'_>, name: &str) -> IdedExpr {
    helper.next_expr(Expr::Ident(name.to_owned()))
}

fn bool(helper: &mut MacroExprHelper<'_>, value: bool) -> IdedExpr {
    helper.next_expr(Expr::Literal(LiteralValue::Boolean(value.into())))
}

fn int(helper: &mut MacroExprHelper<'_>, value: i64) -> IdedExpr {
    helper.next_expr(Expr::Literal(LiteralValue::Int(value.into())))
}

fn list(helper: &mut MacroExprHelper<'_>, elements: Vec<IdedExpr>) -> IdedExpr {
    helper.next_expr(Expr::List(ListExpr::new(elements)))
}

/// The name of a loop's variable.
fn name(helper: &MacroExprHelper<'_>, node: &IdedExpr) -> Result<String, ParseError> {
    match &node.expr {
        Expr::Ident(name) if !name.starts_with('.') => Ok(name.clone()),
        _ => Err(helper.new_error(node.id, "argument must be a simple name")),
    }
}

/// `cel.bind(x, value, expression)`: a loop without turns, whose accumulator is the variable.
fn bind(helper: &mut MacroExprHelper<'_>, target: &mut Target, args: &mut Vec<IdedExpr>) -> Expanded {
    if !matches!(target, Some(IdedExpr { expr: Expr::Ident(space), .. }) if space == "cel") {
        return Ok(None);
    }
    let Some([variable, value, result]) = take(args) else { return Ok(None) };
    let variable = name(helper, &variable)?;
    let bound = ComprehensionExpr {
        iter_range: list(helper, Vec::new()),
        iter_var: "#unused".to_owned(),
        iter_var2: None,
        loop_cond: bool(helper, false),
        loop_step: ident(helper, &variable),
        accu_var: variable,
        accu_init: value,
        result,
    };
    Ok(Some(helper.next_expr(Expr::Comprehension(Box::new(bound)))))
}

fn take<const N: usize>(args: &mut Vec<IdedExpr>) -> Option<[IdedExpr; N]> {
    std::mem::take(args).try_into().ok()
}

/// The two variables of a loop, and its range.
struct Head {
    range: IdedExpr,
    variables: (String, String),
}

impl Head {
    fn of(
        helper: &mut MacroExprHelper<'_>,
        target: &mut Target,
        first: &IdedExpr,
        second: &IdedExpr,
    ) -> Result<Self, ParseError> {
        let variables = (name(helper, first)?, name(helper, second)?);
        if variables.0 == variables.1 {
            return Err(helper.new_error(second.id, SAME_NAME));
        }
        // The parser calls a macro for a receiver with one.
        Ok(Self { range: target.take().unwrap_or_default(), variables })
    }

    fn looped(self, start: IdedExpr, condition: IdedExpr, step: IdedExpr, result: IdedExpr) -> Expr {
        Expr::Comprehension(Box::new(ComprehensionExpr {
            iter_range: self.range,
            iter_var: self.variables.0,
            iter_var2: Some(self.variables.1),
            accu_var: RESULT.to_owned(),
            accu_init: start,
            loop_cond: condition,
            loop_step: step,
            result,
        }))
    }
}

/// `x.all(k, v, p)` and `x.exists(k, v, p)`.
fn quantifier(
    helper: &mut MacroExprHelper<'_>,
    target: &mut Target,
    args: &mut Vec<IdedExpr>,
    all: bool,
) -> Expanded {
    let Some([first, second, predicate]) = take(args) else { return Ok(None) };
    let head = Head::of(helper, target, &first, &second)?;
    let start = bool(helper, all);
    let mut going = ident(helper, RESULT);
    if !all {
        going = call(helper, operators::LOGICAL_NOT, vec![going]);
    }
    let condition = call(helper, operators::NOT_STRICTLY_FALSE, vec![going]);
    let so_far = ident(helper, RESULT);
    let operator = if all { operators::LOGICAL_AND } else { operators::LOGICAL_OR };
    let step = call(helper, operator, vec![so_far, predicate]);
    let result = ident(helper, RESULT);
    Ok(Some(helper.next_expr(head.looped(start, condition, step, result))))
}

/// `x.existsOne(k, v, p)`.
fn exists_one(helper: &mut MacroExprHelper<'_>, target: &mut Target, args: &mut Vec<IdedExpr>) -> Expanded {
    let Some([first, second, predicate]) = take(args) else { return Ok(None) };
    let head = Head::of(helper, target, &first, &second)?;
    let (so_far, one) = (ident(helper, RESULT), int(helper, 1));
    let more = call(helper, operators::ADD, vec![so_far, one]);
    let same = ident(helper, RESULT);
    let step = call(helper, operators::CONDITIONAL, vec![predicate, more, same]);
    let (count, one) = (ident(helper, RESULT), int(helper, 1));
    let result = call(helper, operators::EQUALS, vec![count, one]);
    let (start, condition) = (int(helper, 0), bool(helper, true));
    Ok(Some(helper.next_expr(head.looped(start, condition, step, result))))
}

/// `x.transformMap(k, v, [p,] e)`: the same keys with other values.
fn transform_map(
    helper: &mut MacroExprHelper<'_>,
    target: &mut Target,
    args: &mut Vec<IdedExpr>,
) -> Expanded {
    let key = args.first().map(|first| name(helper, first)).transpose()?.unwrap_or_default();
    let pairs = transform(helper, target, args, |helper, value| {
        let key = ident(helper, &key);
        list(helper, vec![key, value])
    })?;
    Ok(Some(call(helper, FROM_PAIRS, vec![pairs])))
}

/// The list of what `made` makes of the value for each turn whose filter, if there is one, holds.
fn transform(
    helper: &mut MacroExprHelper<'_>,
    target: &mut Target,
    args: &mut Vec<IdedExpr>,
    made: impl Fn(&mut MacroExprHelper<'_>, IdedExpr) -> IdedExpr,
) -> Result<IdedExpr, ParseError> {
    let value = args.pop().unwrap_or_default();
    let filter = if args.len() > 2 { args.pop() } else { None };
    let [first, second] = take(args).unwrap_or_default();
    let head = Head::of(helper, target, &first, &second)?;
    let element = made(helper, value);
    let (so_far, elements) = (ident(helper, RESULT), list(helper, vec![element]));
    let mut step = call(helper, operators::ADD, vec![so_far, elements]);
    if let Some(filter) = filter {
        let same = ident(helper, RESULT);
        step = call(helper, operators::CONDITIONAL, vec![filter, step, same]);
    }
    let (start, condition, result) = (list(helper, Vec::new()), bool(helper, true), ident(helper, RESULT));
    Ok(helper.next_expr(head.looped(start, condition, step, result)))
}
