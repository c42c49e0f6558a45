//! `fother enroll` and `fother check` on a cluster with the chart.

use serde_json::{Value, json};

use super::rendered::objects;
use super::stage::{Stage, admitted, fother, refused};
use crate::support::control_plane::ControlPlane;
use crate::support::helm::Helm;
use crate::support::kubectl::{Answer, Kubectl};
use crate::support::wait::{DEADLINE, eventually};

fn jobs() -> Value {
    json!({"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["list"]})
}

fn maps(verbs: &[&str]) -> Value {
    json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs})
}

fn rule() -> Value {
    let trigger = json!({"resource": {"apiVersion": "v1", "kind": "ConfigMap"}});
    json!({"serviceAccountName": "healer", "trigger": trigger, "when": "false", "ladder": [{"run": "mend"}]})
}

/// All of this is what a check says of a cluster.
async fn says(plane: &ControlPlane, code: i32, wanted: &[&str]) {
    let answer = fother(plane.admin(), &["check"]).await;
    assert_eq!(answer.code, code, "{answer:#?}");
    for wanted in wanted {
        assert!(answer.stdout.contains(wanted), "no {wanted:?} in {answer:#?}");
    }
}

/// Says of the replicas of the controller what nobody says where nothing runs Pods.
async fn replicas(kubectl: &Kubectl, (all, updated): (i32, i32)) {
    let status = json!({
        "observedGeneration": 1, "replicas": all, "updatedReplicas": updated, "readyReplicas": 2, "availableReplicas": 2,
    });
    let patch = json!({"status": status}).to_string();
    let arguments = ["-n", "fother", "patch", "deployment", "fother", "--subresource=status"];
    kubectl.run(&[&arguments[..], &["--type=merge", "-p", &patch]].concat()).await;
}

/// What a check says of the namespace of a stage.
async fn check(stage: &Stage) -> Answer {
    stage.fother(&["check", "-n", &stage.namespace]).await
}

#[tokio::test]
async fn enrolled_accounts_add_up() {
    let Some(stage) = Stage::new("enroll").await else { return };
    let here = stage.namespace.as_str();
    let enroll =
        async |account: &str| stage.fother(&["enroll", here, "--service-account", account, "--apply"]).await;
    refused(&enroll("healer").await, "there is no ServiceAccount");
    for account in ["healer", "packs", "other"] {
        stage.account(account).await;
    }
    admitted(&enroll("healer").await);
    admitted(&enroll("packs").await);
    let controller = stage.controller().await;
    for (account, allowed) in [("healer", "yes"), ("packs", "yes"), ("other", "no")] {
        let what = format!("serviceaccounts/{account}");
        let answer = controller.try_run(&["-n", here, "auth", "can-i", "impersonate", &what], "").await;
        assert_eq!(answer.stdout.trim(), allowed, "{account}");
    }
    let annotation =
        "jsonpath={.items[?(@.metadata.annotations.fother\\.dev/allow==\"true\")].metadata.name}";
    let allowed = stage.admin.run(&["-n", here, "get", "serviceaccounts", "-o", annotation]).await;
    assert_eq!(allowed, "healer packs");
    let elsewhere = ["enroll", here, "--service-account", "other", "--controller", "ops/fother", "--apply"];
    refused(&stage.fother(&elsewhere).await, "give --controller fother/fother");
    for namespace in ["kube-system", "kube-public", "kube-node-lease", "fother"] {
        let answer = stage.fother(&["enroll", namespace, "--service-account", "default", "--apply"]).await;
        refused(&answer, "refused");
        assert_eq!(answer.code, 1);
    }
}

