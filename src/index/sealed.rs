//! The sealed part: codes in clusters, each with the records that share it, and never changed.
//!
//! Each code stands once, so codes that are equal cost nothing. They stand one behind the other, so a
//! scan reads them straight through; and their order, see `clusters`, makes that a search need not:
//! `centres` says which rings it can leave out. From a record's *age*, which stands for its number, see
//! `ages`, there is a way back to the row of its code.

use std::sync::Arc;

use rayon::prelude::*;

use super::ages::Ages;
use super::centres::Centres;
use super::clusters::Clusters;
use super::entries::Entries;
use super::gather::gather;
use super::kernel::{Kernel, Span};
use super::outlook::Outlook;
use super::tombstones::Tombstones;
use crate::code::Width;

/// Parts that are put together at once for each thread: parts are not equally large.
const PARTS: usize = 4;

/// The row of an age that no record has.
const NOBODY: u32 = u32::MAX;

pub(super) struct Sealed {
    width: Width,
    centres: Arc<Centres>,
    clusters: Clusters,
    /// One for each age: the row of its code, or `NOBODY`.
    rows: Vec<u32>,
    ages: Ages,
    records: usize,
    outlook: Outlook,
}

impl Sealed {
    /// Sorts the codes into clusters and buckets, on all cores. Record `numbers[i]` has row `i` of
    /// `rows`, whose shape is (numbers, words).
    ///
    /// # Panics
    /// Where there are 2^30 records or more: a place in `shared` has 31 bits.
    pub(super) fn build(width: Width, numbers: &[u64], rows: &[u64]) -> Self {
        let centres = Centres::choose(Kernel::detect(), width.words(), rows);
        Self::arrange(width, Arc::new(centres), numbers, rows)
    }

    fn arrange(width: Width, centres: Arc<Centres>, numbers: &[u64], rows: &[u64]) -> Self {
        let ages = Ages::new(numbers);
        let entries = Entries::sort(&centres, rows);
        let clusters = put_together(&centres, numbers.len(), |cluster| {
            let age = |index: u32| ages.nth(index, numbers[index as usize]);
            let records = entries.cluster(cluster);
            records.map(move |(ring, code, index)| (ring, code, age(index)))
        });
        Self::finish(width, centres, clusters, ages, numbers.len())
    }

    /// The same without the dead and with more records, younger than all: around the same centres,
    /// so that only the new ones have to be sorted. None where the centres would be too few or too
    /// many for so many records.
    pub(super) fn merge(&self, dead: &Tombstones, numbers: &[u64], rows: &[u64]) -> Option<Self> {
        let live = |&age: &u32| !dead.contains(age as usize);
        let kept: Vec<u32> = self.by_age().map(|(age, _)| age).filter(live).collect();
        let all: Vec<u64> =
            kept.iter().map(|&age| self.number(age)).chain(numbers.iter().copied()).collect();
        if !self.centres.suit(all.len()) {
            return None;
        }
        let ages = Ages::new(&all);
        let mut renewed = vec![0; self.ages.end()];
        for (place, &age) in (0..).zip(&kept) {
            renewed[age as usize] = ages.nth(place, all[place as usize]);
        }
        let younger = |index: u32| ages.nth(kept.len() as u32 + index, numbers[index as usize]);

        let entries = Entries::sort(&self.centres, rows);
        let clusters = put_together(&self.centres, all.len(), |cluster| {
            let old = self.clusters.records(cluster).filter(|(.., age)| live(age));
            let mut old =
                old.map(|(ring, code, age)| (ring, code, renewed[age as usize])).peekable();
            let new = entries.cluster(cluster);
            let mut new = new.map(|(ring, code, index)| (ring, code, younger(index))).peekable();
            std::iter::from_fn(move || {
                match (old.peek(), new.peek()) {
                    (Some(old), Some(new)) if (new.0, new.1) < (old.0, old.1) => None,
                    (Some(_), _) => old.next(),
                    (None, _) => None,
                }
                .or_else(|| new.next())
            })
        });
        Some(Self::finish(self.width, self.centres.clone(), clusters, ages, all.len()))
    }

    fn finish(
        width: Width,
        centres: Arc<Centres>,
        clusters: Clusters,
        ages: Ages,
        records: usize,
    ) -> Self {
        let mut rows = vec![NOBODY; ages.end()];
        let part = rows.len().div_ceil(rayon::current_num_threads()).max(1);
        // Each thread goes through all rows, and keeps those of some ages.
        rows.par_chunks_mut(part).enumerate().for_each(|(i, rows)| {
            for row in clusters.span().start..clusters.span().end {
                for &age in clusters.bucket(row) {
                    if let Some(place) = rows.get_mut((age as usize).wrapping_sub(i * part)) {
                        *place = row;
                    }
                }
            }
        });
        Self { width, centres, clusters, rows, ages, records, outlook: Outlook::new(width) }
    }

