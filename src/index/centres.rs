//! Centres: codes that stand for those around them, so that a search can leave out most codes.
//!
//! Each code belongs to the cluster of its nearest centre; the distance between the two is its
//! *ring*. The distance of codes obeys the triangle inequality, which says two things of a code x
//! within r bits of a query:
//!
//! - Where the query is d bits from the centre of x, the ring of x is between d - r and d + r. Such
//!   pruning by reference codes, or pivots, is as old as metric search (Burkhard, Keller: *Some
//!   approaches to best-match file searching*, 1973).
//! - Where the query is h bits from any centre, x is at most h + r bits from that one. Its own centre
//!   is no farther, so the ring of x is at most h + r, and d at most h + 2r (Brin: *Near neighbor
//!   search in large metric spaces*, 1995). Where that centre is the nearest to the query, or nearly,
//!   and r is small, this leaves a handful of clusters.
//!
//! Both are exact whatever the centres are. Good ones save more. Learned codes come in clusters, and
//! centres should be their middles. They are found as in k-means, with the majority of each bit for
//! a mean, on a sample.

use std::ops::Range;

use rayon::prelude::*;

use super::kernel::{Found, Kernel, Span};

/// Codes that a centre stands for, at least, on average.
const SHARE: usize = 64;
/// Codes that a centre stands for, at most, on average, while there are not more than `MOST`.
const LARGE: usize = 800;
const MOST: usize = 128 * 1024;
/// Codes in the sample for each centre, and how often the centres are moved.
const SAMPLE: usize = 8;
const ROUNDS: usize = 4;

/// Rows that are compared together with the leaders before them, and those that one thread takes.
const BLOCK: usize = 2048;
const PART: usize = 256;

/// The centres of codes of so many words.
///
/// Those that are alike stand together, in *regions*. So do their clusters then, and what a search
/// looks into lies in few places of the memory.
pub(super) struct Centres {
    words: usize,
    /// How many were wanted; there are fewer where few codes differ.
    wanted: usize,
    /// Shape (centres, words).
    codes: Vec<u64>,
    /// The middle of each region: shape (regions, words).
    middles: Vec<u64>,
    /// Where each region begins, and the end.
    starts: Vec<u32>,
}

impl Centres {
    /// Centres for codes of shape (rows, words).
    pub(super) fn choose(kernel: Kernel, words: usize, rows: &[u64]) -> Self {
        let wanted = wanted(rows.len() / words);
        let sample = sample(rows, words, wanted * SAMPLE);
        let leaders = leaders(kernel, words, &sample, wanted);
        Self::in_regions(kernel, words, wanted, &middles(kernel, words, &sample, leaders))
    }

    /// Centres, each in the region whose middle is nearest to it.
    fn in_regions(kernel: Kernel, words: usize, wanted: usize, centres: &[u64]) -> Self {
        let few = sample(centres, words, (centres.len() / words).isqrt());
        let of_regions = middles(kernel, words, centres, few);
        let homes = nearest(kernel, words, &of_regions, centres);
        let mut grouped: Vec<(u32, &[u64])> = homes
            .iter()
            .zip(centres.chunks_exact(words))
            .map(|(home, code)| (home.map_or(0, |home| home.row), code))
            .collect();
        grouped.sort_unstable();
        let (mut middles, mut starts) = (Vec::new(), vec![0]);
        for region in grouped.chunk_by(|a, b| a.0 == b.0) {
            middles.extend_from_slice(&of_regions[region[0].0 as usize * words..][..words]);
            starts.push(starts[starts.len() - 1] + region.len() as u32);
        }
        let codes = grouped.iter().flat_map(|&(_, code)| code).copied().collect();
        Self { words, wanted, codes, middles, starts }
    }

    /// Whether there are any, and about as many would be wanted for so many codes.
    pub(super) fn suit(&self, count: usize) -> bool {
        let wanted = wanted(count);
        self.len() > 0 && (wanted.div_ceil(2)..=2 * wanted).contains(&self.wanted)
    }

