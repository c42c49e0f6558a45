//! The proxy does to real requests what a test arms it with, at the moment that it names, and nothing else.

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use http::{Method, StatusCode};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams, WatchEvent, WatchParams};
use serde_json::json;

use crate::support::control_plane::ControlPlane;
use crate::support::proxy::{Deed, Fault, Moment, Order, Proxy, Requests};
use crate::support::wait::DEADLINE;

/// Long enough for what is not held to pass.
const A_MOMENT: Duration = Duration::from_millis(300);

/// A namespace seen directly, and through a proxy.
struct Bench {
    plane: &'static ControlPlane,
    namespace: String,
    proxy: Proxy,
    direct: Api<ConfigMap>,
    proxied: Api<ConfigMap>,
}

impl Bench {
    async fn new() -> Option<Self> {
        let plane = ControlPlane::shared().await?;
        let namespace = plane.namespace("proxy").await;
        let proxy = Proxy::start(plane.admin()).await;
        let direct = Api::namespaced(plane.admin().client().await, &namespace);
        let proxied = Api::namespaced(proxy.access(plane.admin()).client().await, &namespace);
        Some(Self { plane, namespace, proxy, direct, proxied })
    }

    fn creation(&self, moment: Moment, deed: Deed) -> Fault {
        self.proxy.arm(Requests::new(Method::POST, "/configmaps$"), moment, deed)
    }

    async fn exists(&self, name: &str) -> bool {
        self.direct.get_opt(name).await.unwrap().is_some()
    }

    /// A watch through the proxy that has given its first event.
    async fn watch(&self) -> impl Stream<Item = kube::Result<WatchEvent<ConfigMap>>> + Unpin + use<> {
        let mut watch =
            Box::pin(self.proxied.watch(&WatchParams::default().disable_bookmarks(), "0").await.unwrap());
        self.direct.create(&PostParams::default(), &named("seen")).await.unwrap();
        while let WatchEvent::Added(added) = watch.next().await.unwrap().unwrap() {
            if added.metadata.name.as_deref() == Some("seen") {
                return watch;
            }
        }
        panic!("the watch gives something else than the object")
    }
}

fn named(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

async fn create(api: Api<ConfigMap>, name: &'static str) -> kube::Result<ConfigMap> {
    api.create(&PostParams::default(), &named(name)).await
}

fn code(result: &kube::Result<ConfigMap>) -> Option<u16> {
    match result {
        Err(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

#[tokio::test]
async fn held_before_it_is_sent_nothing_has_happened() {
    let Some(bench) = Bench::new().await else { return };
    let fault = bench.creation(Moment::BeforeSent, Deed::Hold);
    let creating = tokio::spawn(create(bench.proxied.clone(), "late"));
    fault.wait_until_hit(DEADLINE).await;
    assert!(!bench.exists("late").await);
    fault.release();
    creating.await.unwrap().unwrap();
    assert!(bench.exists("late").await);
}

#[tokio::test]
async fn a_held_request_arrives_though_its_client_is_dead() {
    let Some(bench) = Bench::new().await else { return };
    let fault = bench.creation(Moment::BeforeSent, Deed::Hold);
    let creating = tokio::spawn(create(bench.proxied.clone(), "zombie"));
    fault.wait_until_hit(DEADLINE).await;
    creating.abort();
    assert!(creating.await.unwrap_err().is_cancelled());
    assert!(!bench.exists("zombie").await);
    fault.release();
    fault.wait_until_arrived(DEADLINE).await;
    assert!(bench.exists("zombie").await);
}

#[tokio::test]
async fn a_held_request_that_is_discarded_never_arrives() {
    let Some(bench) = Bench::new().await else { return };
    let fault = bench.creation(Moment::BeforeSent, Deed::Hold);
    let creating = tokio::spawn(create(bench.proxied.clone(), "lost"));
    fault.wait_until_hit(DEADLINE).await;
    fault.discard();
    let heard = creating.await.unwrap();
    assert!(heard.is_err() && code(&heard).is_none(), "{heard:?}");
    drop(fault);
    create(bench.proxied.clone(), "next").await.unwrap();
    assert!(bench.exists("next").await && !bench.exists("lost").await);
}

#[tokio::test]
async fn what_waits_after_the_answer_is_discarded_and_what_connects_anew_passes() {
    let Some(bench) = Bench::new().await else { return };
    let fault = bench.creation(Moment::Answered, Deed::Hold);
    create(bench.proxied.clone(), "answered").await.unwrap();
    fault.wait_until_hit(DEADLINE).await;
    let waiting = tokio::spawn(create(bench.proxied.clone(), "waits"));
    assert!(bench.exists("answered").await && !waiting.is_finished());
    fault.discard();
    let heard = waiting.await.unwrap();
    assert!(heard.is_err() && code(&heard).is_none(), "{heard:?}");
    let anew = bench.proxy.access(bench.plane.admin()).client().await;
    create(Api::namespaced(anew, &bench.namespace), "anew").await.unwrap();
    assert!(bench.exists("anew").await && !bench.exists("waits").await);
}

#[tokio::test]
async fn a_watch_is_answered_when_it_has_begun() {
    let Some(bench) = Bench::new().await else { return };
    let fault = bench.proxy.arm(Requests::any("watch=true"), Moment::Answered, Deed::Hold);
    let mut watch = bench.watch().await;
    fault.wait_until_hit(DEADLINE).await;
    create(bench.direct.clone(), "seen-next").await.unwrap();
    assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Added(_)))), "it goes on");
    let mut reading = Box::pin(bench.proxied.get("seen"));
    assert!(tokio::time::timeout(A_MOMENT, &mut reading).await.is_err(), "whatever comes next waits");
    fault.release();
    reading.await.unwrap();
}

