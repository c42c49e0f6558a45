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

/// What is wrong with the kinds that are installed, and what mends it. A kind that knows more is a newer one, and good.
pub async fn lacking(client: &Client) -> Result<Option<String>> {
    let path = format!("/openapi/v3/apis/{GROUP}/{VERSION}");
    let failed = |error: String| Error::Unexpected(format!("failed to read {path}: {error}"));
    let request = Request::get(&path).body(Vec::new()).map_err(|error| failed(error.to_string()))?;
    let document = match client.request::<Value>(request).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Value::Null,
        other => other.map_err(Error::request(format!("read {path}")))?,
    };
    let found = compare(&document);
    let remedy = "`fother crds | kubectl apply --server-side -f -`, or upgrade the chart";
    Ok((!found.is_empty()).then(|| format!("{}; {remedy}", found.join(", "))))
}

/// What is wrong with the published schemas, a line for each kind.
fn compare(document: &Value) -> Vec<String> {
    let schemas = document["components"]["schemas"].as_object();
    let published = |kind: &str| {
        let wanted = json!({"group": GROUP, "version": VERSION, "kind": kind});
        let is = |schema: &&Value| {
            schema["x-kubernetes-group-version-kind"].as_array().is_some_and(|kinds| kinds.contains(&wanted))
        };
        schemas.into_iter().flat_map(|schemas| schemas.values()).find(is)
    };
    let mut found = Vec::new();
    for Own { name, kind, fields: wanted } in &*OWN {
        let Some(there) = published(kind) else {
            found.push(format!("kind {name} is not installed"));
            continue;
        };
        let lost: Vec<_> = wanted.difference(&fields(there)).cloned().collect();
        if !lost.is_empty() {
            let named = lost[..lost.len().min(NAMED)].join(", ");
            found.push(format!("kind {name} is of another version: it has no {named}"));
        }
    }
    found
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
        assert_eq!(compare(&published()), [] as [&str; 0]);
        let mut newer = published();
        newer["components"]["schemas"]["Rule"]["properties"]["spec"]["properties"]["more"] = json!({});
        assert_eq!(compare(&newer), [] as [&str; 0]);
        let mut older = published();
        let schemas = &mut older["components"]["schemas"];
        schemas["Execution"]["properties"]["status"]["properties"]
            .as_object_mut()
            .expect("fields")
            .remove("episodeClosedAt");
        schemas.as_object_mut().expect("kinds").remove("Pack");
        assert_eq!(
            compare(&older),
            [
                "kind packs.fother.dev is not installed",
                "kind executions.fother.dev is of another version: it has no status.episodeClosedAt"
            ]
        );
        assert_eq!(compare(&Value::Null).len(), crate::api::crds().len());
    }
}
