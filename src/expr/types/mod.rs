//! The types that a check before any evaluation knows of: those of CEL, those of Kubernetes'
//! libraries, and objects whose fields a schema names.
//!
//! A type says what a value may be, and a check complains only of what no value could be: `any`
//! goes with everything, and of several possibilities one is enough. So an expression that runs is
//! never refused: of a field that it asks for before it reads it, of a zero that is not written, and of
//! a workload that is hardly the Pod which a function takes there is only a doubt.

mod declaration;
mod infer;
mod kinds;
mod operator;
mod zero;

pub(super) use declaration::Declaration;
pub(super) use infer::{Inferred, infer};

use super::schema::ObjectType;
use std::fmt;
use std::sync::Arc;

/// What a value may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// Anything: nothing is known of it.
    Any,
    /// Null.
    Null,
    /// True or false.
    Bool,
    /// A whole number.
    Int,
    /// A whole number that is not negative.
    Uint,
    /// A number with a fraction.
    Double,
    /// Text.
    String,
    /// Bytes.
    Bytes,
    /// A length of time.
    Duration,
    /// A moment.
    Timestamp,
    /// A type itself.
    Type,
    /// A value of one of Kubernetes' libraries: `quantity`, `semver`, `url`, `ip`, `cidr`.
    Library(&'static str),
    /// A list of such items.
    List(Arc<Type>),
    /// A map with such keys and values.
    Map(Arc<Type>, Arc<Type>),
    /// A value that may be missing.
    Optional(Arc<Type>),
    /// A map whose fields are known.
    Object(ObjectType),
    /// One of several; none of them is the type of what an empty list holds.
    OneOf(Vec<Type>),
    /// In a declaration: any type, the same for the same letter.
    Letter(char),
}

impl Type {
    /// The type without any value.
    pub(super) const NEVER: Type = Type::OneOf(Vec::new());

    /// A list.
    pub fn list(items: Type) -> Self {
        Type::List(Arc::new(items))
    }

    /// A map.
    pub fn map(keys: Type, values: Type) -> Self {
        Type::Map(Arc::new(keys), Arc::new(values))
    }

    pub(super) fn optional(value: Type) -> Self {
        match value {
            Type::Optional(_) => value,
            value => Type::Optional(Arc::new(value)),
        }
    }

    /// What is either of two types.
    pub(super) fn or(&self, other: &Type) -> Type {
        match (self, other) {
            (Type::Any, _) | (_, Type::Any) => Type::Any,
            (Type::List(a), Type::List(b)) => Type::list(a.or(b)),
            (Type::Map(ka, va), Type::Map(kb, vb)) => Type::map(ka.or(kb), va.or(vb)),
            (Type::Optional(a), Type::Optional(b)) => Type::optional(a.or(b)),
            (a, b) if a == b => a.clone(),
            (a, b) => {
                let mut all = a.members().to_vec();
                all.extend(b.members().iter().filter(|member| !a.members().contains(member)).cloned());
                match all.as_slice() {
                    [only] => only.clone(),
                    _ => Type::OneOf(all),
                }
            }
        }
    }

    /// The possibilities.
    pub(super) fn members(&self) -> &[Type] {
        match self {
            Type::OneOf(members) => members,
            only => std::slice::from_ref(only),
        }
    }

    /// Whether some value of it is one of `wanted`.
    pub(super) fn fits(&self, wanted: &Type) -> bool {
        self.fits_with(wanted, &mut Letters::default())
    }

    fn fits_with(&self, wanted: &Type, letters: &mut Letters) -> bool {
        match (self, wanted) {
            (one, Type::Letter(letter)) => letters.take(*letter, one),
            (Type::Any, _) | (_, Type::Any) | (Type::Map(..), Type::Object(_)) => true,
            (Type::OneOf(members), _) => {
                members.is_empty() || members.iter().any(|member| member.fits_with(wanted, letters))
            }
            (_, Type::OneOf(members)) => members.iter().any(|member| self.fits_with(member, letters)),
            (Type::List(one), Type::List(other)) | (Type::Optional(one), Type::Optional(other)) => {
                one.fits_with(other, letters)
            }
            (Type::Map(key, value), Type::Map(keys, values)) => {
                key.fits_with(keys, letters) && value.fits_with(values, letters)
            }
            (Type::Object(_), Type::Map(keys, values)) => {
                Type::String.fits_with(keys, letters) && Type::Any.fits_with(values, letters)
            }
            (Type::Object(one), Type::Object(other)) => one.may_be(other),
            (one, other) => one == other,
        }
    }