/// What lets the controller act as `healer`, as the cluster has it: what the Role allows, who has it, and whether the account is allowed.
async fn enrolment(stage: &Stage) -> [Value; 3] {
    let part = async |what: &str, pointers: &[&str]| {
        let text = stage.admin.run(&["-n", &stage.namespace, "get", what, "-o", "json"]).await;
        let object: Value = serde_json::from_str(&text).unwrap();
        pointers.iter().map(|pointer| object.pointer(pointer).cloned().unwrap_or_default()).collect::<Value>()
    };
    [
        part("role/fother-impersonate", &["/rules"]).await,
        part("rolebinding/fother-impersonate", &["/roleRef", "/subjects"]).await,
        part("serviceaccount/healer", &["/metadata/annotations"]).await,
    ]
}

#[tokio::test]
async fn what_enroll_prints_is_what_it_applies() {
    let Some(stage) = Stage::new("enroll-print").await else { return };
    let here = stage.namespace.as_str();
    stage.account("healer").await;
    let printed = stage.fother(&["enroll", here, "--service-account", "healer"]).await;
    admitted(&printed);
    assert_eq!(objects(&printed.stdout).len(), 3);
    stage.admin.apply(&printed.stdout, &["--server-side"]).await;
    let by_hand = enrolment(&stage).await;
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "fother-impersonate"});
    let controller = json!([{"kind": "ServiceAccount", "name": "fother", "namespace": "fother"}]);
    assert_eq!(by_hand[0][0][0]["resourceNames"], json!(["healer"]));
    assert_eq!(by_hand[1], json!([role, controller]));
    assert_eq!(by_hand[2], json!([{"fother.dev/allow": "true"}]));

    stage
        .admin
        .run(&["-n", here, "delete", "role/fother-impersonate", "rolebinding/fother-impersonate"])
        .await;
    stage.admin.run(&["-n", here, "annotate", "serviceaccount", "healer", "fother.dev/allow-"]).await;
    admitted(&stage.fother(&["enroll", here, "--service-account", "healer", "--apply"]).await);
    assert_eq!(enrolment(&stage).await, by_hand);
    // A binding for the whole namespace is not narrowed behind anybody's back.
    stage.admin.run(&["-n", here, "delete", "rolebinding", "fother-impersonate"]).await;
    let whole = ["create", "rolebinding", "fother-impersonate", "--clusterrole=fother-impersonate"];
    stage.admin.run(&[&["-n", here][..], &whole, &["--serviceaccount=fother:fother"]].concat()).await;
    let answer = stage.fother(&["enroll", here, "--service-account", "healer", "--apply"]).await;
    refused(&answer, "enrolls all accounts of the namespace; delete it first");
}

#[tokio::test]
async fn what_enroll_prints_takes_nothing_from_those_that_were_enrolled_before() {
    let Some(stage) = Stage::new("enroll-more").await else { return };
    let here = stage.namespace.as_str();
    for account in ["healer", "packs"] {
        stage.account(account).await;
    }
    admitted(&stage.fother(&["enroll", here, "--service-account", "healer", "--apply"]).await);
    let printed = stage.fother(&["enroll", here, "--service-account", "packs"]).await;
    admitted(&printed);
    assert_eq!(printed.stderr, "");
    let all = objects(&printed.stdout);
    let kinds: Vec<_> = all.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["ServiceAccount", "Role", "RoleBinding"]);
    assert_eq!(all[1]["rules"][0]["resourceNames"], json!(["healer", "packs"]));
    assert_eq!(all[0]["metadata"]["name"], "packs", "an account that is not named is not allowed anew");
    stage.admin.apply(&printed.stdout, &["--server-side", "--force-conflicts"]).await;
    let before = enrolment(&stage).await;
    admitted(&stage.fother(&["enroll", here, "--service-account", "packs", "--apply"]).await);
    assert_eq!(enrolment(&stage).await, before);

    // Who may not look, or has no cluster at hand, is told what is not known.
    let nobody = stage.account("nobody").await;
    let blind = fother(&nobody, &["enroll", here, "--service-account", "packs"]).await;
    assert_eq!(blind.code, 0, "{blind:#?}");
    let said = format!("could not be asked who is enrolled in {here} already");
    assert!(
        blind.stderr.contains(&said) && blind.stderr.contains("takes it from all that it does not name"),
        "{blind:#?}"
    );
    assert!(blind.stderr.contains("could not be asked who its controller is"), "{blind:#?}");
    assert_eq!(objects(&blind.stdout)[1]["rules"][0]["resourceNames"], json!(["packs"]));
}

