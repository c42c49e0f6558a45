//! `pods/log`: what a pod's containers wrote, from whoever runs them.

use futures::StreamExt;
use jiff::Timestamp;
use serde_json::Value;

use super::Shared;
use super::error::{ApiError, ApiResult};
use super::http::{Answer, Call, Reply};
use super::meta;
use crate::sandbox::logs::LogQuery;

const KNOWN: &[&str] = &[
    "container",
    "previous",
    "follow",
    "timestamps",
    "tailLines",
    "limitBytes",
    "sinceSeconds",
    "sinceTime",
    "insecureSkipTLSVerifyBackend",
];

/// Answers a request for a log.
pub fn answer(shared: &Shared, call: &Call, pod: &Value) -> ApiResult<Reply> {
    call.query.only(KNOWN)?;
    let source = shared.log_source();
    let source = source.ok_or_else(|| ApiError::internal("nothing runs containers here"))?;
    let now = shared.state.lock().clock.now();
    let query = query(call, pod, now)?;
    let opened = source.open(&query).map_err(|error| ApiError::bad_request(error.to_string()))?;
    // A log that cannot be read further ends; what was sent so far cannot be taken back.
    let readable = opened.take_while(|chunk| futures::future::ready(chunk.is_ok()));
    let chunks = readable.filter_map(|chunk| futures::future::ready(chunk.ok()));
    Ok(Answer::Stream(Box::pin(chunks), "text/plain").into())
}

/// The container asked for, or the only one, or the one that the pod names as its default.
fn container(pod: &Value, asked: Option<&str>) -> ApiResult<String> {
    let names: Vec<&str> = ["initContainers", "containers"]
        .iter()
        .flat_map(|list| pod["spec"][*list].as_array().into_iter().flatten())
        .filter_map(|container| container["name"].as_str())
        .collect();
    let pod_name = meta::text(pod, "name");
    let regular = pod["spec"]["containers"].as_array().map_or(0, Vec::len);
    match asked {
        Some(name) if names.contains(&name) => Ok(name.to_owned()),
        Some(name) => Err(ApiError::bad_request(format!("container {name} is not valid for pod {pod_name}"))),
        None if regular == 1 => {
            Ok(pod["spec"]["containers"][0]["name"].as_str().unwrap_or_default().to_owned())
        }
        None => Err(ApiError::bad_request(format!(
            "a container name must be specified for pod {pod_name}, choose one of: [{}]",
            names.join(" ")
        ))),
    }
}

fn query(call: &Call, pod: &Value, now: Timestamp) -> ApiResult<LogQuery> {
    let count = |name: &str| {
        let number = call.query.number(name)?;
        ApiResult::Ok(number.and_then(|number| usize::try_from(number).ok()))
    };
    let since = match (call.query.number("sinceSeconds")?, call.query.get("sinceTime")) {
        (Some(seconds), _) => now.checked_sub(jiff::SignedDuration::from_secs(seconds)).ok(),
        (None, Some(text)) => {
            Some(text.parse().map_err(|_| ApiError::bad_request("sinceTime is not a time"))?)
        }
        (None, None) => None,
    };
    Ok(LogQuery {
        namespace: meta::text(pod, "namespace").to_owned(),
        pod: meta::text(pod, "name").to_owned(),
        container: container(pod, call.query.get("container"))?,
        previous: call.query.flag("previous"),
        follow: call.query.flag("follow"),
        timestamps: call.query.flag("timestamps"),
        tail_lines: count("tailLines")?,
        since,
        limit_bytes: count("limitBytes")?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_container_is_chosen() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
        assert_eq!(container(&pod, Some("b")).unwrap(), "b");
        assert_eq!(container(&pod, Some("c")).unwrap_err().message, "container c is not valid for pod p");
        assert!(container(&pod, None).unwrap_err().message.ends_with("choose one of: [a b]"));
    }
}
