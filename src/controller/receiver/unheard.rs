//! Since when everybody who sends is heard: whoever leads, since it leads, and, of each Webhook, since a request was last
//! told to come again. Before that somebody may have come in vain, and what nobody told of may have happened.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use super::{Key, Refusal};
use crate::api::WebhookStatus;
use crate::decide::hearing::Hearing;

#[derive(Default)]
struct State {
    leads_since: Option<Timestamp>,
    /// When a request was last told to come again, by Webhook, and one that may have been for any.
    refused: BTreeMap<Key, Timestamp>,
    turned_away: Option<Timestamp>,
}

/// Who may not have been heard.
#[derive(Clone)]
pub struct Unheard {
    state: Arc<Mutex<State>>,
    comes_again: SignedDuration,
    under_way: SignedDuration,
}

impl Unheard {
    /// Nobody is known; senders come again within a time, and what was received is kept within another.
    pub(super) fn new(comes_again: SignedDuration, under_way: SignedDuration) -> Self {
        Self { state: Arc::default(), comes_again, under_way }
    }

    /// This process leads from now on. What came in vain to the one before, or while there was none, it does not know.
    pub fn leads(&self, now: Timestamp) {
        self.state.lock().leads_since = Some(now);
    }

    /// A request was refused.
    pub(super) fn refused(&self, webhook: Key, refusal: Refusal, now: Timestamp) {
        if comes_again(refusal.as_str()) {
            self.state.lock().refused.insert(webhook, now);
        }
    }

    /// A request was told to come again before it was known for which Webhook it is.
    pub(super) fn turned_away(&self, now: Timestamp) {
        self.state.lock().turned_away = Some(now);
    }

    /// What a replica has written of what it refused.
    pub(super) fn counted(
        &self,
        webhook: Key,
        before: &WebhookStatus,
        status: &WebhookStatus,
        now: Timestamp,
    ) {
        let count = |status: &WebhookStatus| {
            let all = status.rejected.iter().filter(|rejected| comes_again(&rejected.reason));
            all.map(|rejected| rejected.count).sum::<i64>()
        };
        if count(before) < count(status) {
            self.state.lock().refused.insert(webhook, now);
        }
    }

    /// How it stands with hearing those who send to a Webhook.
    pub fn hearing(&self, namespace: &str, webhook: &str, now: Timestamp) -> Hearing {
        let state = self.state.lock();
        let refused = state.refused.get(&(namespace.to_owned(), webhook.to_owned()));
        let refused = refused.copied().max(state.turned_away);
        let since = state.leads_since.max(refused).unwrap_or(now);
        let sure_from = since.saturating_add(self.comes_again).unwrap_or(Timestamp::MAX);
        Hearing { now, sure_from, under_way: self.under_way }
    }
}

/// Whether who is refused for this reason has something to say that is not heard yet.
fn comes_again(reason: &str) -> bool {
    use Refusal::{NotReady, Overloaded, RateLimited, TooSlow};
    [RateLimited, Overloaded, NotReady, TooSlow].iter().any(|one| one.as_str() == reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::RejectedCount;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn key() -> Key {
        ("a".to_owned(), "w".to_owned())
    }

    #[test]
    fn who_was_told_to_come_again_has_time_to_do_so() {
        let unheard = Unheard::new(SignedDuration::from_secs(120), SignedDuration::ZERO);
        let known_by = |webhook: &str, now| unheard.hearing("a", webhook, at(now)).known_by();
        assert_eq!(known_by("w", 500), Timestamp::MIN, "it does not lead yet");
        unheard.leads(at(0));
        assert_eq!([119, 120].map(|now| known_by("w", now)), [Timestamp::MIN, at(120)], "as after a restart");
        unheard.refused(key(), Refusal::Unauthenticated, at(200));
        assert_eq!(known_by("w", 200), at(200));
        unheard.refused(key(), Refusal::Overloaded, at(200));
        assert_eq!([319, 320].map(|now| known_by("w", now)), [Timestamp::MIN, at(320)]);
        assert_eq!(known_by("other", 200), at(200));
        unheard.refused(key(), Refusal::TooSlow, at(400));
        assert_eq!([519, 520].map(|now| known_by("w", now)), [Timestamp::MIN, at(520)], "its body broke off");
        unheard.turned_away(at(600));
        assert_eq!(
            ["w", "other"].map(|name| known_by(name, 719)),
            [Timestamp::MIN; 2],
            "it may have been any"
        );
        assert_eq!(known_by("other", 720), at(720));
    }

    #[test]
    fn what_another_replica_could_not_keep_is_known_from_the_status() {
        let unheard = Unheard::new(SignedDuration::from_secs(120), SignedDuration::ZERO);
        unheard.leads(at(0));
        let status = |reason: &str, count| WebhookStatus {
            rejected: vec![RejectedCount { reason: reason.to_owned(), count }],
            ..WebhookStatus::default()
        };
        let known_by = |now| unheard.hearing("a", "w", at(now)).known_by();
        unheard.counted(key(), &status("Malformed", 1), &status("Malformed", 2), at(200));
        unheard.counted(key(), &status("Overloaded", 1), &status("Overloaded", 1), at(200));
        assert_eq!(known_by(200), at(200));
        unheard.counted(key(), &status("Overloaded", 1), &status("Overloaded", 2), at(200));
        assert_eq!(known_by(200), Timestamp::MIN);
    }
}
