//! The control plane that the tests stand on works: controllers act, tokens and rights are real, a private one
//! can be restarted.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, ListParams, PostParams};
use serde_json::json;

use crate::support::control_plane::{ControlPlane, Part};
use crate::support::wait::{DEADLINE, eventually};

#[tokio::test]
async fn a_job_gets_its_pod() {
    let Some(plane) = ControlPlane::shared().await else { return };
    let namespace = plane.namespace("job").await;
    let client = plane.admin().client().await;
    let job: Job = serde_json::from_value(json!({
        "metadata": {"name": "hello"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "c"}]}}},
    }))
    .unwrap();
    Api::namespaced(client.clone(), &namespace).create(&PostParams::default(), &job).await.unwrap();

    let pods = Api::<Pod>::namespaced(client, &namespace);
    let selected = ListParams::default().labels("batch.kubernetes.io/job-name=hello");
    eventually("the Job has one pod", DEADLINE, || async {
        let found = pods.list(&selected).await.map_err(|error| error.to_string())?.items.len();
        if found == 1 { Ok(()) } else { Err(format!("{found} pods")) }
    })
    .await;
}

#[tokio::test]
async fn a_service_account_has_only_its_rights() {
    let Some(plane) = ControlPlane::shared().await else { return };
    let namespace = plane.namespace("rights").await;
    let healer = plane.service_account(&namespace, "healer").await;
    let name = format!("system:serviceaccount:{namespace}:healer");

    for access in [healer, plane.admin().impersonating(&name, &[])] {
        let api = Api::<ConfigMap>::namespaced(access.client().await, &namespace);
        let refused = api.list(&ListParams::default()).await.unwrap_err();
        let kube::Error::Api(status) = refused else { panic!("{refused}") };
        assert_eq!(status.code, 403);
        assert!(status.message.contains(&format!("User \"{name}\" cannot list")), "{}", status.message);
    }
}

#[tokio::test]
async fn a_private_control_plane_restarts_with_its_storage() {
    let Some(plane) = ControlPlane::private().await else { return };
    let namespace = plane.namespace("restart").await;
    plane.restart(&[Part::ApiServer, Part::Etcd]).await;
    let kept = Api::<k8s_openapi::api::core::v1::Namespace>::all(plane.admin().client().await);
    assert_eq!(kept.get(&namespace).await.unwrap().metadata.name.as_deref(), Some(namespace.as_str()));
}
