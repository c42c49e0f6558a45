//! The in-memory API under `kube::Client`, in process and under paused time.

use std::pin::pin;
use std::time::Duration;

use fother::sandbox::apiserver::{ApiServer, User};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent,
    WatchParams,
};
use kube::runtime::watcher;
use kube::runtime::watcher::Event;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

fn server() -> ApiServer {
    ApiServer::with_seed(Timestamp::from_second(1_800_000_000).unwrap(), 7)
}

fn admin(server: &ApiServer) -> Client {
    server.client(&User::admin())
}

fn config_map(name: &str, data: &Value) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": data})).unwrap()
}

fn status(error: kube::Error) -> (u16, String, String) {
    match error {
        kube::Error::Api(status) => (status.code, status.reason, status.message),
        other => panic!("not an API error: {other}"),
    }
}

async fn create_kind(client: &Client) -> Api<DynamicObject> {
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "foos.x.dev"},
        "spec": {"group": "x.dev", "scope": "Namespaced", "names": {"plural": "foos", "kind": "Foo"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {
                        "mode": {"type": "string", "default": "Observe"},
                        "fixed": {"type": "string", "x-kubernetes-validations": [
                            {"rule": "self == oldSelf", "message": "fixed is immutable"}]},
                        "steps": {"type": "array", "x-kubernetes-list-type": "map",
                            "x-kubernetes-list-map-keys": ["name"], "items": {"type": "object", "required": ["name"], "properties": {
                                "name": {"type": "string"}, "run": {"type": "string"}}}}}},
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}]},
    });
    let crds = Api::<DynamicObject>::all_with(
        client.clone(),
        &resource("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions"),
    );
    crds.create(&PostParams::default(), &serde_json::from_value(definition).unwrap()).await.unwrap();
    Api::default_namespaced_with(client.clone(), &resource("x.dev", "Foo", "foos"))
}

fn resource(group: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: group.into(),
        version: "v1".into(),
        api_version: format!("{group}/v1"),
        kind: kind.into(),
        plural: plural.into(),
    }
}

fn foo(name: &str, spec: &Value) -> DynamicObject {
    serde_json::from_value(
        json!({"apiVersion": "x.dev/v1", "kind": "Foo", "metadata": {"name": name}, "spec": spec}),
    )
    .unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_objects() {
    let mut seen = Vec::new();
    for _ in 0..2 {
        let server = server();
        let maps = Api::<ConfigMap>::default_namespaced(admin(&server));
        let object: ConfigMap = serde_json::from_value(json!({"metadata": {"generateName": "a-"}})).unwrap();
        seen.push(maps.create(&PostParams::default(), &object).await.unwrap());
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].creation_timestamp().unwrap().0, Timestamp::from_second(1_800_000_000).unwrap());
}

