//! Which rights a Rule's account will need, from the first look to the last rung: known before anything is watched, so
//! that a right that is missing is said now, and not in the middle of an incident.

use std::collections::BTreeSet;

use crate::api::{ActionSpec, KubernetesRunner, ResourceTrigger, RuleSpec, Runner, Target};

/// A right that is needed.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Right {
    /// What is to be done.
    pub verb: &'static str,
    /// To which kinds: the right to any one of them is enough where the target's kind is not known in advance.
    pub any_of: Vec<Kind>,
}

/// A kind of object, as its users name it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Kind {
    /// Group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
}

impl Right {
    /// The right to do something to one kind.
    pub fn to(verb: &'static str, (api_version, kind): (&str, &str)) -> Self {
        Self { verb, any_of: vec![Kind::of(api_version, kind)] }
    }
}

impl Kind {
    fn of(api_version: &str, kind: &str) -> Self {
        Self { api_version: api_version.to_owned(), kind: kind.to_owned() }
    }
}

const CORE: &str = "v1";
const JOB: (&str, &str) = ("batch/v1", "Job");
/// What controls Pods, and what a restart works on.
const WORKLOADS: [(&str, &str); 3] =
    [("apps/v1", "Deployment"), ("apps/v1", "StatefulSet"), ("apps/v1", "DaemonSet")];
/// The owners that a Pod's own reference names.
const OWNERS: [(&str, &str); 4] =
    [("apps/v1", "ReplicaSet"), ("apps/v1", "StatefulSet"), ("apps/v1", "DaemonSet"), JOB];

/// All that a Rule needs with these Actions.
pub fn needed<'a>(rule: &RuleSpec, actions: impl IntoIterator<Item = &'a ActionSpec>) -> BTreeSet<Right> {
    let mut needed = Needed::default();
    if let Some(ResourceTrigger { api_version, kind, .. }) = &rule.trigger.resource {
        needed.all(&["list", "watch"], (api_version, kind));
    } else if rule.trigger.event.is_some() {
        needed.all(&["list", "watch"], ("events.k8s.io/v1", "Event"));
    }
    // An Execution that ends looks for Jobs of its own, whatever it ran.
    needed.all(&["list"], JOB);
    let targets = targets(rule);
    if target(rule) == Some(Target::Workload) {
        // That of a Pod alone leads to none of its owners.
        let workloads: Vec<_> =
            targets.iter().filter(|kind| **kind != Kind::of(CORE, "Pod")).cloned().collect();
        needed.any("get", &workloads);
        needed.any("get", &kinds(&OWNERS));
    } else if !targets.is_empty() {
        needed.any("get", &targets);
    }
    if rule.ladder.iter().filter_map(|rung| rung.verify.as_ref()).any(|verify| verify.when.is_none())
        && !matches!(rule.target, Some(Target::Key(_)))
    {
        needed.all(&["list"], (CORE, "Pod"));
    }
    for action in actions {
        needed.action(action, &targets);
    }
    needed.0
}

/// How the Rule leads to its target; none if that depends on the event.
fn target(rule: &RuleSpec) -> Option<Target> {
    let default = || match rule.trigger.resource.as_ref()?.kind.as_str() {
        "Pod" => Some(Target::Workload),
        _ => Some(Target::Object),
    };
    rule.target.clone().or_else(default)
}

/// The kinds that the target may be of; empty if anything.
fn targets(rule: &RuleSpec) -> Vec<Kind> {
    match (target(rule), &rule.trigger.resource) {
        (Some(Target::Owner(owner)), _) => vec![Kind::of(&owner.api_version, &owner.kind)],
        (Some(Target::Ref(object)), _) => vec![Kind::of(&object.api_version, &object.kind)],
        (Some(Target::Object), Some(resource)) => vec![Kind::of(&resource.api_version, &resource.kind)],
        (Some(Target::Workload), Some(resource)) if resource.kind == "Pod" => {
            let mut found = kinds(&WORKLOADS);
            found.extend(kinds(&[JOB, (CORE, "Pod")]));
            found
        }
        _ => Vec::new(),
    }
}

fn kinds(kinds: &[(&str, &str)]) -> Vec<Kind> {
    kinds.iter().map(|(api_version, kind)| Kind::of(api_version, kind)).collect()
}

#[derive(Default)]
struct Needed(BTreeSet<Right>);

