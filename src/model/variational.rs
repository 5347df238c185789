//! The part of a variational loss that knows nothing of the decoder: how far the code of a row is
//! from the prior.
//!
//! A stochastic encoder gives a distribution q(z | x) of codes, a stochastic decoder one p(x | z) of
//! inputs, and
//!
//! ```text
//! ln p(x) >= ELBO = E[ln p(x | z)] - KL(q(z | x) || p(z)),    z drawn from q(z | x)
//! ```
//!
//! The reconstruction loss is -ln p(x | z) divided by the numbers that it judges; the divergences here
//! are divided by the same, so that their sum is -ELBO in nats a number, up to a constant that the
//! weights have no part in (Kingma and Welling, *Auto-encoding variational Bayes*, 2014).
//!
//! ```text
//! bits, q = sigmoid(a), prior 1/2      KL = sum q ln(2 q) + (1 - q) ln(2 (1 - q))
//! normal numbers, prior N(0, 1)        KL = sum (mean^2 + variance - ln variance - 1) / 2
//! ```
//!
//! A normal code passes its gradient exactly, by reparametrization. For bits it is the straight-through
//! estimate, which is biased (as in NASH; Shen et al., 2018): the bound holds, the way down to it is
//! approximate.

use candle_core::{D, Result, Tensor};

use super::code_layer::sigmoid;

/// The divergence of each row's bits, shape (rows).
pub(super) fn of_bits(a: &Tensor) -> Result<Tensor> {
    let (_, bits) = a.dims2()?;
    // ln q = -softplus(-a) and ln(1 - q) = -softplus(a) = ln q - a, of numbers that cannot overflow.
    let log = softplus(&a.neg()?)?.neg()?;
    let q = sigmoid(a)?;
    let entropy = (log - (q.affine(-1.0, 1.0)? * a)?)?;
    entropy.sum(D::Minus1)?.affine(1.0, bits as f64 * std::f64::consts::LN_2)
}

/// ln(1 + e^x)
fn softplus(x: &Tensor) -> Result<Tensor> {
    x.relu()? + x.abs()?.neg()?.exp()?.affine(1.0, 1.0)?.log()?
}

/// The divergence of each row's normal numbers, shape (rows).
pub(super) fn of_normals(mean: &Tensor, log_variance: &Tensor) -> Result<Tensor> {
    let each = ((mean.sqr()? + log_variance.exp()?)? - log_variance)?;
    each.affine(0.5, -0.5)?.sum(D::Minus1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gradient_check::{check, variable};

    #[test]
    fn divergences_are_the_plain_formulas_and_so_are_their_gradients() {
        let (a, b) = (variable(&[4, 3], 0.2), variable(&[4, 3], 5.0));
        let of = |got: Tensor, each: &dyn Fn(f64, f64) -> f64| {
            let (a, b) = (a.to_vec2::<f64>().unwrap(), b.to_vec2::<f64>().unwrap());
            for ((a, b), got) in a.iter().zip(&b).zip(got.to_vec1::<f64>().unwrap()) {
                let expected: f64 = a.iter().zip(b).map(|(&a, &b)| each(a, b)).sum();
                assert!((got - expected).abs() < 1e-12, "expected {expected}, got {got}");
            }
        };
        of(of_bits(&a).unwrap(), &|a, _| {
            let q = 1.0 / (1.0 + (-a).exp());
            q * (2.0 * q).ln() + (1.0 - q) * (2.0 * (1.0 - q)).ln()
        });
        of(of_normals(&a, &b).unwrap(), &|m, l| (m * m + l.exp() - l - 1.0) / 2.0);
        check(std::slice::from_ref(&a), || of_bits(&a).unwrap().sum_all().unwrap());
        let variables = [a.clone(), b.clone()];
        check(&variables, || of_normals(&a, &b).unwrap().sum_all().unwrap());
    }

    #[test]
    fn far_from_the_prior_nothing_overflows_and_at_it_nothing_is_paid() {
        let a = Tensor::new(&[[-200f32, 300.0], [0.0, 0.0]], &candle_core::Device::Cpu).unwrap();
        let bits = of_bits(&a).unwrap().to_vec1::<f32>().unwrap();
        assert!((bits[0] - 2.0 * 2f32.ln()).abs() < 1e-4 && bits[1].abs() < 1e-6, "{bits:?}");
        let zero = a.affine(0.0, 0.0).unwrap();
        let normals = of_normals(&zero, &zero).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(normals, [0.0, 0.0]);
    }
}
