//! What a training learns from: rows, some of them held out, and the graph of their neighbours.

use rand::{Rng, RngExt};

use super::loss::Block;
use super::options::{Corruption, Loss, NeighbourOptions, Procedure, TrainOptions};
use super::random::{Purpose, permutation, stream};
use crate::error::{Error, Result};
use crate::input::Features;
use crate::numeric::{Neighbours, nearest_other_rows};

/// Rows with their graph.
pub(super) struct Part {
    pub rows: Features,
    /// `None` where neighbours are not used or there is no other row.
    graph: Option<Neighbours>,
}

impl Part {
    fn new(rows: Features, neighbours: Option<NeighbourOptions>) -> Result<Self> {
        let graph = match neighbours {
            Some(neighbours) if rows.rows() > 1 => {
                Some(nearest_other_rows(&rows, neighbours.count)?)
            }
            _ => None,
        };
        Ok(Self { rows, graph })
    }

    /// The end of a random walk of `steps` steps from each row; the row itself without a graph.
    pub fn partners(&self, steps: usize, rng: &mut impl Rng) -> Vec<usize> {
        let rows = 0..self.rows.rows();
        let Some(graph) = &self.graph else { return rows.collect() };
        rows.map(|start| {
            (0..steps).fold(start, |row, _| {
                let next = graph.of(row);
                next[rng.random_range(0..next.len())] as usize
            })
        })
        .collect()
    }
}

/// Puts one of the rows nearest by code in the place of a `share` of the partners.
pub(super) fn take_learned(
    partners: &mut [usize],
    near: &Neighbours,
    share: f64,
    rng: &mut impl Rng,
) {
    for (row, partner) in partners.iter_mut().enumerate() {
        let near = near.of(row);
        if rng.random_bool(share) && !near.is_empty() {
            *partner = near[rng.random_range(0..near.len())] as usize;
        }
    }
}

/// What is learned from, and what is held out.
pub(super) struct Data {
    pub train: Part,
    pub held_out: Option<Part>,
}

impl Data {
    /// Splits `features` and finds the neighbours in each part.
    pub fn new(features: Features, options: &TrainOptions) -> Result<Self> {
        let rows = features.rows();
        let mut order = permutation(&mut stream(options.seed, Purpose::Split, 0), rows);
        // A row must be left to learn from, with one to be paired with.
        let held = ((rows as f64 * options.validation) as usize).min(rows - 2);
        let (train, held_out) = if held == 0 {
            (features, None)
        } else {
            let mut held_out = order.split_off(rows - held);
            // In their old order: neighbours of equal cosine are the earlier rows.
            order.sort_unstable();
            held_out.sort_unstable();
            (features.select(&order), Some(features.select(&held_out)))
        };
        Ok(Self {
            train: Part::new(train, options.neighbours)?,
            held_out: held_out.map(|rows| Part::new(rows, options.neighbours)).transpose()?,
        })
    }
}

/// Features that no training can use.
pub(super) fn check_features(features: &Features, options: &TrainOptions) -> Result<()> {
    let rows = features.rows();
    if rows < 2 {
        let message = format!("training needs at least 2 rows, got {rows}");
        return Err(Error::invalid("input", message));
    }
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
    blocks.iter().try_for_each(|block| check_range(features, block))
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
fn check_range(features: &Features, block: &Block) -> Result<()> {
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
                format!("row {row}"),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Matrix;
    use crate::model::options::Preset;

    /// Four bundles of ten directions each.
    fn rows() -> Features {
        let row = |i: usize| {
            let angle = (i / 10) as f32 * 1.5 + (i % 10) as f32 * 0.01;
            [angle.cos(), angle.sin()]
        };
        Features::Dense(Matrix::new(40, 2, (0..40).flat_map(row).collect()))
    }

    fn options(count: usize, validation: f64) -> TrainOptions {
        let preset = TrainOptions::preset(Preset::Vector);
        let neighbours = preset.neighbours.map(|n| NeighbourOptions { count, ..n });
        TrainOptions { neighbours, validation, ..preset }
    }

    #[test]
    fn walks_stay_among_neighbours_and_go_further_the_longer_they_are() {
        let data = Data::new(rows(), &options(2, 0.0)).unwrap();
        let mut rng = stream(1, Purpose::Walk, 0);
        let mut reach = |steps| -> usize {
            let partners = data.train.partners(steps, &mut rng);
            partners.iter().enumerate().for_each(|(i, &p)| assert_eq!(i / 10, p / 10));
            partners.iter().enumerate().map(|(i, &p)| i.abs_diff(p)).sum()
        };
        assert_eq!(reach(0), 0);
        let (near, far) = (reach(1), reach(12));
        assert!(0 < near && near < far, "{near} and {far}");
    }

    #[test]
    fn a_share_of_the_partners_is_taken_from_the_rows_that_are_near_by_code() {
        let rows = rows();
        let near = nearest_other_rows(&rows, 3).unwrap();
        let taken = |share| {
            let mut partners: Vec<usize> = (0..40).collect();
            take_learned(&mut partners, &near, share, &mut stream(1, Purpose::Walk, 0));
            let changed = partners.iter().enumerate().filter(|(row, partner)| row != *partner);
            changed.map(|(row, &p)| assert!(near.of(row).contains(&(p as u32)))).count()
        };
        assert_eq!((taken(0.0), taken(1.0)), (0, 40));
        assert!((10..=30).contains(&taken(0.5)), "{}", taken(0.5));
    }

    #[test]
    fn held_out_rows_are_learned_from_no_more_and_two_rows_always_remain() {
        let data = Data::new(rows(), &options(2, 0.25)).unwrap();
        let held_out = data.held_out.unwrap();
        assert_eq!((data.train.rows.rows(), held_out.rows.rows()), (30, 10));
        let (Features::Dense(train), Features::Dense(held)) = (&data.train.rows, &held_out.rows)
        else {
            unreachable!()
        };
        assert!(train.iter().all(|row| held.iter().all(|held| held != row)));
        let two = rows().select(&[0, 39]);
        assert!(Data::new(two, &options(2, 0.9)).unwrap().held_out.is_none());
    }
}
