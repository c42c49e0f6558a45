//! Hosts whose disks fill up: two are cleaned, and what exceeds the cooldown or the rate waits, visibly.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use fother::api::HeldTarget;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::ListParams;
use serde_json::{Value, json};

use super::stage::{Place, Stage, alert};
use crate::support::wait::{DEADLINE, eventually};
use crate::webhooks::stage::at;

const DAY: Duration = Duration::from_hours(24);

fn full(host: &str, starts: &str, ends: Option<&str>) -> Value {
    alert("ScratchFull", host, json!({"instance": format!("{host}:9100")}), (starts, ends))
}

/// Puts an old file and a new one into the folder of a host.
fn fill(stage: &Stage, host: &str) {
    let folder = stage.claim("scratch").join(host);
    fs::create_dir_all(&folder).unwrap();
    // Hosts write as whom they like.
    fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
    for (name, age) in [("old", DAY * 2), ("new", Duration::ZERO)] {
        File::create(folder.join(name)).unwrap().set_modified(SystemTime::now() - age).unwrap();
    }
}

fn left(stage: &Stage, host: &str) -> Vec<String> {
    let entries = fs::read_dir(stage.claim("scratch").join(host)).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A host's alert fires, its folder is cleaned, and the alert is resolved.
async fn is_cleaned(stage: &Stage, host: &str) {
    let starts = at(0);
    stage.told_twice(&full(host, &starts, None)).await;
    eventually(&format!("{host} is cleaned"), DEADLINE, || async {
        let left = left(stage, host);
        if left == ["new"] { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    stage.told_twice(&full(host, &starts, Some(&at(0)))).await;
}

pub async fn two_hosts_are_cleaned_and_a_repeat_and_a_third_wait(place: &Place) {
    let stage = Stage::of(place, ("disk-alert", "storage"), json!({}), |_| {}).await;
    stage.set_up("claim.yaml").await;
    for host in ["server-x", "server-y", "server-z"] {
        fill(&stage, host);
    }
    is_cleaned(&stage, "server-x").await;
    stage.ended(&["TargetRecovered"]).await;
    stage.closed().await;
    fill(&stage, "server-x");
    let again = at(2);
    stage.told_twice(&full("server-x", &again, None)).await;
    stage.holds(&[("server-x", "Cooldown")]).await;
    is_cleaned(&stage, "server-y").await;
    let found = stage.ended(&["TargetRecovered", "TargetRecovered"]).await;
    for execution in &found {
        let rung = &execution.status.as_ref().unwrap().rungs[0];
        assert_eq!((rung.run.as_str(), rung.outputs.to_value()), ("clean-scratch", json!({"freedFiles": 1})));
    }
    stage.told_twice(&full("server-z", &at(0), None)).await;
    let held = stage.holds(&[("server-x", "Cooldown"), ("server-z", "Rate")]).await;
    let lasts = |name: &str| {
        let held = held.iter().find(|held| held.target.name == name).unwrap();
        held.until.as_ref().unwrap().0.duration_since(Timestamp::now())
    };
    let (half_an_hour, hour) = (SignedDuration::from_mins(30), SignedDuration::from_hours(1));
    assert!(
        lasts("server-x") <= half_an_hour && lasts("server-x") > half_an_hour - SignedDuration::from_mins(5)
    );
    assert!(lasts("server-z") <= hour && lasts("server-z") > hour - SignedDuration::from_mins(5));
    stage.came_to("server-z", &["disk-alert Held Rate"]).await;
    stage.came_to(&format!("server-x/{again}"), &["disk-alert Held Cooldown"]).await;
    assert_eq!(left(&stage, "server-x"), ["new", "old"]);
    assert_eq!(left(&stage, "server-z"), ["new", "old"]);
    assert_eq!(stage.executions().await.len(), 2);
    people_are_told(&stage, &held).await;
}

/// What a limit holds back is told on the host, and measured, so that an alert of its own calls a person.
async fn people_are_told(stage: &Stage, held: &[HeldTarget]) {
    let until = |name: &str| {
        let held = held.iter().find(|held| held.target.name == name).unwrap();
        format!("until {}", held.until.as_ref().unwrap().0)
    };
    for (host, limit) in [("server-x", "limits.cooldown 30m"), ("server-z", "limits.perRule 2/1h")] {
        let expected = format!("Rule disk-alert does nothing about it, held by {limit} {}", until(host));
        eventually(&format!("it is told: {expected}"), DEADLINE, || async {
            let events =
                stage.api::<Event>().list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let of_host = events.items.iter().filter(|event| {
                let name = event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref());
                event.reason.as_deref() == Some("RuleFireHeld") && name == Some(host)
            });
            let told: Vec<_> = of_host.map(|event| (event.type_.as_deref(), event.note.as_deref())).collect();
            if told == [(Some("Warning"), Some(&*expected))] { Ok(()) } else { Err(format!("{told:?}")) }
        })
        .await;
    }
    for guard in ["cooldown", "rate"] {
        let line =
            format!("fother_rule_held{{namespace=\"storage\",rule=\"disk-alert\",guard=\"{guard}\"}} 1");
        eventually(&line, DEADLINE, || async {
            let text = stage.metrics().await;
            if text.contains(&line) { Ok(()) } else { Err("not measured") }
        })
        .await;
    }
}

pub async fn what_is_no_name_of_a_host_is_nothing_to_clean(place: &Place) {
    let stage = Stage::of(place, ("disk-alert", "storage"), json!({}), |_| {}).await;
    stage.set_up("claim.yaml").await;
    fill(&stage, "server-x");
    stage.told_twice(&full("server-x/..", &at(0), None)).await;
    stage.came_to("server-x", &["disk-alert NotMatched"]).await;
    assert_eq!(stage.executions().await.len(), 0);
}
