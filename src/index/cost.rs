//! What a probe and a scan cost, so that a search can take the cheaper one.
//!
//! All figures are nanoseconds on one core; only their ratios matter. `benches/plans.rs` and
//! `benches/ball.rs` show whether they hold.

use super::kernel::Kernel;

/// To flip the next bits, look a slot up and hand its codes to a kernel: mostly waiting for memory.
const PROBE: f64 = 8.0;

/// To compare one code in a slot, where a scan would read it in passing.
const COMPARE: f64 = 1.0;

/// To begin a ring: a call of the kernel and a cut of what was found. It makes small collections
/// be scanned.
const RING: f64 = 25.0;

/// To compare `codes` codes of `words` words in one go.
pub(super) fn scan(kernel: Kernel, codes: usize, words: usize) -> f64 {
    codes as f64 * words as f64 * kernel.word_cost()
}

/// To look into the `probes` slots of a ring, with `density` codes in each.
pub(super) fn ring(probes: u64, density: f64) -> f64 {
    RING + probes as f64 * (PROBE + density * COMPARE)
}

/// The share of a scan's cost that a search may spend on probing that may come to nothing.
pub(super) const VENTURE: f64 = 0.125;

/// To find the code of a record by its number, wait for it and compare it.
const LIST: f64 = 12.0;

/// To look a record up in a subset.
const LOOK_UP: f64 = 40.0;

/// To go through a list of `records` records.
pub(super) fn list(records: u64) -> f64 {
    records as f64 * LIST
}

/// To look up those that turn out near while the `limit` nearest of a share of `records` records
/// are found: for each that is wanted, 1 / `share` have to be near, and as many again each time
/// that the codes compared so far double.
pub(super) fn look_up(records: usize, share: f64, limit: usize) -> f64 {
    let wanted = limit as f64 / share;
    let doublings = (records as f64 / wanted).max(1.0).log2();
    (wanted * (1.0 + doublings)).min(records as f64) * LOOK_UP
}