#[tokio::test(start_paused = true)]
async fn writes_conflict_and_no_change_is_no_write() {
    let server = server();
    let maps = Api::<ConfigMap>::default_namespaced(admin(&server));
    let one = maps.create(&PostParams::default(), &config_map("a", &json!({"k": "1"}))).await.unwrap();
    let taken = maps.create(&PostParams::default(), &config_map("a", &json!({}))).await.unwrap_err();
    assert_eq!(status(taken).1, "AlreadyExists");
    let same = maps.replace("a", &PostParams::default(), &one).await.unwrap();
    assert_eq!(same.resource_version(), one.resource_version());
    let mut two = one.clone();
    two.data.as_mut().unwrap().insert("k".into(), "2".into());
    let two = maps.replace("a", &PostParams::default(), &two).await.unwrap();
    assert_ne!(two.resource_version(), one.resource_version());
    let stale = maps.replace("a", &PostParams::default(), &one).await.unwrap_err();
    assert_eq!((status(stale).1), "Conflict");
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    maps.create(&dry, &config_map("b", &json!({}))).await.unwrap();
    assert!(maps.get_opt("b").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn lists_are_paged_at_one_state_until_compaction() {
    let server = server();
    let maps = Api::<ConfigMap>::default_namespaced(admin(&server));
    for name in ["a", "b", "c"] {
        maps.create(&PostParams::default(), &config_map(name, &json!({}))).await.unwrap();
    }
    let first = maps.list(&ListParams::default().limit(2)).await.unwrap();
    let names =
        |list: &kube::api::ObjectList<ConfigMap>| list.iter().map(ResourceExt::name_any).collect::<Vec<_>>();
    assert_eq!((names(&first), first.metadata.remaining_item_count), (vec!["a".into(), "b".into()], Some(1)));
    maps.create(&PostParams::default(), &config_map("d", &json!({}))).await.unwrap();
    let token = first.metadata.continue_.unwrap();
    let rest = maps.list(&ListParams::default().limit(2).continue_token(&token)).await.unwrap();
    assert_eq!(names(&rest), ["c"]);
    server.compact();
    let gone = maps.list(&ListParams::default().continue_token(&token)).await.unwrap_err();
    assert_eq!((status(gone).0), 410);
}

#[tokio::test(start_paused = true)]
async fn a_watch_sees_objects_enter_and_leave_its_selection() {
    let server = server();
    let maps = Api::<ConfigMap>::default_namespaced(admin(&server));
    let params = WatchParams::default().labels("tier=web").timeout(30);
    let mut events = pin!(maps.watch(&params, "0").await.unwrap());
    let label = |value: &str| Patch::Merge(json!({"metadata": {"labels": {"tier": value}}}));
    maps.create(&PostParams::default(), &config_map("a", &json!({}))).await.unwrap();
    for value in ["web", "api", "web"] {
        maps.patch("a", &PatchParams::default(), &label(value)).await.unwrap();
    }
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let mut seen = Vec::new();
    while let Some(event) = events.try_next().await.unwrap() {
        seen.push(match event {
            WatchEvent::Added(_) => "added",
            WatchEvent::Modified(_) => "modified",
            WatchEvent::Deleted(_) => "deleted",
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(error) => panic!("{error:?}"),
        });
    }
    assert_eq!(seen, ["added", "deleted", "added", "deleted"]);
}

#[tokio::test(start_paused = true)]
async fn a_compacted_watch_ends_with_410() {
    let server = server();
    let maps = Api::<ConfigMap>::default_namespaced(admin(&server));
    maps.create(&PostParams::default(), &config_map("a", &json!({}))).await.unwrap();
    maps.create(&PostParams::default(), &config_map("b", &json!({}))).await.unwrap();
    server.compact();
    let mut events = pin!(maps.watch(&WatchParams::default(), "1").await.unwrap());
    match events.next().await.unwrap().unwrap() {
        WatchEvent::Error(error) => assert_eq!((error.code, error.reason.as_str()), (410, "Expired")),
        other => panic!("{other:?}"),
    }
    assert!(events.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_ends_with_its_bookmark_and_time_is_virtual() {
    let server = server();
    let maps = Api::<ConfigMap>::default_namespaced(admin(&server));
    maps.create(&PostParams::default(), &config_map("a", &json!({}))).await.unwrap();
    let mut events = pin!(watcher::watcher(maps.clone(), watcher::Config::default().streaming_lists()));
    let mut seen = Vec::new();
    while seen.last() != Some(&"ready") {
        seen.push(match events.next().await.unwrap().unwrap() {
            Event::Init => "init",
            Event::InitApply(_) => "apply",
            Event::InitDone => "ready",
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(seen, ["init", "apply", "ready"]);
    let before = server.now();
    tokio::time::advance(Duration::from_hours(1)).await;
    assert_eq!(server.now().duration_since(before).as_secs(), 3600);
    maps.create(&PostParams::default(), &config_map("b", &json!({}))).await.unwrap();
    assert!(
        matches!(events.next().await.unwrap().unwrap(), Event::Apply(object) if object.name_any() == "b")
    );
}

#[tokio::test(start_paused = true)]
async fn custom_resources_default_validate_and_keep_status_apart() {
    let server = server();
    let foos = create_kind(&admin(&server)).await;
    let post = PostParams::default();
    let created = foos.create(&post, &foo("a", &json!({"fixed": "one", "unknown": 1}))).await.unwrap();
    assert_eq!(created.data["spec"], json!({"fixed": "one", "mode": "Observe"}));
    assert_eq!(created.metadata.generation, Some(1));
    let merge = |patch: Value| Patch::Merge(patch);
    let params = PatchParams::default();
    let refused = foos.patch("a", &params, &merge(json!({"spec": {"fixed": "two"}}))).await.unwrap_err();
    let expected = "Foo.x.dev \"a\" is invalid: spec.fixed: Invalid value: \"two\": fixed is immutable";
    assert_eq!(status(refused), (422, "Invalid".into(), expected.into()));
    let ignored = foos.patch("a", &params, &merge(json!({"status": {"n": 1}}))).await.unwrap();
    assert_eq!((ignored.data.get("status"), ignored.metadata.generation), (None, Some(1)));
    let both = merge(json!({"spec": {"mode": "Enforce"}, "status": {"n": 1}}));
    let through_status = foos.patch_status("a", &params, &both).await.unwrap();
    assert_eq!(through_status.data["spec"]["mode"], "Observe");
    assert_eq!(
        (&through_status.data["status"]["n"], through_status.metadata.generation),
        (&json!(1), Some(1))
    );
    let spec = foos.patch("a", &params, &merge(json!({"spec": {"mode": "Enforce"}}))).await.unwrap();
    assert_eq!((&spec.data["status"]["n"], spec.metadata.generation), (&json!(1), Some(2)));
    let unknown = merge(json!({"spec": {"foo": 1}}));
    let strict = PatchParams { field_validation: Some(kube::api::ValidationDirective::Strict), ..params };
    let refused = foos.patch("a", &strict, &unknown).await.unwrap_err();
    assert!(status(refused).2.contains("unknown field \"spec.foo\""));
}

#[tokio::test(start_paused = true)]
async fn appliers_own_items_of_keyed_lists() {
    let server = server();
    let foos = create_kind(&admin(&server)).await;
    let apply = async |manager: &str, steps: Value, force: bool| {
        let mut params = PatchParams::apply(manager);
        params.force = force;
        foos.patch("a", &params, &Patch::Apply(foo("a", &json!({"steps": steps})))).await
    };
    apply("alice", json!([{"name": "one", "run": "x"}]), false).await.unwrap();
    let both = apply("bob", json!([{"name": "two", "run": "y"}]), false).await.unwrap();
    assert_eq!(both.data["spec"]["steps"].as_array().unwrap().len(), 2);
    let refused = apply("bob", json!([{"name": "one", "run": "z"}]), false).await.unwrap_err();
    assert_eq!(
        status(refused),
        (
            409,
            "Conflict".into(),
            "Apply failed with 1 conflict: conflict with \"alice\": .spec.steps[name=\"one\"].run".into()
        )
    );
    let forced = apply("bob", json!([{"name": "one", "run": "z"}]), true).await.unwrap();
    assert_eq!(forced.data["spec"]["steps"], json!([{"name": "one", "run": "z"}]));
    let again = apply("bob", json!([{"name": "one", "run": "z"}]), true).await.unwrap();
    assert_eq!(again.metadata.resource_version, forced.metadata.resource_version);
}

#[tokio::test(start_paused = true)]
async fn a_job_leaves_its_pods_unless_told_otherwise() {
    let server = server();
    let (jobs, pods) =
        (Api::<Job>::default_namespaced(admin(&server)), Api::<Pod>::default_namespaced(admin(&server)));
    for (params, left) in [(DeleteParams::default(), 1), (DeleteParams::background(), 0)] {
        let spec = json!({"restartPolicy": "Never", "containers": [{"name": "m", "image": "x:1"}]});
        let job = json!({"metadata": {"name": "j"}, "spec": {"template": {"spec": spec}}});
        let job = jobs.create(&PostParams::default(), &serde_json::from_value(job).unwrap()).await.unwrap();
        let owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": job.uid().unwrap(), "controller": true});
        let pod = json!({"metadata": {"name": "p", "ownerReferences": [owner]}, "spec": spec});
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
        jobs.delete("j", &params).await.unwrap();
        assert_eq!(pods.list(&ListParams::default()).await.unwrap().items.len(), left);
        pods.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_bound_pod_is_given_time_to_stop() {
    let server = server();
    let pods = Api::<Pod>::default_namespaced(admin(&server));
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "m", "image": "x:1"}]}});
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    pods.delete("p", &DeleteParams::default()).await.unwrap();
    let stopping = pods.get("p").await.unwrap();
    assert_eq!(stopping.metadata.deletion_grace_period_seconds, Some(30));
    pods.delete("p", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert!(pods.get_opt("p").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn rights_are_those_of_the_bindings() {
    let server = server();
    let objects = [
        (
            "Role",
            "roles",
            json!({"metadata": {"name": "reader"}, "rules": [
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]}),
        ),
        (
            "RoleBinding",
            "rolebindings",
            json!({"metadata": {"name": "reader"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
            "subjects": [{"kind": "ServiceAccount", "name": "healer", "namespace": "default"}]}),
        ),
    ];
    for (kind, plural, object) in objects {
        let mut object: DynamicObject = serde_json::from_value(object).unwrap();
        let resource = resource("rbac.authorization.k8s.io", kind, plural);
        object.types =
            Some(kube::api::TypeMeta { api_version: resource.api_version.clone(), kind: kind.into() });
        let api = Api::<DynamicObject>::default_namespaced_with(admin(&server), &resource);
        api.create(&PostParams::default(), &object).await.unwrap();
    }
    let healer = server.client(&User::service_account("default", "healer"));
    Api::<ConfigMap>::default_namespaced(healer.clone()).list(&ListParams::default()).await.unwrap();
    let elsewhere = Api::<ConfigMap>::namespaced(healer.clone(), "kube-system");
    let refused = elsewhere.list(&ListParams::default()).await.unwrap_err();
    assert_eq!(
        status(refused).2,
        "configmaps is forbidden: User \"system:serviceaccount:default:healer\" cannot list resource \"configmaps\" in \
         API group \"\" in the namespace \"kube-system\""
    );
    let maps = Api::<ConfigMap>::default_namespaced(healer);
    assert_eq!(
        status(maps.create(&PostParams::default(), &config_map("a", &json!({}))).await.unwrap_err()).0,
        403
    );
}
