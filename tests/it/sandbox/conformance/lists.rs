//! Lists: selectors, pages, versions.

use serde_json::{Value, json};

use super::exchange::{Answer, Exchange};

async fn fill(x: &mut Exchange) {
    for (name, labels) in [
        ("a", json!({"tier": "web", "n": "5"})),
        ("b", json!({"tier": "web", "env": "prod"})),
        ("c", json!({"tier": "api"})),
        ("d", json!({})),
    ] {
        let secret = json!({"metadata": {"name": name, "labels": labels}, "type": if name == "c" { "x.dev/t" } else { "Opaque" }});
        x.prepare("POST", "secrets", &secret).await;
    }
}

pub async fn label_selectors(x: &mut Exchange) {
    fill(x).await;
    for selector in [
        "tier=web",
        "tier==web",
        "tier!=web",
        "tier%20in%20(web,api)",
        "tier%20notin%20(web)",
        "tier",
        "!tier",
        "tier=web,env=prod",
        "tier=web,!env",
        "n%3E4",
        "n%3C5",
        "n%3Ex",
        "tier%3E1",
        "nope=x",
        "",
        "a%20b",
        "a%20in%20x",
        "=x",
        "a=b=c",
        "tier%20in%20()",
        "tier%20in%20(web",
        "a/b/c=d",
        "tier=we%20b",
        "%20tier%20=%20web%20",
        "tier=",
        "tier,",
        ",tier",
        "tier%20in%20(web,)",
        "x.dev/y=z",
        "tier%20nope%20(web)",
    ] {
        x.get(&format!("secrets?labelSelector={selector}")).await;
    }
}

pub async fn field_selectors(x: &mut Exchange) {
    fill(x).await;
    for selector in [
        "metadata.name=a",
        "metadata.name==a",
        "metadata.name!=a",
        "metadata.namespace={ns}",
        "metadata.namespace=other",
        "type=x.dev/t",
        "type!=x.dev/t,metadata.name!=a",
        "metadata.name=a,metadata.name=b",
        "metadata.uid=x",
        "metadata.labels.tier=web",
        "data=x",
        "nope",
        "metadata.name",
        "",
        "metadata.name=",
        "metadata.name=a=b",
    ] {
        x.get(&format!("secrets?fieldSelector={selector}")).await;
    }
    for (resource, selector) in [
        ("pods", "spec.nodeName=x"),
        ("pods", "status.phase=Running"),
        ("pods", "spec.containers=x"),
        ("pods", "status.podIP="),
        ("/api/v1/nodes", "spec.unschedulable=false"),
        ("/api/v1/nodes", "spec.foo=x"),
        ("events", "involvedObject.kind=Pod"),
        ("events", "reason=x,type=Warning"),
        ("events", "regarding.kind=Pod"),
        ("events.k8s.io/v1/events", "regarding.kind=Pod"),
        ("events.k8s.io/v1/events", "involvedObject.kind=Pod"),
        ("batch/v1/jobs", "status.successful=1"),
        ("apps/v1/deployments", "metadata.name=x"),
        ("apps/v1/deployments", "spec.replicas=1"),
        ("apps/v1/replicasets", "status.replicas=0"),
        ("configmaps", "data.a=1"),
    ] {
        x.get(&format!("{resource}?fieldSelector={selector}")).await;
    }
}

pub async fn selectable_fields(x: &mut Exchange) {
    let mut chosen = super::custom::definition(
        json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "color": {"type": "string"}, "n": {"type": "integer"}}}}}),
    );
    chosen["spec"]["versions"][0]["selectableFields"] =
        json!([{"jsonPath": ".spec.color"}, {"jsonPath": ".spec.n"}]);
    super::custom::register(x, &chosen).await;
    for (name, spec) in
        [("a", json!({"color": "red", "n": 1})), ("b", json!({"color": "blue"})), ("c", json!({}))]
    {
        x.prepare("POST", super::custom::FOOS, &super::custom::foo(name, &spec)).await;
    }
    for selector in [
        "spec.color=red",
        "spec.color!=red",
        "spec.n=1",
        "spec.color=",
        "spec.nope=x",
        "metadata.name=a",
        "metadata.namespace={ns}",
    ] {
        x.get(&format!("{}?fieldSelector={selector}", super::custom::FOOS)).await;
    }
}

