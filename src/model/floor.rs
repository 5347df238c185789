//! A floor under a training that starts from ITQ: how many exact neighbours its codes find.
//!
//! PCA and ITQ already keep much of who is near whom. What is learned on top may trade that for
//! other goals, and how much it trades depends on the data. So each epoch is judged, without labels, by
//! what the start is judged by: the share of the 10 exact nearest training rows (by the features' cosine)
//! of a row held out that are among the 10 nearest by code. The weights of an epoch that finds fewer than
//! the start are not taken. Of nested codes the mean over their widths counts. Without similarity nobody asked
//! for order, and there is no floor.

use rayon::prelude::*;

use super::data::Data;
use super::network::Network;
use super::real::internal;
use crate::code::distance;
use crate::input::{Features, Matrix};
use crate::numeric::{Neighbours, nearest_rows};

/// Neighbours that are looked for.
const K: usize = 10;
/// The most rows that ask, and that are asked.
const MOST: (usize, usize) = (1000, 20_000);

/// Rows held out, rows to find, and which are to be found.
pub(super) struct Floor {
    asked: Features,
    rows: Features,
    truth: Neighbours,
    /// Of the codes that are looked at.
    widths: Vec<usize>,
}

impl Floor {
    /// Of what is held out and what is learned from; `None` where nothing is held out, or there are
    /// too few rows for 10 of them to be near.
    pub fn new(data: &Data, widths: Vec<usize>) -> crate::error::Result<Option<Self>> {
        let spread = |rows: &Features, most: usize| {
            let n = rows.rows().min(most);
            rows.select(&(0..n).map(|i| i * rows.rows() / n).collect::<Vec<_>>())
        };
        let Some(held_out) = &data.held_out else { return Ok(None) };
        let pool = &data.train.pool().rows;
        if pool.rows() < 10 * K {
            return Ok(None);
        }
        let asked = spread(&held_out.rows, MOST.0);
        let rows = spread(pool, MOST.1);
        let truth = nearest_rows(&rows, &asked, K)?;
        Ok(Some(Self { asked, rows, truth, widths }))
    }

    /// The share of the exact neighbours that are found by the codes of `network`, mean over
    /// the widths.
    pub fn recall(&self, network: &Network) -> crate::error::Result<f64> {
        let rows = network.values(&self.rows).map_err(internal)?;
        let asked = network.values(&self.asked).map_err(internal)?;
        let found = |&width: &usize| self.found(&codes(&rows, width), &codes(&asked, width));
        Ok(self.widths.iter().map(found).sum::<f64>() / self.widths.len() as f64)
    }

    /// The share that is found by these codes; of rows of equal distance the earlier come first.
    fn found(&self, rows: &[Vec<u64>], asked: &[Vec<u64>]) -> f64 {
        let found = |(i, query): (usize, &Vec<u64>)| {
            let each =
                rows.iter().enumerate().map(|(row, code)| (distance(query, code), row as u32));
            let mut near: Vec<(u32, u32)> = each.collect();
            near.select_nth_unstable(K - 1);
            near[..K].iter().filter(|(_, row)| self.truth.of(i).contains(row)).count()
        };
        let found: usize = asked.par_iter().enumerate().map(found).sum();
        found as f64 / (K * asked.len()) as f64
    }
}

/// The first `width` bits of each row's code, 64 to a word.
fn codes(values: &Matrix, width: usize) -> Vec<Vec<u64>> {
    let word = |values: &[f32]| {
        values.iter().fold(0u64, |word, &value| word << 1 | u64::from(value > 0.0))
    };
    values.iter().map(|row| row[..width].chunks(64).map(word).collect()).collect()
}