#[tokio::test]
async fn a_check_of_a_namespace_that_is_not_there_says_so() {
    let Some(stage) = Stage::new("check-nowhere").await else { return };
    let answer = stage.fother(&["check", "-n", "nowhere"]).await;
    let said = "✗ namespace nowhere does not exist\n    fix: kubectl create namespace nowhere, or give the name of another\n";
    assert!(answer.code == 1 && answer.stdout.contains(said), "{answer:#?}");
}

#[tokio::test]
async fn a_check_looks_at_the_accounts_of_webhooks() {
    let Some(stage) = Stage::new("check-webhooks").await else { return };
    let here = stage.namespace.as_str();
    let bearer = json!({"bearer": {"secretRef": {"name": "alerts", "key": "token"}}});
    let spec = json!({"serviceAccountName": "receiver", "alertmanager": {}, "authentication": bearer});
    admitted(&stage.create(&stage.admin, "Webhook", "alerts", spec).await);
    let says = async |wanted: &str| {
        let answer = check(&stage).await;
        assert!(answer.stdout.contains(wanted), "no {wanted:?} in {answer:#?}");
    };
    says(&format!("✗ ServiceAccount {here}/receiver does not exist")).await;
    let other =
        json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["other"], "verbs": ["get"]}]);
    stage.person("receiver", other).await;
    admitted(&stage.fother(&["enroll", here, "--service-account", "receiver", "--apply"]).await);
    says(&format!("✗ Webhook {here}/alerts: receiver cannot get Secret alerts in namespace {here}\n    fix: docs/how-to/receive-alerts.md")).await;
    let role = [
        "-n",
        here,
        "create",
        "role",
        "alerts",
        "--verb=get",
        "--resource=secrets",
        "--resource-name=alerts",
    ];
    stage.admin.run(&role).await;
    let account = format!("--serviceaccount={here}:receiver");
    stage.admin.run(&["-n", here, "create", "rolebinding", "alerts", "--role=alerts", &account]).await;
    eventually("the right is there", DEADLINE, || async {
        let answer = check(&stage).await.stdout;
        let good = format!("✓ Webhook {here}/alerts: its account may do what it needs");
        if answer.contains(&good) { Ok(()) } else { Err(answer) }
    })
    .await;
}

