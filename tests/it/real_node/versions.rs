//! A release of an earlier commit is upgraded to this one and rolled back, as `docs/how-to/upgrade.md` says, while Jobs run:
//! image, chart and kinds. What each has begun the other brings to its end.
//!
//! `real::healing::earlier` has more that can be under way, and no Pods. On a cluster of its own, as `release`.

use std::path::PathBuf;

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

use super::harbor::{HOME, Harbor, image, image_of};
use super::port::{NAMESPACE, Port};
use crate::real::healing::controller::Build;
use crate::support::helm::chart;

const EARLIER: &str = "earlier";
const BOATS: [&str; 3] = ["ark", "brig", "cog"];

/// The chart that was kept with an earlier program, or this one's.
fn chart_of(build: &Build) -> PathBuf {
    let kept = build.program().with_file_name("charts").join("fother");
    if kept.exists() { kept } else { chart() }
}

#[tokio::test]
async fn executions_outlive_an_upgrade_from_an_earlier_build_and_the_way_back() {
    let Some(earlier) = Build::other() else { return };
    let Some(harbor) = Harbor::empty("versions").await else { return };
    harbor.node.load(&image_of(EARLIER), &earlier.program());
    harbor.install_from(&chart_of(&earlier), EARLIER, &[]).await;
    let port = Port::over(harbor, &BOATS).await;
    port.is_led_by(&image_of(EARLIER)).await;
    let ark = port.breaks("ark").await;
    let brig = port.breaks("brig").await;

    port.harbor.install(&[]).await;
    port.is_led_by(&image()).await;
    let cog = port.breaks("cog").await;
    port.lets_go("ark").await;
    port.recovers("ark").await;

    port.harbor.helm.run(&["rollback", "fother", "--namespace", HOME]).await;
    port.harbor.rolled_out().await;
    port.is_led_by(&image_of(EARLIER)).await;
    for boat in ["cog", "brig"] {
        port.lets_go(boat).await;
        port.recovers(boat).await;
    }

    for (boat, began) in BOATS.into_iter().zip([ark, brig, cog]) {
        assert_eq!(port.job(boat).await.uid(), Some(began), "the Job of {boat} that ran all along");
    }
    assert_eq!(port.towed(), BOATS, "each was towed once");
    let jobs = Api::<Job>::namespaced(port.harbor.client().await, NAMESPACE);
    assert_eq!(jobs.list(&ListParams::default()).await.unwrap().items.len(), BOATS.len());
}
