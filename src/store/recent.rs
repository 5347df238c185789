//! What came since the last checkpoint, in memory: the part of the table that is not in it yet.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use super::block::Run;
use super::hash::{HASH_BYTES, hash_key, spread};
use super::{Live, MAX_KEY_BYTES, code_key};
use crate::code::Width;

/// Records since the last checkpoint: by the hash of their id, and their codes.
#[derive(Clone, Debug)]
pub(super) struct Recent {
    /// A number for each hash.
    ids: HashMap<u64, u64, BuildHasherDefault<Spread>>,
    /// The further ones, where ids have the same hash.
    more: BTreeSet<(u64, u64)>,
    numbers: Vec<u64>,
    /// The code of each of the numbers, one after the other.
    words: Vec<u64>,
    width: Width,
}

impl Recent {
    pub(super) fn new(width: Width) -> Self {
        Self {
            ids: HashMap::default(),
            more: BTreeSet::new(),
            numbers: Vec::new(),
            words: Vec::new(),
            width,
        }
    }

    /// How many ids there are.
    pub(super) fn len(&self) -> usize {
        self.ids.len() + self.more.len()
    }

    /// Adds a record by its id.
    pub(super) fn insert(&mut self, hash: u64, number: u64) {
        if *self.ids.entry(hash).or_insert(number) != number {
            self.more.insert((hash, number));
        }
    }

    /// Takes a record out, if it is here, when it is replaced or deleted.
    pub(super) fn remove(&mut self, hash: u64, number: u64) {
        if self.ids.get(&hash) != Some(&number) {
            self.more.remove(&(hash, number));
            return;
        }
        let another = self.more.range((hash, 0)..=(hash, u64::MAX)).next().copied();
        match another {
            Some(another) => {
                self.more.remove(&another);
                self.ids.insert(hash, another.1);
            }
            None => {
                self.ids.remove(&hash);
            }
        }
    }

    /// The records whose id has this hash.
    pub(super) fn find(&self, hash: u64) -> impl Iterator<Item = u64> {
        let more = self.more.range((hash, 0)..=(hash, u64::MAX)).map(|(_, number)| *number);
        self.ids.get(&hash).copied().into_iter().chain(more)
    }

    /// Adds the codes of records from row `skip` on. They stay when a record dies.
    pub(super) fn push_codes(&mut self, added: &Live, skip: usize) {
        self.numbers.extend_from_slice(&added.numbers[skip..]);
        self.words.extend_from_slice(&added.codes.as_words()[skip * self.width.words()..]);
    }

    /// Numbers and codes of records, some of which may be dead.
    pub(super) fn codes(&self) -> impl Iterator<Item = (u64, &[u64])> {
        self.numbers.iter().copied().zip(self.words.chunks_exact(self.width.words()))
    }

    /// The hash of every id.
    pub(super) fn hashes(&self) -> impl Iterator<Item = u64> {
        self.ids.keys().copied().chain(self.more.iter().map(|(hash, _)| *hash))
    }

    /// The ids as sorted entries of the table.
    pub(super) fn id_run(&self) -> Run {
        let mut run = Run::new(HASH_BYTES);
        let entries = self.ids.iter().map(|(hash, number)| (*hash, *number));
        entries
            .chain(self.more.iter().copied())
            .for_each(|(hash, number)| run.push(&hash_key(hash), number));
        run.sort();
        run
    }

    /// The codes as sorted entries of the table.
    pub(super) fn code_run(&self) -> Run {
        let mut run = Run::new(self.width.bytes());
        for (number, words) in self.codes() {
            run.push(code_key(words, self.width, &mut [0; MAX_KEY_BYTES]), number);
        }
        run.sort();
        run
    }
}

/// Hashes need no second hash.
#[derive(Clone, Copy, Default, Debug)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0 << 8 | u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = spread(hash);
    }
}
