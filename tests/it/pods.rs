//! What an Action can make of its Pod: every field of Kubernetes' own is tried, and nothing loosens.

use std::collections::BTreeSet;

use fother::api::{ActionSpec, Execution};
use fother::decide::check;
use fother::decide::job;
use fother::decide::pack::{Source, Surroundings, read};
use fother::decide::parameters::Inputs;
use fother::decide::pod::{PodPolicy, REFUSED};
use fother::decide::problem::Severity;
use fother::expr::Schemas;
use k8s_openapi::api::core::v1::{Container, PodSecurityContext, PodSpec, SecurityContext, Volume};
use schemars::{JsonSchema, schema_for};
use serde_json::{Value, json};

/// Everything that an Action may say about its Pod without the flag.
pub fn everything() -> Value {
    json!({"container": {
        "image": "busybox@sha256:1111111111111111111111111111111111111111111111111111111111111111",
        "pod": {
            "nodeSelector": {"disktype": "ssd"},
            "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "ops", "effect": "NoExecute", "tolerationSeconds": 60}],
            "resources": {"requests": {"memory": "1Gi"}, "limits": {"cpu": "2", "ephemeral-storage": "1Gi"}},
            "imagePullSecrets": [{"name": "registry"}],
        },
        "volumes": [
            {"mountPath": "/cache", "claimName": "cache", "readOnly": true},
            {"mountPath": "/settings", "configMap": {"name": "settings"}},
            {"mountPath": "/keys", "secret": {"name": "keys"}},
            {"mountPath": "/scratch", "emptyDir": {"sizeLimit": "1Gi"}},
        ],
    }})
}

/// With the flag `--allow-pod-overlays`.
pub const OVERLAYS: PodPolicy = PodPolicy { overlays: true, digests: false };

/// The spec of the Pod that comes of an Action.
pub fn pod_of(action: &Value, policy: PodPolicy) -> Result<Value, String> {
    let spec: ActionSpec = serde_json::from_value(action.clone()).unwrap();
    let execution: Execution = serde_json::from_value(json!({
        "apiVersion": "fother.dev/v1alpha1", "kind": "Execution", "metadata": {"name": "x", "namespace": "a", "uid": "u"},
        "spec": {"serviceAccountName": "healer", "run": "clean"},
    }))
    .unwrap();
    let job = job::build(&execution, 0, (&spec, &Inputs::new()), policy)?.expect("it runs in a Job");
    Ok(json!(job)["spec"]["template"]["spec"].clone())
}

fn plain() -> Value {
    json!({"container": {"image": "busybox@sha256:1111111111111111111111111111111111111111111111111111111111111111"}})
}

fn with(mut action: Value, patch: Value) -> Value {
    json_patch::merge(&mut action, &patch);
    action
}

/// The fields of one of Kubernetes' types.
fn fields_of<T: JsonSchema>() -> BTreeSet<String> {
    let schema = schema_for!(T);
    let fields = schema.as_value()["properties"].as_object().expect("an object").keys().cloned().collect();
    assert!(fields != BTreeSet::new());
    fields
}

/// What `fother validate` and a Pack say of an Action.
fn said_of(spec: &Value) -> Vec<String> {
    let manifest = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Action", "metadata": {"name": "clean"}, "spec": spec});
    let content = manifest.to_string();
    let sources = [Source { path: "a.yaml", content: content.as_bytes() }];
    let reading = read(&sources, &Surroundings::default()).check(&Schemas::default());
    reading
        .findings
        .iter()
        .map(|finding| finding.problem.to_string())
        .filter(|text| !text.contains("templat"))
        .collect()
}

/// Values one of which would do harm in any field.
fn harm() -> [Value; 4] {
    [
        json!(true),
        json!("evil"),
        json!({"privileged": true, "runAsUser": 0, "path": "/"}),
        json!([{"name": "action", "image": "evil"}]),
    ]
}

/// An Action of either runner that says nothing about its Pod.
fn plain_of(runner: &str) -> Value {
    match runner {
        "container" => plain(),
        _ => json!({"script": {"image": plain()["container"]["image"], "inline": "true"}}),
    }
}

