//! What came, written into the statuses of Webhooks from time to time: never for each request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use parking_lot::Mutex;

use super::{Key, Receiver, Refusal, key_of};
use crate::api::{GROUP, ObjectReference, RejectedCount, Truncated, VERSION, Webhook, WebhookStatus};
use crate::cluster::events::{Telling, tell};
use crate::cluster::{Result, status};
use crate::source::watch::now;

/// How often it is written.
const EVERY: Duration = Duration::from_secs(10);

/// What came to one Webhook since it was last written.
#[derive(Clone, Debug, Default, PartialEq)]
struct News {
    last: Option<Timestamp>,
    refused: BTreeMap<&'static str, i64>,
    truncated: Option<(i64, Timestamp)>,
    /// An event that was left out because it is too large.
    too_large: Option<String>,
}

/// What came, by Webhook.
#[derive(Default)]
pub(super) struct Tally {
    news: Mutex<BTreeMap<Key, News>>,
    /// Who was turned away before it was known to which Webhook he came.
    away: Mutex<BTreeMap<&'static str, i64>>,
}

impl Tally {
    fn with(&self, webhook: Key, change: impl FnOnce(&mut News)) {
        change(self.news.lock().entry(webhook).or_default());
    }

    /// A request was refused.
    pub(super) fn refused(&self, webhook: Key, refusal: Refusal) {
        self.with(webhook, |news| *news.refused.entry(refusal.as_str()).or_default() += 1);
    }

    /// Events were too large to be kept.
    pub(super) fn too_large(&self, webhook: &Webhook, events: &[String]) {
        if let Some(last) = events.last() {
            self.with(key_of(webhook), |news| news.too_large = Some(last.clone()));
        }
    }

    /// A request was turned away that may have been for any Webhook.
    pub(super) fn turned_away(&self, refusal: Refusal) {
        *self.away.lock().entry(refusal.as_str()).or_default() += 1;
    }

    /// Those who were turned away count for every Webhook: whoever leads has to know of them.
    fn spread(&self, webhooks: &[Arc<Webhook>]) {
        let away = std::mem::take(&mut *self.away.lock());
        for webhook in webhooks.iter().filter(|_| !away.is_empty()) {
            self.with(key_of(webhook), |news| {
                for (reason, count) in &away {
                    *news.refused.entry(reason).or_default() += count;
                }
            });
        }
    }

    /// A request was authentic and could be read.
    pub(super) fn received(&self, webhook: &Webhook, truncated: i64, at: Timestamp) {
        self.with(key_of(webhook), |news| {
            news.last = Some(at);
            if truncated > 0 {
                news.truncated = Some((truncated, at));
            }
        });
    }

    /// Writes what came, for ever.
    pub(super) async fn run(&self, receiver: &Receiver) {
        let mut tick = tokio::time::interval(EVERY);
        loop {
            tick.tick().await;
            self.flush(receiver).await;
            receiver.secrets.retain(|(namespace, name)| receiver.webhooks.get(namespace, name).is_some());
        }
    }

    /// Writes what came since it did so last.
    pub(super) async fn flush(&self, receiver: &Receiver) {
        if receiver.webhooks.is_synced() {
            self.spread(&receiver.webhooks.filter(|_| true));
        }
        let news = std::mem::take(&mut *self.news.lock());
        for (key, news) in news {
            if let Err(error) = write(receiver, &key, &news).await {
                tracing::debug!(webhook = key.1, %error, "what came is not written yet");
                self.put_back(key, &news);
            }
        }
    }

    fn put_back(&self, key: Key, news: &News) {
        let mut all = self.news.lock();
        let known = all.entry(key).or_default();
        known.last = known.last.max(news.last);
        known.truncated = known.truncated.or(news.truncated);
        known.too_large = known.too_large.take().or_else(|| news.too_large.clone());
        for (reason, count) in &news.refused {
            *known.refused.entry(reason).or_default() += count;
        }
    }
}

