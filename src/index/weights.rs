//! Weights: of a query more is known than its code, namely how sure each bit of it is.
//!
//! The simplest true version adds up the weights of the bits in which a code differs from the
//! query's. Here a weight is a byte, its share of the largest one: a vector then holds 64 of them,
//! sums are exact, and so the order is the same on every machine.
//!
//! A byte is wrong by at most 1/510 of the largest weight. So of two codes that differ from one
//! another in n bits, the farther can come first only where their sums differ by less than n/510
//! of the largest weight.

use super::kernel::{Bytes, Kernel};
use super::snapshot::Snapshot;
use crate::code::{Code, Codes, Width};

/// A query's code, and what each of its bits weighs.
///
/// ```
/// use nearbit::index::{Index, Weights};
/// use nearbit::{Code, Codes, Width};
///
/// let code = Code::parse("0b110", Width::new(3)?)?;
/// let weights = Weights::new(&code, &[0.5, 1.5, -1.0]).unwrap();
/// let other = Code::parse("0b010", Width::new(3)?)?;
/// let index = Index::new(other.width());
/// index.apply(&[7], &Codes::from_bytes(other.width(), &other.to_bytes())?, &[]);
/// let agreement = index.snapshot().agreements(&weights, &[7])[0].unwrap();
/// assert!((agreement - 2.5 / 3.0).abs() < 0.01);
/// # Ok::<(), nearbit::Error>(())
/// ```
pub struct Weights {
    code: Vec<u64>,
    bytes: Vec<Bytes>,
    total: u32,
}

impl Weights {
    /// Weighs each bit of `code` by the size of the value that it was made from; `None` where all
    /// values are 0, so that no bit counts more than another.
    ///
    /// # Panics
    /// Where there are not as many values as bits.
    pub fn new(code: &Code, values: &[f32]) -> Option<Self> {
        assert_eq!(values.len(), code.width().bits(), "one value for each bit");
        let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        // Nothing of nothing is no number, which becomes 0.
        let byte = |value: &f32| (value.abs() / largest * 255.0).round() as u8;
        let mut bytes = vec![[0; 64]; code.words().len()];
        for (bytes, values) in bytes.iter_mut().zip(values.chunks(64)) {
            // The first bit of a word is its highest.
            bytes.iter_mut().rev().zip(values).for_each(|(to, value)| *to = byte(value));
        }
        let total = bytes.as_flattened().iter().map(|&byte| u32::from(byte)).sum();
        (total > 0).then(|| Self { code: code.words().to_vec(), bytes, total })
    }
}

impl Weights {
    /// How well each code agrees with the query's: the share of the query's weight that stands on
    /// bits which are equal.
    ///
    /// # Panics
    /// Where they are of another width.
    pub fn agreements(&self, codes: &Codes) -> Vec<f32> {
        self.weigh(Kernel::detect(), codes.as_words(), codes.width())
    }

    fn weigh(&self, kernel: Kernel, codes: &[u64], width: Width) -> Vec<f32> {
        assert_eq!(self.code.len(), width.words(), "codes of two widths do not agree");
        let mut sums = Vec::with_capacity(codes.len() / width.words());
        kernel.weigh(codes, &self.code, &self.bytes, &mut sums);
        let share = |sum: u32| (1.0 - f64::from(sum) / f64::from(self.total)) as f32;
        sums.into_iter().map(share).collect()
    }
}

impl Snapshot {
    /// How well the code of each record agrees with a query's, as [`Weights::agreements`] has it.
    /// `None` for a record that is not here.
    ///
    /// # Panics
    /// Where the weights are of codes of another width.
    pub fn agreements(&self, weights: &Weights, numbers: &[u64]) -> Vec<Option<f32>> {
        // All places are found before a code is read: so the memory is asked for many at once.
        let rows: Vec<Option<&[u64]>> = numbers.iter().map(|&number| self.code(number)).collect();
        let mut codes = Vec::with_capacity(rows.len() * self.width().words());
        rows.iter().flatten().for_each(|code| codes.extend_from_slice(code));
        let mut agreements = weights.weigh(self.kernel, &codes, self.width()).into_iter();
        rows.into_iter().map(|row| row.and_then(|_| agreements.next())).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::Index;
    use crate::index::tests::{fixed, random_codes};

    /// The weight of the bits that are equal, of all, added up one by one.
    fn agreement(a: &Code, b: &Code, weights: &[f64]) -> f64 {
        let equal = weights.iter().enumerate().filter(|(bit, _)| a.bit(*bit) == b.bit(*bit));
        equal.map(|(_, weight)| weight).sum::<f64>() / weights.iter().sum::<f64>()
    }

    proptest! {
        #![proptest_config(fixed(9, 64))]

        #[test]
        fn agreement_is_the_weight_of_equal_bits(
            bits in 1usize..300, seed: u64, recent in 0usize..50, scale in -20i32..20,
        ) {
            let width = Width::new(bits).unwrap();
            let codes = random_codes(width, 50, 2, seed);
            let query = codes.get(0);
            let value = |bit: usize| ((bit as f32 + seed as u16 as f32).sin()) * 2f32.powi(scale);
            let values: Vec<f32> = (0..bits).map(value).collect();
            let weights = Weights::new(&query, &values).unwrap();
            let largest = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            let exact: Vec<f64> = values.iter().map(|value| f64::from(value.abs())).collect();
            let bytes: Vec<f64> =
                values.iter().map(|value| f64::from((value.abs() / largest * 255.0).round())).collect();

            let part = |rows: std::ops::Range<usize>| {
                let mut part = Codes::new(width);
                rows.for_each(|row| part.push(&codes.get(row)).unwrap());
                part
            };
            let sealed: Vec<u64> = (0..50 - recent as u64).collect();
            let index = Index::build(width, sealed, part(0..50 - recent));
            index.apply(&Vec::from_iter(50 - recent as u64..50), &part(50 - recent..50), &[]);
            let numbers: Vec<u64> = (0..60).rev().collect();
            let found = index.snapshot().agreements(&weights, &numbers);
            for (number, found) in numbers.into_iter().zip(found) {
                if number >= 50 {
                    prop_assert_eq!(found, None);
                    continue;
                }
                let other = codes.get(number as usize);
                let found = f64::from(found.unwrap());
                prop_assert!((found - agreement(&query, &other, &bytes)).abs() < 1e-6);
                // The share is off by what its two sums are.
                let bound = 2.0 * bits as f64 * f64::from(largest) / 510.0 / exact.iter().sum::<f64>();
                prop_assert!((found - agreement(&query, &other, &exact)).abs() < bound + 1e-6);
            }
        }
    }

    #[test]
    fn where_all_values_are_nothing_no_bit_counts_more() {
        let code = Code::zero(Width::new(5).unwrap());
        assert!(Weights::new(&code, &[0.0, -0.0, 0.0, 0.0, 0.0]).is_none());
    }
}
