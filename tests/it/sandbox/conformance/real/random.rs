//! Many small random writes to both servers: what nobody thought of.

use serde_json::{Value, json};

use crate::support::control_plane::ControlPlane;

use super::super::custom::{FOOS, define};
use super::super::exchange::{Exchange, JSON};
use super::super::transcript::differences;

const OPERATIONS: usize = 600;
/// A run to repeat.
const SEED: &str = "CONFORMANCE_SEED";

/// `splitmix64`: the same seed, the same run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[usize::try_from(self.roll(choices.len() as u64)).unwrap()]
    }
}

/// Where an operation takes a version from.
#[derive(Clone, Copy, Debug)]
enum Version {
    Unsaid,
    Newest,
    Old,
}

/// One request, without what only one of the servers knows.
#[derive(Clone, Debug)]
struct Operation {
    method: &'static str,
    path: String,
    query: String,
    media: &'static str,
    body: Value,
    version: Version,
}

fn value(dice: &mut Dice) -> Value {
    json!(dice.pick(&["1", "2", "3"]))
}

/// Some fields of the content, so that they meet.
fn content(dice: &mut Dice, is_custom: bool) -> Value {
    let mut content = json!({});
    for key in ["a", "b", "c"] {
        if dice.roll(2) == 0 {
            content[key] = value(dice);
        }
    }
    if is_custom && dice.roll(2) == 0 {
        let mut steps = vec![];
        for name in ["one", "two", "three"] {
            if dice.roll(2) == 0 {
                steps.push(if dice.roll(2) == 0 {
                    json!({"name": name})
                } else {
                    json!({"name": name, "run": value(dice)})
                });
            }
        }
        if dice.roll(2) == 0 {
            steps.reverse();
        }
        content["steps"] = steps.into();
    }
    if is_custom && dice.roll(3) == 0 {
        let all = [json!(["x"]), json!(["x", "y"]), json!(["z", "x"]), json!([])];
        content["set"] = all[usize::try_from(dice.roll(4)).unwrap()].clone();
    }
    content
}

fn metadata(dice: &mut Dice, name: &str) -> Value {
    let mut metadata = json!({"name": name});
    match dice.roll(6) {
        0 => metadata["labels"] = json!({"l": value(dice)}),
        1 => metadata["annotations"] = json!({"a": value(dice), "b": value(dice)}),
        2 => metadata["finalizers"] = json!([dice.pick(&["x.dev/a", "x.dev/b"])]),
        3 => metadata["finalizers"] = json!([]),
        _ => {}
    }
    metadata
}

fn operation(dice: &mut Dice) -> Operation {
    let is_custom = dice.roll(2) == 0;
    let name = dice.pick(&["one", "two"]);
    let kind = if is_custom { FOOS } else { "configmaps" };
    let field = if is_custom { "spec" } else { "data" };
    let (one, version) = (
        format!("{kind}/{name}"),
        [Version::Unsaid, Version::Newest, Version::Old][usize::try_from(dice.roll(3)).unwrap()],
    );
    let whole = |dice: &mut Dice| {
        let api_version = if is_custom { "{ns}.dev/v1" } else { "v1" };
        json!({"apiVersion": api_version, "kind": if is_custom { "Foo" } else { "ConfigMap" },
            "metadata": metadata(dice, name), field: content(dice, is_custom)})
    };
    let plain = |method, path, body| Operation {
        method,
        path,
        query: String::new(),
        media: JSON,
        body,
        version: Version::Unsaid,
    };
    match dice.roll(12) {
        0 | 1 => plain("POST", kind.to_owned(), whole(dice)),
        2 => Operation { version, ..plain("PUT", one, whole(dice)) },
        3 => {
            let mut patch = json!({field: content(dice, is_custom), "metadata": metadata(dice, name)});
            patch[field][dice.pick(&["a", "b", "c"])] = Value::Null;
            Operation { media: "application/merge-patch+json", version, ..plain("PATCH", one, patch) }
        }
        4 => {
            let path = format!("/{field}/{}", dice.pick(&["a", "b", "c"]));
            let patch = match dice.roll(4) {
                0 => json!([{"op": "remove", "path": path}]),
                1 => {
                    json!([{"op": "test", "path": path, "value": value(dice)}, {"op": "replace", "path": path, "value": value(dice)}])
                }
                2 => json!([{"op": "add", "path": "/metadata/finalizers", "value": []}]),
                _ => json!([{"op": "add", "path": path, "value": value(dice)}]),
            };
            Operation { media: "application/json-patch+json", ..plain("PATCH", one, patch) }
        }
        5 => Operation {
            media: "application/strategic-merge-patch+json",
            ..plain("PATCH", one, json!({"metadata": metadata(dice, name), field: content(dice, is_custom)}))
        },
        6..=9 => {
            let force = if dice.roll(3) == 0 { "&force=true" } else { "" };
            let query = format!("?fieldManager={}{force}", dice.pick(&["alice", "bob"]));
            Operation { query, media: "application/apply-patch+yaml", ..plain("PATCH", one, whole(dice)) }
        }
        10 => {
            let options = [
                Value::Null,
                json!({"propagationPolicy": "Background"}),
                json!({"preconditions": {"uid": "x"}}),
            ];
            plain("DELETE", one, options[usize::try_from(dice.roll(3)).unwrap()].clone())
        }
        _ => plain("GET", format!("{kind}?labelSelector=l={}", dice.roll(3)), Value::Null),
    }
}