#[tokio::test]
async fn a_check_looks_at_the_accounts_of_packs() {
    let Some(stage) = Stage::new("check-packs").await else { return };
    let here = stage.namespace.as_str();
    let spec = json!({"url": "https://git.example/packs", "serviceAccountName": "packs", "secretRef": {"name": "git"}});
    admitted(&stage.create(&stage.admin, "Pack", "web", spec).await);
    let says = async |wanted: &str| {
        eventually(wanted, DEADLINE, || async {
            let answer = check(&stage).await.stdout;
            if answer.contains(wanted) { Ok(()) } else { Err(answer) }
        })
        .await;
    };
    says(&format!("✗ ServiceAccount {here}/packs does not exist")).await;
    let verbs = ["list", "create", "patch", "delete"];
    let ours =
        |resources: &[&str]| json!({"apiGroups": ["fother.dev"], "resources": resources, "verbs": verbs});
    stage.person("packs", json!([ours(&["rules"]), maps(&["list"])])).await;
    admitted(&stage.fother(&["enroll", here, "--service-account", "packs", "--apply"]).await);
    let fix = "    fix: docs/how-to/grant-rights.md lists what\n";
    let lacking = "list/create/patch/delete actions, create/patch/delete configmaps";
    says(&format!(
        "✗ Pack {here}/web: ServiceAccount {here}/packs cannot {lacking} in namespace {here}; add a Role that allows it\n{fix}"
    ))
    .await;
    says(&format!("✗ Pack {here}/web: packs cannot get Secret git in namespace {here}\n{fix}")).await;

    let secret =
        json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["git"], "verbs": ["get"]});
    let role = async |resources: &[&str]| {
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "packs", "namespace": here},
            "rules": [ours(resources), maps(&verbs), secret],
        });
        stage.admin.apply(&role.to_string(), &[]).await;
    };
    role(&["rules", "actions"]).await;
    let good = format!("✓ Pack {here}/web: its account may do what it needs\n");
    says(&good).await;
    // Only a Pack that has Webhooks needs rights to them.
    let inventory = json!({"status": {"inventory": [{"kind": "Webhook", "name": "alerts"}]}});
    admitted(&stage.controller_says("packs", "web", inventory).await);
    says(&format!("{here}/packs cannot list/create/patch/delete webhooks in namespace {here}")).await;
    role(&["rules", "actions", "webhooks"]).await;
    says(&good).await;
}

#[tokio::test]
async fn a_check_names_an_account_that_is_enrolled_before_anything_uses_it() {
    let Some(stage) = Stage::new("check-unused").await else { return };
    let here = stage.namespace.as_str();
    for account in ["healer", "other"] {
        stage.account(account).await;
    }
    admitted(&stage.fother(&["enroll", here, "--service-account", "healer", "--apply"]).await);
    let said = format!("✓ ServiceAccount {here}/healer is enrolled and allowed");
    let unused = format!("{said}; no Rule, Pack or Webhook names it yet\n");
    eventually(&unused, DEADLINE, || async {
        let answer = check(&stage).await.stdout;
        if answer.contains(&unused) { Ok(()) } else { Err(answer) }
    })
    .await;
    admitted(&stage.create(&stage.admin, "Rule", "leak", rule()).await);
    let answer = check(&stage).await.stdout;
    assert!(answer.contains(&format!("{said}\n")) && !answer.contains(&unused), "{answer}");
    assert!(!answer.contains(&format!("{here}/other")), "{answer}");
}

#[tokio::test]
async fn a_check_tells_a_name_that_no_account_can_have() {
    let Some(stage) = Stage::new("check-name").await else { return };
    let here = stage.namespace.as_str();
    let mut spec = rule();
    spec["serviceAccountName"] = json!("Healer");
    admitted(&stage.create(&stage.admin, "Rule", "leak", spec).await);
    let answer = check(&stage).await;
    let said = format!("✗ Rule {here}/leak: \"Healer\" cannot be a ServiceAccount: ");
    assert!(answer.code == 1 && answer.stdout.contains(&said), "{answer:#?}");
    assert!(!answer.stdout.contains("fother enroll"), "{answer:#?}");
}

/// Nothing runs here that would say of a Rule why it is not Ready: it is said for it.
#[tokio::test]
async fn a_check_repeats_why_a_rule_is_not_ready() {
    let Some(stage) = Stage::new("check-ready").await else { return };
    let here = stage.namespace.as_str();
    admitted(&stage.create(&stage.admin, "Rule", "leak", rule()).await);
    let told = async |reason: &str, message: &str| {
        let ready = json!({
            "type": "Ready", "status": "False", "reason": reason, "message": message,
            "observedGeneration": 1, "lastTransitionTime": "2026-06-01T03:02:11Z",
        });
        admitted(&stage.controller_says("rules", "leak", json!({"status": {"conditions": [ready]}})).await);
        let answer = check(&stage).await;
        assert_eq!(answer.code, 1, "{answer:#?}");
        answer.stdout
    };
    let said = format!("Rule {here}/leak is not Ready");
    let mistake = told("InvalidExpression", "unknown variable \"objet\"").await;
    let finding = format!(
        "✗ {said}: InvalidExpression: unknown variable \"objet\"\n    fix: docs/reference/rule.md says what to do\n"
    );
    assert!(mistake.contains(&finding), "{mistake}");
    // The check itself says that the account, and the Action, do not exist.
    for reason in ["MissingPermissions", "ActionNotFound"] {
        let answer = told(reason, "it does not exist").await;
        assert!(!answer.contains(&said), "{answer}");
    }
}

