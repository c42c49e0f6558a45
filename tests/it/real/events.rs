//! A series of Events, written with the two rights that the controller has for them.

use fother::api::ObjectReference;
use fother::cluster::events::{Telling, teller};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Api, ListParams};

use crate::support::control_plane::ControlPlane;

#[tokio::test]
async fn what_comes_again_is_counted_and_what_was_told_is_not() {
    let Some(plane) = ControlPlane::shared().await else { return };
    let (namespace, kubectl) = (plane.namespace("series").await, plane.kubectl());
    let account = format!("--serviceaccount={namespace}:teller");
    for command in [
        &["create", "serviceaccount", "teller"][..],
        &["create", "role", "teller", "--verb=create,patch", "--resource=events.events.k8s.io"],
        &["create", "rolebinding", "teller", "--role=teller", &account],
    ] {
        kubectl.run(&[command, &["-n", &namespace]].concat()).await;
    }
    let home = plane.service_account(&namespace, "teller").await.client().await;
    let regarding = ObjectReference {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        namespace: Some(namespace.clone()),
        name: "ark".into(),
        uid: None,
    };
    let telling = Telling {
        name: "suppressed-1".into(),
        reason: "RuleFireSuppressed",
        warning: false,
        note: "Rule mends did not fire: Cooldown".into(),
        regarding: &regarding,
        related: None,
    };
    let first = Timestamp::now();
    let later = |seconds| first + SignedDuration::from_secs(seconds);
    // Two processes, one after the other: the second sees anew what the first one has told.
    // Some happen in one moment; some are looked at twice; and one is told of late.
    let one =
        [(first, "a"), (later(2), "c"), (later(2), "d"), (later(1), "b"), (first, "a"), (later(2), "c")];
    let other = [(first, "a"), (later(2), "c"), (later(3), "e"), (later(3), "f")];
    for occasions in [&one[..], &other] {
        let (teller, writer) = teller();
        for occasion in occasions {
            teller.count(&telling, *occasion, &telling);
        }
        drop(teller);
        writer.run(&home).await;
    }
    let events: Api<Event> = Api::namespaced(plane.admin().client().await, &namespace);
    let found = events.list(&ListParams::default()).await.unwrap().items;
    let [event] = found.as_slice() else { panic!("{found:#?}") };
    let series = event.series.as_ref().unwrap();
    assert_eq!((series.count, series.last_observed_time.0.as_microsecond()), (6, later(3).as_microsecond()));
    let shown = kubectl.run(&["get", "events", "-n", &namespace]).await;
    assert!(shown.contains("RuleFireSuppressed") && shown.contains("configmap/ark"), "{shown}");
}
