//! Finds: exact Hamming search in memory.
//!
//! The simplest true version compares the query with every code and keeps the nearest k:
//!
//! ```
//! # use nearbit::{Code, index::Neighbour};
//! fn nearest(records: &[(u64, Code)], query: &Code, k: usize) -> Vec<Neighbour> {
//!     let distance = |(number, code): &(u64, Code)| (code.distance(query), *number);
//!     let mut all: Vec<_> = records.iter().map(distance).collect();
//!     all.sort();
//!     all.truncate(k);
//!     all.into_iter().map(|(distance, number)| Neighbour { distance, number }).collect()
//! }
//! ```
//!
//! Those lines are all that this module does, and what its tests compare it with. The rest makes
//! it fast while records come and go:
//!
//! - `kernel` compares eight codes at a time where the CPU can, and says which are near enough.
//! - `nearest` does not sort everything: it keeps a bound that what comes later must beat.
//! - `sealed` stores each code once, with its records in a bucket: equal codes, which are normal
//!   here, cost one comparison. Codes that are alike stand together, in `clusters`.
//! - `centres` finds those clusters, each around a code that stands for it. By its distance from
//!   the centres a query can tell which clusters hold nothing near.
//! - `finder` puts a million codes into their clusters without comparing each with each centre, and
//!   `entries` puts them in order there; `gather` brings those side by side that are compared at once.
//! - `search` therefore need not compare every code. It *probes* the clusters that may hold
//!   something near, the query's own first; `cost` says when a *scan* is cheaper, and `outlook`
//!   remembers where it always was.
//! - `delta` takes new records, unsorted, and `tombstones` the dead, so that a write need not sort
//!   anything. Once they have grown and somebody reads, a background task *folds* them into a new
//!   sealed part: what is sorted already is only copied. An index that is opened with many records
//!   begins in the same way: all of them are recent, and searched, before they are sorted.
//! - `pairs` asks for the ball around every record, and so finds all that are near each other.
//! - `weights` compares codes with a query of which more is known than its code.
//! - `snapshot` is one state of all that and never changes. A group of writes makes the next one,
//!   and `publication` shows it with one pointer: readers see all of the group or nothing, and
//!   never wait.
//!
//! Nothing here does I/O or fails. What stands here is derived from the store, and is rebuilt from
//! it when the process starts. A record is known by its *number*, given by the store: ascending,
//! never used again, so the number is the record's age.

mod ages;
mod centres;
mod clusters;
mod cost;
mod delta;
mod entries;
mod finder;
mod gather;
#[cfg(test)]
mod interleavings;
mod kernel;
mod nearest;
mod outlook;
mod pairs;
mod publication;
mod query;
mod sealed;
mod search;
mod snapshot;
mod sync;
#[cfg(test)]
mod tests;
mod tombstones;
mod weights;

use std::fmt;
use std::sync::{Arc, LazyLock};

use rayon::{ThreadPool, ThreadPoolBuilder};

pub use kernel::{Found, Kernel, Span};
pub use pairs::{Pair, Pairs};
use publication::{Publication, check_group};
pub use query::{Answer, Neighbour, Plan, Query, Stats};
use sealed::Sealed;
pub use snapshot::{Memory, Snapshot};
pub use weights::Weights;

use crate::code::{Code, Codes, Width};

/// For who reads, the delta is folded once it has so many rows, or one for each `FOLD_SHARE` sealed
/// ones if that is more: a scan of it then costs little beside the rest, and a row is seldom sorted
/// again. While nobody reads, nothing is sorted: a bulk load would sort and copy each row many times.
const FOLD_ROWS: usize = 16 * 1024;
const FOLD_SHARE: usize = 8;

/// Records beyond which an index that is opened is sorted while it already answers.
const PATIENCE_ROWS: usize = 1 << 20;

/// Records, known by number and code, in memory.
///
/// ```
/// use nearbit::index::{Index, Neighbour};
/// use nearbit::{Code, Codes, Width};
///
/// let width = Width::new(8)?;
/// let index = Index::new(width);
/// index.apply(&[1, 2, 3], &Codes::from_bytes(width, &[0b1111_0000, 0b1111_0011, 0])?, &[]);
/// index.apply(&[4], &Codes::from_bytes(width, &[0b1111_1111])?, &[2]); // 4 replaces 2
///
/// let query = Code::parse("0b11110000", width)?;
/// let found = |number, distance| Neighbour { number, distance };
/// assert_eq!(index.nearest(&query, 2), [found(1, 0), found(3, 4)]);
/// assert_eq!(index.within(&query, 3), [found(1, 0)]);
/// # Ok::<(), nearbit::Error>(())
/// ```
pub struct Index {
    /// Shared with a fold in the background, which may outlive the index.
    publication: Arc<Publication>,
}

impl Index {
    /// No records yet.
    pub fn new(width: Width) -> Self {
        Self::build(width, Vec::new(), Codes::new(width))
    }

    /// The records of a store: record `numbers[i]` has code `i`.
    ///
    /// # Panics
    /// Where the numbers do not ascend, or are not as many as the codes, or the codes have another
    /// width, or there are 2^30 records or more.
    pub fn build(width: Width, numbers: Vec<u64>, codes: Codes) -> Self {
        check_group(width, None, &numbers, &codes);
        let sealed = Sealed::build(width, &numbers, codes.as_words());
        let snapshot = Snapshot::new(Kernel::detect(), sealed);
        Self { publication: Arc::new(Publication::new(snapshot, numbers.last().copied())) }
    }

