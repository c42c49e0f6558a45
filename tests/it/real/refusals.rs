//! `fother validate` and the API server agree: what one's schema refuses, the other's does, and what is good is good to both.

use fother::decide::pack::{Source, Surroundings, read};
use fother::decide::problem::Severity;

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

/// What is changed in the manifest above, and a word of the refusal of both.
const REFUSED: [(&str, &str, &str, &str); 23] = [
    (RULE, "serviceAccountName:", "serviceAccountNam:", "serviceAccountNam"),
    (RULE, "serviceAccountName: healer", "description: x", "serviceAccountName"),
    (RULE, "serviceAccountName: healer", "serviceAccountName: ''", "serviceAccountName"),
    (RULE, "mode: Enforce", "mode: enforce", "mode"),
    (RULE, "{matchLabels: {tier: web}}", "{}", "selector is empty"),
    (RULE, "{resource: {", "{event: {}, resource: {", "exactly one of resource and event"),
    (RULE, "  when: crashLooping(object, 3, duration('10m'))\n", "", "when is required"),
    (RULE, "target: workload", "target: workloads", "target"),
    (RULE, "target: workload", "target: {owned: {}}", "target"),
    (RULE, "for: 2m", "for: 5 minutes", "for"),
    (RULE, "cooldown: 30m", "cooldown: 30", "cooldown"),
    (RULE, "run: restart, ", "", "run"),
    (
        RULE,
        "name: crashloop",
        "name: crashloop-of-a-name-that-goes-on-and-on-until-it-is-too-long-for-a-label",
        "name is",
    ),
    (
        RULE,
        "trigger: {resource: {apiVersion: v1, kind: Pod, labelSelector: {matchLabels: {tier: web}}}}",
        "trigger: {event: {}}",
        "for and since need a resource trigger",
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
];

#[tokio::test]
async fn validate_and_the_api_server_agree() {
    let Some(plane) = ControlPlane::shared().await else { return };
    let (namespace, kubectl) = (plane.namespace("refusals").await, plane.kubectl());
    install_crds(&kubectl).await;
    for good in [RULE, ACTION] {
        assert_eq!(validate(good), "");
        let answer = create(&kubectl, &namespace, good).await;
        assert_eq!(answer, "", "{good}");
    }
    for (manifest, from, to, word) in REFUSED {
        let manifest = manifest.replace(from, to);
        assert!(validate(&manifest).contains(word), "{word}: {}", validate(&manifest));
        let answer = create(&kubectl, &namespace, &manifest).await;
        assert!(answer.contains(word), "{word}: the API server says {answer:?}\n{manifest}");
    }
}

/// The errors of `fother validate`; warnings are not the API server's business.
fn validate(manifest: &str) -> String {
    let sources = [Source { path: "a.yaml", content: manifest.as_bytes() }];
    let surroundings = Surroundings { external_actions: vec!["restart"], ..Surroundings::default() };
    let errors = read(&sources, &surroundings).findings.into_iter();
    let errors = errors.filter(|finding| finding.problem.severity == Severity::Error);
    errors.map(|finding| finding.to_string()).collect::<Vec<_>>().join("\n")
}

/// What the API server has against a manifest; nothing is kept of it.
async fn create(kubectl: &Kubectl, namespace: &str, manifest: &str) -> String {
    let arguments = ["create", "-f", "-", "-n", namespace, "--dry-run=server", "--validate=strict"];
    let answer = kubectl.try_run(&arguments, manifest).await;
    if answer.code == 0 { String::new() } else { answer.stderr }
}

async fn install_crds(kubectl: &Kubectl) {
    let crds = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": fother::api::crds()});
    kubectl.apply(&crds.to_string(), &["--server-side", "--force-conflicts"]).await;
    // Not all that there are: those of other tests go when they like.
    let names: Vec<String> = fother::api::crds().into_iter().filter_map(|crd| crd.metadata.name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    kubectl
        .run(&[&["wait", "--for=condition=Established", "--timeout=60s", "crd"], names.as_slice()].concat())
        .await;
}
