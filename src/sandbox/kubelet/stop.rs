//! Asking an instance to end: first politely, and at a given time for good.

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// The worker's end: the time at which the instance is killed, once it was asked to stop.
#[derive(Debug)]
pub struct Stopper(watch::Sender<Option<Instant>>);

/// The instance's end.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<Option<Instant>>);

/// Both ends.
pub fn pair() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(None);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// Asks for an end by `deadline`; an earlier deadline than one given before counts. Says whether
    /// this was the first time.
    pub fn stop(&self, deadline: Instant) -> bool {
        let mut first = false;
        self.0.send_if_modified(|known| {
            first = known.is_none();
            let earlier = known.is_none_or(|known| deadline < known);
            if earlier {
                *known = Some(deadline);
            }
            earlier
        });
        first
    }
}

impl Stop {
    /// Waits until it is asked to end. A worker that is gone asks too.
    pub async fn asked(&mut self) {
        let _ = self.0.wait_for(Option::is_some).await;
    }

    /// Waits until it has to have ended.
    pub async fn overdue(&mut self) {
        loop {
            let Ok(deadline) = self.0.wait_for(Option::is_some).await.map(|known| *known) else { return };
            let Some(deadline) = deadline else { return };
            tokio::select! {
                () = sleep_until(deadline) => return,
                changed = self.0.changed() => if changed.is_err() { return },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_may_only_come_nearer() {
        let begin = Instant::now();
        let (stopper, mut stop) = pair();
        assert!(stopper.stop(begin + Duration::from_secs(30)));
        stop.asked().await;
        assert!(!stopper.stop(begin + Duration::from_secs(60)));
        let nearer = tokio::spawn(async move {
            sleep_until(begin + Duration::from_secs(1)).await;
            stopper.stop(begin + Duration::from_secs(2));
            stopper
        });
        stop.overdue().await;
        assert_eq!(begin.elapsed().as_secs(), 2);
        drop(nearer.await);
    }
}
