//! `condition(object, type)`: the status of one of an object's conditions.

use super::object::{Arguments, View};
use cel::common::types::{CelString, DYN_TYPE};
use cel::common::value::CowVal;
use cel::{DeclarationError, Env};

pub(super) fn register(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload("condition", "condition", vec![DYN_TYPE, DYN_TYPE], |args| {
        let args = Arguments::of("condition", &args);
        let status = find(args.object(0)?, args.text(1)?).and_then(|found| found.field("status"));
        let status = status.and_then(View::text).unwrap_or_default().to_owned();
        Ok(CowVal::owned(CelString::from(status)))
    })
}

/// The condition of that type in the object's status.
pub(super) fn find<'a>(object: View<'a>, kind: &str) -> Option<View<'a>> {
    let conditions = object.at(&["status", "conditions"])?;
    conditions.items().find(|condition| condition.field("type").and_then(View::text) == Some(kind))
}
