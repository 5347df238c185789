//! The search by code on the table: the small-memory way, with no index in memory.
//!
//! The simplest true version reads the table from one end to the other and keeps the best: a
//! *scan*. But a ball of few codes is looked up faster, code by code: each *ring* around the query
//! in the order of the table, so that neighbours share a block. The rings go from the inside
//! outwards, so the search can end with the ring in which enough was found. So:
//!
//! - Where the whole ball costs less than a scan, its rings are looked up.
//! - Otherwise, and where there is no radius, rings are tried for a small part of what a scan costs,
//!   as near neighbours are often that near; if they were not, the table is scanned.
//!
//! What the table does not have yet is compared in memory. The answer is that of one moment: the
//! one at which that is done.

use std::collections::BinaryHeap;
use std::time::Instant;

use super::recent::Recent;
use super::table::Broken;
use super::trees::Trees;
use super::{MAX_KEY_BYTES, Shared, State, Store, code_key};
use crate::code::{Code, Width, ball_size, distance, ring_size};
use crate::error::{Error, Result};

/// About as many codes are looked up in the time that it takes to read a block and compare all of
/// it.
const LOOK_UPS_PER_BLOCK: u64 = 16;
/// Rings that may be in vain take at most this part of a scan.
const TRY_SHARE: u64 = 8;
/// Codes that are looked up together, in the order of the table.
const LOOK_UPS: usize = 1 << 14;
/// Blocks that are read between two looks at the clock; writers wait for so many at most.
const BLOCKS: usize = 64;

/// Hits that are kept beyond those that are wanted, at first: some may die while others are found.
const SPARE: usize = 16;

/// In which way the table is searched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Whichever costs less.
    Auto,
    /// Ring by ring.
    Rings,
    /// From one end to the other.
    Scan,
}

/// What is looked for in the table.
pub struct Nearby<'a> {
    /// The code to search around.
    pub code: &'a Code,
    /// The most hits.
    pub limit: usize,
    /// How far they may be, in bits.
    pub radius: Option<u32>,
    /// Of which numbers records may be found. It must not call the store.
    pub only: &'a dyn Fn(u64) -> bool,
    /// In which way.
    pub way: Way,
    /// When to give up.
    pub deadline: Option<Instant>,
}

/// What was found in the table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Near {
    /// Numbers and distances, ordered by distance, then by age.
    pub hits: Vec<(u64, u32)>,
    /// [`Way::Rings`] or [`Way::Scan`].
    pub way: Way,
    /// The last ring that was looked up, or the distance of the last hit of a scan.
    pub radius: u32,
    /// Codes that were looked up.
    pub probes: u64,
    /// Entries that were compared, or found.
    pub compared: u64,
}

impl Store {
    /// The records within `radius` bits of `code`, at most `limit`: their numbers and distances,
    /// ordered by distance, then by age.
    ///
    /// # Errors
    /// As [`Store::nearest`].
    pub fn within(&self, code: &Code, radius: u32, limit: usize) -> Result<Vec<(u64, u32)>> {
        let (radius, only, way) = (Some(radius), &|_| true, Way::Auto);
        Ok(self.nearest(&Nearby { code, limit, radius, only, way, deadline: None })?.hits)
    }

    /// Finds the records nearest to a code in the table, and in memory what is not there yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a code of another width, [`Error::Exhausted`] for what would take too
    /// many look-ups or find more than is held in memory, [`Error::Timeout`], [`Error::Damaged`]
    /// where the table fails and could not be filled again.
    pub fn nearest(&self, query: &Nearby) -> Result<Near> {
        if query.code.width() != self.width() {
            let message = format!("expected {}, got {}", self.width(), query.code.width());
            return Err(Error::invalid("code", message));
        }
        let mut spare = SPARE;
        loop {
            let (moves, reach) = self.shared.moves_and_reach();
            let mut search = self.with_table(|trees| {
                let mut search = Search::new(&self.shared, query, reach, spare);
                match search.table(trees) {
                    Ok(()) => Ok(Ok(search)),
                    Err(Stop::Error(error)) => Ok(Err(error)),
                    Err(Stop::Broken(broken)) => Err(broken),
                }
            })??;
            let state = self.shared.state();
            if state.moves != moves {
                // Something went from memory to the table after it was looked for there.
                continue;
            }
            if !search.leave_live(&state) {
                spare = spare.saturating_mul(8);
                continue;
            }
            for recent in state.recents() {
                search.recent(&state, recent)?;
            }
            drop(state);
            return Ok(search.end());
        }
    }
}

