//! A revision of which nobody knows whether it goes on from the one in force: it is held, as one is that does not.

use serde_json::json;

use super::{ACTION, Scene, rule};

/// A scene whose Pack has applied a first revision; returns that.
async fn applied(transfer_bytes: Option<u64>) -> (Scene, String) {
    let mut scene = Scene::new().await;
    scene.transfer_bytes = transfer_bytes.unwrap_or(scene.transfer_bytes);
    let files = [("action.yaml", ACTION), ("scripts/clean.sh", "true\n"), ("a.yaml", &rule("a", "1m"))];
    let first = scene.origin.push(&files).await;
    scene.start(usize::MAX);
    scene.follow(json!({"spec": {"suspend": true}})).await;
    scene.patch(json!({"spec": {"suspend": false}})).await;
    scene.ready("Synced", &first).await;
    // What comes now comes at once, and not while it is pushed bit by bit.
    scene.patch(json!({"spec": {"suspend": true}})).await;
    scene.ready("Suspended", "").await;
    (scene, first)
}

/// The newest revision is held, with the reason and the way out of it, until a person agrees.
async fn is_held(scene: &Scene, first: &str) {
    let head = scene.origin.push(&[("a.yaml", &rule("a", "9m"))]).await;
    scene.patch(json!({"spec": {"suspend": false}})).await;
    let held = scene.ready("HistoryRewritten", &head).await;
    let expected = format!(
        "history perhaps rewritten: what is in force was not found in it; approve with annotation \
         fother.dev/allow-rewrite: main@sha1:{head}; keeping main@sha1:{first}"
    );
    assert!(held.message.starts_with(&expected), "{}", held.message);
    assert_eq!(held.status, "False");
    scene.looks_again().await;
    let hold_for = async || scene.rules().await[0].spec.hold_for.map(fother::api::Duration::as_secs);
    assert_eq!(hold_for().await, Some(60), "what was in force still is");

    scene.patch(json!({"metadata": {"annotations": {"fother.dev/allow-rewrite": head}}})).await;
    scene.ready("Synced", &head).await;
    assert_eq!(hold_for().await, Some(540));
}

#[tokio::test]
async fn a_revision_too_far_ahead_waits_for_a_person() {
    let (scene, first) = applied(None).await;
    scene.origin.push_many(1100).await;
    is_held(&scene, &first).await;
}

#[tokio::test]
async fn a_revision_whose_past_weighs_too_much_waits_for_a_person() {
    let (scene, first) = applied(Some(100_000)).await;
    scene.origin.push_a_heavy_past(200_000).await;
    is_held(&scene, &first).await;
}
