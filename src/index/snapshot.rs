//! One state of the index: it never changes, so a reader that holds it sees whole groups only.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::delta::Delta;
use super::kernel::Kernel;
use super::sealed::Sealed;
use super::tombstones::Tombstones;
use crate::code::{Codes, Width};

/// All records as they were at one moment. A clone is cheap and shares everything.
#[derive(Clone)]
pub struct Snapshot {
    pub(super) kernel: Kernel,
    pub(super) sealed: Arc<Sealed>,
    /// The ages of the dead in the sealed part.
    pub(super) dead: Tombstones,
    pub(super) delta: Delta,
}

/// The bytes that a snapshot holds, by part.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Memory {
    /// The sealed codes, each once.
    pub codes: usize,
    /// The record numbers, and the way to them from a code.
    pub numbers: usize,
    /// The clusters and their centres.
    pub table: usize,
    /// Codes and numbers of recent records.
    pub delta: usize,
    /// Which records are dead.
    pub tombstones: usize,
}

impl Memory {
    /// All parts together.
    pub fn total(&self) -> usize {
        self.codes + self.numbers + self.table + self.delta + self.tombstones
    }
}

impl Snapshot {
    pub(super) fn new(kernel: Kernel, sealed: Sealed) -> Self {
        let (dead, delta) = Default::default();
        Self { kernel, sealed: Arc::new(sealed), dead, delta }
    }

