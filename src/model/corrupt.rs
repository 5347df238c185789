//! Corruption: what the encoder's input suffers in training, so that the code must rest on more
//! than single numbers.
//!
//! ```text
//! masking           x~ = 0 with probability s, else x
//! Gaussian          x~ = x + s e, e standard normal
//! salt and pepper   x~ = the largest or the smallest number with probability s / 2 each, else x
//! ```
//!
//! Vincent, Larochelle, Lajoie, Bengio and Manzagol, *Stacked denoising autoencoders*, 2010, section
//! 3.3. The target of the reconstruction stays x.

use rand::{Rng, RngExt};
use rand_distr::StandardNormal;

use super::options::Corruption;
use crate::input::{Features, Matrix, Sparse};

/// The rows after their corruption. In a bag of words only masking is defined; others leave it as
/// it is, and are refused before a training begins.
pub(super) fn corrupt(
    rows: &Features,
    how: Corruption,
    (least, most): (f32, f32),
    rng: &mut impl Rng,
) -> Features {
    match (rows, how) {
        (Features::Dense(dense), how) => {
            let mut one = |x: f32| match how {
                Corruption::Masking(share) if rng.random_bool(share) => 0.0,
                Corruption::Gaussian(deviation) => {
                    x + (deviation * rng.sample::<f64, _>(StandardNormal)) as f32
                }
                Corruption::SaltAndPepper(share) if rng.random_bool(share) => {
                    if rng.random() {
                        most
                    } else {
                        least
                    }
                }
                _ => x,
            };
            let values = dense.values().iter().map(|&x| one(x)).collect();
            Features::Dense(Matrix::new(dense.rows(), dense.cols(), values))
        }
        (Features::Sparse(sparse), Corruption::Masking(share)) => {
            let mut kept = Sparse::new(sparse.cols());
            for i in 0..sparse.rows() {
                let (columns, values) = sparse.row(i);
                let row = columns.iter().copied().zip(values.iter().copied());
                kept.push(row.filter(|_| !rng.random_bool(share)));
            }
            Features::Sparse(kept)
        }
        (Features::Sparse(_), _) => rows.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::random::{Purpose, stream};

    const N: usize = 20_000;

    fn after(how: Corruption, x: f32) -> Vec<f32> {
        let rows = Features::Dense(Matrix::new(N / 10, 10, vec![x; N]));
        let mut rng = stream(1, Purpose::Corruption, 0);
        match corrupt(&rows, how, (-1.0, 3.0), &mut rng) {
            Features::Dense(dense) => dense.values().to_vec(),
            Features::Sparse(_) => unreachable!(),
        }
    }

    fn share(values: &[f32], of: f32) -> f64 {
        values.iter().filter(|&&x| x == of).count() as f64 / values.len() as f64
    }

    #[test]
    fn each_kind_does_what_its_formula_says() {
        let masked = after(Corruption::Masking(0.3), 2.0);
        assert!((share(&masked, 0.0) - 0.3).abs() < 0.01);
        assert!((share(&masked, 2.0) - 0.7).abs() < 0.01);
        let salted = after(Corruption::SaltAndPepper(0.2), 2.0);
        assert!((share(&salted, 3.0) - 0.1).abs() < 0.01);
        assert!((share(&salted, -1.0) - 0.1).abs() < 0.01);
        assert!((share(&salted, 2.0) - 0.8).abs() < 0.01);
        let noisy = after(Corruption::Gaussian(0.5), 2.0);
        let squares: f64 = noisy.iter().map(|x| f64::from(x - 2.0).powi(2)).sum();
        assert!(((squares / N as f64).sqrt() - 0.5).abs() < 0.01);
    }

    #[test]
    fn masked_bags_lose_whole_words_and_change_no_other() {
        let mut bags = Sparse::new(50);
        (0..400).for_each(|i| bags.push((0..50).map(|word| (word, (i + word) as f32))));
        let mut rng = stream(1, Purpose::Corruption, 0);
        let masked =
            corrupt(&Features::Sparse(bags), Corruption::Masking(0.4), (0.0, 0.0), &mut rng);
        let Features::Sparse(masked) = masked else { unreachable!() };
        let mut words = 0;
        for i in 0..400 {
            let (columns, values) = masked.row(i);
            columns.iter().zip(values).for_each(|(&c, &x)| assert_eq!(x, (i as u32 + c) as f32));
            words += columns.len();
        }
        assert!((words as f64 / 20_000.0 - 0.6).abs() < 0.02, "{words}");
    }
}
