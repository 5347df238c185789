//! Features: rows of numbers that a network can learn from, made of texts, vectors or images.
//!
//! A [`Pipeline`] is fitted once, on the training set: it learns the vocabulary and the weight of
//! its words, or the mean and the deviation of each column, or the brightest pixel. After that it
//! is a plain function from inputs to features, the same for training and for queries, and lives
//! in the model file as JSON. A pipeline that was read is as good as one that was fitted: reading
//! checks every invariant.

mod image;
mod memo;
mod stop_words;
mod text;
mod vector;
mod words;

use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::input::{Features, InputKind, Inputs, Matrix};

use image::ImageFit;
pub(crate) use image::check_whole;
pub use image::{ImageOptions, ImagePipeline};
use text::TextFit;
pub use text::{TextOptions, TextPipeline};
use vector::VectorFit;
pub use vector::{VectorOptions, VectorPipeline};
pub(crate) use words::Words;

/// How features are made, for each kind of input.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct FeatureOptions {
    /// For texts.
    pub text: TextOptions,
    /// For vectors.
    pub vector: VectorOptions,
    /// For images.
    pub image: ImageOptions,
}

/// A fitted function from inputs of one kind to features.
///
/// ```
/// use nearbit::Inputs;
/// use nearbit::model::features::{FeatureOptions, Pipeline};
///
/// let texts = ["a red fox", "the fox sleeps", "red wine", "good wine"];
/// let texts = Inputs::Texts(texts.map(String::from).to_vec());
/// let pipeline = Pipeline::fit(&texts, &FeatureOptions::default())?;
/// let features = pipeline.apply(&texts)?;
/// assert_eq!((features.rows(), features.cols()), (4, 3)); // fox, red, wine
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pipeline {
    /// Texts to word weights.
    Text(TextPipeline),
    /// Vectors, centred and scaled.
    Vector(VectorPipeline),
    /// Images, bytes to 0..1.
    Image(ImagePipeline),
}

impl Pipeline {
    /// Fits the pipeline for the kind of `inputs` to them.
    ///
    /// # Errors
    /// No rows, rows of no numbers, numbers that are not finite, texts without a common word, or
    /// options out of range.
    pub fn fit(inputs: &Inputs, options: &FeatureOptions) -> Result<Self> {
        let mut fit = Fit::new(inputs, options)?;
        fit.add(inputs, 0)?;
        if fit.wants_more() {
            fit.add(inputs, 0)?;
        }
        fit.finish()
    }

    /// The features of `inputs`: shape (rows, `cols()`), sparse for texts and dense for the others.
    ///
    /// # Errors
    /// Inputs of another kind or shape than those of the fit, or numbers that are not finite.
    pub fn apply(&self, inputs: &Inputs) -> Result<Features> {
        self.apply_rows(inputs, 0..inputs.len())
    }

    /// The features of some rows of `inputs`: as [`apply`](Self::apply) gives for these.
    ///
    /// # Panics
    /// Where `rows` are not within the inputs, as indexing a slice does.
    pub(crate) fn apply_rows(&self, inputs: &Inputs, rows: Range<usize>) -> Result<Features> {
        match (self, inputs) {
            (Self::Text(text), Inputs::Texts(texts)) => {
                Ok(Features::Sparse(text.apply(&texts[rows])))
            }
            (Self::Vector(vector), Inputs::Vectors(vectors)) => {
                vector.apply_rows(vectors, rows).map(Features::Dense)
            }
            (Self::Image(image), Inputs::Images(images)) => {
                image.apply_rows(images, rows).map(Features::Dense)
            }
            _ => {
                let (takes, got) = (self.input(), inputs.kind());
                Err(Error::invalid("input", format!("the encoder takes {takes}, got {got}")))
            }
        }
    }

    /// The kind and shape of the rows that `apply` takes.
    pub fn input(&self) -> InputKind {
        match self {
            Self::Text(_) => InputKind::Text,
            Self::Vector(vector) => InputKind::Vector { dim: vector.cols() },
            Self::Image(image) => image.input(),
        }
    }

    /// The number of features a row.
    pub fn cols(&self) -> usize {
        match self {
            Self::Text(text) => text.cols(),
            Self::Vector(vector) => vector.cols(),
            Self::Image(image) => image.cols(),
        }
    }
}