impl Needed {
    fn all(&mut self, verbs: &[&'static str], (api_version, kind): (&str, &str)) {
        for verb in verbs {
            self.any(verb, &[Kind::of(api_version, kind)]);
        }
    }

    fn any(&mut self, verb: &'static str, kinds: &[Kind]) {
        self.0.insert(Right { verb, any_of: kinds.to_vec() });
    }

    fn action(&mut self, action: &ActionSpec, targets: &[Kind]) {
        match action.runner() {
            Some(Runner::Script(_) | Runner::Container(_)) => {
                self.all(&["create", "get", "list", "patch", "delete"], JOB);
                self.all(&["list", "deletecollection"], (CORE, "Pod"));
            }
            Some(Runner::Collect(_)) => {
                self.all(&["create", "get"], (CORE, "ConfigMap"));
                self.all(&["list"], (CORE, "Pod"));
            }
            Some(Runner::Kubernetes(runner)) if !targets.is_empty() => {
                let workloads = kinds(&WORKLOADS);
                // Who may restart none of what can be restarted is not helped by a right to the rest.
                let is_meant = |kind: &&Kind| runner.restart.is_none() || workloads.contains(kind);
                let meant: Vec<_> = targets.iter().filter(is_meant).cloned().collect();
                for verb in verbs(runner) {
                    self.any(verb, if meant.is_empty() { targets } else { &meant });
                }
            }
            Some(Runner::Kubernetes(_)) | None => {}
        }
    }
}

fn verbs(runner: &KubernetesRunner) -> &'static [&'static str] {
    if runner.recreate.is_some() {
        &["create", "delete"]
    } else if runner.delete.is_some() {
        &["delete"]
    } else {
        &["patch"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn lines(rule: Value, action: Value) -> Vec<String> {
        let mut spec = json!({"serviceAccountName": "h", "when": "true", "ladder": [{"run": "x"}]});
        json_patch::merge(&mut spec, &rule);
        let rule: RuleSpec = serde_json::from_value(spec).expect("a Rule");
        let action: ActionSpec = serde_json::from_value(action).expect("an Action");
        let line = |right: Right| {
            let kinds: Vec<_> = right.any_of.into_iter().map(|kind| kind.kind).collect();
            format!("{} {}", right.verb, kinds.join("|"))
        };
        let mut lines: Vec<_> = needed(&rule, [&action]).into_iter().map(line).collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_script_needs_jobs_and_their_pods() {
        let rule = json!({"trigger": {"resource": {"apiVersion": "v1", "kind": "Node"}}});
        let script = json!({"script": {"image": "i", "inline": "true"}});
        let expected = "create Job, delete Job, deletecollection Pod, get Job, get Node, list Job, list Node, list Pod, \
                        patch Job, watch Node";
        assert_eq!(lines(rule, script).join(", "), expected);
    }

    #[test]
    fn an_operation_needs_its_verb_on_the_target() {
        let owner = json!({"target": {"owner": {"apiVersion": "apps/v1", "kind": "StatefulSet"}},
            "trigger": {"resource": {"apiVersion": "v1", "kind": "Pod"}}});
        let restart = json!({"kubernetes": {"restart": {}}});
        assert!(lines(owner.clone(), restart.clone()).contains(&"patch StatefulSet".to_owned()));
        let recreate = lines(owner, json!({"kubernetes": {"recreate": {}}}));
        assert!(
            recreate.contains(&"create StatefulSet".to_owned())
                && recreate.contains(&"delete StatefulSet".to_owned())
        );
        let pods =
            lines(json!({"trigger": {"resource": {"apiVersion": "v1", "kind": "Pod"}}}), restart.clone());
        for expected in ["get Deployment|StatefulSet|DaemonSet|Job", "patch Deployment|StatefulSet|DaemonSet"]
        {
            assert!(pods.contains(&expected.to_owned()), "{pods:?}");
        }
        let label = json!({"kubernetes": {"label": {"values": {"a": "b"}}}});
        let pods = lines(json!({"trigger": {"resource": {"apiVersion": "v1", "kind": "Pod"}}}), label);
        assert!(pods.contains(&"patch Deployment|StatefulSet|DaemonSet|Job|Pod".to_owned()), "{pods:?}");
        let event = lines(json!({"trigger": {"event": {}}}), restart);
        assert_eq!(event, ["list Event", "list Job", "watch Event"], "an event may regard anything");
    }

    #[test]
    fn a_verification_without_an_expression_looks_at_pods() {
        let rule = json!({"trigger": {"resource": {"apiVersion": "apps/v1", "kind": "Deployment"}},
            "ladder": [{"run": "x", "verify": {}}]});
        let lines = lines(rule, json!({"kubernetes": {"restart": {}}}));
        assert_eq!(
            lines,
            [
                "get Deployment",
                "list Deployment",
                "list Job",
                "list Pod",
                "patch Deployment",
                "watch Deployment"
            ]
        );
    }
}
