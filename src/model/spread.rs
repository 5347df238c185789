//! How large features are.

use crate::input::Features;

/// The smallest and the largest feature of all rows that were added, and their squares.
#[derive(Default)]
pub(super) struct Spread {
    /// The smallest and the largest, and 0.
    pub extremes: (f32, f32),
    squares: f64,
    count: usize,
}

impl Spread {
    /// Adds rows. Bags of words are only ever masked: their size is not asked for.
    pub fn add(&mut self, rows: &Features) {
        let Features::Dense(dense) = rows else { return };
        for &x in dense.values() {
            self.extremes = (x.min(self.extremes.0), x.max(self.extremes.1));
            self.squares += f64::from(x).powi(2);
        }
        self.count += dense.values().len();
    }

    /// The root of the mean square.
    pub fn size(&self) -> f64 {
        (self.squares / self.count.max(1) as f64).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Matrix;

    #[test]
    fn extremes_include_zero_and_parts_add_up_to_the_whole() {
        let spread = |parts: &[&[f32]]| {
            let mut spread = Spread::default();
            for part in parts {
                spread.add(&Features::Dense(Matrix::new(1, part.len(), part.to_vec())));
            }
            (spread.extremes, spread.size())
        };
        let whole = spread(&[&[0.5, -2.0, 7.0]]);
        assert_eq!(whole.0, (-2.0, 7.0));
        assert_eq!(whole, spread(&[&[0.5], &[-2.0, 7.0]]));
        assert_eq!(spread(&[&[1.0, 2.0]]).0, (0.0, 2.0));
        assert_eq!(spread(&[&[3.0, 4.0]]).1, 12.5f64.sqrt());
        assert_eq!(spread(&[]), ((0.0, 0.0), 0.0));
    }
}
