//! Groups: the nearest records of each value of a field, and of the nearest values only.
//!
//! Hits are gone through in order and filed under what their field holds. When enough groups have
//! begun, those that are not full are filled: by a search among the records of the group where the
//! field is indexed, otherwise by going on through the hits.

use super::Collection;
use super::rescore::{Candidate, Prepared};
use super::selection::{READS_PER_LOOK, Selection, check_deadline};
use crate::error::Result;
use crate::filter::{Condition, Filter, Value};
use crate::index::Stats;
use crate::search::{GroupBy, Search};

/// The first search asks for so many times the hits that all groups hold together; every further
/// one for so many times more.
const ASK_TIMES: usize = 4;

/// A value of the field, and its nearest records.
pub(super) struct Group {
    pub(super) value: Value,
    pub(super) candidates: Vec<Candidate>,
}

/// What a search by groups found.
pub(super) struct Grouped {
    pub(super) groups: Vec<Group>,
    pub(super) stats: Stats,
    pub(super) tested: u64,
}

impl Collection {
    /// At most `search.limit` groups, in the order of their nearest records.
    pub(super) fn group(
        &self,
        selection: &Selection,
        prepared: &Prepared,
        search: &Search,
        by: &GroupBy,
    ) -> Result<Grouped> {
        let indexed = self.inner.fields.is_complete(&by.field);
        let mut ask = search.limit.saturating_mul(by.size).saturating_mul(ASK_TIMES).max(64);
        loop {
            let query = prepared.query(search, ask);
            let limit = query.limit;
            let found = selection.nearest(&self.inner.store, query)?;
            let all = found.neighbours.len() < limit;
            let others = prepared.others(found.neighbours, ask);
            let candidates = self.score(&prepared.scorer, &selection.view, &others, search)?;
            let mut groups = self.file(candidates, search, by)?;
            let full = groups.iter().all(|group| group.candidates.len() == by.size);
            let begun = groups.len() == search.limit;
            let to_fill = begun && !all && !full && indexed;
            if to_fill {
                self.fill(&mut groups, prepared, search, by)?;
            }
            if all || (begun && full) || to_fill {
                return Ok(Grouped { groups, stats: found.stats, tested: found.tested });
            }
            ask = ask.saturating_mul(ASK_TIMES);
        }
    }

    /// Files candidates under what they hold in the field; those that hold no single value there
    /// have no group.
    fn file(
        &self,
        candidates: Vec<Candidate>,
        search: &Search,
        by: &GroupBy,
    ) -> Result<Vec<Group>> {
        let mut groups: Vec<Group> = Vec::new();
        let mut full = 0;
        for (i, mut candidate) in candidates.into_iter().enumerate() {
            if full == search.limit {
                break;
            }
            if i % READS_PER_LOOK == 0 {
                check_deadline(search.deadline)?;
            }
            let record = self.record(candidate.number)?;
            let Some(value) = by.field.value_of(&record.payload) else { continue };
            candidate.record = Some(record);
            match groups.iter().position(|group| group.value == value) {
                Some(known) if groups[known].candidates.len() < by.size => {
                    groups[known].candidates.push(candidate);
                }
                None if groups.len() < search.limit => {
                    groups.push(Group { value, candidates: vec![candidate] });
                }
                _ => {}
            }
            full = groups.iter().filter(|group| group.candidates.len() == by.size).count();
        }
        Ok(groups)
    }

    /// Fills groups that are not full.
    fn fill(
        &self,
        groups: &mut Vec<Group>,
        prepared: &Prepared,
        search: &Search,
        by: &GroupBy,
    ) -> Result<()> {
        for group in groups.iter_mut().filter(|group| group.candidates.len() < by.size) {
            let same = Filter::Field(by.field.clone(), Condition::In(vec![group.value.clone()]));
            let filter = Filter::All(search.filter.iter().cloned().chain([same]).collect());
            let selection = self.select(Some(&filter), search.deadline)?;
            let found = selection.nearest(&self.inner.store, prepared.query(search, by.size))?;
            let others = prepared.others(found.neighbours, by.size);
            group.candidates = self.score(&prepared.scorer, &selection.view, &others, search)?;
        }
        // What was replaced meanwhile may have been the only record of a group.
        groups.retain(|group| !group.candidates.is_empty());
        Ok(())
    }
}
