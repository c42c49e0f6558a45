//! Everyday kubectl against the in-memory API: what a person types, and what they read.

use crate::support::kubectl::Kubectl;

use super::stage::{FOO, Stage, foo};

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: a, image: "nginx:1"}]}
"#;

/// Runs a command that must fail, and returns what it says.
async fn refused(kubectl: &Kubectl, arguments: &[&str], input: &str) -> String {
    let answer = kubectl.try_run(arguments, input).await;
    assert!(answer.code != 0, "{arguments:?} succeeded: {answer:?}");
    answer.stderr
}

#[tokio::test]
async fn a_deployment_is_applied_changed_and_deleted() {
    let stage = Stage::start().await;
    let kubectl = stage.kubectl();
    assert_eq!(kubectl.apply(WEB, &[]).await, "deployment.apps/web created\n");
    assert_eq!(kubectl.apply(WEB, &[]).await, "deployment.apps/web unchanged\n");
    assert_eq!(
        kubectl.apply(&WEB.replace("nginx:1", "nginx:2"), &[]).await,
        "deployment.apps/web configured\n"
    );
    let run = async |arguments: &str| kubectl.run(&arguments.split(' ').collect::<Vec<_>>()).await;
    let cases = [
        ("get deploy web -o jsonpath={.spec.template.spec.containers[0].image}", "nginx:2"),
        ("scale deploy/web --replicas=5", "deployment.apps/web scaled\n"),
        (
            "patch deploy web -p {\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"a\",\"tty\":true}]}}}}",
            "deployment.apps/web patched\n",
        ),
        ("patch deploy web --type=json -p [{\"op\":\"remove\",\"path\":\"/spec/paused\"}]", ""),
        ("patch deploy web --type=merge -p {\"spec\":{\"paused\":true}}", "deployment.apps/web patched\n"),
        ("label deploy web tier=front", "deployment.apps/web labeled\n"),
        ("annotate deploy web why=because", "deployment.apps/web annotated\n"),
        ("get deploy -l tier=front -o name", "deployment.apps/web\n"),
        (
            "get deploy web -o jsonpath={.spec.replicas},{.spec.template.spec.containers[0].image},{.metadata.generation}",
            "5,nginx:2,6",
        ),
        (
            "wait --for=jsonpath={.spec.paused}=true deploy/web --timeout=5s",
            "deployment.apps/web condition met\n",
        ),
        ("delete deploy web", "deployment.apps \"web\" deleted\n"),
        ("wait --for=delete deploy/web --timeout=5s", ""),
    ];
    for (arguments, expected) in cases {
        if expected.is_empty() && arguments.starts_with("patch") {
            // The field is not there to be removed.
            refused(&kubectl, &arguments.split(' ').collect::<Vec<_>>(), "").await;
            continue;
        }
        let seen = run(arguments).await;
        assert!(seen.starts_with(expected.trim_end()), "{arguments}: {seen}");
    }
    assert!(run("get deploy").await.is_empty());
}

#[tokio::test]
async fn what_is_wrong_is_said_in_the_real_words() {
    let stage = Stage::start().await;
    let kubectl = stage.kubectl();
    kubectl.apply(FOO, &[]).await;
    kubectl.run(&["wait", "--for=condition=Established", "crd/foos.x.dev", "--timeout=10s"]).await;
    let apply = ["apply", "-f", "-"];
    let cases = [
        (WEB.replace("replicas: 2", "foo: 2"), "strict decoding error: unknown field \"spec.foo\""),
        (
            WEB.replace("replicas: 2", "replicas: two"),
            "cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            foo("a", "{mode: Observe, a: x, b: x}"),
            "The Foo \"a\" is invalid: spec: Invalid value: a and b exclude each other",
        ),
        (
            foo("a", "{mode: Nope}"),
            "spec.mode: Unsupported value: \"Nope\": supported values: \"Observe\", \"Enforce\"",
        ),
        (foo("a", "{}"), "spec.mode: Required value"),
        (foo("a", "{mode: Observe, zzz: 1}"), "strict decoding error: unknown field \"spec.zzz\""),
        (
            foo("A_b", "{mode: Observe}"),
            "metadata.name: Invalid value: \"A_b\": a lowercase RFC 1123 subdomain must consist",
        ),
    ];
    for (manifest, expected) in cases {
        let said = refused(&kubectl, &apply, &manifest).await;
        assert!(said.contains(expected), "{said}");
    }
    let said = refused(&kubectl, &["get", "pods", "--as=bob"], "").await;
    let expected = "Error from server (Forbidden): pods is forbidden: User \"bob\" cannot list resource \"pods\" in API group \
                    \"\" in the namespace \"default\"\n";
    assert_eq!(said, expected);
    assert_eq!(
        refused(&kubectl, &["get", "cm", "x"], "").await,
        "Error from server (NotFound): configmaps \"x\" not found\n"
    );
}

