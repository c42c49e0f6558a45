//! What a proxy does to which request, and when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode, Uri};
use parking_lot::Mutex;
use regex::Regex;
use tokio::sync::watch;

use super::kind::Kind;

/// Which requests: methods, a pattern for path and query, kinds, and perhaps only the nth of those.
pub struct Requests {
    /// None named: any.
    methods: Vec<Method>,
    pattern: Regex,
    kinds: Kinds,
    /// None named: any, and what has no namespace.
    namespaces: Vec<String>,
    nth: Option<usize>,
}

/// Whether a kind is one of those.
type Kinds = Box<dyn Fn(&Kind) -> bool + Send + Sync>;

impl Requests {
    /// Requests of `method` whose path and query match `pattern`.
    pub fn new(method: Method, pattern: &str) -> Self {
        Self { methods: vec![method], ..Self::any(pattern) }
    }

    /// Requests of any method.
    pub fn any(pattern: &str) -> Self {
        let pattern = Regex::new(pattern).unwrap();
        Self { methods: Vec::new(), pattern, kinds: Box::new(|_| true), namespaces: Vec::new(), nth: None }
    }

    /// Requests of a kind.
    pub fn of(kind: &Kind) -> Self {
        let wanted = kind.clone();
        Self::those(move |kind| *kind == wanted)
    }

    /// Requests of the kinds of which `wanted` holds.
    pub fn those(wanted: impl Fn(&Kind) -> bool + Send + Sync + 'static) -> Self {
        Self { kinds: Box::new(wanted), ..Self::any(".") }
    }

    /// Only those that are about no other namespace than these.
    pub fn within(self, namespaces: &[&str]) -> Self {
        Self { namespaces: namespaces.iter().map(|&name| name.to_owned()).collect(), ..self }
    }

    /// Only the nth of them, counted from 1.
    pub fn nth(self, nth: usize) -> Self {
        Self { nth: Some(nth), ..self }
    }

    pub(super) fn describes(&self, method: &Method, uri: &Uri) -> bool {
        let asked = path_and_query(uri);
        (self.methods.is_empty() || self.methods.contains(method))
            && self.pattern.is_match(&asked)
            && self.is_within(uri)
            && (self.kinds)(&Kind::of(method, uri))
    }
}

impl Requests {
    fn is_within(&self, uri: &Uri) -> bool {
        let mut path = uri.path().split('/').skip_while(|part| *part != "namespaces").skip(1);
        let about = path.next().filter(|_| path.next().is_some());
        self.namespaces.is_empty() || about.is_none_or(|about| self.namespaces.iter().any(|own| own == about))
    }
}

/// What patterns are matched against. Clients write an empty query in several ways; here it is none.
pub(super) fn path_and_query(uri: &Uri) -> String {
    match uri.query().map(|query| query.trim_matches('&')) {
        None | Some("") => uri.path().to_owned(),
        Some(query) => format!("{}?{query}", uri.path()),
    }
}

/// When it happens, as seen from the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It has not seen the request.
    BeforeSent,
    /// It has done what was asked and its answer is here; the client has nothing yet.
    Committed,
    /// The client has been answered; a watch when its answer has begun. Holding here holds all that comes after this request.
    Answered,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Nothing goes on until the fault is released or discarded. A request whose client died meanwhile still goes out
    /// when it is released, as a packet that was long on its way does.
    Hold,
    /// The connection breaks.
    Cut,
    /// This answer instead, as the API server phrases it.
    Answer(StatusCode),
}

/// A fault that is armed until this is dropped; then what it holds goes on.
#[must_use = "a fault is disarmed when this is dropped"]
pub struct Fault(pub(super) Arc<Armed>);

impl Fault {
    /// Waits until it has struck, which for [`Deed::Hold`] means: until the request stands still.
    pub async fn wait_until_hit(&self, deadline: Duration) {
        self.within(deadline, self.struck()).await;
    }

    /// The same without a deadline, for who waits for something else beside it.
    pub async fn struck(&self) {
        once(&self.0.hits).await;
    }

    /// Waits until a request that was held before it was sent, and released, has been answered by the API server.
    pub async fn wait_until_arrived(&self, deadline: Duration) {
        self.within(deadline, once(&self.0.arrivals)).await;
    }

    async fn within(&self, deadline: Duration, waiting: impl Future<Output = ()>) {
        let armed = &self.0;
        if tokio::time::timeout(deadline, waiting).await.is_err() {
            let what = format!("{:?} at {:?} of {}", armed.deed, armed.moment, armed.requests.pattern);
            panic!("not within {deadline:?}: {what}; {} requests matched", self.described());
        }
    }

    /// How often it has struck.
    pub fn hits(&self) -> usize {
        *self.0.hits.borrow()
    }

    /// How many requests were described so far.
    pub fn described(&self) -> usize {
        self.0.seen.lock().values().sum()
    }

    /// The same, by their kinds.
    pub fn kinds(&self) -> BTreeMap<Kind, usize> {
        self.0.seen.lock().clone()
    }