    /// The width of every code.
    pub fn width(&self) -> Width {
        self.sealed.width()
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.sealed.len() - self.dead.count() + self.delta.len() - self.delta.dead().count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of each record and the words of its code, in no order that means anything.
    pub fn rows(&self) -> impl Iterator<Item = (u64, &[u64])> {
        let sealed = self.sealed.iter().flat_map(move |(code, ages)| {
            let live = ages.iter().filter(|&&age| !self.dead.contains(age as usize));
            live.map(move |&age| (self.sealed.number(age), code))
        });
        sealed.chain(self.delta.live_from(0))
    }

    /// The words of the code of a record, if it is here; it may be dead.
    pub fn code(&self, number: u64) -> Option<&[u64]> {
        match self.sealed.age(number) {
            Some(age) => self.sealed.row(age).map(|row| self.sealed.code(row)),
            None => self.delta.code(number),
        }
    }

    /// How many codes are shared by exactly so many records, by that number.
    ///
    /// So the sum of the values is the number of different codes, and the last key is the size of
    /// the largest bucket.
    pub fn bucket_sizes(&self) -> BTreeMap<usize, usize> {
        let mut recent: HashMap<&[u64], usize> = HashMap::new();
        for (_, code) in self.delta.live_from(0) {
            *recent.entry(code).or_default() += 1;
        }
        let mut sizes = BTreeMap::new();
        for (code, ages) in self.sealed.iter() {
            let live = ages.iter().filter(|&&age| !self.dead.contains(age as usize)).count();
            let size = live + recent.remove(code).unwrap_or(0);
            if size > 0 {
                *sizes.entry(size).or_default() += 1;
            }
        }
        for size in recent.into_values() {
            *sizes.entry(size).or_default() += 1;
        }
        sizes
    }

    /// The bytes held.
    pub fn memory(&self) -> Memory {
        Memory {
            codes: self.sealed.code_memory(),
            numbers: self.sealed.number_memory(),
            table: self.sealed.table_memory(),
            delta: self.delta.memory(),
            tombstones: self.dead.memory() + self.delta.dead().memory(),
        }
    }

    /// The number of each record and the words of its code, oldest first.
    pub(super) fn by_number(&self) -> impl Iterator<Item = (u64, &[u64])> {
        let sealed = self.sealed.by_age().filter(|&(age, _)| !self.dead.contains(age as usize));
        let sealed = sealed.map(|(age, code)| (self.sealed.number(age), code));
        sealed.chain(self.delta.live_from(0))
    }

    /// The age of the recent record at `place`: recent ones are younger than all sealed ones.
    pub(super) fn recent_age(&self, place: usize) -> u32 {
        (self.sealed.ages_end() + place) as u32
    }

    /// The record number of an age.
    #[inline]
    pub(super) fn number(&self, age: u32) -> u64 {
        match (age as usize).checked_sub(self.sealed.ages_end()) {
            Some(place) => self.delta.number(place),
            None => self.sealed.number(age),
        }
    }

    /// Applies one group: what is added may be removed in the same group.
    pub(super) fn apply(&mut self, numbers: &[u64], codes: &Codes, removed: &[u64]) {
        self.delta.append(numbers, codes.as_words());
        removed.iter().for_each(|&number| self.remove(number));
    }

    /// Buries a record wherever it is, if it is anywhere.
    pub(super) fn remove(&mut self, number: u64) {
        match self.sealed.age(number) {
            Some(age) => self.dead.insert(age as usize),
            None => self.delta.remove(number),
        }
    }

    /// The same records, all of them sealed.
    pub(super) fn folded(&self) -> Self {
        let of = |records: &mut dyn Iterator<Item = (u64, &[u64])>| {
            let (mut numbers, mut words) = (Vec::new(), Vec::new());
            for (number, code) in records {
                numbers.push(number);
                words.extend_from_slice(code);
            }
            (numbers, words)
        };
        let (numbers, words) = of(&mut self.delta.live_from(0));
        let sealed = self.sealed.merge(&self.dead, &numbers, &words).unwrap_or_else(|| {
            let (numbers, words) = of(&mut self.by_number());
            Sealed::build(self.width(), &numbers, &words)
        });
        Self::new(self.kernel, sealed)
    }

    /// Catches up with `now`, where `self` is `then.folded()` and `now` came from `then` by groups
    /// that removed the records `removed`, among others of their own.
    pub(super) fn catch_up(&mut self, then: &Self, now: &Self, removed: &[u64]) {
        for (number, code) in now.delta.live_from(then.delta.len()) {
            self.delta.append(&[number], code);
        }
        removed.iter().for_each(|&number| self.remove(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::tests::random_codes;

    fn contents(snapshot: &Snapshot) -> BTreeMap<u64, Vec<u64>> {
        let rows = snapshot.rows().map(|(number, code)| (number, code.to_vec()));
        let contents: BTreeMap<u64, Vec<u64>> = rows.collect();
        for (number, code) in &contents {
            assert_eq!(snapshot.code(*number), Some(&code[..]));
        }
        assert_eq!(snapshot.code(10_000), None);
        contents
    }

    /// Whatever comes while a fold is under way: new rows, and deaths among the sealed, among the
    /// recent ones that the fold saw, and among those that it did not.
    #[test]
    fn a_fold_keeps_what_came_meanwhile() {
        let width = Width::new(65).unwrap();
        let (first, second) = (random_codes(width, 300, 9, 1), random_codes(width, 1500, 9, 2));
        let sealed = Sealed::build(width, &(0..300).collect::<Vec<u64>>(), first.as_words());
        let mut then = Snapshot::new(Kernel::detect(), sealed);
        then.apply(&(300..1800).collect::<Vec<u64>>(), &second, &[5, 299, 300, 1500]);

        let mut folded = then.folded();
        assert_eq!(contents(&folded), contents(&then));
        assert_eq!((folded.sealed.len(), folded.delta.len()), (1796, 0));

        let mut now = then.clone();
        let removed = [5, 6, 301, 1501, 1799, 1801, 2500, 9999];
        now.apply(&(1800..3300).collect::<Vec<u64>>(), &second, &removed);
        folded.catch_up(&then, &now, &removed);
        assert_eq!(contents(&folded), contents(&now));
        assert_eq!(folded.len(), now.len());
        assert_eq!(folded.dead.count(), 4);
        assert_eq!(then.len(), 1796, "an old snapshot stays as it was");
    }
}
