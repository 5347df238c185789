//! Ascending record numbers: a row without gaps takes no memory, one with gaps a byte or two a number
//! (`ascending`).

use super::ascending::Ascending;

/// Record numbers in ascending order, found by their place in it.
#[derive(Clone, Debug)]
pub(super) struct Row {
    first: u64,
    len: usize,
    /// How far each number is from `first`; empty while there is no gap.
    steps: Ascending,
}

impl Row {
    /// No number yet; all that come are `first` or above.
    pub(super) fn new(first: u64) -> Self {
        Self { first, len: 0, steps: Ascending::default() }
    }

    /// So many numbers, by how far each is from `first`; no steps where there is no gap.
    pub(super) fn from_steps(first: u64, len: usize, steps: Ascending) -> Option<Self> {
        let fits = steps.is_empty() || steps.len() == len;
        fits.then_some(Self { first, len, steps })
    }

    /// How far each number is from the first possible; empty while there is no gap.
    pub(super) fn steps(&self) -> &Ascending {
        &self.steps
    }

    /// Adds a number; false where it is not above all others, or too far from the first.
    pub(super) fn push(&mut self, number: u64) -> bool {
        let Some(step) = number.checked_sub(self.first).and_then(|step| step.try_into().ok())
        else {
            return false;
        };
        let gaps = step as usize != self.len || !self.steps.is_empty();
        if gaps && self.steps.is_empty() {
            for step in 0..self.len as u32 {
                self.steps.push(step);
            }
        }
        let pushed = !gaps || self.steps.push(step);
        self.len += usize::from(pushed);
        pushed
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The number that follows the last one.
    pub(super) fn next(&self) -> u64 {
        let dense = self.first + self.len as u64;
        self.steps.last().map_or(dense, |step| self.first + u64::from(step) + 1)
    }

    /// The number at a place.
    pub(super) fn at(&self, place: usize) -> u64 {
        self.first + self.steps.get(place).map_or(place as u64, u64::from)
    }

    /// The place of a number.
    pub(super) fn find(&self, number: u64) -> Option<usize> {
        let place = self.place_from(number);
        (place < self.len && self.at(place) == number).then_some(place)
    }

    /// The first place whose number is not below `number`.
    pub(super) fn place_from(&self, number: u64) -> usize {
        let step = number.saturating_sub(self.first);
        match self.steps.is_empty() {
            true => step.min(self.len as u64) as usize,
            false => step.try_into().map_or(self.len, |step| self.steps.count_below(step)),
        }
    }

    /// The numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        (0..self.len).map(|place| self.at(place))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_sorted_set(
            first in 0u64..1 << 40,
            steps in prop::collection::btree_set(0u64..60, 0..40),
            dense in 0u64..20,
        ) {
            // Without a gap at first, and with gaps later.
            let numbers: BTreeSet<u64> =
                (0..dense).chain(steps.iter().map(|step| dense + step)).map(|n| first + n).collect();
            let mut row = Row::new(first);
            for number in &numbers {
                prop_assert!(row.push(*number));
            }
            prop_assert!(row.iter().eq(numbers.iter().copied()));
            prop_assert_eq!(row.len(), numbers.len());
            prop_assert_eq!(row.next(), numbers.last().map_or(first, |last| last + 1));
            for number in first.saturating_sub(3)..first + 90 {
                let place = numbers.iter().position(|known| *known == number);
                prop_assert_eq!(row.find(number), place);
                let below = numbers.iter().filter(|known| **known < number).count();
                prop_assert_eq!(row.place_from(number), below);
            }
        }
    }

    #[test]
    fn what_is_too_far_is_refused() {
        let mut row = Row::new(7);
        assert!(!row.push(6));
        assert!(!row.push(8 + u64::from(u32::MAX)));
        assert!(row.push(7 + u64::from(u32::MAX)));
        assert_eq!((row.len(), row.find(7 + u64::from(u32::MAX))), (1, Some(0)));
    }
}
