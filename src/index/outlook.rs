//! What a sealed part learns from its searches: at which radius it is in vain to look at clusters.
//!
//! Where codes have no structure nearly all clusters are within the radius of a search, and to find
//! that out takes some 5 % of a scan. It comes out the same from search to search, so after a few in a
//! row that gave up the next ones scan at once, and one of many looks again. Only the way to the answer
//! depends on it, never the answer.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::code::Width;

/// Searches in a row that gave up.
const ENOUGH: u32 = 16;
/// One of so many looks again.
const AGAIN: u32 = 256;

/// For each radius how many searches in a row gave up, or would have.
#[derive(Debug)]
pub(super) struct Outlook(Box<[AtomicU32]>);

impl Outlook {
    pub(super) fn new(width: Width) -> Self {
        Self((0..=width.bits()).map(|_| AtomicU32::new(0)).collect())
    }

    /// Whether a search that has come down to this radius should look at clusters.
    pub(super) fn is_open(&self, radius: u32) -> bool {
        let in_vain = &self.0[radius as usize];
        in_vain.load(Ordering::Relaxed) < ENOUGH
            || in_vain.fetch_add(1, Ordering::Relaxed).is_multiple_of(AGAIN)
    }

    /// Notes that one did, and whether it gave up.
    pub(super) fn note(&self, radius: u32, gave_up: bool) {
        let in_vain = &self.0[radius as usize];
        let before = in_vain.load(Ordering::Relaxed);
        if gave_up && before < ENOUGH {
            in_vain.fetch_add(1, Ordering::Relaxed);
        } else if !gave_up && before > 0 {
            in_vain.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_closes_after_some_in_a_row_and_one_of_many_opens_it_again() {
        let outlook = Outlook::new(Width::new(8).unwrap());
        for gave_up in [true; ENOUGH as usize - 1].into_iter().chain([false]) {
            assert!(outlook.is_open(8));
            outlook.note(8, gave_up);
        }
        for _ in 0..ENOUGH {
            assert!(outlook.is_open(8));
            outlook.note(8, true);
        }
        let opened = (0..10 * AGAIN).filter(|_| outlook.is_open(8)).count();
        assert_eq!(opened, 10, "and stays closed where that one gives up too");
        assert!(outlook.is_open(7), "each radius is on its own");
        outlook.note(8, false);
        assert!(outlook.is_open(8));
    }
}
