//! Whether something speaks against acting, by what the API server says of the target now.

use super::Case;
use crate::api::{CapturedEvent, ObjectReference};
use crate::cluster::Result;
use crate::cluster::objects::Objects;
use crate::controller::context::Context;
use crate::decide::capture::with_captured;
use crate::decide::unless::Objection;
use crate::expr::Bindings;

/// The first objection of the rule that is raised; `bindings` are the trigger's, to which what came together is added.
pub async fn raised(
    context: &Context,
    case: Case<'_>,
    (bindings, captured): (Bindings, &[CapturedEvent]),
    target: &ObjectReference,
) -> Result<Option<Objection>> {
    let unless = &case.compiled.unless;
    if unless.is_empty() {
        return Ok(None);
    }
    let mut bindings = with_captured(bindings, captured);
    if unless.reads("target") && !target.is_key() {
        let objects = Objects::around(case.account.client(), &context.kinds, target).await?;
        // What there is not stays unset, and what reads it is not raised.
        if let Some(live) = objects.get(&target.name).await? {
            bindings = bindings.with("target", live);
        }
    }
    Ok(unless.raised(&bindings, captured))
}
