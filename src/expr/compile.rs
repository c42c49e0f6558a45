//! From source to [`Expression`]: parse, check against the scope, rewrite for the limits. Done once
//! per definition; evaluation never looks at the source again, except to say what failed.

use super::analysis::{self, Conjunct, LowerBound, Reads};
use super::ast;
use super::check::{self, Found};
use super::errors::ExprError;
use super::functions::{self, Patterns};
use super::instrument::instrument;
use super::limits::{MAX_CHAIN, MAX_DEPTH, MAX_SOURCE};
use super::scope::Scope;
use super::syntax;
use super::types::{Inferred, Type, infer};
use cel::IdedExpr;
use cel::common::ast::SourceInfo;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A compiled CEL expression. Cloning is cheap and shares everything.
///
/// ```
/// let when = Expression::compile("object.status.phase == 'Failed'", &scope)?;
/// if when.matches(&Bindings::at(now).with("object", pod))? { heal() }
/// ```
#[derive(Clone, Debug)]
pub struct Expression {
    pub(super) program: Arc<Program>,
}

/// What is at a path.
#[derive(Clone, Copy, Debug)]
pub enum At<'v> {
    /// This.
    Value(&'v Value),
    /// Nothing: whoever reads it gets an error.
    Nothing,
    /// That cannot be said.
    Unknown,
}

/// Everything that is known of an expression after its compilation.
#[derive(Debug)]
pub(super) struct Program {
    /// The tree that is evaluated.
    pub(super) root: IdedExpr,
    /// The source, and where in it each node stands.
    pub(super) info: SourceInfo,
    pub(super) patterns: Patterns,
    variables: BTreeSet<String>,
    paths: BTreeSet<Vec<String>>,
    /// The same by variable, for conversion.
    pub(super) reads: BTreeMap<String, Reads>,
    /// By variable that may be a list, what is read of its elements.
    elements: BTreeMap<String, BTreeSet<Vec<String>>>,
    conjuncts: Vec<Conjunct>,
    equal_paths: Vec<(Vec<String>, Vec<String>)>,
    bounds: Vec<LowerBound>,
    durations: Vec<(String, String)>,
    reads_now: bool,
    /// What kind of value it has.
    result: Type,
    doubts: Vec<ExprError>,
}

impl Expression {
    /// Compiles a source that may use the variables of `scope`.
    ///
    /// # Errors
    /// All mistakes at once where the source parses; else the first place where it does not.
    pub fn compile(source: &str, scope: &Scope) -> Result<Self, Vec<ExprError>> {
        let (mut root, info) = parse(source).map_err(|error| vec![error])?;
        let Found { mut errors, patterns, variables, reads_now } = check::check(&info, &root, scope);
        // Types are of no interest where names are wrong.
        let inferred = errors.is_empty().then(|| infer(&info, &root, scope));
        let Inferred { result, errors: mistakes, mut doubts } = inferred.unwrap_or_default();
        errors.extend(mistakes);
        doubts.sort_by_key(|doubt| doubt.span.start);
        if !errors.is_empty() {
            errors.sort_by_key(|error| error.span.start);
            return Err(errors);
        }
        let (paths, conjuncts) = (analysis::paths(&root), analysis::conjuncts(&root));
        let (reads, bounds) = (analysis::reads(&paths), analysis::lower_bounds(&info, &root));
        let (durations, equal_paths) = (analysis::durations(&root), analysis::equal_paths(&root));
        let whole = paths.iter().filter_map(|path| <&[String; 1]>::try_from(path.as_slice()).ok());
        let elements = whole.map(|[list]| (list.clone(), analysis::elements(&root, list))).collect();
        instrument(&mut root);
        let patterns = Patterns(Arc::new(patterns));
        let program = Program {
            root,
            info,
            patterns,
            variables,
            paths,
            reads,
            elements,
            conjuncts,
            equal_paths,
            bounds,
            durations,
            reads_now,
            result,
            doubts,
        };
        Ok(Self { program: Arc::new(program) })
    }

