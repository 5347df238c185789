//! Ascending numbers, such as places in a file, in a byte or two each instead of four: neighbours
//! are mostly about as far apart as theirs.
//!
//! 64 numbers make a block: the first of them, the shortest **step** from one to the next, and by
//! how much each of the 63 steps is longer than that, in as few bytes as the longest needs.
//!
//! ```text
//! numbers   52   79  106  173  200        records of 27 bytes, and a group header of 40
//! block     first 52, step 27, extra 0 0 40 0
//! ```
//!
//! Records of one length have no extra bytes: 12 bytes tell where 64 of them begin. Where steps differ by
//! less than 256 a number takes 1.2 bytes, where by less than 65,536 it takes 2.2, and never more than
//! 4.2. It is a sum of at most 63 of them.

/// Numbers in a block.
const BLOCK: usize = 64;
/// Steps between them.
const STEPS: usize = BLOCK - 1;

/// Numbers of 32 bits, each above the one before.
#[derive(Clone, Default, Debug)]
pub(super) struct Ascending {
    blocks: Vec<Block>,
    /// Of all blocks, by how much each step is longer than the shortest one.
    extra: Vec<u8>,
    /// The last numbers as they are: one at least, where there is any, and at most a block of them.
    tail: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    first: u32,
    /// The shortest step.
    step: u32,
    /// Where its extra bytes begin; they end where those of the next block do. Steps are longer than
    /// what is noted of them, so all of it is less than the last number.
    extra: u32,
}

impl Ascending {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.packed() + self.tail.len()
    }

    /// How many of them are in blocks.
    fn packed(&self) -> usize {
        self.blocks.len() * BLOCK
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.tail.is_empty()
    }

    /// The last one.
    pub(super) fn last(&self) -> Option<u32> {
        self.tail.last().copied()
    }

    /// Adds a number; false where it is not above the last one.
    pub(super) fn push(&mut self, number: u32) -> bool {
        let above = self.last().is_none_or(|last| last < number);
        if above {
            if self.tail.len() == BLOCK {
                self.pack();
            }
            self.tail.push(number);
        }
        above
    }

    /// Makes a block of the tail.
    fn pack(&mut self) {
        let mut steps = [0; STEPS];
        for (step, pair) in steps.iter_mut().zip(self.tail.windows(2)) {
            *step = pair[1] - pair[0];
        }
        let (least, most) = steps
            .iter()
            .fold((u32::MAX, 0), |(least, most), step| (least.min(*step), most.max(*step)));
        let width = (most - least).checked_ilog2().map_or(0, |bit| bit as usize / 8 + 1);
        let (first, extra) = (self.tail[0], self.extra.len() as u32);
        self.blocks.push(Block { first, step: least, extra });
        for step in steps {
            self.extra.extend_from_slice(&(step - least).to_le_bytes()[..width]);
        }
        self.tail.clear();
    }

    /// The number at a place.
    pub(super) fn get(&self, place: usize) -> Option<u32> {
        (place < self.len()).then(|| self.at(place))
    }

    fn at(&self, place: usize) -> u32 {
        let Some(block) = self.blocks.get(place / BLOCK) else {
            return self.tail[place - self.packed()];
        };
        let next = self.blocks.get(place / BLOCK + 1);
        let end = next.map_or(self.extra.len(), |next| next.extra as usize);
        let extra = &self.extra[block.extra as usize..end];
        let (width, steps) = (extra.len() / STEPS, place % BLOCK);
        let extra = &extra[..steps * width];
        let sum = match width {
            0 => 0,
            1 => sum::<1>(extra),
            2 => sum::<2>(extra),
            3 => sum::<3>(extra),
            _ => sum::<4>(extra),
        };
        block.first + steps as u32 * block.step + sum
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = u32> {
        (0..self.len()).map(|place| self.at(place))
    }

    /// How many are below `number`.
    pub(super) fn count_below(&self, number: u32) -> usize {
        if self.tail.first().is_some_and(|first| *first < number) {
            return self.packed() + self.tail.partition_point(|known| *known < number);
        }
        let blocks = self.blocks.partition_point(|block| block.first < number);
        let mut range = blocks.saturating_sub(1) * BLOCK..blocks * BLOCK;
        while !range.is_empty() {
            let middle = range.start.midpoint(range.end);
            match self.at(middle) < number {
                true => range.start = middle + 1,
                false => range.end = middle,
            }
        }
        range.start
    }
}

