//! Connections at a time: a bound, and a share of it for each address, so that whoever opens all that he may and says nothing
//! shuts nobody out but who shares his address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::controller::receiver::network;

/// Connections at a time, and those from one address: behind a proxy all senders are one.
const ALL: usize = 1024;
const OF_ADDRESS: usize = ALL / 4;

/// All connections.
#[derive(Clone, Default)]
pub struct Doors {
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    all: usize,
    of: BTreeMap<IpAddr, usize>,
}

/// A connection that is let in, until it is dropped.
pub struct Door {
    held: Arc<Mutex<Held>>,
    address: IpAddr,
}

impl Doors {
    /// Lets a connection in, if there is room.
    pub fn open(&self, address: IpAddr) -> Option<Door> {
        let address = network(address);
        let mut held = self.held.lock();
        let of_it = held.of.get(&address).copied().unwrap_or_default();
        if held.all >= ALL || of_it >= OF_ADDRESS {
            return None;
        }
        held.all += 1;
        held.of.insert(address, of_it + 1);
        Some(Door { held: self.held.clone(), address })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let mut held = self.held.lock();
        held.all -= 1;
        match held.of.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(held.of.remove(&self.address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens as many as are let in, and says how many that were.
    fn fill(doors: &Doors, open: &mut Vec<Door>, address: &str) -> usize {
        let (before, address) = (open.len(), address.parse().expect("an address"));
        open.extend(std::iter::from_fn(|| doors.open(address)));
        open.len() - before
    }

    #[test]
    fn one_address_leaves_room_to_others() {
        let (doors, mut open) = (Doors::default(), Vec::new());
        assert_eq!(fill(&doors, &mut open, "192.0.2.1"), OF_ADDRESS);
        assert_eq!(fill(&doors, &mut open, "::ffff:192.0.2.1"), 0, "it is the same");
        assert_eq!(fill(&doors, &mut open, "2001:db8::1"), OF_ADDRESS);
        assert_eq!(fill(&doors, &mut open, "2001:db8::2:1"), 0, "it is in the same network");
        assert_eq!(fill(&doors, &mut open, "192.0.2.2"), OF_ADDRESS);
        assert_eq!(fill(&doors, &mut open, "192.0.2.3"), OF_ADDRESS);
        assert_eq!(fill(&doors, &mut open, "192.0.2.4"), 0, "it is a bound of memory");
        drop(open.remove(0));
        assert_eq!(fill(&doors, &mut open, "192.0.2.1"), 1, "what is over makes room");
        open.clear();
        assert!(doors.held.lock().of.is_empty());
    }
}
