//! Training: from inputs to a model.
//!
//! ```text
//! features of all rows; some rows held out; the k-nearest-neighbour graph of the others
//! for each epoch:
//!     every row is paired with the end of a random walk on the graph, or with a row of a near code
//!     for each batch, in random order:
//!         codes of the rows and of their partners
//!         loss = reconstruction of the row, and of the partner, from the row's code
//!              + InfoNCE between the codes of the pairs
//!         what else the options ask for (see [`objective`](super::objective))
//!         one step of Adam
//!     loss of the held-out rows; checkpoint
//! ```
//!
//! Labels are never seen. Everything random comes from streams keyed by the seed and the step
//! (see [`random`](super::random)), and every sum has a fixed order, so the same inputs, options and seed give
//! the same bytes.

use std::ops::ControlFlow;
use std::time::Instant;

use candle_core::Tensor;

use super::Model;
use super::adam::{Adam, rate};
use super::checkpoint::{self, State};
use super::data::{Data, check_features, take_learned};
use super::features::Pipeline;
use super::floor::Floor;
use super::layer::Rows;
use super::nested::widths;
use super::network::Network;
use super::objective::{Look, Objective};
use super::options::{Procedure, TrainOptions};
use super::pretrain::pretrain;
use super::random::{Purpose, permutation, stream};
use super::real::internal;
use super::recirculate::{recirculate, tie};
use super::report::{EpochReport, Progress, Report, Stage, nine_digits};
use crate::error::{Error, Result};
use crate::input::{Features, Inputs};
use crate::numeric::{Neighbours, nearest_other_rows};

/// Epochs after which codes say something of who is near whom.
const UNLEARNED: usize = 2;

/// Trains a model on `inputs`. `progress` is called before each stage and after each step, and
/// stops the training where it breaks.
///
/// ```
/// use std::ops::ControlFlow;
///
/// use nearbit::model::{Preset, TrainOptions, train};
/// use nearbit::{Inputs, Matrix, Width};
///
/// let values = (0..400).map(|i| (i as f32 * 0.7).sin()).collect();
/// let inputs = Inputs::Vectors(Matrix::new(50, 8, values));
/// let options = TrainOptions {
///     bits: Width::new(6)?,
///     epochs: Some(2),
///     ..TrainOptions::preset(Preset::Vector)
/// };
/// let model = train(&inputs, &options, &mut |_| ControlFlow::Continue(()))?;
/// assert_eq!(model.encode(&inputs)?.len(), 50);
/// # Ok::<(), nearbit::Error>(())
/// ```
///
/// # Errors
/// Options out of range, inputs that the features or the loss cannot take, a loss that stops being
/// a number (with the step and what to do), a checkpoint of another training, a checkpoint that
/// cannot be written, [`Error::Interrupted`] where `progress` breaks.
pub fn train(
    inputs: &Inputs,
    options: &TrainOptions,
    progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Model> {
    options.check()?;
    let mut watch = Watch { begun: Instant::now(), progress };
    watch.stage(Stage::Features)?;
    let pipeline = Pipeline::fit(inputs, &options.features)?;
    let features = pipeline.apply(inputs)?;
    check_features(&features, options)?;
    let fingerprint = match options.checkpoint {
        Some(_) => checkpoint::fingerprint(&features, options)?,
        None => String::new(),
    };
    if options.neighbours.is_some() {
        watch.stage(Stage::Neighbours)?;
    }
    let data = Data::new(features, options)?;
    let mut training = Training::new(&data, options)?;
    if !training.resume(&fingerprint)? {
        training.start(&mut watch)?;
    }
    watch.stage(Stage::Network)?;
    training.run(&mut watch, &fingerprint)?;
    let (network, report) = training.finish()?;
    Model::new(pipeline, &network, options.clone(), report, &data.train.rows)
}

/// Tells progress, and carries the wish to stop back as an error.
struct Watch<'a> {
    begun: Instant,
    progress: &'a mut dyn FnMut(&Progress) -> ControlFlow<()>,
}

