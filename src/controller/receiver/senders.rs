//! How many requests an address has had answered in this minute. An address is what the connection comes from, or its
//! network (`origin`): behind a proxy all senders are one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Key, network};

const WINDOW: Duration = Duration::from_secs(60);
/// Senders that are counted; more than so many authenticated ones in a minute are asked to come back.
const SENDERS: usize = 10_000;

/// Requests by Webhook and address, with the beginning of their minute.
#[derive(Default)]
pub(super) struct Senders {
    counts: Mutex<HashMap<(Key, IpAddr), (Instant, u32)>>,
}

impl Senders {
    /// Counts a request, and says whether it is one too many.
    pub(super) fn is_too_much(&self, webhook: Key, sender: IpAddr, limit: u32, now: Instant) -> bool {
        let mut counts = self.counts.lock();
        let over = |began: Instant| now.duration_since(began) >= WINDOW;
        if counts.len() >= SENDERS {
            counts.retain(|_, (began, _)| !over(*began));
        }
        let is_full = counts.len() >= SENDERS;
        let key = (webhook, network(sender));
        if is_full && !counts.contains_key(&key) {
            return true;
        }
        let (began, count) = counts.entry(key).or_insert((now, 0));
        if over(*began) {
            (*began, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count > limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_room_for_so_many() {
        let (senders, start) = (Senders::default(), Instant::now());
        let too_much = |host: u8, seconds: u64| {
            let key = ("a".to_owned(), "w".to_owned());
            senders.is_too_much(key, [127, 0, 0, host].into(), 2, start + Duration::from_secs(seconds))
        };
        assert_eq!(
            [too_much(1, 0), too_much(1, 1), too_much(1, 59), too_much(2, 59)],
            [false, false, true, false]
        );
        assert!(!too_much(1, 60), "a new minute");
    }

    #[test]
    fn who_has_a_network_has_no_more_than_others() {
        let (senders, now) = (Senders::default(), Instant::now());
        let too_much = |address: &str| {
            let address = address.parse().expect("an address");
            senders.is_too_much(("a".to_owned(), "w".to_owned()), address, 1, now)
        };
        assert_eq!(
            [too_much("2001:db8::1"), too_much("2001:db8::2"), too_much("2001:db8:0:1::1")],
            [false, true, false]
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (senders, start) = (Senders::default(), Instant::now());
        let ask = |host: u32, seconds| {
            let address = IpAddr::from(host.to_be_bytes());
            senders.is_too_much(("a".into(), "w".into()), address, 5, start + Duration::from_secs(seconds))
        };
        let many = u32::try_from(SENDERS).expect("fits");
        assert!((0..many).all(|host| !ask(host, 0)));
        assert!(ask(many, 1) && !ask(0, 1), "no room for another");
        assert!(!ask(many, 61), "room again");
    }
}
