//! Finds the nearest centre of many codes, mostly without a look at all centres.
//!
//! Centres that are alike make a region. The best centre in the regions near a code, b bits away, is
//! the nearest of all where every centre outside its own region is over 2b bits from it: by the
//! triangle inequality those are over b bits from the code. Where it is not so, a look at all
//! centres settles it; or, where they are many, at those within 2b bits of that one, which are found
//! once for all codes that share it and b.

use rayon::prelude::*;

use super::centres::{Centres, middles, sample};
use super::kernel::{Found, Kernel, Span};

/// So many centres are too many to look at all of them for each code that is not settled.
const MANY: usize = 16 * 1024;

/// Among many, regions are looked at that are farther than the nearest by so many bits a word.
const SLACK: u32 = 2;

/// For fewer codes around one centre it is not worth while to find the centres near that.
const FEW: usize = 8;

/// Marks a distance where another centre may be nearer.
const OPEN: u32 = 1 << 31;

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
    /// For each centre, that it reaches no farther than itself.
    points: Vec<u16>,
}

/// A code whose nearest centre is still looked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Open {
    /// The best so far, and its distance.
    centre: u32,
    distance: u32,
    /// The row of the code.
    index: u32,
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
        let gaps = starts.par_windows(2).flat_map_iter(|bounds| {
            let members = codes[bounds[0] * words..bounds[1] * words].chunks_exact(words);
            members.map(move |code| gap(bounds, code))
        });
        let gaps = gaps.collect();
        let points = vec![0; centres.len()];
        Self { kernel, centres, regions, starts, rows, codes, gaps, points }
    }

    /// What [`Centres::place`] gives, for each row.
    pub(super) fn places(&self, rows: &[u64]) -> Vec<Found> {
        if self.centres.len() >= MANY {
            return self.places_among_many(rows);
        }
        let place = |near: &mut Vec<Found>, code| match self.in_regions(code, 0, near) {
            found if is_open(&found) => self.centres.place(self.kernel, code),
            found => found,
        };
        rows.par_chunks_exact(self.centres.words()).map_init(Vec::new, place).collect()
    }

    fn places_among_many(&self, rows: &[u64]) -> Vec<Found> {
        let words = self.centres.words();
        let (codes, slack) = (rows.par_chunks_exact(words), words as u32 * SLACK);
        let place = |near: &mut Vec<Found>, code| self.in_regions(code, slack, near);
        let mut places: Vec<Found> = codes.map_init(Vec::new, place).collect();
        let open = places.par_iter().enumerate().filter(|(_, place)| is_open(place));
        let open = open.map(|(index, place)| Open {
            centre: place.row,
            distance: place.distance & !OPEN,
            index: index as u32,
        });
        let mut open: Vec<Open> = open.collect();
        open.par_sort_unstable();
        let groups: Vec<&[Open]> = open.chunk_by(|a, b| a.centre == b.centre).collect();
        let code = |index: u32| &rows[index as usize * words..][..words];
        let settled = groups.par_iter().flat_map_iter(|group| self.around_one(group, code));
        for (index, place) in settled.collect::<Vec<_>>() {
            places[index as usize] = place;
        }
        places
    }

    /// The best centre of the regions that are nearest to a code, or farther by `slack` bits; its
    /// distance is marked where another may be nearer. `near` is memory to work in.
    fn in_regions(&self, code: &[u64], slack: u32, near: &mut Vec<Found>) -> Found {
        near.clear();
        if let Some(home) = self.kernel.closest(&self.regions, code) {
            let all = Span { start: 0, end: (self.regions.len() / code.len()) as u32 };
            self.kernel.within(&self.regions, code, &[all], home.distance + slack, near);
        }
        let in_region = |region: &Found| {
            let region = region.row as usize;
            let (start, end) = (self.starts[region], self.starts[region + 1]);
            let members = &self.codes[start * code.len()..end * code.len()];
            let Found { row, distance } = self.kernel.closest(members, code)?;
            Some(Found { row: start as u32 + row, distance })
        };
        let best = near.iter().filter_map(in_region).min_by_key(|found| found.distance);
        let Some(Found { row, distance }) = best else {
            return Found { row: 0, distance: OPEN };
        };
        let open = if 2 * distance < self.gaps[row as usize] { 0 } else { OPEN };
        Found { row: self.rows[row as usize], distance: distance | open }
    }

    /// The nearest centres of codes that share the best in the regions near them, each with the
    /// index of its code.
    fn around_one<'c>(&self, group: &[Open], code: impl Fn(u32) -> &'c [u64]) -> Vec<(u32, Found)> {
        let place = |open: &Open| (open.index, self.centres.place(self.kernel, code(open.index)));
        if group.len() < FEW {
            return group.iter().map(place).collect();
        }
        let (words, centres) = (self.centres.words(), self.centres.codes());
        let centre = |row: u32| &centres[row as usize * words..][..words];
        let best = centre(group[0].centre);
        let (mut near, mut codes, mut found) = (Vec::new(), Vec::new(), Vec::new());
        for group in group.chunk_by(|a, b| a.distance == b.distance) {
            near.clear();
            codes.clear();
            let radius = 2 * group[0].distance;
            self.kernel.reached(centres, best, &self.points, 0, radius, &mut near);
            near.iter().for_each(|near| codes.extend_from_slice(centre(near.row)));
            // In the order of the rows, so the first of several is the first of all.
            found.extend(group.iter().filter_map(|open| {
                let closest = self.kernel.closest(&codes, code(open.index))?;
                Some((open.index, Found { row: near[closest.row as usize].row, ..closest }))
            }));
        }
        found
    }
}

fn is_open(found: &Found) -> bool {
    found.distance & OPEN != 0
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
                for codes in [&codes, &random_codes(width, 200, 300, 2)] {
                    let plain = codes.rows().map(|code| centres.place(kernel, code));
                    let plain: Vec<Found> = plain.collect();
                    assert_eq!(finder.places(codes.as_words()), plain);
                    assert_eq!(finder.places_among_many(codes.as_words()), plain);
                }
            }
        }
    }
}
