//! Training: from inputs to a model.
//!
//! ```text
//! features of all rows; some rows held out; the k-nearest-neighbour graph of the others
//! for each epoch (and for each member of an [`ensemble`](super::ensemble)):
//!     for each window of rows, which is all of them, or what of a file is in memory at a time:
//!         every row is paired with the end of a random walk on the graph, or with a row of a near code
//!         for each batch, in random order:
//!             codes of the rows and of their partners
//!             loss = reconstruction of the row, and of the partner, from the row's code
//!                  + InfoNCE between the codes of the pairs
//!             what else the options ask for (see [`objective`](super::objective))
//!             one step of Adam
//!     loss of the held-out rows; checkpoint
//! ```
//!
//! Labels are never seen. Everything random comes from streams keyed by the seed and the step
//! (see [`random`](super::random)), and every sum has a fixed order, so the same inputs, options and seed give
//! the same bytes.

use std::borrow::Borrow;
use std::ops::ControlFlow;

use super::Model;
use super::data::Data;
use super::ensemble::{Turn, join, members};
use super::features::Pipeline;
use super::options::TrainOptions;
use super::read::{Read, read};
use super::report::{Progress, Stage, Watch};
use super::training::Training;
use crate::error::Result;
use crate::input::Inputs;

/// Trains a model on `inputs`. `progress` is called before each stage, now and then in the first two,
/// and after each step, and stops the training where it breaks. In memory are the inputs and their
/// features; [`train_from`] does without the inputs.
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
/// cannot be written, [`Error::Interrupted`](crate::Error::Interrupted) where `progress` breaks.
pub fn train(
    inputs: &Inputs,
    options: &TrainOptions,
    progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Model> {
    train_from(&|| Ok(std::iter::once(Ok(inputs))), options, progress)
}

/// Trains a model on rows that `open` gives in parts, from their first to their last, each time that it is
/// called: twice, or three times where columns are scaled. The model does not depend on the parts; no
/// more than one of them is in memory, beside the features (see [`TrainOptions::memory`]).
///
/// ```
/// use std::ops::ControlFlow;
///
/// use nearbit::model::{Memory, Preset, TrainOptions, train_from};
/// use nearbit::{Inputs, Matrix, Width};
///
/// let part = |i: usize| Matrix::new(50, 8, (0..400).map(|j| ((400 * i + j) as f32).sin()).collect());
/// let open = || Ok((0..10).map(move |i| Ok(Inputs::Vectors(part(i)))));
/// let options = TrainOptions {
///     bits: Width::new(6)?,
///     epochs: Some(2),
///     // More features than this would be read from a scratch file.
///     memory: Some(Memory { bytes: 1 << 30, scratch: None }),
///     ..TrainOptions::preset(Preset::Vector)
/// };
/// let model = train_from(&open, &options, &mut |_| ControlFlow::Continue(()))?;
/// assert_eq!(model.info().report.rows + model.info().report.validation_rows, 500);
/// # Ok::<(), nearbit::Error>(())
/// ```
///
/// # Errors
/// As [`train`]; what the parts say; other rows when they are opened again; too little memory, or no
/// scratch file.
pub fn train_from<I, C>(
    open: &dyn Fn() -> Result<I>,
    options: &TrainOptions,
    progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Model>
where
    I: Iterator<Item = Result<C>>,
    C: Borrow<Inputs>,
{
    options.check()?;
    let mut watch = Watch::new(progress);
    let Read { pipeline, nearness, blocks, fingerprint } = read(open, options, &mut watch)?;
    let stage = match options.neighbours {
        Some(_) => Stage::Neighbours,
        None => Stage::Features,
    };
    watch.stage(stage)?;
    let data = Data::new(blocks, options, nearness.as_ref(), &mut || watch.stage(stage))?;
    learn(pipeline, &data, options, &fingerprint, &mut watch)
}

/// Trains a model on features.
pub(super) fn learn(
    pipeline: Pipeline,
    data: &Data,
    options: &TrainOptions,
    fingerprint: &str,
    watch: &mut Watch<'_>,
) -> Result<Model> {
    let members = members(options)?;
    let mut trained = Vec::with_capacity(members.len());
    for (member, options) in members.iter().enumerate() {
        let turn = Turn { member, members: members.len() };
        let mut training = Training::new(data, options, turn)?;
        if !training.resume(fingerprint)? {
            training.start(watch)?;
        }
        watch.stage(Stage::Network)?;
        training.run(watch, fingerprint)?;
        trained.push(training.finish()?);
    }
    let (network, report) = join(trained, data.train.cols(), options)?;
    Model::new(pipeline, &network, options.clone(), report, data)
}
