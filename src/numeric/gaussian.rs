//! Seeded random matrices.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use crate::input::Matrix;

/// A matrix of independent standard normal numbers. The same seed gives the same numbers on every
/// machine.
pub fn gaussian(rows: usize, cols: usize, seed: u64) -> Matrix {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values = (0..rows * cols).map(|_| rng.sample(StandardNormal)).collect();
    Matrix::new(rows, cols, values)
}
