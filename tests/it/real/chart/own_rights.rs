//! All that the controller may do by itself: every verb of everything that the API server serves is asked for, and what is
//! allowed is what the tables here say, no more and no less.
//!
//! What such reviews have no words for is read from the rules that the API server applies, and compared with the tables as
//! well: rights for single names (a review that names nobody says no), and verbs that nobody has thought of.

use std::collections::BTreeSet;

use futures::{StreamExt as _, stream};
use kube::Client;
use serde_json::{Value, json};

use super::stage::{CONTROLLER, Stage};
use super::token::HOME_RIGHTS;

/// A group, resources and subresources of it, what may be done to them, and to which alone if not to all.
type Grant = (&'static str, &'static [&'static str], &'static [&'static str], &'static [&'static str]);

/// In the whole cluster: it reads fother's kinds and writes their statuses, finalizes and deletes what it makes, tells of
/// it, and looks whether an account is allowed.
const EVERYWHERE: [Grant; 8] = [
    ("fother.dev", &KINDS, &["get", "list", "watch"], &[]),
    ("fother.dev", &STATUSES, &["patch"], &[]),
    ("fother.dev", &["executions"], &["patch", "delete"], &[]),
    ("fother.dev", &["eventbatches"], &["delete"], &[]),
    ("events.k8s.io", &["events"], &["create", "patch"], &[]),
    ("", &["serviceaccounts"], &["get"], &[]),
    // Kubernetes lets everybody ask about himself.
    ("authorization.k8s.io", &["selfsubjectaccessreviews", "selfsubjectrulesreviews"], &["create"], &[]),
    ("authentication.k8s.io", &["selfsubjectreviews"], &["create"], &[]),
];
const KINDS: [&str; 6] = ["packs", "rules", "actions", "executions", "webhooks", "eventbatches"];
const STATUSES: [&str; 6] = [
    "packs/status",
    "rules/status",
    "actions/status",
    "executions/status",
    "webhooks/status",
    "eventbatches/status",
];

/// In fother's own namespace: one Lease. A new one has no name yet that could be required.
const HOME: [Grant; 2] = [
    ("coordination.k8s.io", &["leases"], &["get", "update"], &["fother"]),
    ("coordination.k8s.io", &["leases"], &["create"], &[]),
];

/// Where an account is enrolled: that account, and what the controller keeps beside it.
const ACCOUNT: [Grant; 3] = [("", &["serviceaccounts"], &["impersonate"], &["healer"]), KEPT[0], KEPT[1]];
/// Where a namespace is enrolled as a whole.
const ALL_ACCOUNTS: [Grant; 3] = [("", &["serviceaccounts"], &["impersonate"], &[]), KEPT[0], KEPT[1]];
const KEPT: [Grant; 2] = [
    ("fother.dev", &["executions", "eventbatches"], &["create"], &[]),
    ("apps", &["controllerrevisions"], &["get", "list", "create", "delete"], &[]),
];

/// What Kubernetes lets everybody read that is no resource: these paths, and what is below the folders.
const PATHS: [&str; 12] = [
    "/.well-known/openid-configuration",
    "/.well-known/openid-configuration/",
    "/api",
    "/apis",
    "/healthz",
    "/livez",
    "/openapi",
    "/openid/v1/jwks",
    "/openid/v1/jwks/",
    "/readyz",
    "/version",
    "/version/",
];
const FOLDERS: [&str; 3] = ["/api/", "/apis/", "/openapi/"];

/// `*` is a verb too: it is allowed to whoever may do anything.
const VERBS: [&str; 14] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "impersonate",
    "bind",
    "escalate",
    "approve",
    "use",
    "*",
];

/// What may be asked for and is not served.
const UNSERVED: [(&str, &str); 7] = [
    ("", "users"),
    ("", "groups"),
    ("authentication.k8s.io", "uids"),
    ("authentication.k8s.io", "userextras/scopes"),
    ("certificates.k8s.io", "signers"),
    ("example.com", "krakens"),
    ("*", "*"),
];

/// The accounts that are asked for by name, of which one is enrolled.
const ACCOUNTS: [&str; 3] = ["healer", "root", "default"];

/// A part of the cluster: its name for people, its namespace or none, and what is granted there besides.
struct Place<'a>(&'static str, &'a str, &'static [Grant]);

impl Place<'_> {
    fn grants(&self) -> impl Iterator<Item = &'static Grant> {
        EVERYWHERE.iter().chain(self.2)
    }

    fn is_granted(&self, verb: &str, (group, resource): (&str, &str), name: &str) -> bool {
        self.grants().any(|(of, resources, verbs, names)| {
            *of == group
                && resources.contains(&resource)
                && verbs.contains(&verb)
                && (names.is_empty() || names.contains(&name))
        })
    }

    /// Every verb of everything that can be here. Of what is in namespaces, only what is allowed in one that is not enrolled
    /// can be allowed in all.
    fn questions(&self, served: &BTreeSet<Resource>) -> Vec<Question> {
        let in_cluster = self.1.is_empty();
        let here = served.iter().filter(|resource| resource.namespaced != in_cluster);
        let mut asked: BTreeSet<_> =
            here.map(|found| (found.group.as_str(), found.name.as_str(), "")).collect();
        if in_cluster {
            asked.extend(UNSERVED.map(|(group, resource)| (group, resource, "")));
            let granted =
                EVERYWHERE.iter().flat_map(|(group, all, ..)| all.iter().map(|one| (*group, *one, "")));
            asked.extend(granted);
        } else {
            asked.extend(ACCOUNTS.map(|name| ("", "serviceaccounts", name)));
        }
        asked
            .iter()
            .flat_map(|(group, resource, name)| {
                VERBS.map(|verb| self.question(verb, (group, resource), name))
            })
            .collect()
    }

    fn question(&self, verb: &str, (group, resource): (&str, &str), name: &str) -> Question {
        let (plural, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let attributes = json!({
            "verb": verb, "group": group, "resource": plural, "subresource": subresource, "name": name, "namespace": self.1,
        });
        Question {
            text: format!("{}: {verb} {resource}.{group} {name}", self.0),
            asked: json!({"resourceAttributes": attributes}),
            expected: self.is_granted(verb, (group, resource), name),
        }
    }
}

/// A resource or subresource that is served.
#[derive(Eq, Ord, PartialEq, PartialOrd)]
struct Resource {
    group: String,
    name: String,
    namespaced: bool,
}

/// What is asked, and what has to be the answer.
struct Question {
    text: String,
    asked: Value,
    expected: bool,
}

impl Question {
    async fn answer(self, client: &Client) -> Option<String> {
        let mut spec = self.asked;
        spec["user"] = json!(CONTROLLER);
        spec["groups"] = json!(GROUPS);
        let review =
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec});
        let answer = post(client, "subjectaccessreviews", &review).await;
        assert!(answer.contains(r#""allowed":"#), "{answer}");
        let allowed = answer.contains(r#""allowed":true"#);
        (allowed != self.expected)
            .then(|| format!("{} is {}", self.text, if allowed { "allowed" } else { "forbidden" }))
    }
}

const GROUPS: [&str; 3] = ["system:serviceaccounts", "system:serviceaccounts:fother", "system:authenticated"];

async fn post(client: &Client, resource: &str, review: &Value) -> String {
    let request = http::Request::post(format!("/apis/authorization.k8s.io/v1/{resource}"));
    let request = request.header("content-type", "application/json").body(review.to_string().into_bytes());
    client.request_text(request.unwrap()).await.unwrap()
}

async fn read(client: &Client, path: &str) -> Value {
    client.request(http::Request::get(path).body(Vec::new()).unwrap()).await.unwrap()
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// All that is served, in all versions.
async fn served(client: &Client) -> BTreeSet<Resource> {
    let mut found = BTreeSet::new();
    let groups = read(client, "/apis").await;
    let versions =
        groups["groups"].as_array().unwrap().iter().flat_map(|group| group["versions"].as_array().unwrap());
    let paths = versions.map(|version| format!("/apis/{}", version["groupVersion"].as_str().unwrap()));
    for path in ["/api/v1".to_owned()].into_iter().chain(paths) {
        let list = read(client, &path).await;
        let (group, _) = list["groupVersion"].as_str().unwrap().split_once('/').unwrap_or_default();
        for resource in list["resources"].as_array().unwrap() {
            let name = resource["name"].as_str().unwrap().to_owned();
            let namespaced = resource["namespaced"] == json!(true);
            found.insert(Resource { group: group.to_owned(), name, namespaced });
        }
    }
    found
}

/// Every method of every path that the API server has, and some that it could have.
async fn paths(client: &Client) -> Vec<Question> {
    let root = read(client, "/").await;
    let more = [
        "/",
        "/api/v1/nodes",
        "/configz",
        "/debug/pprof/profile",
        "/flagz",
        "/logs",
        "/logs/",
        "/metrics",
        "/statusz",
        "/ui",
        "*",
    ];
    let all: BTreeSet<_> = texts(&root["paths"]).chain(more).chain(PATHS).collect();
    let question = |path: &str, verb: &str| Question {
        text: format!("{verb} {path}"),
        asked: json!({"nonResourceAttributes": {"path": path, "verb": verb}}),
        expected: verb == "get"
            && (PATHS.contains(&path) || FOLDERS.iter().any(|folder| path.starts_with(folder))),
    };
    let verbs = ["get", "post", "*"];
    all.iter().flat_map(|path| verbs.map(|verb| question(path, verb))).collect()
}

/// What some rules allow, one right a line.
fn spelled(group: &str, resource: &str, verb: &str, name: &str) -> String {
    format!("{verb} {resource}.{group} {name}")
}

/// The rules that the API server applies in a place are the tables' own.
async fn the_rules_say_the_same(client: &Client, place: &Place<'_>) {
    let namespace = if place.1.is_empty() { "default" } else { place.1 };
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace}});
    let answer: Value =
        serde_json::from_str(&post(client, "selfsubjectrulesreviews", &review).await).unwrap();
    assert_eq!(answer["status"]["incomplete"], json!(false), "{answer}");
    let mut applied = BTreeSet::new();
    for rule in answer["status"]["resourceRules"].as_array().unwrap() {
        let named: Vec<_> = texts(&rule["resourceNames"]).collect();
        let names = if named.is_empty() { &[""][..] } else { &named };
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                let verbs = texts(&rule["verbs"]);
                applied.extend(
                    verbs.flat_map(|verb| names.iter().map(move |name| spelled(group, resource, verb, name))),
                );
            }
        }
    }
    let mut claimed = BTreeSet::new();
    for (group, resources, verbs, named) in place.grants() {
        let names = if named.is_empty() { &[""][..] } else { *named };
        for (resource, verb) in
            resources.iter().flat_map(|resource| verbs.iter().map(move |verb| (resource, verb)))
        {
            claimed.extend(names.iter().map(|name| spelled(group, resource, verb, name)));
        }
    }
    assert_eq!(applied, claimed, "{}", place.0);
}

