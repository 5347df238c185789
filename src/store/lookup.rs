//! Look-ups: by id, by number, in the order of age, and by a code near by.
//!
//! The look-up by code needs no index in memory: codes are found in the table, and what is not
//! there yet among the recent ones. The ball around the code is probed ring by ring, each ring in
//! the order of the table, so that neighbours share a block. Where the ball holds far more codes
//! than the table, the table is read from one end to the other instead.

use super::format::{Parsed, RecordView};
use super::recent::Recent;
use super::segment::Place;
use super::table::Broken;
use super::trees::Trees;
use super::{MAX_KEY_BYTES, State, Store, code_key, lock_mutex};
use crate::code::{Code, ball_size, distance};
use crate::error::{Error, Result};
use crate::record::{Record, RecordId};

/// About as many codes are probed in the time that it takes to read a block and compare all of it.
const PROBES_PER_BLOCK: u64 = 16;

impl Store {
    /// The record with this id, and its number.
    ///
    /// # Errors
    /// [`Error::Damaged`] where its bytes are not what was written.
    pub fn get(&self, id: &RecordId) -> Result<Option<(u64, Record)>> {
        let hash = self.shared.hasher.hash(id.as_str().as_bytes());
        let places = self.with_table(|trees| {
            // Under one hold of the state, so that a record that is replaced meanwhile is found in
            // its old form or its new one.
            let state = self.shared.state();
            if !state.known_ids.may_hold(hash) {
                return Ok(Vec::new());
            }
            let mut numbers: Vec<u64> = state.find_recent(hash).collect();
            trees.find_ids(&[hash], |_, number| numbers.push(number))?;
            numbers.sort_unstable();
            numbers.dedup();
            Ok(numbers.iter().filter_map(|n| state.segments.locate(*n)).collect::<Vec<_>>())
        })?;
        for place in places {
            let read = |record: RecordView| match record.id == id.as_str() {
                true => record.to_record(self.width()).map(Some),
                false => Ok(None),
            };
            if let Some(record) = place.read(self.width(), read)? {
                return Ok(Some((place.number, record)));
            }
        }
        Ok(None)
    }

    /// The record with this number, also where it was replaced or deleted and its bytes are still
    /// there, as they are under a [`Hold`](super::Hold): a search reads what it found, whatever
    /// happened since.
    ///
    /// # Errors
    /// [`Error::Damaged`] where its bytes are not what was written.
    pub fn read(&self, number: u64) -> Result<Option<Record>> {
        self.read_with(number, |record| record.to_record(self.width()))
    }

    /// The id of the record with this number, as [`Store::read`] has it. Quicker than the record
    /// where payloads are large.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the record's bytes are not what was written.
    pub fn id_of(&self, number: u64) -> Result<Option<RecordId>> {
        self.read_with(number, |record| RecordId::new(record.id).map_err(|error| error.to_string()))
    }

    fn read_with<T>(
        &self,
        number: u64,
        take: impl FnOnce(RecordView) -> Parsed<T>,
    ) -> Result<Option<T>> {
        let place: Option<Place> = {
            let state = self.shared.state();
            let place = state.segments.locate_any(number);
            place.or_else(|| state.retired.locate(number))
        };
        place.map(|place| place.read(self.width(), take)).transpose()
    }

    /// At most `limit` records that are younger than record `after`, the oldest first.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the bytes of one are not what was written.
    pub fn list(&self, after: Option<u64>, limit: usize) -> Result<Vec<(u64, Record)>> {
        let mut from = after.map_or(0, |after| after.saturating_add(1));
        let mut listed = Vec::new();
        while listed.len() < limit {
            let live = self.shared.state().segments.live_from(from);
            let Some(number) = live else { break };
            listed.extend(self.read(number)?.map(|record| (number, record)));
            from = number + 1;
        }
        Ok(listed)
    }