    /// Lets go of what it holds, and strikes no more.
    pub fn release(&self) {
        self.0.ends(Stands::Released);
    }

    /// Drops what it holds, and strikes no more: the connections break, and the API server never sees a request that was held
    /// before it was sent. After [`Moment::Answered`] that is all that comes over connections of before, also what the
    /// proxy has not read yet: whoever is dead has sent nothing since.
    pub fn discard(&self) {
        self.0.ends(Stands::Discarded(Instant::now()));
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        self.release();
    }
}

/// Waits until something has happened once.
async fn once(count: &watch::Sender<usize>) {
    // The sender is there as long as the fault.
    let _ = count.subscribe().wait_for(|count| *count > 0).await;
}

/// How a fault stands; it ends once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    Armed,
    Released,
    Discarded(Instant),
}

/// A fault as the proxy keeps it.
pub(super) struct Armed {
    pub(super) requests: Requests,
    pub(super) moment: Moment,
    pub(super) deed: Deed,
    seen: Mutex<BTreeMap<Kind, usize>>,
    hits: watch::Sender<usize>,
    arrivals: watch::Sender<usize>,
    stands: watch::Sender<Stands>,
}

impl Armed {
    pub(super) fn new(requests: Requests, moment: Moment, deed: Deed) -> Self {
        let (hits, arrivals) = (watch::Sender::new(0), watch::Sender::new(0));
        let stands = watch::Sender::new(Stands::Armed);
        Self { requests, moment, deed, seen: Mutex::default(), hits, arrivals, stands }
    }

    /// Is this request struck? Counts it if it is one of those described.
    pub(super) fn claims(&self, method: &Method, uri: &Uri) -> bool {
        if *self.stands.borrow() != Stands::Armed || !self.requests.describes(method, uri) {
            return false;
        }
        let mut seen = self.seen.lock();
        *seen.entry(Kind::of(method, uri)).or_default() += 1;
        let ordinal: usize = seen.values().sum();
        self.requests.nth.is_none_or(|nth| nth == ordinal)
    }

    /// Does everything have to pass here because a request that was to be the last one has been answered?
    pub(super) fn is_gate(&self) -> bool {
        self.moment == Moment::Answered
            && self.deed == Deed::Hold
            && *self.hits.borrow() > 0
            && !self.is_released()
    }

    pub(super) fn is_released(&self) -> bool {
        *self.stands.borrow() == Stands::Released
    }

    pub(super) fn hit(&self) {
        self.hits.send_modify(|count| *count += 1);
    }

    pub(super) fn arrived(&self) {
        self.arrivals.send_modify(|count| *count += 1);
    }

    /// Holds what came over a connection of `since` until that is decided about, and says whether it may go on.
    pub(super) async fn lets_pass(&self, since: Instant) -> bool {
        let mut stands = self.stands.subscribe();
        let decided = stands.wait_for(|stands| *stands != Stands::Armed).await;
        match decided.map(|stands| *stands) {
            Ok(Stands::Discarded(at)) => since > at,
            _ => true,
        }
    }

    fn ends(&self, as_what: Stands) {
        self.stands.send_if_modified(|stands| {
            let is_first = *stands == Stands::Armed;
            if is_first {
                *stands = as_what;
            }
            is_first
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_what_is_described_and_only_the_nth() {
        let armed = Armed::new(Requests::new(Method::POST, "/jobs$").nth(2), Moment::BeforeSent, Deed::Hold);
        let claims: Vec<_> = [
            (Method::POST, "/apis/batch/v1/namespaces/a/jobs"),
            (Method::GET, "/apis/batch/v1/namespaces/a/jobs"),
            (Method::POST, "/apis/batch/v1/namespaces/a/jobs?dryRun=All"),
            (Method::POST, "/apis/batch/v1/namespaces/b/jobs?&"),
            (Method::POST, "/apis/batch/v1/namespaces/c/jobs"),
        ]
        .into_iter()
        .map(|(method, uri)| armed.claims(&method, &Uri::from_static(uri)))
        .collect();
        assert_eq!(claims, [false, false, false, true, false]);
    }

    #[test]
    fn a_dropped_fault_strikes_no_more() {
        let armed = Arc::new(Armed::new(Requests::any("."), Moment::Answered, Deed::Hold));
        let fault = Fault(Arc::clone(&armed));
        let uri = Uri::from_static("/version");
        assert!(armed.claims(&Method::GET, &uri));
        armed.hit();
        assert!(armed.is_gate());
        drop(fault);
        assert!(!armed.claims(&Method::GET, &uri) && !armed.is_gate());
    }

    #[tokio::test]
    async fn what_is_discarded_stays_so() {
        let before = Instant::now();
        let armed = Arc::new(Armed::new(Requests::any("."), Moment::Answered, Deed::Hold));
        let fault = Fault(Arc::clone(&armed));
        fault.discard();
        drop(fault);
        assert!(!armed.claims(&Method::GET, &Uri::from_static("/version")));
        assert!(!armed.lets_pass(before).await, "it came over a connection of before");
        assert!(armed.lets_pass(Instant::now()).await);
    }
}
