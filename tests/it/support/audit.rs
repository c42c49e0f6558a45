//! The API server's audit log: who asked for what, and what came of it.
//!
//! It is what counts writes and watches, because it is written by somebody who cannot be mistaken about them.

use std::collections::HashMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;

use super::access::Access;
use super::wait::{DEADLINE, eventually};

/// Reads the log of one control plane.
pub struct AuditLog {
    path: PathBuf,
    admin: Access,
}

/// A place in the log: everything that was answered before it was taken is before it.
#[derive(Clone, Copy)]
pub struct Mark(u64);

/// One request, or the start of a watch.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asked.
    pub user: String,
    /// In whose name, where that is somebody else.
    pub impersonated: Option<String>,
    pub verb: String,
    /// As in `batch/jobs`, `pods/log`; empty for what is no resource.
    pub resource: String,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub uri: String,
    pub code: u16,
}

impl Request {
    /// Whose rights counted.
    pub fn actor(&self) -> &str {
        self.impersonated.as_deref().unwrap_or(&self.user)
    }

    /// Did it ask to change something that is kept? Access reviews and dry runs are not kept.
    pub fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
            && !self.resource.starts_with("authorization.k8s.io/")
            && !self.uri.contains("dryRun=All")
    }
}

impl AuditLog {
    pub fn new(path: PathBuf, admin: Access) -> Self {
        Self { path, admin }
    }

    /// The end of the log now.
    pub async fn mark(&self) -> Mark {
        self.catch_up().await;
        Mark(std::fs::metadata(&self.path).unwrap().len())
    }

    /// What was answered since `mark`, in order; of a watch, its start.
    pub async fn since(&self, mark: Mark) -> Vec<Request> {
        self.catch_up().await;
        let is_wanted = |entry: &Entry| (entry.stage == "ResponseStarted") == (entry.verb == "watch");
        self.entries(mark)
            .into_iter()
            .filter(is_wanted)
            .filter(|entry| !entry.is_fence())
            .map(Request::from)
            .collect()
    }

    /// The watches that are open now, whenever they began.
    ///
    /// After an API server was killed those it served stay in the list: nothing was written of their end.
    pub async fn open_watches(&self) -> Vec<Request> {
        self.catch_up().await;
        let mut open = HashMap::new();
        for (order, entry) in self.entries(Mark(0)).into_iter().enumerate() {
            match (entry.verb.as_str(), entry.stage.as_str()) {
                ("watch", "ResponseStarted") => drop(open.insert(entry.audit_id.clone(), (order, entry))),
                _ => drop(open.remove(&entry.audit_id)),
            }
        }
        let mut open: Vec<_> = open.into_values().collect();
        open.sort_by_key(|(order, _)| *order);
        open.into_iter().map(|(_, entry)| Request::from(entry)).collect()
    }

    /// Waits until the log has what was answered before this call: the entry of a request is written when its
    /// handler returns, which may be a moment after its answer was read.
    async fn catch_up(&self) {
        static FENCES: AtomicU64 = AtomicU64::new(0);
        let end = Mark(std::fs::metadata(&self.path).unwrap().len());
        let fence = format!("{FENCE}{}-{}", std::process::id(), FENCES.fetch_add(1, Ordering::Relaxed));
        let request = http::Request::get(&fence).body(Vec::new()).unwrap();
        self.admin.client().await.request_text(request).await.unwrap();
        eventually("the audit log has our own request", DEADLINE, || async {
            let seen = self.entries(end).iter().any(|entry| entry.request_uri == fence);
            if seen { Ok(()) } else { Err("it does not") }
        })
        .await;
    }

    fn entries(&self, mark: Mark) -> Vec<Entry> {
        let mut file = std::fs::File::open(&self.path).unwrap();
        file.seek(SeekFrom::Start(mark.0.saturating_sub(1))).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        // The last line may be half written, and so may that have been at which the log ended then: it was answered before.
        let from = if mark.0 == 0 { Some(0) } else { text.find('\n') };
        let whole = from.zip(text.rfind('\n')).map_or("", |(from, end)| &text[from..end.max(from)]);
        whole
            .lines()
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }
}

const FENCE: &str = "/version?fence=";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(rename = "auditID")]
    audit_id: String,
    stage: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    user: User,
    impersonated_user: Option<User>,
    #[serde(default)]
    object_ref: ObjectReference,
    response_status: Option<ResponseStatus>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ObjectReference {
    resource: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    api_group: Option<String>,
    subresource: Option<String>,
}

#[derive(Deserialize)]
struct ResponseStatus {
    code: u16,
}

impl Entry {
    fn is_fence(&self) -> bool {
        self.request_uri.starts_with(FENCE)
    }
}

impl From<Entry> for Request {
    fn from(entry: Entry) -> Self {
        let object = entry.object_ref;
        let parts = [object.api_group, object.resource, object.subresource];
        Self {
            user: entry.user.username,
            impersonated: entry.impersonated_user.map(|user| user.username),
            verb: entry.verb,
            resource: parts.into_iter().flatten().collect::<Vec<_>>().join("/"),
            namespace: object.namespace,
            name: object.name,
            uri: entry.request_uri,
            code: entry.response_status.map_or(0, |status| status.code),
        }
    }
}
