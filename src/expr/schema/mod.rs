//! The fields of objects: of Kubernetes' own kinds from a snapshot in the binary, of custom kinds
//! from their CustomResourceDefinitions. What `types` checks field names against.
//!
//! A schema is kept as text and read where it is looked at, because an expression reads ten fields
//! of the thousands that a Pod may have:
//!
//! ```text
//! ContainerStatus name:string restartCount:int state:ContainerState …
//! ```
//!
//! A definition that ends in `...` may have other fields, of which nothing is known.

mod open_api;

use super::errors::closest;
use super::types::Type;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, LazyLock};

/// Kubernetes' own kinds, as `make schemas` records them.
const SNAPSHOT: &str = include_str!("kubernetes.txt");

static BUILT_IN: LazyLock<Arc<Definitions>> = LazyLock::new(|| {
    let mut definitions = Definitions::default();
    for line in SNAPSHOT.lines().filter(|line| !line.starts_with('#')) {
        definitions.add(line);
    }
    Arc::new(definitions)
});

/// fother's own kinds.
static OWN: LazyLock<Arc<Definitions>> = LazyLock::new(|| {
    let mut definitions = Definitions::default();
    for crd in crate::api::crds() {
        let crd = serde_json::to_value(crd).expect("plain data structures always become JSON");
        for line in open_api::of_crd(&crd) {
            definitions.add(&line);
        }
    }
    Arc::new(definitions)
});

/// Named objects, each with its fields as they are written, and which kinds they are.
#[derive(Debug, Default)]
struct Definitions {
    objects: BTreeMap<String, String>,
    /// By `apiVersion/kind`.
    kinds: BTreeMap<String, String>,
}

impl Definitions {
    /// Adds a line: `kind apps/v1/Deployment Deployment`, or an object.
    fn add(&mut self, line: &str) {
        let Some((name, rest)) = line.split_once(' ') else { return };
        match (name, rest.split_once(' ')) {
            ("kind", Some((kind, object))) => self.kinds.insert(kind.to_owned(), object.to_owned()),
            _ => self.objects.insert(name.to_owned(), rest.to_owned()),
        };
    }
}

/// The schemas that expressions are checked against.
#[derive(Clone, Debug, Default)]
pub struct Schemas {
    sources: Vec<Arc<Definitions>>,
}

impl Schemas {
    /// Those of Kubernetes' and fother's own kinds. `default()` is none at all: then nothing is known
    /// of any object.
    pub fn built_in() -> Self {
        Self { sources: vec![Arc::clone(&OWN), Arc::clone(&BUILT_IN)] }
    }

    /// These and those of an API server's OpenAPI v3 document, which come first.
    #[must_use]
    pub fn with_open_api(self, document: &Value) -> Self {
        self.with(&open_api::of_document(document))
    }

    /// These and that of a CustomResourceDefinition; the same if it is none.
    #[must_use]
    pub fn with_crd(self, crd: &Value) -> Self {
        self.with(&open_api::of_crd(crd))
    }

    /// These, and where they know nothing, others.
    #[must_use]
    pub fn and(mut self, others: &Self) -> Self {
        self.sources.extend(others.sources.iter().cloned());
        self
    }

    fn with(mut self, lines: &[String]) -> Self {
        let mut definitions = Definitions::default();
        for line in lines {
            definitions.add(line);
        }
        self.sources.insert(0, Arc::new(definitions));
        self
    }

    /// The `apiVersion` and kind that was probably meant by one of which nothing is known: of the same `apiVersion`, or of the
    /// same name in another.
    pub fn meant(&self, api_version: &str, kind: &str) -> Option<(&str, &str)> {
        let keys = self.sources.iter().flat_map(|source| source.kinds.keys());
        let known: Vec<(&str, &str)> = keys.filter_map(|key| key.rsplit_once('/')).collect();
        let here: BTreeSet<&str> =
            known.iter().filter(|known| known.0 == api_version).map(|known| known.1).collect();
        if here.contains(kind) {
            return None;
        }
        if here.is_empty() {
            return of_its_group(&known, api_version, kind);
        }
        let nearest = nearest(kind, &here);
        known
            .into_iter()
            .find(|known| nearest.map_or(known.1 == kind, |nearest| *known == (api_version, nearest)))
    }

