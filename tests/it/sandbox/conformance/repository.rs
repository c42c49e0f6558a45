//! The kinds that this repository defines, as examples of what people really write, and two managers that do not agree about them.

use serde_json::{Value, json};

use super::exchange::{Answer, Exchange};

const RULE: &str = "/apis/fother.dev/v1alpha1/namespaces/{ns}/rules/crash-loop";

async fn define(x: &mut Exchange) {
    for definition in fother::api::crds() {
        let name = definition.metadata.name.clone().unwrap();
        let definition = serde_json::to_value(definition).unwrap();
        let path = format!("{}/{name}", super::custom::CRDS);
        // Other tests apply the same ones, and under the same name.
        x.quietly(
            "PATCH",
            &format!("{path}?fieldManager=kubectl&force=true"),
            "application/apply-patch+yaml",
            &definition,
        )
        .await;
        let established = |answer: &Answer| answer.body["status"].to_string().contains("Established");
        x.reached(&path, established).await;
        let plural = name.trim_end_matches(".fother.dev");
        let served = format!("/apis/fother.dev/v1alpha1/namespaces/{{ns}}/{plural}");
        x.reached(&served, |answer| answer.code == 200).await;
    }
}

fn rule(spec: Value) -> Value {
    json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Rule", "metadata": {"name": "crash-loop"}, "spec": spec})
}

fn whole() -> Value {
    let text = include_str!("../../../../examples/crash-loop/rules/crash-loop.yaml");
    serde_saphyr::from_str(text).unwrap()
}

