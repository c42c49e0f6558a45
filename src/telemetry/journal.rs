//! How the journal stands, as metrics.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::metrics::{Counters, register};

/// What is counted and measured of the journal.
pub struct Journal {
    writes: Counters,
    bytes: Gauge,
    failing: Gauge,
}

impl Journal {
    pub(super) fn new(r: &mut Registry) -> Self {
        let failing = "Whether the journal cannot be written";
        Self {
            writes: register(
                r,
                "fother_journal_writes",
                "Entries for the journal, and what became of them",
                Family::default(),
            ),
            bytes: register(r, "fother_journal_bytes", "Size of the journal", Gauge::default()),
            failing: register(r, "fother_journal_failing", failing, Gauge::default()),
        }
    }

    /// It stands so: entries that were written, failed and were dropped since it is kept, and its size.
    pub fn stands(&self, entries: [u64; 3], bytes: u64, failing: bool) {
        for (result, count) in ["written", "failed", "dropped"].into_iter().zip(entries) {
            let counter = self.writes.get_or_create(&vec![("result", result.to_owned())]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.failing.set(i64::from(failing));
    }
}
