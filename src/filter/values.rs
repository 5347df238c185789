//! The records that hold each value.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use super::Value;
use crate::numbers::Numbers;

/// Sets of records by value.
#[derive(Default)]
pub(super) struct Values(BTreeMap<Value, Postings>);

/// Values from one, or without it, up to another.
pub(super) type Stretch<'a> = (Bound<&'a Value>, Bound<&'a Value>);

impl Values {
    /// Adds a record that holds a value; says whether that is new.
    pub(super) fn insert(&mut self, value: Value, number: u64) -> bool {
        match self.0.entry(value) {
            Entry::Vacant(vacant) => {
                vacant.insert(Postings::One(number));
                true
            }
            Entry::Occupied(mut occupied) => {
                occupied.get_mut().insert(number);
                false
            }
        }
    }

    /// Drops records, and values that are in no other.
    pub(super) fn forget(&mut self, dead: &Numbers) {
        self.0.retain(|_, postings| postings.forget(dead));
    }

    /// The number of values.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The records that hold one of some values.
    pub(super) fn any_of(&self, values: &[Value]) -> Numbers {
        union(values.iter().filter_map(|value| self.0.get(value)))
    }

    /// The values of a stretch, ascending.
    pub(super) fn range(&self, stretch: Stretch) -> impl Iterator<Item = &Value> {
        self.0.range(stretch).map(|(value, _)| value)
    }

    /// The records that hold a value of a stretch.
    pub(super) fn within(&self, stretch: Stretch) -> Numbers {
        union(self.0.range(stretch).map(|(_, postings)| postings))
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

fn union<'a>(postings: impl IntoIterator<Item = &'a Postings>) -> Numbers {
    // Single numbers are put in order first: a set takes them faster then.
    let (mut single, mut many) = (Vec::new(), Vec::new());
    for postings in postings {
        match postings {
            Postings::One(number) => single.push(*number),
            Postings::Many(numbers) => many.push(numbers),
        }
    }
    single.sort_unstable();
    let mut all = Numbers::union(many);
    all |= &single.into_iter().collect();
    all
}