    /// The kind that was probably meant by a name without an `apiVersion`, which has another case or is a plural.
    pub fn meant_by_name(&self, kind: &str) -> Option<&str> {
        let keys = self.sources.iter().flat_map(|source| source.kinds.keys());
        let known: Vec<&str> = keys.filter_map(|key| Some(key.rsplit_once('/')?.1)).collect();
        if known.contains(&kind) {
            return None;
        }
        let singular = kind.strip_suffix('s').unwrap_or(kind);
        known.into_iter().find(|known| [kind, singular].iter().any(|name| known.eq_ignore_ascii_case(name)))
    }

    /// The type of the objects of a kind; `any` if there is no schema of it.
    pub fn of(&self, api_version: &str, kind: &str) -> Type {
        let wanted = format!("{api_version}/{kind}");
        let found = self.sources.iter().find_map(|source| Some((source, source.kinds.get(&wanted)?)));
        found.map_or(Type::Any, |(source, name)| {
            let fields = Fields::Defined(Arc::clone(source));
            Type::Object(ObjectType { name: name.as_str().into(), kind: Some(kind.into()), fields })
        })
    }
}

/// The same of a version of which no kind is known. In Kubernetes' own groups it has none of those that are known of another;
/// what other groups have, nobody knows.
fn of_its_group<'a>(
    known: &[(&'a str, &'a str)],
    api_version: &str,
    kind: &str,
) -> Option<(&'a str, &'a str)> {
    let group = group_of(api_version);
    let mut own = BUILT_IN.kinds.keys().filter_map(|key| key.rsplit_once('/'));
    if !own.any(|(version, _)| group_of(version) == group) {
        return None;
    }
    let siblings: Vec<_> = known.iter().copied().filter(|known| group_of(known.0) == group).collect();
    let meant = nearest(kind, &siblings.iter().map(|known| known.1).collect())?;
    siblings.into_iter().find(|known| known.1 == meant)
}

fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// The kind that differs in little from a word, or else the only one that begins so: `Deploy`.
fn nearest<'a>(word: &str, kinds: &BTreeSet<&'a str>) -> Option<&'a str> {
    let begins = |kind: &&str| kind.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    let begun = || {
        let mut found = kinds.iter().copied().filter(begins);
        found.next().filter(|_| word.len() > 2 && found.next().is_none())
    };
    closest(word, kinds.iter().copied()).or_else(begun)
}

/// An object whose fields are known, or at least its kind.
#[derive(Clone)]
pub struct ObjectType {
    name: Arc<str>,
    /// For a Kubernetes object.
    kind: Option<Arc<str>>,
    fields: Fields,
}

#[derive(Clone)]
enum Fields {
    Unknown,
    /// Nor is the kind: it is whatever owns an object of this one, or that object where nothing does.
    Owner(Arc<str>),
    Given(Arc<BTreeMap<String, Type>>),
    Defined(Arc<Definitions>),
}

/// What is known of one field.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Field {
    /// It may be there, and is of this type.
    Of(Type),
    /// There is none of that name.
    Missing,
}

impl ObjectType {
    /// Any object of a kind.
    pub fn of_kind(kind: &str) -> Self {
        Self { name: kind.into(), kind: Some(kind.into()), fields: Fields::Unknown }
    }

    /// What owns an object of a kind: of any kind, and where nothing owns it, the object itself.
    pub fn owner_of(kind: &str) -> Self {
        Self { name: "workload".into(), kind: None, fields: Fields::Owner(kind.into()) }
    }

