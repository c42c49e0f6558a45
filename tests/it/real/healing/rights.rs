//! A rule sees and does what its account may, and the controller by itself next to nothing.

use fother::api::Execution;
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::controller::USER;
use super::scenario::{CAULK, MEND, Scenario};
use crate::support::access::Access;
use crate::support::wait::{DEADLINE, eventually};

/// Whether the user of `access` may do what `attributes` say.
async fn may(access: &Access, attributes: &Value) -> bool {
    let review: SelfSubjectAccessReview =
        serde_json::from_value(json!({"metadata": {}, "spec": {"resourceAttributes": attributes}})).unwrap();
    let api = Api::<SelfSubjectAccessReview>::all(access.client().await);
    api.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed
}

#[tokio::test]
async fn the_controller_by_itself_may_next_to_nothing() {
    let Some(scenario) = Scenario::new("own-rights").await else { return };
    let (here, access) = (scenario.stage.namespace.as_str(), scenario.controller_access());
    let foreign = scenario.stage.plane().namespace("not-enrolled").await;
    for (verb, group, resource, namespace, allowed) in [
        ("list", "fother.dev", "rules", "", true),
        ("create", "fother.dev", "executions", here, true),
        ("create", "fother.dev", "executions", &foreign, false),
        ("list", "apps", "controllerrevisions", here, true),
        ("list", "apps", "controllerrevisions", &foreign, false),
        ("update", "coordination.k8s.io", "leases", "kube-system", false),
        ("get", "", "serviceaccounts", here, true),
        // Only those that are enrolled, by their names.
        ("impersonate", "", "serviceaccounts", here, false),
        ("impersonate", "", "serviceaccounts", &foreign, false),
        ("impersonate", "", "serviceaccounts", "kube-system", false),
        ("impersonate", "", "serviceaccounts", "fother", false),
        ("impersonate", "", "serviceaccounts", "", false),
        ("impersonate", "", "users", "", false),
        ("impersonate", "", "groups", "", false),
        ("impersonate", "authentication.k8s.io", "uids", "", false),
        ("create", "batch", "jobs", here, false),
        ("list", "batch", "jobs", here, false),
        ("get", "", "secrets", here, false),
        ("list", "", "secrets", "", false),
        ("get", "", "configmaps", here, false),
        ("list", "", "pods", here, false),
        ("create", "", "pods", here, false),
        ("delete", "", "pods", here, false),
        ("patch", "apps", "deployments", here, false),
        ("list", "", "serviceaccounts", here, false),
        ("create", "", "serviceaccounts/token", here, false),
        ("patch", "", "serviceaccounts", here, false),
        ("create", "fother.dev", "rules", here, false),
        ("patch", "fother.dev", "rules", here, false),
        ("delete", "fother.dev", "actions", here, false),
        ("create", "fother.dev", "packs", here, false),
        ("update", "apps", "controllerrevisions", here, false),
        ("patch", "apps", "controllerrevisions", here, false),
        ("create", "rbac.authorization.k8s.io", "rolebindings", here, false),
        ("escalate", "rbac.authorization.k8s.io", "clusterroles", "", false),
        ("bind", "rbac.authorization.k8s.io", "clusterroles", "", false),
        ("*", "*", "*", "", false),
    ] {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let asked = json!({"verb": verb, "group": group, "resource": resource, "subresource": subresource, "namespace": namespace});
        assert_eq!(may(access, &asked).await, allowed, "{asked}");
    }
    for (name, allowed) in [("healer", true), ("default", false)] {
        let asked =
            json!({"verb": "impersonate", "resource": "serviceaccounts", "name": name, "namespace": here});
        assert_eq!(may(access, &asked).await, allowed, "{asked}");
    }
}

#[tokio::test]
async fn the_controller_does_everything_for_a_rule_as_its_account() {
    let Some(scenario) = Scenario::new("as-account").await else { return };
    let mark = scenario.audit().mark().await;
    scenario.let_caulk_end();
    let verify = json!({"when": "target.data.hull == 'tight'", "within": "10s", "stableFor": "1s"});
    scenario.rule("leak", json!({"ladder": [{"run": CAULK}, {"run": MEND, "verify": verify}]})).await;
    scenario.boat("ark", "leaking").await;
    scenario.ends("leak", "TargetRecovered").await;
    let healer = format!("system:serviceaccount:{}:healer", scenario.stage.namespace);
    let here = |namespace: &Option<String>| namespace.as_ref() == Some(&scenario.stage.namespace);
    let mut seen = 0;
    for request in scenario.audit().since(mark).await {
        if request.user != USER || !here(&request.namespace) {
            continue;
        }
        let own = request.resource.starts_with("fother.dev/")
            || ["events.k8s.io/events", "apps/controllerrevisions", "serviceaccounts"]
                .contains(&request.resource.as_str());
        assert_eq!(request.actor(), if own { USER } else { &healer }, "{request:?}");
        assert!(request.code < 300 || request.code == 404, "nothing is tried in vain: {request:?}");
        seen += usize::from(!own);
    }
    assert!(seen > 5, "{seen} requests as the account");
}

