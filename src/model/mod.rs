//! Learns: a deep autoencoder whose code layer is made binary turns texts, vectors and images into
//! short codes.
//!
//! ```text
//! inputs --features--> numbers --encoder--> values before a sigmoid --> above 0 is bit 1 --> code
//! ```
//!
//! [`train`] learns a [`Model`] from [`Inputs`] alone, never from labels; [`TrainOptions`] says how, and its
//! presets are good without any other choice. A model encodes, decodes, saves itself to one file and
//! is named by that file's digest.

mod adam;
mod blocks;
mod chain;
mod checkpoint;
mod code_layer;
mod contrast;
mod corrupt;
mod data;
mod decode;
mod digest;
mod edges;
mod ensemble;
pub mod features;
mod file;
mod floor;
mod forward;
#[cfg(test)]
mod gradient_check;
pub mod hyperplanes;
mod known;
mod layer;
mod likeness;
mod loss;
mod nested;
mod network;
mod objective;
mod options;
mod part;
mod penalty;
mod pretrain;
mod random;
mod read;
mod real;
mod recirculate;
mod report;
mod scratch;
mod settle;
mod similarity;
mod slot;
mod spread;
mod start;
mod streamed;
mod tally;
#[cfg(test)]
mod tests;
mod train;
mod training;
mod unusable;
mod variational;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde::Serialize;

pub use decode::Decoded;
pub use digest::Digest;
pub use options::{
    Activation, Binarize, ColumnLoss, Corruption, Likeness, Loss, Memory, NeighbourOptions, Preset,
    Pretraining, Procedure, Schedule, Similarity, Sparsity, TrainOptions,
};
pub use report::{EpochReport, Progress, Report, Stage};
pub use train::{train, train_from};

use self::data::Data;
use self::decode::{BitStatistics, Decoder};
use self::features::Pipeline;
use self::file::{Array, Parts};
use self::forward::{Layers, Weights, sigmoid};
use self::network::Network;
use self::settle::Settling;
use crate::code::{Codes, Width};
use crate::error::{Error, Result};
use crate::input::{Features, InputKind, Inputs, Matrix};

const KIND: &str = "nearbit-model";
/// The tensor that codes settle by.
const COVARIANCE: &str = "code.covariance";

/// A trained model: features and encoder. It cannot be changed; a clone is the same model and costs
/// nothing; any number of threads may use it.
///
/// ```
/// # let values = (0..400).map(|i| (i as f32 * 0.7).sin()).collect();
/// # let inputs = nearbit::Inputs::Vectors(nearbit::Matrix::new(50, 8, values));
/// # let options = nearbit::model::TrainOptions {
/// #     bits: nearbit::Width::new(6)?,
/// #     epochs: Some(1),
/// #     ..nearbit::model::TrainOptions::preset(nearbit::model::Preset::Vector)
/// # };
/// # let model = nearbit::model::train(&inputs, &options, &mut |_| std::ops::ControlFlow::Continue(()))?;
///
/// use nearbit::model::Model;
///
/// let codes = model.encode(&inputs)?;
/// let activations = model.activations(&inputs)?;
/// assert_eq!(codes.get(0).bit(3), activations.row(0)[3] > 0.5);
///
/// let same = Model::from_bytes(&model.to_bytes())?;
/// assert_eq!(same.digest(), model.digest());
/// assert_eq!(same.info().encoder.last(), Some(&6));
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone)]
pub struct Model(Arc<Inner>);

struct Inner {
    bytes: Vec<u8>,
    pipeline: Pipeline,
    encoder: Layers,
    /// Of codes that are not the signs of their values.
    settling: Option<Settling>,
    statistics: BitStatistics,
    /// Built when it is first asked for.
    decoder: OnceLock<Decoder>,
    info: Info,
}

