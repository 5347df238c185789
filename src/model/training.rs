//! A training under way: epochs of steps, judged and remembered.

use std::time::Instant;

use candle_core::Tensor;
use rand::Rng;

use super::adam::{Adam, rate};
use super::checkpoint::{self, State};
use super::data::{Data, Rows, Window};
use super::ensemble::Turn;
use super::floor::Floor;
use super::layer;
use super::nested::widths;
use super::network::Network;
use super::objective::{Look, Objective};
use super::options::{Procedure, TrainOptions};
use super::part::take_learned;
use super::pretrain::pretrain;
use super::random::{Purpose, permutation, stream};
use super::real::internal;
use super::recirculate::{recirculate, tie};
use super::report::{EpochReport, Progress, Report, Stage, Watch, nine_digits};
use super::tally::Tally;
use crate::error::{Error, Result};
use crate::input::Features;

/// Epochs after which codes say something of who is near whom.
const UNLEARNED: usize = 2;

/// A training under way.
pub(super) struct Training<'a> {
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
    turn: Turn,
}

impl<'a> Training<'a> {
    pub fn new(data: &'a Data, options: &'a TrainOptions, turn: Turn) -> Result<Self> {
        let (rows, cols) = (data.train.count(), data.train.cols());
        let network = Network::new::<f32>(cols, options).map_err(internal)?;
        let variables = network.variables().into_iter().map(|(_, var)| var).collect();
        let report = Report {
            rows,
            validation_rows: data.held_out.as_ref().map_or(0, |part| part.rows.rows()),
            sample_rows: match &data.train {
                Rows::Whole(_) => None,
                Rows::Streamed(streamed) => Some(streamed.sample.rows.rows()),
            },
            ..Report::default()
        };
        Ok(Self {
            data,
            options,
            objective: Objective::new(options, cols, &data.spread)?,
            // Who does not ask for order gives it up for groups.
            floor: match options.start_from_itq && options.similarity.is_some() {
                true => Floor::new(data, widths(options))?,
                false => None,
            },
            adam: Adam::new(variables, options),
            network,
            state: State { report, best: None },
            epochs: options.epochs_for(rows),
            steps_per_epoch: rows.div_ceil(options.batch),
            turn,
        })
    }

    /// Goes on from the checkpoint, where there is one; says whether there was.
    pub fn resume(&mut self, fingerprint: &str) -> Result<bool> {
        let Some(path) = &self.options.checkpoint else { return Ok(false) };
        if !path.exists() {
            return Ok(false);
        }
        self.state = checkpoint::load(path, fingerprint, &self.network, &mut self.adam)?;
        Ok(true)
    }

