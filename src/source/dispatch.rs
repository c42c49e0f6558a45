//! Who of a watch's subscribers is told what: each delivery is looked up once, and goes to those whom it concerns.
//!
//! *Guarantees*: to each subscriber it is as if it watched alone, with a selector that the server knows. It hears of
//! every object that concerns it; of one that does not any more it hears once that it has left; of a complete list it
//! gets its part, or nothing if it joined while that came. What it costs to deliver grows with those who are told, not with all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::watch::{Delivery, Page};

/// How often a subscriber that nothing concerns hears that the watch lives, where objects change all the time. A
/// bookmark comes once a minute and not from every server; after two minutes of silence a watch is taken for broken.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// What the subscribers of one watch want to hear of.
pub trait Interests: Default + Send + 'static {
    /// What one of them wants to hear of.
    type Interest;

    /// Takes in a subscriber.
    fn insert(&mut self, subscriber: u64, interest: Self::Interest);

    /// Forgets a subscriber, known or not.
    fn remove(&mut self, subscriber: u64);

    /// Those whom every object concerns.
    fn always(&self) -> &BTreeSet<u64>;

    /// The others whom an object concerns, each once, in ascending order.
    fn concerned(&self, object: &Value) -> Vec<u64>;
}

/// The subscribers of one watch.
pub struct Subscribers<I> {
    next: u64,
    senders: BTreeMap<u64, mpsc::Sender<Delivery>>,
    interests: I,
    told: Told,
    /// Who of them, the first so many, got the first page of the latest list.
    listed: u64,
    /// When all were last told something.
    all_told: Instant,
}

impl<I: Interests> Default for Subscribers<I> {
    fn default() -> Self {
        Self {
            next: 0,
            senders: BTreeMap::new(),
            interests: I::default(),
            told: Told::default(),
            listed: 0,
            all_told: Instant::now(),
        }
    }
}

impl<I: Interests> Subscribers<I> {
    /// Takes in a subscriber, and says what it is known by.
    pub fn add(&mut self, sender: mpsc::Sender<Delivery>, interest: I::Interest) -> u64 {
        self.next += 1;
        self.senders.insert(self.next, sender);
        self.interests.insert(self.next, interest);
        self.next
    }

    /// Forgets a subscriber.
    pub fn remove(&mut self, id: u64) {
        self.senders.remove(&id);
        self.interests.remove(id);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.senders.is_empty()
    }

    /// How many there are whom every object concerns.
    pub fn always(&self) -> usize {
        self.interests.always().len()
    }

    /// Hands a delivery to those whom it concerns. Who is too far behind loses the subscription and notices it.
    pub fn send(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Page(page) => self.page(&page),
            Delivery::Synced(_) => {
                for id in self.listed() {
                    self.tell(id, delivery.clone());
                }
                self.all_told = Instant::now();
            }
            Delivery::Added(object) => self.is(&object, Delivery::Added),
            Delivery::Changed(object) => self.is(&object, Delivery::Changed),
            Delivery::Left(object) | Delivery::Deleted(object) => {
                let before = self.told.set(&object, &[]);
                for id in before.iter() {
                    self.tell(*id, Delivery::Deleted(object.clone()));
                }
                self.tell_always(&Delivery::Deleted(object));
            }
            Delivery::Alive | Delivery::Missed | Delivery::Broken(_) => self.tell_all(&delivery),
        }
        if self.all_told.elapsed() >= SIGN_OF_LIFE {
            self.tell_all(&Delivery::Alive);
        }
    }

    /// Tells of an object that is there, and those whom it concerns no more of that.
    fn is(&mut self, object: &Arc<Value>, delivery: fn(Arc<Value>) -> Delivery) {
        let now = self.interests.concerned(object);
        let before = self.told.set(object, &now);
        for id in before.iter().filter(|id| now.binary_search(id).is_err()) {
            self.tell(*id, Delivery::Left(object.clone()));
        }
        for id in now {
            self.tell(id, delivery(object.clone()));
        }
        self.tell_always(&delivery(object.clone()));
    }

    /// Gives each its part of a page. Whoever joined since the list began would take what is left of it for all.
    fn page(&mut self, page: &Arc<Page>) {
        if page.first {
            (self.told, self.listed) = (Told::default(), self.next);
        }
        let mut parts = BTreeMap::<u64, Vec<Arc<Value>>>::new();
        for item in &page.items {
            let concerned = self.interests.concerned(item);
            for id in &concerned {
                parts.entry(*id).or_default().push(item.clone());
            }
            self.told.set(item, &concerned);
        }
        for id in self.listed() {
            if self.interests.always().contains(&id) {
                self.tell(id, Delivery::Page(page.clone()));
                continue;
            }
            let part = parts.remove(&id).unwrap_or_default();
            if page.first || !part.is_empty() {
                self.tell(id, Delivery::Page(Arc::new(page.part(part))));
            }
        }
    }

    fn tell_all(&mut self, delivery: &Delivery) {
        for id in self.ids() {
            self.tell(id, delivery.clone());
        }
        self.all_told = Instant::now();
    }

    fn tell_always(&mut self, delivery: &Delivery) {
        let always: Vec<_> = self.interests.always().iter().copied().collect();
        for id in always {
            self.tell(id, delivery.clone());
        }
    }

    fn tell(&mut self, id: u64, delivery: Delivery) {
        if self.senders.get(&id).is_some_and(|sender| sender.try_send(delivery).is_err()) {
            self.remove(id);
        }
    }

    fn listed(&self) -> Vec<u64> {
        self.senders.range(..=self.listed).map(|(id, _)| *id).collect()
    }

    fn ids(&self) -> Vec<u64> {
        self.senders.keys().copied().collect()
    }
}

