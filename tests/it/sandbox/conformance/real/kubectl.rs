//! The same kubectl to both servers: what it prints must not differ.

use std::sync::LazyLock;
use std::time::Duration;

use fother::sandbox::apiserver::User;
use fother::sandbox::clock::Clock;
use fother::sandbox::world::{World, WorldOptions};
use regex::Regex;
use tokio_util::sync::CancellationToken;

use crate::support::control_plane::ControlPlane;
use crate::support::kubectl::{Answer, Kubectl};

use super::super::super::stage::Stage;
use super::super::deviations::{Difference, judge};

/// Arguments, and what is typed.
type Line = (&'static str, &'static str);

/// A kind that no other test has: short names lead to whichever group comes first.
const QUAY: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: quays.NAMESPACE.dev}
spec:
  group: NAMESPACE.dev
  scope: Namespaced
  names: {plural: quays, kind: Quay, shortNames: [qy], categories: [moorings]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
    additionalPrinterColumns:
    - {name: Mode, type: string, jsonPath: .spec.mode}
    - {name: Wide, type: string, jsonPath: .spec.level, priority: 1}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    schema:
      openAPIV3Schema:
        type: object
        description: A Quay is a thing.
        properties:
          spec:
            type: object
            description: What is wanted.
            required: [mode]
            x-kubernetes-validations: [{rule: "!has(self.a) || !has(self.b)", message: "a and b exclude each other"}]
            properties:
              mode: {type: string, enum: [Observe, Enforce], description: How it acts.}
              a: {type: string, maxLength: 5}
              b: {type: string}
              level: {type: string, default: low}
              replicas: {type: integer, minimum: 0}
              list: {type: array, description: Several., items: {type: object, properties: {k: {type: string, description: A key.}}}}
              map: {type: object, additionalProperties: {type: integer}}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"#;

const A: &str = "apiVersion: NAMESPACE.dev/v1\nkind: Quay\nmetadata: {name: a}\nspec: {mode: Observe}\n";
const A2: &str =
    "apiVersion: NAMESPACE.dev/v1\nkind: Quay\nmetadata: {name: a}\nspec: {mode: Enforce, level: high}\n";
const BAD: &str =
    "apiVersion: NAMESPACE.dev/v1\nkind: Quay\nmetadata: {name: bad}\nspec: {mode: Nope, a: x, zzz: 1}\n";
const WRONG: &str =
    "apiVersion: NAMESPACE.dev/v1\nkind: Quay\nmetadata: {name: bad}\nspec: {mode: Observe, a: x, b: y}\n";
const C: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, labels: {app: x}}\ndata: {k: one}\n";
const C2: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, labels: {app: x}}\ndata: {k: two}\n";
const D: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: d, labels: {app: x}}\ndata: {k: one}\n";
const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: a, image: "nginx:1"}]}
"#;
const EVENT: &str = "apiVersion: v1\nkind: Event\nmetadata: {name: e}\nreason: Boom\nmessage: it broke\ntype: Warning\n\
    count: 2\ninvolvedObject: {apiVersion: v1, kind: ConfigMap, name: c, namespace: NAMESPACE}\nsource: {component: me}\n\
    firstTimestamp: '2026-01-01T00:00:00Z'\nlastTimestamp: '2026-01-01T00:00:00Z'\n";

