//! What a sync came to, and how the Pack's status says it, and the metrics.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::reason_of;
use crate::api::{
    ANNOTATION, ConditionStatus, ConditionType, InventoryEntry, Origin, Pack, PackStatus, Progress, Reason,
    condition, set_condition, set_progress,
};
use crate::decide::pack::finding::Finding;
use crate::decide::problem::Severity;
use crate::git::{self, Consequence};

/// The longest message of a condition that still helps.
pub const MESSAGE_LIMIT: usize = 2048;

/// What is kept of the value that asked for a sync: whoever asks may write anything.
const ASKED_LIMIT: usize = 1024;

/// What a sync came to.
#[derive(Debug)]
pub struct Report {
    ready: (ConditionStatus, Reason),
    message: String,
    attempted: Option<String>,
    applied: Option<(String, Vec<InventoryEntry>)>,
    authorized: Option<bool>,
    /// Whether nothing was written, so that what was in force is.
    untouched: bool,
    /// Whether it may work in a moment.
    pub again_soon: bool,
}

impl Report {
    /// The revision is in force.
    pub fn synced(
        (revision, signer): (&str, Option<&str>),
        (objects, inventory): (usize, Vec<InventoryEntry>),
        warnings: Vec<String>,
    ) -> Self {
        let by_whom = signer.map(|signer| format!(", signed by {signer}")).unwrap_or_default();
        let mut message = format!("{objects} objects of {revision} are in force{by_whom}");
        for warning in warnings {
            message.push_str("\nwarning: ");
            message.push_str(&warning);
        }
        Self {
            ready: (ConditionStatus::True, Reason::Synced),
            message,
            attempted: Some(revision.to_owned()),
            applied: Some((revision.to_owned(), inventory)),
            authorized: Some(true),
            untouched: false,
            again_soon: false,
        }
    }

    /// Something failed; what was applied last stays in force.
    pub fn failed(pack: &Pack, reason: Reason, message: &str) -> Self {
        Self::without(pack, reason, message, "serving")
    }

    /// There is a revision, and it is not let in.
    pub fn kept_back(pack: &Pack, reason: Reason, revision: &str, message: &str) -> Self {
        Self { attempted: Some(revision.to_owned()), ..Self::without(pack, reason, message, "keeping") }
    }

    fn without(pack: &Pack, reason: Reason, message: &str, verb: &str) -> Self {
        Self {
            ready: (ConditionStatus::False, reason),
            message: format!("{message}; {}", in_force(pack, verb)),
            attempted: None,
            applied: None,
            authorized: None,
            untouched: false,
            again_soon: false,
        }
    }

    /// It may work in a moment.
    pub fn again_soon(self) -> Self {
        Self { again_soon: true, ..self }
    }

    /// The repository could not be read.
    pub fn not_fetched(pack: &Pack, error: &git::Error) -> Self {
        let verb = if matches!(error, git::Error::SignatureInvalid { .. }) { "keeping" } else { "serving" };
        let report = Self::without(pack, reason_of(error), &error.to_string(), verb);
        Self { again_soon: error.consequence() == Consequence::Retry, ..report }
    }

    /// A right is missing.
    pub fn forbidden(message: &str) -> Self {
        Self {
            ready: (ConditionStatus::False, Reason::Forbidden),
            message: message.to_owned(),
            attempted: None,
            applied: None,
            authorized: Some(false),
            untouched: false,
            again_soon: false,
        }
    }

    /// The API server refused objects of the revision, before anything of it was written.
    pub fn not_applied(pack: &Pack, revision: &str, message: &str) -> Self {
        let report = Self::taken(pack, revision, message);
        Self { untouched: true, again_soon: true, ..report }
    }

    /// Some of the revision was written, and some not: `pack` says which it is.
    pub fn stopped(pack: &Pack, revision: &str, message: &str) -> Self {
        Self { again_soon: true, ..Self::taken(pack, revision, message) }
    }

    /// What was refused was refused for a right.
    pub fn unauthorized(self) -> Self {
        let ready = (ConditionStatus::False, Reason::Forbidden);
        Self { ready, authorized: Some(false), again_soon: false, ..self }
    }

    /// The revision has mistakes.
    pub fn invalid(pack: &Pack, revision: &str, findings: &[Finding]) -> Self {
        let errors: Vec<_> = findings.iter().filter(|f| f.problem.severity == Severity::Error).collect();
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        let plural = if errors.len() == 1 { "" } else { "s" };
        let summary = format!("{revision} has {} mistake{plural}", errors.len());
        let report = Self::failed(pack, Reason::InvalidRevision, &summary);
        Self {
            message: format!("{}:\n{}", report.message, lines.join("\n")),
            attempted: Some(revision.to_owned()),
            ..report
        }
    }

    /// The revision deletes too much.
    pub fn held(pack: &Pack, revision: &str, message: &str) -> Self {
        Self { attempted: Some(revision.to_owned()), ..Self::failed(pack, Reason::PruneHeld, message) }
    }

    /// Names are taken by somebody else.
    pub fn taken(pack: &Pack, revision: &str, message: &str) -> Self {
        Self { attempted: Some(revision.to_owned()), ..Self::failed(pack, Reason::ApplyFailed, message) }
    }

    /// The Pack rests.
    pub fn suspended(pack: &Pack) -> Self {
        let serving = pack.status.as_ref().and_then(|s| s.applied_revision.as_ref());
        let serves = if serving.is_some() { ConditionStatus::True } else { ConditionStatus::False };
        let message = "spec.suspend is true: nothing is fetched, whoever asks";
        Self { ready: (serves, Reason::Suspended), ..Self::failed(pack, Reason::Suspended, message) }
    }

