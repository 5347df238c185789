//! What the ways to search cost, so that the cheapest can be taken.
//!
//! All figures are nanoseconds on one core; only their ratios matter. `benches/plans.rs` shows
//! whether they hold.

use super::kernel::Kernel;

/// To find the rings of a cluster and hand their codes to a kernel: mostly waiting for memory.
const VISIT: f64 = 10.0;

/// How much longer it takes to compare a code in a ring than in a long run.
const RING: f64 = 2.5;

/// Codes that are larger than this many bytes come from the memory, not from a cache, and a word
/// then takes at least so long.
const CACHE: f64 = 24e6;
const MEMORY: f64 = 0.24;

/// To find the code of a record by its number and wait for it, where the codes are in a cache and
/// where they are not; and for each of its words, to carry it where the kernel compares it.
const LIST: f64 = 7.0;
const LIST_FAR: f64 = 24.0;
const LIST_WORD: f64 = 1.7;

/// To look a record up in a subset.
const LOOK_UP: f64 = 40.0;

/// To compare `all` words in one go.
pub(super) fn scan(kernel: Kernel, all: usize) -> f64 {
    all as f64 * word(kernel, all)
}

/// To look into `clusters` clusters, at `words` words of all the `all` that there are.
pub(super) fn visit(kernel: Kernel, clusters: usize, words: usize, all: usize) -> f64 {
    clusters as f64 * VISIT + words as f64 * word(kernel, all) * RING
}

fn word(kernel: Kernel, all: usize) -> f64 {
    if is_far(all) { kernel.word_cost().max(MEMORY) } else { kernel.word_cost() }
}

/// Whether so many words come from the memory.
fn is_far(all: usize) -> bool {
    (all * size_of::<u64>()) as f64 > CACHE
}

/// The share of a scan's cost that a search may spend to bring its radius down, in the hope that
/// it then need not scan.
pub(super) const VENTURE: f64 = 0.25;

/// To go through a list of `records` records, each with a code of `words` words of all the `all`.
pub(super) fn list(records: u64, words: usize, all: usize) -> f64 {
    let find = if is_far(all) { LIST_FAR } else { LIST };
    records as f64 * (find + words as f64 * LIST_WORD)
}

/// To look at clusters in vain before a list: at all centres, of `centres` words, and at those that
/// were near, and at the `home` codes of the query's own cluster, each of which may be looked up.
pub(super) fn try_clusters(kernel: Kernel, centres: usize, home: usize) -> f64 {
    2.0 * scan(kernel, centres) + home as f64 * LOOK_UP
}

/// Before a list clusters are looked at where that costs less than this share of it: where few of
/// many records are wanted, they find those in a fraction of its time, if the codes are clustered.
pub(super) const TRY: f64 = 0.1;

/// To look up those that turn out near while the `limit` nearest of a share of `records` records
/// are found: for each that is wanted, 1 / `share` have to be near, and as many again each time
/// that the codes compared so far double.
pub(super) fn look_up(records: usize, share: f64, limit: usize) -> f64 {
    let wanted = limit as f64 / share;
    let doublings = (records as f64 / wanted).max(1.0).log2();
    (wanted * (1.0 + doublings)).min(records as f64) * LOOK_UP
}
