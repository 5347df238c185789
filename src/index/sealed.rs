//! The sealed part: codes in clusters, each with the records that share it, and never changed.
//!
//! A *bucket* holds the records that share one code. Each code stands once, so codes that are
//! equal cost nothing. The codes stand one behind the other, so a scan reads them straight
//! through; and their order makes that a search need not: they stand cluster by cluster, and in a
//! cluster ring by ring, a *ring* being those at one distance from the cluster's centre. `centres`
//! says which rings a search can leave out.
//!
//! ```text
//! codes     by cluster, ring, value, each once: shape (codes, words)
//! heads     one u32 a code: the age of its record, or where its records stand in `shared`
//! shared    the ages of records that share codes, ascending, each run behind its length
//! rows      one u32 an age: the row of its code, or NOBODY
//! clusters  the rings of each cluster
//! starts    one u32 a ring: its first row, and behind those of a cluster the end
//! ```
//!
//! An *age* stands for a record's number, see `ages`.

use std::sync::Arc;

use super::ages::Ages;
use super::centres::Centres;
use super::entries::Entries;
use super::kernel::{self, Kernel, Span};
use super::tombstones::Tombstones;
use crate::code::Width;

/// Marks a head that is a place in `shared`; no age has this bit.
const SHARED: u32 = 1 << 31;

/// The row of an age that no record has.
const NOBODY: u32 = u32::MAX;

pub(super) struct Sealed {
    width: Width,
    centres: Arc<Centres>,
    /// How far the farthest code of each cluster is from its centre.
    reaches: Vec<u16>,
    clusters: Vec<Cluster>,
    starts: Vec<u32>,
    codes: Vec<u64>,
    heads: Vec<u32>,
    shared: Vec<u32>,
    rows: Vec<u32>,
    ages: Ages,
    records: usize,
}

