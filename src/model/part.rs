//! Rows in memory, and the graph of their neighbours.

use rand::{Rng, RngExt};

use super::likeness::Nearness;
use crate::error::Result;
use crate::input::Features;
use crate::numeric::Neighbours;

/// Rows with their graph.
pub(super) struct Part {
    pub rows: Features,
    /// `None` where neighbours are not used or there is no other row.
    pub graph: Option<Neighbours>,
}

impl Part {
    pub fn new(rows: Features, nearness: Option<&Nearness>) -> Result<Self> {
        let nearness = nearness.filter(|_| rows.rows() > 1);
        let graph = nearness.map(|nearness| nearness.graph(&rows)).transpose()?;
        Ok(Self { rows, graph })
    }

    /// The end of a random walk of `steps` steps from each row; the row itself without a graph.
    pub fn partners(&self, steps: usize, rng: &mut impl Rng) -> Vec<usize> {
        match &self.graph {
            None => (0..self.rows.rows()).collect(),
            Some(graph) => self.partners_of(graph, steps, rng),
        }
    }

    /// The end of a random walk of `steps` steps, one or more, that begins at each row whose
    /// neighbours here are `near`.
    pub fn partners_of(&self, near: &Neighbours, steps: usize, rng: &mut impl Rng) -> Vec<usize> {
        let walk = |start| {
            let mut lists = near;
            (0..steps).fold(start, |row, _| {
                let next = lists.of(row);
                lists = self.graph.as_ref().unwrap_or(near);
                next[rng.random_range(0..next.len())] as usize
            })
        };
        (0..near.queries()).map(walk).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{InputKind, Matrix};
    use crate::model::options::{NeighbourOptions, Preset, TrainOptions};
    use crate::model::random::{Purpose, stream};
    use crate::numeric::nearest_other_rows;

    /// Four bundles of ten directions each.
    fn rows() -> Features {
        let row = |i: usize| {
            let angle = (i / 10) as f32 * 1.5 + (i % 10) as f32 * 0.01;
            [angle.cos(), angle.sin()]
        };
        Features::Dense(Matrix::new(40, 2, (0..40).flat_map(row).collect()))
    }

    #[test]
    fn walks_stay_among_neighbours_and_go_further_the_longer_they_are() {
        let neighbours = TrainOptions::preset(Preset::Vector).neighbours.unwrap();
        let neighbours = NeighbourOptions { count: 2, ..neighbours };
        let nearness = Nearness::new(neighbours, InputKind::Vector { dim: 2 }).unwrap();
        let part = Part::new(rows(), Some(&nearness)).unwrap();
        let mut rng = stream(1, Purpose::Walk, 0);
        let mut reach = |steps| -> usize {
            let partners = part.partners(steps, &mut rng);
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
}
