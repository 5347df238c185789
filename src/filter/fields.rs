//! The index of one field: the numbers of the records that hold each value.
//!
//! It is derived from payloads and may know of some records only: it is filled in the background,
//! and a record that was just written is added a moment later. It says which records it has
//! *seen*; of the others nothing is known (see [`Bounds`](super::Bounds)). Records that are deleted
//! stay in it until they are forgotten; whoever asks passes over them.
//!
//! It holds values of every kind, so it needs no type: whatever a condition asks, it can answer.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::{Bound, Range};

use serde_json::Value as Json;

use super::value::Kind;
use super::{Comparison, Condition, Date, Field, Point, Value};
use crate::numbers::Numbers;
use crate::record::Payload;

/// See the module.
#[derive(Default)]
pub(crate) struct FieldIndex {
    /// The records whose field is this value.
    values: BTreeMap<Value, Postings>,
    /// The records whose field is an array with this element.
    elements: BTreeMap<Value, Postings>,
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
            Content::Value(value) => post(&mut self.values, value, number),
            Content::Array(elements) => {
                self.arrays.insert(number);
                elements.into_iter().for_each(|e| post(&mut self.elements, e, number));
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
        for postings in [&mut self.values, &mut self.elements] {
            postings.retain(|_, postings| postings.forget(dead));
        }
        for numbers in [&mut self.exists, &mut self.null, &mut self.arrays] {
            *numbers -= dead;
        }
    }

    /// The records that were seen and meet `condition`, and perhaps dead ones.
    pub(crate) fn find(&self, condition: &Condition) -> Numbers {
        match condition {
            Condition::Exists => self.exists.clone(),
            Condition::IsNull => self.null.clone(),
            Condition::In(values) => union(values.iter().filter_map(|v| self.values.get(v))),
            Condition::Compare(comparison, point) => {
                union(self.values.range(range(*comparison, point)).map(|(_, postings)| postings))
            }
            Condition::ContainsAny(values) => {
                union(values.iter().filter_map(|v| self.elements.get(v)))
            }
            Condition::ContainsAll(values) => {
                let mut found = self.arrays.clone();
                for value in values {
                    found &= &union(self.elements.get(value));
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

/// The records of one value. Most values of many fields are in one record only.
enum Postings {
    One(u64),
    Many(Numbers),
}

impl Postings {
    fn insert(&mut self, number: u64) {
        match self {
            Self::One(one) if *one == number => {}
            Self::One(one) => *self = Self::Many([*one, number].into_iter().collect()),
            Self::Many(numbers) => {
                numbers.insert(number);
            }
        }
    }

    /// Whether any is left.
    fn forget(&mut self, dead: &Numbers) -> bool {
        match self {
            Self::One(one) => !dead.contains(*one),
            Self::Many(numbers) => {
                *numbers -= dead;
                !numbers.is_empty()
            }
        }
    }
}

fn post(postings: &mut BTreeMap<Value, Postings>, value: Value, number: u64) {
    match postings.entry(value) {
        Entry::Vacant(vacant) => {
            vacant.insert(Postings::One(number));
        }
        Entry::Occupied(mut occupied) => occupied.get_mut().insert(number),
    }
}

fn union<'a>(postings: impl IntoIterator<Item = &'a Postings>) -> Numbers {
    // Single numbers are put in order first: a set takes them faster then.
    let mut single = Vec::new();
    let mut all = Numbers::new();
    for postings in postings {
        match postings {
            Postings::One(number) => single.push(*number),
            Postings::Many(numbers) => all |= numbers,
        }
    }
    single.sort_unstable();
    all |= &single.into_iter().collect();
    all
}

/// The values of the point's kind that stand so to it.
fn range(comparison: Comparison, point: &Point) -> (Bound<Value>, Bound<Value>) {
    // The kinds stand in the order of `Kind`: truth values, numbers, dates, texts.
    let first_date = || Value(Kind::Date(Date::FIRST));
    let (first, behind) = match &point.value().0 {
        Kind::Number(_) => (Bound::Excluded(Value::from(true)), first_date()),
        _ => (Bound::Included(first_date()), Value(Kind::Text("".into()))),
    };
    let at = point.value().clone();
    match comparison {
        Comparison::Less => (first, Bound::Excluded(at)),
        Comparison::AtMost => (first, Bound::Included(at)),
        Comparison::Greater => (Bound::Excluded(at), Bound::Excluded(behind)),
        Comparison::AtLeast => (Bound::Included(at), Bound::Excluded(behind)),
    }
}
