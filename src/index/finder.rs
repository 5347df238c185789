//! Finds the nearest centre of many codes, mostly without a look at all centres.
//!
//! Centres that are alike make a region. The best centre in a code's region, b bits away, is the
//! nearest of all where every centre of another region is over 2b bits from it: by the triangle
//! inequality those are over b bits from the code. Only where it is not so are all looked at.

use super::centres::{Centres, middles, sample};
use super::kernel::{Found, Kernel};

pub(super) struct Finder<'a> {
    kernel: Kernel,
    centres: &'a Centres,
    /// The middle of each region: shape (regions, words).
    regions: Vec<u64>,
    /// Where the centres of each region begin in what follows, and the end.
    starts: Vec<usize>,
    /// The row of each centre, region by region, and its code.
    rows: Vec<u32>,
    codes: Vec<u64>,
    /// How far each centre is from the nearest one of another region.
    gaps: Vec<u32>,
}

impl<'a> Finder<'a> {
    pub(super) fn new(kernel: Kernel, centres: &'a Centres) -> Self {
        let words = centres.words();
        let few = sample(centres.codes(), words, centres.len().isqrt());
        let regions = middles(kernel, words, centres.codes(), few);
        let region = |code: &[u64]| kernel.closest(&regions, code).map(|found| found.row);
        let mut grouped: Vec<(Option<u32>, u32, &[u64])> = (0..)
            .zip(centres.codes().chunks_exact(words))
            .map(|(row, code)| (region(code), row, code))
            .collect();
        grouped.sort_unstable();
        let rows = grouped.iter().map(|&(_, row, _)| row).collect();
        let codes: Vec<u64> = grouped.iter().flat_map(|&(_, _, code)| code).copied().collect();
        let start = |region| grouped.partition_point(|&(of, ..)| of < Some(region));
        let starts: Vec<usize> = (0..=(regions.len() / words) as u32).map(start).collect();
        let gap = |bounds: &[usize], code: &[u64]| {
            let others = [&codes[..bounds[0] * words], &codes[bounds[1] * words..]];
            let nearest = others.into_iter().filter_map(|codes| kernel.closest(codes, code));
            nearest.map(|found| found.distance).min().unwrap_or(u32::MAX)
        };
        let gaps = starts.windows(2).flat_map(|bounds| {
            let members = codes[bounds[0] * words..bounds[1] * words].chunks_exact(words);
            members.map(move |code| gap(bounds, code))
        });
        let gaps = gaps.collect();
        Self { kernel, centres, regions, starts, rows, codes, gaps }
    }

    /// What [`Centres::place`] gives.
    pub(super) fn place(&self, code: &[u64]) -> Found {
        self.in_region(code).unwrap_or_else(|| self.centres.place(self.kernel, code))
    }

    /// The best centre of the code's region, where it must be the nearest of all.
    fn in_region(&self, code: &[u64]) -> Option<Found> {
        let region = self.kernel.closest(&self.regions, code)?.row as usize;
        let (start, end) = (self.starts[region], self.starts[region + 1]);
        let members = &self.codes[start * code.len()..end * code.len()];
        let Found { row, distance } = self.kernel.closest(members, code)?;
        let at = start + row as usize;
        (2 * distance < self.gaps[at]).then_some(Found { row: self.rows[at], distance })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::tests::{random_codes, widths};

    #[test]
    fn finds_what_a_look_at_all_centres_finds() {
        for width in widths() {
            for (rows, groups) in [(1, 1), (3000, 1), (3000, 40), (3000, 3000)] {
                let codes = random_codes(width, rows, groups, 1);
                let kernel = Kernel::detect();
                let centres = Centres::choose(kernel, width.words(), codes.as_words());
                let finder = Finder::new(kernel, &centres);
                for code in codes.rows().chain(random_codes(width, 200, 300, 2).rows()) {
                    assert_eq!(finder.place(code), centres.place(kernel, code));
                }
            }
        }
    }
}
