//! Finds the nearest centre of many codes, mostly without a look at all centres.
//!
//! Centres that are alike make a region. A code is compared with the centres of the region nearest to
//! it, and where that does not settle it, with those of the other regions near it. The best of them, b
//! bits away, is the nearest of all where every centre outside *its* region is over 2b bits from it: by
//! the triangle inequality those are over b bits from the code. Codes that are still open are compared
//! with all centres within 2b bits of the best one, which are found once for all that share it and b;
//! or with all centres, where there are few.
//!
//! Codes that are to be compared with the same centres are so together, see
//! [`Kernel::closest_to_each`].

use rayon::prelude::*;

use super::centres::{Centres, middles, sample};
use super::gather::gather;
use super::kernel::{Found, Kernel, Span};

/// So many centres are too many to look at all of them for each code that is not settled.
const MANY: usize = 4 * 1024;

/// Codes that are looked at together.
const PART: usize = 4096;

/// For fewer codes around one centre it is not worth while to find the centres near that.
const FEW: usize = 4;

/// Codes around one centre, which are sorted by their distance from it, that are compared with the
/// same centres near that.
const AROUND: usize = 64;

/// Marks a distance where another centre may be nearer.
const OPEN: u32 = 1 << 31;

/// Nothing was looked at yet.
const NOTHING: Found = Found { row: u32::MAX, distance: u32::MAX };

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
    /// How far each centre is from the nearest one of another region, by the row of the centre.
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

/// What codes are compared with, and what comes of it; kept for their memory.
#[derive(Default)]
struct Room {
    codes: Vec<u64>,
    found: Vec<Found>,
}

impl<'a> Finder<'a> {
    pub(super) fn new(kernel: Kernel, centres: &'a Centres) -> Self {
        let words = centres.words();
        let few = sample(centres.codes(), words, centres.len().isqrt());
        let middles = middles(kernel, words, centres.codes(), few);
        let middle = |code: &[u64]| kernel.closest(&middles, code).map_or(0, |found| found.row);
        let mut grouped: Vec<(u32, u32, &[u64])> = (0..)
            .zip(centres.codes().chunks_exact(words))
            .map(|(row, code)| (middle(code), row, code))
            .collect();
        grouped.sort_unstable();
        let (mut regions, mut starts) = (Vec::new(), vec![0]);
        for group in grouped.chunk_by(|a, b| a.0 == b.0) {
            regions.extend_from_slice(&middles[group[0].0 as usize * words..][..words]);
            starts.push(starts[starts.len() - 1] + group.len());
        }
        let rows: Vec<u32> = grouped.iter().map(|&(_, row, _)| row).collect();
        let codes: Vec<u64> = grouped.iter().flat_map(|&(_, _, code)| code).copied().collect();
        let gap = |bounds: &[usize], code: &[u64]| {
            let others = [&codes[..bounds[0] * words], &codes[bounds[1] * words..]];
            let nearest = others.into_iter().filter_map(|codes| kernel.closest(codes, code));
            nearest.map(|found| found.distance).min().unwrap_or(u32::MAX)
        };
        let by_region = starts.par_windows(2).flat_map_iter(|bounds| {
            let members = codes[bounds[0] * words..bounds[1] * words].chunks_exact(words);
            members.map(move |code| gap(bounds, code))
        });
        let by_region: Vec<u32> = by_region.collect();
        let mut gaps = vec![0; rows.len()];
        rows.iter().zip(by_region).for_each(|(&row, gap)| gaps[row as usize] = gap);
        let points = vec![0; centres.len()];
        Self { kernel, centres, regions, starts, rows, codes, gaps, points }
    }

    /// What [`Centres::place`] gives, for each row.
    pub(super) fn places(&self, rows: &[u64]) -> Vec<Found> {
        self.places_among(rows, self.centres.len() >= MANY)
    }

    fn places_among(&self, rows: &[u64], many: bool) -> Vec<Found> {
        let words = self.centres.words();
        let mut places = vec![NOTHING; rows.len() / words];
        let parts = rows.par_chunks(PART * words).zip(places.par_chunks_mut(PART));
        parts.for_each_init(Room::default, |room, (rows, places)| {
            self.look_in_regions(rows, many, room, places);
        });

        let open = places.par_iter().enumerate().filter(|(_, place)| place.distance & OPEN != 0);
        let open = open.map(|(index, place)| Open {
            centre: place.row,
            distance: place.distance & !OPEN,
            index: index as u32,
        });
        let mut open: Vec<Open> = open.collect();
        let groups: Vec<&[Open]> = if many {
            open.par_sort_unstable();
            open.chunk_by(|a, b| a.centre == b.centre).collect()
        } else {
            open.chunks(PART).collect()
        };
        let settle = |room: &mut Room, group: &&[Open]| match many && group.len() >= FEW {
            true => self.around_one(group, rows, room),
            false => self.among_all(group, rows, room),
        };
        let settled = groups.par_iter().map_init(Room::default, settle);
        for (open, place) in groups.iter().zip(settled.collect::<Vec<_>>()) {
            open.iter().zip(place).for_each(|(open, place)| places[open.index as usize] = place);
        }
        places
    }