/// A fit under way: it is shown all rows, some at a time, and again where it wants more. The pipeline
/// does not depend on how many at a time.
pub(crate) enum Fit {
    Text(TextFit),
    Vector(VectorFit),
    Image(ImageFit),
}

impl Fit {
    /// For rows like these.
    ///
    /// # Errors
    /// No rows, or options out of range.
    pub fn new(like: &Inputs, options: &FeatureOptions) -> Result<Self> {
        if like.is_empty() {
            return Err(Error::invalid(
                "input",
                "expected at least one row to learn from, got none",
            ));
        }
        Ok(match like {
            Inputs::Texts(_) => Self::Text(TextFit::new(&options.text)?),
            Inputs::Vectors(vectors) => {
                Self::Vector(VectorFit::new(vectors.cols(), &options.vector))
            }
            Inputs::Images(images) => Self::Image(ImageFit::new(images, &options.image)),
        })
    }

    /// Adds rows; the first is number `first`.
    ///
    /// # Errors
    /// Rows of another kind or shape than those before, numbers that are not finite.
    pub fn add(&mut self, inputs: &Inputs, first: usize) -> Result<()> {
        match (self, inputs) {
            (Self::Text(fit), Inputs::Texts(texts)) => {
                fit.add(texts);
                Ok(())
            }
            (Self::Vector(fit), Inputs::Vectors(vectors)) => fit.add(vectors, first),
            (Self::Image(fit), Inputs::Images(images)) => fit.add(images),
            (_, other) => {
                let message = format!("expected rows like the first, got {}", other.kind());
                Err(Error::invalid(format!("row {first}"), message))
            }
        }
    }

    /// Whether all rows are to be shown again.
    pub fn wants_more(&mut self) -> bool {
        match self {
            Self::Vector(fit) => fit.wants_more(),
            Self::Text(_) | Self::Image(_) => false,
        }
    }

    /// # Errors
    /// Texts without a common word, rows of no numbers.
    pub fn finish(self) -> Result<Pipeline> {
        Ok(match self {
            Self::Text(fit) => Pipeline::Text(fit.finish()?),
            Self::Vector(fit) => Pipeline::Vector(fit.finish()?),
            Self::Image(fit) => Pipeline::Image(fit.finish()?),
        })
    }
}

/// An error where a number is infinite or no number, with its column and its row, counted from `first`.
pub(crate) fn check_finite(vectors: &Matrix, first: usize) -> Result<()> {
    check_finite_rows(vectors.values(), vectors.cols(), first)
}

/// As [`check_finite`], of `values` row after row.
fn check_finite_rows(values: &[f32], cols: usize, first: usize) -> Result<()> {
    let Some(i) = values.iter().position(|value| !value.is_finite()) else { return Ok(()) };
    let (row, column) = (first + i / cols, i % cols);
    Err(Error::invalid(
        format!("vectors[{row}][{column}]"),
        format!("expected a finite number, got {}; leave the row out", values[i]),
    ))
}

