//! The index of one field: the numbers of the records that hold each value.
//!
//! It is derived from payloads and may know of some records only: it is filled in the background,
//! and a record that was just written is added a moment later. It says which records it has
//! *seen*; of the others nothing is known (see [`Bounds`](super::Bounds)). Records that are deleted
//! stay in it until they are forgotten; whoever asks passes over them.
//!
//! It holds values of every kind, so it needs no type: whatever a condition asks, it can answer.

use std::ops::Range;

use serde_json::Value as Json;

use super::sorted::Sorted;
use super::values::Values;
use super::{Condition, Field, Value};
use crate::numbers::Numbers;
use crate::record::Payload;

/// See the module.
#[derive(Default)]
pub(crate) struct FieldIndex {
    /// The records whose field is this value.
    values: Sorted,
    /// The records whose field is an array with this element.
    elements: Values,
    exists: Numbers,
    null: Numbers,
    arrays: Numbers,
    /// No record from here on was seen.
    reach: u64,
    /// The records below that were not seen.
    gaps: Numbers,
}

/// What a payload has in a field, ready to be added.
pub(crate) enum Content {
    Missing,
    Null,
    Value(Value),
    Array(Vec<Value>),
    /// An object: it is there, and that is all.
    Other,
}

impl Content {
    pub(crate) fn of(field: &Field, payload: &Payload) -> Self {
        match field.of(payload) {
            None => Self::Missing,
            Some(Json::Null) => Self::Null,
            Some(Json::Array(elements)) => {
                Self::Array(elements.iter().filter_map(Value::of).collect())
            }
            Some(json) => Value::of(json).map_or(Self::Other, Self::Value),
        }
    }
}

impl FieldIndex {
    /// Adds what a record has. Once more does no harm.
    pub(crate) fn insert(&mut self, number: u64, content: Content) {
        match content {
            Content::Missing => return,
            Content::Null => {
                self.null.insert(number);
            }
            Content::Value(value) => self.values.insert(value, number),
            Content::Array(elements) => {
                self.arrays.insert(number);
                for element in elements {
                    self.elements.insert(element, number);
                }
            }
            Content::Other => {}
        }
        self.exists.insert(number);
    }

    /// Says that all live records in `range` were inserted.
    pub(crate) fn saw(&mut self, range: Range<u64>) {
        if range.end > self.reach {
            self.gaps.insert_range(self.reach..range.start.max(self.reach));
            self.reach = range.end;
        }
        self.gaps.remove_range(range);
    }

    /// The records below `end` that were not seen.
    pub(crate) fn unseen(&self, end: u64) -> Numbers {
        let mut unseen = self.gaps.clone();
        if self.reach < end {
            unseen.insert_range(self.reach..end);
        }
        unseen
    }

    /// The first record below `end` that was not seen.
    pub(crate) fn first_unseen(&self, end: u64) -> Option<u64> {
        let gap = self.gaps.iter().next();
        gap.or((self.reach < end).then_some(self.reach))
    }

    /// Drops records, which are dead.
    pub(crate) fn forget(&mut self, dead: &Numbers) {
        self.values.forget(dead);
        self.elements.forget(dead);
        for numbers in [&mut self.exists, &mut self.null, &mut self.arrays] {
            *numbers -= dead;
        }
    }

    /// The records that were seen and meet `condition`, and perhaps dead ones.
    pub(crate) fn find(&self, condition: &Condition) -> Numbers {
        match condition {
            Condition::Exists => self.exists.clone(),
            Condition::IsNull => self.null.clone(),
            Condition::In(values) => self.values.any_of(values),
            Condition::Compare(comparison, point) => self.values.compare(*comparison, point),
            Condition::ContainsAny(values) => self.elements.any_of(values),
            Condition::ContainsAll(values) => {
                let mut found = self.arrays.clone();
                for value in values {
                    found &= &self.elements.any_of(std::slice::from_ref(value));
                }
                found
            }
        }
    }

    /// The number of different values and elements.
    pub(crate) fn values(&self) -> usize {
        self.values.len() + self.elements.len()
    }
}
