//! What operators take and give.

use super::super::functions::Signature;
use super::{Declaration, Type};
use cel::common::ast::operators;
use std::collections::BTreeMap;
use std::sync::LazyLock;

static OPERATORS: LazyLock<BTreeMap<&'static str, Vec<Declaration>>> = LazyLock::new(|| {
    let arithmetic: &[&str] = &["(int, int) -> int", "(uint, uint) -> uint", "(double, double) -> double"];
    let order: &[&str] = &[
        "(number, number) -> bool",
        "(string, string) -> bool",
        "(bytes, bytes) -> bool",
        "(bool, bool) -> bool",
        "(timestamp, timestamp) -> bool",
        "(duration, duration) -> bool",
        "(quantity, quantity) -> bool",
    ];
    let sums: &[&str] = &[
        "(string, string) -> string",
        "(bytes, bytes) -> bytes",
        "(list<A>, list<B>) -> list<any>",
        "(timestamp, duration) -> timestamp",
        "(duration, timestamp) -> timestamp",
        "(duration, duration) -> duration",
        "(quantity, quantity) -> quantity",
        "(quantity, int) -> quantity",
    ];
    let differences: &[&str] = &[
        "(timestamp, timestamp) -> duration",
        "(timestamp, duration) -> timestamp",
        "(duration, duration) -> duration",
        "(quantity, quantity) -> quantity",
        "(quantity, int) -> quantity",
    ];
    let table: [(&str, Vec<&str>); 11] = [
        (operators::ADD, [arithmetic, sums].concat()),
        (operators::SUBSTRACT, [arithmetic, differences].concat()),
        (operators::MULTIPLY, arithmetic.to_vec()),
        (operators::DIVIDE, arithmetic.to_vec()),
        (operators::MODULO, arithmetic[..2].to_vec()),
        (operators::NEGATE, vec!["(int) -> int", "(double) -> double"]),
        (operators::LESS, order.to_vec()),
        (operators::LESS_EQUALS, order.to_vec()),
        (operators::GREATER, order.to_vec()),
        (operators::GREATER_EQUALS, order.to_vec()),
        (operators::LOGICAL_NOT, vec!["(bool) -> bool"]),
    ];
    table
        .into_iter()
        .map(|(name, rows)| (name, rows.into_iter().filter_map(Declaration::parse).collect()))
        .collect()
});

/// What an operator gives for operands of these types; none if it does not take them, or is none of these.
pub(super) fn result(operator: &str, operands: &[Type]) -> Option<Type> {
    if let (operators::ADD, [Type::List(a), Type::List(b)]) = (operator, operands) {
        return Some(Type::list(a.or(b)));
    }
    possible(OPERATORS.get(operator)?, None, operands)
}

/// What a function gives for these types; none if it does not take them.
pub(super) fn call(signature: &Signature, target: Option<&Type>, arguments: &[Type]) -> Option<Type> {
    possible(&signature.declarations, target, arguments)
}

/// What any of the declarations that take these types gives: of a type that may be several things, more than one.
fn possible(declarations: &[Declaration], target: Option<&Type>, arguments: &[Type]) -> Option<Type> {
    declarations.iter().filter_map(|one| one.call(target, arguments)).reduce(|a, b| a.or(&b))
}
