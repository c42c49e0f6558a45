//! A real API server's Pod Security admission, at its strictest, has nothing against what Actions may say about their Pods.

use fother::decide::pod::PodPolicy;
use serde_json::{Value, json};

use crate::pods::{OVERLAYS, everything, pod_of};
use crate::support::control_plane::ControlPlane;

fn pod(spec: &Value) -> String {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec}).to_string()
}

#[tokio::test]
async fn everything_that_is_safe_is_restricted() {
    let Some(plane) = ControlPlane::shared().await else { return };
    let (namespace, kubectl) = (plane.namespace("pods").await, plane.kubectl());
    kubectl.run(&["label", "namespace", &namespace, "pod-security.kubernetes.io/enforce=restricted"]).await;
    kubectl.run(&["create", "serviceaccount", "healer", "-n", &namespace]).await;
    let create = ["create", "-f", "-", "-n", &namespace, "--dry-run=server", "--validate=strict"];

    let safe = pod_of(&everything(), PodPolicy::default()).unwrap();
    let answer = kubectl.try_run(&create, &pod(&safe)).await;
    assert_eq!(answer.code, 0, "{answer:?}");

    let mut loosened = everything();
    loosened["container"]["pod"]["overlay"] = json!({"hostNetwork": true});
    let loosened = pod_of(&loosened, OVERLAYS).unwrap();
    let answer = kubectl.try_run(&create, &pod(&loosened)).await;
    assert!(
        answer.stderr.contains("violates PodSecurity \"restricted:latest\": host namespaces"),
        "{answer:?}"
    );
}
