//! Whether fother's own kinds are there, with all the fields that this version writes. What a kind does not know the API
//! server drops without a word, and with it what keeps things from happening twice.
//!
//! Answered from the published schema, which whoever may talk to the API server may read.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use http::Request;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use serde_json::{Value, json};

use super::error::{Error, Result};
use crate::api::{GROUP, VERSION};

/// Fields that a message names, at the most.
const NAMED: usize = 3;

/// A kind as this version has it.
struct Own {
    name: String,
    kind: String,
    fields: BTreeSet<String>,
}

/// Made once: it is compared with what is installed again and again.
static OWN: LazyLock<Vec<Own>> = LazyLock::new(|| {
    let own = |crd: CustomResourceDefinition| {
        let schema = json!(crd.spec.versions.first().and_then(|version| version.schema.as_ref()));
        let names = crd.spec.names;
        let name = format!("{}.{GROUP}", names.plural);
        Own { name, kind: names.kind, fields: fields(&schema["openAPIV3Schema"]) }
    };
    crate::api::crds().into_iter().map(own).collect()
});

/// What is wrong with the kinds that are installed.
#[derive(Debug)]
pub struct Lacks {
    /// What it is, and what mends it.
    pub text: String,
    /// Whether one is there without fields of this version. Of what is written into it they are dropped; what is written
    /// where no kind is, is refused.
    pub is_older: bool,
}

/// What is wrong with the kinds that are installed. A kind that knows more is a newer one, and good.
pub async fn lacking(client: &Client) -> Result<Option<Lacks>> {
    let path = format!("/openapi/v3/apis/{GROUP}/{VERSION}");
    let failed = |error: String| Error::Unexpected(format!("failed to read {path}: {error}"));
    let request = Request::get(&path).body(Vec::new()).map_err(|error| failed(error.to_string()))?;
    let document = match client.request::<Value>(request).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Value::Null,
        other => other.map_err(Error::request(format!("read {path}")))?,
    };
    let (missing, older) = compare(&document);
    let is_older = !older.is_empty();
    let found = [missing, older].concat();
    let remedy = "`fother crds | kubectl apply --server-side -f -`, or upgrade the chart";
    Ok((!found.is_empty()).then(|| Lacks { text: format!("{}; {remedy}", found.join(", ")), is_older }))
}

/// A line for each kind that the published schemas do not have, and for each that is older there.
fn compare(document: &Value) -> (Vec<String>, Vec<String>) {
    let schemas = document["components"]["schemas"].as_object();
    let published = |kind: &str| {
        let wanted = json!({"group": GROUP, "version": VERSION, "kind": kind});
        let is = |schema: &&Value| {
            schema["x-kubernetes-group-version-kind"].as_array().is_some_and(|kinds| kinds.contains(&wanted))
        };
        schemas.into_iter().flat_map(|schemas| schemas.values()).find(is)
    };
    let (mut missing, mut older) = (Vec::new(), Vec::new());
    for Own { name, kind, fields: wanted } in &*OWN {
        let Some(there) = published(kind) else {
            missing.push(format!("kind {name} is not installed"));
            continue;
        };
        let lost: Vec<_> = wanted.difference(&fields(there)).cloned().collect();
        if !lost.is_empty() {
            let named = lost[..lost.len().min(NAMED)].join(", ");
            older.push(format!("kind {name} is of another version: it has no {named}"));
        }
    }
    (missing, older)
}

/// The paths of all fields below `spec` and `status`.
fn fields(schema: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for part in ["spec", "status"] {
        collect(&schema["properties"][part], part, &mut found);
    }
    found
}

fn collect(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    found.insert(path.to_owned());
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        collect(field, &format!("{path}.{name}"), found);
    }
    if schema["items"].is_object() {
        collect(&schema["items"], &format!("{path}[]"), found);
    }
}

/// What an API server publishes of the kinds of this version.
#[cfg(test)]
pub fn published() -> Value {
    let schemas = crate::api::crds().into_iter().map(|crd| {
        let kind = crd.spec.names.kind;
        let mut schema = json!(crd.spec.versions[0].schema)["openAPIV3Schema"].clone();
        schema["x-kubernetes-group-version-kind"] =
            json!([{"group": GROUP, "version": VERSION, "kind": kind}]);
        (kind, schema)
    });
    json!({"components": {"schemas": schemas.collect::<serde_json::Map<_, _>>()}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_missing_older_or_good() {
        let good = (vec![], vec![]);
        assert_eq!(compare(&published()), good);
        let mut newer = published();
        newer["components"]["schemas"]["Rule"]["properties"]["spec"]["properties"]["more"] = json!({});
        assert_eq!(compare(&newer), good);
        let mut older = published();
        let schemas = &mut older["components"]["schemas"];
        schemas["Execution"]["properties"]["status"]["properties"]
            .as_object_mut()
            .expect("fields")
            .remove("episodeClosedAt");
        schemas.as_object_mut().expect("kinds").remove("Pack");
        let lost = "kind executions.fother.dev is of another version: it has no status.episodeClosedAt";
        let expected = (vec!["kind packs.fother.dev is not installed".to_owned()], vec![lost.to_owned()]);
        assert_eq!(compare(&older), expected);
        assert_eq!(compare(&Value::Null).0.len(), crate::api::crds().len());
    }
}