/// The values of a (rows, cols) table whose row `i` is written by `fill(i, row)`, on all threads.
///
/// A few rows are filled here and now: waking other threads takes longer than a single query.
pub(crate) fn fill_rows<T>(
    rows: usize,
    cols: usize,
    fill: impl Fn(usize, &mut [T]) + Sync,
) -> Vec<T>
where
    T: Clone + Default + Send,
{
    const FEW: usize = 64;
    let mut values = vec![T::default(); rows * cols];
    if rows <= FEW {
        values.chunks_exact_mut(cols.max(1)).enumerate().for_each(|(i, row)| fill(i, row));
    } else {
        let rows = values.par_chunks_exact_mut(cols.max(1)).enumerate();
        rows.with_min_len(FEW).for_each(|(i, row)| fill(i, row));
    }
    values
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::input::Images;

    fn inputs() -> [Inputs; 3] {
        let texts = ["a red fox", "the fox sleeps", "red wine", "good wine"];
        [
            Inputs::Texts(texts.map(String::from).to_vec()),
            Inputs::Vectors(Matrix::new(4, 2, vec![0.1, 7.0, -0.3, 7.0, 1e-8, 9.5, 3e7, 0.2])),
            Inputs::Images(Images { height: 2, width: 2, pixels: (0..16).collect() }),
        ]
    }

    #[test]
    fn features_have_a_row_an_input_and_the_promised_columns() {
        for inputs in inputs() {
            let pipeline = Pipeline::fit(&inputs, &FeatureOptions::default()).unwrap();
            let features = pipeline.apply(&inputs).unwrap();
            assert_eq!((features.rows(), features.cols()), (inputs.len(), pipeline.cols()));
            assert_eq!(pipeline.input(), inputs.kind());
        }
    }

    #[test]
    fn some_rows_have_the_features_that_they_have_among_all() {
        for inputs in inputs() {
            let pipeline = Pipeline::fit(&inputs, &FeatureOptions::default()).unwrap();
            let all = pipeline.apply(&inputs).unwrap();
            for rows in [0..0, 0..1, 1..3, 2..4, 4..4] {
                let some = pipeline.apply_rows(&inputs, rows.clone()).unwrap();
                assert_eq!(some, all.select(&rows.collect::<Vec<_>>()));
            }
        }
        let infinite = Inputs::Vectors(Matrix::new(3, 1, vec![1.0, 2.0, f32::INFINITY]));
        let pipeline = Pipeline::fit(&infinite.select(&[0, 1]), &FeatureOptions::default());
        let error = pipeline.unwrap().apply_rows(&infinite, 1..3).unwrap_err().to_string();
        assert!(error.contains("vectors[2][0]"), "{error}");
    }

    #[test]
    fn a_pipeline_takes_one_kind_of_input_only() {
        let all = inputs();
        for (i, fitted) in all.iter().enumerate() {
            let pipeline = Pipeline::fit(fitted, &FeatureOptions::default()).unwrap();
            for (j, given) in all.iter().enumerate().filter(|(j, _)| *j != i) {
                let error = pipeline.apply(given).unwrap_err().to_string();
                let expected = format!("takes {}, got {}", fitted.kind(), given.kind());
                assert!(error.contains(&expected), "{i} {j}: {error}");
            }
        }
    }

    #[test]
    fn nothing_to_learn_from_is_an_error() {
        for inputs in inputs() {
            let none = inputs.select(&[]);
            let error = Pipeline::fit(&none, &FeatureOptions::default()).unwrap_err().to_string();
            assert!(error.contains("at least one row"), "{error}");
        }
    }

    #[test]
    fn a_pipeline_comes_back_from_json_as_it_was() {
        for inputs in inputs() {
            let pipeline = Pipeline::fit(&inputs, &FeatureOptions::default()).unwrap();
            let text = serde_json::to_string(&pipeline).unwrap();
            assert_eq!(serde_json::from_str::<Pipeline>(&text).unwrap(), pipeline, "{text}");
            let value = serde_json::to_value(&pipeline).unwrap();
            let text = value.to_string();
            assert_eq!(serde_json::from_value::<Pipeline>(value).unwrap(), pipeline, "{text}");
            assert_eq!(serde_json::from_str::<Pipeline>(&text).unwrap(), pipeline, "{text}");
        }
    }

    /// JSON numbers are decimal and read as f64; an f32 must survive both conversions.
    #[test]
    fn every_f32_comes_back_from_json_bit_for_bit() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let edges = [0.0, -0.0, f32::MIN_POSITIVE, 1e-45, f32::MAX, f32::MIN, 0.1, 16_777_217.0];
        let random = (0..200_000).map(|_| f32::from_bits(rng.next_u32()));
        for value in edges.into_iter().chain(random).filter(|value| value.is_finite()) {
            let text = serde_json::to_string(&value).unwrap();
            let back: f32 = serde_json::from_str(&text).unwrap();
            assert_eq!(back.to_bits(), value.to_bits(), "{text}");
            let text = serde_json::to_value(value).unwrap().to_string();
            let back: f32 = serde_json::from_str(&text).unwrap();
            assert_eq!(back.to_bits(), value.to_bits(), "{text}");
        }
    }

    #[test]
    fn rows_are_filled_the_same_on_one_thread_and_on_many() {
        for rows in [0, 1, 64, 65, 1000] {
            let values = fill_rows(rows, 3, |i, row: &mut [usize]| {
                row.iter_mut().enumerate().for_each(|(j, value)| *value = 3 * i + j);
            });
            assert_eq!(values, (0..3 * rows).collect::<Vec<_>>());
        }
    }
}