    /// Gives the network better first weights than those drawn, where that is asked for.
    pub fn start(&mut self, watch: &mut Watch<'_>) -> Result<()> {
        let (rows, options) = (&self.data.train.pool().rows, self.options);
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

    pub fn run(&mut self, watch: &mut Watch<'_>, fingerprint: &str) -> Result<()> {
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
        let (train, n) = (&self.data.train, self.data.train.count());
        let mut order = stream(seed, Purpose::Order, epoch as u64);
        let mut walk = stream(seed, Purpose::Walk, epoch as u64);
        let by_code = self.pool_by_code(epoch)?;
        let mut tally = Tally::default();
        let mut before = 0;
        for blocks in train.windows(&mut order) {
            let window = train.load(&blocks)?;
            let rows = window.rows.rows();
            let order = permutation(&mut order, rows);
            let partners = self.partners(&window, by_code.as_ref(), &mut walk)?;
            // The window's share of the epoch's steps, which are the same number in every epoch.
            let steps_at = |row: usize| (row * self.steps_per_epoch + n / 2) / n;
            let steps = steps_at(before + rows) - steps_at(before);
            before += rows;
            for i in 0..steps {
                // Batches of nearly one size: a last one of a single row would have nothing to contrast.
                let batch = &order[i * rows / steps..(i + 1) * rows / steps];
                self.step(&window, batch, &partners, &mut tally)?;
                let done = self.adam.steps as f64 - (resumed * self.steps_per_epoch) as f64;
                // What is told is told of all members.
                let Turn { member, members } = self.turn;
                let step = self.adam.steps + member as u64 * self.steps();
                let left = (members as u64 * self.steps() - step) as f64;
                let validation_loss =
                    self.state.report.epochs.last().and_then(|e| e.validation_loss);
                watch.tell(Progress {
                    stage: Stage::Network,
                    epoch: member * self.epochs + epoch + 1,
                    epochs: members * self.epochs,
                    step,
                    steps: members as u64 * self.steps(),
                    loss: Some(tally.mean_loss()),
                    validation_loss,
                    balance: Some(tally.balance()),
                    saturation: Some(tally.saturation()),
                    scratch_bytes: train.scratch_bytes(),
                    seconds: 0.0,
                    seconds_left: Some(began.elapsed().as_secs_f64() / done * left),
                })?;
            }
        }
        Ok(tally)
    }

    /// The row of the pool that each row of a window is paired with.
    fn partners(
        &self,
        window: &Window<'_>,
        by_code: Option<&Features>,
        rng: &mut impl Rng,
    ) -> Result<Vec<usize>> {
        let pool = self.data.train.pool();
        let walk = self.options.walk_for(pool.rows.rows());
        let mut partners = window.partners(pool, walk, rng);
        if let (Some(neighbours), Some(values)) = (self.options.neighbours, by_code) {
            let own = |rows: &Features| self.by_code(rows);
            let near = window.nearest_by(values, own, neighbours.count.div_ceil(2))?;
            take_learned(&mut partners, &near, neighbours.learned, rng);
        }
        Ok(partners)
    }

    /// The pool by its codes, where neighbours by code are asked for and codes have learned something.
    /// Made anew each time, so that a training that goes on from a checkpoint sees the same.
    fn pool_by_code(&self, epoch: usize) -> Result<Option<Features>> {
        let learned = self.options.neighbours.is_some_and(|neighbours| neighbours.learned > 0.0);
        let wanted = learned && epoch >= UNLEARNED;
        wanted.then(|| self.by_code(&self.data.train.pool().rows)).transpose()
    }

    /// The code layer's values, brought to -1..1 as contrast compares them.
    fn by_code(&self, rows: &Features) -> Result<Features> {
        let mut values = self.network.values(rows).map_err(internal)?;
        for row in 0..values.rows() {
            values.row_mut(row).iter_mut().for_each(|a| *a = (*a / 2.0).tanh());
        }
        Ok(Features::Dense(values))
    }

    fn step(
        &mut self,
        window: &Window<'_>,
        batch: &[usize],
        partners: &[usize],
        tally: &mut Tally,
    ) -> Result<()> {
        let step = self.adam.steps;
        let look = Look::Learn { step, done: step as f64 / self.steps() as f64 };
        let own = window.rows.select(batch);
        let partners = self.options.neighbours.map(|_| {
            let partners: Vec<usize> = batch.iter().map(|&row| partners[row]).collect();
            self.data.train.pool().rows.select(&partners)
        });
        let (loss, before_sigmoid) =
            self.objective.loss(&self.network, &own, partners.as_ref(), look).map_err(internal)?;
        let value = f64::from(loss.to_scalar::<f32>().map_err(internal)?);
        self.diverged_unless(value.is_finite(), format!("the loss is {value}"))?;
        let gradients = self.gradients(&loss, &own).map_err(internal)?;
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
        rows: &Features,
    ) -> candle_core::Result<Vec<Option<Tensor>>> {
        let rows = match self.options.procedure {
            Procedure::Backpropagation => None,
            Procedure::Recirculation => Some(layer::Rows::new(rows)?),
        };
        if let Some(layer::Rows::Dense(x)) = rows {
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
            let own = part.rows.select(batch);
            let partners = self.options.neighbours.map(|_| part.rows.select(partners));
            let loss = self.objective.loss(&self.network, &own, partners.as_ref(), look);
            let (loss, _) = loss.map_err(internal)?;
            let loss = f64::from(loss.to_scalar::<f32>().map_err(internal)?);
            sum += loss * batch.len() as f64;
        }
        Ok(Some(sum / rows.len() as f64))
    }

    /// The network with the weights that count.
    pub fn finish(self) -> Result<(Network, Report)> {
        if let Some(best) = &self.state.best {
            checkpoint::set_weights(&self.network, best)?;
        }
        let weights = checkpoint::weights(&self.network)?;
        let finite = weights.values().all(|array| array.values.iter().all(|w| w.is_finite()));
        self.diverged_unless(finite, "a weight is not finite".into())?;
        Ok((self.network, self.state.report))
    }
}