    /// Whether some value of it can equal one of `other`. Null can stand for every field of an object.
    pub(super) fn may_equal(&self, other: &Type) -> bool {
        match (self, other) {
            (Type::Any | Type::Null | Type::Letter(_), _)
            | (_, Type::Any | Type::Null | Type::Letter(_))
            | (Type::Map(..) | Type::Object(_), Type::Map(..) | Type::Object(_)) => true,
            (Type::OneOf(members), _) => {
                members.is_empty() || members.iter().any(|member| member.may_equal(other))
            }
            (_, Type::OneOf(_)) => other.may_equal(self),
            (Type::List(one), Type::List(other)) | (Type::Optional(one), Type::Optional(other)) => {
                one.may_equal(other)
            }
            (one, other) if one.is_number() => other.is_number(),
            (one, other) => one == other,
        }
    }

    fn has_letter(&self) -> bool {
        match self {
            Type::Letter(_) => true,
            Type::List(inner) | Type::Optional(inner) => inner.has_letter(),
            Type::Map(keys, values) => keys.has_letter() || values.has_letter(),
            _ => false,
        }
    }

    fn is_number(&self) -> bool {
        matches!(self, Type::Int | Type::Uint | Type::Double)
    }

    /// What a loop over it goes over: its keys or positions, and its values; none for what has none.
    fn elements(&self) -> Option<(Type, Type)> {
        match self {
            Type::Any => Some((Type::Any, Type::Any)),
            Type::OneOf(members) if members.is_empty() => Some((Type::Any, Type::Any)),
            Type::List(items) => Some((Type::Int, (**items).clone())),
            Type::Map(keys, values) => Some(((**keys).clone(), (**values).clone())),
            Type::Object(_) => Some((Type::String, Type::Any)),
            Type::OneOf(members) => {
                members.iter().filter_map(Type::elements).reduce(|a, b| (a.0.or(&b.0), a.1.or(&b.1)))
            }
            _ => None,
        }
    }
}

/// What the letters of a declaration stand for in one call.
#[derive(Debug, Default)]
pub(super) struct Letters(std::collections::BTreeMap<char, Type>);

impl Letters {
    /// Takes a type for a letter; false if it stands for another already.
    fn take(&mut self, letter: char, one: &Type) -> bool {
        match self.0.get_mut(&letter) {
            Some(known) if !known.may_equal(one) => false,
            Some(known) => {
                *known = known.or(one);
                true
            }
            None => {
                self.0.insert(letter, one.clone());
                true
            }
        }
    }

    /// A type with its letters replaced.
    fn fill(&self, declared: &Type) -> Type {
        match declared {
            Type::Letter(letter) => self.0.get(letter).cloned().unwrap_or(Type::Any),
            Type::List(items) => Type::list(self.fill(items)),
            Type::Optional(value) => Type::optional(self.fill(value)),
            Type::Map(keys, values) => Type::map(self.fill(keys), self.fill(values)),
            plain => plain.clone(),
        }
    }
}

/// As a message says it.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::Any | Type::Letter(_) => "any",
            Type::Null => "null",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Duration => "duration",
            Type::Timestamp => "timestamp",
            Type::Type => "type",
            Type::Library(name) => name,
            Type::List(_) => "list",
            Type::Map(..) => "map",
            Type::Optional(_) => "optional",
            Type::Object(object) => return write!(f, "{object}"),
            Type::OneOf(members) if members.len() == 3 && members.iter().all(Type::is_number) => "number",
            Type::OneOf(members) => {
                let names: Vec<String> = members.iter().map(ToString::to_string).collect();
                return f.write_str(&names.join(" or "));
            }
        })
    }
}
