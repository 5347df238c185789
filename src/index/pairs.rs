//! All pairs of records that are near each other.
//!
//! The simplest true version compares each record with each other. This one asks the index for
//! the ball around each record's code: where codes come in clusters, that is far less work.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use rayon::prelude::*;

use super::search;
use super::snapshot::Snapshot;
use crate::numbers::Numbers;

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
    only: Option<&'a Numbers>,
    /// The records whose balls are still to be sought, oldest first.
    records: Box<dyn Iterator<Item = (u64, &'a [u64])> + Send + 'a>,
    /// How many of them to take next.
    take: usize,
    found: std::vec::IntoIter<Pair>,
}

impl<'a> Pairs<'a> {
    /// All pairs, or those of which both records are in a subset.
    fn new(snapshot: &'a Snapshot, radius: u32, only: Option<&'a Numbers>) -> Self {
        let wanted = move |number| only.is_none_or(|only| only.contains(number));
        let records = Box::new(snapshot.by_number().filter(move |&(number, _)| wanted(number)));
        Self { snapshot, radius, only, records, take: 1024, found: Vec::new().into_iter() }
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
            let Self { snapshot, radius, only, .. } = *self;
            let newer = |(older, code): (u64, &[u64])| {
                let ball = search::within(snapshot, code, radius, only).into_iter();
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

impl Snapshot {
    /// All pairs of records whose codes are at most `radius` bits apart, each once.
    ///
    /// They come by the number of the older record, then by distance, then by the number of the
    /// newer one. They are found as they are asked for, some thousand records at a time, on all
    /// cores, so few are in memory at once however many there are.
    pub fn pairs(&self, radius: u32) -> Pairs<'_> {
        Pairs::new(self, radius, None)
    }

    /// The groups of near-duplicates: records that chains of such pairs join, two or more a group.
    ///
    /// The groups come by the number of their oldest record, and their records oldest first.
    ///
    /// ```
    /// use nearbit::index::Index;
    /// use nearbit::{Codes, Width};
    ///
    /// let width = Width::new(8)?;
    /// let codes = Codes::from_bytes(width, &[0b0000_0000, 0b1111_1111, 0b0000_0001, 0b0000_0011])?;
    /// let index = Index::build(width, vec![5, 6, 7, 8], codes);
    /// assert_eq!(index.snapshot().groups(1), [[5, 7, 8]]);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn groups(&self, radius: u32) -> Vec<Vec<u64>> {
        groups(self, radius)
    }
}

/// The groups into which the pairs within `radius` join the records, each of two or more: by the
/// number of their oldest record, their records oldest first.
///
/// Of records that share a code the oldest stands for all: the others need no search.
fn groups(snapshot: &Snapshot, radius: u32) -> Vec<Vec<u64>> {
    let numbers: Vec<u64> = snapshot.by_number().map(|(number, _)| number).collect();
    let mut parents: Vec<usize> = (0..numbers.len()).collect();
    let mut oldest: HashMap<&[u64], usize> = HashMap::new();
    let mut only = Numbers::new();
    for (place, (number, code)) in snapshot.by_number().enumerate() {
        match oldest.entry(code) {
            Entry::Occupied(first) => parents[place] = *first.get(),
            Entry::Vacant(none) => {
                none.insert(place);
                only.insert(number);
            }
        }
    }
    drop(oldest);
    let place = |number: u64| numbers.partition_point(|&other| other < number);
    for pair in Pairs::new(snapshot, radius, Some(&only)) {
        let a = root(&mut parents, place(pair.older));
        let b = root(&mut parents, place(pair.newer));
        parents[a.max(b)] = a.min(b);
    }

    // A root is the oldest of its group, so it comes first.
    let mut groups: Vec<Vec<u64>> = vec![Vec::new(); numbers.len()];
    for (place, &number) in numbers.iter().enumerate() {
        groups[root(&mut parents, place)].push(number);
    }
    groups.retain(|group| group.len() > 1);
    groups
}

/// The place at which the group of a place is joined; the way to it is halved in passing.
fn root(parents: &mut [usize], mut place: usize) -> usize {
    while parents[place] != place {
        parents[place] = parents[parents[place]];
        place = parents[place];
    }
    place
}