async fn write(receiver: &Receiver, (namespace, name): &Key, news: &News) -> Result<()> {
    let Some(webhook) = receiver.webhooks.get(namespace, name) else { return Ok(()) };
    let fresh = counted(webhook.status.clone().unwrap_or_default(), news);
    if let Some((alerts, _)) = news.truncated {
        let note = format!(
            "A notification left out {alerts} alerts, of which nothing is known here: set max_alerts of the receiver to 0"
        );
        warn(receiver, &webhook, ("truncated", "AlertsTruncated"), note).await;
    }
    if let Some(event) = &news.too_large {
        let note = format!(
            "Event {event:?} was left out: what Rules read of it is more than an Execution can carry; let them read less"
        );
        warn(receiver, &webhook, ("too-large", "EventTooLarge"), note).await;
    }
    if let Some(written) = status::write(&receiver.home, &*webhook, webhook.status.as_ref(), &fresh).await? {
        receiver.webhooks.insert(Arc::new(written));
    }
    Ok(())
}

fn counted(mut status: WebhookStatus, news: &News) -> WebhookStatus {
    if let Some(last) = news.last {
        let known = status.last_event_at.map(|time| time.0);
        status.last_event_at = known.max(Some(last)).map(Time);
    }
    for (reason, count) in &news.refused {
        match status.rejected.iter_mut().find(|rejected| rejected.reason == *reason) {
            Some(known) => known.count += count,
            None => status.rejected.push(RejectedCount { reason: (*reason).to_owned(), count: *count }),
        }
    }
    if let Some((alerts, at)) = news.truncated {
        status.truncated = Some(Truncated { alerts, at: Time(at) });
    }
    status
}

/// Tells of what was left out, once an hour.
async fn warn(receiver: &Receiver, webhook: &Webhook, (name, reason): (&str, &str), note: String) {
    let regarding = ObjectReference {
        api_version: format!("{GROUP}/{VERSION}"),
        kind: "Webhook".to_owned(),
        namespace: webhook.namespace(),
        name: webhook.name_any(),
        uid: webhook.uid(),
    };
    let telling = Telling {
        name: format!("{}-{name}-{}", webhook.name_any(), now().as_second() / 3600),
        reason,
        warning: true,
        note,
        regarding: &regarding,
        related: None,
    };
    if let Err(error) = tell(&receiver.home, &telling, now()).await {
        tracing::warn!(%error, "event not written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_times_go_on() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let news = |last, count| News {
            last: Some(at(last)),
            refused: [("Malformed", count)].into(),
            ..News::default()
        };
        let once = counted(WebhookStatus::default(), &news(10, 2));
        let twice = counted(once, &news(5, 3));
        assert_eq!(twice.last_event_at.as_ref().map(|time| time.0), Some(at(10)));
        assert_eq!(twice.rejected, [RejectedCount { reason: "Malformed".into(), count: 5 }]);
        let truncated = News { truncated: Some((4, at(7))), ..News::default() };
        assert_eq!(counted(twice, &truncated).truncated.map(|truncated| truncated.alerts), Some(4));
    }

    #[test]
    fn who_was_turned_away_counts_for_every_webhook() {
        let (tally, key) = (Tally::default(), |name: &str| ("a".to_owned(), name.to_owned()));
        let webhooks = ["v", "w"].map(|name| {
            let webhook = serde_json::json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Webhook",
                "metadata": {"name": name, "namespace": "a"},
                "spec": {"serviceAccountName": "r", "github": {}, "authentication": {}}});
            Arc::new(serde_json::from_value(webhook).expect("a Webhook"))
        });
        tally.turned_away(Refusal::Overloaded);
        tally.turned_away(Refusal::Overloaded);
        (0..2).for_each(|_| tally.spread(&webhooks));
        let count = |name| tally.news.lock()[&key(name)].refused["Overloaded"];
        assert_eq!([count("v"), count("w")], [2, 2], "once");
    }

    #[test]
    fn what_could_not_be_written_is_not_lost() {
        let tally = Tally::default();
        let key = ("a".to_owned(), "w".to_owned());
        let news = News { refused: [("Malformed", 2)].into(), ..News::default() };
        tally.put_back(key.clone(), &news);
        tally.put_back(key.clone(), &news);
        assert_eq!(tally.news.lock()[&key].refused["Malformed"], 4);
    }
}
