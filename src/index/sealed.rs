//! The sealed part: a hash table of buckets, keyed by code, that never changes.
//!
//! A *bucket* holds the records that share one code. Each code stands once, so codes that are
//! equal cost nothing; the codes stand in ascending order, one behind the other, so a scan reads
//! them straight through; and since that order groups them by their first bits, a table of where
//! each group begins makes them a hash table as well. The first bits are the hash, and a *slot* is
//! the run of codes that share it:
//!
//! ```text
//! slots     one u32 for each value of the first bits: its first code    2^bits + 1
//! codes     ascending, each once, shape (codes, words)
//! buckets   one u32 a code: where its records begin in `ages`           codes + 1
//! ages      one u32 a record: its place in `numbers`, ascending within a bucket
//! rows      one u32 a record, in the order of their ages: the row of its code
//! numbers   one u64 a record, ascending
//! ```
//!
//! There are about as many slots as codes. A code within r bits of the query has its first bits
//! within r bits of the query's, so looking into the slots within r covers the ball of radius r:
//! 1,351 slots at r = 3 and 2^20 slots, where the ball around a code of 64 bits has 43,745 codes.
//!
//! An *age* is the rank of a record among the sealed ones, the oldest 0. It is half as long as a
//! number, orders records alike, and finding the record of a number is a search in a sorted list.

use rayon::prelude::*;

use super::kernel::Span;
use crate::code::Width;

/// More slots than these would be slower to look up than they save.
const MAX_SLOT_BITS: usize = 26;

pub(super) struct Sealed {
    width: Width,
    slots: Vec<u32>,
    /// How many first bits make a slot: 1 to `MAX_SLOT_BITS`, and no more than the width.
    slot_bits: u32,
    codes: Vec<u64>,
    buckets: Vec<u32>,
    ages: Vec<u32>,
    rows: Vec<u32>,
    numbers: Vec<u64>,
}

impl Sealed {
    /// Sorts the codes into buckets, on all cores. Record `numbers[i]` has row `i` of `rows`, whose
    /// shape is (numbers, words).
    ///
    /// # Panics
    /// Where there are 2^32 records or more: an age has 32 bits.
    pub(super) fn build(width: Width, numbers: Vec<u64>, rows: &[u64]) -> Self {
        assert!(u32::try_from(numbers.len()).is_ok(), "{} records in one index", numbers.len());
        let words = width.words();
        let row = |age: u32| &rows[age as usize * words..][..words];
        // Most codes differ in their first word, so it travels with the age.
        let first_words = rows.chunks_exact(words).map(|code| code[0]);
        let mut order: Vec<(u64, u32)> = first_words.zip(0..numbers.len() as u32).collect();
        order.par_sort_unstable_by(|&(word, age), &(other_word, other_age)| {
            word.cmp(&other_word)
                .then_with(|| row(age)[1..].cmp(&row(other_age)[1..]))
                .then(age.cmp(&other_age))
        });

        let mut codes: Vec<u64> = Vec::with_capacity(rows.len());
        let mut buckets = Vec::with_capacity(numbers.len() + 1);
        let mut ages = Vec::with_capacity(numbers.len());
        let mut places = vec![0; numbers.len()];
        for (_, age) in order {
            let code = row(age);
            if codes.len() < words || codes[codes.len() - words..] != *code {
                codes.extend_from_slice(code);
                buckets.push(ages.len() as u32);
            }
            places[age as usize] = buckets.len() as u32 - 1;
            ages.push(age);
        }
        buckets.push(ages.len() as u32);
        codes.shrink_to_fit();
        buckets.shrink_to_fit();

        let slot_bits = slot_bits(width, codes.len() / words);
        let slots = slots(&codes, words, slot_bits);
        Self { width, slots, slot_bits, codes, buckets, ages, rows: places, numbers }
    }

    /// The number of records, dead ones included.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The width of the codes.
    pub(super) fn width(&self) -> Width {
        self.width
    }

    /// Each code once, ascending: shape (codes, words).
    pub(super) fn codes(&self) -> &[u64] {
        &self.codes
    }

    /// The rows of `codes()`.
    pub(super) fn span(&self) -> Span {
        Span { start: 0, end: self.buckets.len() as u32 - 1 }
    }

    /// How many first bits of a code make its slot.
    pub(super) fn slot_bits(&self) -> u32 {
        self.slot_bits
    }

    /// The slot in which a code stands if it stands anywhere.
    pub(super) fn slot(&self, code: &[u64]) -> u32 {
        (code[0] >> (64 - self.slot_bits)) as u32
    }

    /// The codes of a slot.
    #[inline]
    pub(super) fn slot_span(&self, slot: u32) -> Span {
        Span { start: self.slots[slot as usize], end: self.slots[slot as usize + 1] }
    }

    /// The records that share the code of row `row`, oldest first.
    #[inline]
    pub(super) fn bucket(&self, row: u32) -> &[u32] {
        let row = row as usize;
        &self.ages[self.buckets[row] as usize..self.buckets[row + 1] as usize]
    }

    /// The record number of an age.
    #[inline]
    pub(super) fn number(&self, age: u32) -> u64 {
        self.numbers[age as usize]
    }

