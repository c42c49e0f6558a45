//! Kubernetes quantities (`500Mi`, `250m`, `1e3`) with the names of Kubernetes' own CEL library,
//! and with `+`, `-` and comparison as operators.

use cel::common::traits::{Adder, Comparer, Subtractor};
use cel::common::types::{CelBool, CelDouble, CelInt, CelString, DYN_TYPE, INT_TYPE, STRING_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{DeclarationError, Env, ExecutionError};
use std::any::Any;
use std::cmp::Ordering;
use std::fmt;

/// Quantities are kept in billionths, the finest that Kubernetes keeps.
const NANO: i128 = 1_000_000_000;

/// The largest absolute value, as in Kubernetes: 2^63 - 1.
const MAX: i128 = i64::MAX as i128 * NANO;

/// How a quantity was written, which is how it is written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notation {
    /// `250m`, `1k`, `2G`.
    Decimal,
    /// `500Mi`, `2Gi`.
    Binary,
    /// `1e3`.
    Exponent,
}

/// An amount of a resource.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Quantity {
    nanos: i128,
    notation: Notation,
}

const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

impl Quantity {
    /// Reads a quantity as the API server does.
    pub(in super::super) fn parse(text: &str) -> Option<Self> {
        let (negative, unsigned) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 40 {
            return None;
        }
        let (multiplier, divisor, notation) = scale(suffix)?;
        let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
        let divisor = divisor.checked_mul(10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
        let product = digits.checked_mul(multiplier);
        // Finer than a billionth is rounded up, and what is too large is capped, as in Kubernetes.
        let nanos = product.map_or(MAX, |product| div_ceil(product, divisor)).min(MAX);
        Some(Self { nanos: if negative { -nanos } else { nanos }, notation })
    }

    fn from_int(value: i64) -> Self {
        Self { nanos: i128::from(value) * NANO, notation: Notation::Decimal }
    }

    /// The whole number that it is, if it is one.
    fn as_integer(self) -> Option<i64> {
        if self.nanos % NANO == 0 { i64::try_from(self.nanos / NANO).ok() } else { None }
    }

    /// The sum, in the notation of the first that is not zero.
    fn plus(self, other: Self) -> Option<Self> {
        let nanos = self.nanos.checked_add(other.nanos).filter(|nanos| nanos.abs() <= MAX)?;
        let notation = if self.nanos == 0 { other.notation } else { self.notation };
        Some(Self { nanos, notation })
    }

    fn negated(self) -> Self {
        Self { nanos: -self.nanos, ..self }
    }

    #[expect(clippy::cast_precision_loss, reason = "its name says that it is approximate")]
    fn approximate(self) -> f64 {
        self.nanos as f64 / NANO as f64
    }
}

/// Billionths per unit of a suffix, as a fraction, and the notation that it belongs to.
fn scale(suffix: &str) -> Option<(i128, i128, Notation)> {
    if let Some((_, power)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Some((NANO.checked_mul(1 << power)?, 1, Notation::Binary));
    }
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return power_of_ten(*power, Notation::Decimal);
    }
    let power = suffix.strip_prefix(['e', 'E'])?;
    let digits = power.strip_prefix(['+', '-']).unwrap_or(power);
    if digits.is_empty() || digits.len() > 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    power_of_ten(power.parse().ok()?, Notation::Exponent)
}

fn power_of_ten(power: i32, notation: Notation) -> Option<(i128, i128, Notation)> {
    let ten = |power: i32| 10_i128.checked_pow(u32::try_from(power).ok()?);
    let power = power + 9;
    if power >= 0 { Some((ten(power)?, 1, notation)) } else { Some((1, ten(-power)?, notation)) }
}

fn div_ceil(value: i128, divisor: i128) -> i128 {
    value / divisor + i128::from(value % divisor != 0)
}

/// The canonical form: the largest suffix that leaves a whole number.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        if self.notation == Notation::Binary && self.nanos % NANO == 0 && self.nanos.abs() >= 1024 * NANO {
            let (mut whole, mut suffix) = (self.nanos / NANO, "");
            for (name, _) in BINARY {
                if whole % 1024 != 0 {
                    break;
                }
                (whole, suffix) = (whole / 1024, name);
            }
            return write!(f, "{whole}{suffix}");
        }
        let (mut amount, mut step) = (self.nanos, 0);
        while amount % 1000 == 0 && step + 1 < DECIMAL.len() {
            (amount, step) = (amount / 1000, step + 1);
        }
        let (name, power) = DECIMAL[step];
        match self.notation {
            Notation::Exponent if power != 0 => write!(f, "{amount}e{power}"),
            _ => write!(f, "{amount}{name}"),
        }
    }
}

static QUANTITY: Type = Type::new_unspecified_type("quantity");

impl Val for Quantity {
    fn get_type(&self) -> &Type {
        &QUANTITY
    }

