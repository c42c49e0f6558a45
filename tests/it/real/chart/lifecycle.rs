//! Installing, upgrading and uninstalling the chart, on a control plane of its own.

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::rendered::{ALL, objects};
use crate::support::control_plane::ControlPlane;
use crate::support::helm::Helm;
use crate::support::kubectl::Kubectl;
use crate::support::wait::{DEADLINE, eventually};

/// As much of the Prometheus operator's kinds as is needed to have some.
fn monitoring() -> [Value; 2] {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    ["ServiceMonitor", "PrometheusRule"].map(|kind| {
        let singular = kind.to_lowercase();
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{singular}s.monitoring.coreos.com")},
            "spec": {
                "group": "monitoring.coreos.com", "scope": "Namespaced",
                "names": {"kind": kind, "plural": format!("{singular}s"), "singular": singular},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
            },
        })
    })
}

async fn established(kubectl: &Kubectl) {
    kubectl.run(&["wait", "crd", "--all", "--for=condition=Established"]).await;
}

/// Every object is accepted as it is, with no field that the API server does not know.
async fn accepted(kubectl: &Kubectl, rendered: &str) {
    for object in objects(rendered) {
        let strict = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
        let answer = kubectl.try_run(&strict, &object.to_string()).await;
        assert!(answer.code == 0 && answer.stderr.is_empty(), "{answer:#?}\n{object:#}");
    }
}

/// The API server has looked through the expressions of all policies and has nothing to say.
async fn policies_make_sense(plane: &ControlPlane) {
    let api = Api::<ValidatingAdmissionPolicy>::all(plane.admin().client().await);
    eventually("the policies are type checked", DEADLINE, || async {
        let found = api.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let checked = |p: &ValidatingAdmissionPolicy| p.status.as_ref()?.type_checking.clone();
        let checks: Vec<_> = found.iter().filter_map(checked).collect();
        let warnings: Vec<_> =
            checks.iter().flat_map(|check| check.expression_warnings.iter().flatten()).collect();
        assert!(warnings.is_empty(), "{warnings:#?}");
        if checks.len() == 6 { Ok(()) } else { Err(format!("{} policies are checked", checks.len())) }
    })
    .await;
}

/// The namespace enforces the restricted Pod security standard, and the Pods are made nevertheless.
async fn two_pods_are_admitted(kubectl: &Kubectl) {
    let ours = ["-n", "fother", "get", "pods", "-l", "app.kubernetes.io/component=controller", "-o", "name"];
    eventually("there are two Pods", DEADLINE, || async {
        let found = kubectl.run(&ours).await;
        if found.lines().count() == 2 { Ok(()) } else { Err(found) }
    })
    .await;
}

/// Uninstalls what was installed with these values and waits until nothing of it is left but the kinds, which may be kept.
/// Helm's own `--wait` has been seen to miss that something is gone.
async fn uninstalled(helm: &Helm, kubectl: &Kubectl, values: &[&str]) {
    let rendered = objects(&helm.template(values).await).into_iter();
    let rendered: Vec<_> = rendered.filter(|object| object["kind"] != "CustomResourceDefinition").collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": rendered}).to_string();
    let get = ["get", "-f", "-", "--ignore-not-found", "-o", "name"];
    let found = async || {
        let answer = kubectl.try_run(&get, &list).await;
        assert!(answer.code == 0, "{answer:#?}");
        answer.stdout
    };
    let before = found().await;
    assert_eq!(before.lines().count(), rendered.len(), "{before}");
    helm.run(&["uninstall", "fother", "-n", "fother"]).await;
    eventually("nothing of it is left", DEADLINE, || async {
        let left = found().await;
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

#[tokio::test]
async fn the_chart_is_installed_upgraded_and_uninstalled() {
    let Some(plane) = ControlPlane::private().await else { return };
    let Some(helm) = Helm::new(plane.admin()) else { return };
    let kubectl = plane.kubectl();
    for kind in monitoring() {
        kubectl.apply(&kind.to_string(), &[]).await;
    }
    kubectl.run(&["create", "namespace", "fother"]).await;
    kubectl.run(&["label", "namespace", "fother", "pod-security.kubernetes.io/enforce=restricted"]).await;
    established(&kubectl).await;
    accepted(&kubectl, &helm.template(&ALL).await).await;

    let notes = helm.install(&[]).await;
    assert!(notes.contains("fother enroll NAMESPACE --service-account NAME --apply"), "{notes}");
    established(&kubectl).await;
    policies_make_sense(&plane).await;
    two_pods_are_admitted(&kubectl).await;
    let action = "apiVersion: fother.dev/v1alpha1\nkind: Action\nmetadata: {name: a}\nspec: {kubernetes: {restart: {}}}\n";
    kubectl.apply(action, &[]).await;

    let without = [&ALL[..2], &["--set", "controller.maxTotal=33,admissionPolicies.enabled=false"]].concat();
    let again = helm.install(&without).await;
    assert!(again.contains("admission policies are off"), "{again}");
    let idle = "does nothing yet";
    assert!(
        notes.contains(idle) && !again.contains(idle),
        "only what was just installed does nothing: {again}"
    );
    let arguments = [
        "-n",
        "fother",
        "get",
        "deployment",
        "fother",
        "-o",
        "jsonpath={.spec.template.spec.containers[0].args}",
    ];
    assert!(kubectl.run(&arguments).await.contains("--max-total=33"));
    let policies = ["get", "validatingadmissionpolicies,validatingadmissionpolicybindings", "-o", "name"];
    assert_eq!(kubectl.run(&policies).await, "");
    kubectl.run(&["-n", "fother", "get", "networkpolicy/fother", "servicemonitor/fother"]).await;

    uninstalled(&helm, &kubectl, &without).await;
    assert_eq!(
        kubectl.run(&["get", "actions", "-o", "name"]).await,
        "action.fother.dev/a\n",
        "what is kept is kept"
    );

    // What was kept is taken over by the next release, and goes with it if it is told so.
    let all = [&ALL[..2], &["--set", "crds.keep=false"]].concat();
    helm.install(&all).await;
    uninstalled(&helm, &kubectl, &all).await;
    // The API server waits a minute for the objects of a kind before it tries again, and sometimes tries more than twice.
    eventually("the kinds are gone", 6 * DEADLINE, || async {
        let left = kubectl.run(&["get", "crd", "-o", "name"]).await;
        if left.contains("fother.dev") { Err(left) } else { Ok(()) }
    })
    .await;
}
