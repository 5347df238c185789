//! The code layer: from the encoder's last values a to what the decoder reads, in training.
//!
//! ```text
//! noise      sigmoid(a + size e)               e standard normal, size growing
//! round      1 where sigmoid(a) > 1/2, else 0  backward as if it were sigmoid(a)
//! sample     1 with probability sigmoid(a)     backward as if it were sigmoid(a)
//! sigmoid    sigmoid(a)
//! linear     a
//! Gaussian   a + deviation e                   the deviation from the encoder (variational)
//! ```

use candle_core::{Result, Tensor};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::options::Binarize;
use super::random::{normal, uniform};
use super::real::{Real, with_values};

/// What the decoder reads. `done` is the share of the training that is over, for noise that grows;
/// `log_variance` is there for a Gaussian code.
pub(super) fn code<T: Real>(
    a: &Tensor,
    log_variance: Option<&Tensor>,
    how: Binarize,
    done: f64,
    rng: &mut ChaCha8Rng,
) -> Result<Tensor> {
    let random = |values: Vec<f64>| {
        let values: Vec<T> = values.into_iter().map(T::from_f64).collect();
        Tensor::from_vec(values, a.shape(), a.device())
    };
    let n = a.elem_count();
    match how {
        Binarize::Noise { start, end } => {
            let size = start + (end - start) * done;
            sigmoid(&(a + random(normal(rng, n))?.affine(size, 0.0)?)?)
        }
        Binarize::Round => bits(a),
        Binarize::Sample => {
            let draws = random(uniform(rng, n))?;
            through(&sigmoid(a)?, |p| p.gt(&draws))
        }
        Binarize::Sigmoid => sigmoid(a),
        Binarize::Linear => Ok(a.clone()),
        Binarize::Gaussian => match log_variance {
            Some(log_variance) => {
                a + (log_variance.affine(0.5, 0.0)?.exp()? * random(normal(rng, n))?)?
            }
            None => candle_core::bail!("a Gaussian code has a variance"),
        },
    }
}

/// Bits, 1 where a is above 0; backward as if they were the sigmoid's values.
pub(super) fn bits(a: &Tensor) -> Result<Tensor> {
    through(&sigmoid(a)?, |p| p.gt(0.5))
}

/// Bits, 1 where a is above 0; backward as if they were a step that rises between -1 and 1,
/// with the slope `max(0, 1 - |a|)`.
///
/// A row whose value is far from 0 cannot change its bit. The sigmoid's slope lets it pull at the weights
/// all the same, at 2 half as much as at 0; here those pull whose bits can still turn.
pub(super) fn bits_near_the_step(a: &Tensor) -> Result<Tensor> {
    let within = a.clamp(-1.0, 1.0)?;
    // The integral of the slope.
    let step = (within.affine(1.0, 0.5)? - (&within * within.abs()?)?.affine(0.5, 0.0)?)?;
    through(&step, |_| a.detach().gt(0.0))
}

/// `hard(p)` forward, the identity backward (straight-through).
fn through(p: &Tensor, hard: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let free = p.detach();
    let bits = hard(&free)?.to_dtype(p.dtype())?;
    p + (bits - free)?
}

/// The sigmoid of plain operations, `(1 + tanh(x / 2)) / 2`, which cannot overflow.
pub(super) fn sigmoid(x: &Tensor) -> Result<Tensor> {
    x.affine(0.5, 0.0)?.tanh()?.affine(0.5, 0.5)
}

/// Moves each row of `a` so that its `active` largest values are above 0 and the others are not;
/// backward it is the identity.
pub(super) fn top<T: Real>(a: &Tensor, active: usize) -> Result<Tensor> {
    let (_, bits) = a.dims2()?;
    let free = a.detach().contiguous()?;
    let mut moved = with_values::<T, Vec<T>>(&free, <[T]>::to_vec)?;
    moved.par_chunks_mut(bits).for_each(|row| keep_top(row, active));
    a + (Tensor::from_vec(moved, a.shape(), a.device())? - free)?
}

