//! The credentials of a Pack: they come from its Secret, and go to its own server and to nobody else.

use serde_json::{Value, json};

use super::{ACTION, NAMESPACE, Scene, rule};
use crate::support::git_server::{Behavior, GitServer};

/// What must be in no text.
const CANARY: &str = "canary";

/// What a server demands, and the Secret that has it.
fn kinds() -> [(&'static str, Value); 2] {
    [
        // base64 of bot:canary-password
        (
            "Basic Ym90OmNhbmFyeS1wYXNzd29yZA==",
            json!({"username": "bot", "password": format!("{CANARY}-password")}),
        ),
        ("Bearer canary-token", json!({"bearerToken": format!("{CANARY}-token")})),
    ]
}

/// The Pack's Secret: whom it trusts, and what it shows to its server.
async fn keep(scene: &Scene, authorities: &str, credentials: &Value) {
    let mut data = credentials.clone();
    data["ca.crt"] = json!(authorities);
    let metadata = json!({"name": "git", "namespace": NAMESPACE});
    scene
        .apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}))
        .await;
}

#[tokio::test]
async fn credentials_come_from_the_secret_and_go_to_no_other_server() {
    for (demanded, credentials) in kinds() {
        let mut scene = Scene::new().await;
        let files = [("action.yaml", ACTION), ("scripts/clean.sh", "true\n"), ("a.yaml", &rule("a", "1m"))];
        let good = scene.origin.push(&files).await;
        scene.git.require_authorization(demanded);
        scene.start(usize::MAX);
        scene.follow(json!({})).await;
        let asked = scene.ready("FetchFailed", "").await;
        let why = "the repository needs credentials or does not exist";
        assert!(asked.message.contains(why), "{}", asked.message);
        assert!(scene.rule_names().await.is_empty());

        keep(&scene, scene.git.ca_pem(), &credentials).await;
        scene.ready("Synced", &good).await;
        assert_eq!(scene.rule_names().await, ["a"]);
        assert_eq!(scene.git.seen().pop().unwrap().authorization.as_deref(), Some(demanded));

        // Trusted as the first one is, so that nothing but the redirect stands in the way.
        let elsewhere = GitServer::start().await;
        elsewhere.create("ops").await.push(&[("evil.yaml", &rule("evil", "1m"))]).await;
        let pushed = elsewhere.seen().len();
        let both = format!("{}{}", scene.git.ca_pem(), elsewhere.ca_pem());
        keep(&scene, &both, &credentials).await;
        scene.git.behave(Behavior::RedirectTo(elsewhere.origin()));
        let refused = scene.ready("FetchFailed", "").await;
        let expected = format!(
            "redirect to {} refused: give the final url, credentials and trust belong to {} alone; serving main@sha1:{good}",
            elsewhere.origin(),
            scene.git.origin()
        );
        assert!(refused.message.starts_with(&expected), "{}", refused.message);
        scene.looks_again().await;
        assert_eq!(elsewhere.seen().len(), pushed, "nobody asked there, with credentials or without");
        assert_eq!(scene.rule_names().await, ["a"]);
        let shown = format!("{:?}", scene.pack().await.status);
        assert!(!shown.contains(CANARY), "{shown}");
    }
}
