//! Holds: who works on what an index showed keeps the bytes of records that die meanwhile.
//!
//! A search finds numbers in a state of the index and reads their records later, when some of them
//! may have been replaced or deleted. Their bytes stand in the segments until compaction leaves
//! them out; a segment that it replaced is kept, its file open and without a name, for those who
//! began before.

use std::collections::VecDeque;
use std::sync::Arc;

use super::segment::{Place, Segment};
use super::{Shared, Store};

/// While it lives every record can be read that was live when it was taken, or later.
#[derive(Debug)]
pub struct Hold {
    shared: Arc<Shared>,
    /// Shared by all that were taken between two replacements of segments. Gone before `drop`
    /// counts.
    period: Option<Arc<()>>,
}

/// Segments that were replaced and may still be read.
#[derive(Debug, Default)]
pub(super) struct Retired {
    period: Arc<()>,
    /// Each with the period that its replacement ended.
    sets: VecDeque<(Arc<()>, Vec<Segment>)>,
}

impl Store {
    /// Keeps all records that are live now, and those that come, to be read with [`Store::read`]
    /// whatever becomes of them.
    ///
    /// To be taken before the state of the index whose records are read.
    pub fn hold(&self) -> Hold {
        let period = Arc::clone(&self.shared.state().retired.period);
        Hold { shared: Arc::clone(&self.shared), period: Some(period) }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.period = None;
        let any = !self.shared.state().retired.sets.is_empty();
        if any {
            // Files are closed after the state is let go of.
            let gone = self.shared.state_mut().retired.take_unheld();
            drop(gone);
        }
    }
}

impl Retired {
    /// Keeps segments that were replaced as long as somebody may read them.
    pub(super) fn push(&mut self, segments: Vec<Segment>) {
        let ended = std::mem::take(&mut self.period);
        self.sets.push_back((ended, segments));
    }

    /// Where a record stands that stands in no segment in use.
    pub(super) fn locate(&self, number: u64) -> Option<Place> {
        let segments = self.sets.iter().rev().flat_map(|(_, segments)| segments);
        segments.filter_map(|segment| segment.locate(number)).next()
    }

    /// Takes out those that nobody may read any more: who came in an earlier period may read what
    /// was replaced at the end of it, and everything after.
    pub(super) fn take_unheld(&mut self) -> Vec<(Arc<()>, Vec<Segment>)> {
        let held = |(period, _): &(Arc<()>, _)| Arc::strong_count(period) > 1;
        let unheld = self.sets.iter().position(held).unwrap_or(self.sets.len());
        self.sets.drain(..unheld).collect()
    }
}