    /// An object with exactly these fields.
    pub fn given(name: &str, fields: impl IntoIterator<Item = (String, Type)>) -> Self {
        Self { name: name.into(), kind: None, fields: Fields::Given(Arc::new(fields.into_iter().collect())) }
    }

    /// The kind, if it is a whole object of Kubernetes.
    pub fn kind(&self) -> Option<&str> {
        self.kind.as_deref()
    }

    /// Whether elsewhere it may have other fields: it is of a kind, which a cluster has in its own version.
    pub(super) fn has_versions(&self) -> bool {
        !matches!(self.fields, Fields::Given(_))
    }

    /// Whether no more is known of it than its kind.
    pub(super) fn is_only_named(&self) -> bool {
        self.kind.is_some() && matches!(self.fields, Fields::Unknown)
    }

    /// The kind of the object that it owns, or is where nothing owns that.
    pub(super) fn owned(&self) -> Option<&str> {
        match &self.fields {
            Fields::Owner(kind) => Some(kind),
            _ => None,
        }
    }

    /// Whether it is the definition of this name, such as `JobStatus:batch.v1`.
    pub(super) fn is(&self, definition: &str) -> bool {
        &*self.name == definition
    }

    /// Whether an object can be both.
    pub(super) fn may_be(&self, other: &Self) -> bool {
        if self.owned().or(other.owned()).is_some() {
            return true;
        }
        match (&self.kind, &other.kind) {
            (Some(one), Some(other)) => one == other,
            (None, None) => true,
            // Part of an object is no whole one.
            _ => false,
        }
    }

    pub(super) fn field(&self, name: &str) -> Field {
        let (definition, source) = match &self.fields {
            Fields::Unknown | Fields::Owner(_) => return Field::Of(Type::Any),
            Fields::Given(fields) => return fields.get(name).cloned().map_or(Field::Missing, Field::Of),
            Fields::Defined(source) => (source.objects.get(&*self.name), source),
        };
        let Some(definition) = definition else { return Field::Of(Type::Any) };
        let mut fields = definition.split(' ');
        match fields.find_map(|field| field.split_once(':').filter(|(known, _)| *known == name)) {
            Some((_, text)) => {
                Field::Of(Type::parse(text, &|name| resolve(source, name)).unwrap_or(Type::Any))
            }
            None if definition.ends_with("...") => Field::Of(Type::Any),
            None => Field::Missing,
        }
    }

    /// The names of its fields.
    pub(super) fn names(&self) -> Vec<String> {
        match &self.fields {
            Fields::Unknown | Fields::Owner(_) => Vec::new(),
            Fields::Given(fields) => fields.keys().cloned().collect(),
            Fields::Defined(source) => {
                let fields = source.objects.get(&*self.name).map_or("", String::as_str).split(' ');
                fields.filter_map(|field| field.split_once(':')).map(|(name, _)| name.to_owned()).collect()
            }
        }
    }
}

/// A definition that another one names: what all objects have in common is not repeated for custom kinds.
fn resolve(source: &Arc<Definitions>, name: &str) -> ObjectType {
    let source = if source.objects.contains_key(name) { source } else { &*BUILT_IN };
    ObjectType { name: name.into(), kind: None, fields: Fields::Defined(Arc::clone(source)) }
}

impl PartialEq for ObjectType {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.kind) == (&other.name, &other.kind)
    }
}

impl Eq for ObjectType {}

/// Its name as people know it, without group and version: `ContainerStatus`, `Certificate.spec.issuerRef`.
impl fmt::Display for ObjectType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_deref().unwrap_or_else(|| self.name.split(':').next().unwrap_or_default()))
    }
}

impl fmt::Debug for ObjectType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectType({self})")
    }
}

/// The lines of a snapshot for the kinds of some OpenAPI v3 documents.
pub fn snapshot(documents: &[Value]) -> String {
    let mut lines: Vec<String> = documents.iter().flat_map(open_api::of_document).collect();
    lines.sort();
    lines.dedup();
    lines.join("\n") + "\n"
}