impl Watch<'_> {
    fn stage(&mut self, stage: Stage) -> Result<()> {
        let nothing_yet = Progress {
            stage,
            epoch: 0,
            epochs: 0,
            step: 0,
            steps: 0,
            loss: None,
            validation_loss: None,
            balance: None,
            saturation: None,
            seconds: 0.0,
            seconds_left: None,
        };
        self.tell(nothing_yet)
    }

    fn tell(&mut self, mut progress: Progress) -> Result<()> {
        progress.seconds = self.begun.elapsed().as_secs_f64();
        match (self.progress)(&progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Interrupted),
        }
    }
}

/// A training under way.
struct Training<'a> {
    data: &'a Data,
    options: &'a TrainOptions,
    objective: Objective<'a>,
    /// Judges the start and each epoch, where the start is good.
    floor: Option<Floor>,
    network: Network,
    adam: Adam,
    state: State,
    epochs: usize,
    steps_per_epoch: usize,
}

/// What one epoch's steps add up to.
#[derive(Default)]
struct Tally {
    steps: usize,
    loss: f64,
    rows: usize,
    saturated: usize,
    /// How often each bit was 1.
    ones: Vec<usize>,
}

impl Tally {
    fn add(&mut self, loss: f64, before_sigmoid: &[f32], bits: usize) {
        // sigmoid(x) is within 0.1 of 0 or 1 beyond ln 9.
        let saturated = 9f32.ln();
        self.steps += 1;
        self.loss += loss;
        self.rows += before_sigmoid.len() / bits;
        self.saturated += before_sigmoid.iter().filter(|x| x.abs() > saturated).count();
        self.ones.resize(bits, 0);
        for row in before_sigmoid.chunks_exact(bits) {
            self.ones.iter_mut().zip(row).for_each(|(ones, &x)| *ones += usize::from(x > 0.0));
        }
    }

    fn mean_loss(&self) -> f64 {
        self.loss / self.steps.max(1) as f64
    }

    fn balance(&self) -> f64 {
        let rarer = |ones: &usize| (*ones).min(self.rows - ones) as f64 / self.rows as f64;
        2.0 * self.ones.iter().map(rarer).sum::<f64>() / self.ones.len() as f64
    }

    fn saturation(&self) -> f64 {
        self.saturated as f64 / (self.rows * self.ones.len()) as f64
    }
}

impl<'a> Training<'a> {
    fn new(data: &'a Data, options: &'a TrainOptions) -> Result<Self> {
        let rows = &data.train.rows;
        let network = Network::new::<f32>(rows.cols(), options).map_err(internal)?;
        let variables = network.variables().into_iter().map(|(_, var)| var).collect();
        let report = Report {
            rows: rows.rows(),
            validation_rows: data.held_out.as_ref().map_or(0, |part| part.rows.rows()),
            ..Report::default()
        };
        Ok(Self {
            data,
            options,
            objective: Objective::new(options, rows)?,
            floor: match options.start_from_itq {
                true => Floor::new(data, widths(options))?,
                false => None,
            },
            adam: Adam::new(variables, options),
            network,
            state: State { report, best: None },
            epochs: options.epochs_for(rows.rows()),
            steps_per_epoch: rows.rows().div_ceil(options.batch),
        })
    }

    /// Goes on from the checkpoint, where there is one; says whether there was.
    fn resume(&mut self, fingerprint: &str) -> Result<bool> {
        let Some(path) = &self.options.checkpoint else { return Ok(false) };
        if !path.exists() {
            return Ok(false);
        }
        self.state = checkpoint::load(path, fingerprint, &self.network, &mut self.adam)?;
        Ok(true)
    }

    /// Gives the network better first weights than those drawn, where that is asked for.
    fn start(&mut self, watch: &mut Watch<'_>) -> Result<()> {
        let (rows, options) = (&self.data.train.rows, self.options);
        if options.start_from_itq {
            super::start::from_itq(&self.network, rows, options.seed)?;
        }
        if let Some(floor) = &self.floor {
            self.state.report.start_recall = Some(nine_digits(floor.recall(&self.network)?));
            self.state.best = Some(checkpoint::weights(&self.network)?);
        }
        if options.procedure == Procedure::Recirculation {
            tie(&self.network).map_err(internal)?;
        }
        if let (Some(how), Features::Dense(rows)) = (options.pretraining, rows) {
            watch.stage(Stage::Pretraining)?;
            pretrain(&self.network, rows, options, how).map_err(internal)?;
        }
        Ok(())
    }

