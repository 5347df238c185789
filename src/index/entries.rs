//! Records on their way into clusters: where each belongs, and in which order they will stand.

use rayon::prelude::*;

use super::centres::Centres;
use super::finder::Finder;
use super::kernel::Kernel;

/// Records in the order of the clusters.
pub(super) struct Entries<'a> {
    words: usize,
    /// Their codes: shape (records, words).
    rows: &'a [u64],
    /// Cluster by cluster, by ring, code and age.
    entries: Vec<Entry>,
    /// Where the entries of each cluster begin, and the end.
    bounds: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Entry {
    ring: u16,
    index: u32,
    /// Most codes differ in their first word, so it travels along.
    first: u64,
}

impl<'a> Entries<'a> {
    /// Finds the cluster of each row, and sorts them, on all cores.
    pub(super) fn sort(centres: &Centres, rows: &'a [u64]) -> Self {
        let words = centres.words();
        let places = Finder::new(Kernel::detect(), centres).places(rows);

        let mut bounds = vec![0u32; centres.len() + 1];
        places.iter().for_each(|place| bounds[place.row as usize + 1] += 1);
        for cluster in 0..centres.len() {
            bounds[cluster + 1] += bounds[cluster];
        }
        let mut next = bounds.clone();
        let mut entries = vec![Entry { ring: 0, index: 0, first: 0 }; places.len()];
        for ((place, code), index) in places.iter().zip(rows.chunks_exact(words)).zip(0..) {
            let at = &mut next[place.row as usize];
            entries[*at as usize] = Entry { ring: place.distance as u16, index, first: code[0] };
            *at += 1;
        }
        let mut sorted = Self { words, rows, entries, bounds };
        sorted.sort_clusters();
        sorted
    }

    fn sort_clusters(&mut self) {
        let row = |index: u32| &self.rows[index as usize * self.words..][..self.words];
        let mut rest = &mut self.entries[..];
        let mut clusters = Vec::with_capacity(self.bounds.len());
        for bounds in self.bounds.windows(2) {
            let (cluster, behind) = rest.split_at_mut((bounds[1] - bounds[0]) as usize);
            clusters.push(cluster);
            rest = behind;
        }
        clusters.into_par_iter().for_each(|cluster| {
            cluster.par_sort_unstable_by(|a, b| {
                (a.ring, a.first)
                    .cmp(&(b.ring, b.first))
                    .then_with(|| row(a.index)[1..].cmp(&row(b.index)[1..]))
                    .then(a.index.cmp(&b.index))
            });
        });
    }

    /// The records of a cluster: ring, code and index, in this order.
    pub(super) fn cluster(&self, cluster: usize) -> impl Iterator<Item = (u16, &[u64], u32)> {
        let (start, end) = (self.bounds[cluster] as usize, self.bounds[cluster + 1] as usize);
        let entries = self.entries[start..end].iter();
        entries.map(|entry| (entry.ring, self.code(entry), entry.index))
    }

    fn code<'b>(&'b self, entry: &'b Entry) -> &'b [u64] {
        match self.words {
            // What is at hand need not come from far away.
            1 => std::slice::from_ref(&entry.first),
            words => &self.rows[entry.index as usize * words..][..words],
        }
    }
}