    /// The number of records, dead ones included.
    pub(super) fn len(&self) -> usize {
        self.records
    }

    /// The width of the codes.
    pub(super) fn width(&self) -> Width {
        self.width
    }

    /// Each code once: shape (codes, words).
    pub(super) fn codes(&self) -> &[u64] {
        self.clusters.codes()
    }

    /// The rows of `codes()`.
    pub(super) fn span(&self) -> Span {
        self.clusters.span()
    }

    /// The centres of the clusters, and which cluster is a code's.
    pub(super) fn centres(&self) -> &Centres {
        &self.centres
    }

    /// What searches of it taught.
    pub(super) fn outlook(&self) -> &Outlook {
        &self.outlook
    }

    /// How far the farthest code of each cluster is from its centre.
    pub(super) fn reaches(&self) -> &[u16] {
        self.clusters.reaches()
    }

    /// The codes of a cluster that can be within `radius` of a code that is `distance` from its
    /// centre and `nearest` from the nearest centre.
    #[inline]
    pub(super) fn rings(&self, cluster: u32, distance: u32, nearest: u32, radius: u32) -> Span {
        let first = distance.saturating_sub(radius);
        self.clusters.rings(cluster, first, nearest.saturating_add(radius))
    }

    /// Asks the memory for what `rings` needs.
    #[inline]
    pub(super) fn fetch_rings(&self, cluster: u32, distance: u32, radius: u32) {
        self.clusters.fetch_rings(cluster, distance.saturating_sub(radius));
    }

    /// The first row of a cluster, or of those behind it where it is empty.
    pub(super) fn cluster_start(&self, cluster: u32) -> u32 {
        self.clusters.start(cluster)
    }

    /// Asks the memory for the bucket of a row.
    #[inline]
    pub(super) fn fetch_bucket(&self, row: u32) {
        self.clusters.fetch_bucket(row);
    }

    /// The ages of the records that share the code of row `row`, oldest first.
    #[inline]
    pub(super) fn bucket(&self, row: u32) -> &[u32] {
        self.clusters.bucket(row)
    }

    /// One more than the highest age.
    #[inline]
    pub(super) fn ages_end(&self) -> usize {
        self.ages.end()
    }

    /// The record number of an age.
    #[inline]
    pub(super) fn number(&self, age: u32) -> u64 {
        self.ages.number(age)
    }

    /// The age of a record number, if it is here.
    pub(super) fn age(&self, number: u64) -> Option<u32> {
        self.ages.age(number).filter(|&age| self.row(age).is_some())
    }

    /// The row of the code of an age's record, if there is one.
    #[inline]
    pub(super) fn row(&self, age: u32) -> Option<u32> {
        Some(self.rows[age as usize]).filter(|&row| row != NOBODY)
    }

    /// The code of a row.
    pub(super) fn code(&self, row: u32) -> &[u64] {
        self.clusters.code(row)
    }

    /// Fills `codes` with those of some rows.
    pub(super) fn gather(&self, rows: &[u32], codes: &mut Vec<u64>) {
        gather(self.codes(), self.width.words(), rows.iter().copied(), codes);
    }

    /// Each code with its bucket, in the order of the codes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u64], &[u32])> {
        let buckets = (0..).map(|row| self.bucket(row));
        self.codes().chunks_exact(self.width.words()).zip(buckets)
    }

    /// Each age that is somebody's with its code, oldest first.
    pub(super) fn by_age(&self) -> impl Iterator<Item = (u32, &[u64])> {
        let ages = (0..self.ages.end() as u32).filter_map(|age| Some((age, self.row(age)?)));
        ages.map(|(age, row)| (age, self.code(row)))
    }

    /// Those of some ascending numbers that are here: age and row.
    pub(super) fn rows_of(
        &self,
        numbers: impl Iterator<Item = u64>,
    ) -> impl Iterator<Item = (u32, u32)> {
        self.ages.ages_of(numbers).filter_map(|age| Some((age, self.row(age)?)))
    }

    /// The bytes of the codes.
    pub(super) fn code_memory(&self) -> usize {
        self.clusters.code_memory()
    }

    /// The bytes of the record numbers, with the way to them from a code and back.
    pub(super) fn number_memory(&self) -> usize {
        self.clusters.bucket_memory() + size_of_val(&self.rows[..]) + self.ages.memory()
    }

    /// The bytes of the clusters.
    pub(super) fn table_memory(&self) -> usize {
        self.clusters.table_memory() + self.centres.memory()
    }
}

