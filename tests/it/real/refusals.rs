//! `fother validate` and the API server agree: what one's schema refuses, the other's does, and what is good is good to
//! both. Each rule of the schemas refuses something here.

use fother::api::Execution;
use fother::decide::pack::{Source, Surroundings, read};
use fother::decide::problem::Severity;
use fother::expr::Schemas;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::control_plane::ControlPlane;
use crate::support::kubectl::Kubectl;

const RULE: &str = "\
apiVersion: fother.dev/v1alpha1
kind: Rule
metadata: {name: crashloop}
spec:
  serviceAccountName: healer
  mode: Enforce
  trigger: {resource: {apiVersion: v1, kind: Pod, labelSelector: {matchLabels: {tier: web}}}}
  when: crashLooping(object, 3, duration('10m'))
  target: workload
  for: 2m
  limits: {cooldown: 30m}
  ladder:
    - {run: restart, with: {a: 1, b: {c: [x]}}, verify: {within: 15m, stableFor: 5m}}
";

const ACTION: &str = "\
apiVersion: fother.dev/v1alpha1
kind: Action
metadata: {name: restart}
spec:
  parameters: [{name: a, type: integer, default: '1', minimum: 0}, {name: b}]
  timeout: 5m
  kubernetes: {restart: {}}
";

const WEBHOOK: &str = "\
apiVersion: fother.dev/v1alpha1
kind: Webhook
metadata: {name: alerts}
spec:
  serviceAccountName: receiver
  alertmanager: {}
  authentication: {bearer: {secretRef: {name: s, key: k}}}
";

const PACK: &str = "\
apiVersion: fother.dev/v1alpha1
kind: Pack
metadata: {name: ops}
spec:
  url: https://git.example.com/ops.git
  ref: {branch: main}
  interval: 5m
  serviceAccountName: packs
";

const EXECUTION: &str = "\
apiVersion: fother.dev/v1alpha1
kind: Execution
metadata: {name: hand}
spec:
  serviceAccountName: healer
  run: restart
  with: {a: 1}
  target: {apiVersion: apps/v1, kind: Deployment, name: shop}
";

const LONG: &str = "name: of-a-length-that-leaves-no-room-in-a-label-for-what-is-derived-from-it";
const WATCHED: &str =
    "trigger: {resource: {apiVersion: v1, kind: Pod, labelSelector: {matchLabels: {tier: web}}}}";
const NO_RESTART: &str = "kubernetes: {restart: {}}";

