//! The way back: what a code stands for, and how well an input is described by its own.
//!
//! ```text
//! code --a number a bit--> decoder --> y --mean of the loss's distribution--> features --> input
//! ```
//!
//! A bit is the number 0 or 1 where the code layer is a sigmoid. Where it is linear or Gaussian, a
//! bit is a sign, and the number is the mean of that unit over the training rows of that sign. The
//! decoder is built when it is first asked for: a model that only encodes does not hold it.

use rand::RngExt;
use rayon::prelude::*;
use std::borrow::Cow;

use super::code_layer::keep_top;
use super::features::Pipeline;
use super::forward::{Layers, sigmoid};
use super::loss::{Block, Target, mean_of, row_loss};
use super::options::{Binarize, Sparsity};
use super::random::{Purpose, normal, stream};
use super::{Model, decoder_layers};
use crate::code::Codes;
use crate::error::{Error, Result};
use crate::input::{Features, Images, InputKind, Inputs, Matrix};

/// Rows that go through the decoder together: a text's are as long as the vocabulary.
const BATCH: usize = 256;

/// The most words that are told of one code.
const TERMS: usize = 100;

/// What codes stand for, row by row.
#[derive(Clone, PartialEq, Debug)]
pub enum Decoded {
    /// For a text model: up to 100 words, stemmed as its vocabulary is, the likeliest first, each
    /// with its share of the text's words (or its weight, where the loss is not multinomial).
    Terms(Vec<Vec<(String, f32)>>),
    /// For a vector model: the vectors. Lengths that the features took away do not come back.
    Vectors(Matrix),
    /// For an image model: the pictures.
    Images(Images),
}

/// What is needed to decode.
pub(super) struct Decoder {
    layers: Layers,
    blocks: Vec<Block>,
}

/// What the training rows say of each bit.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct BitStatistics {
    /// The share of rows in which it is 1.
    pub share: Vec<f32>,
    /// What the decoder reads for a 0.
    pub zero: Vec<f32>,
    /// What the decoder reads for a 1.
    pub one: Vec<f32>,
}

impl BitStatistics {
    /// Of a model that has kept none.
    pub fn unknown(bits: usize) -> Self {
        Self { share: vec![0.5; bits], zero: vec![0.0; bits], one: vec![1.0; bits] }
    }

    /// Of `model`'s values for the training rows, in parts.
    pub fn of<'a>(
        model: &Model,
        parts: impl Iterator<Item = Result<Cow<'a, Features>>>,
    ) -> Result<Self> {
        let bits = model.width().bits();
        let mut counts = vec![[0usize; 2]; bits];
        let mut sums = vec![[0f64; 2]; bits];
        for rows in parts {
            let rows = rows?;
            let all: Vec<usize> = (0..rows.rows()).collect();
            for batch in all.chunks(16 * BATCH) {
                for row in model.values(&rows.select(batch)).iter() {
                    for (j, &a) in row.iter().enumerate() {
                        counts[j][usize::from(a > 0.0)] += 1;
                        sums[j][usize::from(a > 0.0)] += f64::from(a);
                    }
                }
            }
        }
        let mut statistics = Self::unknown(bits);
        let is_logistic = model.info().options.binarize.is_logistic();
        for j in 0..bits {
            let [zeros, ones] = counts[j];
            statistics.share[j] = ones as f32 / (zeros + ones).max(1) as f32;
            if !is_logistic {
                let mean = |side: usize| (sums[j][side] / counts[j][side].max(1) as f64) as f32;
                (statistics.zero[j], statistics.one[j]) = (mean(0), mean(1));
            }
        }
        Ok(statistics)
    }
}