#[tokio::test]
async fn committed_is_done_whatever_the_client_hears() {
    let Some(bench) = Bench::new().await else { return };
    let timeout = bench.creation(Moment::Committed, Deed::Answer(StatusCode::GATEWAY_TIMEOUT));
    let heard = create(bench.proxied.clone(), "timed-out").await;
    assert_eq!(code(&heard), Some(504), "{heard:?}");
    assert!(bench.exists("timed-out").await);
    drop(timeout);

    let cut = bench.creation(Moment::Committed, Deed::Cut);
    let heard = create(bench.proxied.clone(), "unheard").await;
    assert!(heard.is_err() && code(&heard).is_none(), "{heard:?}");
    assert!(bench.exists("unheard").await);
    drop(cut);

    let hold = bench.creation(Moment::Committed, Deed::Hold);
    let creating = tokio::spawn(create(bench.proxied.clone(), "done"));
    hold.wait_until_hit(DEADLINE).await;
    assert!(bench.exists("done").await && !creating.is_finished());
    drop(hold);
    creating.await.unwrap().unwrap();
}

#[tokio::test]
async fn answered_or_cut_before_it_is_sent_nothing_happens() {
    let Some(bench) = Bench::new().await else { return };
    let second = Requests::new(Method::POST, "/configmaps$").nth(2);
    let fault = bench.proxy.arm(second, Moment::BeforeSent, Deed::Answer(StatusCode::INTERNAL_SERVER_ERROR));
    create(bench.proxied.clone(), "first").await.unwrap();
    let heard = create(bench.proxied.clone(), "second").await;
    assert_eq!(code(&heard), Some(500), "{heard:?}");
    create(bench.proxied.clone(), "third").await.unwrap();
    assert_eq!(fault.hits(), 1);
    drop(fault);

    let _cut = bench.creation(Moment::BeforeSent, Deed::Cut);
    let heard = create(bench.proxied.clone(), "cut").await;
    assert!(heard.is_err() && code(&heard).is_none(), "{heard:?}");
    assert!(!bench.exists("second").await && !bench.exists("cut").await && bench.exists("third").await);
}

#[tokio::test]
async fn after_the_answer_everything_is_held() {
    let Some(bench) = Bench::new().await else { return };
    let fault = bench.creation(Moment::Answered, Deed::Hold);
    create(bench.proxied.clone(), "answered").await.unwrap();
    fault.wait_until_hit(DEADLINE).await;
    let mut reading = Box::pin(bench.proxied.get("answered"));
    assert!(tokio::time::timeout(A_MOMENT, &mut reading).await.is_err(), "whatever comes next waits");
    fault.release();
    reading.await.unwrap();
}

#[tokio::test]
async fn watches_are_closed_expired_and_refused() {
    let Some(bench) = Bench::new().await else { return };
    let here = format!("/namespaces/{}/configmaps.*watch=true", bench.namespace);
    let mut watch = bench.watch().await;
    assert_eq!(bench.proxy.order_watches(&here, Order::Close), 1);
    assert!(watch.next().await.is_none());
    bench.direct.delete("seen", &kube::api::DeleteParams::default()).await.unwrap();

    let mut watch = bench.watch().await;
    assert_eq!(bench.proxy.order_watches(&here, Order::Expire), 1);
    let Some(Ok(WatchEvent::Error(status))) = watch.next().await else { panic!("no 410 in the stream") };
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
    assert!(watch.next().await.is_none());

    let _gone = bench.proxy.arm(Requests::any(&here), Moment::BeforeSent, Deed::Answer(StatusCode::GONE));
    let Err(refused) = bench.proxied.watch(&WatchParams::default(), "0").await.map(|_| ()) else {
        panic!("it watches")
    };
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 410), "{refused:?}");
}

#[tokio::test]
async fn a_frozen_watch_is_silent_until_it_thaws() {
    let Some(bench) = Bench::new().await else { return };
    let mut watch = bench.watch().await;
    assert_eq!(bench.proxy.order_watches("watch=true", Order::Freeze), 1);
    create(bench.direct.clone(), "unseen").await.unwrap();
    assert!(tokio::time::timeout(A_MOMENT, watch.next()).await.is_err());
    bench.proxy.order_watches("watch=true", Order::Flow);
    assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Added(_)))));
}

#[tokio::test]
async fn kubectl_works_through_it() {
    let Some(bench) = Bench::new().await else { return };
    create(bench.direct.clone(), "here").await.unwrap();
    let kubectl = bench.plane.kubectl().with(&bench.proxy.access(bench.plane.admin()));
    let read = kubectl.run(&["get", "configmap", "here", "-n", &bench.namespace, "-o", "name"]).await;
    assert_eq!(read, "configmap/here\n");
}
