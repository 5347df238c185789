//! What a training pays for beside its reconstruction: active units, and a code that changes with
//! every small change of the input.
//!
//! ```text
//! L1            mean over rows and units of |h|
//! KL            mean over units of t ln(t / m) + (1 - t) ln((1 - t) / (1 - m)),  m = mean of h over rows
//! contraction   mean over rows of |J|^2 / bits,  J = dh / dx, |J|^2 = sum of the squares of its entries
//! ```
//!
//! All are means over units, as the reconstruction is one over columns, so that a weight means the
//! same for every width.
//!
//! For a single layer h = sigmoid(x w + b) the contraction has a closed form (Rifai, Vincent, Muller,
//! Glorot and Bengio, *Contractive auto-encoders*, 2011, equation 5):
//!
//! ```text
//! |J|^2 = sum over units j of (h_j (1 - h_j))^2  sum over inputs i of w_ij^2
//! ```
//!
//! With hidden layers it is estimated: for normal noise e of standard deviation s per number,
//! `E |h(x + e) - h(x)|^2 / s^2` tends to `|J|^2` as s tends to 0. One draw a row and step is unbiased for
//! the linear part, needs no second derivative, and costs one more pass through the encoder.

use candle_core::{Result, Tensor};
use rand_chacha::ChaCha8Rng;

use super::code_layer::sigmoid;
use super::options::Sparsity;
use super::random::normal;
use super::real::Real;

/// The standard deviation of a small step, beside the size of the features: small enough for the
/// encoder to be straight, and large beside the rounding of f32.
pub(super) const SMALL_STEP: f64 = 1e-2;

/// How much the activations `h`, shape (rows, units), cost; `None` where they cost nothing.
pub(super) fn sparsity(h: &Tensor, how: Sparsity) -> Result<Option<Tensor>> {
    Ok(Some(match how {
        Sparsity::L1 { weight } => h.abs()?.mean_all()?.affine(weight, 0.0)?,
        Sparsity::Kl { weight, target } => {
            // A mean of exactly 0 or 1 has an infinite divergence.
            let mean = h.mean(0)?.affine(1.0 - 2e-6, 1e-6)?;
            let cross = (mean.log()?.affine(-target, 0.0)?
                + mean.affine(-1.0, 1.0)?.log()?.affine(target - 1.0, 0.0)?)?;
            let own = target * target.ln() + (1.0 - target) * (1.0 - target).ln();
            cross.mean_all()?.affine(weight, weight * own)?
        }
        Sparsity::Top(_) => return Ok(None),
    }))
}

/// The contraction of one layer of weights `w` that gives `a`; of `sigmoid(a)`, or of a itself.
pub(super) fn contraction(a: &Tensor, w: &Tensor, is_logistic: bool) -> Result<Tensor> {
    let (rows, bits) = a.dims2()?;
    let squares = w.sqr()?.sum(0)?;
    if !is_logistic {
        return squares.mean_all();
    }
    let h = sigmoid(a)?;
    let slope = (&h - h.sqr()?)?;
    slope.sqr()?.broadcast_mul(&squares)?.sum_all()?.affine(1.0 / (rows * bits) as f64, 0.0)
}

/// `x` and normal noise of standard deviation `size`.
pub(super) fn perturb<T: Real>(x: &Tensor, size: f64, rng: &mut ChaCha8Rng) -> Result<Tensor> {
    let step = normal(rng, x.elem_count()).into_iter();
    let step = step.map(|e| T::from_f64(size * e)).collect();
    x + Tensor::from_vec::<_, T>(step, x.shape(), x.device())?
}

