//! Whether fother's own kinds can be used: asked before this process wants to lead, and while it does.

use std::time::Duration;

use kube::Client;
use tokio::time::Instant;

use super::Standing;
use crate::cluster::installed;

/// How often to look whether somebody has installed what is missing.
const LOOK_FOR_KINDS: Duration = Duration::from_secs(2);
/// How often to look whether what was there is still.
const LOOK_AGAIN: Duration = Duration::from_secs(20);

/// Waits until the kinds can be used, and tells what is wrong with them until then. Gives the moment at which they were good.
pub async fn wait(client: &Client, tell: &impl Fn(Standing)) -> Instant {
    let mut tick = tokio::time::interval(LOOK_FOR_KINDS);
    let mut told = String::new();
    loop {
        let asked = tick.tick().await;
        let lacks = match installed::lacking(client).await {
            Ok(None) => return asked,
            Ok(Some(lacks)) => lacks.text,
            // Whoever may not read what everybody may read has been shut off from it on purpose.
            Err(error) if error.is_forbidden() => {
                tracing::warn!(%error, "it is not known whether fother's kinds are of this version");
                return asked;
            }
            Err(error) => error.to_string(),
        };
        if told != lacks {
            tracing::warn!(lacks, "cannot work yet");
            tell(Standing::Lacking(lacks.clone()));
            told = lacks;
        }
    }
}

/// Waits until the kinds have become older, and gives what is wrong with them. If they are gone it is told, and goes on: nothing
/// can be written then. Whoever comes here has asked for them already.
pub async fn watch(client: &Client, tell: &impl Fn(Standing)) -> String {
    let mut tick = tokio::time::interval_at(Instant::now() + LOOK_AGAIN, LOOK_AGAIN);
    let (mut before, mut told) = (false, false);
    loop {
        tick.tick().await;
        // An API server that does not answer is told of by everything else.
        let Ok(found) = installed::lacking(client).await else { continue };
        let gone = found.is_some();
        match found {
            Some(lacks) if lacks.is_older => return lacks.text,
            // One that has just begun publishes its kinds a moment later: it is looked twice.
            Some(lacks) if before && !told => {
                tracing::warn!(lacks = lacks.text, "the kinds are gone");
                tell(Standing::Lacking(lacks.text));
                told = true;
            }
            None if told => {
                tell(Standing::Leading);
                told = false;
            }
            _ => {}
        }
        before = gone;
    }
}

/// Whether the kinds have become older than this version: asked by whoever may lead from now on, unless they were good a
/// moment ago.
pub async fn are_older(client: &Client, good_at: Instant) -> bool {
    good_at.elapsed() > LOOK_FOR_KINDS
        && installed::lacking(client).await.is_ok_and(|lacks| lacks.is_some_and(|lacks| lacks.is_older))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Request, Response};
    use kube::client::Body;
    use parking_lot::Mutex;

    use super::*;

    /// An API server that answers the questions for its kinds so, one after the other, and the last for ever.
    fn server(answers: &'static [&'static str]) -> Client {
        let asked = AtomicUsize::new(0);
        let service = tower::service_fn(move |_: Request<Body>| {
            let nth = asked.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
            let (status, text) = match answers[nth] {
                "good" => (200, installed::published().to_string()),
                "older" => (200, older().to_string()),
                "none" => (404, r#"{"kind": "Status", "code": 404}"#.to_owned()),
                _ => (500, String::new()),
            };
            let response = Response::builder().status(status).body(Body::from(text.into_bytes()));
            async move { response }
        });
        Client::new(service, "default")
    }

    fn older() -> serde_json::Value {
        let mut kinds = installed::published();
        let fields = &mut kinds["components"]["schemas"]["Rule"]["properties"]["spec"]["properties"];
        fields.as_object_mut().expect("fields").remove("mode");
        kinds
    }

    async fn told(answers: &'static [&'static str]) -> (Option<String>, Vec<Standing>) {
        let told = Arc::<Mutex<Vec<Standing>>>::default();
        let tell = |standing| told.lock().push(standing);
        let client = server(answers);
        let ended = tokio::time::timeout(Duration::from_secs(600), watch(&client, &tell)).await.ok();
        let told = told.lock().clone();
        (ended, told)
    }

    #[tokio::test(start_paused = true)]
    async fn kinds_that_become_older_end_the_work_at_once() {
        let (ended, told) = told(&["good", "broken", "none", "older"]).await;
        assert!(ended.is_some_and(|lacks| {
            lacks.contains("kind rules.fother.dev is of another version: it has no spec.mode")
        }));
        assert_eq!(told, []);
    }

    #[tokio::test(start_paused = true)]
    async fn kinds_that_are_gone_are_told_of_until_they_are_back() {
        let (ended, told) = told(&["none", "broken", "none", "none", "good"]).await;
        assert_eq!(ended, None);
        assert!(matches!(told[..], [Standing::Lacking(_), Standing::Leading]), "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn kinds_that_are_published_late_are_no_news() {
        let (ended, told) = told(&["good", "none", "good"]).await;
        assert_eq!((ended, told), (None, vec![]));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waited_for_the_lease_asks_again_whether_they_are_older() {
        let client = server(&["good", "older"]);
        let good_at = wait(&client, &drop).await;
        assert!(!are_older(&client, good_at).await, "it is not asked at once");
        tokio::time::advance(LOOK_FOR_KINDS + Duration::from_millis(1)).await;
        assert!(are_older(&client, good_at).await);
    }
}
