//! The audit helper counts what was written and watched, by whom and in whose name.

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams};
use serde_json::json;

use crate::support::audit::Request;
use crate::support::control_plane::ControlPlane;
use crate::support::wait::{DEADLINE, eventually};

#[tokio::test]
async fn writes_are_counted_and_attributed() {
    let Some(plane) = ControlPlane::shared().await else { return };
    let Some(log) = plane.audit() else { return };
    let namespace = plane.namespace("audit").await;
    let config: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "c"}})).unwrap();
    let admin = Api::<ConfigMap>::namespaced(plane.admin().client().await, &namespace);
    admin.create(&PostParams::default(), &config).await.unwrap();
    let mark = log.mark().await;

    admin.list(&ListParams::default()).await.unwrap();
    let rehearsal = PatchParams { dry_run: true, ..PatchParams::default() };
    admin.patch("c", &rehearsal, &Patch::Merge(json!({"data": {"a": "b"}}))).await.unwrap();
    admin.delete("c", &DeleteParams::default()).await.unwrap();
    let stranger = plane.admin().impersonating("stranger", &[]).client().await;
    Api::<ConfigMap>::namespaced(stranger, &namespace)
        .create(&PostParams::default(), &config)
        .await
        .unwrap_err();

    let mine = |request: &Request| request.namespace.as_ref() == Some(&namespace) && request.user == "admin";
    let requests: Vec<_> = log.since(mark).await.into_iter().filter(mine).collect();
    let verbs: Vec<_> = requests.iter().map(|r| (r.verb.as_str(), r.actor(), r.code)).collect();
    let expected = [
        ("list", "admin", 200),
        ("patch", "admin", 200),
        ("delete", "admin", 200),
        ("create", "stranger", 403),
    ];
    assert_eq!(verbs, expected);
    assert_eq!(requests[1].name.as_deref(), Some("c"));
    let writes: Vec<_> = requests.iter().filter(|r| r.is_write()).map(|r| r.verb.as_str()).collect();
    assert_eq!(writes, ["delete", "create"], "neither the list nor the dry run");
    assert!(requests.iter().all(|r| r.resource == "configmaps"), "{requests:#?}");
    assert!(log.since(log.mark().await).await.iter().all(|r| r.namespace.as_ref() != Some(&namespace)));
}

#[tokio::test]
async fn open_watches_are_known() {
    let Some(plane) = ControlPlane::shared().await else { return };
    let Some(log) = plane.audit() else { return };
    let namespace = plane.namespace("watches").await;
    let api = Api::<ConfigMap>::namespaced(plane.admin().client().await, &namespace);
    let open = async || {
        let mine = |r: &Request| r.namespace.as_ref() == Some(&namespace) && r.user == "admin";
        log.open_watches().await.into_iter().filter(mine).count()
    };
    assert_eq!(open().await, 0);

    let mut watch = Box::pin(api.watch(&WatchParams::default(), "0").await.unwrap());
    watch.next().await.unwrap().unwrap();
    assert_eq!(open().await, 1);

    drop(watch);
    eventually("the watch is closed", DEADLINE, || async {
        let count = open().await;
        if count == 0 { Ok(()) } else { Err(format!("{count} are open")) }
    })
    .await;
}