    fn run(&mut self, watch: &mut Watch<'_>, fingerprint: &str) -> Result<()> {
        let resumed = self.state.report.epochs.len();
        let began = Instant::now();
        for epoch in resumed..self.epochs {
            if self.is_over() {
                break;
            }
            let tally = self.epoch(epoch, resumed, began, watch)?;
            let validation_loss = self.validate()?.map(nine_digits);
            let recall =
                self.floor.as_ref().map(|floor| floor.recall(&self.network)).transpose()?;
            self.state.report.epochs.push(EpochReport {
                loss: nine_digits(tally.mean_loss()),
                validation_loss,
                recall: recall.map(nine_digits),
                balance: nine_digits(tally.balance()),
                saturation: nine_digits(tally.saturation()),
                learning_rate: nine_digits(self.rate(self.adam.steps - 1)),
            });
            self.remember_best(validation_loss)?;
            if let Some(path) = &self.options.checkpoint {
                checkpoint::save(path, fingerprint, &self.network, &self.adam, &self.state)?;
            }
        }
        Ok(())
    }

    fn steps(&self) -> u64 {
        (self.steps_per_epoch * self.epochs) as u64
    }

    fn rate(&self, step: u64) -> f64 {
        rate(self.options, step, self.steps())
    }

    /// Whether early stopping ends the training here.
    fn is_over(&self) -> bool {
        let report = &self.state.report;
        self.options
            .patience
            .is_some_and(|patience| report.epochs.len() >= report.best_epoch + patience)
    }

    /// With patience the weights of the best epoch count, without it those of the last; of epochs
    /// that find no fewer exact neighbours than the start, where that is looked at.
    fn remember_best(&mut self, validation_loss: Option<f64>) -> Result<()> {
        let report = &mut self.state.report;
        let best = report.best_epoch.checked_sub(1).and_then(|i| report.epochs[i].validation_loss);
        let recall = report.epochs.last().and_then(|epoch| epoch.recall);
        let is_low =
            matches!((recall, report.start_recall), (Some(now), Some(start)) if now < start);
        let better = match (self.options.patience, validation_loss, best) {
            _ if is_low => false,
            (Some(_), Some(now), Some(best)) => now < best,
            _ => true,
        };
        if better {
            report.best_epoch = report.epochs.len();
            if self.options.patience.is_some() || self.floor.is_some() {
                self.state.best = Some(checkpoint::weights(&self.network)?);
            }
        }
        Ok(())
    }

    fn epoch(
        &mut self,
        epoch: usize,
        resumed: usize,
        began: Instant,
        watch: &mut Watch<'_>,
    ) -> Result<Tally> {
        let seed = self.options.seed;
        let part = &self.data.train;
        let n = part.rows.rows();
        let order = permutation(&mut stream(seed, Purpose::Order, epoch as u64), n);
        let walk = self.options.walk_for(n);
        let mut rng = stream(seed, Purpose::Walk, epoch as u64);
        let mut partners = part.partners(walk, &mut rng);
        if let Some(near) = self.near_by_code(epoch)? {
            let share = self.options.neighbours.map_or(0.0, |neighbours| neighbours.learned);
            take_learned(&mut partners, &near, share, &mut rng);
        }
        let mut tally = Tally::default();
        for i in 0..self.steps_per_epoch {
            // Batches of nearly one size: a last one of a single row would have nothing to contrast.
            let batch = &order[i * n / self.steps_per_epoch..(i + 1) * n / self.steps_per_epoch];
            let partners: Vec<usize> = batch.iter().map(|&row| partners[row]).collect();
            self.step(batch, &partners, &mut tally)?;
            let done = self.adam.steps as f64 - (resumed * self.steps_per_epoch) as f64;
            let left = (self.steps() - self.adam.steps) as f64;
            watch.tell(Progress {
                stage: Stage::Network,
                epoch: epoch + 1,
                epochs: self.epochs,
                step: self.adam.steps,
                steps: self.steps(),
                loss: Some(tally.mean_loss()),
                validation_loss: self.state.report.epochs.last().and_then(|e| e.validation_loss),
                balance: Some(tally.balance()),
                saturation: Some(tally.saturation()),
                seconds: 0.0,
                seconds_left: Some(began.elapsed().as_secs_f64() / done * left),
            })?;
        }
        Ok(tally)
    }