/// The fields of a Pod, of its containers and of their security.
fn fields_of_pods() -> BTreeSet<String> {
    let fields = [
        fields_of::<PodSpec>(),
        fields_of::<Container>(),
        fields_of::<PodSecurityContext>(),
        fields_of::<SecurityContext>(),
    ];
    let fields: BTreeSet<_> = fields.into_iter().flatten().collect();
    assert!(fields.len() > 70, "{}", fields.len());
    fields
}

#[test]
fn no_field_of_a_pod_loosens_it() {
    let safe: BTreeSet<_> =
        ["nodeSelector", "tolerations", "resources", "imagePullSecrets"].map(str::to_owned).into();
    for runner in ["container", "script"] {
        let baseline = pod_of(&plain_of(runner), PodPolicy::default()).unwrap();
        for field in fields_of_pods().difference(&safe) {
            for value in harm() {
                let action = with(plain_of(runner), json!({runner: {"pod": {field: value}}}));
                let said = said_of(&action);
                let place = format!("spec.{runner}.pod");
                let refused = |text: &String| text.starts_with(&place) && text.contains(REFUSED);
                assert!(said.iter().any(refused), "{field}: {said:?}");
                // An API server that keeps what it does not know does not make a difference.
                assert_eq!(pod_of(&action, PodPolicy::default()).unwrap(), baseline, "{field}");
                let overlay = with(plain_of(runner), json!({runner: {"pod": {"overlay": {field: value}}}}));
                assert!(said_of(&overlay).iter().any(|text| text.contains(REFUSED)), "{field}");
                let refused = pod_of(&overlay, PodPolicy::default()).unwrap_err();
                assert_eq!(refused, format!("pod.overlay: {REFUSED}"));
            }
        }
    }
}

/// Beside what a runner has itself: the token is asked for, and said of in the reference.
#[test]
fn no_field_of_a_pod_is_one_of_a_runner() {
    let own: BTreeSet<_> =
        ["image", "command", "args", "automountServiceAccountToken", "volumes"].map(str::to_owned).into();
    for runner in ["container", "script"] {
        let baseline = pod_of(&plain_of(runner), PodPolicy::default()).unwrap();
        for field in fields_of_pods().difference(&own) {
            for value in harm() {
                let action = with(plain_of(runner), json!({runner: {field: value}}));
                let said = said_of(&action);
                assert!(said.iter().any(|text| text.contains(field.as_str())), "{field}: {said:?}");
                assert_eq!(pod_of(&action, PodPolicy::default()).unwrap(), baseline, "{field}");
            }
        }
    }
}

#[test]
fn no_volume_leads_out_of_the_pod() {
    let safe = ["configMap", "emptyDir", "secret"];
    let baseline = pod_of(&plain(), PodPolicy::default()).unwrap();
    let sources = fields_of::<Volume>();
    assert!(sources.contains("hostPath") && sources.len() > 25, "{sources:?}");
    for source in sources.iter().filter(|source| !safe.contains(&source.as_str())) {
        let volume = json!({"mountPath": "/x", source: {"path": "/", "name": "x", "claimName": "x"}});
        let action = with(plain(), json!({"container": {"volumes": [volume]}}));
        let said = said_of(&action);
        let expected = format!("spec.container.volumes[0].{source}: ");
        assert!(said.iter().any(|text| text.starts_with(&expected)), "{source}: {said:?}");
        assert_eq!(pod_of(&action, PodPolicy::default()).unwrap(), baseline, "{source}");
    }
    let host_path = json!({"mountPath": "/x", "hostPath": {"path": "/"}});
    let said = said_of(&with(plain(), json!({"container": {"volumes": [host_path]}})));
    assert!(said.contains(&format!("spec.container.volumes[0].hostPath: {REFUSED}")), "{said:?}");
    for (path, taken) in [
        ("/fother", "/fother"),
        ("/fother/action", "/fother"),
        ("/dev/termination-log", "/dev"),
        ("/proc/", "/proc"),
        ("/tmp", "/tmp"),
    ] {
        let volume = json!({"mountPath": path, "emptyDir": {}});
        let said = said_of(&with(plain(), json!({"container": {"volumes": [volume]}})));
        assert_eq!(said, [format!("spec.container.volumes[0].mountPath: {path:?}: {taken} is taken")]);
    }
}

