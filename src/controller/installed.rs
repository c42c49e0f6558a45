//! Whether fother's own kinds can be used: asked before this process wants to lead, and while it does.

use std::time::Duration;

use kube::Client;

use super::Standing;
use crate::cluster::installed;

/// How often to look whether somebody has installed what is missing.
const LOOK_FOR_KINDS: Duration = Duration::from_secs(2);
/// How often to look whether what was there is still.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

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

/// Tells for ever when the kinds cannot be used any more, and when they can again.
pub async fn watch(client: &Client, tell: &impl Fn(Standing)) {
    let mut tick = tokio::time::interval(LOOK_AGAIN);
    let mut told = None;
    loop {
        tick.tick().await;
        // An API server that does not answer is told of by everything else.
        let Ok(lacks) = installed::lacking(client).await else { continue };
        if told != lacks {
            tracing::warn!(lacks, "the kinds have changed");
            tell(lacks.clone().map_or(Standing::Leading, Standing::Lacking));
            told = lacks;
        }
    }
}