    /// The words of a code.
    pub(super) fn words(&self) -> usize {
        self.words
    }

    /// The number of clusters.
    pub(super) fn len(&self) -> usize {
        self.codes.len() / self.words
    }

    /// All centres: shape (clusters, words).
    pub(super) fn codes(&self) -> &[u64] {
        &self.codes
    }

    /// The middle of each region: shape (regions, words).
    pub(super) fn middles(&self) -> &[u64] {
        &self.middles
    }

    /// The rows of each region.
    pub(super) fn regions(&self) -> impl ExactSizeIterator<Item = Range<u32>> {
        self.starts.windows(2).map(|bounds| bounds[0]..bounds[1])
    }

    /// The centres of some rows.
    pub(super) fn among(&self, rows: &Range<u32>) -> &[u64] {
        &self.codes[rows.start as usize * self.words..rows.end as usize * self.words]
    }

    /// The nearest centre of a code, or one that is hardly farther, without a look at all: the best of
    /// the regions that are about as near as the nearest one. Anything where there is no centre.
    pub(super) fn guess(&self, kernel: Kernel, code: &[u64]) -> Found {
        let middles = [Span { start: 0, end: self.regions().len() as u32 }];
        let nearest = kernel.closest(&self.middles, code).map_or(0, |middle| middle.distance);
        // What the distances of codes that have nothing in common deviate by.
        let slack = (64 * self.words).isqrt() as u32 / 2;
        let mut regions = Vec::new();
        kernel.within(&self.middles, code, &middles, nearest + slack, &mut regions);
        let best_of = |region: &Found| {
            let rows = self.starts[region.row as usize]..self.starts[region.row as usize + 1];
            let best = kernel.closest(self.among(&rows), code)?;
            Some(Found { row: rows.start + best.row, ..best })
        };
        let best = regions.iter().filter_map(best_of).min_by_key(|found| found.distance);
        best.unwrap_or(Found { row: 0, distance: 0 })
    }

    /// Where a code belongs: the row of its nearest centre, which is the number of its cluster, and
    /// its distance from that, the ring. The first of several that are as near, so it is the same
    /// for the same code, always; anything where there is no centre, because there was no code.
    ///
    /// The meaning of `Finder::places`, and what `guess` comes near to.
    #[cfg(test)]
    pub(super) fn place(&self, kernel: Kernel, code: &[u64]) -> Found {
        kernel.closest(&self.codes, code).unwrap_or(Found { row: 0, distance: 0 })
    }

    /// The bytes held.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&self.codes[..])
            + size_of_val(&self.middles[..])
            + size_of_val(&self.starts[..])
    }
}

