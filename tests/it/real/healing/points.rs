//! Where a program is killed: at each request of its way through a piece of work, at each moment of it.
//!
//! The way is walked a few times undisturbed first. What is asked every time has to be reached by a kill, if need be by
//! another attempt. What is asked only sometimes may be missed, all but its first, and the test says what that is and why: a
//! few walks do not show how seldom, and each attempt that did not come there was one more walk without.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use parking_lot::Mutex;

use crate::support::proxy::{Deed, Fault, Kind, Moment, Proxy, Requests};

/// How often each kind of request was made.
pub type Counts = BTreeMap<Kind, usize>;

/// Attempts at what has to be reached: somebody may be faster, or have asked for something else first. At what need not be
/// there at all it is one.
const ATTEMPTS: usize = 8;

/// The nth request of a kind, at a moment.
#[derive(Clone, Debug)]
pub struct Point {
    pub kind: Kind,
    nth: usize,
    moment: Moment,
    /// Whether it is on the way only when something is not as it was the last time.
    pub anew: bool,
    /// Whether each walk came there.
    certain: bool,
}

impl Point {
    /// Has the request stand still.
    pub fn arm(&self, proxy: &Proxy) -> Fault {
        proxy.arm(Requests::of(&self.kind).nth(self.nth), self.moment, Deed::Hold)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let anew = if self.anew { ", anew" } else { "" };
        write!(f, "{} ({}, {:?}{anew})", self.kind, self.nth, self.moment)
    }
}

/// Counts all that is asked from now on.
pub fn count(proxy: &Proxy) -> Fault {
    proxy.arm(Requests::any(".").nth(usize::MAX), Moment::BeforeSent, Deed::Hold)
}

/// The points that are still to be reached, for several who take one after the other.
pub struct Points {
    todo: Mutex<VecDeque<(Point, usize)>>,
    missed: Mutex<Vec<Point>>,
    planned: usize,
}

impl Points {
    /// The points of what was counted on walks as `usual`, and of what comes on top of it on walks `anew`.
    pub fn of(usual: &[Counts], anew: &[Counts], wanted: impl Fn(&Kind) -> bool) -> Self {
        let (on_usual, on_anew) = (bounds(usual), bounds(anew));
        let kinds: BTreeSet<_> = on_usual.keys().chain(on_anew.keys()).filter(|kind| wanted(kind)).collect();
        let mut points = Vec::new();
        for kind in kinds {
            let (usual, anew) = (bound(&on_usual, kind), bound(&on_anew, kind));
            let certain = usual.least.max(anew.least);
            for nth in 1..=usual.most.max(anew.most) {
                let is_certain = nth <= certain;
                let is_anew = nth > if is_certain { usual.least } else { usual.most };
                points.extend(moments(kind, nth == certain.max(1)).iter().map(|&moment| Point {
                    kind: kind.clone(),
                    nth,
                    moment,
                    anew: is_anew,
                    certain: is_certain,
                }));
            }
        }
        for walk in usual.iter().chain(anew) {
            let asked: Vec<_> = walk.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            println!("a walk asks {}", asked.join(", "));
        }
        let planned = points.len();
        let todo = points.into_iter().map(|point| (point, 0)).collect();
        Self { todo: Mutex::new(todo), missed: Mutex::default(), planned }
    }

    /// All but those at one moment.
    pub fn except(mut self, moment: Moment) -> Self {
        let todo = self.todo.get_mut();
        todo.retain(|(point, _)| point.moment != moment);
        self.planned = todo.len();
        self
    }

    /// Has `attempt` made at each that is left, until it says that it came there or has been made often enough.
    pub async fn each(&self, mut attempt: impl AsyncFnMut(&Point) -> bool) {
        while let Some((point, attempts)) = { self.todo.lock().pop_front() } {
            let enough = if point.certain { ATTEMPTS } else { 1 };
            match attempt(&point).await {
                true => {}
                false if attempts + 1 < enough => self.todo.lock().push_back((point, attempts + 1)),
                false => self.missed.lock().push(point),
            }
        }
    }

    /// Every point was reached, but for those of kinds that `may_be_missed` names; their first, if each walk came there.
    pub fn assert_reached(self, may_be_missed: &[(&str, &str)]) {
        let missed = self.missed.into_inner();
        let names: Vec<_> = missed.iter().map(ToString::to_string).collect();
        println!("killed at {} of {} points, not at {names:?}", self.planned - missed.len(), self.planned);
        assert!(self.planned > 0 && self.todo.into_inner().is_empty());
        assert!(missed.len() * 8 <= self.planned, "chance is not to decide about more than an eighth");
        let is_excused = |point: &&Point| {
            let named = may_be_missed.iter().any(|(kind, _)| *kind == point.kind.to_string());
            named && !(point.certain && point.nth == 1)
        };
        let inexcusable: Vec<_> =
            missed.iter().filter(|point| !is_excused(point)).map(ToString::to_string).collect();
        assert!(inexcusable.is_empty(), "never reached: {inexcusable:#?}");
    }
}

/// How often something was asked on all walks, at the least and at the most.
#[derive(Clone, Copy, Default)]
struct Bound {
    least: usize,
    most: usize,
}

fn bounds(walks: &[Counts]) -> BTreeMap<Kind, Bound> {
    let kinds = walks.iter().flat_map(BTreeMap::keys);
    let of = |kind: &Kind| {
        walks.iter().map(|walk| walk.get(kind).copied().unwrap_or_default()).collect::<Vec<_>>()
    };
    kinds
        .map(|kind| {
            let counts = of(kind);
            let (least, most) = (counts.iter().min(), counts.iter().max());
            (kind.clone(), Bound { least: *least.unwrap_or(&0), most: *most.unwrap_or(&0) })
        })
        .collect()
}

fn bound(bounds: &BTreeMap<Kind, Bound>, kind: &Kind) -> Bound {
    bounds.get(kind).copied().unwrap_or_default()
}

/// What can happen to a request. One that only asks commits nothing; right after its answer everything is as it is right
/// before the next request, so that after an answer one kill a kind is enough. A watch that is open goes on.
fn moments(kind: &Kind, is_last: bool) -> &'static [Moment] {
    match (kind.verb(), is_last) {
        ("watch", _) => &[Moment::BeforeSent],
        (_, false) if kind.is_read() => &[Moment::BeforeSent],
        (_, true) if kind.is_read() => &[Moment::BeforeSent, Moment::Answered],
        _ => &[Moment::BeforeSent, Moment::Committed, Moment::Answered],
    }
}