/// What a model says about itself.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Info {
    /// BLAKE3 of the model file.
    pub digest: Digest,
    /// The format of the file.
    pub format: u32,
    /// What the model takes, in words.
    pub input: String,
    /// Bits of a code.
    pub bits: usize,
    /// Sizes of the encoder's layers, from the features to the code.
    pub encoder: Vec<usize>,
    /// Sizes of the decoder's layers, from the code to the features; empty where it was not kept.
    pub decoder: Vec<usize>,
    /// How it was trained.
    pub options: TrainOptions,
    /// How the training went.
    pub report: Report,
}

impl Model {
    /// The model of a network after its training on rows, which come in parts.
    fn new(
        pipeline: Pipeline,
        network: &Network,
        options: TrainOptions,
        report: Report,
        data: &Data,
    ) -> Result<Self> {
        let mut arrays = checkpoint::weights(network)?;
        arrays.retain(|name, _| {
            name.starts_with("encoder.") || options.keep_decoder && name.starts_with("decoder.")
        });
        let mut parts = Parts { arrays, ..Parts::default() };
        parts.put("bits", &options.bits.bits())?;
        parts.put("pipeline", &pipeline)?;
        // Values come first: how codes settle is found by them.
        parts.put("options", &TrainOptions { settle: None, ..options.clone() })?;
        parts.put("report", &report)?;
        // What was trained is read back like any other file: there is one way to make a model.
        let origin = Path::new("the trained model");
        let silent = Self::parse(parts.to_bytes(KIND), origin)?;
        parts.put("options", &options)?;
        if options.settle.is_some() {
            let bits = options.bits.bits();
            let values = settle::covariance(&silent, data.train.in_order())?;
            let array = Array { shape: vec![bits, bits], values };
            parts.arrays.insert(COVARIANCE.into(), array);
        }
        let statistics = BitStatistics::of(&silent, data.train.in_order())?;
        let BitStatistics { share, zero, one } = statistics;
        for (name, values) in [("share", share), ("zero", zero), ("one", one)] {
            let array = Array { shape: vec![values.len()], values };
            parts.arrays.insert(format!("code.{name}"), array);
        }
        Self::parse(parts.to_bytes(KIND), origin)
    }

