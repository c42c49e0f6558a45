//! fother as it is installed: two replicas of an image with no shell, no root and nothing to write to.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;

use super::harbor::{HOME, Harbor};
use crate::support::wait::{DEADLINE, eventually};

async fn pods(harbor: &Harbor) -> Vec<Pod> {
    let pods = Api::<Pod>::namespaced(harbor.client().await, HOME);
    eventually("two replicas run", DEADLINE, || async {
        let found = pods.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let runs =
            |pod: &&Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
        match found.iter().filter(runs).count() {
            2 => Ok(found),
            _ => Err(format!("{found:#?}")),
        }
    })
    .await
}

#[tokio::test]
async fn two_replicas_run_restricted() {
    let Some(harbor) = Harbor::shared().await else { return };
    let found = pods(harbor).await;
    assert_eq!(found.len(), 2);
    for pod in found {
        let name = pod.metadata.name.unwrap();
        let status = pod.status.unwrap().container_statuses.unwrap().remove(0);
        assert_eq!(status.restart_count, 0, "{status:#?}");
        for shell in ["sh", "/bin/sh", "/bin/bash"] {
            let refused =
                harbor.kubectl.try_run(&["-n", HOME, "exec", &name, "--", shell, "-c", "id"], "").await;
            let is_missing =
                ["no such file", "not found"].iter().any(|reason| refused.stderr.contains(reason));
            assert!(refused.code != 0 && is_missing, "{refused:?}");
        }
        let own = harbor.kubectl.run(&["-n", HOME, "exec", &name, "--", "fother", "version"]).await;
        assert!(own.contains(env!("CARGO_PKG_VERSION")), "{own}");
    }
}
