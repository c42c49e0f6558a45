//! Where a program is killed: at each request of its way through a piece of work, and what becomes of the request.
//!
//! The way is walked a few times undisturbed first. What is asked every time has to be reached by a kill, if need be by
//! another attempt. What is asked only sometimes is tried less often and may be missed, and the test says what that is and why.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use parking_lot::Mutex;

use crate::support::proxy::{Deed, Fault, Kind, Moment, Proxy, Requests};

/// How often each kind of request was made.
pub type Counts = BTreeMap<Kind, usize>;

/// Attempts at what has to be reached: somebody may be faster, or have asked for something else first.
const ATTEMPTS: usize = 8;

/// What becomes of the request at which a program is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It never reaches the API server.
    NeverSent,
    /// It is long on its way, and arrives just before the next process asks for the same.
    Overtaking,
    /// It is long on its way, and arrives when the next process has done everything.
    Late,
    /// The API server has done it, and the answer is lost.
    Unanswered,
    /// It is answered, and nothing is sent after it.
    Answered,
}

impl Fate {
    /// Where the program is killed for it.
    pub fn moment(self) -> Moment {
        match self {
            Self::NeverSent | Self::Overtaking | Self::Late => Moment::BeforeSent,
            Self::Unanswered => Moment::Committed,
            Self::Answered => Moment::Answered,
        }
    }

    /// The program is dead: what that means for what `fault` holds. What comes later is held on.
    pub fn befalls(self, fault: &Fault) {
        match self {
            Self::NeverSent | Self::Answered | Self::Unanswered => fault.discard(),
            Self::Overtaking | Self::Late => {}
        }
    }
}

/// How sure a request is of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// Each walk had it; perhaps it is the last of those.
    Certain { is_last: bool },
    /// Some walk had it.
    ByChance,
}

/// The nth request of a kind, what becomes of it, and what of the first that the next process writes, which is killed there.
#[derive(Clone, Debug)]
pub struct Point {
    pub kind: Kind,
    nth: usize,
    pub fate: Fate,
    pub then: Option<Fate>,
    /// Whether each walk came there.
    certain: bool,
}

impl Point {
    /// Has the request stand still, of those about these namespaces and about none.
    pub fn arm(&self, proxy: &Proxy, namespaces: &[&str]) -> Fault {
        let requests = Requests::of(&self.kind).within(namespaces).nth(self.nth);
        proxy.arm(requests, self.fate.moment(), Deed::Hold)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let then = self.then.map(|fate| format!(", then {fate:?}")).unwrap_or_default();
        write!(f, "{} ({}, {:?}{then})", self.kind, self.nth, self.fate)
    }
}

/// Counts all that is asked from now on about these namespaces, and about none: others may have something left of other
/// tests.
pub fn count(proxy: &Proxy, namespaces: &[&str]) -> Fault {
    let requests = Requests::any(".").within(namespaces).nth(usize::MAX);
    proxy.arm(requests, Moment::BeforeSent, Deed::Hold)
}

/// The points that are still to be reached, for several who take one after the other.
pub struct Points {
    todo: Mutex<VecDeque<(Point, usize)>>,
    missed: Mutex<Vec<Point>>,
    planned: usize,
    /// Attempts at what need not be there at all.
    chances: usize,
}

impl Points {
    /// The points of what was counted on walks; what not each of them had is tried `chances` times. `fates` says what is to
    /// become of a request, at first and then.
    pub fn of(
        walks: &[Counts],
        chances: usize,
        fates: impl Fn(&Kind, Stands) -> Vec<(Fate, Option<Fate>)>,
    ) -> Self {
        let kinds: BTreeSet<_> = walks.iter().flat_map(BTreeMap::keys).collect();
        let mut points = Vec::new();
        for kind in kinds {
            let counts = || walks.iter().map(|walk| walk.get(kind).copied().unwrap_or_default());
            let (least, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
            for nth in 1..=most {
                let certain = nth <= least;
                let stands =
                    if certain { Stands::Certain { is_last: nth == least } } else { Stands::ByChance };
                let of_it = fates(kind, stands).into_iter();
                points.extend(of_it.map(|(fate, then)| Point {
                    kind: kind.clone(),
                    nth,
                    fate,
                    then,
                    certain,
                }));
            }
        }
        for walk in walks {
            let asked: Vec<_> = walk.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            println!("a walk asks {}", asked.join(", "));
        }
        let planned = points.len();
        let todo = points.into_iter().map(|point| (point, 0)).collect();
        Self { todo: Mutex::new(todo), missed: Mutex::default(), planned, chances }
    }

    /// Has `attempt` made at each that is left, until it says that it came there or has been made often enough. It is told how
    /// often it has been made.
    pub async fn each(&self, mut attempt: impl AsyncFnMut(&Point, usize) -> bool) {
        while let Some((point, attempts)) = { self.todo.lock().pop_front() } {
            let enough = if point.certain { ATTEMPTS } else { self.chances };
            match attempt(&point, attempts).await {
                true => {}
                false if attempts + 1 < enough => self.todo.lock().push_back((point, attempts + 1)),
                false => self.missed.lock().push(point),
            }
        }
    }

    /// Every point was reached, but for those that not each walk came to, of kinds that `may_be_missed` names.
    pub fn assert_reached(self, what: &str, may_be_missed: &[(&str, &str)]) {
        let missed = self.missed.into_inner();
        let names: Vec<_> = missed.iter().map(ToString::to_string).collect();
        println!(
            "{what}: killed at {} of {} points, not at {names:?}",
            self.planned - missed.len(),
            self.planned
        );
        assert!(self.planned > 0 && self.todo.into_inner().is_empty());
        assert!(missed.len() * 12 <= self.planned, "chance is not to decide about more than a twelfth");
        let is_excused = |point: &&Point| {
            !point.certain && may_be_missed.iter().any(|(kind, _)| *kind == point.kind.to_string())
        };
        let inexcusable: Vec<_> =
            missed.iter().filter(|point| !is_excused(point)).map(ToString::to_string).collect();
        assert!(inexcusable.is_empty(), "never reached: {inexcusable:#?}");
    }
}