#[tokio::test]
async fn a_custom_kind_is_at_home() {
    let stage = Stage::start().await;
    let kubectl = stage.kubectl();
    kubectl.apply(FOO, &[]).await;
    kubectl.run(&["wait", "--for=condition=Established", "crd/foos.x.dev", "--timeout=10s"]).await;
    kubectl.apply(&foo("a", "{mode: Observe, fixed: one}"), &[]).await;
    let status = "{\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}";
    kubectl.run(&["patch", "foo", "a", "--type=merge", "--subresource=status", "-p", status]).await;
    kubectl.run(&["wait", "--for=condition=Ready", "foo/a", "--timeout=5s"]).await;
    let table = kubectl.run(&["get", "things"]).await;
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "MODE", "READY", "AGE"]);
    assert_eq!(lines[1][..3], ["a", "Observe", "True"]);
    assert_eq!(kubectl.run(&["get", "fo", "a", "-o", "jsonpath={.spec.level}"]).await, "low");
    kubectl.run(&["scale", "foo/a", "--replicas=4"]).await;
    assert_eq!(kubectl.run(&["get", "foo", "a", "-o", "jsonpath={.spec.replicas}"]).await, "4");
    let said =
        refused(&kubectl, &["patch", "foo", "a", "--type=merge", "-p", "{\"spec\":{\"fixed\":\"two\"}}"], "")
            .await;
    assert!(said.contains("spec.fixed: Invalid value: \"two\": fixed is immutable"), "{said}");
    let explained = kubectl.run(&["explain", "foo.spec.mode"]).await;
    assert!(explained.contains("How it acts.") && explained.contains("Observe"), "{explained}");
    assert!(kubectl.run(&["explain", "deployment.spec.replicas"]).await.contains("Number of desired pods"));
    assert!(
        kubectl.run(&["api-resources", "--categories=things", "-o", "name"]).await.contains("foos.x.dev")
    );
    assert!(kubectl.run(&["describe", "foo", "a"]).await.contains("Mode:"));
    kubectl.run(&["delete", "crd", "foos.x.dev"]).await;
    refused(&kubectl, &["get", "foos"], "").await;
}

#[tokio::test]
async fn appliers_see_each_others_fields() {
    let stage = Stage::start().await;
    let kubectl = stage.kubectl();
    let map = |value: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\ndata: {{k: {value}}}\n")
    };
    kubectl.apply(&map("one"), &["--server-side", "--field-manager=alice"]).await;
    let bob = ["apply", "-f", "-", "--server-side", "--field-manager=bob"];
    let said = refused(&kubectl, &bob, &map("two")).await;
    assert!(said.contains("Apply failed with 1 conflict: conflict with \"alice\": .data.k"), "{said}");
    kubectl.apply(&map("two"), &["--server-side", "--field-manager=bob", "--force-conflicts"]).await;
    assert_eq!(kubectl.run(&["get", "cm", "c", "-o", "jsonpath={.data.k}"]).await, "two");
    let dry = kubectl.apply(&map("three"), &["--dry-run=server"]).await;
    assert_eq!(dry, "configmap/c configured (server dry run)\n");
    assert_eq!(kubectl.run(&["get", "cm", "c", "-o", "jsonpath={.data.k}"]).await, "two");
}

const JOB: &str = r#"
apiVersion: batch/v1
kind: Job
metadata: {name: j}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: m, image: "busybox:1"}]}}}
"#;