impl Model {
    /// What `codes` stand for.
    ///
    /// # Errors
    /// Codes of another width, a model that was trained without keeping its decoder.
    pub fn decode(&self, codes: &Codes) -> Result<Decoded> {
        let width = self.width();
        if codes.width() != width {
            let message = format!("expected codes of {width}, got {}", codes.width());
            return Err(Error::invalid("codes", message));
        }
        let bits = (0..codes.len()).flat_map(|i| {
            let code = codes.get(i);
            (0..width.bits()).map(move |bit| f32::from(u8::from(code.bit(bit))))
        });
        self.decode_values(&Matrix::new(codes.len(), width.bits(), bits.collect()))
    }

    /// What lies between codes: shape (rows, bits), a bit's value going from 0 to 1.
    ///
    /// # Errors
    /// Another number of columns, values that are not within 0..=1, a model without its decoder.
    pub fn decode_values(&self, values: &Matrix) -> Result<Decoded> {
        let bits = self.width().bits();
        if values.cols() != bits {
            let message = format!("expected {bits} values a row, got {}", values.cols());
            return Err(Error::invalid("values", message));
        }
        if let Some(value) = values.values().iter().find(|value| !(0.0..=1.0).contains(*value)) {
            return Err(Error::invalid("values", format!("expected 0 to 1, got {value}")));
        }
        self.decoded(&self.means(&self.between(values))?)
    }

    /// How badly each input is given back from its own code: the reconstruction loss of a number (of
    /// a word, where the loss is multinomial). What is unlike the training rows scores high.
    ///
    /// The decoder reads what it read in training: bits, or the code layer's values where those were
    /// not made binary.
    ///
    /// # Errors
    /// As [`Model::features`]; a model that was trained without keeping its decoder.
    pub fn score(&self, inputs: &Inputs) -> Result<Vec<f64>> {
        let decoder = self.decoder()?;
        let features = self.features(inputs)?;
        let all: Vec<usize> = (0..features.rows()).collect();
        let mut scores = Vec::with_capacity(all.len());
        for batch in all.chunks(BATCH) {
            let rows = features.select(batch);
            let mut z = self.values(&rows);
            let read = |a: f32| match self.info().options.binarize {
                Binarize::Linear | Binarize::Gaussian => a,
                Binarize::Sigmoid => sigmoid(a),
                _ => f32::from(u8::from(a > 0.0)),
            };
            for i in 0..z.rows() {
                z.row_mut(i).iter_mut().for_each(|a| *a = read(*a));
            }
            let y = decoder.layers.values(&Features::Dense(z));
            let targets = [Target { rows: &rows, weight: 1.0 }];
            let score =
                |i: usize| row_loss(&decoder.blocks, &mut y.row(i).to_vec(), i, &targets, 1.0);
            let batch: Vec<f64> = (0..batch.len()).into_par_iter().map(score).collect();
            scores.extend(batch);
        }
        Ok(scores)
    }

    /// Draws `count` codes, and what they stand for.
    ///
    /// Each bit is 1 as often as among the training rows, and each number of a Gaussian code standard
    /// normal. Bits that depend on one another are not drawn well one by one, so they may go `steps`
    /// times round: decoded, encoded, and drawn anew with the probabilities that the encoder gives
    /// (a chain as of Bengio, Yao, Alain and Vincent, *Generalized denoising auto-encoders as
    /// generative models*, 2013).
    ///
    /// # Errors
    /// Steps with a text model, whose encoder does not read what its decoder says; a model that was
    /// trained without keeping its decoder.
    pub fn sample(&self, count: usize, steps: usize, seed: u64) -> Result<(Codes, Decoded)> {
        let bits = self.width().bits();
        if steps > 0 && self.input() == InputKind::Text {
            let message = "a text model gives shares of words, which its encoder does not read; \
                           draw with 0 steps";
            return Err(Error::invalid("steps", message));
        }
        let mut rng = stream(seed, Purpose::Samples, 0);
        // ln(u / (1 - u)) + a is above 0 with probability sigmoid(a).
        let mut logistic = || {
            let u = rng.random_range(f64::EPSILON..1.0 - f64::EPSILON);
            (u / (1.0 - u)).ln() as f32
        };
        let is_gaussian = self.info().options.binarize == Binarize::Gaussian;
        let share = &self.0.statistics.share;
        let mut a = Matrix::zeros(count, bits);
        if is_gaussian {
            let draws = normal(&mut stream(seed, Purpose::Samples, 1), count * bits);
            a = Matrix::new(count, bits, draws.into_iter().map(|z| z as f32).collect());
        } else {
            for i in 0..count {
                for (a, share) in a.row_mut(i).iter_mut().zip(share) {
                    *a = (share / (1.0 - share)).ln() + logistic();
                }
                self.keep_top(a.row_mut(i));
            }
        }
        for _ in 0..steps {
            let z = if is_gaussian { a.clone() } else { self.between(&ones(&a)) };
            a = self.values(&Features::Dense(self.means(&z)?));
            for i in (0..count).filter(|_| !is_gaussian) {
                a.row_mut(i).iter_mut().for_each(|a| *a += logistic());
                self.keep_top(a.row_mut(i));
            }
        }
        let z = if is_gaussian { a.clone() } else { self.between(&ones(&a)) };
        Ok((self.codes_of(&a)?, self.decoded(&self.means(&z)?)?))
    }

