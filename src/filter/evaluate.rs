//! Whether one record matches: the meaning of a filter, in the plainest form.

use serde_json::Value as Json;

use super::{Comparison, Condition, Field, Filter, Point, Value};
use crate::record::{Payload, RecordId};

impl Filter {
    /// Whether a record with this id and payload matches.
    ///
    /// ```
    /// use nearbit::{Filter, Payload, RecordId};
    ///
    /// let filter = Filter::parse("year >= 1990")?;
    /// let id = RecordId::new("a")?;
    /// assert!(filter.matches(&id, &Payload::from_json(r#"{"year": 1993}"#)?));
    /// assert!(!filter.matches(&id, &Payload::default()));
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn matches(&self, id: &RecordId, payload: &Payload) -> bool {
        match self {
            Self::All(filters) => filters.iter().all(|filter| filter.matches(id, payload)),
            Self::Any(filters) => filters.iter().any(|filter| filter.matches(id, payload)),
            Self::Not(filter) => !filter.matches(id, payload),
            Self::Ids(ids) => ids.contains(id),
            Self::Field(field, condition) => {
                field.of(payload).is_some_and(|value| condition.is_met_by(value))
            }
        }
    }
}

impl Field {
    /// The value that `payload` has at this place, where it is a single one.
    pub(crate) fn value_of(&self, payload: &Payload) -> Option<Value> {
        Value::of(self.of(payload)?)
    }

    /// What `payload` has at this place.
    pub(super) fn of<'a>(&self, payload: &'a Payload) -> Option<&'a Json> {
        let (first, rest) = self.0.split_first()?;
        let outermost = payload.fields().get(first)?;
        rest.iter().try_fold(outermost, |value, name| value.as_object()?.get(name))
    }
}

impl Condition {
    fn is_met_by(&self, json: &Json) -> bool {
        let elements = || json.as_array().map(|array| array.iter().filter_map(Value::of));
        match self {
            Self::Exists => true,
            Self::IsNull => json.is_null(),
            Self::In(values) => Value::of(json).is_some_and(|value| values.contains(&value)),
            Self::Compare(comparison, point) => {
                Value::of(json).is_some_and(|value| comparison.holds(&value, point))
            }
            Self::ContainsAny(values) => {
                elements().is_some_and(|mut elements| elements.any(|e| values.contains(&e)))
            }
            Self::ContainsAll(values) => elements().is_some_and(|elements| {
                let elements: Vec<Value> = elements.collect();
                values.iter().all(|value| elements.contains(value))
            }),
        }
    }
}

impl Comparison {
    /// Whether `value` stands so to `point`.
    fn holds(self, value: &Value, point: &Point) -> bool {
        point.compare(value).is_some_and(|order| match self {
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        })
    }
}