/// One side, and the versions of each object that it has seen.
struct Side {
    exchange: Exchange,
    seen: Vec<(String, String)>,
}

impl Side {
    async fn new(mut exchange: Exchange) -> Self {
        define(&mut exchange, json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "a": {"type": "string"}, "b": {"type": "string", "default": "1"}, "c": {"type": "string", "enum": ["1", "2"]},
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "steps": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items":
                {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "run": {"type": "string", "default": "d"}}}}}}}})).await;
        Self { exchange, seen: Vec::new() }
    }

    async fn carry_out(&mut self, operation: &Operation) {
        let mut body = operation.body.clone();
        let mut versions =
            self.seen.iter().filter(|(path, _)| *path == operation.path).map(|(_, version)| version);
        let version = match operation.version {
            Version::Unsaid => None,
            Version::Newest => versions.next_back(),
            Version::Old => versions.next(),
        };
        if let Some(version) = version {
            body["metadata"]["resourceVersion"] = version.as_str().into();
        }
        let path = format!("{}{}", operation.path, operation.query);
        let answer = self.exchange.send(operation.method, &path, operation.media, &body).await;
        if let (Some(name), false) = (answer.body["metadata"]["name"].as_str(), answer.version().is_empty()) {
            let kind = if operation.path.starts_with(FOOS) { FOOS } else { "configmaps" };
            self.seen.push((format!("{kind}/{name}"), answer.version().to_owned()));
        }
    }
}

#[tokio::test]
async fn random_writes_are_answered_alike() {
    let Some(plane) = ControlPlane::shared().await else { return };
    let chosen = std::env::var(SEED).ok().map(|text| text.parse().expect("the seed is a number"));
    let seed: u64 = chosen.unwrap_or_else(|| jiff::Timestamp::now().as_millisecond().unsigned_abs());
    println!("{SEED}={seed}");
    let (mut real, mut sandbox) =
        (Side::new(Exchange::real(plane).await).await, Side::new(Exchange::sandbox().await).await);
    let mut dice = Dice(seed);
    for index in 0..OPERATIONS {
        let operation = operation(&mut dice);
        real.carry_out(&operation).await;
        sandbox.carry_out(&operation).await;
        let last = |side: &Side| vec![(format!("operation {index}"), side.exchange.steps[index..].to_vec())];
        let found = differences("random", &last(&real), &last(&sandbox));
        let found: Vec<&str> = found.iter().map(|difference| difference.text.as_str()).collect();
        let before: Vec<&str> =
            sandbox.exchange.steps.iter().rev().take(12).map(|step| step.request.as_str()).collect();
        assert!(
            found.is_empty(),
            "{SEED}={seed}\n{}\n  before, newest first:\n{}",
            found.join("\n"),
            before.join("\n")
        );
    }
}