    /// Reads a model file.
    ///
    /// # Errors
    /// A file that is missing, cut off, damaged, of another kind or of a newer format.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(file::read(path, KIND)?, path)
    }

    /// Writes the model file: aside, synced and renamed, so that it is there whole or not at all.
    ///
    /// # Errors
    /// The operating system's refusal.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        file::write(path.as_ref(), &self.0.bytes)
    }

    /// Reads the bytes of a model file.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::parse(bytes.to_vec(), Path::new("model"))
    }

    /// The bytes of the model file.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.bytes.clone()
    }

    fn parse(bytes: Vec<u8>, origin: &Path) -> Result<Self> {
        let mut parts = Parts::from_bytes(&bytes, KIND, origin)?;
        let format = parts.format();
        let pipeline: Pipeline = parts.get("pipeline", origin)?;
        let options: TrainOptions = parts.get("options", origin)?;
        let report = parts.get("report", origin)?;
        let bits: usize = parts.get("bits", origin)?;
        let encoder = layers(&mut parts, "encoder", &options, origin)?;
        let decoder = match options.keep_decoder {
            true => layers(&mut parts, "decoder", &options, origin)?,
            false => Vec::new(),
        };
        let settling = settling(&mut parts, &options, origin)?;
        let statistics = bit_statistics(&mut parts, options.bits.bits(), origin)?;
        let sizes = |layers: &[Weights]| -> Vec<usize> {
            let outputs = layers.iter().map(|layer| layer.outputs);
            layers.first().map(|layer| layer.inputs).into_iter().chain(outputs).collect()
        };
        let (encoder_sizes, decoder_sizes) = (sizes(&encoder), sizes(&decoder));
        let ends = |sizes: &[usize]| (sizes.first().copied(), sizes.last().copied());
        let (cols, code) = (Some(pipeline.cols()), Some(options.bits.bits()));
        if ends(&encoder_sizes) != (cols, code)
            || options.keep_decoder && ends(&decoder_sizes) != (code, cols)
            || bits != options.bits.bits()
        {
            let message = format!(
                "expected layers between {cols:?} columns and {code:?} bits, got {encoder_sizes:?} \
                 and {decoder_sizes:?}"
            );
            return Err(Error::damaged(origin, None, message));
        }
        let info = Info {
            digest: Digest::of(&bytes),
            format,
            input: pipeline.input().to_string(),
            bits,
            encoder: encoder_sizes,
            decoder: decoder_sizes,
            options,
            report,
        };
        let mut encoder = encoder.into_iter();
        let Some(first) = encoder.next() else {
            return Err(Error::damaged(
                origin,
                None,
                "expected at least one encoder layer, got none",
            ));
        };
        let sparse = pipeline.input() == InputKind::Text;
        let encoder = Layers::new(first, encoder.collect(), sparse);
        let decoder = OnceLock::new();
        Ok(Self(Arc::new(Inner { bytes, pipeline, encoder, settling, statistics, decoder, info })))
    }

    /// BLAKE3 of the model file's bytes: the model's identity.
    pub fn digest(&self) -> Digest {
        self.0.info.digest
    }

    /// The width of its codes.
    pub fn width(&self) -> Width {
        self.0.info.options.bits
    }

    /// The kind and shape of what it takes.
    pub fn input(&self) -> InputKind {
        self.0.pipeline.input()
    }

    /// What the model says about itself.
    pub fn info(&self) -> &Info {
        &self.0.info
    }

    /// Inputs as numbers: shape (rows, columns).
    ///
    /// # Errors
    /// Inputs of another kind or shape, numbers that are not finite.
    pub fn features(&self, inputs: &Inputs) -> Result<Features> {
        self.0.pipeline.apply(inputs)
    }

    /// The codes of `inputs`, row by row. A row has the same code in every batch. A bit is 1 where its value
    /// is above 0, or as all bits settle together (see [`TrainOptions::settle`]).
    ///
    /// # Errors
    /// As [`Model::features`].
    pub fn encode(&self, inputs: &Inputs) -> Result<Codes> {
        let values = self.values_of(inputs)?;
        match &self.0.settling {
            Some(settling) => self.codes_of(&settling.settled(&values)),
            None => self.codes_of(&values),
        }
    }

    /// The values before the code's sigmoid, as the code has them: shape (rows, bits).
    fn values_of(&self, inputs: &Inputs) -> Result<Matrix> {
        Ok(self.keep_top_of(self.logits(inputs)?))
    }

    /// The values before the code's sigmoid, shape (rows, bits): a bit is 1 where its value is above
    /// 0.
    fn values(&self, features: &Features) -> Matrix {
        self.keep_top_of(self.0.encoder.values(features))
    }

    fn keep_top_of(&self, mut values: Matrix) -> Matrix {
        for i in 0..values.rows() {
            self.keep_top(values.row_mut(i));
        }
        values
    }

    fn codes_of(&self, values: &Matrix) -> Result<Codes> {
        let width = self.width();
        let mut codes = Codes::with_capacity(width, values.rows());
        let mut words = vec![0u64; width.words()];
        for row in values.iter() {
            words.fill(0);
            for (i, &value) in row.iter().enumerate() {
                words[i / 64] |= u64::from(value > 0.0) << (63 - i % 64);
            }
            codes.push_words(&words)?;
        }
        Ok(codes)
    }

    /// The values before the code layer's sigmoid: shape (rows, bits). A bit of a code that does not settle
    /// is 1 where its value is above 0, and the value is the log odds of that bit.
    ///
    /// # Errors
    /// As [`Model::features`].
    pub fn logits(&self, inputs: &Inputs) -> Result<Matrix> {
        let part = |rows| self.0.pipeline.apply_rows(inputs, rows);
        self.0.encoder.values_of(inputs.len(), part)
    }

    /// The code layer's real values, 0 to 1: shape (rows, bits). A bit of a code that does not settle is 1
    /// where the value is above one half.
    ///
    /// # Errors
    /// As [`Model::features`].
    pub fn activations(&self, inputs: &Inputs) -> Result<Matrix> {
        let values = self.values_of(inputs)?;
        let activations = values.values().iter().map(|&value| sigmoid(value)).collect();
        Ok(Matrix::new(values.rows(), values.cols(), activations))
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Model({}, {} to {})", self.digest(), self.input(), self.width())
    }
}