/// What is changed in the manifest above, and a word of the refusal of both.
const REFUSED: [(&str, &str, &str, &str); 57] = [
    (RULE, "serviceAccountName:", "serviceAccountNam:", "serviceAccountNam"),
    (RULE, "serviceAccountName: healer", "description: x", "serviceAccountName"),
    (RULE, "serviceAccountName: healer", "serviceAccountName: ''", "serviceAccountName"),
    (RULE, "mode: Enforce", "mode: enforce", "mode"),
    (RULE, "{matchLabels: {tier: web}}", "{}", "selector is empty"),
    (RULE, "{matchLabels: {tier: web}}", "{matchExpressions: [{key: tier, operator: Like}]}", "Like"),
    (
        RULE,
        "{resource: {",
        "{event: {}, resource: {",
        "exactly one of resource, event, alert, webhook, schedule and execution",
    ),
    (RULE, "  when: crashLooping(object, 3, duration('10m'))\n", "", "when is required"),
    (RULE, "kind: Pod,", "kind: Pod, lifecycle: [Gone],", "lifecycle"),
    (RULE, "kind: Pod,", "kind: Pod, lifecycle: [Deleted],", "for and since do not go with lifecycle"),
    (RULE, "target: workload", "target: workloads", "target"),
    (RULE, "target: workload", "target: {owned: {}}", "target"),
    (RULE, "for: 2m", "for: 5 minutes", "for"),
    (RULE, "cooldown: 30m", "cooldown: 30", "cooldown"),
    (RULE, "cooldown: 30m", "perRule: abc", "perRule"),
    (RULE, "cooldown: 30m", "perTarget: 2/", "perTarget"),
    (RULE, "run: restart, ", "", "run"),
    (
        RULE,
        "name: crashloop",
        "name: crashloop-of-a-name-that-goes-on-and-on-until-it-is-too-long-for-a-label",
        "name is",
    ),
    (RULE, WATCHED, "trigger: {event: {}}", "for needs a resource or alert trigger"),
    (RULE, WATCHED, "trigger: {event: {}}\n  since: timestamp(event.time)", "since needs a resource trigger"),
    (RULE, "cooldown: 30m", "once: {take: First, within: 1m}", "limits.once chooses among events"),
    (RULE, "for: 2m", "correlate: {within: 1m, count: 3}", "correlate over a resource trigger needs since"),
    (
        RULE,
        WATCHED,
        "trigger: {schedule: {cron: '0 3 * * *'}}\n  correlate: {within: 1m, count: 3}",
        "correlate needs several things that can happen",
    ),
    (
        RULE,
        WATCHED,
        "trigger: {alert: {webhook: a, state: Resolved}}",
        "for does not go with alerts that are",
    ),
    (
        RULE,
        WATCHED,
        "trigger: {alert: {webhook: a, state: Resolved}}\n  correlate: {within: 1m, count: 3}",
        "correlate goes with alerts that fire",
    ),
    (
        RULE,
        WATCHED,
        "trigger: {alert: {webhook: a, state: Resolved, unmatched: true}}",
        "unmatched goes with alerts that fire",
    ),
    (RULE, WATCHED, "trigger: {alert: {webhook: a, state: resolved}}", "state"),
    (RULE, WATCHED, "trigger: {schedule: {cron: '@daily', every: 1h}}", "exactly one of cron, every and at"),
    (RULE, WATCHED, "trigger: {schedule: {every: 1h, timeZone: Europe/London}}", "timeZone goes with cron"),
    (RULE, WATCHED, "trigger: {schedule: {every: 9s}}", "every is at least 10s"),
    (RULE, WATCHED, "trigger: {schedule: {at: [tomorrow]}}", "at[0]"),
    (RULE, "for: 2m", "for: 2m\n  correlate: {within: 1m, count: 3}", "for does not go with correlate"),
    (RULE, "for: 2m", "correlate: {within: 1m}", "exactly one of count, any, all, sequence and absent"),
    (WEBHOOK, "name: alerts", LONG, "name is"),
    (WEBHOOK, "alertmanager: {}", "alertmanager: {}\n  github: {}", "exactly one of alertmanager"),
    (WEBHOOK, "{bearer: {secretRef: {name: s, key: k}}}", "{}", "exactly one of bearer"),
    (
        WEBHOOK,
        "{bearer: {secretRef: {name: s, key: k}}}",
        "{hmac: {secretRef: {name: s, key: k}, tolerance: 16m}}",
        "tolerance is at most 15m",
    ),
    (ACTION, "restart: {}", "restart: {}, scale: {replicas: 1}", "exactly one of restart"),
    (ACTION, "kubernetes: {restart: {}}", "collect: {tailLines: 0}", "tailLines"),
    (ACTION, "{name: b}", "{name: a}", "uplicate"),
    (ACTION, "{name: b}", "{name: b, required: true, default: x}", "a required parameter has no default"),
    (ACTION, "kubernetes: {restart: {}}", "container: {image: x, privileged: true}", "privileged"),
    (ACTION, "kubernetes: {restart: {}}", "container: {image: x, pod: {hostNetwork: true}}", "hostNetwork"),
    (
        ACTION,
        "kubernetes: {restart: {}}",
        "container: {image: x, pod: {tolerations: [{value: x}]}}",
        "without key",
    ),
    (
        ACTION,
        "kubernetes: {restart: {}}",
        "container: {image: x, pod: {resources: {limits: {gpu: '1'}}}}",
        "limits can be for",
    ),
    (
        ACTION,
        "kubernetes: {restart: {}}",
        "container: {image: x, volumes: [{mountPath: /x}]}",
        "exactly one of claimName",
    ),
    (ACTION, "name: restart", LONG, "name is"),
    (ACTION, "timeout: 5m", "collect: {}", "exactly one of script"),
    (ACTION, NO_RESTART, "script: {image: x, inline: a, file: b}", "exactly one of inline"),
    (ACTION, NO_RESTART, "kubernetes: {patch: {}}", "exactly one of merge"),
    (ACTION, NO_RESTART, "kubernetes: {annotate: {values: {}}}", "values"),
    (ACTION, NO_RESTART, "kubernetes: {label: {values: {}}}", "values"),
    (
        ACTION,
        NO_RESTART,
        "kubernetes: {recreate: {merge: {a: b}, json: [{op: remove, path: /a}]}}",
        "at most one of merge",
    ),
    (
        ACTION,
        NO_RESTART,
        "container: {image: x, pod: {tolerations: [{key: a, operator: Exists, value: x}]}}",
        "value is for",
    ),
    (
        ACTION,
        NO_RESTART,
        "container: {image: x, pod: {tolerations: [{key: a, effect: NoSchedule, tolerationSeconds: 3}]}}",
        "tolerationSeconds is for",
    ),
    (
        ACTION,
        NO_RESTART,
        "container: {image: x, pod: {resources: {requests: {gpu: '1'}}}}",
        "requests can be for",
    ),
    (ACTION, "timeout: 5m", "timeout: soon", "timeout"),
];

