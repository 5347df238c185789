//! Look-ups: by id, by number, and in the order of age.

use super::format::{Parsed, RecordView};
use super::recent::Recent;
use super::segment::Place;
use super::table::Broken;
use super::trees::Trees;
use super::{Live, State, Store, code_words, lock_mutex};
use crate::code::Codes;
use crate::error::Result;
use crate::record::{Payload, Record, RecordId};

/// Blocks that are read at a time: merges wait meanwhile.
const BLOCKS: usize = 64;
/// Records that are located at a time: writers wait meanwhile.
const LOCATED: usize = 64;

/// What hits show of a record: its id, and its payload where that is wanted.
pub type Head = (RecordId, Option<Payload>);

impl Store {
    /// The record with this id, and its number.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) where its bytes are not what was written.
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
            let read = |record: RecordView| match *record.body.id.text() == *id.as_str() {
                true => record.to_record(self.width()).map(Some),
                false => Ok(None),
            };
            let record = place.read(self.width(), read);
            if let Some(record) = record.inspect_err(|e| self.shared.damages.note_error(e))? {
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
    /// [`Error::Damaged`](crate::Error::Damaged) where its bytes are not what was written.
    pub fn read(&self, number: u64) -> Result<Option<Record>> {
        let place = self.shared.state().locate_any(number);
        self.read_place(place, |record| record.to_record(self.width()))
    }

    /// The ids of the records with these numbers, in their order and as [`Store::read`] has them,
    /// and their payloads where `payloads` are wanted. Quicker than the records: they are located
    /// many in one look at the state, and neither code nor text nor vector is copied.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) where a record's bytes are not what was written.
    pub fn heads(&self, numbers: &[u64], payloads: bool) -> Result<Vec<Option<Head>>> {
        let head = |record: RecordView| {
            let id = RecordId::new(&*record.body.id.text()).map_err(|error| error.to_string())?;
            let payload = match record.body.payload.filter(|_| payloads) {
                Some(json) => serde_json::from_slice(json).map_err(|error| error.to_string())?,
                None => Payload::default(),
            };
            Ok((id, payloads.then_some(payload)))
        };
        let mut heads = Vec::with_capacity(numbers.len());
        for numbers in numbers.chunks(LOCATED) {
            let places: Vec<Option<Place>> = {
                let state = self.shared.state();
                numbers.iter().map(|number| state.locate_any(*number)).collect()
            };
            for place in places {
                heads.push(self.read_place(place, head)?);
            }
        }
        Ok(heads)
    }

    fn read_place<T>(
        &self,
        place: Option<Place>,
        take: impl FnOnce(RecordView) -> Parsed<T>,
    ) -> Result<Option<T>> {
        let read = place.map(|place| place.read(self.width(), take)).transpose();
        read.inspect_err(|error| self.shared.damages.note_error(error))
    }

    /// At most `limit` records that are younger than record `after`, the oldest first.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) where the bytes of one are not what was written.
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

    /// The code of every live record that has one: those in the table in its order, then those that
    /// are not there yet.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) where the table fails and could not be filled
    /// again.
    pub fn codes(&self) -> Result<Codes> {
        loop {
            let (moves, reach) = self.shared.moves_and_reach();
            let mut live = self.with_table(|trees| self.codes_in_table(trees, reach))?;
            let state = self.shared.state();
            if state.moves != moves {
                continue;
            }
            for (number, words) in state.recents().flat_map(Recent::codes) {
                live.push(number, words)?;
            }
            let mut codes = Codes::with_capacity(self.width(), live.numbers.len());
            for (number, words) in live.numbers.iter().zip(live.codes.rows()) {
                if state.segments.is_live(*number) {
                    codes.push_words(words)?;
                }
            }
            return Ok(codes);
        }
    }

    /// The codes of records below `reach` in the table.
    fn codes_in_table(&self, trees: &Trees, reach: u64) -> Result<Live, Broken> {
        let mut live = Live::new(self.width());
        let mut words = Vec::new();
        let mut from = if trees.given_up() { None } else { Some(trees.codes.lowest()) };
        while let Some(entry) = from {
            let mut pushed = Ok(());
            from = trees.codes.some_blocks(&entry, BLOCKS, |block| {
                for (key, number) in block.iter().filter(|(_, number)| *number < reach) {
                    code_words(key, &mut words);
                    pushed = std::mem::replace(&mut pushed, Ok(()))
                        .and_then(|()| live.push(number, &words));
                }
            })?;
            pushed.map_err(|error| Broken::Failed(error.to_string()))?;
        }
        Ok(live)
    }

    /// Looks something up in the table; where that fails the table is filled again, and asked
    /// once more, before anybody can empty it again.
    pub(super) fn with_table<T>(&self, look_up: impl Fn(&Trees) -> Result<T, Broken>) -> Result<T> {
        if let Ok(found) = look_up(&self.shared.trees).map_err(|broken| self.suspect(broken)) {
            return Ok(found);
        }
        let mut writer = lock_mutex(&self.shared.writer);
        // Another thread may have done it while this one waited.
        let reason = self.shared.state().broken.clone();
        if let Some(reason) = reason {
            self.shared.rebuild_table(&mut writer, &reason)?;
        }
        look_up(&self.shared.trees).map_err(|broken| self.shared.table.error(broken))
    }

    fn suspect(&self, broken: Broken) {
        // It may be filled by now.
        if broken != Broken::Filling {
            self.shared.state_mut().broken = Some(broken);
        }
    }
}

impl State {
    /// Where a record stands, be it live or dead, also in a segment that was replaced and is held.
    fn locate_any(&self, number: u64) -> Option<Place> {
        self.segments.locate_any(number).or_else(|| self.retired.locate(number))
    }

    /// What is in memory and not yet in the table.
    pub(super) fn recents(&self) -> impl Iterator<Item = &Recent> {
        self.merging.as_deref().into_iter().chain([&self.recent])
    }

    /// The records in memory whose id has this hash, the dead among them too.
    pub(super) fn find_recent(&self, hash: u64) -> impl Iterator<Item = u64> {
        self.recents().flat_map(move |recent| recent.find(hash))
    }
}
