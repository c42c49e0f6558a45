//! The part that needs a real kube-apiserver.

mod kubectl;
mod random;

use futures::future::join_all;

use crate::support::control_plane::ControlPlane;

use super::deviations::judge;
use super::exchange::Exchange;
use super::transcript::{Transcript, differences, file, read, write};
use super::{Theme, own_kinds, played, wanted};

async fn asked(plane: &'static ControlPlane, theme: &Theme) -> Transcript {
    let mut transcript = Transcript::new();
    for case in &theme.cases {
        let mut exchange = Exchange::real(plane).await;
        (case.run)(&mut exchange).await;
        transcript.push((case.name.to_owned(), exchange.steps));
    }
    transcript
}

#[tokio::test]
async fn what_was_recorded_is_still_true() {
    let Some(plane) = ControlPlane::quiet().await else { return };
    let themes = wanted();
    let transcripts = join_all(themes.iter().map(|theme| asked(plane, theme))).await;
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut found = Vec::new();
    for (theme, transcript) in themes.iter().zip(transcripts) {
        let mut recorded =
            std::fs::read_to_string(file(theme.name)).map(|text| read(&text)).unwrap_or_default();
        if update {
            replace(&mut recorded, transcript);
            std::fs::write(file(theme.name), write(&recorded)).unwrap();
            continue;
        }
        recorded.retain(|(name, _)| theme.cases.iter().any(|case| case.name == name));
        let differences = differences(theme.name, &recorded, &transcript).into_iter();
        found.extend(differences.map(|difference| format!("{}: {}", difference.place, difference.text)));
    }
    assert!(found.is_empty(), "the records are stale (UPDATE_EXPECT=1 writes them):\n{}", found.join("\n"));
}

/// Puts what was asked now into the place of what was recorded of the same cases.
fn replace(recorded: &mut Transcript, asked: Transcript) {
    for (name, steps) in asked {
        match recorded.iter_mut().find(|(other, _)| *other == name) {
            Some((_, old)) => *old = steps,
            None => recorded.push((name, steps)),
        }
    }
}

#[tokio::test]
async fn the_repositorys_own_kinds_are_served_alike() {
    let Some(plane) = ControlPlane::quiet().await else { return };
    let theme = own_kinds();
    let (real, sandbox) = tokio::join!(asked(plane, &theme), played(&theme));
    judge(&differences(theme.name, &real, &sandbox), |place| place.starts_with("repository/"));
}
