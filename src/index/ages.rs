//! Ages: what stands for a record number among the sealed ones, in half as many bits.
//!
//! Ages order records as their numbers do. Where most numbers between the first and the last are
//! here, the age is how far a number is from the first: nothing need be kept, and some ages are
//! nobody's. Otherwise it is the number's place among all of them, which are kept.

/// No age is so high: the bit is free for others.
const END: usize = 1 << 31;
/// There are fewer records.
const MAX_RECORDS: usize = 1 << 30;

/// Ages are distances while at least one in so many is somebody's.
const SPARSE: u64 = 2;

pub(super) enum Ages {
    /// `number - first`, for so many numbers.
    Distances { first: u64, ages: usize },
    /// The place in this list, which ascends.
    Places(Vec<u64>),
}

impl Ages {
    /// Of numbers that ascend.
    ///
    /// # Panics
    /// Where there are 2^30 numbers or more.
    pub(super) fn new(numbers: &[u64]) -> Self {
        assert!(numbers.len() < MAX_RECORDS, "{} records in one index", numbers.len());
        let (Some(&first), Some(&last)) = (numbers.first(), numbers.last()) else {
            return Self::Distances { first: 0, ages: 0 };
        };
        match (last - first).checked_add(1) {
            Some(ages) if ages / SPARSE <= numbers.len() as u64 && ages < END as u64 => {
                Self::Distances { first, ages: ages as usize }
            }
            _ => Self::Places(numbers.to_vec()),
        }
    }

    /// One more than the highest age.
    #[inline]
    pub(super) fn end(&self) -> usize {
        match self {
            Self::Distances { ages, .. } => *ages,
            Self::Places(numbers) => numbers.len(),
        }
    }

    /// The number of an age.
    #[inline]
    pub(super) fn number(&self, age: u32) -> u64 {
        match self {
            Self::Distances { first, .. } => first + u64::from(age),
            Self::Places(numbers) => numbers[age as usize],
        }
    }

    /// The age of the number that stood at `place` among those given.
    #[inline]
    pub(super) fn nth(&self, place: u32, number: u64) -> u32 {
        match self {
            Self::Distances { first, .. } => (number - first) as u32,
            Self::Places(_) => place,
        }
    }

    /// The age of a number; perhaps of one that is not here, but that could be.
    pub(super) fn age(&self, number: u64) -> Option<u32> {
        self.ages_of([number].into_iter()).next()
    }

    /// The ages of those of some ascending numbers that have one.
    pub(super) fn ages_of(&self, numbers: impl Iterator<Item = u64>) -> impl Iterator<Item = u32> {
        let mut from = 0;
        numbers.filter_map(move |number| match self {
            Self::Distances { first, ages } => {
                let age = number.checked_sub(*first).filter(|&age| age < *ages as u64);
                age.map(|age| age as u32)
            }
            Self::Places(numbers) => {
                from += gallop(&numbers[from..], number);
                (numbers.get(from) == Some(&number)).then_some(from as u32)
            }
        })
    }

    /// The bytes held.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Distances { .. } => 0,
            Self::Places(numbers) => size_of_val(&numbers[..]),
        }
    }
}

/// The place of the first of `numbers`, which ascend, that is not below `number`; quick where it
/// is near the front.
fn gallop(numbers: &[u64], number: u64) -> usize {
    let mut step = 1;
    while numbers.get(step - 1).is_some_and(|&passed| passed < number) {
        step *= 2;
    }
    let known = step / 2;
    let end = step.min(numbers.len());
    known + numbers[known..end].partition_point(|&passed| passed < number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::tests::fixed;

    proptest! {
        #![proptest_config(fixed(7, 128))]

        #[test]
        fn ages_order_as_numbers_do_and_lead_back_to_them(
            steps in prop::collection::vec(1u64..4, 0..200), far in 0u64..2000, first: u32,
        ) {
            let mut number = u64::from(first);
            let mut numbers: Vec<u64> = Vec::new();
            for (i, step) in steps.iter().enumerate() {
                number += step + if i == 100 { far } else { 0 };
                numbers.push(number);
            }
            let ages = Ages::new(&numbers);
            let of: Vec<u32> = ages.ages_of(numbers.iter().copied()).collect();
            prop_assert_eq!(of.len(), numbers.len());
            prop_assert!(of.is_sorted_by(|a, b| a < b));
            prop_assert!(of.last().is_none_or(|&last| last as usize + 1 == ages.end()));
            prop_assert!(ages.end() <= 2 * numbers.len() + 1);
            for (&age, &number) in of.iter().zip(&numbers) {
                prop_assert_eq!(ages.number(age), number);
                prop_assert_eq!(ages.age(number), Some(age));
            }
            prop_assert_eq!(ages.age(number + 1), None);
            prop_assert_eq!(ages.age(u64::MAX), None);
        }
    }

    #[test]
    fn numbers_far_apart_are_kept() {
        let numbers = [0, 1, u64::MAX];
        let ages = Ages::new(&numbers);
        assert_eq!(ages.ages_of(numbers.into_iter()).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!((ages.number(2), ages.memory()), (u64::MAX, 24));
        assert_eq!(Ages::new(&[7, 8, 10]).memory(), 0);
    }
}
