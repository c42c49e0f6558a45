//! Kubernetes' `semver` library.

use super::library::{Given, Gives, Library, Of, int, read, reads, text, truth, value, written};
use cel::common::types::{BOOL_TYPE, CelBool, STRING_TYPE, Type};
use cel::common::value::CowVal;
use cel::{DeclarationError, Env, ExecutionError};
use semver::Version;
use std::cmp::Ordering;

static SEMVER: Type = Type::new_unspecified_type("semver");

impl Library for Version {
    fn cel() -> &'static Type {
        &SEMVER
    }

    fn same(&self, other: &Self) -> bool {
        self.cmp_precedence(other) == Ordering::Equal
    }

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "is not a semantic version such as \"1.2.3\"".to_owned())
    }
}

/// Reads what people write instead of versions as well: `v1.2`, `01.2.3`.
fn normalized(text: &str) -> Result<Version, String> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut parts: Vec<String> = text.splitn(3, '.').map(without_zeros).collect();
    if parts.len() < 3 && parts.last().is_some_and(|last| last.contains(['+', '-'])) {
        return Err("is short and yet has a pre-release or build".to_owned());
    }
    parts.resize(3, "0".to_owned());
    Version::read(&parts.join("."))
}

fn without_zeros(part: &str) -> String {
    let rest = part.trim_start_matches('0');
    if rest.len() < part.len() && !rest.starts_with(|c: char| c.is_ascii_digit()) {
        format!("0{rest}")
    } else {
        rest.to_owned()
    }
}

fn normalizes(args: &Given<'_, '_>) -> bool {
    args.get(1).and_then(|flag| flag.downcast_ref::<CelBool>()).is_some_and(|flag| *flag.inner())
}

fn read_normalized(args: &Given<'_, '_>) -> Result<Version, ExecutionError> {
    let written = text(args, 0)?;
    let version = if normalizes(args) { normalized(written) } else { Version::read(written) };
    version.map_err(|why| ExecutionError::function_error("semver", format!("{written:?} {why}")))
}

fn compare(args: &Given<'_, '_>) -> Result<Ordering, ExecutionError> {
    Ok(value::<Version>(args, 0)?.cmp_precedence(value::<Version>(args, 1)?))
}

pub(super) fn register(env: &mut Env) -> Result<(), DeclarationError> {
    let semver = || SEMVER.to_owned();
    env.add_overload("semver", "string_to_semver", vec![STRING_TYPE], read::<Version>)?;
    env.add_overload("isSemver", "is_semver", vec![STRING_TYPE], reads::<Version>)?;
    env.add_overload("string", "semver_to_string", vec![semver()], written::<Version>)?;
    env.add_overload("semver", "string_bool_to_semver", vec![STRING_TYPE, BOOL_TYPE], |args| {
        Ok(CowVal::owned(Of(read_normalized(&args)?)))
    })?;
    env.add_overload("isSemver", "is_semver_bool", vec![STRING_TYPE, BOOL_TYPE], |args| {
        Ok(truth(read_normalized(&args).is_ok()))
    })?;
    env.add_member_overload("major", "semver_major", semver(), vec![], |args| {
        number(value::<Version>(&args, 0)?.major)
    })?;
    env.add_member_overload("minor", "semver_minor", semver(), vec![], |args| {
        number(value::<Version>(&args, 0)?.minor)
    })?;
    env.add_member_overload("patch", "semver_patch", semver(), vec![], |args| {
        number(value::<Version>(&args, 0)?.patch)
    })?;
    env.add_member_overload("isLessThan", "semver_less", semver(), vec![semver()], |args| {
        Ok(truth(compare(&args)? == Ordering::Less))
    })?;
    env.add_member_overload("isGreaterThan", "semver_greater", semver(), vec![semver()], |args| {
        Ok(truth(compare(&args)? == Ordering::Greater))
    })?;
    env.add_member_overload("compareTo", "semver_compare", semver(), vec![semver()], |args| {
        Ok(int(compare(&args)? as i64))
    })
}

fn number<'b, 'v>(part: u64) -> Gives<'b, 'v> {
    i64::try_from(part).map(int).map_err(|_| ExecutionError::function_error("semver", "is too large"))
}