/// The same for one row. Of equal values the earlier ones count as larger, so that exactly `active`
/// are above 0.
pub(super) fn keep_top<T: Real>(row: &mut [T], active: usize) {
    if active >= row.len() {
        return;
    }
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&i, &j| row[j].to_f64().total_cmp(&row[i].to_f64()));
    let middle = (row[order[active.max(1) - 1]].to_f64() + row[order[active]].to_f64()) / 2.0;
    for (rank, &i) in order.iter().enumerate() {
        let moved = row[i].to_f64() - middle;
        let least = f64::from(f32::MIN_POSITIVE);
        row[i] = T::from_f64(if rank < active { moved.max(least) } else { moved.min(0.0) });
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::model::gradient_check::variable;
    use crate::model::random::{Purpose, stream};

    fn draw(a: &Tensor, how: Binarize, done: f64) -> Tensor {
        code::<f64>(a, None, how, done, &mut stream(1, Purpose::Bits, 0)).unwrap()
    }

    fn values(x: &Tensor) -> Vec<f64> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn hard_bits_pass_the_gradient_of_the_sigmoid_through() {
        let a = variable(&[50, 4], 0.4);
        let soft = sigmoid(&a).unwrap();
        let expected = soft.sum_all().unwrap().backward().unwrap();
        let expected = values(expected.get(&a).unwrap());
        for how in [Binarize::Round, Binarize::Sample] {
            let z = draw(&a, how, 0.0);
            assert!(values(&z).iter().all(|z| z.abs() < 1e-12 || (z - 1.0).abs() < 1e-12));
            let gradients = z.sum_all().unwrap().backward().unwrap();
            assert_eq!(values(gradients.get(&a).unwrap()), expected);
        }
    }

    #[test]
    fn only_values_near_the_step_pass_a_gradient() {
        let a = [-3.0f64, -1.0, -0.75, -1e-12, 0.0, 1e-12, 0.25, 1.0, 1.5];
        let a = candle_core::Var::from_slice(&a, a.len(), &Device::Cpu).unwrap();
        let z = bits_near_the_step(&a).unwrap();
        assert_eq!(values(&z), [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
        let gradients = z.sum_all().unwrap().backward().unwrap();
        for (a, slope) in values(&a).iter().zip(values(gradients.get(&a).unwrap())) {
            assert!((slope - (1.0 - a.abs()).max(0.0)).abs() < 1e-9, "{slope} at {a}");
        }
    }

    #[test]
    fn rounding_takes_the_likelier_value_and_sampling_takes_each_as_often_as_it_is_likely() {
        let a = Tensor::from_vec([-1.0f64, 0.5].repeat(5000), (5000, 2), &Device::Cpu).unwrap();
        let rounded = draw(&a, Binarize::Round, 0.0).mean(0).unwrap();
        assert_eq!(values(&rounded), [0.0, 1.0]);
        let sampled = values(&draw(&a, Binarize::Sample, 0.0).mean(0).unwrap());
        let likely = values(&sigmoid(&a).unwrap().mean(0).unwrap());
        for (sampled, likely) in sampled.iter().zip(&likely) {
            assert!((sampled - likely).abs() < 0.03, "{sampled} for {likely}");
        }
    }

    #[test]
    fn noise_grows_from_start_to_end() {
        let a = Tensor::zeros((2000, 1), candle_core::DType::F64, &Device::Cpu).unwrap();
        let spread = |done| {
            let how = Binarize::Noise { start: 0.0, end: 4.0 };
            let z = draw(&a, how, done);
            values(&z).iter().map(|z| (z - 0.5).abs()).sum::<f64>() / 2000.0
        };
        assert_eq!(spread(0.0), 0.0);
        assert!(spread(0.25) < spread(0.5) && spread(0.5) < spread(1.0));
    }

    #[test]
    fn a_gaussian_code_has_the_mean_and_the_deviation_that_the_encoder_gives() {
        let column = |x: f64| Tensor::full(x, (5000, 1), &Device::Cpu).unwrap();
        let mut rng = stream(1, Purpose::Bits, 0);
        let variance = column(0.25f64.ln());
        let z = code::<f64>(&column(3.0), Some(&variance), Binarize::Gaussian, 0.0, &mut rng);
        let z = values(&z.unwrap());
        let mean = z.iter().sum::<f64>() / 5000.0;
        let deviation = (z.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / 5000.0).sqrt();
        assert!((mean - 3.0).abs() < 0.03 && (deviation - 0.5).abs() < 0.02, "{mean} {deviation}");
    }

    #[test]
    fn exactly_the_largest_are_above_zero_and_the_gradient_is_the_identity() {
        let a = variable(&[20, 9], 0.4);
        let moved = top::<f64>(&a, 3).unwrap();
        let gradients = moved.sum_all().unwrap().backward().unwrap();
        assert!(values(gradients.get(&a).unwrap()).iter().all(|&g| g == 1.0));
        for (before, after) in values(&a).chunks(9).zip(values(&moved).chunks(9)) {
            let mut sorted = before.to_vec();
            sorted.sort_by(|x, y| y.total_cmp(x));
            for (before, after) in before.iter().zip(after) {
                assert_eq!(*before >= sorted[2], *after > 0.0);
            }
        }
        // Equal values: the first ones.
        let mut row = [1.0f32, 2.0, 2.0, 2.0, f32::MIN];
        keep_top(&mut row, 2);
        assert_eq!(row.map(|x| x > 0.0), [false, true, true, false, false]);
        let mut row = [0.0f32; 5];
        keep_top(&mut row, 4);
        assert_eq!(row.map(|x| x > 0.0), [true, true, true, true, false]);
    }
}