/// The same of what is in no pack, so that only the API server judges it.
const REFUSED_BY_THE_SERVER: [(&str, &str, &str, &str); 14] = [
    (PACK, "name: ops", LONG, "name is"),
    (PACK, "{branch: main}", "{branch: main, tag: v1}", "exactly one of branch"),
    (PACK, "{branch: main}", "{}", "exactly one of branch"),
    (PACK, "{branch: main}", "{commit: 4c1e9a2f}", "spec.ref.commit"),
    (PACK, "interval: 5m", "interval: often", "spec.interval"),
    (PACK, "url: https://git.example.com/ops.git", "url: ''", "spec.url"),
    (PACK, "serviceAccountName: packs", "prune: false", "serviceAccountName"),
    (PACK, "serviceAccountName: packs", "serviceAccount: packs", "serviceAccount"),
    (EXECUTION, "name: hand", LONG, "name is too long: max 63"),
    (EXECUTION, "name: hand", "name: crashloop-8889a16f05ee0410", "is for what a Rule decides"),
    (EXECUTION, "run: restart", "cancel: false", "set run (decision is for the controller)"),
    (EXECUTION, "serviceAccountName: healer", "cancel: false", "serviceAccountName"),
    (EXECUTION, "run: restart", DECIDED, "takes parameters and verification from its Rule"),
    (EXECUTION, "run: restart", UNIDENTIFIED, "spec.decision.id"),
];

const DECIDED: &str = "decision: {id: 0123456789abcdef0123456789abcdef, time: '2026-01-01T00:00:00Z', rule: {name: r}, \
    mode: Enforce, definition: d, matched: {object: {apiVersion: v1, kind: Pod, name: p}}}";
const UNIDENTIFIED: &str = "decision: {id: mine, time: '2026-01-01T00:00:00Z', rule: {name: r}, mode: Enforce, \
    definition: d, matched: {object: {apiVersion: v1, kind: Pod, name: p}}}";

