//! Whether there really is no Webhook of a name. What a watch has brought may be older, and a sender who hears 404 does not come
//! again: so the API server is asked. Anybody may send any name, so that it is asked seldom.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::{Api, Client};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::Key;
use crate::api::Webhook;
use crate::cluster::{Error, Result};

/// How long an answer is good. With the pause it bounds how many are remembered.
const KEEP: Duration = Duration::from_secs(1);
/// Between one question and the next, whatever their names.
const PAUSE: Duration = Duration::from_millis(100);
/// Requests that wait for their turn: each has it within a second.
const WAITING: usize = 8;
/// How long the API server has to answer.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Asked {
    turns: Option<Interval>,
    absent: BTreeMap<Key, Instant>,
}

/// What was asked a moment ago. One asks at a time.
pub(super) struct Absences {
    asked: Mutex<Asked>,
    waiting: Semaphore,
}

impl Default for Absences {
    fn default() -> Self {
        Self { asked: Mutex::default(), waiting: Semaphore::new(WAITING) }
    }
}

impl Absences {
    /// Whether the API server has no such Webhook.
    ///
    /// # Errors
    /// Where that cannot be said now.
    pub(super) async fn is_absent(&self, home: &Client, (namespace, name): (&str, &str)) -> Result<bool> {
        if !(can_be_a_name(namespace) && can_be_a_name(name)) {
            return Ok(true);
        }
        let too_many = |_| Error::Unexpected("too many ask for what there is not".to_owned());
        let _waiting = self.waiting.try_acquire().map_err(too_many)?;
        let mut asked = self.asked.lock().await;
        asked.absent.retain(|_, at| at.elapsed() < KEEP);
        let key = (namespace.to_owned(), name.to_owned());
        if asked.absent.contains_key(&key) {
            return Ok(true);
        }
        asked.turns.get_or_insert_with(turns).tick().await;
        let webhooks = Api::<Webhook>::namespaced(home.clone(), namespace);
        let answer = tokio::time::timeout(PATIENCE, webhooks.get_metadata_opt(name)).await;
        let answer = answer.map_err(|_| Error::Unexpected("the API server does not answer".to_owned()))?;
        let is_absent = answer.map_err(Error::request("read a Webhook"))?.is_none();
        if is_absent {
            asked.absent.insert(key, Instant::now());
        }
        Ok(is_absent)
    }
}

fn turns() -> Interval {
    let mut turns = tokio::time::interval(PAUSE);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    turns
}

/// Whether an API server would take it for the name of an object: what a stranger has written goes into a path.
fn can_be_a_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= 253
        && text.starts_with(plain)
        && text.ends_with(plain)
        && text.chars().all(|c| plain(c) || c == '-' || c == '.')
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{Request, Response};
    use kube::client::Body;
    use parking_lot::Mutex;
    use serde_json::json;

    use super::*;

    /// An API server that has one Webhook, and what it was asked.
    fn server() -> (Client, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let log = asked.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let path = request.uri().path().to_owned();
            let there = path.ends_with("/webhooks/late");
            log.lock().push(path);
            let body = if there {
                json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "late"}})
            } else {
                json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404})
            };
            let status = if there { 200 } else { 404 };
            let response = Response::builder().status(status).body(Body::from(body.to_string().into_bytes()));
            async move { response }
        });
        (Client::new(service, "default"), asked)
    }

    #[tokio::test]
    async fn the_api_server_says_whether_there_is_one() {
        let (home, asked) = server();
        let absences = Absences::default();
        for (name, is_there) in [("late", true), ("nowhere", false), ("nowhere", false), ("late", true)] {
            let is_absent = absences.is_absent(&home, ("shop", name)).await.expect("an answer");
            assert_eq!(is_absent, !is_there, "{name}");
        }
        let path = "/apis/fother.dev/v1alpha1/namespaces/shop/webhooks";
        let expected = ["late", "nowhere", "late"].map(|name| format!("{path}/{name}"));
        assert_eq!(*asked.lock(), expected, "what there is not is asked for once");
    }

    #[tokio::test]
    async fn what_cannot_be_a_name_is_not_asked_for() {
        let (home, asked) = server();
        let absences = Absences::default();
        for name in ["", "..", "a/b", "../secrets/x", "a%2fb", "A", "a?b", "x y", &"x".repeat(254)] {
            assert!(absences.is_absent(&home, ("shop", name)).await.expect("an answer"), "{name}");
            assert!(absences.is_absent(&home, (name, "late")).await.expect("an answer"), "{name}");
        }
        assert!(asked.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_names_asks_little_and_waits_for_little() {
        let (home, asked) = server();
        let absences = Absences::default();
        let names: Vec<_> = (0..200).map(|nth| format!("x-{nth}")).collect();
        let began = Instant::now();
        let all = names.iter().map(|name| absences.is_absent(&home, ("shop", name)));
        let answers = futures::future::join_all(all).await;
        let said = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!((asked.lock().len(), said), (WAITING, WAITING));
        assert!(began.elapsed() < KEEP, "{:?}", began.elapsed());
        assert!(absences.is_absent(&home, ("shop", "x-0")).await.expect("an answer"), "there is room again");
    }
}
