//! A pod's status, computed from its containers.
//!
//! Pure. The words are the kubelet's, so that whoever reads them learns what a real node would say.

use k8s_openapi::api::core::v1::{HostIP, Pod, PodCondition, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::record::{Record, State};

/// Why a pod failed as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// As one word.
    pub reason: String,
    /// As a sentence.
    pub message: String,
}

/// Everything that a status is computed from.
pub struct Facts<'a> {
    /// The pod; its status is what was last known of it.
    pub pod: &'a Pod,
    /// Its containers, the init containers first.
    pub records: &'a [Record],
    /// Whether its volumes are there.
    pub mounted: bool,
    /// Whether it is being ended, so that nothing starts again.
    pub closing: bool,
    /// Why it failed as a whole, if it did.
    pub verdict: Option<&'a Verdict>,
    /// When this node took it.
    pub start: &'a Time,
    /// Its address.
    pub ip: &'a str,
    /// The node's address.
    pub host_ip: &'a str,
    /// Now.
    pub now: &'a Time,
}

/// The status that a node writes.
pub fn build(facts: &Facts<'_>) -> PodStatus {
    let phase = phase(facts);
    let statuses = |init: bool| {
        let records = facts.records.iter().filter(move |record| record.init == init);
        Some(records.map(Record::status).collect::<Vec<_>>()).filter(|all| !all.is_empty())
    };
    PodStatus {
        phase: Some(phase.to_owned()),
        reason: facts.verdict.map(|verdict| verdict.reason.clone()),
        message: facts.verdict.map(|verdict| verdict.message.clone()),
        conditions: Some(conditions(facts, phase)),
        init_container_statuses: statuses(true),
        container_statuses: statuses(false),
        start_time: Some(facts.start.clone()),
        host_ip: Some(facts.host_ip.to_owned()),
        host_ips: Some(vec![HostIP { ip: facts.host_ip.to_owned() }]),
        pod_ip: Some(facts.ip.to_owned()),
        pod_ips: Some(vec![PodIP { ip: facts.ip.to_owned() }]),
        ..PodStatus::default()
    }
}

