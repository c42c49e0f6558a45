//! Webhooks: whether each can be used, as its status says it. Requests are another matter ([`super::receiver`]).

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;

use super::context::Context;
use super::queue::Requeue;
use super::rights;
use super::strange::not_known;
use crate::api::{
    ANNOTATION, ConditionStatus as S, ConditionType as T, Progress, Reason as R, Webhook, WebhookStatus,
    condition, set_condition, set_progress,
};
use crate::cluster::account::Account;
use crate::cluster::{Error, Result, secrets, status};
use crate::decide::check;
use crate::decide::problem::Severity;
use crate::source::watch::now;

/// How often one is looked at although nothing changed: its Secret may be gone.
const RESYNC: Duration = Duration::from_mins(5);
/// How often one is looked at that lacks something: somebody is about to mend it.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What a Webhook says that nobody can reach.
const DEAF: &str =
    "nobody listens: the controller runs without --webhook-address (in the chart receiver.enabled=true)";

/// Why a Webhook cannot be used: the reason, and the text.
type Problem = (R, String);

/// Where a Webhook is served.
pub fn path(namespace: &str, name: &str) -> String {
    format!("/hooks/{namespace}/{name}")
}

/// The secret of a Webhook, read as its account.
pub async fn secret(home: &kube::Client, webhook: &Webhook) -> Result<String> {
    let namespace = webhook.namespace().unwrap_or_default();
    let Some(reference) = webhook.spec.secret() else {
        return Err(Error::Unexpected("the Webhook has no single authentication".to_owned()));
    };
    let account = Account::read(home, &namespace, &webhook.spec.service_account_name).await?;
    let texts = secrets::read(&account.client(), &namespace, &reference.name).await?;
    let text = texts.get(&reference.key).map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
    text.filter(|text| !text.is_empty()).ok_or_else(|| {
        Error::Unexpected(format!(
            "Secret {namespace}/{} has no text under {:?}",
            reference.name, reference.key
        ))
    })
}

/// Reconciles one Webhook.
pub async fn reconcile(context: &Context, namespace: &str, name: &str) -> Result<Requeue> {
    let Some(webhook) = context.webhooks.get(namespace, name) else { return Ok(Requeue::OnChange) };
    let problems = match mistake(&webhook, context.webhooks.unknown_field(namespace, name)) {
        Some(mistake) => [Some(mistake), None, None],
        None => match secret(&context.home, &webhook).await {
            Ok(_) => [None, None, None],
            Err(error) if error.is_forbidden() => {
                let account = (namespace, &*webhook.spec.service_account_name);
                [None, None, Some((R::MissingPermissions, rights::refused(&error.to_string(), account)))]
            }
            Err(error) if error.is_lasting() => [None, Some((R::ReferenceNotFound, error.to_string())), None],
            Err(error) => return Err(error),
        },
    };
    let is_ready = problems.iter().all(Option::is_none);
    let newest = context.webhooks.get(namespace, name).unwrap_or(webhook);
    write(context, &newest, problems).await?;
    Ok(Requeue::After(if is_ready { RESYNC } else { LOOK_AGAIN }))
}

/// What keeps a Webhook from being used, by its text alone. A field that is not known may be what was to keep somebody out.
fn mistake(webhook: &Webhook, unknown: Option<String>) -> Option<Problem> {
    if let Some(field) = unknown {
        return Some((R::UnsupportedValue, not_known(&field)));
    }
    let mistakes: Vec<_> = check::webhook(&webhook.spec)
        .into_iter()
        .filter(|problem| problem.severity == Severity::Error)
        .map(|problem| problem.to_string())
        .collect();
    (!mistakes.is_empty()).then(|| (R::InvalidExpression, mistakes.join("; ")))
}

async fn write(context: &Context, webhook: &Arc<Webhook>, problems: [Option<Problem>; 3]) -> Result<()> {
    let mut fresh: WebhookStatus = webhook.status.clone().unwrap_or_default();
    let generation = webhook.metadata.generation;
    let verdict = |problem: Option<Problem>, good: R, text: &str| match problem {
        Some((reason, problem)) => (S::False, reason, problem),
        None => (S::True, good, text.to_owned()),
    };
    let [accepted, resolved, authorized] = problems;
    let accepted = verdict(accepted, R::Accepted, "the text is valid");
    let resolved = verdict(resolved, R::ResolvedRefs, "its Secret has the key");
    let authorized = verdict(authorized, R::Authorized, "its account may read the Secret");
    let path = path(&webhook.namespace().unwrap_or_default(), &webhook.name_any());
    let ready =
        [&accepted, &resolved, &authorized].into_iter().find(|(status, ..)| *status == S::False).cloned();
    let ready = ready.unwrap_or_else(|| match context.receives {
        true => (S::True, R::Active, format!("receiving at {path}")),
        false => (S::False, R::SourceUnavailable, DEAF.to_owned()),
    });
    let progress = if ready.0 == S::True { Progress::Settled } else { Progress::Stalled };
    set_progress(&mut fresh.conditions, (progress, ready.1), &ready.2, generation, now());
    for (of, (status, reason, message)) in
        [(T::Ready, ready), (T::Accepted, accepted), (T::ResolvedRefs, resolved), (T::Authorized, authorized)]
    {
        set_condition(&mut fresh.conditions, (of, status, reason), message, generation, now());
    }
    fresh.observed_generation = generation;
    fresh.format = webhook.spec.format().map(|format| format.as_str().to_owned());
    fresh.path = Some(path);
    if let Some(written) = status::write(&context.home, &**webhook, webhook.status.as_ref(), &fresh).await? {
        context.webhooks.insert(Arc::new(written));
    }
    Ok(())
}

/// What the metrics say of a Webhook: its namespace and name, whether it is Ready, and the revision that it came from.
pub fn info(webhook: &Webhook) -> [String; 4] {
    let conditions = webhook.status.as_ref().map_or(&[][..], |status| status.conditions.as_slice());
    let ready = condition(conditions, T::Ready).map_or("Unknown", |ready| ready.status.as_str());
    let revision = webhook.annotations().get(ANNOTATION.revision).cloned().unwrap_or_default();
    [webhook.namespace().unwrap_or_default(), webhook.name_any(), ready.to_owned(), revision]
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::api::WebhookSpec;

    #[test]
    fn the_metrics_say_whether_a_webhook_receives() {
        let mut webhook = Webhook::new("alerts", WebhookSpec::default());
        webhook.metadata.namespace = Some("web".to_owned());
        assert_eq!(info(&webhook), ["web", "alerts", "Unknown", ""]);
        webhook.annotations_mut().insert(ANNOTATION.revision.to_owned(), "main@sha1:1".to_owned());
        let mut status = WebhookStatus::default();
        for (state, reason) in [(S::True, R::Active), (S::False, R::SourceUnavailable)] {
            let ready = (T::Ready, state, reason);
            set_condition(&mut status.conditions, ready, DEAF, None, Timestamp::UNIX_EPOCH);
            webhook.status = Some(status.clone());
            assert_eq!(info(&webhook), ["web", "alerts", state.as_str(), "main@sha1:1"]);
        }
    }
}
