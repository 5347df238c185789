//! A Bloom filter over the hashes of ids: that an id is new is known without a look into the table
//! and into what is not there yet, so that a new record costs no block of the table.
//!
//! A hash sets four bits of one word, so a question is one touch of memory. Bits are never taken
//! back: an id that was deleted costs a look in vain. With 12 bits a hash, one and a half bytes of memory
//! a record, one new id of 100 does.
//!
//! Felix Putze, Peter Sanders, Johannes Singler, "Cache-, Hash- and Space-Efficient Bloom
//! Filters", 2007.

use std::borrow::Cow;

use super::hash::spread;

/// Bits for each hash that there is room for.
const BITS: usize = 12;

/// Hashes, of which it forgets none, and takes others for one of them now and then.
#[derive(Debug)]
pub(super) struct Bloom {
    words: Vec<u64>,
    held: usize,
}

impl Bloom {
    /// Room for so many hashes.
    pub(super) fn with_room(hashes: usize) -> Self {
        let words = (hashes.max(1 << 10) * BITS).div_ceil(64).next_multiple_of(2);
        Self { words: vec![0; words], held: 0 }
    }

    /// The filter that has these words; `None` where there are none.
    pub(super) fn from_words(words: Vec<u64>, held: usize) -> Option<Self> {
        (!words.is_empty()).then_some(Self { words, held })
    }

    /// The words; where there is room for twice as many hashes, those of a filter half as large that
    /// holds the same: a hash's word there is half of its word here, whose neighbour has the same half.
    pub(super) fn words(&self) -> Cow<'_, [u64]> {
        match self.words.as_chunks() {
            (pairs, []) if self.room() >= self.held => pairs.iter().map(|[a, b]| a | b).collect(),
            _ => Cow::Borrowed(&self.words),
        }
    }

    /// Hashes that still have room.
    pub(super) fn room(&self) -> usize {
        (self.words.len() * 64 / BITS).saturating_sub(self.held)
    }

    /// Hashes that were put in.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Puts a hash in.
    pub(super) fn insert(&mut self, hash: u64) {
        let hash = spread(hash);
        let at = self.word(hash);
        self.words[at] |= bits(hash);
        self.held = self.held.saturating_add(1);
    }

    /// False where the hash was certainly not put in.
    pub(super) fn may_hold(&self, hash: u64) -> bool {
        let hash = spread(hash);
        let bits = bits(hash);
        self.words[self.word(hash)] & bits == bits
    }

    /// Any number of words is used evenly: the upper half of the hash, as a fraction, of them (Daniel
    /// Lemire, "Fast Random Integer Generation in an Interval", 2019).
    fn word(&self, hash: u64) -> usize {
        (((hash >> 32) * self.words.len() as u64) >> 32) as usize
    }
}

/// Four of the bits of a word, perhaps the same one twice.
fn bits(hash: u64) -> u64 {
    (0..4).fold(0, |bits, i| bits | 1 << (hash >> (6 * i) & 63))
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn it_forgets_nothing_and_is_seldom_wrong_when_full() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut bloom = Bloom::with_room(100_000);
        let hashes: Vec<u64> = (0..bloom.room()).map(|_| rng.random()).collect();
        hashes.iter().for_each(|hash| bloom.insert(*hash));
        assert_eq!((bloom.room(), bloom.held()), (0, hashes.len()));
        assert!(hashes.iter().all(|hash| bloom.may_hold(*hash)));
        let wrong = (0..100_000).filter(|_| bloom.may_hold(rng.random())).count();
        assert!(wrong < 1_500, "{wrong} of 100,000");
    }

    /// What was put in is found in the filter that is written, also where that is half as large.
    #[test]
    fn the_words_that_are_written_forget_nothing() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for (room, held) in [(0, 10), (5000, 2500), (5000, 2501), (9001, 100)] {
            let mut bloom = Bloom::with_room(room);
            let hashes: Vec<u64> = (0..held).map(|_| rng.random()).collect();
            hashes.iter().for_each(|hash| bloom.insert(*hash));
            let (words, before) = (bloom.words().into_owned(), bloom.words.len());
            assert_eq!(words.len() < before, bloom.room() >= held);
            let read = Bloom::from_words(words, held).unwrap();
            assert!(hashes.iter().all(|hash| read.may_hold(*hash)), "{room} {held}");
        }
    }
}