/// The pod's phase.
pub fn phase(facts: &Facts<'_>) -> &'static str {
    let ended = |record: &Record| !record.running() && (facts.closing || record.done().is_some());
    if facts.records.iter().all(ended) || failed_init(facts) && !facts.records.iter().any(Record::running) {
        let well = facts.verdict.is_none() && facts.records.iter().all(ended_well);
        return if well { "Succeeded" } else { "Failed" };
    }
    let mut main = facts.records.iter().filter(|record| !record.init);
    let unborn = |record: &Record| matches!(record.state, State::Waiting { .. }) && record.last.is_none();
    let pending = !initialized(facts) || main.any(unborn);
    if pending { "Pending" } else { "Running" }
}

fn ended_well(record: &Record) -> bool {
    matches!(&record.state, State::Crashed(exit) | State::Ended(exit) if exit.code == 0)
}

fn failed_init(facts: &Facts<'_>) -> bool {
    let mut init = facts.records.iter().filter(|record| record.init);
    init.any(|record| record.done().is_some_and(|exit| exit.code != 0))
}

fn initialized(facts: &Facts<'_>) -> bool {
    facts.records.iter().filter(|record| record.init).all(Record::succeeded)
}

fn conditions(facts: &Facts<'_>, phase: &str) -> Vec<PodCondition> {
    let main = || facts.records.iter().filter(|record| !record.init);
    let names = |records: Vec<&Record>| {
        records.iter().map(|record| record.name.as_str()).collect::<Vec<_>>().join(" ")
    };
    let unready = names(main().filter(|record| !record.ready()).collect());
    let incomplete =
        names(facts.records.iter().filter(|record| record.init && !record.succeeded()).collect());
    let ready = match phase {
        "Succeeded" => Some(("PodCompleted", None)),
        "Failed" => Some(("PodFailed", None)),
        _ if unready.is_empty() => None,
        _ => Some(("ContainersNotReady", Some(format!("containers with unready status: [{unready}]")))),
    };
    let init = (!incomplete.is_empty() && phase != "Succeeded").then(|| {
        ("ContainersNotInitialized", Some(format!("containers with incomplete status: [{incomplete}]")))
    });
    let sandboxed = (!facts.mounted || matches!(phase, "Succeeded" | "Failed")).then_some(("", None));
    [
        ("PodReadyToStartContainers", sandboxed),
        ("Initialized", init),
        ("Ready", ready.clone()),
        ("ContainersReady", ready),
        ("PodScheduled", None),
    ]
    .into_iter()
    .map(|(kind, trouble)| condition(facts, kind, trouble))
    .collect()
}

fn condition(facts: &Facts<'_>, kind: &str, trouble: Option<(&str, Option<String>)>) -> PodCondition {
    let status = if trouble.is_none() { "True" } else { "False" };
    let before = facts.pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let same = before
        .filter(|old| old.type_ == kind && old.status == status)
        .find_map(|old| old.last_transition_time.clone());
    let (reason, message) = trouble.unzip();
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        last_transition_time: Some(same.unwrap_or_else(|| facts.now.clone())),
        reason: reason.filter(|reason| !reason.is_empty()).map(str::to_owned),
        message: message.flatten(),
        ..PodCondition::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::kubelet::record::{Exit, RestartPolicy};
    use k8s_openapi::api::core::v1::Container;
    use std::time::Duration;

    fn time(second: i64) -> Time {
        Time(jiff::Timestamp::from_second(1_800_000_000 + second).unwrap())
    }

    /// `w` waits, `r` runs, `+` is ready, `0` ended well for good, `1` ended badly for good,
    /// `b` is to be started again; upper case and `=`, `!`: the same for an init container.
    fn record(letter: char) -> Record {
        let init = letter.is_ascii_uppercase() || letter == '=' || letter == '!';
        let container = Container { name: letter.to_string(), ..Container::default() };
        let mut record = Record::new(&container, init, "ContainerCreating");
        if letter.eq_ignore_ascii_case(&'w') {
            return record;
        }
        record.begin(time(0), "id".to_owned());
        record.set_ready(letter == '+');
        let (code, policy) = match letter.to_ascii_lowercase() {
            'r' | '+' => return record,
            '0' | '=' => (0, RestartPolicy::Never),
            'b' => (1, RestartPolicy::Always),
            _ => (1, RestartPolicy::Never),
        };
        let (reason, finished) = ("Error".to_owned(), time(1));
        let exit = Exit { code, signal: None, reason, message: None, started: None, finished, id: None };
        record.end(exit, policy, Duration::from_secs(10));
        record
    }

    fn status(letters: &str, closing: bool, verdict: Option<&Verdict>) -> PodStatus {
        let records: Vec<_> = letters.chars().map(record).collect();
        let (start, now, pod) = (&time(0), &time(5), &Pod::default());
        let (ip, host_ip) = ("10.88.0.2", "127.0.0.1");
        build(&Facts { pod, records: &records, mounted: true, closing, verdict, start, ip, host_ip, now })
    }

    #[test]
    fn phases_follow_the_containers() {
        for (letters, closing, expected) in [
            ("w", false, "Pending"),
            ("r", false, "Running"),
            ("+w", false, "Pending"),
            ("+0", false, "Running"),
            ("00", false, "Succeeded"),
            ("01", false, "Failed"),
            ("b", false, "Running"),
            ("b1", false, "Running"),
            ("Rw", false, "Pending"),
            ("Bw", false, "Pending"),
            ("=w", false, "Pending"),
            ("=+", false, "Running"),
            ("=0", false, "Succeeded"),
            ("!w", false, "Failed"),
            ("w", true, "Failed"),
            ("b", true, "Failed"),
            ("r", true, "Running"),
            ("00", true, "Succeeded"),
        ] {
            assert_eq!(
                status(letters, closing, None).phase.as_deref(),
                Some(expected),
                "{letters} {closing}"
            );
        }
        let verdict = Verdict { reason: "DeadlineExceeded".to_owned(), message: "late".to_owned() };
        let late = status("00", true, Some(&verdict));
        assert_eq!(
            (late.phase.as_deref(), late.reason.as_deref()),
            (Some("Failed"), Some("DeadlineExceeded"))
        );
        assert_eq!(
            status("r", true, Some(&verdict)).phase.as_deref(),
            Some("Running"),
            "not before it has ended"
        );
    }

    #[test]
    fn conditions_say_who_is_missing() {
        let shown = |letters: &str| {
            let conditions = status(letters, false, None).conditions.unwrap();
            let text = |one: &PodCondition| {
                let message = one.message.as_deref().unwrap_or_default();
                format!("{}={} {message}", one.type_, one.status).trim_end().to_owned()
            };
            conditions.iter().skip(1).take(2).map(text).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(shown("+"), "Initialized=True; Ready=True");
        assert_eq!(shown("+rw"), "Initialized=True; Ready=False containers with unready status: [r w]");
        assert_eq!(
            shown("Rw"),
            "Initialized=False containers with incomplete status: [R]; Ready=False containers with unready status: [w]"
        );
        assert_eq!(shown("0"), "Initialized=True; Ready=False");
    }

    #[test]
    fn a_condition_that_stays_keeps_its_time() {
        let before = status("+", false, None);
        let pod = Pod { status: Some(before), ..Pod::default() };
        let records = [record('r')];
        let (start, now) = (&time(0), &time(9));
        let (ip, host_ip) = ("10.88.0.2", "127.0.0.1");
        let facts = Facts {
            pod: &pod,
            records: &records,
            mounted: true,
            closing: false,
            verdict: None,
            start,
            ip,
            host_ip,
            now,
        };
        let times: Vec<_> = build(&facts)
            .conditions
            .unwrap()
            .into_iter()
            .map(|one| (one.type_, one.last_transition_time))
            .collect();
        assert_eq!(times[1], ("Initialized".to_owned(), Some(time(5))));
        assert_eq!(times[2], ("Ready".to_owned(), Some(time(9))));
    }
}