    /// The rows nearest to each by the code layer's values, brought to -1..1 as contrast compares them;
    /// where they are asked for, and codes have learned something. Made anew each time, so that a
    /// training that goes on from a checkpoint sees the same ones.
    fn near_by_code(&self, epoch: usize) -> Result<Option<Neighbours>> {
        let count = match self.options.neighbours {
            Some(neighbours) if neighbours.learned > 0.0 && epoch >= UNLEARNED => {
                neighbours.count.div_ceil(2)
            }
            _ => return Ok(None),
        };
        let mut values = self.network.values(&self.data.train.rows).map_err(internal)?;
        for row in 0..values.rows() {
            values.row_mut(row).iter_mut().for_each(|a| *a = (*a / 2.0).tanh());
        }
        nearest_other_rows(&Features::Dense(values), count).map(Some)
    }

    fn step(&mut self, batch: &[usize], partners: &[usize], tally: &mut Tally) -> Result<()> {
        let step = self.adam.steps;
        let look = Look::Learn { step, done: step as f64 / self.steps() as f64 };
        let part = &self.data.train;
        let (loss, before_sigmoid) =
            self.objective.loss(&self.network, part, batch, partners, look).map_err(internal)?;
        let value = f64::from(loss.to_scalar::<f32>().map_err(internal)?);
        self.diverged_unless(value.is_finite(), format!("the loss is {value}"))?;
        let gradients = self.gradients(&loss, batch).map_err(internal)?;
        let length = self.adam.step(&gradients, self.rate(step)).map_err(internal)?;
        self.diverged_unless(length.is_finite(), format!("the gradient's length is {length}"))?;
        let before_sigmoid = before_sigmoid.flatten_all().and_then(|x| x.to_vec1::<f32>());
        tally.add(value, &before_sigmoid.map_err(internal)?, self.options.bits.bits());
        Ok(())
    }

    /// What each variable should change against.
    fn gradients(
        &self,
        loss: &Tensor,
        batch: &[usize],
    ) -> candle_core::Result<Vec<Option<Tensor>>> {
        let rows = match self.options.procedure {
            Procedure::Backpropagation => None,
            Procedure::Recirculation => Some(Rows::new(&self.data.train.rows.select(batch))?),
        };
        if let Some(Rows::Dense(x)) = rows {
            return recirculate(&self.network, &x, self.options.binarize, self.options.loss);
        }
        self.network.gradients(loss)
    }

    fn diverged_unless(&self, fine: bool, what: String) -> Result<()> {
        if fine {
            return Ok(());
        }
        Err(Error::invalid(
            "learning rate",
            format!(
                "the training diverged at step {} of {}: {what}; take a learning rate below {} or a \
                 clip below {}",
                self.adam.steps,
                self.steps(),
                self.options.learning_rate,
                self.options.clip.map_or("infinity".into(), |clip| clip.to_string()),
            ),
        ))
    }

    /// The loss of the held-out rows with rounded codes, each paired with a walk of its own that is the same in
    /// every epoch.
    fn validate(&self) -> Result<Option<f64>> {
        let Some(part) = &self.data.held_out else { return Ok(None) };
        let mut rng = stream(self.options.seed, Purpose::Validation, 0);
        let partners = part.partners(self.options.walk_for(part.rows.rows()), &mut rng);
        let rows: Vec<usize> = (0..part.rows.rows()).collect();
        let mut sum = 0.0;
        let batches = rows.chunks(self.options.batch).zip(partners.chunks(self.options.batch));
        for (number, (batch, partners)) in batches.enumerate() {
            let look = Look::Judge { batch: number as u64 };
            let (loss, _) = self
                .objective
                .loss(&self.network, part, batch, partners, look)
                .map_err(internal)?;
            let loss = f64::from(loss.to_scalar::<f32>().map_err(internal)?);
            sum += loss * batch.len() as f64;
        }
        Ok(Some(sum / rows.len() as f64))
    }

    /// The network with the weights that count.
    fn finish(self) -> Result<(Network, Report)> {
        if let Some(best) = &self.state.best {
            checkpoint::set_weights(&self.network, best)?;
        }
        let weights = checkpoint::weights(&self.network)?;
        let finite = weights.values().all(|array| array.values.iter().all(|w| w.is_finite()));
        self.diverged_unless(finite, "a weight is not finite".into())?;
        Ok((self.network, self.state.report))
    }
}
