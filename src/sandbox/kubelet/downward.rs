//! The downward API: what a container may learn of its own pod.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;

use super::quantity;

/// The value of a `fieldRef`, or none if there is no such field.
pub fn field(pod: &Pod, path: &str) -> Option<String> {
    if let Some((map, key)) = path.strip_suffix("']").and_then(|inner| inner.split_once("['")) {
        let entries = if map == "metadata.labels" { pod.labels() } else { pod.annotations() };
        let known = matches!(map, "metadata.labels" | "metadata.annotations");
        return known.then(|| entries.get(key).cloned().unwrap_or_default());
    }
    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();
    let value = match path {
        "metadata.name" => Some(pod.name_any()),
        "metadata.namespace" => pod.namespace(),
        "metadata.uid" => pod.uid(),
        "metadata.labels" => Some(lines(pod.labels())),
        "metadata.annotations" => Some(lines(pod.annotations())),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
        "status.hostIP" | "status.hostIPs" => status.and_then(|status| status.host_ip.clone()),
        "status.podIP" | "status.podIPs" => status.and_then(|status| status.pod_ip.clone()),
        _ => return None,
    };
    Some(value.unwrap_or_default())
}

/// The value of a `resourceFieldRef` of `container`, or none if it names nothing known.
pub fn resource(container: &Container, selector: &ResourceFieldSelector) -> Option<String> {
    let (kind, name) = selector.resource.split_once('.')?;
    let resources = container.resources.clone().unwrap_or_default();
    let values = match kind {
        "limits" => resources.limits,
        "requests" => resources.requests,
        _ => return None,
    };
    let amount = values.unwrap_or_default().get(name).and_then(quantity::parse).unwrap_or_default();
    let divisor =
        selector.divisor.as_ref().map_or(Some(1.0), |divisor: &Quantity| quantity::parse(divisor))?;
    let divisor = if divisor == 0.0 { 1.0 } else { divisor };
    Some(format!("{:.0}", (amount / divisor).ceil()))
}

fn lines(entries: &BTreeMap<String, String>) -> String {
    entries.iter().map(|(key, value)| format!("{key}={value:?}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_of_the_pod_are_found_by_path() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"app": "web", "a/b": "c"}},
            "spec": {"nodeName": "node1", "containers": []},
            "status": {"podIP": "10.88.0.2"},
        }))
        .unwrap();
        for (path, expected) in [
            ("metadata.name", Some("p")),
            ("metadata.namespace", Some("n")),
            ("metadata.labels['a/b']", Some("c")),
            ("metadata.annotations['none']", Some("")),
            ("metadata.labels", Some("a/b=\"c\"\napp=\"web\"")),
            ("spec.nodeName", Some("node1")),
            ("status.podIP", Some("10.88.0.2")),
            ("spec.hostname", None),
            ("spec.nodeSelector['x']", None),
        ] {
            assert_eq!(field(&pod, path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        let container: Container = serde_json::from_value(
            json!({"name": "c", "resources": {"limits": {"memory": "65Mi", "cpu": "250m"}}}),
        )
        .unwrap();
        for (resource_name, divisor, expected) in [
            ("limits.memory", None, Some("68157440")),
            ("limits.memory", Some("1Mi"), Some("65")),
            ("limits.cpu", None, Some("1")),
            ("limits.cpu", Some("1m"), Some("250")),
            ("requests.cpu", None, Some("0")),
            ("memory", None, None),
        ] {
            let selector = ResourceFieldSelector {
                container_name: None,
                divisor: divisor.map(|text| Quantity(text.to_owned())),
                resource: resource_name.to_owned(),
            };
            assert_eq!(resource(&container, &selector).as_deref(), expected, "{resource_name} {divisor:?}");
        }
    }
}
