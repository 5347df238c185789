//! The records that hold each value, so that those of a range of values are found quickly.
//!
//! The simplest true version unites the records of each value in the range. Where most values are
//! in one record only, that goes through every record of the range one by one: 39 ms for half of a
//! million. So what has an order, numbers and dates, is kept twice. A *block* is a stretch of
//! values and has the union of their records. A range takes the blocks that lie in it; only in the
//! one or two that it cuts are values gone through.
//!
//! ```text
//! values   -7 -2 0 | 1 3 4 9 | 10 11 15 17 | 20 ...      blocks between |
//! >= 3               . 3 4 9 | whole       | whole ...
//! ```
//!
//! It is a B+ tree of two floors in which a node carries what lies below it.

use std::collections::BTreeMap;
use std::ops::Bound::{self, Excluded, Included, Unbounded};

use super::value::Kind;
use super::values::{Stretch, Values};
use super::{Comparison, Date, Point, Value};
use crate::numbers::Numbers;

/// A block with more values is split.
const MOST: usize = if cfg!(test) { 8 } else { 4096 };

/// See the module. Each record holds one value.
#[derive(Default)]
pub(super) struct Sorted {
    values: Values,
    /// By the least value that may be in it.
    blocks: BTreeMap<Value, Block>,
}

#[derive(Default)]
struct Block {
    /// How many values it has; some of them may be forgotten.
    values: usize,
    /// The union of their records.
    records: Numbers,
}

impl Sorted {
    /// Adds a record that holds a value.
    pub(super) fn insert(&mut self, value: Value, number: u64) {
        if self.blocks.is_empty() {
            // What has an order stands between these two, and they stay.
            self.blocks.insert(Value::from(false), Block::default());
            self.blocks.insert(Value::from(""), Block::default());
        }
        let block = self.blocks.range_mut(..=&value).next_back();
        let block = block.filter(|_| value.is_ordered());
        let is_new = self.values.insert(value, number);
        let Some((first, block)) = block else { return };
        block.records.insert(number);
        block.values += usize::from(is_new);
        if block.values > MOST {
            let first = first.clone();
            self.split(&first);
        }
    }

    /// Cuts a block in the middle, unless too few values are left in it.
    fn split(&mut self, first: &Value) {
        let stretch = (Included(first), self.behind(first));
        let count = self.values.range(stretch).count();
        let middle = self.values.range(stretch).nth(count / 2).filter(|_| count > MOST);
        let upper = middle.map(|middle| {
            let records = self.values.within((Included(middle), stretch.1));
            (middle.clone(), Block { values: count - count / 2, records })
        });
        let Some(block) = self.blocks.get_mut(first) else { return };
        block.values = count;
        if let Some((middle, upper)) = upper {
            block.values -= upper.values;
            block.records -= &upper.records;
            self.blocks.insert(middle, upper);
        }
    }

    /// Where the block ends that begins with `first`.
    fn behind(&self, first: &Value) -> Bound<&Value> {
        let mut behind = self.blocks.range((Excluded(first), Unbounded));
        behind.next().map_or(Unbounded, |(next, _)| Excluded(next))
    }

    /// Drops records.
    pub(super) fn forget(&mut self, dead: &Numbers) {
        self.values.forget(dead);
        self.blocks.retain(|first, block| {
            block.records -= dead;
            !block.records.is_empty() || !first.is_ordered()
        });
    }

    /// The number of values.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The records that hold one of some values.
    pub(super) fn any_of(&self, values: &[Value]) -> Numbers {
        self.values.any_of(values)
    }

    /// The records whose value is of the point's kind and stands so to it.
    pub(super) fn compare(&self, comparison: Comparison, point: &Point) -> Numbers {
        let (low, high) = range(comparison, point);
        let (low, high) = (low.as_ref(), high.as_ref());
        let begun: Vec<(&Value, &Block)> = self.blocks.range((low, high)).collect();
        let (Some((first, _)), Some((last, end))) = (begun.first(), begun.last()) else {
            return self.values.within((low, high));
        };
        let whole = begun[..begun.len() - 1].iter().map(|(_, block)| &block.records);
        let mut found = Numbers::union(whole);
        if let Included(value) | Excluded(value) = low
            && let Some((start, block)) = self.blocks.range(..=value).next_back()
            && start < *first
        {
            found |= &self.part(block, (low, Excluded(first)), (Included(start), flipped(low)));
        }
        found |= &self.part(end, (Included(last), high), (flipped(high), self.behind(last)));
        found
    }

    /// The records of a block with values `inside`, which are all but those `outside`: whichever
    /// values are fewer are gone through.
    fn part(&self, block: &Block, inside: Stretch, outside: Stretch) -> Numbers {
        let fewer = self.values.range(inside).zip(self.values.range(outside)).count();
        if self.values.range(inside).nth(fewer).is_none() {
            return self.values.within(inside);
        }
        let mut records = block.records.clone();
        records -= &self.values.within(outside);
        records
    }
}

/// Where the values end that others begin with, and the other way round.
fn flipped(bound: Bound<&Value>) -> Bound<&Value> {
    match bound {
        Included(value) => Excluded(value),
        Excluded(value) => Included(value),
        Unbounded => Unbounded,
    }
}

