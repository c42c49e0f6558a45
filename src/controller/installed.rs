//! Whether fother's own kinds can be used: asked before this process wants to lead, and while it does.

use std::time::Duration;

use kube::Client;

use super::Standing;
use crate::cluster::installed;

/// How often to look whether somebody has installed what is missing.
const LOOK_FOR_KINDS: Duration = Duration::from_secs(2);
/// How often to look whether what was there is still.
const LOOK_AGAIN: Duration = Duration::from_secs(20);
/// How long something has to be missing: an API server that has just begun publishes its kinds a moment later.
const SETTLED: Duration = Duration::from_secs(20);

/// Waits until the kinds can be used, and tells what is wrong with them until then.
pub async fn wait(client: &Client, tell: &impl Fn(Standing)) {
    let mut tick = tokio::time::interval(LOOK_FOR_KINDS);
    let mut told = String::new();
    loop {
        tick.tick().await;
        let lacks = match installed::lacking(client).await {
            Ok(None) => return,
            Ok(Some(text)) => text,
            // Whoever may not read what everybody may read has been shut off from it on purpose.
            Err(error) if error.is_forbidden() => {
                return tracing::warn!(%error, "it is not known whether fother's kinds are of this version");
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

/// Waits until the kinds cannot be used any more, and gives what is wrong with them. Until that is certain it is told.
pub async fn watch(client: &Client, tell: &impl Fn(Standing)) -> String {
    let mut tick = tokio::time::interval(LOOK_AGAIN);
    loop {
        tick.tick().await;
        // An API server that does not answer is told of by everything else.
        let Ok(Some(lacks)) = installed::lacking(client).await else { continue };
        tracing::warn!(lacks, "the kinds have changed");
        tell(Standing::Lacking(lacks));
        match stays(client).await {
            Some(lacks) => return lacks,
            None => tell(Standing::Leading),
        }
    }
}

/// What is still wrong after a while; nothing if it comes to be well.
async fn stays(client: &Client) -> Option<String> {
    let settled = tokio::time::Instant::now() + SETTLED;
    let mut tick = tokio::time::interval(LOOK_FOR_KINDS);
    loop {
        tick.tick().await;
        match installed::lacking(client).await {
            Ok(None) => return None,
            Ok(Some(lacks)) if tokio::time::Instant::now() >= settled => return Some(lacks),
            _ => {}
        }
    }
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
                "none" => (404, r#"{"kind": "Status", "code": 404}"#.to_owned()),
                _ => (500, String::new()),
            };
            let response = Response::builder().status(status).body(Body::from(text.into_bytes()));
            async move { response }
        });
        Client::new(service, "default")
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
    async fn kinds_that_stay_away_end_the_work() {
        let (ended, told) = told(&["good", "good", "broken", "none"]).await;
        assert!(ended.is_some_and(|lacks| lacks.contains("is not installed")));
        assert!(matches!(told[..], [Standing::Lacking(_)]), "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn kinds_that_are_back_in_a_moment_do_not() {
        let (ended, told) = told(&["good", "none", "none", "broken", "none", "good"]).await;
        assert_eq!(ended, None);
        assert!(matches!(told[..], [Standing::Lacking(_), Standing::Leading]), "{told:?}");
    }
}