#[test]
fn what_is_safe_is_there_and_changes_nothing_else() {
    assert_eq!(said_of(&everything()), Vec::<String>::new());
    let mut pod = pod_of(&everything(), PodPolicy::default()).unwrap();
    assert_eq!(pod["nodeSelector"], json!({"disktype": "ssd"}));
    assert_eq!(pod["tolerations"], everything()["container"]["pod"]["tolerations"]);
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "registry"}]));
    assert_eq!(
        pod["containers"][0]["resources"],
        json!({"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi", "cpu": "2", "ephemeral-storage": "1Gi"}})
    );
    let volumes: Vec<_> = pod["volumes"].as_array().unwrap()[2..].to_vec();
    assert_eq!(
        volumes,
        [
            json!({"name": "volume-0", "persistentVolumeClaim": {"claimName": "cache"}}),
            json!({"name": "volume-1", "configMap": {"name": "settings"}}),
            json!({"name": "volume-2", "secret": {"secretName": "keys", "defaultMode": 0o440}}),
            json!({"name": "volume-3", "emptyDir": {"sizeLimit": "1Gi"}}),
        ]
    );
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap()[2..].to_vec();
    let read_only: Vec<_> = mounts.iter().map(|mount| mount["readOnly"] == true).collect();
    assert_eq!(read_only, [true, true, true, false]);

    // Without them it is the Pod that every Action gets.
    let baseline = pod_of(&plain(), PodPolicy::default()).unwrap();
    let members = pod.as_object_mut().unwrap();
    for field in ["nodeSelector", "tolerations", "imagePullSecrets"] {
        members.remove(field);
    }
    pod["volumes"] = baseline["volumes"].clone();
    for field in ["volumeMounts", "resources"] {
        pod["containers"][0][field] = baseline["containers"][0][field].clone();
    }
    assert_eq!(pod, baseline);
}