/// Why a search ends early.
enum Stop {
    Broken(Broken),
    Error(Error),
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// One search on its way.
struct Search<'a> {
    shared: &'a Shared,
    query: &'a Nearby<'a>,
    width: Width,
    /// Records from this number on are found in memory, even where a merge has put them into the
    /// table already.
    reach: u64,
    best: Best,
    /// Whether there may be more entries in the ball than were looked at.
    ended_early: bool,
    way: Way,
    radius: u32,
    probes: u64,
    compared: u64,
}

impl<'a> Search<'a> {
    /// A search that keeps `spare` hits more than are wanted, in case some die meanwhile.
    fn new(shared: &'a Shared, query: &'a Nearby<'a>, reach: u64, spare: usize) -> Self {
        let bits = shared.width.bits() as u32;
        let radius = query.radius.unwrap_or(bits).min(bits);
        Self {
            shared,
            query,
            width: shared.width,
            reach,
            best: Best {
                room: query.limit.saturating_add(spare),
                most: shared.limits.hits,
                radius,
                heap: BinaryHeap::new(),
            },
            ended_early: false,
            way: Way::Rings,
            radius: 0,
            probes: 0,
            compared: 0,
        }
    }

    /// Searches the table.
    fn table(&mut self, trees: &Trees) -> Result<(), Stop> {
        if self.query.limit == 0 || trees.given_up() {
            return Ok(());
        }
        let radius = self.best.radius;
        let scan = trees.codes.counts().blocks.saturating_mul(LOOK_UPS_PER_BLOCK);
        let allowed = match self.query.way {
            Way::Scan => 0,
            Way::Rings => self.shared.limits.look_ups,
            Way::Auto if ball_size(self.width, radius as usize) <= scan => scan,
            Way::Auto => scan / TRY_SHARE,
        };
        for ring in 0..=radius {
            if self.probes.saturating_add(ring_size(self.width, ring as usize)) > allowed {
                return match self.query.way {
                    Way::Rings => Err(too_many_look_ups(ring, allowed).into()),
                    Way::Auto | Way::Scan => self.scan(trees),
                };
            }
            self.ring(trees, ring)?;
            if self.best.heap.len() >= self.query.limit {
                self.ended_early = ring < radius;
                break;
            }
        }
        Ok(())
    }

    /// Looks up every code at `radius` from the query.
    fn ring(&mut self, trees: &Trees, radius: u32) -> Result<(), Stop> {
        self.radius = radius;
        let mut ring = self.query.code.ring(radius as usize);
        loop {
            let mut keys: Vec<Vec<u8>> =
                ring.by_ref().take(LOOK_UPS).map(|code| code.to_bytes()).collect();
            if keys.is_empty() {
                return Ok(());
            }
            self.check_deadline()?;
            keys.sort_unstable();
            self.probes += keys.len() as u64;
            let mut found = Vec::new();
            trees.codes.find(&keys, |_, number| found.push(number))?;
            self.compared += found.len() as u64;
            found.retain(|number| *number < self.reach && (self.query.only)(*number));
            let state = self.shared.state();
            for number in found.into_iter().filter(|number| state.segments.is_live(*number)) {
                self.best.push(radius, number)?;
            }
        }
    }

