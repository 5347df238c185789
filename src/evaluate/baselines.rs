//! Codes without a network, to judge learned ones by, at equal bits.
//!
//! All of them compare projections with zero: bit i is 1 where (x - mean) . direction_i > 0. They
//! differ in the directions.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::code::{Codes, Width};
use crate::error::{Error, Result};
use crate::input::{Features, Matrix};
use crate::numeric::{
    Components, ITQ_ITERATIONS, Projection, column_means, gaussian, itq_rotation,
};

/// A way to make codes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Baseline {
    /// Locality-sensitive hashing: random hyperplanes (Charikar 2002) through the mean of the rows.
    Lsh,
    /// The sign of each column less its mean. Only for dense rows with as many columns as bits:
    /// to take the first columns of more would make a weak opponent.
    Sign,
    /// The sign along each principal component; of sparse rows, along each direction of latent
    /// semantic analysis, from the mean.
    Pca,
    /// Principal components turned by iterative quantization (Gong and Lazebnik 2011).
    Itq,
}

impl Baseline {
    /// All of them, the weakest first.
    pub const ALL: [Self; 4] = [Self::Lsh, Self::Sign, Self::Pca, Self::Itq];

    /// The name, as in flags and reports: `lsh`, `sign`, `pca`, `itq`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lsh => "lsh",
            Self::Sign => "sign",
            Self::Pca => "pca",
            Self::Itq => "itq",
        }
    }
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Baseline {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|baseline| baseline.name() == name).ok_or_else(|| {
            Error::invalid("baseline", format!("expected lsh, sign, pca or itq, got {name:?}"))
        })
    }
}

impl Serialize for Baseline {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A mean and a direction for each bit, learned without labels.
///
/// ```
/// use nearbit::evaluate::{Baseline, LinearHash};
/// use nearbit::{Features, Matrix, Width};
///
/// let rows = Features::Dense(Matrix::new(4, 2, vec![0.0, 9.0, 1.0, 9.0, 8.0, 1.0, 9.0, 2.0]));
/// let hash = LinearHash::fit(Baseline::Sign, &rows, Width::new(2)?, 0)?;
/// let codes = hash.encode(&rows)?;
/// assert_eq!(codes.get(0).to_binary(), "0b01");
/// assert_eq!(codes.get(3).to_binary(), "0b10");
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct LinearHash {
    width: Width,
    projection: Projection,
}

impl LinearHash {
    /// Learns from `rows` what `baseline` learns; the same seed gives the same codes.
    ///
    /// # Errors
    /// No rows, values that are not finite, or rows that the baseline cannot take at this width:
    /// more bits than columns, and for [`Baseline::Sign`] fewer too, or sparse rows.
    pub fn fit(baseline: Baseline, rows: &Features, width: Width, seed: u64) -> Result<Self> {
        let (bits, cols) = (width.bits(), rows.cols());
        let projection = match baseline {
            Baseline::Lsh => Projection::new(column_means(rows), gaussian(bits, cols, seed))?,
            Baseline::Sign => {
                if bits != cols || matches!(rows, Features::Sparse(_)) {
                    let kind = if matches!(rows, Features::Sparse(_)) { "sparse" } else { "dense" };
                    let message = format!(
                        "expected dense rows of {bits} columns, as many as bits, got {kind} rows of {cols}"
                    );
                    return Err(Error::invalid("sign", message));
                }
                Projection::new(column_means(rows), identity(cols))?
            }
            Baseline::Pca => centred_components(rows, bits, seed)?,
            Baseline::Itq => {
                let components = centred_components(rows, bits, seed)?;
                let rotation = itq_rotation(&components.apply(rows)?, ITQ_ITERATIONS, seed)?;
                components.rotated(&rotation)?
            }
        };
        Ok(Self { width, projection })
    }