/// Changes of an Execution that was canceled, and a word of the refusal.
fn too_late() -> [(Value, &'static str); 8] {
    [
        (json!({"run": "scale"}), "immutable"),
        (json!({"serviceAccountName": "admin"}), "immutable"),
        (json!({"with": {"a": 2}}), "immutable"),
        (json!({"with": null}), "immutable"),
        (json!({"target": {"name": "till"}}), "immutable"),
        (json!({"verify": {"within": "1m"}}), "immutable"),
        (json!({"cancel": false}), "a cancellation cannot be taken back"),
        (json!({"cancel": null}), "a cancellation cannot be taken back"),
    ]
}

#[tokio::test]
async fn validate_and_the_api_server_agree() {
    let Some(plane) = ControlPlane::shared().await else { return };
    let (namespace, client) = (plane.namespace("refusals").await, plane.admin().client().await);
    install_crds(&plane.kubectl()).await;
    for good in [RULE, ACTION, WEBHOOK] {
        assert_eq!(validate(good), "");
    }
    for good in [RULE, ACTION, WEBHOOK, PACK, EXECUTION] {
        let answer = create(&client, &namespace, good).await;
        assert_eq!(answer, "", "{good}");
    }
    let mut said = String::new();
    for (manifest, from, to, word) in REFUSED {
        let manifest = manifest.replace(from, to);
        assert!(validate(&manifest).contains(word), "{word}: {}", validate(&manifest));
        said += &refused(&client, &namespace, &manifest, word).await;
    }
    for (manifest, from, to, word) in REFUSED_BY_THE_SERVER {
        said += &refused(&client, &namespace, &manifest.replace(from, to), word).await;
    }
    said += &refused_too_late(client, &namespace).await;
    for rule in rules(&json!(fother::api::crds())) {
        assert!(said.contains(&rule), "nothing here is refused with {rule:?}");
    }
}

async fn refused(client: &Client, namespace: &str, manifest: &str, word: &str) -> String {
    let answer = create(client, namespace, manifest).await;
    assert!(answer.contains(word), "{word}: the API server says {answer:?}\n{manifest}");
    answer
}

/// An Execution is written once: what can be changed is that it is canceled, and that only once.
async fn refused_too_late(client: Client, namespace: &str) -> String {
    let executions = Api::<Execution>::namespaced(client, namespace);
    let execution = serde_saphyr::from_str(EXECUTION).unwrap();
    executions.create(&PostParams::default(), &execution).await.unwrap();
    let patch = async |change: Value| {
        executions.patch("hand", &PatchParams::default(), &Patch::Merge(json!({"spec": change}))).await
    };
    patch(json!({"cancel": true})).await.unwrap();
    let mut said = String::new();
    for (change, word) in too_late() {
        let answer = patch(change.clone()).await.expect_err("it is refused").to_string();
        assert!(answer.contains(word), "{change}: {answer}");
        said += &answer;
    }
    said
}

/// The messages of all rules in the schemas.
fn rules(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(rules) = schema.get("x-kubernetes-validations").and_then(Value::as_array) {
        found.extend(rules.iter().map(|rule| rule["message"].as_str().expect("each has one").to_owned()));
    }
    let members = schema.as_object().into_iter().flat_map(|members| members.values());
    let items = schema.as_array().into_iter().flatten();
    found.extend(members.chain(items).flat_map(rules));
    found
}

/// The errors of `fother validate`; warnings are not the API server's business.
fn validate(manifest: &str) -> String {
    let sources = [Source { path: "a.yaml", content: manifest.as_bytes() }];
    let surroundings = Surroundings { external_actions: vec!["restart"], ..Surroundings::default() };
    let errors = read(&sources, &surroundings).check(&Schemas::default()).findings.into_iter();
    let errors = errors.filter(|finding| finding.problem.severity == Severity::Error);
    errors.map(|finding| finding.to_string()).collect::<Vec<_>>().join("\n")
}

/// What the API server has against a manifest; nothing is kept of it.
async fn create(client: &Client, namespace: &str, manifest: &str) -> String {
    let object: Value = serde_saphyr::from_str(manifest).unwrap();
    let plural = format!("{}s", object["kind"].as_str().unwrap().to_lowercase());
    let how = "dryRun=All&fieldValidation=Strict";
    let path = format!("/apis/fother.dev/v1alpha1/namespaces/{namespace}/{plural}?{how}");
    let request = http::Request::post(path).header("content-type", "application/json");
    let answer = client.request_text(request.body(object.to_string().into_bytes()).unwrap()).await;
    answer.err().map_or_else(String::new, |error| error.to_string())
}

async fn install_crds(kubectl: &Kubectl) {
    let crds = json!({"apiVersion": "v1", "kind": "List", "items": fother::api::crds()});
    kubectl.apply(&crds.to_string(), &["--server-side", "--force-conflicts"]).await;
    // Not all that there are: those of other tests go when they like.
    let names: Vec<String> = fother::api::crds().into_iter().filter_map(|crd| crd.metadata.name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    kubectl
        .run(&[&["wait", "--for=condition=Established", "--timeout=60s", "crd"], names.as_slice()].concat())
        .await;
}
