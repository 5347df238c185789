//! Adam (Kingma and Ba, 2015) with decoupled weight decay (Loshchilov and Hutter, 2019), a limit on
//! the length of the gradient, and a learning-rate schedule.
//!
//! ```text
//! m = b1 m + (1 - b1) g        v = b2 v + (1 - b2) g^2
//! w = w (1 - rate decay) - rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
//! ```
//!
//! Our own because candle's keeps its state to itself, so a training could not be resumed.
//! Weights and moments are updated in place, in one parallel pass.

use candle_core::{Result, Tensor, Var};
use rayon::prelude::*;

use super::layer::CHUNK;
use super::options::{Schedule, TrainOptions};
use super::real::{squares, update_values, with_values};
use crate::numeric::vectorized;

const B1: f64 = 0.9;
const B2: f64 = 0.999;
const EPS: f64 = 1e-8;

/// The running means of one variable's gradient and of its square.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Moments {
    pub m: Vec<f32>,
    pub v: Vec<f32>,
}

/// The optimizer and its state.
pub(super) struct Adam {
    variables: Vec<Var>,
    /// One for each variable.
    pub moments: Vec<Moments>,
    /// Steps taken so far.
    pub steps: u64,
    clip: Option<f64>,
    weight_decay: f64,
}

impl Adam {
    /// An optimizer of `variables` that has taken no step.
    pub fn new(variables: Vec<Var>, options: &TrainOptions) -> Self {
        let moments = variables
            .iter()
            .map(|var| {
                let zeros = vec![0.0; var.elem_count()];
                Moments { m: zeros.clone(), v: zeros }
            })
            .collect();
        Self {
            variables,
            moments,
            steps: 0,
            clip: options.clip,
            weight_decay: options.weight_decay,
        }
    }

    /// One step of size `rate` down the gradients, one for each variable that has one; returns their
    /// length. Where that is not finite nothing is changed.
    pub fn step(&mut self, gradients: &[Option<Tensor>], rate: f64) -> Result<f64> {
        let length = length(gradients)?;
        if !length.is_finite() {
            return Ok(length);
        }
        let shrink = self.clip.map_or(1.0, |longest| (longest / length).min(1.0));
        self.steps += 1;
        let t = self.steps as i32;
        let update = Update {
            shrink: shrink as f32,
            keep: (1.0 - rate * self.weight_decay) as f32,
            // The two corrections for moments that started at zero, taken out of the loop.
            rate: (rate * (1.0 - B2.powi(t)).sqrt() / (1.0 - B1.powi(t))) as f32,
            eps: (EPS * (1.0 - B2.powi(t)).sqrt()) as f32,
        };
        let variables = self.variables.iter().zip(gradients);
        for ((var, gradient), moments) in variables.zip(&mut self.moments) {
            let Some(gradient) = gradient else { continue };
            let gradient = gradient.contiguous()?;
            with_values::<f32, _>(&gradient, |g| {
                update_values::<f32>(var, |w| {
                    (w.par_chunks_mut(CHUNK), moments.m.par_chunks_mut(CHUNK))
                        .into_par_iter()
                        .zip((moments.v.par_chunks_mut(CHUNK), g.par_chunks(CHUNK)))
                        .for_each(|((w, m), (v, g))| update.apply(w, m, v, g));
                })
            })??;
        }
        Ok(length)
    }
}

/// The length of all gradients as one vector.
fn length(gradients: &[Option<Tensor>]) -> Result<f64> {
    let mut sum = 0.0;
    for gradient in gradients.iter().flatten() {
        let parts = with_values::<f32, Vec<f64>>(&gradient.contiguous()?, |g| {
            // Chunk by chunk, added in their order: the same for any number of threads.
            g.par_chunks(CHUNK).map(|g| f64::from(vectorized(|| squares(g)))).collect()
        })?;
        sum += parts.iter().sum::<f64>();
    }
    Ok(sum.sqrt())
}

/// What is the same for every weight of a step.
struct Update {
    shrink: f32,
    keep: f32,
    rate: f32,
    eps: f32,
}

impl Update {
    fn apply(&self, w: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32]) {
        let (b1, b2) = (B1 as f32, B2 as f32);
        vectorized(|| {
            for (((w, m), v), g) in w.iter_mut().zip(m).zip(v).zip(g) {
                let g = g * self.shrink;
                *m = b1 * *m + (1.0 - b1) * g;
                *v = b2 * *v + (1.0 - b2) * g * g;
                *w = *w * self.keep - self.rate * *m / (v.sqrt() + self.eps);
            }
        });
    }
}