/// The contraction by the activations `h` at x and `moved` at x perturbed by noise of `size`.
pub(super) fn contraction_seen(h: &Tensor, moved: &Tensor, size: f64) -> Result<Tensor> {
    (moved - h)?.sqr()?.mean_all()?.affine(1.0 / (size * size), 0.0)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::model::chain::{Step, given};
    use crate::model::gradient_check::{check, check_layers, variable};
    use crate::model::layer::{Layer, Rows};
    use crate::model::options::Activation;
    use crate::model::random::{Purpose, stream};
    use crate::model::slot::Slot;

    fn number(x: &Tensor) -> f64 {
        x.to_scalar::<f64>().unwrap()
    }

    #[test]
    fn sparsity_is_the_plain_formula_and_so_is_its_gradient() {
        let h = variable(&[5, 3], 0.4);
        let values = h.to_vec2::<f64>().unwrap();
        let l1 = || sparsity(&h, Sparsity::L1 { weight: 2.0 }).unwrap().unwrap();
        let expected: f64 = values.iter().flatten().map(|x| x.abs()).sum::<f64>() * 2.0 / 15.0;
        assert!((number(&l1()) - expected).abs() < 1e-12);
        check(std::slice::from_ref(&h), l1);

        let p = || sigmoid(&h).unwrap();
        let kl = || sparsity(&p(), Sparsity::Kl { weight: 2.0, target: 0.1 }).unwrap().unwrap();
        let p = p().to_vec2::<f64>().unwrap();
        let of_unit = |j: usize| {
            let m = p.iter().map(|row| row[j]).sum::<f64>() / 5.0;
            0.1 * (0.1 / m).ln() + 0.9 * (0.9 / (1.0 - m)).ln()
        };
        let expected = 2.0 * (0..3).map(of_unit).sum::<f64>() / 3.0;
        assert!((number(&kl()) - expected).abs() < 1e-5, "{expected}");
        check(std::slice::from_ref(&h), kl);
    }

    /// Two layers and one: the encoder's activations at x.
    fn layers() -> (Layer, Layer, Tensor) {
        let layer = |shape: &[usize], seed, activation| Layer {
            weight: variable(shape, seed),
            bias: variable(&shape[1..], seed + 1.0),
            activation,
            slot: Slot::default(),
        };
        let first = layer(&[6, 4], 0.3, Activation::Tanh);
        let last = layer(&[4, 3], 0.9, Activation::Linear);
        (first, last, variable(&[5, 6], 2.0).as_tensor().detach())
    }

    /// What the layers, one upon another, make of x.
    fn through(layers: &[&Layer], x: &Tensor) -> Tensor {
        let mut steps: Vec<Step> = Vec::new();
        for layer in layers {
            let x = steps.last().map_or(Ok(x.clone()), Step::next::<f64>).unwrap();
            steps.push(Step::new::<f64>(layer, Rows::Dense(x), |_| Ok(None)).unwrap());
        }
        given::<f64>(steps).unwrap()
    }

    /// The mean of |J|^2 / units by differences of f in each direction.
    fn plain(f: impl Fn(&Tensor) -> Tensor, x: &Tensor) -> f64 {
        let (rows, cols) = x.dims2().unwrap();
        let units = f(x).dims2().unwrap().1;
        let h = 1e-5;
        let along = |column: usize| {
            let step: Vec<f64> =
                (0..rows * cols).map(|i| if i % cols == column { h } else { 0.0 }).collect();
            let step = Tensor::from_vec(step, (rows, cols), &Device::Cpu).unwrap();
            let (above, below) = (f(&(x + &step).unwrap()), f(&(x - &step).unwrap()));
            let slope = ((above - below).unwrap() / (2.0 * h)).unwrap();
            number(&slope.sqr().unwrap().sum_all().unwrap())
        };
        (0..cols).map(along).sum::<f64>() / (rows * units) as f64
    }

    #[test]
    fn the_contraction_of_one_layer_is_the_norm_of_its_jacobian() {
        let (first, _, x) = layers();
        let layer = Layer { activation: Activation::Linear, ..first };
        let a = |x: &Tensor| through(&[&layer], x);
        for is_logistic in [true, false] {
            let h = |x: &Tensor| if is_logistic { sigmoid(&a(x)).unwrap() } else { a(x) };
            let f = || contraction(&a(&x), &layer.weight, is_logistic).unwrap();
            let (got, expected) = (number(&f()), plain(h, &x));
            assert!((got - expected).abs() < 1e-8, "expected {expected}, got {got}");
            // A linear layer's Jacobian does not know the bias.
            match is_logistic {
                true => check_layers(&[&layer], &[], f),
                false => check(std::slice::from_ref(&layer.weight), f),
            }
        }
    }

    #[test]
    fn with_hidden_layers_it_is_estimated_without_bias_and_its_gradient_is_right() {
        let (first, last, x) = layers();
        let h = |x: &Tensor| sigmoid(&through(&[&first, &last], x)).unwrap();
        let estimate = |step| {
            let mut rng = stream(1, Purpose::Perturbation, step);
            let moved = perturb::<f64>(&x, SMALL_STEP, &mut rng).unwrap();
            contraction_seen(&h(&x), &h(&moved), SMALL_STEP).unwrap()
        };
        let mean = (0..2000).map(|step| number(&estimate(step))).sum::<f64>() / 2000.0;
        let expected = plain(h, &x);
        assert!((mean / expected - 1.0).abs() < 0.03, "expected {expected}, got {mean}");
        check_layers(&[&first, &last], &[], || estimate(0));
    }
}