/// The rings of a cluster, from the lowest that has codes up to, but without, `end`.
#[derive(Clone, Copy)]
struct Cluster {
    /// Where in `starts` the lowest stands.
    starts: u32,
    low: u16,
    end: u16,
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
        let mut sealed = Self::empty(width, centres, numbers.len(), ages.end());
        for cluster in 0..sealed.centres.len() {
            let records = entries.cluster(cluster);
            let age = |index: u32| ages.nth(index, numbers[index as usize]);
            sealed.push_cluster(records.map(|(ring, code, index)| (ring, code, age(index))));
        }
        sealed.finish(ages)
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
        let mut sealed = Self::empty(self.width, self.centres.clone(), all.len(), ages.end());
        for cluster in 0..self.clusters.len() {
            let old = self.cluster(cluster).filter(|(.., age)| live(age));
            let mut old =
                old.map(|(ring, code, age)| (ring, code, renewed[age as usize])).peekable();
            let new = entries.cluster(cluster);
            let mut new = new.map(|(ring, code, index)| (ring, code, younger(index))).peekable();
            sealed.push_cluster(std::iter::from_fn(|| {
                match (old.peek(), new.peek()) {
                    (Some(old), Some(new)) if (new.0, new.1) < (old.0, old.1) => None,
                    (Some(_), _) => old.next(),
                    (None, _) => None,
                }
                .or_else(|| new.next())
            }));
        }
        Some(sealed.finish(ages))
    }

    /// No cluster yet, and room for some records.
    fn empty(width: Width, centres: Arc<Centres>, records: usize, ages: usize) -> Self {
        Self {
            width,
            reaches: Vec::with_capacity(centres.len()),
            clusters: Vec::with_capacity(centres.len()),
            starts: Vec::new(),
            codes: Vec::with_capacity(records * width.words()),
            heads: Vec::with_capacity(records),
            shared: Vec::new(),
            rows: vec![NOBODY; ages],
            ages: Ages::new(&[]),
            records,
            centres,
        }
    }

    fn finish(mut self, ages: Ages) -> Self {
        self.codes.shrink_to_fit();
        self.heads.shrink_to_fit();
        self.shared.shrink_to_fit();
        Self { ages, ..self }
    }

    /// Appends a cluster: the ring, code and age of each record, in this order.
    fn push_cluster<'a>(&mut self, records: impl Iterator<Item = (u16, &'a [u64], u32)>) {
        let begin = self.starts.len();
        let mut rings = None;
        for (ring, code, age) in records {
            let (low, _) = rings.unwrap_or((ring, ring));
            rings = Some((low, ring + 1));
            // Rings that have no code begin where the next one does.
            let (begun, here) = (self.starts.len() - begin, (ring - low) as usize + 1);
            self.starts.extend(std::iter::repeat_n(self.heads.len() as u32, here - begun));
            let is_first = begun < here;
            if is_first || !self.codes.ends_with(code) {
                self.codes.extend_from_slice(code);
                self.heads.push(age);
            } else {
                self.join(age);
            }
            self.rows[age as usize] = self.heads.len() as u32 - 1;
        }
        let (low, end) = rings.unwrap_or((0, 0));
        self.starts.push(self.heads.len() as u32);
        self.reaches.push(end.saturating_sub(1));
        self.clusters.push(Cluster { starts: begin as u32, low, end });
    }

    /// Adds a record to the last bucket.
    fn join(&mut self, age: u32) {
        let last = self.heads.len() - 1;
        let head = &mut self.heads[last];
        if *head & SHARED == 0 {
            let only = std::mem::replace(head, SHARED | self.shared.len() as u32);
            self.shared.extend([1, only]);
        }
        self.shared[(*head & !SHARED) as usize] += 1;
        self.shared.push(age);
    }

    /// The records of a cluster: ring, code and age, in this order.
    fn cluster(&self, cluster: usize) -> impl Iterator<Item = (u16, &[u64], u32)> {
        let Cluster { starts, low, end } = self.clusters[cluster];
        let starts = &self.starts[starts as usize..][..=(end - low) as usize];
        let rows = (low..end).zip(starts.windows(2));
        let rows = rows.flat_map(|(ring, rows)| (rows[0]..rows[1]).map(move |row| (ring, row)));
        rows.flat_map(|(ring, row)| {
            let code = self.code(row);
            self.bucket(row).iter().map(move |&age| (ring, code, age))
        })
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
        &self.codes
    }

    /// The rows of `codes()`.
    pub(super) fn span(&self) -> Span {
        Span { start: 0, end: self.heads.len() as u32 }
    }

    /// The centres of the clusters, and which cluster is a code's.
    pub(super) fn centres(&self) -> &Centres {
        &self.centres
    }

    /// How far the farthest code of each cluster is from its centre.
    pub(super) fn reaches(&self) -> &[u16] {
        &self.reaches
    }

    /// The codes of a cluster that can be within `radius` of a code that is `distance` from its
    /// centre and `nearest` from the nearest centre.
    #[inline]
    pub(super) fn rings(&self, cluster: u32, distance: u32, nearest: u32, radius: u32) -> Span {
        let Cluster { starts, low, end } = self.clusters[cluster as usize];
        let (low, end) = (u32::from(low), u32::from(end));
        let first = distance.saturating_sub(radius).clamp(low, end) - low;
        let last = (nearest.saturating_add(radius).saturating_add(1)).clamp(low, end) - low;
        let last = last.max(first);
        let start = |ring: u32| self.starts[(starts + ring) as usize];
        Span { start: start(first), end: start(last) }
    }

    /// The first row of a cluster, or of those behind it where it is empty.
    pub(super) fn cluster_start(&self, cluster: u32) -> u32 {
        let cluster = self.clusters.get(cluster as usize);
        cluster.map_or(self.span().end, |cluster| self.starts[cluster.starts as usize])
    }

    /// Asks the memory for the bucket of a row.
    #[inline]
    pub(super) fn fetch_bucket(&self, row: u32) {
        kernel::fetch(&self.heads, row as usize);
    }

    /// The ages of the records that share the code of row `row`, oldest first.
    #[inline]
    pub(super) fn bucket(&self, row: u32) -> &[u32] {
        let head = &self.heads[row as usize];
        if *head & SHARED == 0 {
            return std::slice::from_ref(head);
        }
        let at = (*head & !SHARED) as usize;
        let len = self.shared[at] as usize;
        &self.shared[at + 1..][..len]
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
        &self.codes[row as usize * self.width.words()..][..self.width.words()]
    }

    /// Copies the codes of some rows side by side, which lets the memory find many at once.
    pub(super) fn gather(&self, rows: &[u32], codes: &mut Vec<u64>) {
        let words = self.width.words();
        codes.resize(rows.len() * words, 0);
        // Where the length is a constant, a code is copied without a call.
        match words {
            1 => gather(&self.codes, rows, 1, codes),
            2 => gather(&self.codes, rows, 2, codes),
            4 => gather(&self.codes, rows, 4, codes),
            _ => gather(&self.codes, rows, words, codes),
        }
    }

    /// Each code with its bucket, in the order of the codes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u64], &[u32])> {
        let buckets = (0..).map(|row| self.bucket(row));
        self.codes.chunks_exact(self.width.words()).zip(buckets)
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
        size_of_val(&self.codes[..])
    }

    /// The bytes of the record numbers, with the way to them from a code and back.
    pub(super) fn number_memory(&self) -> usize {
        size_of_val(&self.heads[..])
            + size_of_val(&self.shared[..])
            + size_of_val(&self.rows[..])
            + self.ages.memory()
    }

    /// The bytes of the clusters.
    pub(super) fn table_memory(&self) -> usize {
        size_of_val(&self.reaches[..])
            + size_of_val(&self.clusters[..])
            + size_of_val(&self.starts[..])
            + self.centres.memory()
    }
}

#[inline(always)]
fn gather(from: &[u64], rows: &[u32], words: usize, to: &mut [u64]) {
    for (to, &row) in to.chunks_exact_mut(words).zip(rows) {
        to.copy_from_slice(&from[row as usize * words..][..words]);
    }
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
            assert!(merged.codes == sorted.codes && merged.reaches == sorted.reaches, "{width}");
            assert!(merged.heads == sorted.heads && merged.shared == sorted.shared, "{width}");
            assert!(merged.rows == sorted.rows && merged.starts == sorted.starts, "{width}");
            let number = |age| (merged.number(age), sorted.number(age));
            assert!((0..merged.ages_end() as u32).map(number).all(|(a, b)| a == b));
        }
    }
}
