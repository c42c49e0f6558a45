//! A Pack syncs what its account may, and nothing of a revision that it may not have in full, or that the cluster's own rules
//! refuse a part of.

use fother::api::{Action, Condition, Pack, Rule};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::{ConfigMap, ResourceQuota, Secret};
use k8s_openapi::api::rbac::v1::Role;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::scenario::{Scenario, rule_spec};
use crate::support::git_server::{GitServer, Origin};
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
async fn follow(scenario: &Scenario, git: &GitServer, name: &str, rights: Value) -> Origin {
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
    origin
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

/// A Rule as a file of a pack.
fn rule_file(pack: &str, name: &str, hold_for: &str) -> String {
    let changes = json!({"ladder": [{"run": format!("{pack}-caulk")}], "mode": "Observe", "for": hold_for});
    json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Rule", "metadata": {"name": name}, "spec": rule_spec(changes)})
        .to_string()
}

/// Has the API server refuse Rules whose name ends with `-odd`, as a policy of a site does.
async fn refuse_odd_rules(scenario: &Scenario) -> String {
    let (client, here) = (scenario.stage.client.clone(), &scenario.stage.namespace);
    let name = format!("site-{here}");
    let rules = json!({"apiGroups": ["fother.dev"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": ["rules"]});
    let policy = json!({"metadata": {"name": name}, "spec": {
        "matchConstraints": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": here}}, "resourceRules": [rules],
        },
        "validations": [{
            "expression": "!object.metadata.name.endsWith('-odd')", "message": "ask the harbor master first", "reason": "Forbidden",
        }],
    }});
    let binding =
        json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}});
    let policies = Api::<ValidatingAdmissionPolicy>::all(client.clone());
    policies.create(&PostParams::default(), &serde_json::from_value(policy).unwrap()).await.unwrap();
    let bindings = Api::<ValidatingAdmissionPolicyBinding>::all(client);
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
    let odd = json!({"metadata": {"name": "an-odd"}, "spec": rule_spec(json!({}))});
    let odd: Rule = serde_json::from_value(odd).unwrap();
    let tries = PostParams { dry_run: true, ..PostParams::default() };
    eventually("the policy is in force", DEADLINE, || async {
        match scenario.stage.api::<Rule>().create(&tries, &odd).await {
            Err(error) if error.to_string().contains("harbor master") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    name
}

#[tokio::test]
async fn a_rule_that_a_policy_of_the_site_refuses_leaves_the_last_revision_in_force() {
    let Some(scenario) = Scenario::new("pack-policy").await else { return };
    let git = GitServer::start().await;
    let secret = json!({"metadata": {"name": "git"}, "stringData": {"ca.crt": git.ca_pem()}});
    scenario.stage.create::<Secret>(secret).await;
    let mut rights = without(("", ""));
    // The script that is replaced goes.
    let deletes = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["delete"]});
    rights.as_array_mut().unwrap().push(deletes);
    let origin = follow(&scenario, &git, "hull", rights).await;
    let ready = condition(&scenario, "hull", "Ready", "Synced").await;
    let first = ready.message.split_whitespace().find(|word| word.starts_with("main@")).unwrap().to_owned();
    let before = applied(&scenario, "hull").await;

    let policy = refuse_odd_rules(&scenario).await;
    let newer = origin
        .push(&[
            ("caulk.sh", "echo newer\n"),
            ("rule.yaml", &rule_file("hull", "hull", "2m")),
            ("odd.yaml", &rule_file("hull", "hull-odd", "2m")),
        ])
        .await;
    let ready = condition(&scenario, "hull", "Ready", "ApplyFailed").await;
    let said = format!(
        "failed to try Rule hull-odd, so nothing was written: rules.fother.dev \"hull-odd\" is forbidden: \
         ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied request: ask the harbor master first; serving \
         {first}, applied at 20"
    );
    assert!(ready.message.starts_with(&said), "{}", ready.message);
    let authorized = condition(&scenario, "hull", "Authorized", "Authorized").await;
    assert_eq!(authorized.status, "True");
    assert_eq!(applied(&scenario, "hull").await, before, "neither the script nor a Rule");
    let rule = scenario.stage.api::<Rule>().get("hull").await.unwrap();
    assert_eq!((rule.annotations()["fother.dev/revision"].as_str(), rule.spec.hold_for), (&*first, None));
    let action = scenario.stage.api::<Action>().get("hull-caulk").await.unwrap();
    assert_eq!(action.annotations()["fother.dev/revision"], first, "the old Rule runs the old Action");

    // Once the site lets it in, it comes in without another commit.
    Api::<ValidatingAdmissionPolicy>::all(scenario.stage.client.clone())
        .delete(&policy, &DeleteParams::default())
        .await
        .unwrap();
    let ready = condition(&scenario, "hull", "Ready", "Synced").await;
    assert!(ready.message.contains(&newer), "{}", ready.message);
    scenario.watching("hull-odd").await;
}

/// A dry run uses nothing of a quota, so that several Rules may each have room, and not all of them.
#[tokio::test]
async fn a_quota_that_is_used_up_midway_is_told_as_what_it_is() {
    const COUNT: &str = "count/rules.fother.dev";
    let Some(scenario) = Scenario::new("pack-quota").await else { return };
    let git = GitServer::start().await;
    let secret = json!({"metadata": {"name": "git"}, "stringData": {"ca.crt": git.ca_pem()}});
    scenario.stage.create::<Secret>(secret).await;
    let origin = follow(&scenario, &git, "hull", without(("", ""))).await;
    let ready = condition(&scenario, "hull", "Ready", "Synced").await;
    let first = ready.message.split_whitespace().find(|word| word.starts_with("main@")).unwrap().to_owned();

    let (quotas, hard) = (scenario.stage.api::<ResourceQuota>(), json!({COUNT: "2"}));
    scenario
        .stage
        .create::<ResourceQuota>(json!({"metadata": {"name": "few"}, "spec": {"hard": hard}}))
        .await;
    // Whoever counts learns of new kinds after half a minute; here it is counted by hand.
    let counted = Patch::Merge(json!({"status": {"hard": hard, "used": {COUNT: "1"}}}));
    quotas.patch_status("few", &PatchParams::default(), &counted).await.unwrap();
    let others = ["mast", "keel"].map(|name| (format!("{name}.yaml"), rule_file("hull", name, "1m")));
    let files: Vec<_> = others.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let newer = origin.push(&files).await;
    let stands = format!(
        "main@sha1:{newer} is in force in part; the last in force as a whole was {first}, applied at 20"
    );
    let said = eventually("it stopped midway", DEADLINE, || async {
        let ready = condition(&scenario, "hull", "Ready", "ApplyFailed").await;
        if ready.message.contains(&stands) { Ok(ready.message) } else { Err(ready.message) }
    })
    .await;
    assert!(
        said.contains("is forbidden: exceeded quota: few, requested: count/rules.fother.dev=1"),
        "{said}"
    );
    assert!(!said.contains("serving"), "{said}");
    assert_eq!(condition(&scenario, "hull", "Authorized", "Authorized").await.status, "True");
    assert_eq!(applied(&scenario, "hull").await.len(), 4, "one of the two");

    let more = Patch::Merge(json!({"spec": {"hard": {COUNT: "9"}}}));
    quotas.patch("few", &PatchParams::default(), &more).await.unwrap();
    let counted = Patch::Merge(json!({"status": {"hard": {COUNT: "9"}, "used": {COUNT: "2"}}}));
    quotas.patch_status("few", &PatchParams::default(), &counted).await.unwrap();
    let ready = condition(&scenario, "hull", "Ready", "Synced").await;
    assert!(ready.message.contains(&newer), "{}", ready.message);
    assert_eq!(applied(&scenario, "hull").await.len(), 5);
}