    /// The same records, which can be searched at once: where they are many, searches scan them
    /// until they are sorted, in the background. Meanwhile they stand in memory twice.
    ///
    /// # Panics
    /// As [`Index::build`].
    pub fn open(width: Width, numbers: Vec<u64>, codes: Codes) -> Self {
        if numbers.len() <= PATIENCE_ROWS {
            return Self::build(width, numbers, codes);
        }
        Self::build_in_background(width, numbers, codes)
    }

    fn build_in_background(width: Width, numbers: Vec<u64>, codes: Codes) -> Self {
        let index = Self::new(width);
        index.publication.apply(&numbers, &codes, &[], |_| false);
        let (publication, then) = (index.publication.clone(), index.publication.begin_fold());
        in_background(move || {
            let sealed = Sealed::build(width, &numbers, codes.as_words());
            publication.end_fold(&then, Snapshot::new(then.kernel, sealed));
        });
        index
    }

    /// The same index on another kernel than the fastest, to measure or test it.
    #[must_use]
    pub fn with_kernel(self, kernel: Kernel) -> Self {
        self.publication.set_kernel(kernel);
        self
    }

    /// Applies one group of writes: readers see all of it or nothing.
    ///
    /// Record `numbers[i]` has code `i`, and the numbers are above all that were added before.
    /// `removed` may name records of this group too; numbers that are not here are ignored, as
    /// those of records without a code.
    ///
    /// # Panics
    /// Where the numbers do not ascend, from group to group too, or are not as many as the codes,
    /// or the codes have another width. The index is then as it was.
    pub fn apply(&self, numbers: &[u64], codes: &Codes, removed: &[u64]) {
        let then = self.publication.apply(numbers, codes, removed, wastes_memory);
        if let Some(then) = then {
            self.fold_in_background(then);
        }
    }

    /// Sorts recent records into the sealed part and drops the dead, here and now.
    ///
    /// This happens by itself in the background; it is never needed for a right answer.
    pub fn fold(&self) {
        let then = self.publication.begin_fold();
        self.publication.end_fold(&then, then.folded());
    }

    /// The records as they are now, nearly all of them sorted: waits for the end of a fold that is
    /// under way or due. For what asks about each record, and would scan the recent ones for each.
    pub fn sorted_snapshot(&self) -> Arc<Snapshot> {
        self.publication.wait_for_fold();
        let now = self.publication.current.load_full();
        if !wants_fold(&now) {
            return now;
        }
        self.fold();
        self.publication.current.load_full()
    }

    /// The records as they are now, for several questions to one state.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        let now = self.publication.current.load_full();
        self.fold_if_due(&now);
        now
    }

    /// Begins a fold that is due now that somebody reads, where none is under way.
    fn fold_if_due(&self, now: &Snapshot) {
        if wants_fold(now)
            && let Some(then) = self.publication.try_begin_fold(wants_fold)
        {
            self.fold_in_background(then);
        }
    }

    fn fold_in_background(&self, then: Snapshot) {
        let publication = self.publication.clone();
        in_background(move || publication.end_fold(&then, then.folded()));
    }

    /// The width of every code.
    pub fn width(&self) -> Width {
        self.publication.current.load().width()
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.publication.current.load().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `limit` records nearest to `code`, or all where there are fewer.
    ///
    /// # Panics
    /// Where the code has another width.
    pub fn nearest(&self, code: &Code, limit: usize) -> Vec<Neighbour> {
        self.search(&Query::nearest(code, limit)).neighbours
    }

    /// The records at most `radius` bits from `code`.
    ///
    /// # Panics
    /// Where the code has another width.
    pub fn within(&self, code: &Code, radius: u32) -> Vec<Neighbour> {
        self.search(&Query::within(code, radius)).neighbours
    }

    /// Finds the neighbours of a code.
    ///
    /// # Panics
    /// Where the query's code has another width.
    pub fn search(&self, query: &Query<'_>) -> Answer {
        let now = self.publication.current.load();
        self.fold_if_due(&now);
        now.search(query)
    }

    /// Finds the neighbours of many codes, all of one state of the index, on all cores.
    ///
    /// # Panics
    /// Where a query's code has another width.
    pub fn search_batch(&self, queries: &[Query<'_>]) -> Vec<Answer> {
        self.snapshot().search_batch(queries)
    }

    /// The bytes held.
    pub fn memory(&self) -> Memory {
        self.publication.current.load().memory()
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Index({} x {})", self.len(), self.width())
    }
}

/// Folds on threads of their own: in those of searches a batch would not begin before the fold ends.
fn in_background(fold: impl FnOnce() + Send + 'static) {
    static THREADS: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
        ThreadPoolBuilder::new().thread_name(|i| format!("fold-{i}")).build().ok()
    });
    match &*THREADS {
        Some(threads) => threads.spawn(fold),
        None => rayon::spawn(fold),
    }
}

/// Whether so much is recent or dead that folding pays for who reads.
fn wants_fold(snapshot: &Snapshot) -> bool {
    let worth = FOLD_ROWS.max(snapshot.sealed.len() / FOLD_SHARE);
    snapshot.delta.len() >= worth || snapshot.dead.count() >= worth
}

/// Whether more is dead than alive: to be folded, whether anybody reads or not.
fn wastes_memory(snapshot: &Snapshot) -> bool {
    let dead = snapshot.dead.count() + snapshot.delta.dead().count();
    dead >= FOLD_ROWS.max(snapshot.len())
}
