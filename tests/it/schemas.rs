//! The snapshot of Kubernetes' schemas that `fother validate` carries is what the API server said.

use fother::expr::{Expression, Schemas, Scope, Type, snapshot};
use fother::sandbox::openapi;
use serde_json::Value;

const SNAPSHOT: &str = "src/expr/schema/kubernetes.txt";

fn recorded() -> Vec<Value> {
    let documents = openapi::paths().map(|path| openapi::document(path).unwrap());
    documents.map(|text| serde_json::from_slice(&text).unwrap()).collect()
}

#[test]
fn the_snapshot_is_what_was_recorded() {
    let header =
        "# The fields of Kubernetes' own kinds, from src/sandbox/openapi: `make schemas` writes this file.\n";
    let expected = header.to_owned() + &snapshot(&recorded());
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(SNAPSHOT);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&file, &expected).unwrap();
    }
    let found = std::fs::read_to_string(file).unwrap();
    assert!(found == expected, "{SNAPSHOT} is stale: make schemas writes it");
}

#[test]
fn a_document_from_a_server_comes_before_the_snapshot() {
    let mut document = recorded().swap_remove(0);
    let pod = &mut document["components"]["schemas"]["io.k8s.api.core.v1.PodStatus"]["properties"];
    pod["brandNew"] = serde_json::json!({"type": "integer"});
    let compile = |schemas: Schemas| {
        let scope = Scope::of(["now"]).with_type("object", schemas.of("v1", "Pod"));
        let found = Expression::compile("object.status.brandNew > 3", &scope);
        found.and_then(|found| found.expect(&Type::Bool)).map(|_| ()).map_err(|errors| errors[0].to_string())
    };
    assert_eq!(compile(Schemas::built_in()), Err("PodStatus has no field \"brandNew\"".to_owned()));
    assert_eq!(compile(Schemas::built_in().with_open_api(&document)), Ok(()));
}