fn objects() -> Vec<Line> {
    vec![
        ("apply -f -", C),
        ("apply -f -", C),
        ("diff -f -", C2),
        ("diff -f -", C),
        ("diff --server-side -f -", C2),
        ("apply --dry-run=server -f -", C2),
        ("apply -f -", C2),
        ("get cm c", ""),
        ("get cm c -o wide", ""),
        ("get cm c -o yaml", ""),
        ("get cm c -o yaml --show-managed-fields", ""),
        ("get cm c -o json", ""),
        ("get cm c -o jsonpath={.data.k}", ""),
        ("get cm c -o custom-columns=N:.metadata.name,K:.data.k", ""),
        ("get cm -l app=x -o name", ""),
        ("get cm -l app=x --show-labels", ""),
        ("get cm nope", ""),
        ("get nonesuch", ""),
        ("get cm c d", ""),
        ("label cm c a=b", ""),
        ("label cm c a=c", ""),
        ("label cm c a=c --overwrite", ""),
        ("label cm c a-", ""),
        ("annotate cm c a=b", ""),
        ("patch cm c -p {\"data\":{\"l\":\"m\"}}", ""),
        ("patch cm c -p {\"data\":{\"l\":\"m\"}}", ""),
        ("patch cm c --type=json -p [{\"op\":\"remove\",\"path\":\"/data/nope\"}]", ""),
        ("patch cm c --type=merge -p {\"data\":{\"l\":null}}", ""),
        ("describe cm c", ""),
        ("apply --server-side --field-manager=bob -f -", C),
        ("apply --server-side --field-manager=bob --force-conflicts -f -", C),
        ("apply --server-side --field-manager=bob -f -", C),
        ("apply -f -", EVENT),
        ("get events --field-selector reason=Boom", ""),
        ("events --for configmap/c", ""),
        ("apply -f -", D),
        ("apply --prune -l app=x --prune-allowlist=core/v1/ConfigMap -f -", C),
        ("get cm -l app=x -o name", ""),
        ("get cm -l app=x -w --request-timeout=2s", ""),
        ("create cm e --from-literal=k=v", ""),
        ("create cm e --from-literal=k=v", ""),
        ("replace -f -", C2),
        ("replace --force -f -", C2),
        ("wait --for=jsonpath={.data.k}=two cm/c --timeout=5s", ""),
        ("wait --for=jsonpath={.data.k}=never cm/c --timeout=1s", ""),
        ("delete cm c --cascade=foreground", ""),
        ("delete cm c", ""),
        ("delete cm c --ignore-not-found", ""),
        ("delete cm --all -l app=x --dry-run=server", ""),
        ("wait --for=delete cm/c --timeout=5s", ""),
        ("get all", ""),
        ("create -f -", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: A_b}\n"),
        ("create -f -", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\nzzz: 1\n"),
        ("create -f -", "apiVersion: nope.dev/v1\nkind: Nope\nmetadata: {name: x}\n"),
    ]
}

fn custom() -> Vec<Line> {
    vec![
        ("apply -f -", QUAY),
        ("wait --for=condition=Established crd/quays.NAMESPACE.dev --timeout=20s", ""),
        ("apply -f -", A),
        ("get quays", ""),
        ("get qy a -o wide", ""),
        ("get moorings", ""),
        ("get quay a -o yaml", ""),
        ("diff -f -", A2),
        ("apply -f -", BAD),
        ("apply --validate=false -f -", BAD),
        ("apply -f -", WRONG),
        ("apply --server-side --field-manager=bob -f -", A2),
        ("apply --server-side --field-manager=bob --force-conflicts -f -", A2),
        (
            "patch quay a --type=merge --subresource=status -p {\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}",
            "",
        ),
        ("wait --for=condition=Ready quay/a --timeout=5s", ""),
        ("patch quay a -p {\"spec\":{}}", ""),
        ("scale quay/a --replicas=4", ""),
        ("get quay a -o jsonpath={.spec.replicas}", ""),
        ("describe quay a", ""),
        ("explain quay", ""),
        ("explain quay.spec", ""),
        ("explain quay.spec.list", ""),
        ("explain quay --recursive", ""),
        ("explain quay.spec.nope", ""),
        ("api-resources --api-group=NAMESPACE.dev", ""),
        ("delete quay a", ""),
        ("delete crd quays.NAMESPACE.dev", ""),
        ("get quays.NAMESPACE.dev", ""),
    ]
}

fn workloads() -> Vec<Line> {
    vec![
        ("apply -f -", WEB),
        ("wait --for=condition=Available deploy/web --timeout=20s", ""),
        ("rollout status deploy/web --timeout=20s", ""),
        ("get deploy", ""),
        ("get deploy web -o wide", ""),
        ("get rs", ""),
        ("rollout restart deploy/web", ""),
        ("rollout status deploy/web --timeout=20s", ""),
        ("set image deploy/web a=nginx:2", ""),
        ("rollout status deploy/web --timeout=20s", ""),
        ("rollout history deploy/web", ""),
        ("rollout pause deploy/web", ""),
        ("rollout pause deploy/web", ""),
        ("rollout resume deploy/web", ""),
        ("scale deploy/web --replicas=1", ""),
        ("scale deploy/web --replicas=0 --current-replicas=5", ""),
        ("scale deploy/web --replicas=0", ""),
        ("rollout status deploy/web --timeout=20s", ""),
        ("explain deploy.spec.strategy", ""),
        ("explain pod --recursive", ""),
        ("explain cm", ""),
        ("explain job.spec.nope", ""),
        ("explain nonesuch", ""),
        ("create job j --image=busybox:1 -- date", ""),
        ("wait --for=jsonpath={.status.startTime} job/j --timeout=20s", ""),
        ("get job j", ""),
        ("delete job j", ""),
        ("delete deploy web --cascade=background", ""),
        ("wait --for=delete deploy/web --timeout=20s", ""),
        ("create secret generic s --from-literal=k=v", ""),
        ("describe secret s", ""),
        ("create quota q --hard=pods=1 --dry-run=client -o yaml", ""),
    ]
}

fn access() -> Vec<Line> {
    vec![
        ("create serviceaccount healer", ""),
        ("create role reader --verb=get,list --resource=configmaps", ""),
        ("create rolebinding reader --role=reader --serviceaccount=NAMESPACE:healer", ""),
        ("auth can-i get configmaps --as=system:serviceaccount:NAMESPACE:healer", ""),
        ("auth can-i delete configmaps --as=system:serviceaccount:NAMESPACE:healer", ""),
        ("auth can-i get pods/log --as=system:serviceaccount:NAMESPACE:healer", ""),
        ("auth can-i get /version --as=system:serviceaccount:NAMESPACE:healer", ""),
        ("auth can-i * *", ""),
        ("auth can-i get nonesuch", ""),
        ("auth can-i --list --as=system:serviceaccount:NAMESPACE:healer", ""),
        ("get configmaps -l nope --as=system:serviceaccount:NAMESPACE:healer", ""),
        ("get secrets --as=system:serviceaccount:NAMESPACE:healer", ""),
        ("delete cm x --as=system:serviceaccount:NAMESPACE:healer", ""),
        ("auth whoami --as=system:serviceaccount:NAMESPACE:healer", ""),
        ("describe role reader", ""),
        ("describe rolebinding reader", ""),
        ("get role,rolebinding", ""),
        ("get role,rolebinding -o wide", ""),
    ]
}

/// kubectl at one of the servers, in a namespace of its own.
struct Terminal {
    kubectl: Kubectl,
    namespace: String,
}

impl Terminal {
    async fn run(&self, (arguments, input): &Line) -> Answer {
        let text = format!("-n NAMESPACE {arguments}").replace("NAMESPACE", &self.namespace);
        let arguments: Vec<&str> = text.split(' ').collect();
        let answer = self.kubectl.try_run(&arguments, &input.replace("NAMESPACE", &self.namespace)).await;
        self.normal(&answer)
    }

    fn normal(&self, answer: &Answer) -> Answer {
        let text = |text: &str| normal(&text.replace(&self.namespace, "NAMESPACE"));
        Answer { code: answer.code, stdout: text(&answer.stdout), stderr: text(&answer.stderr) }
    }
}

static VARYING: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    let table = [
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.\d]* [+-]\d{4}( \w+)?", "TIME"),
        (r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", "TIME"),
        (r#"(resourceVersion"?: )"\d+""#, "${1}RV"),
        (r"(Resource Version: +)\d+", "${1}RV"),
        (r"/(tmp|var)/[^ ]*(LIVE|MERGED)-\d+", "/tmp/$2"),
        (r"\b\d+[smhd](\d+[smh])?\b", "AGE"),
        (r"web-[0-9a-z]{8,10}", "web-HASH"),
        (r"pod-template-hash=[0-9a-z]+", "pod-template-hash=HASH"),
        (r"kubectl-edit-\d+", "kubectl-edit-N"),
        (r"https://127\.0\.0\.1:\d+", "SERVER"),
        (r"[EW]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ", "LOG "),
    ];
    table.into_iter().map(|(pattern, with)| (Regex::new(pattern).unwrap(), with)).collect()
});