/// The learning rate of step `step` of `steps`.
pub(super) fn rate(options: &TrainOptions, step: u64, steps: u64) -> f64 {
    let done = step as f64 / steps.max(1) as f64;
    if done < options.warm_up {
        // The first step has a rate above zero: it is one step's worth of rising.
        let rising = (step + 1) as f64 / (options.warm_up * steps as f64).max(1.0);
        return options.learning_rate * rising.min(1.0);
    }
    let left = 1.0 - (done - options.warm_up) / (1.0 - options.warm_up).max(f64::MIN_POSITIVE);
    let share = match options.schedule {
        Schedule::Constant => 1.0,
        Schedule::Linear => left,
        Schedule::Cosine => (1.0 - (std::f64::consts::PI * left).cos()) / 2.0,
    };
    options.learning_rate * (options.final_rate + (1.0 - options.final_rate) * share)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::model::options::Preset;

    fn options() -> TrainOptions {
        TrainOptions { clip: None, weight_decay: 0.0, ..TrainOptions::preset(Preset::Text) }
    }

    /// Steps down sum(c x^2) / 2 from x, and where that leads.
    fn descend(options: &TrainOptions, x: &[f32], steps: usize) -> Vec<f32> {
        let var = Var::from_slice(x, x.len(), &Device::Cpu).unwrap();
        let c = Tensor::new(&[1f32, 4.0, 0.25], &Device::Cpu).unwrap();
        let mut adam = Adam::new(vec![var.clone()], options);
        for _ in 0..steps {
            let loss = (var.sqr().unwrap() * &c).unwrap().sum_all().unwrap().affine(0.5, 0.0);
            let gradients = loss.unwrap().backward().unwrap();
            adam.step(&[gradients.get(&var).cloned()], 0.1).unwrap();
        }
        var.to_vec1().unwrap()
    }

    /// The formulas of the module's comment, number by number.
    fn plain(options: &TrainOptions, x: &[f32], steps: usize) -> Vec<f32> {
        let c = [1.0, 4.0, 0.25];
        let mut x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let (mut m, mut v) = ([0.0; 3], [0.0; 3]);
        for t in 1..=steps as i32 {
            let g: Vec<f64> = x.iter().zip(c).map(|(x, c)| c * x).collect();
            let length = g.iter().map(|g| g * g).sum::<f64>().sqrt();
            let shrink =
                options.clip.map_or(1.0, |clip| if length > clip { clip / length } else { 1.0 });
            for i in 0..3 {
                let g = g[i] * shrink;
                m[i] = B1 * m[i] + (1.0 - B1) * g;
                v[i] = B2 * v[i] + (1.0 - B2) * g * g;
                let (m, v) = (m[i] / (1.0 - B1.powi(t)), v[i] / (1.0 - B2.powi(t)));
                x[i] = x[i] * (1.0 - 0.1 * options.weight_decay) - 0.1 * m / (v.sqrt() + EPS);
            }
        }
        x.into_iter().map(|x| x as f32).collect()
    }

    #[test]
    fn steps_are_those_of_the_formula() {
        let decay = TrainOptions { weight_decay: 0.3, ..options() };
        let clip = TrainOptions { clip: Some(0.5), ..options() };
        for options in [options(), decay, clip] {
            let (got, expected) =
                (descend(&options, &[3.0, -2.0, 0.5], 25), plain(&options, &[3.0, -2.0, 0.5], 25));
            for (got, expected) in got.iter().zip(&expected) {
                assert!((got - expected).abs() < 1e-4, "expected {expected}, got {got}");
            }
        }
    }

    #[test]
    fn the_length_of_the_gradient_is_told_and_a_broken_one_changes_nothing() {
        let var = Var::new(&[3f32, 4.0], &Device::Cpu).unwrap();
        let mut adam = Adam::new(vec![var.clone()], &options());
        let gradients = |factor: f64| {
            let loss = var.sqr().unwrap().sum_all().unwrap().affine(factor, 0.0).unwrap();
            [loss.backward().unwrap().get(&var).cloned()]
        };
        assert_eq!(adam.step(&gradients(0.5), 0.0).unwrap(), 5.0);
        assert!(!adam.step(&gradients(f64::NAN), 0.1).unwrap().is_finite());
        assert_eq!(var.to_vec1::<f32>().unwrap(), [3.0, 4.0]);
        assert_eq!(adam.steps, 1);
    }

    #[test]
    fn the_rate_rises_stays_and_falls_as_chosen() {
        let with = |schedule| TrainOptions {
            schedule,
            learning_rate: 1.0,
            warm_up: 0.1,
            final_rate: 0.2,
            ..options()
        };
        let near = |got: f64, expected: f64| {
            assert!((got - expected).abs() < 1e-9, "expected {expected}, got {got}");
        };
        for schedule in [Schedule::Constant, Schedule::Linear, Schedule::Cosine] {
            let options = with(schedule);
            near(rate(&options, 0, 100), 0.1);
            near(rate(&options, 9, 100), 1.0);
            near(rate(&options, 10, 100), 1.0);
            let end = if schedule == Schedule::Constant { 1.0 } else { 0.2 };
            near(rate(&options, 100, 100), end);
        }
        near(rate(&with(Schedule::Linear), 55, 100), 0.6);
        near(rate(&with(Schedule::Cosine), 55, 100), 0.6);
    }
}
