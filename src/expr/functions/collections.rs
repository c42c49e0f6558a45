//! `sets.contains`, `sets.intersects`, `sets.equivalent` and `distinct`: functions that compare
//! every element with every other, and so count the comparisons as steps.

use super::super::limits::{Meter, metered};
use cel::common::types::{CelBool, CelList, DYN_TYPE, LIST_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

/// Comparisons that count as one step.
const COMPARISONS_PER_STEP: u64 = 16;

pub(super) fn register(env: &mut Env) -> Result<(), DeclarationError> {
    let lists = || vec![DYN_TYPE, LIST_TYPE, LIST_TYPE];
    env.add_overload("sets.@contains", "sets.@contains", lists(), |args| {
        let (_, first, second) = two_lists(&args)?;
        Ok(CowVal::owned(CelBool::from(contains(first, second))))
    })?;
    env.add_overload("sets.@equivalent", "sets.@equivalent", lists(), |args| {
        let (_, first, second) = two_lists(&args)?;
        Ok(CowVal::owned(CelBool::from(contains(first, second) && contains(second, first))))
    })?;
    env.add_overload("sets.@intersects", "sets.@intersects", lists(), |args| {
        let (_, first, second) = two_lists(&args)?;
        Ok(CowVal::owned(CelBool::from(second.inner().iter().any(|item| has(first.inner(), item.as_ref())))))
    })?;
    env.add_overload("@distinct", "@distinct", vec![DYN_TYPE, LIST_TYPE], |args| {
        let (meter, rest) = metered(&args)?;
        let list = list(rest, 0)?;
        let mut kept: Vec<Box<dyn Val + '_>> = Vec::new();
        for item in list.inner() {
            count(meter, kept.len() as u64)?;
            if !has(&kept, item.as_ref()) {
                kept.push(item.clone());
            }
        }
        Ok(CowVal::owned(CelList::from(kept)))
    })
}

type Elements<'a, 'v> = &'a CelList<'v>;

fn two_lists<'a, 'v>(
    args: &'a [CowVal<'_, 'v>],
) -> Result<(&'a Meter, Elements<'a, 'v>, Elements<'a, 'v>), ExecutionError> {
    let (meter, rest) = metered(args)?;
    let (first, second) = (list(rest, 0)?, list(rest, 1)?);
    count(meter, first.inner().len() as u64 * second.inner().len() as u64)?;
    Ok((meter, first, second))
}

fn list<'a, 'v>(args: &'a [CowVal<'_, 'v>], position: usize) -> Result<Elements<'a, 'v>, ExecutionError> {
    let list = args.get(position).and_then(|arg| arg.downcast_ref::<CelList>());
    list.ok_or_else(ExecutionError::missing_argument_or_target)
}

fn count(meter: &Meter, comparisons: u64) -> Result<(), ExecutionError> {
    meter.step(comparisons / COMPARISONS_PER_STEP)
}

fn contains(list: &CelList<'_>, sub: &CelList<'_>) -> bool {
    sub.inner().iter().all(|item| has(list.inner(), item.as_ref()))
}

fn has<'v>(items: &[Box<dyn Val + 'v>], wanted: &dyn Val) -> bool {
    items.iter().any(|item| item.equals(wanted))
}