    /// The best centre of the region that is nearest to each code, or, among many, of several
    /// that are; the distance is marked where another may be nearer.
    fn look_in_regions(&self, rows: &[u64], many: bool, room: &mut Room, places: &mut [Found]) {
        let words = self.centres.words();
        let mut homes = Vec::with_capacity(places.len());
        self.kernel.closest_to_each(&self.regions, rows, words, &mut homes);
        let mut wanted: Vec<Vec<u32>> = vec![Vec::new(); self.starts.len() - 1];
        for (home, index) in homes.iter().zip(0..) {
            wanted[home.row as usize].push(index);
        }
        self.compare(&mut wanted, rows, room, places);
        let is_open = |place: &Found| 2 * place.distance >= self.gaps[place.row as usize];
        if many {
            let all = [Span { start: 0, end: wanted.len() as u32 }];
            // Half of what the distances of codes that have nothing in common deviate by.
            let slack = (64 * words).isqrt() as u32 / 4;
            let codes = rows.chunks_exact(words).zip(0..);
            for ((place, home), (code, index)) in places.iter().zip(&homes).zip(codes) {
                if is_open(place) {
                    let near = &mut room.found;
                    near.clear();
                    self.kernel.within(&self.regions, code, &all, home.distance + slack, near);
                    let others = near.iter().filter(|near| near.row != home.row);
                    others.for_each(|near| wanted[near.row as usize].push(index));
                }
            }
            self.compare(&mut wanted, rows, room, places);
        }
        let open = places.iter_mut().filter(|place| is_open(place));
        open.for_each(|place| place.distance |= OPEN);
    }

    /// Compares codes with the centres of the regions that want them, and empties what is wanted.
    fn compare(
        &self,
        wanted: &mut [Vec<u32>],
        rows: &[u64],
        Room { codes, found }: &mut Room,
        places: &mut [Found],
    ) {
        let words = self.centres.words();
        for (wanted, bounds) in wanted.iter_mut().zip(self.starts.windows(2)) {
            gather(rows, words, wanted.iter().copied(), codes);
            found.clear();
            let members = &self.codes[bounds[0] * words..bounds[1] * words];
            self.kernel.closest_to_each(members, codes, words, found);
            let rows = &self.rows[bounds[0]..bounds[1]];
            for (index, found) in wanted.drain(..).zip(&*found) {
                let place = &mut places[index as usize];
                let row = rows[found.row as usize];
                // In a region the rows ascend, so the first of several is the first of all.
                if (found.distance, row) < (place.distance, place.row) {
                    *place = Found { row, ..*found };
                }
            }
        }
    }

    /// The nearest of all centres for each of some codes.
    fn among_all(&self, group: &[Open], rows: &[u64], room: &mut Room) -> Vec<Found> {
        let (words, centres) = (self.centres.words(), self.centres.codes());
        let mut places = Vec::with_capacity(group.len());
        gather(rows, words, group.iter().map(|open| open.index), &mut room.codes);
        self.kernel.closest_to_each(centres, &room.codes, words, &mut places);
        places
    }

    /// The same for codes that share the best centre so far, by their distance from it.
    fn around_one(&self, group: &[Open], rows: &[u64], room: &mut Room) -> Vec<Found> {
        let Room { codes, found: near } = room;
        let (words, centres) = (self.centres.words(), self.centres.codes());
        let best = &centres[group[0].centre as usize * words..][..words];
        let (mut members, mut places) = (Vec::new(), Vec::with_capacity(group.len()));
        for group in group.chunks(AROUND) {
            near.clear();
            let radius = 2 * group[group.len() - 1].distance;
            self.kernel.reached(centres, best, &self.points, 0, radius, near);
            gather(centres, words, near.iter().map(|near| near.row), &mut members);
            gather(rows, words, group.iter().map(|open| open.index), codes);
            let begin = places.len();
            self.kernel.closest_to_each(&members, codes, words, &mut places);
            // In the order of the rows, so the first of several is the first of all.
            places[begin..].iter_mut().for_each(|place| place.row = near[place.row as usize].row);
        }
        places
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
                for codes in [&codes, &random_codes(width, 200, 300, 2)] {
                    let plain = codes.rows().map(|code| centres.place(kernel, code));
                    let plain: Vec<Found> = plain.collect();
                    for many in [false, true] {
                        let found = finder.places_among(codes.as_words(), many);
                        assert!(found == plain, "{width}, {groups} groups, many: {many}");
                    }
                }
            }
        }
    }
}
