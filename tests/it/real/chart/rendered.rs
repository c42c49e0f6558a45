//! What the chart renders to, without a cluster.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use fother::cluster::rights;
use fother::server::hooks::Ending;
use regex::Regex;
use serde_json::{Value, json};

use crate::support::helm::{Helm, chart};
use crate::support::kubectl::run;

/// Everything that is off by default, on.
pub const ALL: [&str; 4] = [
    "--set",
    "networkPolicy.enabled=true,serviceMonitor.enabled=true,prometheusRule.enabled=true,receiver.enabled=true,journal.enabled=true",
    "--set",
    "priorityClassName=ops",
];

/// The objects of a rendered chart.
pub fn objects(yaml: &str) -> Vec<Value> {
    let documents = serde_saphyr::from_multiple::<Value>(yaml).unwrap();
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

pub fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects.iter().find(is).unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(chart().join(path)).unwrap()
}

fn values() -> Value {
    serde_saphyr::from_str(&read("values.yaml")).unwrap()
}

#[tokio::test]
async fn lint_has_nothing_to_say() {
    let Some(helm) = Helm::offline() else { return };
    for values in [&[][..], &ALL] {
        let folder = chart();
        helm.run(&[&["lint", "--strict", folder.to_str().unwrap()], values].concat()).await;
    }
}

#[tokio::test]
async fn the_rights_are_those_that_the_controller_claims() {
    let Some(helm) = Helm::offline() else { return };
    let rendered = objects(&helm.template(&[]).await);
    for claimed in rights::installation("fother", "fother").unwrap() {
        let (kind, name) = (claimed["kind"].as_str().unwrap(), claimed["metadata"]["name"].as_str().unwrap());
        let mut found = find(&rendered, kind, name).clone();
        found["metadata"].as_object_mut().unwrap().remove("labels");
        found.as_object_mut().unwrap().remove("automountServiceAccountToken");
        assert_eq!(found, claimed);
    }
    let bindings = rendered.iter().filter(|object| object["kind"].as_str().unwrap().ends_with("RoleBinding"));
    assert_eq!(bindings.count(), 2, "nothing else is bound");
}

#[tokio::test]
async fn the_kinds_are_those_of_this_version_and_are_kept() {
    let Some(helm) = Helm::offline() else { return };
    let keep = objects(&helm.template(&[]).await);
    let go = objects(&helm.template(&["--set", "crds.keep=false"]).await);
    for crd in fother::api::crds() {
        let name = crd.metadata.name.clone().unwrap();
        let wanted = json!(crd);
        let found = find(&keep, "CustomResourceDefinition", &name);
        assert_eq!(found["spec"], wanted["spec"], "{name}");
        assert_eq!(found["metadata"]["annotations"], json!({"helm.sh/resource-policy": "keep"}));
        let gone = find(&go, "CustomResourceDefinition", &name);
        assert_eq!((&gone["spec"], gone["metadata"].get("annotations")), (&wanted["spec"], None));
    }
    let without = objects(&helm.template(&["--set", "crds.install=false"]).await);
    assert_eq!(without.iter().filter(|o| o["kind"] == "CustomResourceDefinition").count(), 0);
}

#[tokio::test]
async fn a_person_is_called_for_what_limits_hold_back_if_that_is_asked_for() {
    let Some(helm) = Helm::offline() else { return };
    let none = objects(&helm.template(&[]).await);
    assert!(none.iter().all(|object| object["kind"] != "PrometheusRule"));
    let label = ["--set", "prometheusRule.alertLabels.severity=page"];
    let rendered = objects(&helm.template(&[&ALL[..], &label].concat()).await);
    let alert = &find(&rendered, "PrometheusRule", "fother")["spec"]["groups"][0]["rules"][0];
    assert_eq!(
        (&alert["alert"], &alert["labels"]["severity"]),
        (&json!("FotherHeldByLimit"), &json!("page"))
    );
    let expression = alert["expr"].as_str().unwrap();
    let documented = std::fs::read_to_string(chart().join("../../docs/reference/metrics.md")).unwrap();
    for named in ["fother_rule_held", "cooldown", "rate"] {
        assert!(expression.contains(named) && documented.contains(&format!("| `{named}` |")), "{named}");
    }
    let summary = alert["annotations"]["summary"].as_str().unwrap();
    assert!(
        summary.starts_with("Rule {{ $labels.namespace }}/{{ $labels.rule }} matches {{ $value }} targets"),
        "{summary}"
    );
    let endpoint = &find(&rendered, "ServiceMonitor", "fother")["spec"]["endpoints"][0];
    assert_eq!(endpoint["honorLabels"], true, "the namespace is the Rule's");
}