/// Two managers and their conflicts, checks and rules of the schema, columns.
pub async fn rules(x: &mut Exchange) {
    define(x).await;
    x.apply(RULE, "alice", &whole()).await;
    x.apply(RULE, "alice", &whole()).await;
    for (manager, spec) in [
        ("bob", json!({"for": "5m"})),
        ("bob&force=true", json!({"for": "5m"})),
        ("bob", json!({"ladder": [{"run": "other"}]})),
        ("bob", json!({"mode": "Sometimes"})),
        ("bob", json!({"for": "soon"})),
        ("bob", json!({"limits": {"cooldown": "1h", "zzz": 1}})),
        ("bob", json!({"trigger": {}})),
        ("bob", json!({"ladder": []})),
        ("bob", json!({})),
    ] {
        x.apply(RULE, manager, &rule(spec)).await;
    }
    let mut less = whole();
    less["spec"].as_object_mut().unwrap().remove("limits");
    x.apply(RULE, "alice&force=true", &less).await;
    x.merge(RULE, &json!({"spec": {"when": null}})).await;
    x.merge(RULE, &json!({"spec": {"serviceAccountName": ""}})).await;
    x.merge(
        &format!("{RULE}/status"),
        &json!({"status": {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True",
        "reason": "Watching", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}),
    )
    .await;
    x.with(&[("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")]);
    x.get(RULE).await;
}

/// What is said about an object of one kind.
struct Conversation {
    resource: &'static str,
    /// Whole, as alice writes it.
    whole: &'static str,
    /// What others want its spec to be.
    wishes: Vec<(&'static str, Value)>,
    /// What alice no longer says.
    given_up: &'static str,
    /// What a controller says of it, and what somebody else wants to be said.
    statuses: [Value; 2],
}

impl Conversation {
    async fn hold(self, x: &mut Exchange) {
        let mut whole: Value = serde_saphyr::from_str(self.whole).unwrap();
        let path = format!("/apis/fother.dev/v1alpha1/namespaces/{{ns}}/{}/one", self.resource);
        let part = |field: &str, value: &Value| json!({"apiVersion": whole["apiVersion"], "kind": whole["kind"], "metadata": {"name": "one"}, field: value});
        x.apply(&path, "alice", &whole).await;
        x.apply(&path, "alice", &whole).await;
        for (manager, wish) in &self.wishes {
            x.apply(&path, manager, &part("spec", wish)).await;
        }
        x.apply(&path, "bob", &json!({"apiVersion": whole["apiVersion"], "kind": whole["kind"]})).await;
        let status = format!("{path}/status");
        for manager in ["controller", "mallory", "mallory&force=true", "controller"] {
            let said = &self.statuses[usize::from(manager.starts_with("mallory"))];
            x.apply(&status, manager, &part("status", said)).await;
        }
        whole["spec"].as_object_mut().unwrap().remove(self.given_up);
        x.apply(&path, "alice", &whole).await;
        x.apply(&path, "alice&force=true", &whole).await;
        x.merge(&path, &json!({"spec": {"serviceAccountName": ""}})).await;
        x.with(&[("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")]);
        x.get(&path).await;
        x.with(&[]);
    }
}

/// A condition, as `status`.
fn ready(status: &str) -> Value {
    let ready = json!({"type": "Ready", "status": status, "reason": "Active", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    json!({"observedGeneration": 1, "conditions": [ready]})
}

pub async fn actions(x: &mut Exchange) {
    define(x).await;
    let conversation = Conversation {
        resource: "actions",
        whole: ACTION,
        wishes: vec![
            ("bob", json!({"timeout": "9m"})),
            // Lists whose entries have a name are merged by it, and each belongs to who wrote it.
            ("bob", json!({"parameters": [{"name": "c", "default": "3"}]})),
            ("bob", json!({"parameters": [{"name": "a", "type": "string"}]})),
            ("bob&force=true", json!({"timeout": "9m", "script": {"image": "debian:13"}})),
            ("bob", json!({"script": {"pod": {"tolerations": [{"value": "x"}]}}})),
            ("bob", json!({"script": {"pod": {"privileged": true}}})),
            ("bob", json!({"collect": {}})),
            ("bob", json!({"timeout": "soon"})),
        ],
        given_up: "parameters",
        statuses: [ready("True"), ready("False")],
    };
    conversation.hold(x).await;
}

pub async fn executions(x: &mut Exchange) {
    define(x).await;
    let conversation = Conversation {
        resource: "executions",
        whole: EXECUTION,
        wishes: vec![
            ("bob", json!({"run": "scale"})),
            ("bob&force=true", json!({"run": "scale"})),
            ("bob", json!({"cancel": true})),
            ("bob", json!({"cancel": false})),
            ("bob", json!({"with": {"a": 2}})),
            ("bob", json!({"zzz": 1})),
        ],
        given_up: "with",
        statuses: [
            json!({"startedAt": "2026-01-01T00:00:00Z", "step": "1/1", "rungs": [
                {"run": "restart", "state": "Running", "startedAt": "2026-01-01T00:00:00Z"}]}),
            json!({"step": "2/2", "rungs": [{"run": "other", "state": "Asleep", "startedAt": "yesterday"}]}),
        ],
    };
    conversation.hold(x).await;
}

pub async fn packs(x: &mut Exchange) {
    define(x).await;
    let conversation = Conversation {
        resource: "packs",
        whole: PACK,
        wishes: vec![
            ("bob", json!({"interval": "1h"})),
            ("bob&force=true", json!({"interval": "1h", "suspend": true})),
            ("bob", json!({"ref": {"tag": "v1"}})),
            ("bob", json!({"verify": {"signers": [{"name": "carol", "publicKey": "ssh-ed25519 AAAA"}]}})),
            ("bob", json!({"url": ""})),
            ("bob", json!({"interval": "often"})),
        ],
        given_up: "path",
        statuses: [
            ready("True"),
            json!({"appliedRevision": "main@sha1:1", "conditions": ready("False")["conditions"]}),
        ],
    };
    conversation.hold(x).await;
}

pub async fn webhooks(x: &mut Exchange) {
    define(x).await;
    let conversation = Conversation {
        resource: "webhooks",
        whole: WEBHOOK,
        wishes: vec![
            ("bob", json!({"limits": {"maxBodyBytes": 2048}})),
            ("bob&force=true", json!({"limits": {"maxBodyBytes": 2048}})),
            ("bob", json!({"github": {}})),
            ("bob", json!({"authentication": {"hmac": {"secretRef": {"name": "s", "key": "k"}}}})),
            ("bob", json!({"limits": {"maxBodyBytes": 1}})),
            ("bob", json!({"authentication": {"bearer": {"secretRef": {"name": "other"}}}})),
        ],
        given_up: "description",
        statuses: [ready("True"), json!({"rejected": [{"reason": "NoAuthentication", "count": "many"}]})],
    };
    conversation.hold(x).await;
}

pub async fn event_batches(x: &mut Exchange) {
    define(x).await;
    let outcome = |outcome: &str| json!({"outcomes": [{"event": 0, "rule": "r", "outcome": outcome, "time": "2026-01-01T00:00:00Z"}]});
    let conversation = Conversation {
        resource: "eventbatches",
        whole: EVENT_BATCH,
        wishes: vec![
            ("bob", json!({"webhook": "other"})),
            // A list without names belongs to one manager as a whole.
            ("bob", json!({"events": []})),
            ("bob&force=true", json!({"webhook": "other"})),
            ("bob", json!({"webhook": ""})),
            ("bob", json!({"receivedAt": "yesterday"})),
        ],
        given_up: "receivedAt",
        statuses: [outcome("Fired"), outcome("Suppressed")],
    };
    conversation.hold(x).await;
}

const ACTION: &str = "\
apiVersion: fother.dev/v1alpha1
kind: Action
metadata: {name: one}
spec:
  parameters: [{name: a, type: integer, default: '1', minimum: 0}, {name: b}]
  timeout: 5m
  script: {image: 'debian:12', inline: 'true', pod: {tolerations: [{key: dedicated, operator: Exists}]}}
";

const EXECUTION: &str = "\
apiVersion: fother.dev/v1alpha1
kind: Execution
metadata: {name: one, labels: {by: alice}}
spec:
  serviceAccountName: healer
  run: restart
  with: {a: 1, b: {c: [x]}}
  target: {apiVersion: apps/v1, kind: Deployment, name: shop}
";

const PACK: &str = "\
apiVersion: fother.dev/v1alpha1
kind: Pack
metadata: {name: one}
spec:
  url: https://git.example.com/ops.git
  ref: {branch: main}
  path: rules
  interval: 5m
  serviceAccountName: packs
  verify: {signers: [{name: alice, publicKey: 'ssh-ed25519 AAAA'}]}
";

const WEBHOOK: &str = "\
apiVersion: fother.dev/v1alpha1
kind: Webhook
metadata: {name: one}
spec:
  description: What Alertmanager says.
  serviceAccountName: receiver
  alertmanager: {}
  authentication: {bearer: {secretRef: {name: s, key: k}}}
  limits: {maxBodyBytes: 4096}
";

const EVENT_BATCH: &str = "\
apiVersion: fother.dev/v1alpha1
kind: EventBatch
metadata: {name: one}
spec:
  webhook: alerts
  receivedAt: '2026-01-01T00:00:00.000000Z'
  events:
    - event: {source: alerts, type: Alert, id: '1', time: '2026-01-01T00:00:00.000000Z', data: {a: [1, null]}}
      rules: [r, s]
";