    /// The records within `radius` bits of `code`, at most `limit`: their numbers and distances,
    /// ordered by distance, then by age.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a code of another width, [`Error::Damaged`] where the table fails and
    /// could not be filled again.
    pub fn within(&self, code: &Code, radius: u32, limit: usize) -> Result<Vec<(u64, u32)>> {
        if code.width() != self.width() {
            let message = format!("expected {}, got {}", self.width(), code.width());
            return Err(Error::invalid("code", message));
        }
        loop {
            let moves = self.shared.state().moves;
            let (mut hits, complete) = self.with_table(|trees| match trees.given_up() {
                true => Ok((Vec::new(), true)),
                false => self.within_table(trees, code, radius, limit),
            })?;
            let state = self.shared.state();
            if state.moves != moves {
                // Something went from memory to the table after it was looked for there.
                continue;
            }
            for recent in state.recents() {
                hits.extend(within_recent(recent, code, radius));
            }
            hits.retain(|(_, number)| state.segments.is_live(*number));
            drop(state);
            hits.sort_unstable();
            hits.dedup();
            if !complete && hits.len() < limit {
                // Some of the hits died before they could be counted.
                continue;
            }
            hits.truncate(limit);
            return Ok(hits.into_iter().map(|(distance, number)| (number, distance)).collect());
        }
    }

    /// Distances and numbers of entries of the table, and whether they are all within `radius`;
    /// if not, whole rings of them with `limit` live records.
    fn within_table(
        &self,
        trees: &Trees,
        code: &Code,
        radius: u32,
        limit: usize,
    ) -> Result<(Vec<(u32, u64)>, bool), Broken> {
        let radius = radius.min(code.width().bits() as u32);
        let blocks = trees.codes.counts().blocks;
        if ball_size(code.width(), radius as usize) > PROBES_PER_BLOCK.saturating_mul(blocks) {
            return Ok((within_blocks(trees, code, radius)?, true));
        }
        let mut hits = Vec::new();
        for radius in 0..=radius {
            let mut ring: Vec<Code> = code.ring(radius as usize).collect();
            ring.sort_unstable();
            let keys: Vec<Vec<u8>> = ring.iter().map(Code::to_bytes).collect();
            trees.codes.find(&keys, |_, number| hits.push((radius, number)))?;
            let state = self.shared.state();
            hits.retain(|(_, number)| state.segments.is_live(*number));
            if hits.len() >= limit {
                return Ok((hits, false));
            }
        }
        Ok((hits, true))
    }

    /// Looks something up in the table; where that fails the table is filled again, and asked
    /// once more.
    fn with_table<T>(&self, look_up: impl Fn(&Trees) -> Result<T, Broken>) -> Result<T> {
        if let Ok(found) = look_up(&self.shared.trees).map_err(|broken| self.suspect(broken)) {
            return Ok(found);
        }
        let mut writer = lock_mutex(&self.shared.writer);
        // Another thread may have done it while this one waited.
        let reason = self.shared.state().broken.clone();
        if let Some(reason) = reason {
            self.rebuild_table(&mut writer, &reason)?;
        }
        drop(writer);
        look_up(&self.shared.trees).map_err(|broken| self.shared.table.error(broken))
    }

    fn suspect(&self, Broken(reason): Broken) {
        self.shared.state_mut().broken = Some(reason);
    }
}

impl State {
    /// What is in memory and not yet in the table.
    fn recents(&self) -> impl Iterator<Item = &Recent> {
        self.merging.as_deref().into_iter().chain([&self.recent])
    }

    /// The records in memory whose id has this hash, the dead among them too.
    pub(super) fn find_recent(&self, hash: u64) -> impl Iterator<Item = u64> {
        self.recents().flat_map(move |recent| recent.find(hash))
    }
}

fn within_recent(recent: &Recent, code: &Code, radius: u32) -> impl Iterator<Item = (u32, u64)> {
    let distances = recent.codes().map(|(number, words)| (distance(words, code.words()), number));
    distances.filter(move |(distance, _)| *distance <= radius)
}

/// Distances and numbers of all entries of the table within `radius`.
fn within_blocks(trees: &Trees, code: &Code, radius: u32) -> Result<Vec<(u32, u64)>, Broken> {
    let mut key = [0; MAX_KEY_BYTES];
    let key = code_key(code.words(), code.width(), &mut key);
    let mut hits = Vec::new();
    trees.codes.each_block(|_, block| {
        for (other, number) in block.iter() {
            let distance = byte_distance(key, other);
            if distance <= radius {
                hits.push((distance, number));
            }
        }
        Ok(())
    })?;
    Ok(hits)
}

fn byte_distance(a: &[u8], b: &[u8]) -> u32 {
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let words = a
        .iter()
        .zip(b)
        .map(|(a, b)| (u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b)).count_ones());
    words.chain(a_tail.iter().zip(b_tail).map(|(a, b)| (a ^ b).count_ones())).sum()
}
