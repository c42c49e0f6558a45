//! Waiting for a state with a deadline: the only way a test waits.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);
/// The longest after a look that itself took long.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Long enough for anything a test waits for on a busy machine; a test that needs it has failed.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// Polls `probe` until it gives a value and returns that value. What takes longer is looked at less often, and so is what
/// it takes long to look at: many tests share a machine, and each look is a request to somebody else on it.
///
/// An `Err` means "not yet" and says what was seen instead; the last one is shown when the deadline passes.
pub async fn eventually<T, E, F, Fut>(what: &str, deadline: Duration, mut probe: F) -> T
where
    E: std::fmt::Display,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let started = Instant::now();
    let mut last = None;
    loop {
        let asked = Instant::now();
        let left = deadline.saturating_sub(started.elapsed());
        let seen = match tokio::time::timeout(left.max(FIRST_PAUSE), probe()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(seen)) => last.insert(format!("{seen:#}")).clone(),
            // The one that the deadline cuts off says less than the one before.
            Err(_) => last.clone().unwrap_or_else(|| "no answer".to_owned()),
        };
        let asked_for = asked.elapsed();
        assert!(started.elapsed() < deadline, "not within {deadline:?}: {what}\n  last seen: {seen}");
        let pause = (started.elapsed() / 10).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        tokio::time::sleep(pause.max((asked_for * 3).min(LONGEST_REST))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn returns_the_first_value() {
        let mut calls = 0;
        let value = eventually("the third call", DEADLINE, || {
            calls += 1;
            let calls = calls;
            async move { if calls == 3 { Ok(calls) } else { Err("too early") } }
        })
        .await;
        assert_eq!(value, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn says_what_it_saw_last() {
        let waiting = tokio::spawn(eventually("a miracle", DEADLINE, || async { Err::<(), _>("water") }));
        let report = waiting.await.unwrap_err().into_panic();
        let report = report.downcast_ref::<String>().unwrap();
        assert!(report.contains("a miracle") && report.contains("last seen: water"), "{report}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_hangs_is_given_up() {
        let waiting = tokio::spawn(eventually("an answer", DEADLINE, || async {
            std::future::pending::<()>().await;
            Err::<(), _>("unreachable")
        }));
        let report = waiting.await.unwrap_err().into_panic();
        assert!(report.downcast_ref::<String>().unwrap().contains("no answer"));
    }
}
