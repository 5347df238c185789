//! From inputs to features, some rows at a time.
//!
//! ```text
//! once, or twice:  all rows --> what the features' pipeline learns
//! once more:       all rows --> features, checked --> memory, or a scratch file
//! ```

use std::borrow::Borrow;

use super::blocks::{Blocks, Gathering};
use super::checkpoint::Fingerprint;
use super::features::{Fit, Pipeline};
use super::likeness::Nearness;
use super::options::TrainOptions;
use super::report::{Stage, Watch};
use super::unusable::{check_count, check_features};
use crate::error::{Error, Result};
use crate::input::Inputs;

/// What was made of inputs.
pub(super) struct Read {
    pub pipeline: Pipeline,
    /// Finds neighbours, where they are used.
    pub nearness: Option<Nearness>,
    pub blocks: Blocks,
    /// For the checkpoint; empty where there is none.
    pub fingerprint: String,
}

/// Reads all inputs, more than once.
pub(super) fn read<I, C>(
    open: &dyn Fn() -> Result<I>,
    options: &TrainOptions,
    watch: &mut Watch<'_>,
) -> Result<Read>
where
    I: Iterator<Item = Result<C>>,
    C: Borrow<Inputs>,
{
    let (pipeline, expected) = fit(open, options, watch)?;
    let nearness =
        options.neighbours.map(|how| Nearness::new(how, pipeline.input())).transpose()?;
    let mut fingerprint = match options.checkpoint {
        Some(_) => Some(Fingerprint::new(pipeline.cols(), options)?),
        None => None,
    };
    let mut gathering: Option<Gathering> = None;
    let mut rows = 0;
    for part in open()? {
        watch.stage(Stage::Features)?;
        let features = pipeline.apply(part?.borrow())?;
        check_features(&features, options, rows)?;
        if let Some(fingerprint) = &mut fingerprint {
            fingerprint.add(&features);
        }
        rows += features.rows();
        match &mut gathering {
            Some(gathering) => gathering.push(&features)?,
            None => gathering = Some(Gathering::new(features, options)?),
        }
    }
    let Some(gathering) = gathering.filter(|_| rows == expected) else {
        let message = format!(
            "expected {expected} rows as in the reading before, got {rows}; leave the rows \
                     as they are while they are learned from"
        );
        return Err(Error::invalid("input", message));
    };
    check_count(rows)?;
    let fingerprint = fingerprint.map_or_else(String::new, |fingerprint| fingerprint.finish());
    Ok(Read { pipeline, nearness, blocks: gathering.finish()?, fingerprint })
}

/// The pipeline of all rows, and how many they are.
fn fit<I, C>(
    open: &dyn Fn() -> Result<I>,
    options: &TrainOptions,
    watch: &mut Watch<'_>,
) -> Result<(Pipeline, usize)>
where
    I: Iterator<Item = Result<C>>,
    C: Borrow<Inputs>,
{
    let mut fit: Option<Fit> = None;
    loop {
        let mut rows = 0;
        for part in open()? {
            watch.stage(Stage::Features)?;
            let part = part?;
            let part = part.borrow();
            let fit = match &mut fit {
                Some(fit) => fit,
                None => fit.insert(Fit::new(part, &options.features)?),
            };
            fit.add(part, rows)?;
            rows += part.len();
        }
        let Some(mut done) = fit.take() else {
            let message = "expected at least one row to learn from, got none";
            return Err(Error::invalid("input", message));
        };
        if !done.wants_more() {
            return Ok((done.finish()?, rows));
        }
        fit = Some(done);
    }
}