    /// Compares every entry of the table.
    fn scan(&mut self, trees: &Trees) -> Result<(), Stop> {
        self.way = Way::Scan;
        self.best.heap.clear();
        let mut key = [0; MAX_KEY_BYTES];
        let key = code_key(self.query.code.words(), self.width, &mut key);
        let mut from = Some(trees.codes.lowest());
        while let Some(entry) = from {
            self.check_deadline()?;
            // The dead would take the place of the living. Writers wait for a few blocks at most.
            let state = self.shared.state();
            let mut pushed = Ok(());
            let (best, compared) = (&mut self.best, &mut self.compared);
            let only = |number: u64| {
                number < self.reach && (self.query.only)(number) && state.segments.is_live(number)
            };
            from = trees.codes.some_blocks(&entry, BLOCKS, |block| {
                *compared += block.len() as u64;
                let mut bound = best.bound();
                for (other, number) in block.iter() {
                    let distance = byte_distance(key, other);
                    if distance <= bound && pushed.is_ok() && only(number) {
                        pushed = best.push(distance, number);
                        bound = best.bound();
                    }
                }
            })?;
            pushed?;
        }
        Ok(())
    }

    /// Takes out what died since it was found; false where that leaves too few to know the rest.
    fn leave_live(&mut self, state: &State) -> bool {
        let cut = self.ended_early || self.best.heap.len() == self.best.room;
        self.best.heap.retain(|(_, number)| state.segments.is_live(*number));
        !cut || self.best.heap.len() >= self.query.limit
    }

    /// Compares what is not in the table yet.
    fn recent(&mut self, state: &State, recent: &Recent) -> Result<()> {
        if self.query.limit == 0 {
            return Ok(());
        }
        for (number, words) in recent.codes() {
            self.compared += 1;
            let distance = distance(words, self.query.code.words());
            if distance <= self.best.bound()
                && (self.query.only)(number)
                && state.segments.is_live(number)
            {
                self.best.push(distance, number)?;
            }
        }
        Ok(())
    }

    fn end(self) -> Near {
        let mut best = self.best.heap.into_sorted_vec();
        best.truncate(self.query.limit);
        let last = best.last().map_or(0, |(distance, _)| *distance);
        Near {
            radius: if self.way == Way::Scan { last } else { self.radius },
            hits: best.into_iter().map(|(distance, number)| (number, distance)).collect(),
            way: self.way,
            probes: self.probes,
            compared: self.compared,
        }
    }

    fn check_deadline(&self) -> Result<()> {
        match self.query.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(Error::Timeout),
            _ => Ok(()),
        }
    }
}

/// The nearest so far: distances and numbers.
struct Best {
    /// So many are kept.
    room: usize,
    /// The most that may be.
    most: usize,
    radius: u32,
    heap: BinaryHeap<(u32, u64)>,
}

impl Best {
    /// Nothing that is farther is wanted.
    fn bound(&self) -> u32 {
        match self.heap.peek() {
            Some((distance, _)) if self.heap.len() == self.room => *distance,
            _ => self.radius,
        }
    }

    /// Adds one within the bound.
    fn push(&mut self, distance: u32, number: u64) -> Result<()> {
        if self.heap.len() < self.room.min(self.most) {
            self.heap.push((distance, number));
        } else if self.heap.len() < self.room {
            return Err(Error::Exhausted {
                what: format!("more than {} records are within {} bits", self.most, self.radius),
                hint:
                    "set a limit, narrow the radius, index the fields of the filter, or keep the \
                       index in memory"
                        .to_owned(),
            });
        } else if let Some(mut last) = self.heap.peek_mut()
            && (distance, number) < *last
        {
            *last = (distance, number);
        }
        Ok(())
    }
}

fn too_many_look_ups(radius: u32, allowed: u64) -> Error {
    Error::Exhausted {
        what: format!(
            "to probe all codes within {radius} bits takes more than {allowed} \
             look-ups"
        ),
        hint: "narrow the radius, leave the plan to the database, or use fewer bits".to_owned(),
    }
}

fn byte_distance(a: &[u8], b: &[u8]) -> u32 {
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let words = a
        .iter()
        .zip(b)
        .map(|(a, b)| (u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b)).count_ones());
    words.chain(a_tail.iter().zip(b_tail).map(|(a, b)| (a ^ b).count_ones())).sum()
}