/// The values of the point's kind that stand so to it.
fn range(comparison: Comparison, point: &Point) -> (Bound<Value>, Bound<Value>) {
    // The kinds stand in the order of `Kind`: truth values, numbers, dates, texts.
    let first_date = || Value(Kind::Date(Date::FIRST));
    let (first, behind) = match &point.value().0 {
        Kind::Number(_) => (Excluded(Value::from(true)), first_date()),
        _ => (Included(first_date()), Value::from("")),
    };
    let at = point.value().clone();
    match comparison {
        Comparison::Less => (first, Excluded(at)),
        Comparison::AtMost => (first, Included(at)),
        Comparison::Greater => (Excluded(at), Excluded(behind)),
        Comparison::AtLeast => (Included(at), Excluded(behind)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Values of every kind, which stand close to each other where order is hard to get right:
    /// around zero, beyond 2^53 where not every integer is a float, and at the ends of integers.
    fn value() -> impl Strategy<Value = Value> {
        let near = |point: i64| (-4i64..=4).prop_map(move |i| Value::from(point.saturating_add(i)));
        let float = |number: f64| Value::number(number).unwrap();
        prop_oneof![
            8 => (-60i64..60).prop_map(Value::from),
            8 => (-60i64..60).prop_map(move |quarters| float(quarters as f64 / 4.0)),
            2 => prop_oneof![near(1 << 53), near(-(1 << 53)), near(i64::MIN), near(i64::MAX)],
            1 => (0u64..4).prop_map(|i| Value::from(u64::MAX - i)),
            1 => (50i32..70, any::<bool>()).prop_map(move |(exponent, minus)| {
                float(2f64.powi(exponent) * if minus { -1.0 } else { 1.0 })
            }),
            1 => any::<f64>().prop_filter_map("finite", |x| Value::number(x).ok()),
            4 => (1u32..29, 0u32..24).prop_map(|(day, hour)| {
                Value::from(format!("2024-02-{day:02}T{hour:02}:00:00+01:00"))
            }),
            1 => proptest::sample::select(vec!["0000-01-01", "1969-12-31", "9999-12-31"])
                .prop_map(Value::from),
            1 => any::<bool>().prop_map(Value::from),
            1 => "[a-c]{0,2}".prop_map(Value::from),
        ]
    }

    fn holds(comparison: Comparison, value: &Value, point: &Point) -> bool {
        point.compare(value).is_some_and(|order| match comparison {
            Comparison::Less => order.is_lt(),
            Comparison::AtMost => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::AtLeast => order.is_ge(),
        })
    }

    /// Every range at every value, against every record in turn.
    fn check(sorted: &Sorted, records: &BTreeMap<u64, Value>) {
        let kinds =
            [Comparison::Less, Comparison::AtMost, Comparison::Greater, Comparison::AtLeast];
        for point in records.values().filter_map(|value| Point::try_from(value.clone()).ok()) {
            for comparison in kinds {
                let expected = records.iter().filter(|(_, v)| holds(comparison, v, &point));
                let expected: Vec<u64> = expected.map(|(number, _)| *number).collect();
                let found: Vec<u64> = sorted.compare(comparison, &point).iter().collect();
                assert_eq!(found, expected, "{comparison:?} {point}");
            }
        }
        let firsts: Vec<&Value> = sorted.blocks.keys().collect();
        for (first, block) in &sorted.blocks {
            let stretch = (Included(first), sorted.behind(first));
            let has = sorted.values.range(stretch).filter(|value| value.is_ordered()).count();
            assert!(has <= block.values && block.values <= MOST, "{first} of {firsts:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// Records come, are replaced and go, one after the other and many at once.
        #[test]
        fn ranges_are_those_of_every_record_in_turn(
            groups in proptest::collection::vec(
                (
                    proptest::collection::vec((value(), 1u64..1 << 20), 0..60),
                    proptest::collection::vec(any::<proptest::sample::Index>(), 0..60),
                ),
                1..6,
            ),
        ) {
            let (mut sorted, mut records) = (Sorted::default(), BTreeMap::new());
            let mut next = 0;
            for (group, dead) in groups {
                for (value, gap) in group {
                    next += gap;
                    sorted.insert(value.clone(), next);
                    sorted.insert(value.clone(), next);
                    records.insert(next, value);
                }
                check(&sorted, &records);
                let numbers: Vec<u64> = records.keys().copied().collect();
                if numbers.is_empty() {
                    continue;
                }
                let dead: Numbers = dead.iter().map(|index| *index.get(&numbers)).collect();
                sorted.forget(&dead);
                records.retain(|number, _| !dead.contains(*number));
                check(&sorted, &records);
            }
        }
    }

    #[test]
    fn values_in_order_fill_block_after_block() {
        for descending in [false, true] {
            let (mut sorted, mut records) = (Sorted::default(), BTreeMap::new());
            for number in 0..200u64 {
                let value = Value::from(if descending { 200 - number } else { number });
                sorted.insert(value.clone(), number);
                records.insert(number, value);
            }
            assert!((200 / MOST..=2 + 2 * 200 / MOST).contains(&sorted.blocks.len()));
            check(&sorted, &records);
            // Of all that is gone nothing is left.
            sorted.forget(&(0..200).into());
            assert_eq!((sorted.len(), sorted.blocks.len()), (0, 2));
        }
    }
}