/// Without what varies, and without the padding that depends on it.
fn normal(text: &str) -> String {
    let text = VARYING
        .iter()
        .fold(text.to_owned(), |text, (pattern, with)| pattern.replace_all(&text, *with).into_owned());
    let squeezed = text.lines().filter(|line| !is_chance(line)).map(|line| {
        let indent = line.len() - line.trim_start().len();
        // An empty cell at the beginning of a row is no indentation.
        let indent = if indent > 20 { 0 } else { indent };
        format!("{}{}", &line[..indent], line.split_whitespace().collect::<Vec<_>>().join(" "))
    });
    squeezed.collect::<Vec<_>>().join("\n")
}

/// Whether a line is no part of an answer: the in-memory API signs no tokens, and so has no keys to show; and how
/// much of a rollout `rollout status` still sees depends on who was faster, the controllers or kubectl.
fn is_chance(line: &str) -> bool {
    line.contains("/openid") || line.starts_with("Waiting for deployment ")
}

/// Both servers; the in-memory one with the controllers that a real one has beside it.
struct Pair {
    real: Terminal,
    sandbox: Terminal,
    _stage: Stage,
    stop: CancellationToken,
}

impl Pair {
    async fn new(plane: &ControlPlane, test: &str) -> Self {
        let stage = Stage::start().await;
        let stop = CancellationToken::new();
        let options =
            WorldOptions { namespace: None, backoff_base: Duration::from_secs(10), clock: Clock::system() };
        tokio::spawn(World::new(stage.server.client(&User::admin()), options).run(stop.clone()));
        let kubectl = plane.kubectl();
        let namespace = plane.namespace(test).await;
        let other = kubectl.with(&stage.access);
        other.run(&["create", "namespace", &namespace]).await;
        Self {
            real: Terminal { kubectl, namespace: namespace.clone() },
            sandbox: Terminal { kubectl: other, namespace },
            _stage: stage,
            stop,
        }
    }

