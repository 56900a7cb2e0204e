//! How many requests may be asked once more.
//!
//! Where all servers are slow because there is too much to do, asking again makes it worse. So
//! tries are paid for: each request earns a share of one, and what was earned is kept up to a small
//! reserve.

use std::sync::atomic::{AtomicU64, Ordering};

/// Tries that are there at the start, and the most that are kept.
const RESERVE: u64 = 10;
/// Parts of a try.
const PARTS: u64 = 1000;

/// Tries that are left.
#[derive(Debug)]
pub(super) struct Budget {
    parts: AtomicU64,
    per_request: u64,
}

impl Budget {
    /// A budget to which each request adds so many thousandths of a try.
    pub(super) fn new(per_1000: u32) -> Self {
        Self { parts: AtomicU64::new(RESERVE * PARTS), per_request: per_1000.into() }
    }

    /// A request came.
    pub(super) fn earn(&self) {
        let more = |parts: u64| Some((parts + self.per_request).min(RESERVE * PARTS));
        let _ = self.parts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Whether there is a try left.
    pub(super) fn is_left(&self) -> bool {
        self.parts.load(Ordering::Relaxed) >= PARTS
    }

    /// Takes a try, if one is left.
    pub(super) fn take(&self) -> bool {
        let less = |parts: u64| parts.checked_sub(PARTS);
        self.parts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_a_share_of_the_requests_and_a_reserve() {
        let budget = Budget::new(100);
        let taken = (0..1000).filter(|_| {
            budget.earn();
            budget.take()
        });
        assert_eq!(taken.count(), 10 + 99, "the reserve, and a tenth of what came after");
        (0..1000).for_each(|_| budget.earn());
        assert_eq!((0..100).filter(|_| budget.take()).count(), 10, "no more than that is kept");
        assert!(!budget.is_left());
    }
}