/// Clusters of the records that `cluster` gives for each, put together on all cores.
fn put_together<'a, R>(
    centres: &Centres,
    records: usize,
    cluster: impl Fn(usize) -> R + Sync,
) -> Clusters
where
    R: Iterator<Item = (u16, &'a [u64], u32)>,
{
    let count = centres.len();
    let part = count.div_ceil(PARTS * rayon::current_num_threads()).max(1);
    let parts = (0..count.div_ceil(part)).into_par_iter().map(|i| {
        let clusters = i * part..count.min((i + 1) * part);
        let expected = records / count.div_ceil(part);
        let mut part = Clusters::with_capacity(centres.words(), clusters.len(), expected);
        clusters.for_each(|number| part.push(cluster(number)));
        part
    });
    Clusters::concat(centres.words(), parts.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::Codes;
    use crate::index::tests::{random_codes, widths};

    #[test]
    fn each_record_is_in_the_bucket_of_its_code_and_each_code_in_its_ring() {
        for width in widths() {
            for (rows, groups, gap) in
                [(0, 1, 1), (1, 1, 3), (2, 1, 1), (500, 3, 1), (900, 300, 2), (9000, 50, 5)]
            {
                let codes = random_codes(width, rows, groups, 1);
                let numbers: Vec<u64> = (0..rows as u64).map(|i| gap * i + 5).collect();
                let sealed = Sealed::build(width, &numbers, codes.as_words());

                assert_eq!(sealed.len(), rows);
                let mut seen = 0;
                for (row, (code, ages)) in (0..).zip(sealed.iter()) {
                    assert!(ages.is_sorted_by(|a, b| a < b));
                    let kernel = Kernel::detect();
                    let home = sealed.centres().place(kernel, code);
                    let rings = sealed.rings(home.row, home.distance, home.distance, 0);
                    assert!((rings.start..rings.end).contains(&row));
                    let equal = |other: u32| sealed.code(other) == code;
                    assert_eq!((rings.start..rings.end).filter(|&other| equal(other)).count(), 1);
                    assert!(home.distance <= u32::from(sealed.reaches()[home.row as usize]));
                    for &age in ages {
                        let i = numbers.binary_search(&sealed.number(age)).unwrap();
                        assert_eq!(codes.row(i), code);
                        assert_eq!(sealed.age(numbers[i]), Some(age));
                        assert_eq!(sealed.row(age), Some(row));
                        seen += 1;
                    }
                }
                assert_eq!(seen, rows);
                assert_eq!(sealed.age(1), None);
                let by_age: Vec<&[u64]> = sealed.by_age().map(|(_, code)| code).collect();
                assert_eq!(by_age, codes.rows().collect::<Vec<_>>());
                let asked = (0..gap * rows as u64 + 9).filter(|number| number % 7 != 2);
                let found: Vec<u32> = sealed.rows_of(asked.clone()).map(|(age, _)| age).collect();
                assert_eq!(found, asked.filter_map(|n| sealed.age(n)).collect::<Vec<_>>());
                let all =
                    (0..sealed.clusters.len() as u32).map(|c| sealed.rings(c, 0, 0, u32::MAX));
                assert_eq!(all.map(Span::len).sum::<usize>(), sealed.span().len());
            }
        }
    }

    #[test]
    fn merging_gives_what_sorting_all_of_it_gives() {
        for (width, (groups, gap)) in
            widths().into_iter().zip([(1, 1), (40, 5), (2000, 1)].into_iter().cycle())
        {
            let old = random_codes(width, 4000, groups, 1);
            let new = random_codes(width, 1000, groups, 2);
            let numbers: Vec<u64> = (0..5000).map(|i| gap * i + 5).collect();
            let mut dead = Tombstones::default();
            let sealed = Sealed::build(width, &numbers[..4000], old.as_words());
            let dies = |row: &usize| row.is_multiple_of(5) || *row < 40;
            (0..4000).filter(dies).for_each(|row| {
                dead.insert(sealed.age(numbers[row]).unwrap() as usize);
            });
            let merged = sealed.merge(&dead, &numbers[4000..], new.as_words()).unwrap();

            let live: Vec<usize> = (0..4000).filter(|row| !dies(row)).chain(4000..5000).collect();
            let mut codes = Codes::new(width);
            for &row in &live {
                let code = if row < 4000 { old.row(row) } else { new.row(row - 4000) };
                codes.push_words(code).unwrap();
            }
            let live: Vec<u64> = live.into_iter().map(|row| numbers[row]).collect();
            let sorted = Sealed::arrange(width, sealed.centres.clone(), &live, codes.as_words());
            assert_eq!(merged.records, sorted.records);
            assert!(merged.clusters == sorted.clusters && merged.rows == sorted.rows, "{width}");
            let number = |age| (merged.number(age), sorted.number(age));
            assert!((0..merged.ages_end() as u32).map(number).all(|(a, b)| a == b));
        }
    }
}
