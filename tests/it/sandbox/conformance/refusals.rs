//! What the in-memory API does not know it refuses, and says so. Every request here means something to a real server.

use serde_json::{Value, json};

use super::exchange::{Exchange, JSON};

/// Method, path, body, code, and a part of what is said.
type Refusal = (&'static str, &'static str, Value, u16, &'static str);

fn refusals() -> Vec<Refusal> {
    vec![
        ("GET", "secrets?shardSelector=x", Value::Null, 400, "unknown query parameter \"shardSelector\""),
        ("GET", "secrets/s?zzz=1", Value::Null, 400, "unknown query parameter \"zzz\""),
        ("POST", "secrets?zzz=1", json!({"metadata": {"name": "x"}}), 400, "unknown query parameter \"zzz\""),
        ("PATCH", "secrets/s?zzz=1", json!({}), 400, "unknown query parameter \"zzz\""),
        ("DELETE", "secrets/s?zzz=1", Value::Null, 400, "unknown query parameter \"zzz\""),
        ("DELETE", "secrets?zzz=1", Value::Null, 400, "unknown query parameter \"zzz\""),
        ("DELETE", "secrets/s", json!({"zzz": 1}), 400, "unknown field \"zzz\""),
        (
            "DELETE",
            "secrets/s?ignoreStoreReadErrorWithClusterBreakingPotential=true",
            Value::Null,
            400,
            "unknown query parameter",
        ),
        ("GET", "pods/p/exec?command=ls", Value::Null, 404, "could not find the requested resource"),
        ("GET", "pods/p/attach", Value::Null, 404, "could not find the requested resource"),
        ("GET", "pods/p/portforward", Value::Null, 404, "could not find the requested resource"),
        ("GET", "services/s/proxy", Value::Null, 404, "could not find the requested resource"),
        ("PATCH", "pods/p/ephemeralcontainers", json!({}), 404, "could not find the requested resource"),
        ("PATCH", "pods/p/resize", json!({}), 404, "could not find the requested resource"),
        (
            "GET",
            "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
            Value::Null,
            404,
            "404 page not found",
        ),
        ("GET", "/apis/resource.k8s.io/v1/resourceclaims", Value::Null, 404, "404 page not found"),
        ("GET", "/apis/apiregistration.k8s.io/v1/apiservices", Value::Null, 404, "404 page not found"),
        ("GET", "/metrics", Value::Null, 404, "404 page not found"),
        ("GET", "/logs", Value::Null, 404, "404 page not found"),
        ("GET", "/debug/pprof/", Value::Null, 404, "404 page not found"),
    ]
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_is_refused() {
    let mut x = Exchange::sandbox().await;
    x.prepare("POST", "secrets", &json!({"metadata": {"name": "s"}})).await;
    for (method, path, body, code, text) in refusals() {
        let media = if method == "PATCH" { "application/merge-patch+json" } else { JSON };
        let answer = x.send(method, path, media, &body).await;
        let said = answer.body["message"].as_str().or(answer.body.as_str()).unwrap_or_default();
        assert!(
            answer.code == code && said.contains(text),
            "{method} {path}: {} {}",
            answer.code,
            answer.body
        );
    }
    assert_eq!(x.get("secrets/s").await.code, 200);
}

#[tokio::test(start_paused = true)]
async fn so_are_forms_that_are_not_spoken() {
    let mut x = Exchange::sandbox().await;
    x.prepare("POST", "secrets", &json!({"metadata": {"name": "s"}})).await;
    for (header, value, code) in [
        ("accept", "application/vnd.kubernetes.protobuf", 406),
        ("accept", "application/cbor", 406),
        ("impersonate-uid", "x", 400),
        ("impersonate-extra-scopes", "x", 400),
    ] {
        x.with(&[(header, value)]);
        assert_eq!(x.get("secrets/s").await.code, code, "{header}: {value}");
    }
    x.with(&[]);
    for media in ["application/cbor", "application/apply-patch+cbor"] {
        let method = if media == "application/cbor" { "POST" } else { "PATCH" };
        let path = if method == "POST" { "secrets" } else { "secrets/s?fieldManager=a" };
        assert_eq!(x.send(method, path, media, &json!({})).await.code, 415, "{media}");
    }
}

/// What of a definition cannot be kept is no definition.
#[tokio::test(start_paused = true)]
async fn so_are_definitions_that_ask_for_more() {
    use super::custom::{CRDS, definition};
    let mut x = Exchange::sandbox().await;
    let mut webhook = definition(json!({"type": "object"}));
    webhook["spec"]["conversion"] =
        json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"]}});
    let mut rule = definition(json!({"type": "object"}));
    rule["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] =
        json!([{"rule": "ip('10.0.0.1').family() == 4"}]);
    let mut optional = definition(json!({"type": "object"}));
    optional["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] =
        json!([{"rule": "oldSelf.hasValue()", "optionalOldSelf": true}]);
    for (definition, text) in [(webhook, "strategy None"), (rule, "ip"), (optional, "optional oldSelf")] {
        let answer = x.post(CRDS, &definition).await;
        let said = answer.body["message"].as_str().unwrap_or_default();
        assert!(answer.code == 422 && said.contains(text), "{} {}", answer.code, answer.body);
    }
}
