//! A Bloom filter over the hashes of ids: that an id is new is known without a look into the table
//! and into what is not there yet, so that a new record costs no block of the table.
//!
//! A hash sets four bits of one word, so a question is one touch of memory. Bits are never taken
//! back: an id that was deleted costs a look in vain. With 16 to 32 bits a hash about one new id
//! of 200 to 2,000 does. That is two to four bytes of memory a record.
//!
//! Felix Putze, Peter Sanders, Johannes Singler, "Cache-, Hash- and Space-Efficient Bloom
//! Filters", 2007.

/// Bits for each hash that there is room for.
const BITS: usize = 16;

/// Hashes, of which it forgets none, and takes others for one of them now and then.
#[derive(Debug)]
pub(super) struct Bloom {
    /// A power of two of them.
    words: Vec<u64>,
    held: usize,
}

impl Bloom {
    /// Room for so many hashes, and for twice as many at most.
    pub(super) fn with_room(hashes: usize) -> Self {
        let words = (hashes.max(1 << 10) * BITS / 64).next_power_of_two();
        Self { words: vec![0; words], held: 0 }
    }

    /// The filter that has these words; `None` where they are not a power of two.
    pub(super) fn from_words(words: Vec<u64>, held: usize) -> Option<Self> {
        words.len().is_power_of_two().then_some(Self { words, held })
    }

    /// The words.
    pub(super) fn words(&self) -> &[u64] {
        &self.words
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
        let at = self.word(hash);
        self.words[at] |= bits(hash);
        self.held += 1;
    }

    /// False where the hash was certainly not put in.
    pub(super) fn may_hold(&self, hash: u64) -> bool {
        let bits = bits(hash);
        self.words[self.word(hash)] & bits == bits
    }

    fn word(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.words.len() - 1)
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
        assert!(wrong < 1_000, "{wrong} of 100,000");
    }
}
