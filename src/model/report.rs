//! What a training tells: while it runs, and in the model file afterwards.

use std::ops::ControlFlow;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What a training is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Turning inputs into numbers.
    Features,
    /// Finding every row's nearest neighbours.
    Neighbours,
    /// Giving the network its first weights.
    Pretraining,
    /// Training the network.
    Network,
}

/// Where a training stands; told before each stage, now and then in the first two, and after each step.
#[derive(Clone, PartialEq, Debug)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// The epoch that is under way, from 1; 0 before the first.
    pub epoch: usize,
    /// Epochs in all; 0 before the first.
    pub epochs: usize,
    /// Steps done.
    pub step: u64,
    /// Steps in all; 0 before the first.
    pub steps: u64,
    /// Mean loss of this epoch's steps so far; `None` before the first.
    pub loss: Option<f64>,
    /// Loss of the validation rows after the last whole epoch.
    pub validation_loss: Option<f64>,
    /// See [`EpochReport::balance`]; of this epoch so far.
    pub balance: Option<f64>,
    /// See [`EpochReport::saturation`]; of this epoch so far.
    pub saturation: Option<f64>,
    /// Bytes of rows that each epoch reads from the scratch file; 0 where all are in memory, and before
    /// that is known.
    pub scratch_bytes: u64,
    /// Seconds since the training began.
    pub seconds: f64,
    /// Seconds until the last epoch will end at the pace of the steps so far; `None` before the
    /// first step.
    pub seconds_left: Option<f64>,
}

/// Tells progress, and carries the wish to stop back as an error.
pub(super) struct Watch<'a> {
    begun: Instant,
    progress: &'a mut dyn FnMut(&Progress) -> ControlFlow<()>,
}

impl<'a> Watch<'a> {
    pub fn new(progress: &'a mut dyn FnMut(&Progress) -> ControlFlow<()>) -> Self {
        Self { begun: Instant::now(), progress }
    }

    pub fn stage(&mut self, stage: Stage) -> Result<()> {
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
            scratch_bytes: 0,
            seconds: 0.0,
            seconds_left: None,
        };
        self.tell(nothing_yet)
    }

    pub fn tell(&mut self, mut progress: Progress) -> Result<()> {
        progress.seconds = self.begun.elapsed().as_secs_f64();
        match (self.progress)(&progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Interrupted),
        }
    }
}

/// One epoch of a training.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EpochReport {
    /// Mean loss of the steps.
    pub loss: f64,
    /// Loss of the validation rows with rounded codes; `None` without such rows.
    pub validation_loss: Option<f64>,
    /// The share of the 10 exact neighbours of rows held out that are among the 10 nearest by code;
    /// only of a training that starts from ITQ. Of nested codes, the mean over their widths.
    #[serde(default)]
    pub recall: Option<f64>,
    /// How evenly the bits are used: mean over bits of twice the rarer value's share. 1 where every
    /// bit is 1 for half of the rows, 0 where no bit ever changes.
    pub balance: f64,
    /// Share of the code layer's values within 0.1 of 0 or 1.
    pub saturation: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
}

/// A whole training. No times: the same training must give the same file.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Rows learned from.
    pub rows: usize,
    /// Rows held out.
    pub validation_rows: usize,
    /// Where the rows were more than memory was allowed for: how many were in memory as a sample of
    /// them (see [`Memory`](super::Memory)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_rows: Option<usize>,
    /// The epochs, in order; of an ensemble those of one member after those of the other.
    pub epochs: Vec<EpochReport>,
    /// The epoch whose weights the model has, from 1; 0 where they are those of the start. Of an ensemble
    /// that of its last member.
    pub best_epoch: usize,
    /// See [`EpochReport::recall`]; of the start.
    #[serde(default)]
    pub start_recall: Option<f64>,
}

/// `x` to nine digits, so that any JSON reader gives back what was written: a resumed training reads
/// the report of the one before, and must end in the same bytes.
pub(super) fn nine_digits(x: f64) -> f64 {
    format!("{x:.8e}").parse().unwrap_or(x)
}
