//! An in-memory Kubernetes API server: enough for `kube::Client` in process (no socket, so that it works
//! under paused time) and for kubectl over HTTPS on loopback. It knows Kubernetes and nothing that is
//! built on it; custom kinds arrive as CustomResourceDefinitions through the API.
//!
//! A request goes `http` (who asks) → `route` (for what) → `access` (may they) → `handler` (the verb) →
//! `state` and `lifecycle` (the write) or `list` and `watch` (the read) → `media` (the form of the answer).
//! What is pure has a file of its own: `patch`, `ssa`, `fieldset`, `managed`, `schema`, `decode`,
//! `validate`, `typed`, `rules`, `selector`, `jsonpath`, `table`, `rbac`.
//!
//! # Not modelled
//!
//! What is not understood is refused, not ignored. Beyond that, this API differs from a real cluster so:
//!
//! - No admission: no policies, no webhooks, no quota, no Pod Security, no service account tokens in pods. That a
//!   pod's account exists is checked.
//! - Built-in kinds: types, unknown fields and required basics are checked, most other validation is not;
//!   defaults are those that controllers and people rely on. A Service gets no address.
//! - Storage is memory. Conversion between versions of a custom kind changes `apiVersion` only.
//! - Garbage collection, namespace cleanup and establishing of definitions happen at once, inside the
//!   write that causes them, not a little later in a controller. No TTL is applied to anything.
//! - RBAC has no escalation check (`bind`, `escalate`). Impersonation is the classic one, without `uid`
//!   and `extra`.
//! - Streams into containers (exec, attach, port-forward), the proxy verbs, CBOR and answers in protobuf are
//!   refused; bodies in protobuf are read.
//! - CEL rules run without type checking and cost budget, and know only the `cel` crate's functions: a definition
//!   whose rules call others is refused.
//! - A field that a JSON body has twice counts once, as the last one says.
//! - Which answers differ from a real server's, request by request, is in
//!   `tests/it/sandbox/conformance/deviations.txt`; a test holds that nothing else does.
//! - A list at an exact older version reaches back as far as the log of changes, a few thousand per kind.

mod access;
mod bootstrap;
mod clock;
mod crd;
mod crd_schema;
mod decode;
mod discovery;
mod error;
mod events;
mod fieldset;
mod handler;
mod http;
mod impersonate;
mod jsonpath;
mod labels;
mod lifecycle;
mod list;
mod logs;
mod managed;
mod media;
mod meta;
mod nonresource;
mod openapi_view;
mod patch;
mod protobuf;
mod query;
mod rbac;
mod registry;
mod reviews;
mod route;
mod rules;
mod schema;
mod selector;
mod serve;
mod ssa;
mod state;
mod store;
mod strategy;
mod subresource;
mod table;
mod table_cells;
mod typed;
mod user;
mod validate;
mod watch;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;

pub use self::clock::Clock;
pub use self::http::{ApiService, Body};
pub use self::user::User;
use crate::sandbox::logs::LogSource;

use self::state::State;

/// What everyone who serves a request shares.
struct Shared {
    state: Arc<Mutex<State>>,
    tokens: Mutex<BTreeMap<String, User>>,
    logs: Mutex<Option<Arc<dyn LogSource>>>,
}

/// The in-memory API server. Clones share one store.
#[derive(Clone)]
pub struct ApiServer {
    shared: Arc<Shared>,
}

impl Default for ApiServer {
    fn default() -> Self {
        Self::new()
    }
}

impl ApiServer {
    /// A fresh cluster at the present time, with UIDs that differ from run to run.
    pub fn new() -> Self {
        Self::with_seed(Timestamp::now(), RandomState::new().hash_one(0))
    }

    /// A fresh cluster whose clock starts at `start` and follows tokio's, and whose UIDs and generated
    /// names follow from `seed`: the same requests give the same objects.
    pub fn with_seed(start: Timestamp, seed: u64) -> Self {
        let mut state = State::new(Clock::starting_at(start), seed);
        bootstrap::fill(&mut state);
        let shared = Shared {
            state: Arc::new(Mutex::new(state)),
            tokens: Mutex::new(BTreeMap::new()),
            logs: Mutex::new(None),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A client in process, authenticated as the user. Impersonation headers are honored on top.
    pub fn client(&self, user: &User) -> kube::Client {
        kube::Client::new(self.service(user), "default")
    }

    /// The service under such a client, for layers in between.
    pub fn service(&self, user: &User) -> ApiService {
        ApiService::authenticated(self.clone(), user.clone())
    }

    /// Lets requests over HTTPS authenticate as the user with this bearer token.
    pub fn add_token(&self, token: &str, user: User) {
        self.shared.tokens.lock().insert(token.to_owned(), user);
    }

    /// Says where the logs of pods come from.
    pub fn set_log_source(&self, source: Arc<dyn LogSource>) {
        *self.shared.logs.lock() = Some(source);
    }

    /// Forgets all changes so far: watches and lists at versions before now get 410, as after a
    /// compaction of the real store.
    pub fn compact(&self) {
        self.shared.state.lock().store.compact();
    }

    /// The API's present time.
    pub fn now(&self) -> Timestamp {
        self.shared.state.lock().clock.now()
    }
}