#[tokio::test]
async fn every_alert_is_documented_and_reads_metrics_that_there_are() {
    let Some(helm) = Helm::offline() else { return };
    let label = ["--set", "prometheusRule.alertLabels.severity=page"];
    let rendered = objects(&helm.template(&[&ALL[..], &label].concat()).await);
    let documented = std::fs::read_to_string(chart().join("../../docs/reference/metrics.md")).unwrap();
    let metric = Regex::new(r"\b(?:fother|controller_runtime|leader_election)_[a-z_]+").unwrap();
    let alerts = &find(&rendered, "PrometheusRule", "fother")["spec"]["groups"][0]["rules"];
    assert_eq!(alerts.as_array().unwrap().len(), 7);
    for alert in alerts.as_array().unwrap() {
        let (name, expression) = (alert["alert"].as_str().unwrap(), alert["expr"].as_str().unwrap());
        assert_eq!(alert["labels"], json!({"severity": "page"}), "{name}");
        assert!(documented.contains(&format!("| `{name}` |")), "{name}");
        let read: Vec<_> = metric.find_iter(expression).map(|found| found.as_str()).collect();
        assert!(!read.is_empty(), "{expression}");
        for metric in read {
            assert!(documented.contains(&format!("| `{metric}` |")), "{name}: {metric}");
        }
    }
}

#[tokio::test]
async fn the_pod_has_no_more_than_it_needs() {
    let Some(helm) = Helm::offline() else { return };
    let rendered = objects(&helm.template(&ALL).await);
    let deployment = &find(&rendered, "Deployment", "fother")["spec"];
    let pod = &deployment["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(deployment["replicas"], 2);
    assert_eq!(pod["priorityClassName"], "ops");
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let security = &container["securityContext"];
    assert_eq!(
        *security,
        json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}})
    );
    // What it writes to is an emptyDir: git's caches, what the system's temporary folder is for, and the journal.
    let written: Vec<_> =
        container["volumeMounts"].as_array().unwrap().iter().map(|m| &m["mountPath"]).collect();
    assert_eq!(written, ["/var/cache/fother", "/tmp", "/var/lib/fother"]);
    assert!(pod["volumes"].as_array().unwrap().iter().all(|v| v["emptyDir"]["sizeLimit"].is_string()));
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/healthz");
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
    // The default, of a second, is too short for whoever shares a busy machine.
    assert_eq!(container["livenessProbe"]["timeoutSeconds"], 10);
    assert_eq!(container["readinessProbe"]["timeoutSeconds"], 5);
    assert!(container["resources"]["limits"]["memory"].is_string());
    // Nobody whom it still serves is cut off.
    let ending = Ending::default();
    let patience = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(patience > (ending.grace + ending.rest).as_secs(), "{patience}");
}

