//! The hash of an id: 40 bits of SipHash-2-4, keyed by the collection.
//!
//! Each id costs so many bits in the table. Of a hundred million ids one in ten thousand new ones then
//! has the hash of another, which costs a look at that record; twice the bits would be for nothing.
//!
//! The hash goes to disk (in the id directory), so it may not change from one Rust version to the
//! next, as std's may. The key is the collection's own random name, so that nobody can choose ids
//! that all fall together.
//!
//! Jean-Philippe Aumasson and Daniel J. Bernstein, "SipHash: a fast short-input PRF", 2012.

/// The bytes of a hash.
pub(super) const HASH_BYTES: usize = 5;

/// The bytes of a hash, ordered as it is.
pub(super) fn hash_key(hash: u64) -> [u8; HASH_BYTES] {
    let [_, _, _, key @ ..] = hash.to_be_bytes();
    key
}

/// The hash that has these bytes.
pub(super) fn hash_of(key: &[u8]) -> u64 {
    key.iter().fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

/// A hash spread over 64 bits, for those who want some in the upper ones.
pub(super) fn spread(hash: u64) -> u64 {
    // The golden ratio, odd.
    hash.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Hashes the ids of one collection.
#[derive(Clone, Copy, Debug)]
pub(super) struct IdHasher {
    key: [u64; 2],
    /// All ones; tests keep few bits so that ids collide.
    mask: u64,
}

impl IdHasher {
    /// The hasher of the collection with this name; the hash keeps the bits of `mask`.
    pub(super) fn new(collection: [u8; 16], mask: u64) -> Self {
        let name = u128::from_le_bytes(collection);
        Self { key: [name as u64, (name >> 64) as u64], mask }
    }

    /// The hash of `id`.
    pub(super) fn hash(&self, id: &[u8]) -> u64 {
        siphash(self.key, id) & self.mask & (u64::MAX >> (64 - 8 * HASH_BYTES))
    }
}

fn siphash(key: [u64; 2], bytes: &[u8]) -> u64 {
    let mut state = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    let (words, tail) = bytes.as_chunks();
    words.iter().for_each(|word| absorb(&mut state, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    last[7] = bytes.len() as u8;
    absorb(&mut state, u64::from_le_bytes(last));
    state[2] ^= 0xff;
    (0..4).for_each(|_| round(&mut state));
    state.iter().fold(0, |hash, word| hash ^ word)
}

fn absorb(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    round(state);
    round(state);
    state[0] ^= word;
}

fn round([a, b, c, d]: &mut [u64; 4]) {
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appendix A of the paper: key 00..0f, input 00..0e.
    #[test]
    fn the_papers_test_vector() {
        let key: [u8; 16] = std::array::from_fn(|i| i as u8);
        let input: Vec<u8> = (0..15).collect();
        let hasher = IdHasher::new(key, u64::MAX);
        assert_eq!(siphash(hasher.key, &input), 0xa129_ca61_49be_45e5);
        assert_eq!(hasher.hash(&input), 0x61_49be_45e5);
        assert_eq!(hash_of(&hash_key(hasher.hash(&input))), hasher.hash(&input));
    }

    #[test]
    #[expect(deprecated, reason = "std's old SipHash-2-4 is the oracle")]
    fn every_length_agrees_with_std() {
        use std::hash::{Hasher, SipHasher};
        let bytes: Vec<u8> = (0..100u8).map(|i| i.wrapping_mul(37)).collect();
        for len in 0..bytes.len() {
            let mut std = SipHasher::new_with_keys(7, 8);
            std.write(&bytes[..len]);
            assert_eq!(siphash([7, 8], &bytes[..len]), std.finish(), "{len} bytes");
        }
    }
}