/// The sum of numbers of so many bytes.
fn sum<const WIDTH: usize>(bytes: &[u8]) -> u32 {
    let number = |bytes: &[u8; WIDTH]| {
        let mut number = [0; 4];
        number[..WIDTH].copy_from_slice(bytes);
        u32::from_le_bytes(number)
    };
    bytes.as_chunks().0.iter().map(number).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(numbers: impl IntoIterator<Item = u32>) -> Ascending {
        let mut ascending = Ascending::default();
        numbers.into_iter().for_each(|number| assert!(ascending.push(number)));
        ascending
    }

    /// The numbers that such steps lead to, as far as they fit.
    fn numbers(first: u32, steps: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let rest = steps.into_iter().scan(first, |last, step| {
            *last = last.checked_add(step)?;
            Some(*last)
        });
        [first].into_iter().chain(rest).collect()
    }

    fn bytes(ascending: &Ascending) -> usize {
        ascending.blocks.len() * size_of::<Block>()
            + ascending.extra.len()
            + 4 * ascending.tail.len()
    }

    /// Runs of steps: of one length, of lengths near to each other, and of any length.
    fn steps() -> impl Strategy<Value = Vec<u32>> {
        let run = (any::<u32>(), 0u32..32, 0u32..32, 0usize..150).prop_flat_map(
            |(seed, bits, spread, len)| {
                let least = 1 + seed % (1 << bits);
                let most = least.saturating_add(((1u64 << spread) - 1) as u32);
                prop::collection::vec(least..=most, len)
            },
        );
        prop::collection::vec(run, 0..6).prop_map(|runs| runs.concat())
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_list(first in 0u32..1000, steps in steps(), more in any::<u32>()) {
            let expected = numbers(first, steps);
            let ascending = of(expected.iter().copied());
            prop_assert_eq!(ascending.len(), expected.len());
            prop_assert_eq!(ascending.last(), expected.last().copied());
            prop_assert!(ascending.iter().eq(expected.iter().copied()));
            for place in 0..expected.len() + 70 {
                prop_assert_eq!(ascending.get(place), expected.get(place).copied());
            }
            let near = expected.iter().flat_map(|n| [n.saturating_sub(1), *n, n.saturating_add(1)]);
            for number in near.chain([0, more, u32::MAX]) {
                let below = expected.partition_point(|known| *known < number);
                prop_assert_eq!(ascending.count_below(number), below);
            }
            prop_assert!(bytes(&ascending) <= expected.len() * 4 + expected.len() / 64 * 8);
        }
    }

    #[test]
    fn none_at_all() {
        let none = Ascending::default();
        assert!(none.is_empty());
        assert_eq!((none.len(), none.last(), none.get(0), none.count_below(7)), (0, None, None, 0));
    }

    #[test]
    fn what_does_not_ascend_is_refused() {
        let mut ascending = of(0..64);
        assert!(!ascending.push(63) && !ascending.push(0));
        assert!(ascending.push(64) && !ascending.push(64));
        assert!(ascending.iter().eq(0..=64));
    }

    /// The widest steps that extra bytes of each width hold, and the narrowest that they do not.
    #[test]
    fn each_width_holds_what_it_should() {
        for (extra, width) in
            [0, 1, 255, 256, 65_535, 65_536, (1 << 24) - 1, 1 << 24, u32::MAX - 70]
                .into_iter()
                .zip([0, 1, 1, 2, 2, 3, 3, 4, 4])
        {
            for at in [0, 31, STEPS - 1] {
                let mut steps = [1; STEPS + 1];
                steps[at] += extra;
                let expected = numbers(5, steps);
                let ascending = of(expected.iter().copied());
                assert_eq!(ascending.extra.len(), width * STEPS, "{extra}");
                assert!(ascending.iter().eq(expected), "{extra}");
            }
        }
    }

    /// Bytes a number in a thousand blocks, against four before.
    #[test]
    fn it_takes_what_it_says() {
        let taken = |steps: &dyn Fn(u32) -> u32| {
            let ascending = of(numbers(52, (0..64_000).map(steps)));
            (bytes(&ascending) * 100 / ascending.len()) as f64 / 100.
        };
        assert_eq!(taken(&|_| 27), 0.18, "of one length");
        assert_eq!(taken(&|i| 22 + 40 * u32::from(i % 10_000 == 0)), 0.19, "in groups of 10,000");
        assert_eq!(
            taken(&|i| 200 + i * 7919 % 256),
            1.17,
            "of lengths that differ by less than 256"
        );
        assert_eq!(taken(&|i| 200 + i * 7919 % 5000), 2.15, "by less than 65,536");
    }
}