pub async fn pages(x: &mut Exchange) {
    fill(x).await;
    let first = x.get("secrets?limit=2").await;
    let token = first.token().to_owned();
    x.prepare("POST", "secrets", &json!({"metadata": {"name": "e"}})).await;
    x.prepare("DELETE", "secrets/d", &Value::Null).await;
    x.get(&format!("secrets?limit=2&continue={token}")).await;
    x.get(&format!("secrets?limit=1&continue={token}")).await;
    x.get(&format!("secrets?continue={token}")).await;
    x.get(&format!("secrets?limit=1&continue={token}&resourceVersion=1")).await;
    x.get(&format!("secrets?limit=1&continue={token}&resourceVersionMatch=Exact")).await;
    x.get("secrets?limit=4").await;
    x.get("secrets?limit=0").await;
    x.get("secrets?limit=-1").await;
    x.get("secrets?limit=x").await;
    x.get("secrets?continue=nonsense").await;
    x.get("secrets?limit=1&labelSelector=tier=web").await;
    x.get("secrets?limit=1&fieldSelector=metadata.name=b").await;
    x.get("secrets?limit=2&resourceVersion=0").await;
}

pub async fn versions(x: &mut Exchange) {
    fill(x).await;
    let at = x.get("secrets").await.version().to_owned();
    x.prepare("DELETE", "secrets/a", &Value::Null).await;
    x.merge_quietly("secrets/b", &json!({"metadata": {"labels": {"l": "m"}}})).await;
    // What is not older than a version may be any newer one: both answer with the newest once the server's cache has it.
    let is_newest = |item: &Value| item["metadata"]["labels"]["l"] == "m";
    let has_newest = |all: &Answer| all.body["items"].as_array().is_some_and(|all| all.iter().any(is_newest));
    x.reached("secrets?resourceVersion=0", has_newest).await;
    for query in [
        format!("resourceVersion={at}"),
        format!("resourceVersion={at}&resourceVersionMatch=Exact"),
        format!("resourceVersion={at}&resourceVersionMatch=NotOlderThan"),
        format!("resourceVersion={at}&limit=1"),
        format!("resourceVersion={at}&resourceVersionMatch=Exact&limit=1"),
        format!("resourceVersion={at}&resourceVersionMatch=NotOlderThan&limit=1"),
        "resourceVersion=0".into(),
        "resourceVersion=0&resourceVersionMatch=NotOlderThan".into(),
        "resourceVersion=0&resourceVersionMatch=Exact".into(),
        "resourceVersionMatch=Exact".into(),
        "resourceVersionMatch=Nope&resourceVersion=1".into(),
        "resourceVersion=x".into(),
        "resourceVersion=-1".into(),
        "sendInitialEvents=true".into(),
        "resourceVersion=1000000000000&resourceVersionMatch=NotOlderThan".into(),
        "resourceVersion=1000000000000&resourceVersionMatch=Exact".into(),
        "resourceVersion=1000000000000".into(),
    ] {
        x.get(&format!("secrets?{query}")).await;
    }
    x.get(&format!("secrets/b?resourceVersion={at}")).await;
    x.get("secrets/b?resourceVersion=0").await;
    x.get("secrets/b?resourceVersion=x").await;
    x.get("secrets/b?resourceVersion=1000000000000").await;
}

/// Versions that the store has forgotten, of a kind that was not there then.
pub async fn expired(x: &mut Exchange) {
    use super::custom::{FOOS, bare, define};
    define(x, json!({"type": "object"})).await;
    x.prepare("POST", FOOS, &bare("a")).await;
    x.forget().await;
    x.get(&format!("{FOOS}?resourceVersion=1&resourceVersionMatch=Exact")).await;
    // {"v":"meta.k8s.io/v1","rv":2,"start":"a\u0000"}
    x.get(&format!(
        "{FOOS}?limit=1&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6Miwic3RhcnQiOiJhXHUwMDAwIn0"
    ))
    .await;
    x.get(&format!("{FOOS}?watch=1&resourceVersion=1&timeoutSeconds=2")).await;
    x.get(&format!("{FOOS}?watch=1&resourceVersion=1&timeoutSeconds=2&allowWatchBookmarks=true")).await;
    x.get(&format!("{FOOS}?resourceVersion=1")).await;
}