#[test]
fn memory_always_has_a_limit() {
    for (resources, expected) in [
        (json!({}), json!({"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}})),
        (
            json!({"requests": {"cpu": "1"}}),
            json!({"requests": {"cpu": "1", "memory": "32Mi"}, "limits": {"memory": "256Mi"}}),
        ),
        (
            json!({"requests": {"memory": "1Gi"}}),
            json!({"requests": {"cpu": "10m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}),
        ),
        // Kubernetes then requests as much as the limit.
        (
            json!({"limits": {"memory": "16Mi"}}),
            json!({"requests": {"cpu": "10m"}, "limits": {"memory": "16Mi"}}),
        ),
    ] {
        let action = with(plain(), json!({"container": {"pod": {"resources": resources}}}));
        let pod = pod_of(&action, PodPolicy::default()).unwrap();
        assert_eq!(pod["containers"][0]["resources"], expected, "{resources}");
    }
}

#[test]
fn mistakes_are_named() {
    for (pod, expected) in [
        (
            json!({"nodeSelectr": {}}),
            "spec.container.pod.nodeSelectr: unknown field; did you mean \"nodeSelector\"?",
        ),
        (
            json!({"tolerations": [{"value": "x"}]}),
            "spec.container.pod.tolerations[0]: without key, operator must be Exists",
        ),
        (
            json!({"tolerations": [{"key": "a", "operator": "Exists", "value": "x"}]}),
            "spec.container.pod.tolerations[0]: value is for the operator Equal",
        ),
        (
            json!({"tolerations": [{"key": "a", "tolerationSeconds": 1}]}),
            "spec.container.pod.tolerations[0]: tolerationSeconds is for the effect NoExecute",
        ),
        (
            json!({"resources": {"limits": {"nvidia.com/gpu": "1"}}}),
            "spec.container.pod.resources: limits can be for cpu, memory and ephemeral-storage",
        ),
    ] {
        let said = said_of(&with(plain(), json!({"container": {"pod": pod}})));
        assert_eq!(said, [expected]);
    }
    let said =
        said_of(&with(plain(), json!({"container": {"pod": {"resources": {"limits": {"memory": "lots"}}}}})));
    assert!(
        said[0].starts_with("spec.container.pod.resources.limits.memory: \"lots\" does not match"),
        "{said:?}"
    );
}

#[test]
fn the_flag_lets_overlays_through_but_for_whose_they_are() {
    let overlay = |overlay: Value| with(plain(), json!({"container": {"pod": {"overlay": overlay}}}));
    let wanted = json!({
        "hostNetwork": true,
        "serviceAccountName": "admin", "serviceAccount": "admin", "restartPolicy": "Always",
        "containers": [{"name": "action", "securityContext": {"privileged": true},
            "volumeMounts": [{"name": "host", "mountPath": "/host"}]}],
        "volumes": [{"name": "host", "hostPath": {"path": "/var/log"}}],
    });
    let pod = pod_of(&overlay(wanted.clone()), OVERLAYS).unwrap();
    assert_eq!((&pod["hostNetwork"], &pod["serviceAccountName"]), (&json!(true), &json!("healer")));
    assert_eq!((&pod["restartPolicy"], pod.get("serviceAccount")), (&json!("Never"), None));
    let container = &pod["containers"][0];
    assert_eq!(
        (&container["image"], &container["securityContext"]["privileged"]),
        (
            &json!("busybox@sha256:1111111111111111111111111111111111111111111111111111111111111111"),
            &json!(true)
        )
    );
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true, "what is not named stays");
    assert_eq!(container["volumeMounts"].as_array().unwrap().len(), 3);
    assert_eq!(pod["volumes"].as_array().unwrap().len(), 3);

    let spec: ActionSpec = serde_json::from_value(overlay(wanted)).unwrap();
    assert!(check::action(&spec, OVERLAYS).is_empty());
    for (wrong, expected) in [
        (json!({"hostNetwrok": true}), ".hostNetwrok: unknown field"),
        (
            json!({"containers": [{"name": "action", "priviledged": true}]}),
            ".containers[0].priviledged: unknown field",
        ),
        (json!({"hostNetwork": "yes"}), ": invalid type: string \"yes\", expected a boolean"),
    ] {
        assert_eq!(pod_of(&overlay(wrong), OVERLAYS).unwrap_err(), format!("pod.overlay{expected}"));
    }
}

#[test]
fn where_digests_are_required_no_image_goes_without() {
    const PINNED: PodPolicy = PodPolicy { overlays: true, digests: true };
    let digest = format!("@sha256:{}", "a".repeat(64));
    let good = format!("registry.example.com:5000/ops/cleaner:1{digest}");
    let container =
        |image: &str, overlay: Value| json!({"container": {"image": image, "pod": {"overlay": overlay}}});
    let script = |image: &str| json!({"script": {"image": image, "inline": "true"}});
    for (action, path) in [
        (script("debian:12"), "spec.script.image"),
        (json!({"container": {"image": "debian@sha256:abc"}}), "spec.container.image"),
        (
            json!({"container": {"image": format!("debian{}", digest.replace('a', "g"))}}),
            "spec.container.image",
        ),
        (
            container(&good, json!({"containers": [{"name": "action", "image": "debian:12"}]})),
            "spec.container.pod.overlay.containers[0].image",
        ),
        (
            container(&good, json!({"initContainers": [{"name": "first", "image": "debian"}]})),
            "spec.container.pod.overlay.initContainers[0].image",
        ),
        (
            container(&good, json!({"volumes": [{"name": "data", "image": {"reference": "data:1"}}]})),
            "spec.container.pod.overlay.volumes[0].image.reference",
        ),
    ] {
        let spec: ActionSpec = serde_json::from_value(action.clone()).unwrap();
        let found = |policy: PodPolicy| {
            let problems = check::action(&spec, policy);
            assert_eq!(problems.len(), 1, "{problems:?}");
            (problems[0].path.clone(), problems[0].message.clone(), problems[0].severity)
        };
        let said = |severity| (path.to_owned(), "image is not pinned by sha256 digest".to_owned(), severity);
        assert_eq!(found(PINNED), said(Severity::Error), "{action}");
        assert_eq!(found(OVERLAYS), said(Severity::Warning), "{action}");
        let refused = pod_of(&action, PINNED).unwrap_err();
        assert!(refused.contains("image is not pinned by sha256 digest"), "{refused}");
        assert!(pod_of(&action, OVERLAYS).is_ok(), "{action}");
    }
    for action in [script(&good), container(&good, json!({"hostNetwork": true}))] {
        let spec: ActionSpec = serde_json::from_value(action.clone()).unwrap();
        assert!(check::action(&spec, PINNED).is_empty() && pod_of(&action, PINNED).is_ok(), "{action}");
    }
}
