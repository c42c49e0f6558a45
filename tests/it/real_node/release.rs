//! What becomes of Executions that run when fother is taken from under them: the leader's Pod is deleted, the release is
//! upgraded to other values, and it is uninstalled and installed again. On a cluster of its own, as nobody else's fother
//! should go.

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::harbor::{HOME, Harbor};
use super::port::{Port, pod_of};
use crate::support::wait::{DEADLINE, eventually};

impl Port {
    /// Uninstalls the release, and waits until none of its Pods is left.
    async fn uninstall(&self) {
        self.harbor.helm.run(&["uninstall", "fother", "-n", HOME]).await;
        eventually("no Pod of it is left", DEADLINE, || async {
            let left = self.harbor.kubectl.run(&["-n", HOME, "get", "pods", "-o", "name"]).await;
            if left.is_empty() { Ok(()) } else { Err(left) }
        })
        .await;
    }
}

fn succeeded(job: &Job) -> Value {
    json!(job.status.as_ref().and_then(|status| status.succeeded))
}

#[tokio::test]
async fn executions_outlive_a_leader_an_upgrade_and_a_release() {
    let Some(harbor) = Harbor::open("release").await else { return };
    let port = Port::over(harbor, &["ark", "brig"]).await;
    let first = port.leader("").await;
    let ark = port.breaks("ark").await;

    let delete = ["-n", HOME, "delete", "pod", pod_of(&first), "--wait=false"];
    port.harbor.kubectl.run(&delete).await;
    let second = port.leader(&first).await;
    let brig = port.breaks("brig").await;

    port.harbor.install(&["--set", "controller.maxTotal=33"]).await;
    port.leader(&second).await;
    port.lets_go("ark").await;
    port.recovers("ark").await;
    assert_eq!(port.job("ark").await.uid().as_ref(), Some(&ark), "the Job that ran all along");

    port.uninstall().await;
    assert!(!port.execution("brig").await.is_finished());
    port.lets_go("brig").await;
    eventually("the Job comes to its end by itself", DEADLINE, || async {
        let job = port.job("brig").await;
        if succeeded(&job) == 1 { Ok(()) } else { Err(format!("{:#?}", job.status)) }
    })
    .await;
    let stands = port.execution("brig").await;
    assert!(!stands.is_finished() && !stands.finalizers().is_empty(), "it stands as it stood: {stands:#?}");

    port.harbor.install(&[]).await;
    port.recovers("brig").await;
    assert_eq!(port.job("brig").await.uid().as_ref(), Some(&brig));
    assert_eq!(port.towed(), ["ark", "brig"], "each was towed once");
}
