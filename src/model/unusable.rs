//! Features that no training can use, or not with these options.

use super::loss::Block;
use super::options::{Corruption, Loss, Procedure, TrainOptions};
use crate::error::{Error, Result};
use crate::input::Features;

/// An error where there are too few rows to learn from.
pub(super) fn check_count(rows: usize) -> Result<()> {
    if rows < 2 {
        let message = format!("training needs at least 2 rows, got {rows}");
        return Err(Error::invalid("input", message));
    }
    Ok(())
}

/// An error where no training can use these features; the first row is number `first`.
pub(super) fn check_features(
    features: &Features,
    options: &TrainOptions,
    first: usize,
) -> Result<()> {
    if features.cols() == 0 {
        let message = "training needs at least one column, got none";
        return Err(Error::invalid("input", message));
    }
    if matches!(features, Features::Sparse(_)) {
        check_bags(options)?;
    }
    let blocks = Block::all(options, features.cols())?;
    let is_plain = matches!(&blocks[..], [Block { loss: Loss::Squared | Loss::Bernoulli, .. }]);
    if options.pretraining.is_some() && !is_plain {
        return Err(Error::invalid(
            "pretraining",
            "Boltzmann machines here have visible units for the squared or the Bernoulli loss of all \
             columns; take one of these",
        ));
    }
    if options.procedure == Procedure::Recirculation
        && !matches!(options.loss, Loss::Squared | Loss::Bernoulli)
    {
        let message = format!("it knows the squared and the Bernoulli loss, got {}", options.loss);
        return Err(Error::invalid("recirculation", message));
    }
    blocks.iter().try_for_each(|block| check_range(features, block, first))
}

/// What is not defined for bags of words, or would fill them.
fn check_bags(options: &TrainOptions) -> Result<()> {
    let refused = [
        (
            options.start_from_itq,
            "start from ITQ",
            "principal components need dense features; leave it out for texts",
        ),
        (
            matches!(
                options.corruption,
                Some(Corruption::Gaussian(_) | Corruption::SaltAndPepper(_))
            ),
            "corruption",
            "noise on every word of the vocabulary would fill a bag of words; take masking, which \
             leaves words out",
        ),
        (
            options.contraction > 0.0 && !options.hidden.is_empty(),
            "contraction",
            "with hidden layers it needs small steps in all directions, which would fill a bag of \
             words; take a linear encoder for texts",
        ),
        (
            options.similarity.is_some(),
            "similarity",
            "it compares dense features; take neighbours for texts",
        ),
        (
            options.pretraining.is_some(),
            "pretraining",
            "Boltzmann machines need dense features; leave it out for texts",
        ),
        (
            options.procedure == Procedure::Recirculation,
            "recirculation",
            "it needs dense features; take back-propagation for texts",
        ),
        (
            !options.mix.is_empty(),
            "mix of losses",
            "the columns of a text are words, all of one kind; give one loss",
        ),
    ];
    match refused.into_iter().find(|(is_asked, _, _)| *is_asked) {
        None => Ok(()),
        Some((_, name, message)) => {
            Err(Error::invalid(name, format!("{message} (got bags of words)")))
        }
    }
}

/// An error where a number of the block's columns is not one that its loss takes.
fn check_range(features: &Features, block: &Block, first: usize) -> Result<()> {
    let (range, wanted) = match block.loss {
        Loss::Squared => return Ok(()),
        Loss::Bernoulli => (0.0..=1.0, "0 to 1"),
        Loss::Multinomial | Loss::Poisson => (0.0..=f32::INFINITY, "0 or more"),
    };
    for row in 0..features.rows() {
        let values = match features {
            Features::Dense(dense) => &dense.row(row)[block.columns.clone()],
            // There is no mix for bags of words.
            Features::Sparse(sparse) => sparse.row(row).1,
        };
        if let Some(value) = values.iter().find(|value| !range.contains(value)) {
            return Err(Error::invalid(
                format!("row {}", first + row),
                format!(
                    "the {} loss takes features of {wanted}, got {value}; take the squared loss, or \
                     features that are neither centred nor scaled",
                    block.loss
                ),
            ));
        }
    }
    Ok(())
}
