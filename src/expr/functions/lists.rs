//! Kubernetes' list library (`isSorted`, `sum`, `min`, `max`, `indexOf`, `lastIndexOf`), `first` and
//! `last`, and the maps that `transformMap` and `transformMapEntry` end in.

use super::super::limits::metered;
use super::super::macros::{FROM_PAIRS, MERGED};
use super::library::{Given, Gives, int, truth};
use cel::common::types::{CelInt, CelList, CelMap, CelMapKey, CelOptional, DYN_TYPE, Kind, LIST_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};
use std::cmp::Ordering;
use std::collections::HashMap;

pub(super) fn register(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_member_overload("isSorted", "list_is_sorted", LIST_TYPE, vec![], |args| {
        for pair in items(&args, 0)?.windows(2) {
            if compare("isSorted", pair[0].as_ref(), pair[1].as_ref())? == Ordering::Greater {
                return Ok(truth(false));
            }
        }
        Ok(truth(true))
    })?;
    env.add_member_overload("sum", "list_sum", LIST_TYPE, vec![], sum)?;
    env.add_member_overload("min", "list_min", LIST_TYPE, vec![], |args| {
        extreme("min", &args, Ordering::Less)
    })?;
    env.add_member_overload("max", "list_max", LIST_TYPE, vec![], |args| {
        extreme("max", &args, Ordering::Greater)
    })?;
    env.add_member_overload("first", "list_first", LIST_TYPE, vec![], |args| {
        Ok(CowVal::owned(CelOptional::from(items(&args, 0)?.first().cloned())))
    })?;
    env.add_member_overload("last", "list_last", LIST_TYPE, vec![], |args| {
        Ok(CowVal::owned(CelOptional::from(items(&args, 0)?.last().cloned())))
    })?;
    env.add_overload("@indexOf", "list_index_of", vec![DYN_TYPE, LIST_TYPE, DYN_TYPE], |args| {
        let found = items(&args, 1)?.iter().position(|item| is(item.as_ref(), &args));
        Ok(int(found.map_or(-1, position)))
    })?;
    env.add_overload("@lastIndexOf", "list_last_index_of", vec![DYN_TYPE, LIST_TYPE, DYN_TYPE], |args| {
        let found = items(&args, 1)?.iter().rposition(|item| is(item.as_ref(), &args));
        Ok(int(found.map_or(-1, position)))
    })?;
    env.add_overload(FROM_PAIRS, FROM_PAIRS, vec![DYN_TYPE, LIST_TYPE], from_pairs)?;
    env.add_overload(MERGED, MERGED, vec![DYN_TYPE, LIST_TYPE], merged)
}

/// The elements of the list at a position.
fn items<'a, 'v>(
    args: &'a Given<'_, 'v>,
    position: usize,
) -> Result<&'a [Box<dyn Val + 'v>], ExecutionError> {
    let list = args.get(position).and_then(|arg| arg.downcast_ref::<CelList>());
    list.map(CelList::inner).ok_or_else(ExecutionError::missing_argument_or_target)
}

fn position(at: usize) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}

fn is(item: &dyn Val, args: &Given<'_, '_>) -> bool {
    args.get(2).is_some_and(|wanted| item.equals(wanted.as_ref()))
}

fn compare(function: &str, a: &dyn Val, b: &dyn Val) -> Result<Ordering, ExecutionError> {
    let mixed = || ExecutionError::function_error(function, "compares values that have no order");
    a.as_comparer().ok_or_else(mixed)?.compare(b).map_err(|_| mixed())
}

/// Numbers or durations; of nothing it is 0.
#[expect(clippy::needless_pass_by_value, reason = "the library hands the arguments over")]
fn sum<'b, 'v>(args: Given<'b, 'v>) -> Gives<'b, 'v> {
    let mut sum: Box<dyn Val + 'v> = Box::new(CelInt::from(0));
    for (at, item) in items(&args, 0)?.iter().enumerate() {
        let of = item.get_type().kind();
        if !matches!(of, Kind::Int | Kind::UInt | Kind::Double | Kind::Duration) {
            let got = super::super::convert::type_name(item.get_type().name());
            return Err(ExecutionError::function_error(
                "sum",
                format!("adds numbers or durations, not {got}"),
            ));
        }
        sum = match sum.as_adder() {
            Some(adder) if at > 0 => adder.add(item.as_ref())?.into_owned(),
            _ => item.clone(),
        };
    }
    Ok(CowVal::Owned(sum))
}

/// The least or the greatest element.
fn extreme<'b, 'v>(function: &str, args: &Given<'b, 'v>, wanted: Ordering) -> Gives<'b, 'v> {
    let mut items = items(args, 0)?.iter();
    let empty = || ExecutionError::function_error(function, format!("{function} called on empty list"));
    let mut best = items.next().ok_or_else(empty)?;
    for item in items {
        if compare(function, item.as_ref(), best.as_ref())? == wanted {
            best = item;
        }
    }
    Ok(CowVal::Owned(best.clone()))
}

type Entries<'v> = HashMap<CelMapKey<'v>, Box<dyn Val + 'v>>;

fn insert<'v>(
    entries: &mut Entries<'v>,
    key: CelMapKey<'v>,
    value: Box<dyn Val + 'v>,
) -> Result<(), ExecutionError> {
    if entries.contains_key(&key) {
        let message = format!("insert failed: key {} already exists", shown(&key));
        return Err(ExecutionError::function_error("transformMapEntry", message));
    }
    entries.insert(key, value);
    Ok(())
}

fn shown(key: &CelMapKey<'_>) -> String {
    match key {
        CelMapKey::Bool(key) => key.inner().to_string(),
        CelMapKey::Int(key) => key.inner().to_string(),
        CelMapKey::UInt(key) => key.inner().to_string(),
        CelMapKey::String(key) => format!("{:?}", key.inner()),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the library hands the arguments over")]
fn from_pairs<'b, 'v>(args: Given<'b, 'v>) -> Gives<'b, 'v> {
    metered(&args)?.0.step(position(items(&args, 1)?.len()).unsigned_abs() / 16)?;
    let mut entries = Entries::new();
    for pair in items(&args, 1)? {
        let pair = pair.downcast_ref::<CelList>().map(CelList::inner);
        let Some([key, value]) = pair else { return Err(ExecutionError::missing_argument_or_target()) };
        insert(&mut entries, CelMapKey::try_from(key.clone())?, value.clone())?;
    }
    Ok(CowVal::owned(CelMap::from(entries)))
}

#[expect(clippy::needless_pass_by_value, reason = "the library hands the arguments over")]
fn merged<'b, 'v>(args: Given<'b, 'v>) -> Gives<'b, 'v> {
    metered(&args)?.0.step(position(items(&args, 1)?.len()).unsigned_abs() / 16)?;
    let mut entries = Entries::new();
    for part in items(&args, 1)? {
        let Some(part) = part.downcast_ref::<CelMap>() else {
            let got = super::super::convert::type_name(part.get_type().name());
            let message = format!("each entry must be a map, not {got}");
            return Err(ExecutionError::function_error("transformMapEntry", message));
        };
        for (key, value) in part.inner() {
            insert(&mut entries, key.clone(), value.clone())?;
        }
    }
    Ok(CowVal::owned(CelMap::from(entries)))
}
