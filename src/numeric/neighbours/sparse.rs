//! Sparse rows: an inverted list for each column, and one accumulator for each row of the database.
//!
//! A query adds up, column by column, what each row that shares the column contributes; rows that
//! share none are never touched. The sums run over ascending columns, in the order in which a
//! merge of the two rows would add them.

use rayon::prelude::*;

use super::best::Best;
use super::inverse_norm;
use crate::input::Sparse;

pub(super) fn search(database: &Sparse, queries: &Sparse, k: usize, others: bool) -> Vec<Vec<u32>> {
    let lists = InvertedLists::new(database);
    let inverse_norms: Vec<f64> =
        (0..database.rows()).map(|i| inverse_norm(database.row(i).1)).collect();
    (0..queries.rows())
        .into_par_iter()
        .map_init(
            || vec![0.0; database.rows()],
            |dots, query| {
                dots.fill(0.0);
                lists.add_dots(queries.row(query), dots);
                let scale = inverse_norm(queries.row(query).1);
                let mut best = Best::new(k);
                for (row, (dot, norm)) in dots.iter().zip(&inverse_norms).enumerate() {
                    let cosine = dot * norm * scale;
                    // Rows ascend, so an equal cosine cannot displace one that is kept.
                    if cosine > best.floor() && !(others && row == query) {
                        best.push(cosine, row as u32);
                    }
                }
                best.into_rows()
            },
        )
        .collect()
}

/// For each column the rows that use it, ascending, and their values.
struct InvertedLists {
    /// Column `c` is `starts[c]..starts[c + 1]` of `entries`.
    starts: Vec<usize>,
    entries: Vec<(u32, f32)>,
}

impl InvertedLists {
    fn new(rows: &Sparse) -> Self {
        let mut starts = vec![0; rows.cols() + 1];
        for row in 0..rows.rows() {
            rows.row(row).0.iter().for_each(|&column| starts[column as usize + 1] += 1);
        }
        for column in 0..rows.cols() {
            starts[column + 1] += starts[column];
        }
        let mut ends = starts.clone();
        let mut entries = vec![(0, 0.0); starts[rows.cols()]];
        for row in 0..rows.rows() {
            let (columns, values) = rows.row(row);
            for (&column, &value) in columns.iter().zip(values) {
                let end = &mut ends[column as usize];
                entries[*end] = (row as u32, value);
                *end += 1;
            }
        }
        Self { starts, entries }
    }

    /// Adds the dot products of a query with every row to `dots`.
    fn add_dots(&self, (columns, values): (&[u32], &[f32]), dots: &mut [f64]) {
        for (&column, &value) in columns.iter().zip(values) {
            let column = column as usize;
            let value = f64::from(value);
            for &(row, other) in &self.entries[self.starts[column]..self.starts[column + 1]] {
                dots[row as usize] += value * f64::from(other);
            }
        }
    }
}