    fn cel_type() -> &'static Type {
        &QUANTITY
    }

    fn as_adder<'b, 'v>(&'b self) -> Option<&'b (dyn Adder + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_subtractor<'b, 'v>(&'b self) -> Option<&'b (dyn Subtractor + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_comparer(&self) -> Option<&dyn Comparer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        other.downcast_ref::<Quantity>().is_some_and(|other| self.nanos == other.nanos)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(*self)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Quantity {}

impl Adder for Quantity {
    fn add<'b, 'v>(&'b self, rhs: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        sum(*self, operand("_+_", rhs)?)
    }
}

impl Subtractor for Quantity {
    fn sub<'b, 'v>(&'b self, rhs: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        sum(*self, operand("_-_", rhs)?.negated())
    }
}

impl Comparer for Quantity {
    fn compare(&self, rhs: &dyn Val) -> Result<Ordering, ExecutionError> {
        let other = rhs.downcast_ref::<Quantity>();
        let mismatch = || ExecutionError::no_such_overload("_<_", names(rhs));
        other.map(|other| self.nanos.cmp(&other.nanos)).ok_or_else(mismatch)
    }
}

fn names(rhs: &dyn Val) -> Vec<String> {
    vec![QUANTITY.name().to_owned(), rhs.get_type().name().to_owned()]
}

fn sum<'b, 'v>(a: Quantity, b: Quantity) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let sum = a.plus(b).ok_or_else(|| ExecutionError::function_error("quantity", "is too large"))?;
    Ok(CowVal::owned(sum))
}

/// What may be added to a quantity: another, or a number of units.
fn operand(function: &str, value: &dyn Val) -> Result<Quantity, ExecutionError> {
    if let Some(quantity) = value.downcast_ref::<Quantity>() {
        return Ok(*quantity);
    }
    let int = value.downcast_ref::<CelInt>().map(|int| Quantity::from_int(*int.inner()));
    int.ok_or_else(|| ExecutionError::no_such_overload(function, names(value)))
}

pub(super) fn register(env: &mut Env) -> Result<(), DeclarationError> {
    register_conversions(env)?;
    let quantity = || QUANTITY.to_owned();
    for (name, other) in [("add", quantity()), ("add", INT_TYPE)] {
        env.add_member_overload(
            name,
            &format!("quantity_add_{}", other.name()),
            quantity(),
            vec![other],
            |args| sum(this(&args)?, operand("add", argument(&args)?)?),
        )?;
    }
    for (name, other) in [("sub", quantity()), ("sub", INT_TYPE)] {
        env.add_member_overload(
            name,
            &format!("quantity_sub_{}", other.name()),
            quantity(),
            vec![other],
            |args| sum(this(&args)?, operand("sub", argument(&args)?)?.negated()),
        )?;
    }
    env.add_member_overload("compareTo", "quantity_compareTo", quantity(), vec![quantity()], |args| {
        Ok(CowVal::owned(CelInt::from(order(&args)? as i64)))
    })?;
    env.add_member_overload(
        "isGreaterThan",
        "quantity_isGreaterThan",
        quantity(),
        vec![quantity()],
        |args| Ok(CowVal::owned(CelBool::from(order(&args)?.is_gt()))),
    )?;
    env.add_member_overload("isLessThan", "quantity_isLessThan", quantity(), vec![quantity()], |args| {
        Ok(CowVal::owned(CelBool::from(order(&args)?.is_lt())))
    })
}

fn register_conversions(env: &mut Env) -> Result<(), DeclarationError> {
    let quantity = || QUANTITY.to_owned();
    env.add_overload("quantity", "string_to_quantity", vec![STRING_TYPE], |args| {
        let text = argument_text(&args);
        let parsed = Quantity::parse(text).map(CowVal::owned);
        parsed.ok_or_else(|| ExecutionError::function_error("quantity", format!("cannot read {text:?}")))
    })?;
    env.add_overload("quantity", "int_to_quantity", vec![INT_TYPE], |args| {
        let first = args.first().ok_or_else(ExecutionError::missing_argument_or_target)?;
        Ok(CowVal::owned(operand("quantity", first.as_ref())?))
    })?;
    env.add_overload("isQuantity", "is_quantity", vec![DYN_TYPE], |args| {
        Ok(CowVal::owned(CelBool::from(Quantity::parse(argument_text(&args)).is_some())))
    })?;
    env.add_overload("string", "quantity_to_string", vec![quantity()], |args| {
        Ok(CowVal::owned(CelString::from(this(&args)?.to_string())))
    })?;
    env.add_member_overload("asInteger", "quantity_asInteger", quantity(), vec![], |args| {
        let this = this(&args)?;
        let whole = this.as_integer().map(|whole| CowVal::owned(CelInt::from(whole)));
        whole.ok_or_else(|| ExecutionError::function_error("asInteger", format!("{this} is no whole number")))
    })?;
    env.add_member_overload("isInteger", "quantity_isInteger", quantity(), vec![], |args| {
        Ok(CowVal::owned(CelBool::from(this(&args)?.as_integer().is_some())))
    })?;
    env.add_member_overload("asApproximateFloat", "quantity_asFloat", quantity(), vec![], |args| {
        Ok(CowVal::owned(CelDouble::from(this(&args)?.approximate())))
    })?;
    env.add_member_overload("sign", "quantity_sign", quantity(), vec![], |args| {
        Ok(CowVal::owned(CelInt::from(this(&args)?.nanos.signum() as i64)))
    })
}

fn this(args: &[CowVal<'_, '_>]) -> Result<Quantity, ExecutionError> {
    let this = args.first().and_then(|arg| arg.downcast_ref::<Quantity>());
    this.copied().ok_or_else(ExecutionError::missing_argument_or_target)
}

fn argument<'a, 'v>(args: &'a [CowVal<'_, 'v>]) -> Result<&'a (dyn Val + 'v), ExecutionError> {
    args.get(1).map(AsRef::as_ref).ok_or_else(ExecutionError::missing_argument_or_target)
}

fn argument_text<'a>(args: &'a [CowVal<'_, '_>]) -> &'a str {
    args.first().and_then(|arg| arg.downcast_ref::<CelString>()).map_or("", CelString::inner)
}

fn order(args: &[CowVal<'_, '_>]) -> Result<Ordering, ExecutionError> {
    this(args)?.compare(argument(args)?)
}
