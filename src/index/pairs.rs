//! All pairs of records that are near each other.
//!
//! The simplest true version compares each record with each other. This one asks the index for
//! the ball around each record's code: where codes come in clusters, that is far less work.

use std::fmt;

use rayon::prelude::*;

use super::search;
use super::snapshot::Snapshot;

/// Records whose balls are sought at once, at most.
const MOST_RECORDS: usize = 16 * 1024;

/// Pairs to hold at once, about; the pairs of one record are found together, however many.
const PAIRS: usize = 256 * 1024;

/// Two records whose codes are near.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Pair {
    /// The number of the older record.
    pub older: u64,
    /// The Hamming distance of the two codes, in bits.
    pub distance: u32,
    /// The number of the newer record.
    pub newer: u64,
}

/// All pairs of records within a radius; made by [`Snapshot::pairs`].
///
/// ```
/// use nearbit::index::{Index, Pair};
/// use nearbit::{Codes, Width};
///
/// let width = Width::new(8)?;
/// let codes = Codes::from_bytes(width, &[0b1111_0000, 0b0000_1111, 0b1111_0001])?;
/// let index = Index::build(width, vec![7, 8, 9], codes);
/// let pairs: Vec<Pair> = index.snapshot().pairs(2).collect();
/// assert_eq!(pairs, [Pair { older: 7, distance: 1, newer: 9 }]);
/// # Ok::<(), nearbit::Error>(())
/// ```
pub struct Pairs<'a> {
    snapshot: &'a Snapshot,
    radius: u32,
    /// The records whose balls are still to be sought, oldest first.
    records: Box<dyn Iterator<Item = (u64, &'a [u64])> + Send + 'a>,
    /// How many of them to take next.
    take: usize,
    found: std::vec::IntoIter<Pair>,
}

impl<'a> Pairs<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, radius: u32) -> Self {
        let records = Box::new(snapshot.by_number());
        Self { snapshot, radius, records, take: 1024, found: Vec::new().into_iter() }
    }
}

impl Iterator for Pairs<'_> {
    type Item = Pair;

    fn next(&mut self) -> Option<Pair> {
        loop {
            if let Some(pair) = self.found.next() {
                return Some(pair);
            }
            let records: Vec<_> = self.records.by_ref().take(self.take).collect();
            if records.is_empty() {
                return None;
            }
            let (snapshot, radius) = (self.snapshot, self.radius);
            let newer = |(older, code): (u64, &[u64])| {
                let ball = search::within(snapshot, code, radius).into_iter();
                let newer = ball.filter(move |found| found.number > older);
                newer.map(move |found| Pair {
                    older,
                    distance: found.distance,
                    newer: found.number,
                })
            };
            let found: Vec<Pair> = records.par_iter().copied().flat_map_iter(newer).collect();
            self.take = (PAIRS * records.len() / found.len().max(1)).clamp(1, MOST_RECORDS);
            self.found = found.into_iter();
        }
    }
}

impl fmt::Debug for Pairs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pairs(within {})", self.radius)
    }
}
