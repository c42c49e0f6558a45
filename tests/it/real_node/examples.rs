//! The three example packs heal their incidents: real crash loops, a real kill for want of memory, and a script that
//! really runs.

use std::time::Duration;

use k8s_openapi::api::core::v1::PersistentVolume;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::harbor::Harbor;
use crate::support::examples::{self, Stage};

/// A kubelet waits longer and longer before it starts a container again.
const HEALED: Duration = Duration::from_mins(4);
/// The volume that the shop's claim is bound to.
const VOLUME: &str = "volume-1";

async fn stage(harbor: &Harbor) -> Stage {
    let volumes = Api::<PersistentVolume>::all(harbor.client().await);
    let reserved = json!({"spec": {"claimRef": {"namespace": "shop", "name": "cache"}}});
    volumes.patch(VOLUME, &PatchParams::default(), &Patch::Merge(reserved)).await.unwrap();
    Stage {
        kubectl: harbor.node.kubectl(),
        client: harbor.client().await,
        cache: harbor.node.volume(VOLUME),
        patience: HEALED,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_heal_their_incidents() {
    let Some(harbor) = Harbor::shared().await else { return };
    let stage = stage(harbor).await;
    tokio::join!(examples::corrupted_cache(&stage), examples::crash_loop(&stage), examples::oom_job(&stage));
}
