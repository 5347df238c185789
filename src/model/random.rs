//! Seeded random numbers: one stream for each purpose and each step.
//!
//! A stream is keyed by a hash of (seed, purpose, step), so there is no generator state to carry
//! from step to step: what the noise of step 1,000 is can be said without drawing that of the
//! first 999. That is why a resumed training repeats the uninterrupted one exactly.

use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::StandardNormal;

/// What random numbers are for. The words are part of what a seed means: changing one changes
/// every model trained from then on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// First values of the weights; the step is the layer.
    Weights,
    /// Which rows are held out for validation.
    Split,
    /// The order of the rows; the step is the epoch.
    Order,
    /// Which neighbour each row is paired with; the step is the epoch.
    Walk,
    /// The width that a step gives its rows back from.
    Width,
    /// Noise before the sigmoid, or the draws of Bernoulli bits.
    Bits,
    /// Everything random in looking at the validation rows.
    Validation,
    /// What the encoder's input suffers.
    Corruption,
    /// Which hidden units are left out.
    Dropout,
    /// Small steps away from the input, to see how the code changes.
    Perturbation,
    /// States of Boltzmann machines.
    Pretraining,
    /// Codes drawn to be decoded.
    Samples,
}

impl Purpose {
    fn word(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Split => "split",
            Self::Order => "order",
            Self::Walk => "walk",
            Self::Width => "width",
            Self::Bits => "bits",
            Self::Validation => "validation",
            Self::Corruption => "corruption",
            Self::Dropout => "dropout",
            Self::Perturbation => "perturbation",
            Self::Pretraining => "pretraining",
            Self::Samples => "samples",
        }
    }
}

/// The stream of random numbers for `purpose` at `step`.
pub(super) fn stream(seed: u64, purpose: Purpose, step: u64) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(&step.to_le_bytes());
    hasher.update(purpose.word().as_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

/// `n` numbers from the standard normal distribution.
pub(super) fn normal(rng: &mut impl Rng, n: usize) -> Vec<f64> {
    (0..n).map(|_| rng.sample(StandardNormal)).collect()
}

/// `n` numbers uniform in 0..1.
pub(super) fn uniform(rng: &mut impl Rng, n: usize) -> Vec<f64> {
    (0..n).map(|_| rng.random()).collect()
}

/// The numbers 0..n in random order.
pub(super) fn permutation(rng: &mut impl Rng, n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(rng);
    order
}