/// A Role stays as it was when it was applied, whatever a later version of the controller needs.
#[tokio::test]
async fn a_check_finds_an_enrolment_of_an_earlier_version() {
    let Some(stage) = Stage::new("check-earlier").await else { return };
    let here = stage.namespace.as_str();
    stage.account("healer").await;
    stage.account("packs").await;
    let accounts = ["--service-account", "healer", "--service-account", "packs"];
    admitted(&stage.fother(&[&["enroll", here][..], &accounts, &["--apply"]].concat()).await);
    admitted(&stage.create(&stage.admin, "Rule", "leak", rule()).await);
    let complains = async |whether: bool| {
        let said = format!(
            "✗ the enrolment of {here} is not of this version: the controller may not create eventbatches there\n    \
             fix: fother enroll {here} --service-account healer --apply\n"
        );
        eventually(&format!("it complains: {whether}"), DEADLINE, || async {
            let answer = check(&stage).await.stdout;
            let quiet = !answer.contains("the enrolment of");
            let is_right = if whether { answer.contains(&said) } else { quiet };
            if is_right { Ok(()) } else { Err(answer) }
        })
        .await;
    };
    complains(false).await;
    let earlier = r#"[{"op":"replace","path":"/rules/1/resources","value":["executions"]}]"#;
    stage.admin.run(&["-n", here, "patch", "role", "fother-impersonate", "--type=json", "-p", earlier]).await;
    complains(true).await;
    admitted(&stage.fother(&["enroll", here, "--service-account", "healer", "--apply"]).await);
    complains(false).await;
}

#[tokio::test]
async fn a_check_leads_from_nothing_to_a_rule_that_works() {
    let Some(stage) = Stage::new("check").await else { return };
    let here = stage.namespace.clone();
    let says = async |wanted: &str| {
        let answer = check(&stage).await;
        assert!(answer.stdout.contains(wanted), "no {wanted:?} in {answer:#?}");
        answer
    };
    let spec = json!({"kubernetes": {"patch": {"merge": {"data": {"a": "b"}}}}});
    admitted(&stage.create(&stage.admin, "Rule", "leak", rule()).await);
    let fix = format!(
        "kubectl -n {here} create serviceaccount healer && fother enroll {here} --service-account healer --apply"
    );
    says(&format!("✗ ServiceAccount {here}/healer does not exist\n    fix: {fix}\n")).await;
    says("✓ admission policies\n").await;
    stage.person("healer", json!([jobs(), maps(&["get", "list"])])).await;
    says(&format!("✗ ServiceAccount {here}/healer does not carry the annotation fother.dev/allow: \"true\""))
        .await;
    stage.admin.run(&["-n", &here, "annotate", "serviceaccount", "healer", "fother.dev/allow=true"]).await;
    says(&format!("✗ ServiceAccount {here}/healer is not enrolled\n    fix: fother enroll {here} --service-account healer --apply")).await;
    admitted(&stage.fother(&["enroll", &here, "--service-account", "healer", "--apply"]).await);
    says(&format!("✓ ServiceAccount {here}/healer is enrolled and allowed")).await;
    says(&format!("✗ Rule {here}/leak runs Action \"mend\", which does not exist")).await;
    admitted(&stage.create(&stage.admin, "Action", "mend", spec).await);
    let lacking = says(&format!("healer cannot patch/watch configmaps in namespace {here}")).await;
    assert_eq!(lacking.code, 1);
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "healer", "namespace": here},
        "rules": [jobs(), maps(&["get", "list", "watch", "patch"])],
    });
    stage.admin.apply(&role.to_string(), &[]).await;
    says(&format!("✓ Rule {here}/leak: its account may do what it needs")).await;
}

