//! String functions that the library has as well, but that could build far more than they are
//! given, or take quadratic time: here they count first, and take linear time.

use super::super::limits::metered;
use cel::common::types::{CelInt, CelList, CelString, DYN_TYPE, INT_TYPE, LIST_TYPE, STRING_TYPE};
use cel::common::value::CowVal;
use cel::{DeclarationError, Env, ExecutionError};

pub(super) fn register(env: &mut Env) -> Result<(), DeclarationError> {
    let texts = |count| [vec![DYN_TYPE], vec_of_strings(count)].into_iter().flatten().collect::<Vec<_>>();
    let texts_and_int = |count| texts(count).into_iter().chain([INT_TYPE]).collect::<Vec<_>>();
    env.add_overload("@replace", "@replace", texts(3), |args| replace(&args))?;
    env.add_overload("@replace", "@replaceLimited", texts_and_int(3), |args| replace(&args))?;
    env.add_overload("@indexOf", "@indexOf", texts(2), |args| index_of(&args))?;
    env.add_overload("@indexOf", "@indexOfFrom", texts_and_int(2), |args| index_of(&args))?;
    env.add_overload("@lastIndexOf", "@lastIndexOf", texts(2), |args| last_index_of(&args))?;
    env.add_overload("@lastIndexOf", "@lastIndexOfFrom", texts_and_int(2), |args| last_index_of(&args))?;
    env.add_overload("@join", "@join", vec![DYN_TYPE, LIST_TYPE], |args| join(&args))?;
    env.add_overload("@join", "@joinWith", vec![DYN_TYPE, LIST_TYPE, STRING_TYPE], |args| join(&args))
}

fn vec_of_strings(count: usize) -> Vec<cel::common::types::Type> {
    (0..count).map(|_| STRING_TYPE).collect()
}

/// The string at a position; the overloads have checked the types.
fn text<'a>(args: &'a [CowVal<'_, '_>], position: usize) -> Result<&'a str, ExecutionError> {
    let text = args.get(position).and_then(|arg| arg.downcast_ref::<CelString>());
    text.map(CelString::inner).ok_or_else(ExecutionError::missing_argument_or_target)
}

fn int(args: &[CowVal<'_, '_>], position: usize) -> Option<i64> {
    args.get(position)?.downcast_ref::<CelInt>().map(|int| *int.inner())
}

/// `s.replace(from, to)`, or only the first `n` of them.
fn replace<'b, 'v>(args: &[CowVal<'b, 'v>]) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let (meter, args) = metered(args)?;
    let (subject, from, to) = (text(args, 0)?, text(args, 1)?, text(args, 2)?);
    let limit = int(args, 3).map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let replaced = subject.matches(from).take(limit).count();
    meter.produce((subject.len() + replaced.saturating_mul(to.len())) as u64)?;
    Ok(CowVal::owned(CelString::from(subject.replacen(from, to, limit))))
}

/// `list.join()` and `list.join(separator)`.
fn join<'b, 'v>(args: &[CowVal<'b, 'v>]) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let (meter, args) = metered(args)?;
    let list = args.first().and_then(|list| list.downcast_ref::<CelList>());
    let list = list.ok_or_else(ExecutionError::missing_argument_or_target)?;
    let separator = if args.len() > 1 { text(args, 1)? } else { "" };
    let mut parts = Vec::with_capacity(list.inner().len());
    for item in list.inner() {
        let part = item.downcast_ref::<CelString>().map(CelString::inner).ok_or_else(|| {
            let got = super::super::convert::type_name(item.get_type().name());
            ExecutionError::function_error("join", format!("joins strings, not {got}"))
        })?;
        meter.produce((part.len() + separator.len()) as u64)?;
        parts.push(part);
    }
    Ok(CowVal::owned(CelString::from(parts.join(separator))))
}

/// `s.indexOf(t)` in characters, at or after an offset; -1 if it is not there.
fn index_of<'b, 'v>(args: &[CowVal<'b, 'v>]) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let (_, args) = metered(args)?;
    let (subject, wanted) = (text(args, 0)?, text(args, 1)?);
    let start = byte_offset("indexOf", subject, int(args, 2).unwrap_or(0))?;
    Ok(character_index(subject, subject[start..].find(wanted).map(|at| start + at)))
}

/// `s.lastIndexOf(t)` in characters, starting at or before an offset; -1 if it is not there.
fn last_index_of<'b, 'v>(args: &[CowVal<'b, 'v>]) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let (_, args) = metered(args)?;
    let (subject, wanted) = (text(args, 0)?, text(args, 1)?);
    let end = match int(args, 2) {
        None => subject.len(),
        Some(offset) => byte_offset("lastIndexOf", subject, offset)?.saturating_add(wanted.len()),
    };
    let end = subject.floor_char_boundary(end);
    Ok(character_index(subject, subject[..end].rfind(wanted)))
}

/// Where the character at an offset begins; the end of the string is a place too.
fn byte_offset(function: &str, subject: &str, offset: i64) -> Result<usize, ExecutionError> {
    let out_of_range = || ExecutionError::function_error(function, format!("index out of range: {offset}"));
    let wanted = usize::try_from(offset).map_err(|_| out_of_range())?;
    let mut places = subject.char_indices().map(|(at, _)| at).chain([subject.len()]);
    places.nth(wanted).ok_or_else(out_of_range)
}

fn character_index<'b, 'v>(subject: &str, at: Option<usize>) -> CowVal<'b, 'v> {
    let index = at.map_or(-1, |at| i64::try_from(subject[..at].chars().count()).unwrap_or(i64::MAX));
    CowVal::owned(CelInt::from(index))
}