    /// The codes of rows.
    ///
    /// # Errors
    /// Rows with another number of columns.
    pub fn encode(&self, rows: &Features) -> Result<Codes> {
        signs(self.width, &self.projection.apply(rows)?)
    }
}

/// The leading components from the mean of the rows, so that coordinates are centred even where
/// the components of sparse rows were found without it.
fn centred_components(rows: &Features, bits: usize, seed: u64) -> Result<Projection> {
    let components = Components::fit(rows, bits, seed)?;
    Projection::new(column_means(rows), components.projection().directions().clone())
}

fn identity(size: usize) -> Matrix {
    let mut identity = Matrix::zeros(size, size);
    (0..size).for_each(|i| identity.row_mut(i)[i] = 1.0);
    identity
}

/// A code for each row: bit i is 1 where value i is above 0.
fn signs(width: Width, values: &Matrix) -> Result<Codes> {
    let mut codes = Codes::with_capacity(width, values.rows());
    let mut words = vec![0u64; width.words()];
    for row in values.iter() {
        words.fill(0);
        for (i, _) in row.iter().enumerate().filter(|(_, value)| **value > 0.0) {
            words[i / 64] |= 1 << (63 - i % 64);
        }
        codes.push_words(&words)?;
    }
    Ok(codes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::distance;
    use crate::input::Sparse;

    /// Rows around four centres that stand far apart, one after the other.
    fn clustered(cols: usize) -> Matrix {
        let (centres, mut rows) = (gaussian(4, cols, 1), gaussian(400, cols, 2));
        for i in 0..400 {
            let centre = centres.row(i % 4);
            rows.row_mut(i).iter_mut().zip(centre).for_each(|(v, c)| *v = 0.3 * *v + c + 5.0);
        }
        rows
    }

    fn sparse(rows: &Matrix) -> Features {
        let mut sparse = Sparse::new(rows.cols());
        rows.iter().for_each(|row| sparse.push((0..).zip(row.iter().copied())));
        Features::Sparse(sparse)
    }

    #[test]
    fn rows_of_one_cluster_get_near_codes() {
        let rows = clustered(24);
        let width = Width::new(24).unwrap();
        for baseline in Baseline::ALL {
            let mut kinds = vec![Features::Dense(rows.clone())];
            if baseline != Baseline::Sign {
                kinds.push(sparse(&rows));
            }
            for rows in kinds {
                let hash = LinearHash::fit(baseline, &rows, width, 3).unwrap();
                let codes = hash.encode(&rows).unwrap();
                assert_eq!(
                    codes,
                    LinearHash::fit(baseline, &rows, width, 3).unwrap().encode(&rows).unwrap()
                );
                let mean = |step: usize| {
                    let pairs =
                        (0..400 - step).map(|i| distance(codes.row(i), codes.row(i + step)));
                    f64::from(pairs.sum::<u32>()) / (400 - step) as f64
                };
                assert!(
                    mean(4) < mean(1) - 1.0,
                    "{baseline}: {} within, {} across",
                    mean(4),
                    mean(1)
                );
            }
        }
    }

    #[test]
    fn sparse_and_dense_rows_give_the_same_hyperplane_codes() {
        let rows = clustered(30);
        let width = Width::new(130).unwrap();
        let dense = Features::Dense(rows.clone());
        let hash = LinearHash::fit(Baseline::Lsh, &dense, width, 4).unwrap();
        let (a, b) = (hash.encode(&dense).unwrap(), hash.encode(&sparse(&rows)).unwrap());
        // Rounding may turn a bit whose value is nearly zero.
        let apart: u32 = a.rows().zip(b.rows()).map(|(a, b)| distance(a, b)).sum();
        assert!(apart < 10, "{apart} of {} bits", 400 * 130);
    }

    #[test]
    fn iterative_quantization_balances_what_components_leave_uneven() {
        let rows = Features::Dense(clustered(24));
        let width = Width::new(8).unwrap();
        let spread = |baseline| {
            let hash = LinearHash::fit(baseline, &rows, width, 5).unwrap();
            let values = hash.projection.apply(&rows).unwrap();
            let variance = |i: usize| values.iter().map(|row| row[i] * row[i]).sum::<f32>();
            let variances: Vec<f32> = (0..8).map(variance).collect();
            variances.iter().fold(0.0, |a: f32, &b| a.max(b)) / variances.iter().sum::<f32>()
        };
        assert!(spread(Baseline::Itq) < 0.7 * spread(Baseline::Pca));
    }

    #[test]
    fn widths_that_do_not_fit_are_refused() {
        let rows = Features::Dense(clustered(10));
        let fit = |baseline, bits| LinearHash::fit(baseline, &rows, Width::new(bits).unwrap(), 0);
        assert!(fit(Baseline::Lsh, 11).is_ok());
        let error = |baseline, bits| fit(baseline, bits).unwrap_err().to_string();
        assert_eq!(error(Baseline::Itq, 11), "components: expected at most the 10 columns, got 11");
        assert_eq!(
            error(Baseline::Sign, 9),
            "sign: expected dense rows of 9 columns, as many as bits, got dense rows of 10"
        );
        assert_eq!("itq".parse::<Baseline>().unwrap(), Baseline::Itq);
        assert!("ITQ".parse::<Baseline>().is_err());
    }
}
