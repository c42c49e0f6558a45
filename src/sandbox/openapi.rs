//! What was recorded about the built-in kinds from a real kube-apiserver (`tests/cluster/record-openapi.py`):
//! compressed in the binary, unpacked when first asked for.

use std::io::Read;

use flate2::read::GzDecoder;

macro_rules! recorded {
    ($($key:literal => $file:literal),* $(,)?) => {
        const DOCUMENTS: &[(&str, &[u8])] = &[$(($key, include_bytes!(concat!("openapi/", $file, ".json.gz")))),*];
    };
}

recorded! {
    "api/v1" => "api_v1",
    "apis/apiextensions.k8s.io/v1" => "apis_apiextensions.k8s.io_v1",
    "apis/apps/v1" => "apis_apps_v1",
    "apis/authentication.k8s.io/v1" => "apis_authentication.k8s.io_v1",
    "apis/authorization.k8s.io/v1" => "apis_authorization.k8s.io_v1",
    "apis/autoscaling/v2" => "apis_autoscaling_v2",
    "apis/batch/v1" => "apis_batch_v1",
    "apis/coordination.k8s.io/v1" => "apis_coordination.k8s.io_v1",
    "apis/discovery.k8s.io/v1" => "apis_discovery.k8s.io_v1",
    "apis/events.k8s.io/v1" => "apis_events.k8s.io_v1",
    "apis/networking.k8s.io/v1" => "apis_networking.k8s.io_v1",
    "apis/policy/v1" => "apis_policy_v1",
    "apis/rbac.authorization.k8s.io/v1" => "apis_rbac.authorization.k8s.io_v1",
    "apis/scheduling.k8s.io/v1" => "apis_scheduling.k8s.io_v1",
    "apis/storage.k8s.io/v1" => "apis_storage.k8s.io_v1",
}

/// The paths, such as `apis/apps/v1`, that have a recorded OpenAPI document.
pub fn paths() -> impl Iterator<Item = &'static str> {
    DOCUMENTS.iter().map(|(path, _)| *path)
}

/// The recorded OpenAPI v3 document of a path, as JSON text.
pub fn document(path: &str) -> Option<Vec<u8>> {
    DOCUMENTS.iter().find(|(key, _)| *key == path).map(|(_, packed)| unpack(packed))
}

/// The recorded document as it is stored, gzip-compressed.
pub fn packed(path: &str) -> Option<&'static [u8]> {
    DOCUMENTS.iter().find(|(key, _)| *key == path).map(|(_, packed)| *packed)
}

/// The recorded aggregated discovery: a JSON list of groups.
pub fn discovery() -> Vec<u8> {
    unpack(include_bytes!("openapi/discovery.json.gz"))
}

/// The recorded printer columns: a JSON map from `resource.group` to column definitions.
pub fn tables() -> Vec<u8> {
    unpack(include_bytes!("openapi/tables.json.gz"))
}

/// The recorded protobuf messages: a JSON map from message to its fields.
pub fn messages() -> Vec<u8> {
    unpack(include_bytes!("openapi/messages.json.gz"))
}

fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut text).expect("the recorded files are whole gzip streams");
    text
}
