//! Places for bodies, each from before it is read until it is answered: a bound of memory, and shares of it. Of a request
//! that is signed nobody knows who sent it before its body is there, so whoever shows no more than that shares a part with
//! his like, and no Webhook and no address has all of that.

use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::controller::receiver::network;

/// Bodies at a time, those of one Webhook, and those from one address (`network`): behind a proxy all senders are one.
const ALL: usize = 64;
const OF_WEBHOOK: usize = 32;
const OF_ADDRESS: usize = 48;
/// The same of those who have not proven themselves, and those from one address to one Webhook.
const UNPROVEN: usize = 32;
const UNPROVEN_OF_WEBHOOK: usize = 16;
const UNPROVEN_OF_ADDRESS: usize = 24;
const UNPROVEN_OF_BOTH: usize = 8;
/// How long one waits for its turn.
const TURN: Duration = Duration::from_secs(2);

/// Whose body it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Taker {
    /// Namespace and name of the Webhook.
    pub webhook: (String, String),
    /// Where the connection comes from.
    pub address: IpAddr,
    /// Whether he has proven himself already.
    pub is_proven: bool,
}

/// All places.
#[derive(Default)]
pub struct Places {
    taken: Mutex<Vec<Taker>>,
    freed: Notify,
}

/// A place that is taken.
pub struct Place<'a> {
    places: &'a Places,
    taker: Taker,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut held = self.places.taken.lock();
        if let Some(place) = held.iter().position(|other| *other == self.taker) {
            held.swap_remove(place);
        }
        drop(held);
        self.places.freed.notify_waiters();
    }
}

impl Places {
    /// A place, if there is one soon.
    pub async fn take(&self, taker: Taker) -> Option<Place<'_>> {
        let wait = async {
            loop {
                let mut freed = std::pin::pin!(self.freed.notified());
                // What is freed from now on is heard of.
                freed.as_mut().enable();
                if let Some(place) = self.try_take(&taker) {
                    return place;
                }
                freed.await;
            }
        };
        tokio::time::timeout(TURN, wait).await.ok()
    }

    fn try_take(&self, taker: &Taker) -> Option<Place<'_>> {
        let mut held = self.taken.lock();
        if !has_room(&held, taker) {
            return None;
        }
        held.push(taker.clone());
        Some(Place { places: self, taker: taker.clone() })
    }
}

fn has_room(held: &[Taker], taker: &Taker) -> bool {
    let of_webhook = |other: &&Taker| other.webhook == taker.webhook;
    let from = network(taker.address);
    let of_address = |other: &&Taker| network(other.address) == from;
    let all = held.len() < ALL
        && held.iter().filter(of_webhook).count() < OF_WEBHOOK
        && held.iter().filter(of_address).count() < OF_ADDRESS;
    let unproven = || held.iter().filter(|other| !other.is_proven);
    all && (taker.is_proven
        || unproven().count() < UNPROVEN
            && unproven().filter(of_webhook).count() < UNPROVEN_OF_WEBHOOK
            && unproven().filter(of_address).count() < UNPROVEN_OF_ADDRESS
            && unproven().filter(of_webhook).filter(of_address).count() < UNPROVEN_OF_BOTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taker(webhook: &str, host: u8, is_proven: bool) -> Taker {
        Taker { webhook: ("a".to_owned(), webhook.to_owned()), address: [127, 0, 0, host].into(), is_proven }
    }

    /// Takes as many places as there are, and says how many that were.
    fn fill<'p>(places: &'p Places, taken: &mut Vec<Place<'p>>, taker: &Taker) -> usize {
        let before = taken.len();
        taken.extend(std::iter::from_fn(|| places.try_take(taker)));
        taken.len() - before
    }

    #[test]
    fn nobody_has_all_places() {
        let (places, mut taken) = (Places::default(), Vec::new());
        let mut take = |webhook, host, proven| fill(&places, &mut taken, &taker(webhook, host, proven));
        assert_eq!([take("hub", 1, false), take("hub", 2, false), take("hub", 3, false)], [8, 8, 0]);
        assert_eq!([take("lab", 1, false), take("lab", 4, false), take("more", 5, false)], [8, 8, 0]);
        assert_eq!(take("am", 1, true), 32, "whoever has proven himself has the rest");
        assert_eq!(take("disks", 9, true), 0, "it is a bound of memory");
    }

    #[test]
    fn one_address_leaves_some_to_others() {
        let (places, mut taken) = (Places::default(), Vec::new());
        let mut take = |webhook, host| fill(&places, &mut taken, &taker(webhook, host, true));
        assert_eq!([take("am", 1), take("disks", 1), take("disks", 2)], [32, 16, 16]);
    }

    #[test]
    fn a_network_of_one_sender_is_one_address() {
        let (places, mut taken) = (Places::default(), Vec::new());
        let mut take = |address: &str| {
            let address = address.parse().expect("an address");
            fill(&places, &mut taken, &Taker { address, ..taker("hub", 1, false) })
        };
        assert_eq!([take("2001:db8::1"), take("2001:db8::2:1"), take("2001:db8:0:1::1")], [8, 0, 8]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_freed_is_given_to_whoever_waits() {
        let places = Places::default();
        let signed = taker("hub", 1, false);
        let mut taken = Vec::new();
        fill(&places, &mut taken, &signed);
        assert!(places.take(signed.clone()).await.is_none(), "not for ever");
        let (waited, ()) = tokio::join!(places.take(signed.clone()), async {
            tokio::task::yield_now().await;
            taken.pop();
        });
        assert!(waited.is_some());
    }
}
