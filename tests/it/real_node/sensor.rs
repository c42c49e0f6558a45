//! The Sensor of the example, as a container in a Pod of its own: what it finds in a folder starts an Execution, if it
//! has the Webhook's token.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::harbor::Harbor;
use crate::support::examples::folder;
use crate::support::followed::Followed;
use crate::support::wait::{DEADLINE, eventually};

const NAMESPACE: &str = "spools";
/// On a busy machine, starting what tells, what hears it and what acts on it takes its time.
const STARTED: Duration = Duration::from_mins(4);

/// Five files in one spool, two in another.
fn fill(spools: &Path) {
    for (spool, files) in [("mail", 5), ("print", 2)] {
        std::fs::create_dir_all(spools.join(spool)).unwrap();
        for number in 0..files {
            std::fs::write(spools.join(spool).join(number.to_string()), "").unwrap();
        }
    }
}

fn claim() -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "spool", "namespace": NAMESPACE},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    })
}

/// The Deployment as it is written, with the claim that holds the spools, and with the address of a replica, as Services
/// have none here.
async fn deployment(harbor: &Harbor, name: &str, token: &str) -> Value {
    let text = std::fs::read_to_string(folder("setup").join("sensor/sensor.yaml")).unwrap();
    let mut deployment: Value = serde_saphyr::from_str(&text).unwrap();
    for labels in ["/spec/selector/matchLabels", "/spec/template/metadata/labels"] {
        deployment.pointer_mut(labels).unwrap()["app"] = name.into();
    }
    deployment["metadata"]["name"] = name.into();
    let pod = &mut deployment["spec"]["template"]["spec"];
    let hook = &mut pod["containers"][0]["env"][0];
    assert_eq!(hook["value"], "http://fother-webhooks.fother/hooks/spools/spools");
    hook["value"] = format!("http://{}/hooks/spools/spools", harbor.hooks().await[0]).into();
    assert_eq!((&pod["volumes"][1]["name"], &pod["volumes"][2]["name"]), (&json!("token"), &json!("spool")));
    pod["volumes"][1]["secret"]["secretName"] = token.into();
    pod["volumes"][2] = json!({"name": "spool", "persistentVolumeClaim": {"claimName": "spool"}});
    deployment
}

async fn says(harbor: &Harbor, workload: &str, what: &str) {
    eventually(&format!("{workload} says: {what}"), DEADLINE, || async {
        let logs = ["-n", NAMESPACE, "logs", workload];
        let said = harbor.kubectl.try_run(&logs, "").await;
        if said.stdout.lines().any(|line| line == what) { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_sensor_tells_what_it_finds() {
    let Some(harbor) = Harbor::shared().await else { return };
    let run = async |arguments: &[&str]| {
        harbor.kubectl.run(&[&["-n", NAMESPACE], arguments].concat()).await;
    };
    let (rights, script) =
        (folder("setup").join("sensor/rbac.yaml"), folder("sensor").join("sensor/watch-spool.sh"));
    harbor.kubectl.run(&["create", "-f", rights.to_str().unwrap()]).await;
    for name in ["spools", "another"] {
        run(&["create", "secret", "generic", name, &format!("--from-literal=token=token-of-{name}")]).await;
    }
    run(&["create", "configmap", "watch-spool", &format!("--from-file={}", script.display())]).await;
    Followed::new(&harbor.kubectl, harbor.node.host().await, ("sensor", NAMESPACE), |_| {}).await;
    run(&["wait", "webhook/spools", "rule/spool-full", "--for=condition=Ready", "--timeout=60s"]).await;
    fill(&harbor.claim(NAMESPACE, "spool"));
    for object in [
        claim(),
        deployment(harbor, "watch-spool", "spools").await,
        deployment(harbor, "stranger", "another").await,
    ] {
        harbor.kubectl.apply(&object.to_string(), &[]).await;
    }

    let execution = harbor.ended(NAMESPACE, STARTED).await;
    assert_eq!(execution.reason(), Some("Completed"), "{:#?}", execution.status);
    let target = execution.spec.target.unwrap();
    assert_eq!((target.kind.as_str(), target.name.as_str()), ("Key", "mail"));
    says(harbor, "deployment/watch-spool", "told: mail holds 5 files").await;
    let job = format!("job/{}", execution.status.unwrap().rungs[0].job.as_ref().unwrap().name);
    says(harbor, &job, "spool mail holds 5 files").await;
    says(harbor, "deployment/stranger", "refused with 401: mail").await;
    harbor.ended(NAMESPACE, DEADLINE).await;
}
