//! `matches`, `find` and `findAll`, with the patterns that stand in the source compiled once. The
//! library compiles a pattern at every call, which costs more than all the rest of an evaluation.

use cel::common::types::{CelBool, CelInt, CelList, CelString, DYN_TYPE, INT_TYPE, STRING_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{DeclarationError, Env, ExecutionError};
use regex::{Regex, RegexBuilder};
use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The variable that holds an expression's compiled patterns.
pub(in super::super) const PATTERNS: &str = "@patterns";

/// The memory that one compiled pattern may take, in bytes.
const MAX_COMPILED: usize = 1 << 18;

/// The patterns of an expression that were known when it was compiled.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Patterns(pub(in super::super) Arc<BTreeMap<String, Regex>>);

impl Patterns {
    /// A pattern that is computed is compiled for each use.
    fn get(&self, pattern: &str) -> Result<Cow<'_, Regex>, String> {
        match self.0.get(pattern) {
            Some(known) => Ok(Cow::Borrowed(known)),
            None => compile(pattern).map(Cow::Owned),
        }
    }
}

/// Compiles a pattern, or says in one line why not.
pub(in super::super) fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).size_limit(MAX_COMPILED).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => format!("pattern {pattern:?} is too large"),
        error => {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            format!("invalid pattern {pattern:?}: {reason}")
        }
    })
}

static PATTERNS_TYPE: Type = Type::new_unspecified_type(PATTERNS);

impl Val for Patterns {
    fn get_type(&self) -> &Type {
        &PATTERNS_TYPE
    }

    fn cel_type() -> &'static Type {
        &PATTERNS_TYPE
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Patterns {}

pub(super) fn register(env: &mut Env) -> Result<(), DeclarationError> {
    let text_and_pattern = || vec![DYN_TYPE, STRING_TYPE, STRING_TYPE];
    env.add_overload("@matches", "@matches", text_and_pattern(), |args| {
        let (pattern, text) = pattern_and_text("matches", &args)?;
        Ok(CowVal::owned(CelBool::from(pattern.is_match(text))))
    })?;
    env.add_overload("@find", "@find", text_and_pattern(), |args| {
        let (pattern, text) = pattern_and_text("find", &args)?;
        let found = pattern.find(text).map_or_else(String::new, |found| found.as_str().to_owned());
        Ok(CowVal::owned(CelString::from(found)))
    })?;
    env.add_overload("@findAll", "@findAll", text_and_pattern(), |args| find_all(&args, -1))?;
    let limited = vec![DYN_TYPE, STRING_TYPE, STRING_TYPE, INT_TYPE];
    env.add_overload("@findAll", "@findAllLimited", limited, |args| {
        let limit = args.get(3).and_then(|limit| limit.downcast_ref::<CelInt>()).map_or(-1, |n| *n.inner());
        find_all(&args, limit)
    })
}

/// All matches, or the first `limit` of them where it is not negative.
fn find_all<'b, 'v>(args: &[CowVal<'b, 'v>], limit: i64) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let (pattern, text) = pattern_and_text("findAll", args)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let found = pattern.find_iter(text).take(limit);
    let found = found.map(|found| Box::new(CelString::from(found.as_str().to_owned())) as Box<dyn Val>);
    Ok(CowVal::owned(CelList::from(found.collect::<Vec<_>>())))
}

fn pattern_and_text<'a>(
    function: &'static str,
    args: &'a [CowVal<'_, '_>],
) -> Result<(Cow<'a, Regex>, &'a str), ExecutionError> {
    let patterns = args.first().and_then(|first| first.downcast_ref::<Patterns>());
    let patterns = patterns.ok_or_else(ExecutionError::missing_argument_or_target)?;
    let [text, pattern] = [1, 2].map(|at| args.get(at).and_then(|arg| arg.downcast_ref::<CelString>()));
    let (Some(text), Some(pattern)) = (text, pattern) else {
        return Err(ExecutionError::missing_argument_or_target());
    };
    let pattern = patterns.get(pattern.inner());
    Ok((pattern.map_err(|error| ExecutionError::function_error(function, error))?, text.inner()))
}