    /// The age of a record number, if it is here.
    pub(super) fn age(&self, number: u64) -> Option<usize> {
        self.numbers.binary_search(&number).ok()
    }

    /// Each code with its bucket, in the order of the codes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u64], &[u32])> {
        let buckets = (0..).map(|row| self.bucket(row));
        self.codes.chunks_exact(self.width.words()).zip(buckets)
    }

    /// The row of the code of an age.
    #[inline]
    pub(super) fn row(&self, age: usize) -> u32 {
        self.rows[age]
    }

    /// The words of the code of a row.
    pub(super) fn code(&self, row: u32) -> &[u64] {
        let words = self.width.words();
        &self.codes[row as usize * words..][..words]
    }

    /// Each age with its code, oldest first.
    pub(super) fn by_age(&self) -> impl Iterator<Item = (u32, &[u64])> {
        let words = self.width.words();
        (0..).zip(self.rows.iter().map(move |&row| &self.codes[row as usize * words..][..words]))
    }

    /// The ages of those of some ascending numbers that are here.
    pub(super) fn ages_of(
        &self,
        numbers: impl Iterator<Item = u64>,
    ) -> impl Iterator<Item = usize> {
        let mut from = 0;
        numbers.filter_map(move |number| {
            from += gallop(&self.numbers[from..], number);
            (self.numbers.get(from) == Some(&number)).then_some(from)
        })
    }

    /// The bytes of the codes.
    pub(super) fn code_memory(&self) -> usize {
        size_of_val(&self.codes[..])
    }

    /// The bytes of the record numbers, with the way to them from a code.
    pub(super) fn number_memory(&self) -> usize {
        size_of_val(&self.buckets[..])
            + size_of_val(&self.ages[..])
            + size_of_val(&self.rows[..])
            + size_of_val(&self.numbers[..])
    }

    /// The bytes of the slots.
    pub(super) fn table_memory(&self) -> usize {
        size_of_val(&self.slots[..])
    }
}

/// The place of the first of `numbers`, which ascend, that is not below `number`; quick where it
/// is near the front.
fn gallop(numbers: &[u64], number: u64) -> usize {
    let mut step = 1;
    while numbers.get(step - 1).is_some_and(|&passed| passed < number) {
        step *= 2;
    }
    let known = step / 2;
    let end = step.min(numbers.len());
    known + numbers[known..end].partition_point(|&passed| passed < number)
}

/// Bits for about as many slots as codes.
fn slot_bits(width: Width, codes: usize) -> u32 {
    let wanted = codes.checked_ilog2().unwrap_or(0).max(1);
    wanted.min(width.bits().min(MAX_SLOT_BITS) as u32)
}

/// Where each slot begins: the number of codes in all slots before it.
fn slots(codes: &[u64], words: usize, slot_bits: u32) -> Vec<u32> {
    let mut slots = vec![0u32; (1 << slot_bits) + 1];
    for code in codes.chunks_exact(words) {
        slots[(code[0] >> (64 - slot_bits)) as usize + 1] += 1;
    }
    let mut sum = 0;
    for slot in &mut slots {
        sum += *slot;
        *slot = sum;
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::tests::{random_codes, widths};

    #[test]
    fn each_record_is_in_the_bucket_of_its_code_and_each_code_in_its_slot() {
        for width in widths() {
            for (rows, groups) in [(0, 1), (1, 1), (2, 1), (2, 2), (500, 3), (500, 100)] {
                let codes = random_codes(width, rows, groups, 1);
                let numbers: Vec<u64> = (0..rows as u64).map(|i| 3 * i + 5).collect();
                let sealed = Sealed::build(width, numbers.clone(), codes.as_words());

                assert_eq!(sealed.len(), rows);
                assert!(sealed.iter().map(|(code, _)| code).is_sorted_by(|a, b| a < b));
                let mut seen = 0;
                for (row, (code, ages)) in sealed.iter().enumerate() {
                    assert!(ages.is_sorted_by(|a, b| a < b));
                    let slot = sealed.slot_span(sealed.slot(code));
                    assert!((slot.start..slot.end).contains(&(row as u32)));
                    for &age in ages {
                        assert_eq!(codes.row(age as usize), code);
                        assert_eq!(sealed.number(age), numbers[age as usize]);
                        assert_eq!(sealed.age(sealed.number(age)), Some(age as usize));
                        seen += 1;
                    }
                }
                assert_eq!(seen, rows);
                assert_eq!(sealed.age(1), None);
                assert!(
                    (0..)
                        .zip(sealed.by_age())
                        .all(|(i, (age, code))| { age == i && code == codes.row(i as usize) })
                );
                let asked = (0..3 * rows as u64 + 9).filter(|number| number % 7 != 2);
                let found: Vec<usize> = sealed.ages_of(asked.clone()).collect();
                assert_eq!(found, asked.filter_map(|n| sealed.age(n)).collect::<Vec<_>>());
                let last = sealed.slot_span((1 << sealed.slot_bits()) - 1);
                assert_eq!(last.end, sealed.span().end, "the slots cover all codes");
            }
        }
    }
}
