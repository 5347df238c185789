//! Finds the nearest centre of many codes, mostly without a look at all centres.
//!
//! Centres that are alike stand in one region. A code is compared with the centres of the region
//! nearest to it, and where that does not settle it, with those of the other regions near it. The best
//! of them, b bits away, is the nearest of all where every centre outside *its* region is over 2b bits
//! from it: by the triangle inequality those are over b bits from the code. Codes that are still open
//! are compared with all centres within 2b bits of the best one, which are found once for all that share
//! it and b; or with all centres, where there are few.
//!
//! Codes that are to be compared with the same centres are so together, see
//! [`Kernel::closest_to_each`].

use std::ops::Range;

use rayon::prelude::*;

use super::centres::Centres;
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

/// What codes are compared with, and what comes of it; kept for their memory.
#[derive(Default)]
struct Room {
    codes: Vec<u64>,
    found: Vec<Found>,
}

impl<'a> Finder<'a> {
    pub(super) fn new(kernel: Kernel, centres: &'a Centres) -> Self {
        let regions: Vec<Range<u32>> = centres.regions().collect();
        let gap = |region: &Range<u32>, code: &[u64]| {
            let closest = |rows: &Range<u32>| kernel.closest(centres.among(rows), code);
            let others = [0..region.start, region.end..centres.len() as u32];
            let nearest = others.iter().filter_map(closest).map(|found| found.distance).min();
            nearest.unwrap_or(u32::MAX)
        };
        let gaps = regions.par_iter().flat_map_iter(|region| {
            let members = centres.among(region).chunks_exact(centres.words());
            members.map(move |code| gap(region, code))
        });
        Self { kernel, centres, gaps: gaps.collect(), points: vec![0; centres.len()] }
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
        self.kernel.closest_to_each(self.centres.middles(), rows, words, &mut homes);
        let mut wanted: Vec<Vec<u32>> = vec![Vec::new(); self.centres.regions().len()];
        for (home, index) in homes.iter().zip(0..) {
            wanted[home.row as usize].push(index);
        }
        self.compare(&mut wanted, rows, room, places);
        let is_open = |place: &Found| 2 * place.distance >= self.gaps[place.row as usize];
        if many {
            let all = [Span { start: 0, end: wanted.len() as u32 }];
            // Half of what the distances of codes that have nothing in common deviate by.
            let slack = (64 * words).isqrt() as u32 / 4;
            let (regions, codes) = (self.centres.middles(), rows.chunks_exact(words).zip(0..));
            for ((place, home), (code, index)) in places.iter().zip(&homes).zip(codes) {
                if is_open(place) {
                    let near = &mut room.found;
                    near.clear();
                    self.kernel.within(regions, code, &all, home.distance + slack, near);
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
        for (wanted, region) in wanted.iter_mut().zip(self.centres.regions()) {
            gather(rows, words, wanted.iter().copied(), codes);
            found.clear();
            self.kernel.closest_to_each(self.centres.among(&region), codes, words, found);
            for (index, found) in wanted.drain(..).zip(&*found) {
                let place = &mut places[index as usize];
                let row = region.start + found.row;
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
