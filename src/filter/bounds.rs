//! What indexes can say of a filter without reading a payload: the records that match for sure,
//! and those that may.
//!
//! A condition on an indexed field is answered by the index for every record that it has seen; all
//! others may match. A condition on any other field may be met by every record. Both bounds go
//! through "and", "or" and "not" exactly, so where nothing is left between them the answer is
//! exact, and where something is, only its payloads have to be read.

use std::collections::{BTreeMap, HashMap};

use super::{Field, FieldIndex, Filter};
use crate::numbers::Numbers;
use crate::record::RecordId;

/// What the bounds of a filter follow from.
pub(crate) struct Known<'a> {
    pub(crate) fields: &'a BTreeMap<Field, FieldIndex>,
    /// The number of the record with each id that the filter names, where there is one.
    pub(crate) ids: &'a HashMap<RecordId, u64>,
    /// All records have smaller numbers.
    pub(crate) end: u64,
}

/// Sets of record numbers: `sure` match, and no other than those in `maybe`, which holds `sure`.
/// Numbers of dead records may be in either.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    pub(crate) sure: Numbers,
    pub(crate) maybe: Numbers,
}

impl Bounds {
    pub(crate) fn of(filter: &Filter, known: &Known) -> Self {
        let everyone = || Numbers::from(0..known.end);
        match filter {
            Filter::All(filters) => {
                let all = filters.iter().map(|filter| Self::of(filter, known));
                all.reduce(|mut all, next| {
                    all.sure &= &next.sure;
                    all.maybe &= &next.maybe;
                    all
                })
                .unwrap_or_else(|| Self::exactly(everyone()))
            }
            Filter::Any(filters) => {
                let all = filters.iter().map(|filter| Self::of(filter, known));
                all.reduce(|mut any, next| {
                    any.sure |= &next.sure;
                    any.maybe |= &next.maybe;
                    any
                })
                .unwrap_or_else(Self::none)
            }
            Filter::Not(filter) => {
                let not = Self::of(filter, known);
                let (mut sure, mut maybe) = (everyone(), everyone());
                sure -= &not.maybe;
                maybe -= &not.sure;
                Self { sure, maybe }
            }
            Filter::Ids(ids) => {
                Self::exactly(ids.iter().filter_map(|id| known.ids.get(id)).copied().collect())
            }
            Filter::Field(field, condition) => match known.fields.get(field) {
                Some(index) => {
                    let mut bounds = Self::exactly(index.find(condition));
                    bounds.maybe |= &index.unseen(known.end);
                    bounds
                }
                None => Self { sure: Numbers::new(), maybe: everyone() },
            },
        }
    }

    /// No record matches.
    pub(crate) fn none() -> Self {
        Self::exactly(Numbers::new())
    }

    fn exactly(numbers: Numbers) -> Self {
        Self { sure: numbers.clone(), maybe: numbers }
    }

    /// The records of which only their payload can tell.
    pub(crate) fn unsure(&self) -> Numbers {
        let mut unsure = self.maybe.clone();
        unsure -= &self.sure;
        unsure
    }
}

impl Filter {
    /// Every id that it names.
    pub(crate) fn ids(&self) -> Vec<&RecordId> {
        match self {
            Self::All(filters) | Self::Any(filters) => filters.iter().flat_map(Self::ids).collect(),
            Self::Not(filter) => filter.ids(),
            Self::Ids(ids) => ids.iter().collect(),
            Self::Field(..) => Vec::new(),
        }
    }
}