/// A rule whose account has the rights `rules` says in its condition what it lacks, and neither sees nor does anything.
async fn lacks(scenario: &Scenario, account: &str, rules: Value, said: &str) {
    scenario.account(account, &rules).await;
    scenario.rule(account, json!({"serviceAccountName": account})).await;
    let condition = scenario.condition(account, "Authorized", "False").await;
    let namespace = &scenario.stage.namespace;
    let expected = format!(
        "ServiceAccount {namespace}/{account} cannot {said} in namespace {namespace}; add a Role that allows it"
    );
    assert_eq!((condition.reason.as_str(), condition.message), ("MissingPermissions", expected));
    scenario.condition(account, "Ready", "False").await;
    assert_eq!(scenario.executions(account).await.len(), 0);
}

#[tokio::test]
async fn a_rule_whose_account_lacks_a_right_says_which_and_rests() {
    let Some(scenario) = Scenario::new("lacking").await else { return };
    scenario.boat("ark", "leaking").await;
    let jobs = json!({"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["*"]});
    let pods = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "deletecollection"]});
    let boats = |verbs: &[&str]| json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs});
    lacks(&scenario, "blind", json!([jobs, pods, boats(&["get"])]), "list/watch configmaps").await;
    let reads = json!({"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "delete"]});
    lacks(&scenario, "idle", json!([reads, pods, boats(&["get", "list", "watch"])]), "create/patch jobs")
        .await;
    scenario.controller_catches_up().await;
    let names: Vec<_> =
        scenario.audit().open_watches().await.into_iter().map(|w| w.actor().to_owned()).collect();
    assert!(!names.iter().any(|name| name.ends_with(":blind") || name.ends_with(":idle")), "{names:?}");

    // What is granted works without another change.
    let rules = json!([{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["*"]}, pods, boats(&["get", "list", "watch"])]);
    let patch = Patch::Merge(json!({"rules": rules}));
    let roles = scenario.stage.api::<k8s_openapi::api::rbac::v1::Role>();
    roles.patch("idle", &PatchParams::default(), &patch).await.unwrap();
    scenario.until_caulking(1).await;
    scenario.let_caulk_end();
}

#[tokio::test]
async fn a_right_that_an_operation_needs_is_named_before_it_is_needed() {
    let Some(scenario) = Scenario::new("lacking-patch").await else { return };
    scenario
        .account(
            "reader",
            &json!([{"apiGroups": ["", "batch"], "resources": ["configmaps", "jobs"], "verbs": ["get", "list", "watch"]}]),
        )
        .await;
    scenario.rule("mends", json!({"serviceAccountName": "reader", "ladder": [{"run": MEND}]})).await;
    let message = scenario.condition("mends", "Authorized", "False").await.message;
    assert!(message.contains("reader cannot patch configmaps in namespace"), "{message}");
}

#[tokio::test]
async fn an_account_that_is_not_allowed_any_more_does_nothing_more() {
    let Some(scenario) = Scenario::new("disallowed").await else { return };
    scenario.rule("leak", json!({})).await;
    scenario.watching("leak").await;
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"fother.dev/allow": null}}}));
    scenario.stage.api::<ServiceAccount>().patch("healer", &PatchParams::default(), &patch).await.unwrap();
    scenario.boat("ark", "leaking").await;
    let message = scenario.condition("leak", "Authorized", "False").await.message;
    assert!(message.contains(r#"does not carry the annotation fother.dev/allow: "true""#), "{message}");
    assert_eq!((scenario.executions("leak").await.len(), scenario.jobs().await.len()), (0, 0));
}

#[tokio::test]
async fn a_job_that_a_quota_refuses_leads_to_the_next_rung() {
    let Some(scenario) = Scenario::new("quota").await else { return };
    let quota = json!({"metadata": {"name": "no-jobs"}, "spec": {"hard": {"count/jobs.batch": "0"}}});
    scenario.stage.create::<k8s_openapi::api::core::v1::ResourceQuota>(quota).await;
    let quotas = scenario.stage.api::<k8s_openapi::api::core::v1::ResourceQuota>();
    eventually("the quota is in force", DEADLINE, || async {
        let status = quotas.get("no-jobs").await.map_err(|error| error.to_string())?.status;
        status.and_then(|status| status.hard).map(drop).ok_or("not yet".to_owned())
    })
    .await;
    let verify = json!({"when": "target.data.hull == 'tight'", "within": "10s", "stableFor": "1s"});
    scenario
        .rule("leak", json!({"ladder": [{"run": CAULK, "verify": verify}, {"run": MEND, "verify": verify}]}))
        .await;
    scenario.boat("ark", "leaking").await;
    let execution = scenario.ends("leak", "TargetRecovered").await;
    let rungs = execution.status.unwrap().rungs;
    assert!(rungs[0].message.contains("exceeded quota: no-jobs"), "{rungs:#?}");
    assert_eq!(scenario.jobs().await.len(), 0);
}

#[tokio::test]
async fn rules_of_one_account_and_kind_share_one_watch() {
    let Some(scenario) = Scenario::new("one-watch").await else { return };
    let mine = |request: &crate::support::audit::Request| {
        request.user == USER
            && request.namespace.as_ref() == Some(&scenario.stage.namespace)
            && request.impersonated.is_some()
    };
    let open = async || scenario.audit().open_watches().await.into_iter().filter(mine).count();
    for count in 0..100 {
        let when = format!("object.data.hull == 'leaking' && object.metadata.name == 'boat-{count}'");
        scenario.rule(&format!("rule-{count}"), json!({"when": when, "mode": "Observe"})).await;
    }
    for count in 0..100 {
        scenario.watching(&format!("rule-{count}")).await;
    }
    // It is interrupted for a list whenever a rule comes.
    until(&open, 1).await;
    scenario.boat("boat-57", "leaking").await;
    scenario.ends("rule-57", "Observed").await;

    let all = kube::api::ListParams::default();
    scenario
        .stage
        .api::<fother::api::Rule>()
        .delete_collection(&kube::api::DeleteParams::default(), &all)
        .await
        .unwrap();
    until(&open, 0).await;
}

/// Waits until there are so many open watches.
async fn until(open: &impl AsyncFn() -> usize, wanted: usize) {
    eventually(&format!("{wanted} watches"), DEADLINE, || async {
        let count = open().await;
        if count == wanted { Ok(()) } else { Err(format!("{count} watches")) }
    })
    .await;
}

#[tokio::test]
async fn in_a_namespace_that_is_not_enrolled_nothing_runs() {
    let Some(scenario) = Scenario::new("withdrawn").await else { return };
    let bindings = scenario.stage.api::<k8s_openapi::api::rbac::v1::RoleBinding>();
    bindings.delete("fother-impersonate", &DeleteParams::default()).await.unwrap();
    let remedy = format!(
        "; fother enroll {} --service-account healer --apply lets the controller act as it",
        scenario.stage.namespace
    );
    let by_hand =
        json!({"metadata": {"name": "hand"}, "spec": {"serviceAccountName": "healer", "run": CAULK}});
    scenario.stage.create::<Execution>(by_hand).await;
    // An enrolment may be applied anew in a moment; a minute later it is taken for meant.
    let ended = eventually("it ends", 2 * DEADLINE, || async {
        let found = scenario.stage.api::<Execution>().get("hand").await.map_err(|error| error.to_string())?;
        if found.is_finished() && found.metadata.finalizers.is_none() {
            Ok(found)
        } else {
            Err(format!("{found:#?}"))
        }
    })
    .await;
    assert_eq!(ended.reason(), Some("MissingPermissions"), "{ended:#?}");
    let said = ended.status.unwrap().conditions.into_iter().map(|condition| condition.message);
    assert!(said.clone().any(|message| message.ends_with(&remedy)), "{:?}", said.collect::<Vec<_>>());
    scenario.rule("leak", json!({})).await;
    let lacks = scenario.condition("leak", "Authorized", "False").await.message;
    assert!(lacks.contains("cannot impersonate") && lacks.ends_with(&remedy), "{lacks}");
    assert_eq!(scenario.jobs().await.len(), 0);
}