    /// Moves a row so that the code has as many ones as it must, where that is fixed.
    pub(super) fn keep_top(&self, row: &mut [f32]) {
        if let Some(Sparsity::Top(active)) = self.info().options.sparsity {
            keep_top(row, active);
        }
    }

    /// What the decoder reads for values from 0 to 1.
    fn between(&self, values: &Matrix) -> Matrix {
        let BitStatistics { zero, one, .. } = &self.0.statistics;
        let read = |(j, &value): (usize, &f32)| zero[j] + value * (one[j] - zero[j]);
        let read = values.iter().flat_map(|row| row.iter().enumerate().map(read)).collect();
        Matrix::new(values.rows(), values.cols(), read)
    }

    /// The features that the decoder expects for what it reads: shape (rows, columns).
    pub(super) fn means(&self, z: &Matrix) -> Result<Matrix> {
        let decoder = self.decoder()?;
        let mut y = decoder.layers.values(&Features::Dense(z.clone()));
        for i in 0..y.rows() {
            mean_of(&decoder.blocks, y.row_mut(i));
        }
        Ok(y)
    }

    /// Features as inputs.
    fn decoded(&self, features: &Matrix) -> Result<Decoded> {
        Ok(match &self.0.pipeline {
            Pipeline::Text(text) => {
                let terms = |row: &[f32]| {
                    let mut columns: Vec<usize> = (0..row.len()).collect();
                    columns.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
                    columns.truncate(TERMS);
                    columns.into_iter().map(|c| (text.term(c).to_owned(), row[c])).collect()
                };
                Decoded::Terms(features.iter().map(terms).collect())
            }
            Pipeline::Vector(vector) => Decoded::Vectors(vector.undo(features)),
            Pipeline::Image(image) => Decoded::Images(image.undo(features)),
        })
    }

    fn decoder(&self) -> Result<&Decoder> {
        if let Some(decoder) = self.0.decoder.get() {
            return Ok(decoder);
        }
        let mut layers = decoder_layers(&self.0.bytes)?.into_iter();
        let Some(first) = layers.next() else {
            return Err(Error::invalid(
                "model",
                "it was trained without keeping its decoder, so it can only encode; train again and \
                 keep it",
            ));
        };
        let blocks = Block::all(&self.info().options, self.0.pipeline.cols())?;
        let decoder = Decoder { layers: Layers::new(first, layers.collect(), false), blocks };
        Ok(self.0.decoder.get_or_init(|| decoder))
    }
}

/// 1 where a number is above 0, else 0.
fn ones(a: &Matrix) -> Matrix {
    let bits = a.values().iter().map(|&a| f32::from(u8::from(a > 0.0))).collect();
    Matrix::new(a.rows(), a.cols(), bits)
}