    /// The same, where its value can be of this type.
    ///
    /// # Errors
    /// What it is instead.
    pub fn expect(self, wanted: &Type) -> Result<Self, Vec<ExprError>> {
        let Program { result, root, info, .. } = &*self.program;
        if result.fits(wanted) {
            return Ok(self);
        }
        let message = format!("{} is {result}, not {wanted}", ast::quote(info, root));
        Err(vec![ExprError::new(message, ast::span(info, root))])
    }

    /// What in it may well work, and hardly as it was meant: fields that there are not and that it asks for before it reads
    /// them (a misspelling, or of another version of the kind), counts that are left out when they are what it asks for,
    /// and functions over what owns the object that they take.
    pub fn doubts(&self) -> &[ExprError] {
        &self.program.doubts
    }

    /// What it was compiled from.
    pub fn source(&self) -> &str {
        &self.program.info.source
    }

    /// The variables that it names.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.program.variables.iter().map(String::as_str)
    }

    /// Whether its value depends on the clock, and so may change without any event.
    pub fn reads_now(&self) -> bool {
        self.program.reads_now
    }

    /// The fields that it reads, each as a variable and the fields below it. A path stands for all
    /// that is below it: `object` alone means the whole object.
    pub fn paths(&self) -> impl Iterator<Item = &[String]> {
        self.program.paths.iter().map(Vec::as_slice)
    }

    /// What it reads of the elements of a variable that is a list, each as a path below the element: the empty path is
    /// all of it. Nothing if it only counts them.
    pub fn elements(&self, list: &str) -> impl Iterator<Item = &[String]> {
        self.program.elements.get(list).into_iter().flatten().map(Vec::as_slice)
    }

    /// The durations that the calls of a function are given as their last argument, where they are written out.
    pub fn durations_given(&self, function: &str) -> impl Iterator<Item = &str> {
        self.program.durations.iter().filter(move |(name, _)| name == function).map(|(_, text)| text.as_str())
    }

    /// Conditions without which it cannot be true, for an index.
    pub fn conjuncts(&self) -> &[Conjunct] {
        &self.program.conjuncts
    }

    /// Whether two fields that have to be equal for it to be true cannot be, as far as what is at the two paths says so: nothing
    /// is evaluated. `field` gives the value at a path; [`At::Unknown`] says nothing.
    pub fn is_refuted<'v>(&self, field: impl Fn(&[String]) -> At<'v>) -> bool {
        self.program.equal_paths.iter().any(|(one, other)| match (field(one), field(other)) {
            (At::Nothing, _) | (_, At::Nothing) => true,
            (At::Value(one), At::Value(other)) => match (one, other) {
                (Value::String(_), Value::String(_))
                | (Value::Number(_), Value::Number(_))
                | (Value::Bool(_), Value::Bool(_)) => !analysis::is_same(one, other),
                _ => false,
            },
            (At::Unknown, _) | (_, At::Unknown) => false,
        })
    }

    /// The fields of which it asks that they be greater than a number.
    pub fn lower_bounds(&self) -> &[LowerBound] {
        &self.program.bounds
    }
}

fn parse(source: &str) -> Result<(IdedExpr, SourceInfo), ExprError> {
    if source.len() > MAX_SOURCE {
        let message = format!("expression is {} bytes; max {MAX_SOURCE}", source.len());
        return Err(ExprError::new(message, 0..source.len()));
    }
    if source.trim().is_empty() {
        return Err(ExprError::new("expression is empty", 0..source.len()));
    }
    let parser = functions::environment().parser().max_recursion_depth(MAX_DEPTH);
    let (root, info) =
        parser.parse_with_source_info(source).map_err(|errors| syntax::explain(source, &errors))?;
    if ast::depth(&root) > MAX_CHAIN {
        let message = format!("expression chains more than {MAX_CHAIN} operators, fields or calls");
        return Err(ExprError::new(message, 0..source.len()));
    }
    Ok((root, info))
}
