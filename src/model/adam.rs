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

use candle_core::backprop::GradStore;
use candle_core::{Result, Var};
use rayon::prelude::*;

use super::layer::CHUNK;
use super::options::{Schedule, TrainOptions};
use super::real::{update_values, with_values};

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

    /// One step of size `rate` down the gradients; returns their length. Where that is not finite
    /// nothing is changed.
    pub fn step(&mut self, gradients: &GradStore, rate: f64) -> Result<f64> {
        let length = self.length(gradients)?;
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
        for (var, moments) in self.variables.iter().zip(&mut self.moments) {
            let Some(gradient) = gradients.get(var) else { continue };
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

    /// The length of all gradients as one vector.
    fn length(&self, gradients: &GradStore) -> Result<f64> {
        let mut sum = 0.0;
        for var in &self.variables {
            let Some(gradient) = gradients.get(var) else { continue };
            let squares = with_values::<f32, Vec<f64>>(&gradient.contiguous()?, |g| {
                // Chunk by chunk, added in their order: the same for any number of threads.
                g.par_chunks(CHUNK)
                    .map(|g| f64::from(g.iter().map(|g| g * g).sum::<f32>()))
                    .collect()
            })?;
            sum += squares.iter().sum::<f64>();
        }
        Ok(sum.sqrt())
    }
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
        for (((w, m), v), g) in w.iter_mut().zip(m).zip(v).zip(g) {
            let g = g * self.shrink;
            *m = b1 * *m + (1.0 - b1) * g;
            *v = b2 * *v + (1.0 - b2) * g * g;
            *w = *w * self.keep - self.rate * *m / (v.sqrt() + self.eps);
        }
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
