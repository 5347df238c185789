//! Codes cluster by cluster, and in a cluster ring by ring, each with the records that share it.
//!
//! A *ring* is those codes that are at one distance from the centre of their cluster. A *bucket* holds
//! the records that share one code: each code stands once, and the codes stand one behind the other.
//!
//! ```text
//! codes     by cluster, ring, value, each once: shape (codes, words)
//! heads     one u32 a code: the age of its record, or where its records stand in `shared`
//! shared    the ages of records that share codes, ascending, each run behind its length
//! clusters  the rings of each cluster
//! starts    one u32 a ring: its first row, and behind those of a cluster the end
//! ```

use super::kernel::{self, Span};

/// Marks a head that is a place in `shared`; no age has this bit.
const SHARED: u32 = 1 << 31;

#[derive(PartialEq)]
pub(super) struct Clusters {
    words: usize,
    /// How far the farthest code of each cluster is from its centre.
    reaches: Vec<u16>,
    clusters: Vec<Cluster>,
    starts: Vec<u32>,
    codes: Vec<u64>,
    heads: Vec<u32>,
    shared: Vec<u32>,
}

/// The rings of a cluster, from the lowest that has codes up to, but without, `end`.
#[derive(Clone, Copy, PartialEq)]
struct Cluster {
    /// Where in `starts` the lowest stands.
    starts: u32,
    low: u16,
    end: u16,
}

impl Clusters {
    /// None yet, and room for so many: clusters and records.
    pub(super) fn with_capacity(words: usize, clusters: usize, records: usize) -> Self {
        Self {
            words,
            reaches: Vec::with_capacity(clusters),
            clusters: Vec::with_capacity(clusters),
            starts: Vec::new(),
            codes: Vec::with_capacity(records * words),
            heads: Vec::with_capacity(records),
            shared: Vec::new(),
        }
    }

    /// Appends a cluster: the ring, code and age of each record, in this order.
    pub(super) fn push<'a>(&mut self, records: impl Iterator<Item = (u16, &'a [u64], u32)>) {
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

    /// The clusters of all parts, one part behind the other.
    pub(super) fn concat(words: usize, parts: Vec<Self>) -> Self {
        let sum = |of: fn(&Self) -> usize| parts.iter().map(of).sum();
        let mut all = Self::with_capacity(words, sum(Self::len), sum(|part| part.heads.len()));
        all.starts.reserve_exact(sum(|part| part.starts.len()));
        all.shared.reserve_exact(sum(|part| part.shared.len()));
        for part in parts {
            let (starts, rows) = (all.starts.len() as u32, all.heads.len() as u32);
            let shared = all.shared.len() as u32;
            let cluster = |of: Cluster| Cluster { starts: starts + of.starts, ..of };
            // A place in `shared` moves, an age does not.
            let head = |head: u32| if head & SHARED == 0 { head } else { head + shared };
            all.reaches.extend(part.reaches);
            all.clusters.extend(part.clusters.into_iter().map(cluster));
            all.starts.extend(part.starts.into_iter().map(|start| rows + start));
            all.codes.extend(part.codes);
            all.heads.extend(part.heads.into_iter().map(head));
            all.shared.extend(part.shared);
        }
        all
    }

    /// The number of clusters.
    pub(super) fn len(&self) -> usize {
        self.clusters.len()
    }

    /// Each code once: shape (codes, words).
    pub(super) fn codes(&self) -> &[u64] {
        &self.codes
    }

    /// The code of a row.
    pub(super) fn code(&self, row: u32) -> &[u64] {
        &self.codes[row as usize * self.words..][..self.words]
    }

    /// The rows of `codes()`.
    pub(super) fn span(&self) -> Span {
        Span { start: 0, end: self.heads.len() as u32 }
    }

    /// How far the farthest code of each cluster is from its centre.
    pub(super) fn reaches(&self) -> &[u16] {
        &self.reaches
    }

    /// The rows of a cluster between two rings: from `first` up to and with `last`.
    #[inline]
    pub(super) fn rings(&self, cluster: u32, first: u32, last: u32) -> Span {
        let Cluster { starts, low, end } = self.clusters[cluster as usize];
        let (low, end) = (u32::from(low), u32::from(end));
        let first = first.clamp(low, end) - low;
        let last = (last.saturating_add(1).clamp(low, end) - low).max(first);
        let start = |ring: u32| self.starts[(starts + ring) as usize];
        Span { start: start(first), end: start(last) }
    }

    /// Asks the memory for where the rings of a cluster begin, from `first` on.
    #[inline]
    pub(super) fn fetch_rings(&self, cluster: u32, first: u32) {
        let Cluster { starts, low, end } = self.clusters[cluster as usize];
        let (low, end) = (u32::from(low), u32::from(end));
        kernel::fetch(&self.starts, (starts + first.clamp(low, end) - low) as usize);
    }

    /// The first row of a cluster, or of those behind it where it is empty.
    pub(super) fn start(&self, cluster: u32) -> u32 {
        let cluster = self.clusters.get(cluster as usize);
        cluster.map_or(self.span().end, |cluster| self.starts[cluster.starts as usize])
    }

    /// The records of a cluster: ring, code and age, in this order.
    pub(super) fn records(&self, cluster: usize) -> impl Iterator<Item = (u16, &[u64], u32)> {
        let Cluster { starts, low, end } = self.clusters[cluster];
        let starts = &self.starts[starts as usize..][..=(end - low) as usize];
        let rows = (low..end).zip(starts.windows(2));
        let rows = rows.flat_map(|(ring, rows)| (rows[0]..rows[1]).map(move |row| (ring, row)));
        rows.flat_map(|(ring, row)| {
            let code = self.code(row);
            self.bucket(row).iter().map(move |&age| (ring, code, age))
        })
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

    /// Asks the memory for the bucket of a row.
    #[inline]
    pub(super) fn fetch_bucket(&self, row: u32) {
        kernel::fetch(&self.heads, row as usize);
    }

    /// The bytes of the codes.
    pub(super) fn code_memory(&self) -> usize {
        size_of_val(&self.codes[..])
    }

    /// The bytes of the buckets.
    pub(super) fn bucket_memory(&self) -> usize {
        size_of_val(&self.heads[..]) + size_of_val(&self.shared[..])
    }

    /// The bytes of all that says which codes belong to a cluster, and to a ring.
    pub(super) fn table_memory(&self) -> usize {
        size_of_val(&self.reaches[..])
            + size_of_val(&self.clusters[..])
            + size_of_val(&self.starts[..])
    }
}