#[tokio::test]
async fn the_controller_may_by_itself_what_it_claims_and_nothing_else() {
    let Some(stage) = Stage::new("own-rights").await else { return };
    let _alone = HOME_RIGHTS.lock().await;
    let foreign = stage.plane.namespace("own-rights-foreign").await;
    let whole = stage.plane.namespace("own-rights-whole").await;
    stage.account("healer").await;
    stage.plane.admin().enroll(&stage.namespace, "healer").await;
    let bind = [
        "create",
        "rolebinding",
        "all",
        "--clusterrole=fother-impersonate",
        "--serviceaccount=fother:fother",
    ];
    stage.admin.run(&[&bind[..], &["-n", &whole]].concat()).await;
    let any = json!({"verb": "impersonate", "resource": "serviceaccounts", "namespace": whole});
    stage.plane.admin().knows_that(("fother", "fother"), any).await;

    let asked = [
        Place("in the cluster", "", &[]),
        Place("where nothing is enrolled", &foreign, &[]),
        Place("where an account is enrolled", &stage.namespace, &ACCOUNT),
    ];
    let others = [
        Place("where all accounts are enrolled", &whole, &ALL_ACCOUNTS),
        Place("where fother lives", "fother", &HOME),
        Place("where the cluster lives", "kube-system", &[]),
    ];
    let client = stage.plane.admin().client().await;
    let served = served(&client).await;
    let mut questions = paths(&client).await;
    questions.extend(asked.iter().flat_map(|place| place.questions(&served)));
    let (right, all) = (questions.iter().filter(|question| question.expected).count(), questions.len());
    assert!(right > 60 && all > 3000, "{right} of {all} questions about {} resources", served.len());
    let answers = stream::iter(questions).map(|question| question.answer(&client)).buffer_unordered(64);
    let wrong: Vec<String> = answers.filter_map(async |wrong| wrong).collect().await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let itself = stage.plane.admin().impersonating(CONTROLLER, &GROUPS).client().await;
    for place in asked.iter().chain(&others) {
        the_rules_say_the_same(&itself, place).await;
    }
}