    /// Types the lines at both, and says what differs.
    async fn differences(&self, lines: &[Line]) -> Vec<Difference> {
        let mut found = Vec::new();
        for line in lines {
            let (real, sandbox) = tokio::join!(self.real.run(line), self.sandbox.run(line));
            found.extend(difference(&format!("kubectl {}", line.0), &real, &sandbox));
        }
        self.stop.cancel();
        found
    }
}

fn difference(line: &str, real: &Answer, sandbox: &Answer) -> Option<Difference> {
    let parts = [
        ("exit code", real.code.to_string(), sandbox.code.to_string()),
        ("output", real.stdout.clone(), sandbox.stdout.clone()),
        ("errors", real.stderr.clone(), sandbox.stderr.clone()),
    ];
    let differing: Vec<String> = parts
        .into_iter()
        .filter(|(_, real, sandbox)| real != sandbox)
        .map(|(what, real, sandbox)| format!("  {what}:\n{}", lines_that_differ(&real, &sandbox)))
        .collect();
    let text = format!("\n{}", differing.join("\n"));
    (!differing.is_empty()).then(|| Difference { place: line.to_owned(), text })
}

fn lines_that_differ(real: &str, sandbox: &str) -> String {
    let diff = similar::TextDiff::from_lines(real, sandbox);
    diff.unified_diff().context_radius(1).header("real", "sandbox").to_string()
}

async fn compare(test: &str, lines: Vec<Line>) {
    let Some(plane) = ControlPlane::quiet().await else { return };
    let found = Pair::new(plane, test).await.differences(&lines).await;
    judge(&found, |place| lines.iter().any(|line| place == format!("kubectl {}", line.0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_handled_alike() {
    compare("kubectl-objects", objects()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn custom_kinds_are_handled_alike() {
    compare("kubectl-custom", custom()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workloads_are_handled_alike() {
    compare("kubectl-workloads", workloads()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_are_handled_alike() {
    compare("kubectl-access", access()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_editor_changes_both_alike() {
    let Some(plane) = ControlPlane::quiet().await else { return };
    let pair = Pair::new(plane, "kubectl-edit").await;
    let mut found = pair.differences(&[("apply -f -", C), ("apply -f -", WEB)]).await;
    for (editor, what) in [
        ("sed -i s/one/two/", "cm/c"),
        ("sed -i s/one/two/", "cm/c"),
        ("sed -i s/two/[2]/", "cm/c"),
        ("sed -i s/name:.c$/name:.A_b/", "cm/c"),
        ("sed -i s/nginx:1/nginx:2/", "deploy/web"),
        ("sed -i s/replicas:.0/replicas:.many/", "deploy/web"),
        ("true", "cm/c"),
    ] {
        let mut answers = Vec::new();
        for terminal in [&pair.real, &pair.sandbox] {
            let answer = terminal.kubectl.edit(editor, &["-n", &terminal.namespace, what]).await;
            answers.push(terminal.normal(&answer));
        }
        found.extend(difference(&format!("kubectl edit {what} with {editor}"), &answers[0], &answers[1]));
    }
    judge(&found, |_| false);
}

/// The sandbox serves fewer kinds; those that it serves, it serves like the real one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kinds_are_listed_alike() {
    let Some(plane) = ControlPlane::quiet().await else { return };
    let pair = Pair::new(plane, "kubectl-kinds").await;
    for line in [("api-resources", ""), ("api-resources -o wide", ""), ("api-versions", "")] {
        let (real, sandbox) = tokio::join!(pair.real.run(&line), pair.sandbox.run(&line));
        let known: Vec<&str> = real.stdout.lines().collect();
        let strange: Vec<&str> = sandbox.stdout.lines().filter(|line| !known.contains(line)).collect();
        assert!(strange.is_empty() && sandbox.stdout.lines().count() > 10, "{}: {strange:#?}", line.0);
    }
}