    /// Puts it into the status.
    pub fn write(&self, status: &mut PackStatus, pack: &Pack, now: Timestamp) {
        let generation = pack.metadata.generation;
        let message: String = self.message.chars().take(MESSAGE_LIMIT).collect();
        let (state, reason) = self.ready;
        set_condition(
            &mut status.conditions,
            (ConditionType::Ready, state, reason),
            &message,
            generation,
            now,
        );
        set_progress(&mut status.conditions, self.progress(), &message, generation, now);
        match self.authorized {
            Some(true) => {
                let granted = (ConditionType::Authorized, ConditionStatus::True, Reason::Authorized);
                set_condition(
                    &mut status.conditions,
                    granted,
                    "the account may sync the Pack",
                    generation,
                    now,
                );
            }
            Some(false) => {
                let denied = (ConditionType::Authorized, ConditionStatus::False, Reason::MissingPermissions);
                set_condition(&mut status.conditions, denied, &message, generation, now);
            }
            None => {}
        }
        if let Some((revision, inventory)) = &self.applied {
            if status.applied_revision.as_ref() != Some(revision) {
                status.applied_at = Some(Time(now));
            }
            status.applied_revision = Some(revision.clone());
            status.applying_revision = None;
            status.applied_from =
                Some(Origin { url: pack.spec.url.clone(), reference: pack.spec.reference.clone() });
            status.inventory.clone_from(inventory);
        }
        if self.untouched {
            status.applying_revision =
                pack.status.as_ref().and_then(|status| status.applying_revision.clone());
        }
        if self.attempted.is_some() {
            status.attempted_revision.clone_from(&self.attempted);
        }
        status.observed_generation = generation;
        let asked = pack.annotations().get(ANNOTATION.reconcile_requested_at);
        status.last_handled_reconcile_at = asked.map(|asked| asked.chars().take(ASKED_LIMIT).collect());
    }

    fn progress(&self) -> (Progress, Reason) {
        let (state, reason) = self.ready;
        if state == ConditionStatus::True || reason == Reason::Suspended {
            (Progress::Settled, reason)
        } else if self.again_soon {
            (Progress::Reconciling, reason)
        } else {
            (Progress::Stalled, reason)
        }
    }
}

/// What is in force while something fails, and since when. (A point in time rather than an age: a message that grows
/// older would be a write at each attempt.)
fn in_force(pack: &Pack, verb: &str) -> String {
    let status = pack.status.as_ref();
    let applied =
        status.and_then(|status| Some((status.applied_revision.as_ref()?, status.applied_at.as_ref()?)));
    let applied = applied
        .map(|(revision, at)| format!("{revision}, applied at {}", at.0.strftime("%Y-%m-%dT%H:%M:%SZ")));
    match (status.and_then(|status| status.applying_revision.as_ref()), applied) {
        (None, None) => "nothing is in force yet".to_owned(),
        (None, Some(applied)) => format!("{verb} {applied}"),
        (Some(applying), None) => format!("{applying} is in force in part"),
        (Some(applying), Some(applied)) => {
            format!("{applying} is in force in part; the last in force as a whole was {applied}")
        }
    }
}

/// What the metrics say of a Pack: its namespace and name, whether it is Ready, what it has applied, and whether it rests.
pub fn info(pack: &Pack) -> [String; 5] {
    let status = pack.status.as_ref();
    let conditions = status.map_or(&[][..], |status| status.conditions.as_slice());
    let ready = condition(conditions, ConditionType::Ready).map_or("Unknown", |ready| ready.status.as_str());
    let revision = status.and_then(|status| status.applied_revision.clone()).unwrap_or_default();
    let suspended = pack.spec.suspend.to_string();
    [pack.namespace().unwrap_or_default(), pack.name_any(), ready.to_owned(), revision, suspended]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::PackSpec;

    fn pack() -> Pack {
        let mut pack = Pack::new("site", PackSpec::default());
        pack.metadata.namespace = Some("web".to_owned());
        pack
    }

    /// A Pack after what a sync of it came to.
    fn after(mut pack: Pack, report: &Report) -> Pack {
        let mut status = pack.status.clone().unwrap_or_default();
        report.write(&mut status, &pack, Timestamp::UNIX_EPOCH);
        pack.status = Some(status);
        pack
    }

    #[test]
    fn the_metrics_say_that_a_sync_fails_and_what_is_in_force_meanwhile() {
        let pack = pack();
        assert_eq!(info(&pack), ["web", "site", "Unknown", "", "false"]);
        let pack = after(pack, &Report::synced(("main@sha1:1", None), (0, Vec::new()), Vec::new()));
        assert_eq!(info(&pack), ["web", "site", "True", "main@sha1:1", "false"]);
        let failed = Report::failed(&pack, Reason::FetchFailed, "no route to host");
        assert_eq!(info(&after(pack, &failed)), ["web", "site", "False", "main@sha1:1", "false"]);
    }

    #[test]
    fn the_metrics_tell_a_pack_that_rests_from_one_that_fails() {
        let mut pack = pack();
        pack.spec.suspend = true;
        let suspended = Report::suspended(&pack);
        assert_eq!(info(&after(pack, &suspended)), ["web", "site", "False", "", "true"]);
    }
}
