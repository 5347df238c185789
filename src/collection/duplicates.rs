//! Near duplicates: records whose codes lie close together, in groups.
//!
//! Two records are linked where their codes differ in at most so many bits; a group is whoever is
//! linked, directly or through others (single linkage). Equal codes are compared once, however many
//! records share them.

use rayon::prelude::*;

use super::Collection;
use crate::code::Codes;
use crate::error::{Error, Result};
use crate::index::Index;
use crate::record::RecordId;

/// Codes whose neighbours are looked for at a time: their links are then drawn, and forgotten.
const CHUNK: usize = 1 << 14;

impl Collection {
    /// Groups of two records or more within `radius` bits of one another, directly or through
    /// others: the oldest record of a group first, and the group with the oldest record first.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// use nearbit::NewRecord;
    ///
    /// let copy = NewRecord::text("the far side of the moon").with_id("moon-2")?;
    /// notes.upsert(vec![copy])?;
    /// let groups = notes.near_duplicates(2)?;
    /// assert_eq!(groups.len(), 1);
    /// assert_eq!((groups[0][0].as_str(), groups[0][1].as_str()), ("moon", "moon-2"));
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// Damaged bytes, or a disk that does not answer.
    pub fn near_duplicates(&self, radius: u32) -> Result<Vec<Vec<RecordId>>> {
        self.check_alive()?;
        let snapshot = self.inner.index.snapshot();
        let mut rows: Vec<(&[u64], u64)> =
            snapshot.rows().map(|(number, words)| (words, number)).collect();
        rows.par_sort_unstable();
        let buckets: Vec<&[(&[u64], u64)]> = rows.chunk_by(|a, b| a.0 == b.0).collect();
        let mut codes = Codes::with_capacity(self.width(), buckets.len());
        buckets.iter().try_for_each(|bucket| codes.push_words(bucket[0].0))?;

        let index = Index::build(self.width(), (0..codes.len() as u64).collect(), codes.clone());
        let mut groups = Groups::new(codes.len());
        for start in (0..codes.len()).step_by(CHUNK) {
            let chunk = start..codes.len().min(start + CHUNK);
            let links = chunk.into_par_iter().flat_map_iter(|code| {
                let near = index.within(&codes.get(code), radius).into_iter();
                let others = near.map(|neighbour| neighbour.number as usize);
                others.filter(move |other| *other > code).map(move |other| (code, other))
            });
            let links: Vec<(usize, usize)> = links.collect();
            links.into_iter().for_each(|(a, b)| groups.link(a, b));
        }

        let mut members: Vec<Vec<u64>> = vec![Vec::new(); buckets.len()];
        for (code, bucket) in buckets.iter().enumerate() {
            members[groups.root(code)].extend(bucket.iter().map(|(_, number)| *number));
        }
        members.retain(|group| group.len() > 1);
        members.iter_mut().for_each(|group| group.sort_unstable());
        members.sort_unstable();
        let id = |number: &u64| {
            self.inner.store.id_of(*number)?.ok_or_else(|| {
                let message = format!("the index has record number {number}, the store has not");
                Error::damaged(self.name(), None, message)
            })
        };
        members.iter().map(|group| group.iter().map(id).collect()).collect()
    }
}

/// Disjoint sets, each known by one of its members (Tarjan, 1975, with halved paths).
struct Groups(Vec<usize>);

impl Groups {
    fn new(len: usize) -> Self {
        Self((0..len).collect())
    }

    fn root(&mut self, mut member: usize) -> usize {
        while self.0[member] != member {
            self.0[member] = self.0[self.0[member]];
            member = self.0[member];
        }
        member
    }

    fn link(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        // The smaller number stays the root, so that the order of links does not matter.
        self.0[a.max(b)] = a.min(b);
    }
}