/// Whom each object went to last, without those to whom everything goes.
#[derive(Default)]
struct Told {
    objects: BTreeMap<Box<str>, Arc<[u64]>>,
    /// The same few subscribers are told of many objects: each group of them is kept once.
    groups: BTreeSet<Arc<[u64]>>,
}

impl Told {
    /// An object goes to these; says whom it went to before.
    fn set(&mut self, object: &Value, to: &[u64]) -> Arc<[u64]> {
        let key = key_of(object);
        let before = if to.is_empty() {
            self.objects.remove(&*key)
        } else {
            let group = self.group(to);
            self.objects.insert(key, group)
        };
        let before = before.unwrap_or_default();
        // Held here and among the groups, and by no object.
        if Arc::strong_count(&before) == 2 {
            self.groups.remove(&before);
        }
        before
    }

    fn group(&mut self, of: &[u64]) -> Arc<[u64]> {
        if let Some(known) = self.groups.get(of) {
            return known.clone();
        }
        let group = Arc::<[u64]>::from(of);
        self.groups.insert(group.clone());
        group
    }
}

/// Namespace and name. No namespace has a slash in it, and no name.
fn key_of(object: &Value) -> Box<str> {
    let field = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
    format!("{}/{}", field("namespace"), field("name")).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::watch::Synced;
    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;
    use tokio::sync::mpsc::error::TryRecvError;

    /// Each wants objects of one color, or all.
    #[derive(Default)]
    struct Colors {
        wanted: BTreeMap<u64, &'static str>,
        always: BTreeSet<u64>,
    }

    impl Interests for Colors {
        type Interest = Option<&'static str>;

        fn insert(&mut self, subscriber: u64, interest: Self::Interest) {
            match interest {
                Some(color) => self.wanted.insert(subscriber, color).is_none(),
                None => self.always.insert(subscriber),
            };
        }

        fn remove(&mut self, subscriber: u64) {
            self.wanted.remove(&subscriber);
            self.always.remove(&subscriber);
        }

        fn always(&self) -> &BTreeSet<u64> {
            &self.always
        }

        fn concerned(&self, object: &Value) -> Vec<u64> {
            let wants = |color: &&str| object["color"] == **color;
            self.wanted.iter().filter(|(_, color)| wants(color)).map(|(id, _)| *id).collect()
        }
    }

    fn object(name: &str, color: &str) -> Arc<Value> {
        Arc::new(json!({"metadata": {"namespace": "a", "name": name}, "color": color}))
    }

    fn page(first: bool, items: Vec<Arc<Value>>) -> Delivery {
        Delivery::Page(Arc::new(Page::new(first, items).0))
    }

    fn synced() -> Delivery {
        Delivery::Synced(Synced { asked: Timestamp::UNIX_EPOCH, version: "7".into() })
    }

    /// What has come, as text.
    fn heard(receiver: &mut mpsc::Receiver<Delivery>) -> Vec<String> {
        let name = |object: &Value| object["metadata"]["name"].as_str().expect("a name").to_owned();
        let text = |delivery| match delivery {
            Delivery::Page(page) => {
                let names: Vec<_> = page.items.iter().map(|item| name(item)).collect();
                format!("{} {}", if page.first { "first" } else { "then" }, names.join(","))
            }
            Delivery::Synced(synced) => format!("all at {}", synced.version),
            Delivery::Added(object) => format!("new {}", name(&object)),
            Delivery::Changed(object) => format!("is {}", name(&object)),
            Delivery::Left(object) => format!("not {}", name(&object)),
            Delivery::Deleted(object) => format!("no {}", name(&object)),
            Delivery::Alive => "alive".to_owned(),
            Delivery::Missed => "missed".to_owned(),
            Delivery::Broken(error) => error,
        };
        std::iter::from_fn(|| receiver.try_recv().ok()).map(text).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn each_hears_of_what_concerns_it_and_of_what_does_not_any_more() {
        let mut subscribers = Subscribers::<Colors>::default();
        let mut join = |interest| {
            let (sender, receiver) = mpsc::channel(100);
            subscribers.add(sender, interest);
            receiver
        };
        let (mut red, mut blue, mut all) = (join(Some("red")), join(Some("blue")), join(None));
        subscribers.send(page(true, vec![object("p", "red"), object("r", "green")]));
        subscribers.send(page(false, vec![object("q", "blue")]));
        subscribers.send(synced());
        for change in [object("p", "red"), object("p", "blue"), object("r", "green")] {
            subscribers.send(Delivery::Changed(change));
        }
        subscribers.send(Delivery::Added(object("s", "red")));
        subscribers.send(Delivery::Deleted(object("p", "blue")));
        subscribers.send(page(true, Vec::new()));
        subscribers.send(synced());
        subscribers.send(Delivery::Changed(object("s", "blue")));
        let none = ["first ", "all at 7"];
        assert_eq!(heard(&mut red), [&["first p", "all at 7", "is p", "not p", "new s"][..], &none].concat());
        assert_eq!(
            heard(&mut blue),
            [&["first ", "then q", "all at 7", "is p", "no p"][..], &none, &["is s"]].concat()
        );
        let changes = ["is p", "is p", "is r", "new s", "no p"];
        assert_eq!(
            heard(&mut all),
            [&["first p,r", "then q", "all at 7"][..], &changes, &none, &["is s"]].concat()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_joins_during_a_list_gets_the_next_one() {
        let mut subscribers = Subscribers::<Colors>::default();
        let mut receivers = Vec::new();
        for number in 0..3u8 {
            for interest in [Some("red"), None] {
                let (sender, receiver) = mpsc::channel(100);
                subscribers.add(sender, interest);
                receivers.push(receiver);
            }
            subscribers.send(page(number != 1, vec![object("p", "red")]));
        }
        subscribers.send(synced());
        let heard: Vec<_> = receivers.iter_mut().map(heard).collect();
        for old in &heard[..2] {
            assert_eq!(*old, ["first p", "then p", "first p", "all at 7"]);
        }
        for new in &heard[2..] {
            assert_eq!(*new, ["first p", "all at 7"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_is_done_with_when_all_have_dropped_their_parts() {
        let mut subscribers = Subscribers::<Colors>::default();
        let mut receivers = Vec::new();
        for interest in [Some("red"), Some("blue"), None] {
            let (sender, receiver) = mpsc::channel(100);
            subscribers.add(sender, interest);
            receivers.push(receiver);
        }
        let (page, mut dropped) = Page::new(true, vec![object("p", "red")]);
        subscribers.send(Delivery::Page(Arc::new(page)));
        for receiver in &mut receivers {
            let part = receiver.recv().await;
            assert!(part.is_some() && dropped.try_recv() == Err(TryRecvError::Empty), "it is held");
            drop(part);
        }
        assert_eq!(dropped.try_recv(), Err(TryRecvError::Disconnected));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_nothing_concerns_hears_that_the_watch_lives() {
        let mut subscribers = Subscribers::<Colors>::default();
        let (sender, mut red) = mpsc::channel(100);
        subscribers.add(sender, Some("red"));
        for _ in 0..12 {
            subscribers.send(Delivery::Changed(object("p", "blue")));
            tokio::time::advance(Duration::from_secs(5)).await;
        }
        subscribers.send(Delivery::Broken("broken".into()));
        assert_eq!(heard(&mut red), ["alive", "alive", "alive", "alive", "alive", "broken"]);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_too_far_behind_is_forgotten() {
        let mut subscribers = Subscribers::<Colors>::default();
        let (sender, mut red) = mpsc::channel(1);
        subscribers.add(sender, Some("red"));
        for _ in 0..2 {
            subscribers.send(Delivery::Changed(object("p", "red")));
        }
        assert!(subscribers.is_empty() && subscribers.interests.wanted.is_empty());
        assert_eq!(red.recv().await.map(|_| ()), Some(()));
        assert!(red.recv().await.is_none(), "so it notices");
    }

    #[test]
    fn a_group_of_subscribers_is_kept_once_and_no_longer_than_it_is_needed() {
        let mut told = Told::default();
        for name in ["p", "q"] {
            told.set(&object(name, ""), &[1, 2]);
        }
        assert_eq!((told.objects.len(), told.groups.len()), (2, 1));
        assert_eq!(*told.set(&object("p", ""), &[3]), [1, 2]);
        assert_eq!(*told.set(&object("p", ""), &[3]), [3]);
        assert_eq!(told.groups.len(), 2);
        for name in ["p", "q", "q"] {
            told.set(&object(name, ""), &[]);
        }
        assert!(told.objects.is_empty() && told.groups.is_empty());
    }
}
