//! The kubectl helper: answers, exit codes, other identities.

use crate::support::control_plane::ControlPlane;

#[tokio::test]
async fn kubectl_applies_reads_and_is_refused() {
    let Some(plane) = ControlPlane::shared().await else { return };
    let namespace = plane.namespace("kubectl").await;
    let kubectl = plane.kubectl();
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: leak}\ndata: {depth: shallow}\n";
    let said = kubectl.apply(manifest, &["-n", &namespace, "--server-side"]).await;
    assert_eq!(said, "configmap/leak serverside-applied\n");
    let read =
        kubectl.run(&["get", "configmap", "leak", "-n", &namespace, "-o", "jsonpath={.data.depth}"]).await;
    assert_eq!(read, "shallow");

    let nobody = kubectl.with(&plane.service_account(&namespace, "nobody").await);
    let refused = nobody.try_run(&["get", "configmap", "leak", "-n", &namespace], "").await;
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("Forbidden"), "{}", refused.stderr);
}