#[tokio::test]
async fn a_check_of_the_installation_names_what_is_missing() {
    // Nothing runs Pods here: what a kubelet and its controllers would say is said for them.
    let Some(plane) = ControlPlane::private_without(&["deployment-controller"]).await else { return };
    let Some(helm) = Helm::new(plane.admin()) else { return };
    let kubectl = plane.kubectl();
    let says = async |code: i32, wanted: &[&str]| says(&plane, code, wanted).await;
    says(1, &["✓ kubernetes v1.", "✗ kind rules.fother.dev is not installed", "fix: helm upgrade --install"])
        .await;
    helm.install(&["--set", "admissionPolicies.enabled=false"]).await;
    kubectl.run(&["wait", "crd", "--all", "--for=condition=Established"]).await;
    let complete = "✓ the controller, ServiceAccount fother/fother, has its rights";
    says(1, &["✓ kind rules.fother.dev", complete, "✗ Deployment fother/fother: 0 of 2 replicas ready"])
        .await;
    let policies = std::fs::read_to_string("charts/fother/templates/policies.yaml").unwrap();
    let named =
        policies.lines().filter_map(|line| line.strip_prefix("  name: ")).filter(|name| !name.contains('{'));
    let missing = named.collect::<Vec<_>>().join(", ");
    says(1, &[&format!("! admission policies are missing, or refuse nothing: {missing}\n")]).await;

    // An upgrade that failed: a new Pod that does not come up, beside those of before.
    replicas(&kubectl, (3, 1)).await;
    let unfinished = "! Deployment fother/fother: 2 of 2 replicas ready, but not all are of its newest version\n    \
                      fix: kubectl -n fother rollout status deployment/fother\n";
    says(0, &[unfinished, "\n0 errors, 2 warnings\n"]).await;
    replicas(&kubectl, (2, 2)).await;
    says(0, &["✓ Deployment fother/fother: 2 of 2 replicas ready", "\n0 errors, 1 warning\n"]).await;

    for (break_it, said) in [
        ("delete clusterrole fother-controller", "may not get packs"),
        (
            "create clusterrolebinding x --clusterrole=fother-impersonate --serviceaccount=fother:fother",
            "of the whole cluster",
        ),
        ("delete clusterrolebinding fother-controller", "no account has the ClusterRole fother-controller"),
    ] {
        kubectl.run(&break_it.split(' ').collect::<Vec<_>>()).await;
        eventually(said, DEADLINE, || async {
            let answer = fother(plane.admin(), &["check"]).await;
            if answer.code == 1 && answer.stdout.contains(said) { Ok(()) } else { Err(answer.stdout) }
        })
        .await;
    }
    let old = r#"[{"op":"remove","path":"/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/unless"}]"#;
    kubectl.run(&["patch", "crd", "rules.fother.dev", "--type=json", "-p", old]).await;
    says(1, &["✗ kind rules.fother.dev is of another version than this fother"]).await;
}

