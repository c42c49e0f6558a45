//! `pods/log`: what a pod's containers wrote, from whoever runs them.

use std::pin::Pin;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::mpsc;

use super::Shared;
use super::error::{ApiError, ApiResult};
use super::http::{Answer, Call, Reply};
use super::meta;

/// One line, without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When it was written.
    pub time: Timestamp,
    /// What was written.
    pub text: String,
}

/// What there is of a container's log, and, where it still runs, what comes.
#[derive(Debug)]
pub struct LogRead {
    /// Lines so far, oldest first.
    pub past: Vec<LogLine>,
    /// Lines to come; closed when the container ends, absent when it has.
    pub coming: Option<mpsc::Receiver<LogLine>>,
}

/// Why there is no log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// The container has not started, or was never restarted when its previous instance is asked for.
    #[error("{0}")]
    NotAvailable(String),
    /// The log could not be read.
    #[error("failed to read the log: {0}")]
    Failed(String),
}

/// Where the logs of pods come from. Selecting lines is not its business.
pub trait LogSource: Send + Sync {
    /// The log of the present or the previous instance of a pod's container.
    fn read(&self, pod: &Value, container: &str, previous: bool) -> Result<LogRead, LogError>;
}

struct Wish {
    timestamps: bool,
    tail: Option<usize>,
    since: Option<Timestamp>,
    limit: Option<usize>,
}

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
    let container = container(pod, call.query.get("container"))?;
    let previous = call.query.flag("previous");
    let read = source.read(pod, &container, previous).map_err(|error| match error {
        LogError::NotAvailable(why) => ApiError::bad_request(why),
        LogError::Failed(_) => ApiError::internal(error.to_string()),
    })?;
    let wish = wish(call, now)?;
    let past = render_past(&wish, read.past);
    let coming: Pin<Box<dyn Stream<Item = Bytes> + Send>> =
        match read.coming.filter(|_| call.query.flag("follow")) {
            Some(receiver) => {
                let timestamps = wish.timestamps;
                let lines = stream::unfold(receiver, |mut receiver| async move {
                    let line = receiver.recv().await?;
                    Some((line, receiver))
                });
                Box::pin(lines.map(move |line| Bytes::from(render(&line, timestamps))))
            }
            None => Box::pin(stream::empty()),
        };
    let all = stream::iter(past.map(Bytes::from)).chain(coming);
    Ok(Answer::Stream(Box::pin(limited(all, wish.limit)), "text/plain").into())
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

fn wish(call: &Call, now: Timestamp) -> ApiResult<Wish> {
    let count = |name: &str| {
        let number = call.query.number(name)?;
        ApiResult::Ok(number.and_then(|number| usize::try_from(number).ok()))
    };
    let since = match (call.query.number("sinceSeconds")?, call.query.get("sinceTime")) {
        (Some(seconds), _) => {
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            now.checked_sub(jiff::SignedDuration::from_secs(seconds)).ok()
        }
        (None, Some(text)) => {
            Some(text.parse().map_err(|_| ApiError::bad_request("sinceTime is not a time"))?)
        }
        (None, None) => None,
    };
    Ok(Wish {
        timestamps: call.query.flag("timestamps"),
        tail: count("tailLines")?,
        since,
        limit: count("limitBytes")?,
    })
}

fn render_past(wish: &Wish, mut lines: Vec<LogLine>) -> Option<String> {
    if let Some(since) = wish.since {
        lines.retain(|line| line.time >= since);
    }
    let start = wish.tail.map_or(0, |tail| lines.len().saturating_sub(tail));
    let text: String = lines[start..].iter().map(|line| render(line, wish.timestamps)).collect();
    (!text.is_empty()).then_some(text)
}

fn render(line: &LogLine, timestamps: bool) -> String {
    if timestamps { format!("{} {}\n", line.time, line.text) } else { format!("{}\n", line.text) }
}

/// Ends a stream after so many bytes.
fn limited(
    chunks: impl Stream<Item = Bytes> + Send + 'static,
    limit: Option<usize>,
) -> impl Stream<Item = Bytes> + Send {
    let left = limit.unwrap_or(usize::MAX);
    chunks.scan(left, |left, mut chunk| {
        if *left == 0 {
            return futures::future::ready(None);
        }
        chunk.truncate(*left);
        *left -= chunk.len();
        futures::future::ready(Some(chunk))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_are_selected() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let lines: Vec<LogLine> = (1..=3).map(|n| LogLine { time: at(n), text: format!("l{n}") }).collect();
        let wish = |tail, since, timestamps| Wish { timestamps, tail, since, limit: None };
        assert_eq!(render_past(&wish(Some(2), None, false), lines.clone()).unwrap(), "l2\nl3\n");
        assert_eq!(
            render_past(&wish(None, Some(at(3)), true), lines.clone()).unwrap(),
            "1970-01-01T00:00:03Z l3\n"
        );
        assert_eq!(render_past(&wish(Some(0), None, false), lines), None);
    }

    #[test]
    fn a_container_is_chosen() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
        assert_eq!(container(&pod, Some("b")).unwrap(), "b");
        assert_eq!(container(&pod, Some("c")).unwrap_err().message, "container c is not valid for pod p");
        assert!(container(&pod, None).unwrap_err().message.ends_with("choose one of: [a b]"));
    }
}
