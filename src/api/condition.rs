//! Conditions: the only vocabulary in which a status speaks. Reasons double as Kubernetes Event reasons' root and
//! metric labels, so the set is closed and documented here.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The condition type of Kubernetes itself.
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// The types of condition that fother sets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConditionType {
    /// The object does what it is there for (Pack, Rule, Action, Webhook).
    Ready,
    /// The object's own text is valid (Rule, Action, Webhook).
    Accepted,
    /// Everything the object names exists (Rule, Webhook).
    ResolvedRefs,
    /// The `ServiceAccount` has the rights that the object needs (Pack, Rule, Webhook).
    Authorized,
    /// Work on the newest generation goes on; present only while true.
    Reconciling,
    /// Work cannot go on without a person; present only while true.
    Stalled,
    /// The remedy was proven by observation of the target (Execution).
    Verified,
    /// How the Execution ended; Unknown while it runs.
    Succeeded,
    /// True at any end of an Execution.
    Finished,
}

impl ConditionType {
    /// The type as it stands in the object.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Accepted => "Accepted",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::Authorized => "Authorized",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::Verified => "Verified",
            Self::Succeeded => "Succeeded",
            Self::Finished => "Finished",
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Why a condition has its status: a closed set.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        pub enum Reason { $($(#[doc = $doc])+ $name,)+ }

        impl Reason {
            /// All reasons, for documentation and its test.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The reason as it stands in the object.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }
        }
    };
}

reasons! {
    /// The object is in use.
    Active,
    /// The object's text is valid.
    Accepted,
    /// Work on it goes on.
    Progressing,
    /// An expression or template does not compile, or exceeded a limit.
    InvalidExpression,
    /// A value is not supported.
    UnsupportedValue,
    /// All references lead somewhere.
    ResolvedRefs,
    /// The Rule names an Action that does not exist.
    ActionNotFound,
    /// The Rule names a Webhook that does not exist.
    WebhookNotFound,
    /// A named object does not exist.
    ReferenceNotFound,
    /// The `ServiceAccount` has the rights that are needed.
    Authorized,
    /// The `ServiceAccount` lacks a right, is not annotated, or the namespace is not enrolled.
    MissingPermissions,
    /// What is watched cannot be read at the moment, or nobody listens to what a Webhook receives.
    SourceUnavailable,
    /// The revision in git is what the cluster has.
    Synced,
    /// The repository could not be read; the last good revision serves.
    FetchFailed,
    /// The revision's files have mistakes; the last good revision serves.
    InvalidRevision,
    /// The revision deletes more than half of the objects; a person has to agree.
    PruneHeld,
    /// The revision is not signed by somebody who may; the last good revision serves.
    SignatureInvalid,
    /// The revision does not go on from the one in force; a person has to agree.
    HistoryRewritten,
    /// The API server refused an object.
    ApplyFailed,
    /// Right refused while applying.
    Forbidden,
    /// `spec.suspend` is true.
    Suspended,
    /// Nothing has been done yet.
    Pending,
    /// The Rule only observes: this is what it would have done.
    Observed,
    /// The ladder is being climbed.
    Running,
    /// The remedy is being watched.
    Verifying,
    /// The target recovered and stayed so.
    TargetRecovered,
    /// No rung asked for verification.
    NotConfigured,
    /// All rungs were done; none asked for verification.
    Completed,
    /// The Action failed.
    ActionFailed,
    /// The target did not recover in time.
    StillUnhealthy,
    /// A deadline passed.
    DeadlineExceeded,
    /// The Job vanished before its outcome was recorded; it is never repeated.
    Lost,
    /// The ladder is exhausted; the target is left alone until its condition clears or a person acts.
    Quarantined,
    /// A person canceled it.
    Canceled,
    /// Nothing was left to do before anything was done.
    Superseded,
}

/// Status of a condition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be said yet.
    Unknown,
}

impl ConditionStatus {
    /// The status as it stands in the object.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// The condition of `conditions` with the given type.
pub fn condition(conditions: &[Condition], condition_type: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|c| c.type_ == condition_type.as_str())
}

/// What Kubernetes lets a condition say.
pub(super) const LONGEST_MESSAGE: usize = 32 * 1024;

/// Sets one condition. `lastTransitionTime` moves only when the status changes, so that an unchanged world leads to
/// an unchanged object.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    (condition_type, status, reason): (ConditionType, ConditionStatus, Reason),
    message: impl Into<String>,
    generation: Option<i64>,
    now: k8s_openapi::jiff::Timestamp,
) {
    let previous = conditions.iter().position(|c| c.type_ == condition_type.as_str());
    let since = previous
        .map(|i| &conditions[i])
        .filter(|c| c.status == status.as_str())
        .map_or(Time(now), |c| c.last_transition_time.clone());
    let condition = Condition {
        type_: condition_type.as_str().to_owned(),
        status: status.as_str().to_owned(),
        reason: reason.as_str().to_owned(),
        message: message.into().chars().take(LONGEST_MESSAGE).collect(),
        observed_generation: generation,
        last_transition_time: since,
    };
    match previous {
        Some(index) => conditions[index] = condition,
        None => conditions.push(condition),
    }
}

/// How work on an object goes, beside whether it is Ready: what generic tools wait for (kstatus).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// There is nothing to do.
    Settled,
    /// Work goes on, or is tried again without anybody's help.
    Reconciling,
    /// Work cannot go on without a person.
    Stalled,
}

/// Sets `Reconciling` or `Stalled`, or takes both away: each is there only while it is true.
pub fn set_progress(
    conditions: &mut Vec<Condition>,
    (progress, reason): (Progress, Reason),
    message: &str,
    generation: Option<i64>,
    now: k8s_openapi::jiff::Timestamp,
) {
    let holds = match progress {
        Progress::Settled => None,
        Progress::Reconciling => Some(ConditionType::Reconciling),
        Progress::Stalled => Some(ConditionType::Stalled),
    };
    for one in [ConditionType::Reconciling, ConditionType::Stalled] {
        if holds == Some(one) {
            set_condition(conditions, (one, ConditionStatus::True, reason), message, generation, now);
        } else {
            conditions.retain(|condition| condition.type_ != one.as_str());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;

    #[test]
    fn progress_is_there_only_while_it_is_true() {
        let mut conditions = Vec::new();
        let mut after = |progress| {
            let state = (progress, Reason::Progressing);
            set_progress(&mut conditions, state, "x", Some(1), Timestamp::UNIX_EPOCH);
            conditions.iter().map(|c| format!("{} {}", c.type_, c.status)).collect::<Vec<_>>()
        };
        assert_eq!(after(Progress::Reconciling), ["Reconciling True"]);
        assert_eq!(after(Progress::Stalled), ["Stalled True"]);
        assert!(after(Progress::Settled).is_empty());
    }

    #[test]
    fn the_transition_time_moves_with_the_status_only() {
        let (first, second) =
            (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH + k8s_openapi::jiff::SignedDuration::from_secs(9));
        let mut conditions = Vec::new();
        let ready = |status| (ConditionType::Ready, status, Reason::Active);
        set_condition(&mut conditions, ready(ConditionStatus::True), "a", Some(1), first);
        set_condition(&mut conditions, ready(ConditionStatus::True), "b", Some(2), second);
        assert_eq!((conditions[0].last_transition_time.0, conditions[0].message.as_str()), (first, "b"));
        set_condition(&mut conditions, ready(ConditionStatus::False), "c", Some(2), second);
        assert_eq!(conditions[0].last_transition_time.0, second);
        assert_eq!(conditions.len(), 1);
    }
}