/// Kinds that were applied by hand, and a release of another name in another namespace.
#[tokio::test]
async fn a_check_has_remedies_for_the_installation_that_is_there() {
    let Some(plane) = ControlPlane::private_without(&["deployment-controller"]).await else { return };
    let Some(helm) = Helm::new(plane.admin()) else { return };
    let kubectl = plane.kubectl();
    kubectl.run(&["apply", "--server-side", "-f", "crds"]).await;
    kubectl.run(&["wait", "crd", "--all", "--for=condition=Established"]).await;
    let install = "helm upgrade --install fother charts/fother -n fother --create-namespace";
    let nobody = "✗ no account has the ClusterRole fother-controller";
    says(&plane, 1, &[&format!("{nobody}\n    fix: {install} --set crds.install=false\n")]).await;
    let answer = helm.try_run(&install.split(' ').skip(1).collect::<Vec<_>>()).await;
    refused(&answer, "invalid ownership metadata");

    let values = "crds.install=false,admissionPolicies.enabled=false,controller.maxTotal=7";
    let guard = ["install", "guard", "charts/fother", "-n", "ops", "--create-namespace", "--set", values];
    helm.run(&guard).await;
    let mend = "helm upgrade --install guard charts/fother -n ops --create-namespace --reset-then-reuse-values --set crds.install=false";
    let policies = format!("{mend},admissionPolicies.enabled=true");
    says(&plane, 1, &[&format!("fix: {policies}\n")]).await;
    // It is what mends it, and it resets nothing.
    helm.run(&policies.split(' ').skip(1).collect::<Vec<_>>()).await;
    says(&plane, 1, &["✓ admission policies\n"]).await;
    let arguments = "jsonpath={.spec.template.spec.containers[0].args}";
    let arguments = kubectl.run(&["-n", "ops", "get", "deployment", "fother", "-o", arguments]).await;
    assert!(arguments.contains("--max-total=7"), "{arguments}");

    // A binding whose policy is gone, and one of a controller that is not this one.
    kubectl.run(&["delete", "validatingadmissionpolicy", "fother-rules"]).await;
    let user = "request.userInfo.username == 'system:serviceaccount:fother:fother'";
    let other =
        json!([{"op": "replace", "path": "/spec/validations/0/expression", "value": user}]).to_string();
    let batches = ["validatingadmissionpolicy", "fother-eventbatches", "--type=json", "-p", &other];
    kubectl.run(&[&["patch"][..], &batches].concat()).await;
    let gone = "! admission policies are missing, or refuse nothing: fother-rules\n";
    let foreign =
        "✗ admission policies do not name the controller, ServiceAccount ops/fother: fother-eventbatches\n";
    says(&plane, 1, &[gone, &format!("{foreign}    fix: {mend}\n")]).await;
    enrolls_for(&plane, "ops/fother").await;
}

/// What enroll prints is for the controller that the cluster has, unless another one is given; then it says so.
async fn enrolls_for(plane: &ControlPlane, controller: &str) {
    let enroll = ["enroll", "payments", "--service-account", "healer"];
    let bound = |answer: &Answer| {
        let subject = objects(&answer.stdout)[2]["subjects"][0].clone();
        format!("{}/{}", subject["namespace"].as_str().unwrap(), subject["name"].as_str().unwrap())
    };
    let answer = fother(plane.admin(), &enroll).await;
    admitted(&answer);
    assert_eq!((bound(&answer).as_str(), answer.stderr.as_str()), (controller, ""));
    let answer = fother(plane.admin(), &[&enroll[..], &["--controller", "other/fother"]].concat()).await;
    admitted(&answer);
    assert_eq!(bound(&answer), "other/fother");
    assert!(
        answer.stderr.contains(&format!("the controller of this cluster is {controller}")),
        "{answer:#?}"
    );
    let (home, _) = controller.split_once('/').unwrap();
    let answer = fother(plane.admin(), &["enroll", home, "--service-account", "healer"]).await;
    assert_eq!(answer.code, 1, "{answer:#?}");
    refused(&answer, "the controller itself runs in");
}

#[tokio::test]
async fn a_check_that_cannot_look_says_so() {
    let Some(stage) = Stage::new("check-blind").await else { return };
    let nobody = stage.account("nobody").await;
    let answer = fother(&nobody, &["check"]).await;
    assert_eq!(answer.code, 2, "{answer:#?}");
    assert!(answer.stderr.contains("forbidden"), "{answer:#?}");
}