#[tokio::test]
async fn the_controller_knows_its_arguments() {
    let Some(helm) = Helm::offline() else { return };
    let arguments = |rendered: &[Value]| {
        let pod = &find(rendered, "Deployment", "fother")["spec"]["template"]["spec"];
        let arguments = pod["containers"][0]["args"].as_array().unwrap().clone();
        arguments.iter().map(|a| a.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let flags = ["--allow-pod-overlays", "--require-image-digests"];
    let has = |arguments: &[String], flag: &str| arguments.iter().any(|a| a == flag);
    let default = arguments(&objects(&helm.template(&[]).await));
    assert!(flags.iter().all(|flag| !has(&default, flag)), "{default:?}");
    let values =
        ["controller.allowPodOverlays=true", "controller.requireImageDigests=true", "journal.enabled=true"];
    let rendered = objects(&helm.template(&["--set", &values.join(",")]).await);
    let arguments = arguments(&rendered);
    assert!(flags.iter().all(|flag| has(&arguments, flag)), "{arguments:?}");
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    // Help comes before what is wrong with values, but after what is wrong with names.
    let answer = run(fother(&[&arguments[..], &["--help"]].concat()), "").await;
    assert!(arguments.len() > 5 && answer.code == 0, "{arguments:?}: {answer:#?}");
}

/// In a file of values every number is a float to helm, and of a million it writes `1e+06`.
#[tokio::test]
async fn numbers_and_texts_of_a_file_of_values_stay_what_they_are() {
    let Some(helm) = Helm::offline() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.yaml");
    let values = json!({
        "replicas": 1_000_000, "priorityClassName": "1000", "journal": {"enabled": true, "sizeMiB": 1_000_000},
        "controller": {"maxPerRule": 1_000_000, "maxPerNamespace": 1_000_000, "maxTotal": 1_000_000},
        "prometheusRule": {"enabled": true, "alertLabels": {"on_call": "1000"}},
    });
    std::fs::write(&file, values.to_string()).unwrap();
    let rendered = objects(&helm.template(&["--values", file.to_str().unwrap()]).await);
    let deployment = &find(&rendered, "Deployment", "fother")["spec"];
    let pod = &deployment["template"]["spec"];
    assert_eq!((&deployment["replicas"], &pod["priorityClassName"]), (&json!(1_000_000), &json!("1000")));
    let arguments = pod["containers"][0]["args"].as_array().unwrap();
    for expected in [
        "--max-per-rule=1000000",
        "--max-per-namespace=1000000",
        "--max-total=1000000",
        "--journal-size=1000000Mi",
    ] {
        assert!(arguments.contains(&json!(expected)), "{expected}: {arguments:?}");
    }
    let volumes = pod["volumes"].as_array().unwrap();
    let limit = json!({"sizeLimit": "3000000Mi"});
    assert!(volumes.iter().any(|volume| volume["emptyDir"] == limit), "{volumes:?}");
    let alert = &find(&rendered, "PrometheusRule", "fother")["spec"]["groups"][0]["rules"][0];
    assert_eq!(alert["labels"], json!({"on_call": "1000", "severity": "warning"}));
}

#[tokio::test]
async fn names_that_are_digits_stay_names() {
    let Some(helm) = Helm::offline() else { return };
    let chart = chart();
    let what = ["template", "5", chart.to_str().unwrap(), "--namespace", "7"];
    for object in objects(&helm.run(&[&what[..], &ALL].concat()).await) {
        let metadata = &object["metadata"];
        assert!(metadata["namespace"].is_null() || metadata["namespace"] == "7", "{object}");
        assert_eq!(metadata["labels"]["app.kubernetes.io/instance"], "5", "{object}");
        let subjects = object["subjects"].as_array().into_iter().flatten();
        let mut subjects = subjects.filter(|subject| subject["kind"] == "ServiceAccount");
        assert!(subjects.all(|subject| subject["namespace"] == "7"), "{object}");
    }
}

#[tokio::test]
async fn the_journal_has_a_volume_of_three_times_its_size_or_the_one_that_is_given() {
    let Some(helm) = Helm::offline() else { return };
    for (values, expected) in [
        ("sizeMiB=8", json!({"emptyDir": {"sizeLimit": "24Mi"}})),
        ("medium=Memory", json!({"emptyDir": {"sizeLimit": "192Mi", "medium": "Memory"}})),
        ("volume.persistentVolumeClaim.claimName=j", json!({"persistentVolumeClaim": {"claimName": "j"}})),
    ] {
        let rendered =
            objects(&helm.template(&["--set", &format!("journal.enabled=true,journal.{values}")]).await);
        let pod = &find(&rendered, "Deployment", "fother")["spec"]["template"]["spec"];
        let volumes = pod["volumes"].as_array().unwrap();
        let mut volume = volumes.iter().find(|volume| volume["name"] == "journal").unwrap().clone();
        volume.as_object_mut().unwrap().remove("name");
        assert_eq!(volume, expected, "{values}");
    }
    let rendered = objects(&helm.template(&[]).await);
    let pod = &find(&rendered, "Deployment", "fother")["spec"]["template"]["spec"];
    assert!(!pod.to_string().contains("journal"), "off by default");
}

fn fother(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fother"));
    command.args(arguments);
    command
}

/// Each selector of a Service, budget or policy selects the Deployment's Pods.
#[tokio::test]
async fn what_selects_pods_selects_those_of_the_controller() {
    let Some(helm) = Helm::offline() else { return };
    let rendered = objects(&helm.template(&ALL).await);
    let labels = &find(&rendered, "Deployment", "fother")["spec"]["template"]["metadata"]["labels"];
    for (kind, name, pointer) in [
        ("Deployment", "fother", "/spec/selector/matchLabels"),
        ("Service", "fother-metrics", "/spec/selector"),
        ("PodDisruptionBudget", "fother", "/spec/selector/matchLabels"),
        ("NetworkPolicy", "fother", "/spec/podSelector/matchLabels"),
    ] {
        let selector = find(&rendered, kind, name).pointer(pointer).unwrap().as_object().unwrap();
        assert!(selector.len() > 1, "{kind}");
        assert!(selector.iter().all(|(key, value)| labels[key] == *value), "{kind}: {selector:?}");
    }
    let service = &find(&rendered, "Service", "fother-metrics")["metadata"]["labels"];
    let monitored = &find(&rendered, "ServiceMonitor", "fother")["spec"]["selector"]["matchLabels"];
    assert!(monitored.as_object().unwrap().iter().all(|(key, value)| service[key] == *value));
}

#[tokio::test]
async fn the_network_policy_lets_through_what_is_needed_and_nothing_else() {
    let Some(helm) = Helm::offline() else { return };
    let rendered = async |values: &str| {
        let on = format!("networkPolicy.enabled=true,{values}");
        objects(&helm.template(&["--set", &on]).await)
    };
    let spec = async |values: &str| find(&rendered(values).await, "NetworkPolicy", "fother")["spec"].clone();
    let tcp = |port: Value| json!({"port": port, "protocol": "TCP"});
    let (http, hooks) = (json!({"ports": [tcp(json!("http"))]}), json!({"ports": [tcp(json!("hooks"))]}));
    let names = [json!({"port": 53, "protocol": "UDP"}), tcp(json!(53))];
    // Git over ssh, the API server and git over https.
    let egress = |ports: &[u16]| {
        let ports = ports.iter().map(|port| tcp(json!(port)));
        json!([{"ports": names.iter().cloned().chain(ports).collect::<Vec<_>>()}])
    };

    let quiet = spec("receiver.enabled=false").await;
    assert_eq!(quiet["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!((&quiet["ingress"], &quiet["egress"]), (&json!([http]), &egress(&[22, 443, 6443])));
    let receiving = spec("receiver.enabled=true").await;
    assert_eq!((&receiving["ingress"], &receiving["egress"]), (&json!([http, hooks]), &quiet["egress"]));
    let narrow = "receiver.enabled=true,networkPolicy.egressPorts={443},networkPolicy.metricsFrom[0].podSelector.matchLabels.app=prometheus,\
                  receiver.from[0].ipBlock.cidr=10.0.0.0/8";
    let narrow = spec(narrow).await;
    assert_eq!(narrow["egress"], egress(&[443]));
    assert_eq!(
        narrow["ingress"],
        json!([
            {"ports": [tcp(json!("http"))], "from": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}]},
            {"ports": [tcp(json!("hooks"))], "from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
        ])
    );

    // A name that no port of the Pod has would let nothing through.
    let all = rendered("receiver.enabled=true").await;
    let pod = &find(&all, "Deployment", "fother")["spec"]["template"]["spec"];
    let ports: Vec<_> =
        pod["containers"][0]["ports"].as_array().unwrap().iter().map(|p| &p["name"]).collect();
    assert_eq!(ports, ["http", "hooks"]);
}

#[tokio::test]
async fn one_replica_at_a_time_may_be_moved() {
    let Some(helm) = Helm::offline() else { return };
    let rendered = objects(&helm.template(&[]).await);
    let budget = &find(&rendered, "PodDisruptionBudget", "fother")["spec"];
    let selector = &find(&rendered, "Deployment", "fother")["spec"]["selector"];
    // One that is not well does not keep its node from being drained.
    let expected =
        json!({"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow", "selector": selector});
    assert_eq!(*budget, expected);
    let without = objects(&helm.template(&["--set", "podDisruptionBudget.enabled=false"]).await);
    assert!(without.iter().all(|object| object["kind"] != "PodDisruptionBudget"));
}

/// The values that are not objects themselves, by path.
fn leaves(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value.as_object().filter(|members| !members.is_empty()) {
        Some(members) if !["resources"].contains(&path) => {
            for (name, member) in members {
                let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(member, &below, found);
            }
        }
        _ => drop(found.insert(path.to_owned())),
    }
}

/// Where the schema speaks of a value.
fn in_schema<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(schema, |place, name| {
        let place = match place["$ref"].as_str() {
            Some(reference) => schema.pointer(reference.trim_start_matches('#'))?,
            None => place,
        };
        place["properties"].get(name)
    })
}

#[test]
fn every_value_is_used_has_a_type_and_is_described() {
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let readme = read("README.md");
    let templates: String = std::fs::read_dir(chart().join("templates"))
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    let mut paths = BTreeSet::new();
    leaves(&values(), "", &mut paths);
    assert!(paths.len() > 20, "{paths:?}");
    for path in paths {
        assert!(in_schema(&schema, &path).is_some(), "values.schema.json lacks {path}");
        assert!(readme.contains(&format!("| `{path}` |")), "README.md does not describe {path}");
        assert!(templates.contains(&format!(".Values.{path}")), "no template uses {path}");
    }
}

#[tokio::test]
async fn a_value_that_makes_no_sense_is_refused() {
    let Some(helm) = Helm::offline() else { return };
    let folder = chart();
    for (value, said) in [
        ("replica=3", "replica"),
        ("replicas=two", "replicas"),
        ("crds.keep=maybe", "keep"),
        ("controller.logFormat=xml", "logFormat"),
        ("image.digest=sha1:1", "digest"),
        ("admissionPolicies.enable=false", "enable"),
        ("globals.x=1", "globals"),
        ("journal.age=0s", "age"),
        ("journal.age=0h0m", "age"),
        ("gitCache.sizeLimit=lots", "sizeLimit"),
        ("gitCache.sizeLimit=0Gi", "sizeLimit"),
        // Prometheus refuses a label of such a name.
        ("prometheusRule.alertLabels.on-call=platform", "on-call"),
    ] {
        let answer = helm.try_run(&["template", "fother", folder.to_str().unwrap(), "--set", value]).await;
        assert!(answer.code != 0 && answer.stderr.contains(said), "{value}: {answer:?}");
    }
    // Who installs it as a part of a chart of his own shares that one's.
    for value in ["global.x=1", "journal.age=1h30m", "gitCache.sizeLimit=0.5Gi", "gitCache.sizeLimit=3e9"] {
        helm.template(&["--set-string", value]).await;
    }
}

#[test]
fn the_chart_is_of_this_version_and_has_its_kinds() {
    let about: Value = serde_saphyr::from_str(&read("Chart.yaml")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!((&about["version"], &about["appVersion"]), (&json!(version), &json!(version)));
    let names = |folder: &Path| -> BTreeSet<_> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    let (ours, theirs) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("crds"), chart().join("files/crds"));
    assert_eq!(names(&ours), names(&theirs));
    for name in names(&ours) {
        let read = |folder: &Path| std::fs::read_to_string(folder.join(&name)).unwrap();
        assert!(read(&ours) == read(&theirs), "{name:?} is stale in charts/fother: run `make crds`");
    }
}
