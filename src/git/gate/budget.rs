//! What a server may send, over all its answers: a bound on each alone would let it send as many as there are requests.

use parking_lot::Mutex;

use super::Trouble;

/// Bytes that may still come through a gate.
pub(super) struct Budget {
    /// With how many it began.
    total: u64,
    /// How many are left.
    left: Mutex<u64>,
}

impl Budget {
    /// So many bytes for all answers together.
    pub(super) fn new(total: u64) -> Self {
        Self { total, left: Mutex::new(total) }
    }

    /// Takes so many bytes. Where fewer are left it is used up: nothing smaller gets through afterwards.
    pub(super) fn take(&self, bytes: usize) -> Result<(), Trouble> {
        let mut left = self.left.lock();
        let rest = left.checked_sub(bytes as u64);
        *left = rest.unwrap_or(0);
        rest.map(|_| ()).ok_or(Trouble::TooLarge(self.total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_all_answers_and_stays_used_up() {
        let budget = Budget::new(10);
        assert_eq!(budget.take(6), Ok(()));
        assert_eq!(budget.take(4), Ok(()), "the last byte may be used");
        assert_eq!(budget.take(1), Err(Trouble::TooLarge(10)));

        let budget = Budget::new(10);
        assert_eq!(budget.take(6), Ok(()));
        assert_eq!(budget.take(5), Err(Trouble::TooLarge(10)));
        assert_eq!(budget.take(1), Err(Trouble::TooLarge(10)), "what was left is gone");
    }
}