/// The layers of one part of the network, checked to fit one another.
fn layers(
    parts: &mut Parts,
    part: &str,
    options: &TrainOptions,
    origin: &Path,
) -> Result<Vec<Weights>> {
    let count = 1 + match part {
        "encoder" => options.hidden.len(),
        _ => options.decoder_hidden().len(),
    };
    let mut layers: Vec<Weights> = Vec::new();
    for i in 0..count {
        let weight = parts.take(&format!("{part}.{i}.weight"), origin)?;
        let bias = parts.take(&format!("{part}.{i}.bias"), origin)?;
        let before = layers.last().map(|layer| layer.outputs);
        let fits = match (weight.shape.as_slice(), bias.shape.as_slice()) {
            (&[inputs, outputs], &[biases]) => {
                inputs > 0
                    && outputs > 0
                    && outputs == biases
                    && before.is_none_or(|before| before == inputs)
            }
            _ => false,
        };
        if !fits {
            let message = format!(
                "layer {part}.{i} has weights of shape {:?} and a bias of shape {:?} after a layer \
                 of {before:?} outputs",
                weight.shape, bias.shape
            );
            return Err(Error::damaged(origin, None, message));
        }
        let finite = weight.values.iter().chain(&bias.values).all(|value| value.is_finite());
        if !finite {
            let message = format!("layer {part}.{i} has a weight that is not finite");
            return Err(Error::damaged(origin, None, message));
        }
        let activation = if i + 1 == count { Activation::Linear } else { options.activation };
        layers.push(Weights {
            inputs: weight.shape[0],
            outputs: weight.shape[1],
            weight: weight.values,
            bias: bias.values,
            activation,
        });
    }
    Ok(layers)
}

/// How the bits of a model settle, where it was trained so.
fn settling(parts: &mut Parts, options: &TrainOptions, origin: &Path) -> Result<Option<Settling>> {
    let bits = options.bits.bits();
    let Some(hold) = options.settle else { return Ok(None) };
    let array = parts.take(COVARIANCE, origin)?;
    if array.shape != [bits, bits] || array.values.iter().any(|value| !value.is_finite()) {
        let message = format!(
            "{COVARIANCE}: expected finite numbers of shape [{bits}, {bits}], got shape {:?}",
            array.shape
        );
        return Err(Error::damaged(origin, None, message));
    }
    Ok(Some(Settling::new(&array.values, bits, hold)))
}

/// What a file says of each bit; files of the first version say nothing.
fn bit_statistics(parts: &mut Parts, bits: usize, origin: &Path) -> Result<BitStatistics> {
    if !parts.arrays.contains_key("code.share") {
        return Ok(BitStatistics::unknown(bits));
    }
    let mut take = |name: &str| {
        let array = parts.take(name, origin)?;
        if array.values.len() != bits || array.values.iter().any(|value| !value.is_finite()) {
            let message =
                format!("{name}: expected {bits} finite numbers, got shape {:?}", array.shape);
            return Err(Error::damaged(origin, None, message));
        }
        Ok(array.values)
    };
    Ok(BitStatistics {
        share: take("code.share")?,
        zero: take("code.zero")?,
        one: take("code.one")?,
    })
}

/// The decoder's layers in a model file that was checked; none where it was not kept.
fn decoder_layers(bytes: &[u8]) -> Result<Vec<Weights>> {
    let origin = Path::new("model");
    let mut parts = Parts::from_bytes(bytes, KIND, origin)?;
    let options: TrainOptions = parts.get("options", origin)?;
    match options.keep_decoder {
        true => layers(&mut parts, "decoder", &options, origin),
        false => Ok(Vec::new()),
    }
}
