//! Centres: codes that stand for those around them, so that a search can leave out most codes.
//!
//! The distance of codes obeys the triangle inequality. Where code x is `ring` bits from a centre
//! and the query d bits, x is at least |d - ring| bits from the query; so of a centre's codes only
//! those whose ring is within r of d can be within r of the query. Such pruning by reference
//! codes, or pivots, is as old as metric search (Burkhard, Keller: *Some approaches to best-match
//! file searching*, 1973). It is exact whatever the centres are. Good ones save more.
//!
//! Learned codes come in clusters, and centres should be their middles. They are found as in
//! k-means, with the majority of each bit for a mean, on a sample. There are many centres, so they
//! have centres of their own, the *regions*: the nearest centre is sought in the regions that can
//! hold it.

use rayon::prelude::*;

use super::kernel::{Found, Kernel, Span};

/// Codes that a centre stands for, at least, on average.
const SHARE: usize = 64;
/// Codes in the sample for each centre, and how often the centres are moved.
const SAMPLE: usize = 8;
const ROUNDS: usize = 2;
/// Regions beside the nearest that are looked into for the nearest centre: there may be nearer
/// centres elsewhere, but hardly.
const REGIONS: usize = 7;

pub(super) struct Centres {
    words: usize,
    /// Region by region: shape (centres, words).
    codes: Vec<u64>,
    /// The centres of the regions: shape (regions, words).
    regions: Vec<u64>,
    /// Where the centres of each region begin, and the end.
    starts: Vec<u32>,
    /// How far the farthest centre of each region is from the region's.
    spreads: Vec<u16>,
    /// A centre at most this far away is near enough not to look for a nearer one.
    near: u32,
}

/// Where a code belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// The region of the cluster.
    pub(super) region: u32,
    /// The cluster: the row of its centre.
    pub(super) cluster: u32,
    /// The distance from the centre.
    pub(super) ring: u32,
}

impl Centres {
    /// Centres for codes of shape (rows, words).
    pub(super) fn choose(kernel: Kernel, words: usize, rows: &[u64]) -> Self {
        let count = rows.len() / words;
        let wanted = wanted(count);
        let sample = sample(rows, words, wanted * SAMPLE);
        let leaders = leaders(kernel, words, &sample, wanted);
        let (codes, average) = middles(kernel, words, &sample, leaders);
        Self::group(kernel, words, codes, average * 5 / 4 + 1)
    }

    /// Whether they are about as many as would be chosen for so many codes.
    pub(super) fn suit(&self, count: usize) -> bool {
        let wanted = wanted(count);
        (wanted.div_ceil(2)..=2 * wanted).contains(&self.len())
    }

    /// Groups centres into about as many regions as there are centres in each.
    fn group(kernel: Kernel, words: usize, codes: Vec<u64>, near: u32) -> Self {
        let wanted = (codes.len() / words).isqrt().max(1);
        let (regions, _) = middles(kernel, words, &codes, sample(&codes, words, wanted));
        let mut rows: Vec<(Found, &[u64])> = codes
            .chunks_exact(words)
            .filter_map(|code| Some((kernel.closest(&regions, code)?, code)))
            .collect();
        rows.sort_by_key(|(found, _)| found.row);

        let mut grouped = Self {
            words,
            codes: Vec::with_capacity(codes.len()),
            regions: Vec::new(),
            starts: vec![0],
            spreads: Vec::new(),
            near,
        };
        for group in rows.chunk_by(|(a, _), (b, _)| a.row == b.row) {
            let region = group[0].0.row as usize * words;
            grouped.regions.extend_from_slice(&regions[region..region + words]);
            group.iter().for_each(|(_, code)| grouped.codes.extend_from_slice(code));
            grouped.starts.push((grouped.codes.len() / words) as u32);
            let spread = group.iter().map(|(found, _)| found.distance).max().unwrap_or(0);
            grouped.spreads.push(spread as u16);
        }
        grouped
    }

    /// The words of a code.
    pub(super) fn words(&self) -> usize {
        self.words
    }

    /// The number of clusters.
    pub(super) fn len(&self) -> usize {
        self.codes.len() / self.words
    }

    /// All centres, region by region: shape (clusters, words).
    pub(super) fn codes(&self) -> &[u64] {
        &self.codes
    }

    /// The centres of the regions: shape (regions, words).
    pub(super) fn regions(&self) -> &[u64] {
        &self.regions
    }

    /// The clusters of a region.
    pub(super) fn clusters(&self, region: u32) -> Span {
        Span { start: self.starts[region as usize], end: self.starts[region as usize + 1] }
    }