#[tokio::test]
async fn logs_events_and_watches_are_read() {
    let stage = Stage::start().await;
    let kubectl = stage.kubectl();
    kubectl.apply(JOB, &[]).await;
    let labels = kubectl.run(&["get", "job", "j", "-o", "jsonpath={.spec.template.metadata.labels}"]).await;
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, labels: {labels}}}\nspec: {{nodeName: node1, containers: [{{name: \
         m, image: x}}]}}\n"
    );
    kubectl.apply(&pod, &[]).await;
    assert_eq!(kubectl.run(&["logs", "job/j", "--tail=3"]).await, "p/m tail=Some(3)\n");
    let uid = kubectl.run(&["get", "pod", "p", "-o", "jsonpath={.metadata.uid}"]).await;
    let event = format!(
        "apiVersion: v1\nkind: Event\nmetadata: {{name: e, namespace: default}}\nreason: Boom\nmessage: it \
         broke\ntype: Warning\ncount: 2\ninvolvedObject: {{apiVersion: v1, kind: Pod, name: p, namespace: default, \
         uid: {uid}}}\nfirstTimestamp: '2026-01-01T00:00:00Z'\nlastTimestamp: '2026-01-01T00:00:00Z'\n"
    );
    kubectl.apply(&event, &[]).await;
    let events = kubectl.run(&["get", "events", "--field-selector", "involvedObject.name=p"]).await;
    assert!(events.contains("Boom") && events.contains("pod/p") && events.contains("it broke"), "{events}");
    assert!(kubectl.run(&["events", "--for", "pod/p"]).await.contains("it broke"));
    assert!(kubectl.run(&["describe", "pod", "p"]).await.contains("it broke"));
    assert_eq!(
        kubectl.run(&["get", "events.v1.events.k8s.io", "e", "-o", "jsonpath={.note}"]).await,
        "it broke"
    );
    let watched = kubectl.try_run(&["get", "pods", "-w", "--request-timeout=2s"], "").await.stdout;
    assert!(watched.lines().next().is_some_and(|line| line.starts_with("NAME ")), "{watched}");
    assert!(watched.lines().nth(1).is_some_and(|line| line.starts_with("p ")), "{watched}");
    kubectl.run(&["delete", "pod", "p", "--wait=false"]).await;
    assert!(kubectl.run(&["get", "pod", "p"]).await.contains("Terminating"));
    kubectl.run(&["delete", "pod", "p", "--grace-period=0", "--force"]).await;
    assert!(refused(&kubectl, &["get", "pod", "p"], "").await.contains("not found"));
}

#[tokio::test]
async fn a_token_is_needed_and_the_clock_is_not_paused() {
    let stage = Stage::start().await;
    let stranger = stage.kubectl().with(&stage.access.with_token("wrong"));
    let said = refused(&stranger, &["get", "pods"], "").await;
    assert!(said.contains("Unauthorized") || said.contains("must be logged in"), "{said}");
    assert!(stage.server.now().duration_since(jiff::Timestamp::now()).as_secs().abs() < 60);
}

#[tokio::test]
async fn what_kubectl_makes_itself_is_understood() {
    let stage = Stage::start().await;
    let kubectl = stage.kubectl();
    let run = async |arguments: &str| kubectl.run(&arguments.split(' ').collect::<Vec<_>>()).await;
    let cases = [
        ("create configmap c --from-literal=k=v", "configmap/c created\n"),
        ("get configmap c -o jsonpath={.data.k}", "v"),
        ("create namespace n", "namespace/n created\n"),
        ("create serviceaccount s", "serviceaccount/s created\n"),
        ("create secret generic s --from-literal=k=v", "secret/s created\n"),
        ("get secret s -o jsonpath={.data.k},{.type}", "dg==,Opaque"),
        ("create deployment d --image=nginx:1 --replicas=0", "deployment.apps/d created\n"),
        (
            "get deployment d -o jsonpath={.spec.replicas},{.spec.template.spec.containers[0].image}",
            "0,nginx:1",
        ),
        ("create job j --image=busybox:1 -- date", "job.batch/j created\n"),
        ("get job j -o jsonpath={.spec.template.spec.containers[0].command}", "[\"date\"]"),
        ("create role r --verb=get --resource=pods", "role.rbac.authorization.k8s.io/r created\n"),
        (
            "create rolebinding b --role=r --serviceaccount=default:s",
            "rolebinding.rbac.authorization.k8s.io/b created\n",
        ),
        ("auth can-i get pods --as=system:serviceaccount:default:s", "yes\n"),
    ];
    for (arguments, expected) in cases {
        assert_eq!(run(arguments).await, expected, "{arguments}");
    }
    assert!(run("auth whoami").await.contains("kubernetes-admin"));
    let token = run("create token s").await;
    let account = kubectl.with(&stage.access.with_token(token.trim()));
    assert!(account.run(&["auth", "whoami"]).await.contains("system:serviceaccount:default:s"));
}