/// How many centres to have for so many codes: a search looks at all centres, and at some clusters
/// whole. Beyond 2.5 million codes, clusters grow no more: the more codes there are, the nearer are
/// the neighbours, and the smaller the part of a large cluster that is worth a look.
fn wanted(count: usize) -> usize {
    let most = (count / LARGE).min(MOST);
    (2 * count.isqrt()).max(most).min(count / SHARE).max(1)
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
        for rows in rows.chunks(BLOCK * words) {
            let before = leaders.len();
            let nearest = nearest(kernel, words, &leaders, rows);
            for (row, nearest) in rows.chunks_exact(words).zip(nearest) {
                let leads = |nearest: Option<Found>| nearest.is_none_or(|near| near.distance > gap);
                if leads(nearest) && leads(kernel.closest(&leaders[before..], row)) {
                    leaders.extend_from_slice(row);
                    if leaders.len() > wanted * words {
                        return None;
                    }
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

/// The nearest of some codes for each row, on all cores; none where there is no code.
fn nearest(kernel: Kernel, words: usize, codes: &[u64], rows: &[u64]) -> Vec<Option<Found>> {
    if codes.is_empty() {
        return vec![None; rows.len() / words];
    }
    let part = |rows: &[u64]| {
        let mut found = Vec::with_capacity(rows.len() / words);
        kernel.closest_to_each(codes, rows, words, &mut found);
        found.into_iter().map(Some)
    };
    rows.par_chunks(PART * words).flat_map_iter(part).collect()
}

/// Moves each of some codes to the middle of the rows that are nearest to it, again and again.
fn middles(kernel: Kernel, words: usize, rows: &[u64], mut middles: Vec<u64>) -> Vec<u64> {
    for _ in 0..ROUNDS {
        let nearest = nearest(kernel, words, &middles, rows);
        let nearest = nearest.into_iter().zip(rows.chunks_exact(words));
        let mut nearest: Vec<(Found, &[u64])> =
            nearest.filter_map(|(found, row)| Some((found?, row))).collect();
        nearest.sort_by_key(|(found, _)| found.row);
        let groups: Vec<_> = nearest.chunk_by(|a, b| a.0.row == b.0.row).collect();
        middles = groups.par_iter().flat_map_iter(|group| majority(group, words)).collect();
    }
    middles
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::{Width, distance};
    use crate::index::tests::{random_codes, widths};

    /// One row after the other, each compared with all leaders before it.
    fn plain_leaders(words: usize, rows: &[u64], gap: u32) -> Vec<u64> {
        let mut leaders: Vec<u64> = Vec::new();
        for row in rows.chunks_exact(words) {
            if leaders.chunks_exact(words).all(|leader| distance(leader, row) > gap) {
                leaders.extend_from_slice(row);
            }
        }
        leaders
    }

    #[test]
    fn a_centre_stands_in_the_region_of_the_nearest_middle() {
        for width in widths() {
            for (rows, groups) in [(0, 1), (1, 1), (3000, 1), (3000, 40), (3000, 3000)] {
                let (codes, words) = (random_codes(width, rows, groups, 1), width.words());
                let centres = Centres::choose(Kernel::detect(), words, codes.as_words());
                let middles = || centres.middles().chunks_exact(words);
                let mut end = 0;
                for (region, middle) in centres.regions().zip(middles()) {
                    assert!(region.start == end && !region.is_empty());
                    for centre in centres.among(&region).chunks_exact(words) {
                        let nearest = middles().map(|middle| distance(middle, centre)).min();
                        assert_eq!(nearest, Some(distance(middle, centre)));
                    }
                    end = region.end;
                }
                assert_eq!(end as usize, centres.len());
            }
        }
    }

    #[test]
    fn a_guess_is_a_centre_and_mostly_the_nearest() {
        for width in widths() {
            for (rows, groups) in [(1, 1), (3000, 1), (3000, 40), (3000, 3000)] {
                let (codes, words) = (random_codes(width, rows, groups, 1), width.words());
                let (kernel, mut right) = (Kernel::detect(), 0);
                let centres = Centres::choose(kernel, words, codes.as_words());
                for code in codes.rows() {
                    let guess = centres.guess(kernel, code);
                    let nearest = centres.place(kernel, code);
                    let centre = &centres.codes()[guess.row as usize * words..][..words];
                    assert_eq!(guess.distance, distance(centre, code));
                    right += usize::from(guess.distance == nearest.distance);
                }
                assert!(4 * right >= 3 * rows, "{width}, {groups} groups: {right} of {rows}");
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "millions of codes are compared")]
    fn leaders_are_as_many_as_the_smallest_gap_allows() {
        for (bits, groups) in [(64, 40), (100, 300), (256, 1)] {
            let codes = random_codes(Width::new(bits).unwrap(), 2 * BLOCK + 100, groups, 1);
            let (rows, words) = (codes.as_words(), bits.div_ceil(64));
            for wanted in [1, 30, 700] {
                let gaps = 0..=bits as u32;
                let plain = gaps.map(|gap| plain_leaders(words, rows, gap));
                let plain = plain.into_iter().find(|leaders| leaders.len() <= wanted * words);
                let leaders = leaders(Kernel::detect(), words, rows, wanted);
                assert!(Some(leaders) == plain, "{bits} bits, {wanted} wanted");
            }
        }
    }
}