    /// Where a code belongs; the same for the same code, always. None where there is no code.
    pub(super) fn place(&self, kernel: Kernel, code: &[u64], memory: &mut Vec<Found>) -> Place {
        let none = Place { region: 0, cluster: 0, ring: u32::MAX };
        let Some(home) = kernel.closest(&self.regions, code) else { return none };
        let mut best = self.nearest_in(kernel, home.row, code, none);
        if best.ring > self.near {
            // A nearer centre may be in another region, hardly in one much farther away.
            let all = [Span { start: 0, end: self.spreads.len() as u32 }];
            memory.clear();
            kernel.within(&self.regions, code, &all, home.distance + self.near, memory);
            memory.retain(|found| found.row != home.row);
            memory.sort_unstable_by_key(|found| (found.distance, found.row));
            for &Found { row, distance } in memory.iter().take(REGIONS) {
                if distance < best.ring + u32::from(self.spreads[row as usize]) {
                    best = self.nearest_in(kernel, row, code, best);
                }
                if best.ring <= self.near {
                    break;
                }
            }
        }
        best
    }

    fn nearest_in(&self, kernel: Kernel, region: u32, code: &[u64], best: Place) -> Place {
        let Span { start, end } = self.clusters(region);
        let codes = &self.codes[start as usize * self.words..end as usize * self.words];
        match kernel.closest(codes, code) {
            Some(Found { row, distance }) if distance < best.ring => {
                Place { region, cluster: start + row, ring: distance }
            }
            _ => best,
        }
    }

    /// The bytes held.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&self.codes[..])
            + size_of_val(&self.regions[..])
            + size_of_val(&self.starts[..])
            + size_of_val(&self.spreads[..])
    }
}

/// How many centres to have for so many codes: a search looks at all centres, or those of many
/// regions, and at some clusters whole.
fn wanted(count: usize) -> usize {
    (4 * count.isqrt()).min(count / SHARE).max(1)
}

/// `wanted` rows from all over, in an order that means nothing; all where there are no more.
fn sample(rows: &[u64], words: usize, wanted: usize) -> Vec<u64> {
    let count = rows.len() / words;
    if count <= wanted {
        return rows.to_vec();
    }
    // Multiples of the golden ratio, taken modulo 1, lie evenly whatever their number.
    let place = |i: usize| {
        let share = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((u128::from(share) * count as u128) >> 64) as usize
    };
    (0..wanted).flat_map(|i| &rows[place(i) * words..][..words]).copied().collect()
}

/// At most `wanted` of the rows that are far from each other, while no row is far from all: so
/// that small clusters have a centre too, and large ones not too many.
///
/// A row leads where all leaders before it are more than `gap` bits away. The smallest gap that
/// leaves no more than are wanted is found by bisection.
fn leaders(kernel: Kernel, words: usize, rows: &[u64], wanted: usize) -> Vec<u64> {
    let lead = |gap: u32| {
        let mut leaders: Vec<u64> = Vec::new();
        for row in rows.chunks_exact(words) {
            if kernel.closest(&leaders, row).is_none_or(|found| found.distance > gap) {
                leaders.extend_from_slice(row);
                if leaders.len() > wanted * words {
                    return None;
                }
            }
        }
        Some(leaders)
    };
    let (mut low, mut high) = (0, 64 * words as u32);
    let mut best = lead(high).unwrap_or_default();
    while low < high {
        let gap = low.midpoint(high);
        match lead(gap) {
            Some(leaders) => (best, high) = (leaders, gap),
            None => low = gap + 1,
        }
    }
    best
}

/// Moves each of some codes to the middle of the rows that are nearest to it, again and again, and
/// says how far the rows were from them on average in the end.
fn middles(kernel: Kernel, words: usize, rows: &[u64], mut middles: Vec<u64>) -> (Vec<u64>, u32) {
    let mut average = 0;
    for _ in 0..ROUNDS {
        let mut nearest: Vec<(Found, &[u64])> = rows
            .par_chunks_exact(words)
            .filter_map(|row| Some((kernel.closest(&middles, row)?, row)))
            .collect();
        let sum: u64 = nearest.iter().map(|(found, _)| u64::from(found.distance)).sum();
        average = (sum / nearest.len().max(1) as u64) as u32;
        nearest.sort_by_key(|(found, _)| found.row);
        let groups: Vec<_> = nearest.chunk_by(|a, b| a.0.row == b.0.row).collect();
        middles = groups.par_iter().flat_map_iter(|group| majority(group, words)).collect();
    }
    (middles, average)
}

/// The code each of whose bits is that of most.
fn majority(group: &[(Found, &[u64])], words: usize) -> Vec<u64> {
    let mut ones = vec![0; 64 * words];
    for (_, code) in group {
        for (ones, &word) in ones.chunks_exact_mut(64).zip(*code) {
            ones.iter_mut().enumerate().for_each(|(bit, ones)| *ones += (word >> bit & 1) as usize);
        }
    }
    let most = |ones: &[usize]| {
        let bits = ones.iter().enumerate();
        bits.fold(0, |word, (bit, &ones)| word | u64::from(2 * ones > group.len()) << bit)
    };
    ones.chunks_exact(64).map(most).collect()
}
