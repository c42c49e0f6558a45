//! Which kinds of objects a function takes, beyond what its declaration says: some have not what it looks at, and what
//! owns an object hardly takes its place.

use super::super::functions::{Signature, WITHOUT_READY};
use super::super::schema::ObjectType;
use super::Type;

/// The function that takes what has a condition `Ready`, which a declaration has no word for.
const NOT_READY_FOR: &str = "notReadyFor";

/// A function that gets what owns an object in place of the object.
pub(super) struct Owner<'a> {
    /// What it takes.
    pub(super) wanted: String,
    /// The kind of the object that is owned.
    pub(super) owned: &'a str,
    /// The field that says which kind it is of, if it is asked.
    pub(super) kind_of: (String, String),
}

/// The field by which an expression asks of which kind an object is.
const KIND: &str = "kind";

/// Whether a field says of which kind an object is, of which no more is known than that, or not even that.
pub(super) fn is_told_by(object: &ObjectType, field: &str) -> bool {
    field == KIND && (object.owned().is_some() || object.is_only_named())
}

/// The field that says of which kind something is, if no more than the kind is known of it. One text may be meant for objects
/// of several kinds.
pub(super) fn told_by(of: &Type) -> Option<(String, String)> {
    let Type::Object(object) = of else { return None };
    object.is_only_named().then(|| (object.to_string(), KIND.to_owned()))
}

/// Why a function never takes what it gets, though its declaration lets it.
pub(super) fn refusal(signature: &Signature, arguments: &[Type]) -> Option<String> {
    let Some(Type::Object(object)) = arguments.first().filter(|_| signature.name == NOT_READY_FOR) else {
        return None;
    };
    let kind = object.kind().filter(|kind| WITHOUT_READY.contains(kind))?;
    let has_not = format!("{NOT_READY_FOR} does not take {kind}, which has no condition Ready");
    Some(format!("{has_not}; condition() reads those that it has"))
}

/// That a function takes objects of one kind and gets what owns an object, which may be of any, and hardly is of that.
pub(super) fn owner<'a>(signature: &Signature, arguments: &'a [Type]) -> Option<Owner<'a>> {
    let Some(Type::Object(object)) = arguments.first() else { return None };
    let [declared] = signature.declarations.as_slice() else { return None };
    let owned = object.owned()?;
    let wanted = match declared.arguments.first() {
        Some(Type::Object(kind)) => format!("a {kind}"),
        _ if signature.name == NOT_READY_FOR && owned == "Pod" => "what has a condition Ready".to_owned(),
        _ => return None,
    };
    Some(Owner { wanted, owned, kind_of: (object.to_string(), KIND.to_owned()) })
}
