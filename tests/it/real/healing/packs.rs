//! A Pack syncs what its account may, and nothing of a revision that it may not have in full.

use fother::api::{Action, Condition, Pack, Rule};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::rbac::v1::Role;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::scenario::{Scenario, rule_spec};
use crate::support::git_server::GitServer;
use crate::support::wait::{DEADLINE, eventually};

/// All that the account of a Pack needs, one right a line: its Rules name healer and run the pack's Actions, so that the
/// chart's policies ask for the last two.
const RIGHTS: [(&str, &str, &[&str]); 6] = [
    ("", "secrets", &["get"]),
    ("", "configmaps", &["list", "create", "patch"]),
    ("fother.dev", "actions", &["list", "create", "patch"]),
    ("fother.dev", "rules", &["list", "create", "patch"]),
    ("", "serviceaccounts", &["impersonate"]),
    ("fother.dev", "actions", &["run"]),
];

/// The rules of a role with all of them but one verb to one resource.
fn without((verb, resource): (&str, &str)) -> Value {
    let rules = RIGHTS.iter().map(|(group, plural, verbs)| {
        let left: Vec<_> = verbs.iter().filter(|left| (**left, *plural) != (verb, resource)).collect();
        json!({"apiGroups": [group], "resources": [plural], "verbs": left})
    });
    // A rule without verbs is refused.
    rules.filter(|rule| rule["verbs"] != json!([])).collect()
}

/// A repository and a Pack of the same name that follows it as an account of that name.
async fn follow(scenario: &Scenario, git: &GitServer, name: &str, rights: Value) {
    let file = |kind: &str, name: &str, spec: Value| {
        json!({"apiVersion": "fother.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
            .to_string()
    };
    let image = "debian@sha256:0000000000000000000000000000000000000000000000000000000000000000";
    let script = json!({"script": {"image": image, "file": "caulk.sh"}});
    let rule = rule_spec(json!({"ladder": [{"run": format!("{name}-caulk")}], "mode": "Observe"}));
    let origin = git.create(name).await;
    origin
        .push(&[
            ("action.yaml", &file("Action", &format!("{name}-caulk"), script)),
            ("rule.yaml", &file("Rule", name, rule)),
            ("caulk.sh", &format!("echo {name}\n")),
        ])
        .await;
    scenario.account(name, &rights).await;
    let spec = json!({"url": git.url(name), "interval": "1s", "serviceAccountName": name, "secretRef": {"name": "git"}});
    scenario.stage.create::<Pack>(json!({"metadata": {"name": name}, "spec": spec})).await;
}

async fn condition(scenario: &Scenario, pack: &str, of: &str, reason: &str) -> Condition {
    eventually(&format!("{of} of {pack} because {reason}"), DEADLINE, || async {
        let pack = scenario.stage.api::<Pack>().get(pack).await.map_err(|error| error.to_string())?;
        let seen = pack.status.unwrap_or_default().conditions;
        let found = seen.iter().find(|condition| condition.type_ == of && condition.reason == reason);
        found.cloned().ok_or(format!("{seen:#?}"))
    })
    .await
}

/// What a Pack has applied.
async fn applied(scenario: &Scenario, pack: &str) -> Vec<String> {
    async fn names<K>(api: Api<K>, pack: &str) -> Vec<String>
    where
        K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
    {
        let of_pack = ListParams::default().labels(&format!("fother.dev/pack={pack}"));
        let found = api.list(&of_pack).await.unwrap().items;
        found.iter().map(|object| format!("{}/{}", K::kind(&()), object.name_any())).collect()
    }
    let stage = &scenario.stage;
    let (scripts, actions) =
        (names(stage.api::<ConfigMap>(), pack).await, names(stage.api::<Action>(), pack).await);
    [scripts, actions, names(stage.api::<Rule>(), pack).await].concat()
}

#[tokio::test]
async fn a_pack_whose_account_lacks_a_right_changes_nothing_and_names_it() {
    let Some(scenario) = Scenario::new("pack-rights").await else { return };
    let (git, mark, here) =
        (GitServer::start().await, scenario.audit().mark().await, scenario.stage.namespace.as_str());
    let secret = json!({"metadata": {"name": "git"}, "stringData": {"ca.crt": git.ca_pem()}});
    scenario.stage.create::<Secret>(secret).await;
    let user = |name: &str| format!("system:serviceaccount:{here}:{name}");
    // What is asked for beforehand is told with its remedy; otherwise it is the API server that says what it refused.
    let cannot = |name: &str, what: &str| {
        format!("ServiceAccount {here}/{name} cannot {what} in namespace {here}; add a Role that allows it")
    };
    let cases = [
        (
            "keyless",
            ("get", "secrets"),
            format!(
                "User \"{}\" cannot get resource \"secrets\" in API group \"\" in the namespace \"{here}\"",
                user("keyless")
            ),
        ),
        ("blind", ("list", "rules"), cannot("blind", "list rules")),
        ("timid", ("create", "rules"), cannot("timid", "create rules")),
        ("stiff", ("patch", "configmaps"), cannot("stiff", "patch configmaps")),
        (
            "nobody",
            ("impersonate", "serviceaccounts"),
            format!(
                "{} may not name ServiceAccount healer: that needs the verb impersonate on it",
                user("nobody")
            ),
        ),
        (
            "idle",
            ("run", "actions"),
            format!("{} may not run Action idle-caulk: that needs the verb run on it", user("idle")),
        ),
    ];
    for (name, lacks, _) in &cases {
        follow(&scenario, &git, name, without(*lacks)).await;
    }
    for (name, _, said) in &cases {
        let ready = condition(&scenario, name, "Ready", "Forbidden").await;
        assert!(ready.message.contains(said), "{name}: {}", ready.message);
        let authorized = condition(&scenario, name, "Authorized", "MissingPermissions").await;
        assert_eq!((authorized.status.as_str(), &authorized.message), ("False", &ready.message), "{name}");
        assert_eq!(applied(&scenario, name).await, [""; 0], "{name}");
    }
    let fetched = |path: &str| path.contains("keyless") && path.contains("git-upload-pack");
    assert!(!git.seen().iter().any(|seen| fetched(&seen.path)), "without its Secret nothing is fetched");
    for request in scenario.audit().since(mark).await {
        let is_of_pack = cases.iter().any(|(name, ..)| request.actor() == user(name));
        assert!(!(is_of_pack && request.is_write()), "{request:?}");
    }

    // What is granted works without another change.
    for (name, ..) in &cases {
        let patch = Patch::Merge(json!({"rules": without(("", ""))}));
        scenario.stage.api::<Role>().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }
    for (name, ..) in &cases {
        condition(&scenario, name, "Ready", "Synced").await;
        condition(&scenario, name, "Authorized", "Authorized").await;
        assert_eq!(applied(&scenario, name).await.len(), 3, "{name}");
        scenario.watching(name).await;
    }
}
