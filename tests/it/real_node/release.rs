//! What becomes of Executions that run when fother is taken from under them: the leader's Pod is evicted, the release is
//! upgraded to other values, and it is uninstalled and installed again. On a cluster of its own, as nobody else's fother
//! should go.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, EvictParams, ListParams};
use kube::{Error, ResourceExt};
use serde_json::{Value, json};

use super::harbor::{HOME, Harbor};
use super::port::{Port, pod_of};
use crate::support::wait::{DEADLINE, eventually};

impl Port {
    /// Has a Pod of fother's go as `kubectl drain` does, and sees that its budget keeps the other one.
    async fn evict(&self, pod: &str) {
        let pods = Api::<Pod>::namespaced(self.harbor.client().await, HOME);
        let found = pods.list(&ListParams::default()).await.unwrap();
        let other = found.iter().map(ResourceExt::name_any).find(|name| name != pod).unwrap();
        let evict = async |name: &str| pods.evict(name, &EvictParams::default()).await;
        eventually("the budget knows that both are well", DEADLINE, || async {
            evict(pod).await.map_err(|error| error.to_string())
        })
        .await;
        match evict(&other).await {
            Err(Error::Api(refusal)) if refusal.code == 429 => {
                assert!(refusal.message.contains("disruption budget"), "{refusal:?}");
            }
            answer => panic!("both replicas go at once: {answer:?}"),
        }
    }

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

    port.evict(pod_of(&first)).await;
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
