use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::input::{Matrix, Sparse};

/// The definition: every cosine in f64, sorted, cut.
fn naive(database: &[Vec<f32>], queries: &[Vec<f32>], k: usize, others: bool) -> Vec<Vec<u32>> {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    let all = queries.iter().enumerate().map(|(query, y)| {
        let mut scored: Vec<(f64, u32)> = database
            .iter()
            .enumerate()
            .filter(|(row, _)| !(others && *row == query))
            .map(|(row, x)| (dot(x, y) * inverse_norm(x) * inverse_norm(y) + 0.0, row as u32))
            .collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        scored.into_iter().take(k).map(|(_, row)| row).collect()
    });
    all.collect()
}

fn dense(rows: &[Vec<f32>], cols: usize) -> Features {
    Features::Dense(Matrix::new(rows.len(), cols, rows.concat()))
}

fn sparse(rows: &[Vec<f32>], cols: usize) -> Features {
    let mut sparse = Sparse::new(cols);
    for row in rows {
        sparse
            .push(row.iter().enumerate().filter(|(_, v)| **v != 0.0).map(|(c, v)| (c as u32, *v)));
    }
    Features::Sparse(sparse)
}

fn lists(neighbours: &Neighbours) -> Vec<Vec<u32>> {
    (0..neighbours.queries()).map(|query| neighbours.of(query).to_vec()).collect()
}

/// Small whole numbers: sums are exact in any order, and many cosines are equal.
fn rows(cols: usize, max: usize) -> impl Strategy<Value = Vec<Vec<f32>>> {
    let value = (-2i8..=2).prop_map(f32::from);
    proptest::collection::vec(proptest::collection::vec(value, cols), 0..max)
}

fn database_and_queries() -> impl Strategy<Value = (usize, Vec<Vec<f32>>, Vec<Vec<f32>>)> {
    (0usize..20).prop_flat_map(|cols| (Just(cols), rows(cols, 200), rows(cols, 10)))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128,
        rng_seed: RngSeed::Fixed(3),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn both_searches_are_the_naive_one((cols, database, queries) in database_and_queries(),
                                       k in 0usize..30) {
        let k_found = k.min(database.len());
        let expected = naive(&database, &queries, k, false);
        for kind in [dense, sparse] {
            let found = nearest_rows(&kind(&database, cols), &kind(&queries, cols), k).unwrap();
            prop_assert_eq!((found.k(), found.queries()), (k_found, queries.len()));
            prop_assert_eq!(lists(&found), expected.clone());
        }
    }

    #[test]
    fn the_graph_leaves_out_the_row_itself((cols, rows, _) in database_and_queries(),
                                           k in 0usize..30) {
        let expected = naive(&rows, &rows, k, true);
        for kind in [dense, sparse] {
            let found = nearest_other_rows(&kind(&rows, cols), k).unwrap();
            prop_assert_eq!(lists(&found), expected.clone());
        }
    }
}

/// Real-valued rows around a few centres, so that f32 rounding alone would swap neighbours.
#[test]
fn close_cosines_are_told_apart() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let cols = 48;
    let centres: Vec<Vec<f32>> =
        (0..4).map(|_| (0..cols).map(|_| rng.random_range(-1.0..1.0)).collect()).collect();
    let rows: Vec<Vec<f32>> = (0..600)
        .map(|i| centres[i % 4].iter().map(|c| c + rng.random_range(-1e-4..1e-4)).collect())
        .collect();
    let found = nearest_other_rows(&dense(&rows, cols), 20).unwrap();
    assert_eq!(lists(&found), naive(&rows, &rows, 20, true));
}

#[test]
fn extreme_values_neither_overflow_nor_vanish() {
    let rows = vec![vec![1e38, 1e38], vec![1e-40, 1e-40], vec![1e38, 0.0], vec![0.0, 0.0]];
    for kind in [dense, sparse] {
        let found = nearest_other_rows(&kind(&rows, 2), 2).unwrap();
        assert_eq!(found.of(0), [1, 2]);
        assert_eq!(found.of(1), [0, 2]);
        assert_eq!(found.of(3), [0, 1], "a row of zeros is equally far from all");
    }
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let error = |database: &Features, queries: &Features| {
        nearest_rows(database, queries, 1).unwrap_err().to_string()
    };
    let two = dense(&[vec![1.0, 2.0]], 2);
    let three = dense(&[vec![1.0, 2.0, 3.0]], 3);
    assert_eq!(error(&two, &three), "queries: expected 2 columns as in the database, got 3");
    assert!(error(&two, &sparse(&[vec![1.0, 2.0]], 2)).contains("both be dense or both be sparse"));
    let broken = dense(&[vec![1.0, 2.0], vec![f32::NAN, 0.0]], 2);
    assert!(error(&broken, &two).starts_with("database: row 1: a value is not finite"));
    assert!(error(&two, &broken).starts_with("queries: row 1: a value is not finite"));
}
