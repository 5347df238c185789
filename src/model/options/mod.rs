//! How to train: one plain struct, a field an option, and the presets that fill it in.

mod check;
mod kinds;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::kinds::{
    Activation, Binarize, ColumnLoss, Corruption, Likeness, Loss, Memory, NeighbourOptions, Preset,
    Pretraining, Procedure, Schedule, Similarity, Sparsity,
};
use super::features::{FeatureOptions, VectorOptions};
use crate::code::Width;

/// What a training needs at least, where the number of epochs is not given: measured on 1,800 to
/// 69,000 rows.
const LEAST_STEPS: usize = 400;
const LEAST_EPOCHS: usize = 12;

/// All there is to choose about a training.
///
/// ```
/// use nearbit::Width;
/// use nearbit::model::{Preset, TrainOptions};
///
/// let options = TrainOptions { bits: Width::new(32)?, ..TrainOptions::preset(Preset::Image) };
/// assert_eq!(options.hidden, [512, 256]);
/// options.check()?;
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainOptions {
    /// Where the other values come from.
    pub preset: Preset,
    /// Width of the codes, in bits.
    #[serde(with = "bits")]
    pub bits: Width,
    /// Narrower widths, ascending: the first so many bits of a code are to be good codes too, and
    /// [`Model::truncated`](crate::model::Model::truncated) cuts the model to any of them. Every goal is
    /// then the mean over the widths (Matryoshka representation learning, Kusupati et al., 2022; the
    /// reconstruction by a width drawn for each step, as in nested dropout, Rippel et al., 2014).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nested: Vec<usize>,
    /// The widest code that is learned whole. A wider one is made of several, side by side, each learned
    /// alone with a seed of its own: their mistakes differ, so that together they make fewer (an ensemble,
    /// Hansen and Salamon, 1990). `None`: any code is learned whole.
    // Files without it are of codes that were learned whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_bits: Option<usize>,
    /// Sizes of the encoder's hidden layers, from the input to the code. Empty: a linear encoder.
    pub hidden: Vec<usize>,
    /// Sizes of the decoder's hidden layers, from the code to the output; `None` mirrors the encoder.
    pub decoder: Option<Vec<usize>>,
    /// What hidden layers apply.
    pub activation: Activation,
    /// How a reconstruction is judged.
    pub loss: Loss,
    /// Losses for runs of columns, in their order, which together are all columns; instead of
    /// `loss`. Empty: `loss` judges all of them.
    pub mix: Vec<ColumnLoss>,
    /// How the code layer is brought to 0 and 1.
    pub binarize: Binarize,
    /// What is done to the encoder's input; `None` shows it everything.
    pub corruption: Option<Corruption>,
    /// Probability with which a hidden unit is left out of a step (Srivastava et al., 2014).
    pub dropout: f64,
    /// What keeps most units quiet.
    pub sparsity: Option<Sparsity>,
    /// The hidden layer of the encoder that is to be sparse, from 1; `None`: the code.
    pub sparse_layer: Option<usize>,
    /// Weight of the squared Frobenius norm of the Jacobian, of the code layer's activations by the
    /// encoder's input, divided by the bits: a contractive autoencoder (Rifai et al., 2011).
    pub contraction: f64,
    /// Weight of KL(q || prior) between the stochastic code of a row and bits that are 1 half of the
    /// time, or standard normal numbers. 1 beside a reconstruction of 1 makes the loss -ELBO.
    pub prior: f64,
    /// What turns errors into changes of the weights.
    pub procedure: Procedure,
    /// Boltzmann machines whose weights the network starts with.
    pub pretraining: Option<Pretraining>,
    /// Whether the encoder starts as principal components, rotated to the nearest cube corners
    /// (PCA and ITQ); needs dense features and no hidden layer. Where rows are held out and similarity is
    /// asked for, an epoch that finds fewer of their exact neighbours than the start is not taken.
    pub start_from_itq: bool,
    /// Weight of giving back the row's own features.
    pub reconstruction: f64,
    /// What neighbours add; `None` trains a plain autoencoder.
    pub neighbours: Option<NeighbourOptions>,
    /// What keeps the order of exact neighbours; `None` does not look at it.
    pub similarity: Option<Similarity>,
    /// How much each bit is held to its own value while all bits of a code settle together, where queries lose
    /// least; 2 to 4 do well. `None`: each bit is the sign of its value, whatever the others are.
    // Files without it are of codes that are signs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settle: Option<f64>,
    /// Passes over the training rows. `None`: 12, or more where a small set needs them for 400 steps.
    pub epochs: Option<usize>,
    /// Rows a step.
    pub batch: usize,
    /// Adam's step size at its highest.
    pub learning_rate: f64,
    /// How the learning rate goes down.
    pub schedule: Schedule,
    /// Share of the steps in which the learning rate rises from zero.
    pub warm_up: f64,
    /// The last learning rate, as a share of the highest.
    pub final_rate: f64,
    /// The largest norm of all gradients together; longer ones are shortened to it. `None`: no limit.
    pub clip: Option<f64>,
    /// Share of every weight taken off in a step, times the learning rate (decoupled, as in AdamW).
    pub weight_decay: f64,
    /// Share of the rows that are held out to judge the training by.
    pub validation: f64,
    /// Epochs without a better validation loss after which training stops and the best weights are
    /// taken. `None`: train to the end and take the last.
    pub patience: Option<usize>,
    /// What every random choice follows from.
    pub seed: u64,
    /// Whether the model keeps its decoder, which [`Model::decode`](crate::model::Model::decode) and
    /// [`Model::score`](crate::model::Model::score) need and codes do not.
    pub keep_decoder: bool,
    /// How rows become numbers.
    pub features: FeatureOptions,
    /// How much memory the rows may take; `None`: as much as they need.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Where to write a checkpoint after every epoch, and to go on from if the file exists. Members after
    /// the first have files of their own beside it, with `.1`, `.2` and so on behind its name. It is no
    /// part of the model file.
    #[serde(skip)]
    pub checkpoint: Option<PathBuf>,
}

/// 64 bits, which is a width.
fn default_bits() -> Width {
    Width::new(64).unwrap_or_else(|_| unreachable!("64 is within 1..=1024"))
}

/// `Width` as a number, checked when it is read.
mod bits {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::code::Width;

    pub fn serialize<S: Serializer>(width: &Width, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(width.bits() as u64)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Width, D::Error> {
        Width::new(usize::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

impl TrainOptions {
    /// The options that are good for one kind of rows without any other flag; 64 bits.
    pub fn preset(preset: Preset) -> Self {
        let common = Self {
            preset,
            bits: default_bits(),
            nested: Vec::new(),
            member_bits: None,
            hidden: Vec::new(),
            decoder: None,
            activation: Activation::Relu,
            loss: Loss::Squared,
            mix: Vec::new(),
            binarize: Binarize::Round,
            corruption: None,
            dropout: 0.0,
            sparsity: None,
            sparse_layer: None,
            contraction: 0.0,
            prior: 0.0,
            procedure: Procedure::Backpropagation,
            pretraining: None,
            start_from_itq: false,
            settle: None,
            reconstruction: 1.0,
            neighbours: None,
            similarity: None,
            epochs: None,
            batch: 512,
            learning_rate: 3e-3,
            schedule: Schedule::Cosine,
            warm_up: 0.0,
            final_rate: 0.1,
            clip: Some(5.0),
            weight_decay: 0.0,
            validation: 0.05,
            patience: None,
            seed: 0,
            keep_decoder: true,
            features: FeatureOptions::default(),
            memory: None,
            checkpoint: None,
        };
        let neighbours = NeighbourOptions {
            count: 20,
            likeness: Likeness::Features,
            walk: Some(1),
            contrast: 1.0,
            temperature: 0.5,
            reconstruction: 0.0,
            learned: 0.0,
        };
        match preset {
            Preset::Text => Self {
                member_bits: Some(32),
                loss: Loss::Multinomial,
                reconstruction: 0.3,
                neighbours: Some(NeighbourOptions {
                    walk: Some(2),
                    reconstruction: 0.3,
                    learned: 0.5,
                    ..neighbours
                }),
                ..common
            },
            Preset::Vector => Self {
                start_from_itq: true,
                // A cooler softmax looks at the nearest rows. Contrast alone gains in labels of
                // neighbours and loses of the exact ones; similarity, the other way round.
                neighbours: Some(NeighbourOptions { count: 10, temperature: 0.2, ..neighbours }),
                similarity: Some(Similarity { weight: 0.5, temperature: 0.03 }),
                learning_rate: 1e-3,
                features: FeatureOptions {
                    // The numbers of an embedding are of one scale; theirs is part of the cosine.
                    vector: VectorOptions { scale: false, ..VectorOptions::default() },
                    ..FeatureOptions::default()
                },
                ..common
            },
            Preset::Image => Self {
                hidden: vec![512, 256],
                loss: Loss::Bernoulli,
                reconstruction: 0.1,
                neighbours: Some(NeighbourOptions {
                    count: 10,
                    likeness: Likeness::Edges,
                    walk: None,
                    ..neighbours
                }),
                learning_rate: 2e-3,
                ..common
            },
        }
    }

    /// How many codes that are learned alone make one; 1 where it is learned whole.
    pub fn members(&self) -> usize {
        self.member_bits.map_or(1, |most| self.bits.bits().div_ceil(most.max(1)))
    }

    /// Passes over `rows` training rows.
    pub(super) fn epochs_for(&self, rows: usize) -> usize {
        let steps = rows.div_ceil(self.batch).max(1);
        self.epochs.unwrap_or_else(|| LEAST_STEPS.div_ceil(steps).max(LEAST_EPOCHS))
    }

    /// Steps of a walk on the graph of `rows` rows; 0 without neighbours.
    pub(super) fn walk_for(&self, rows: usize) -> usize {
        let by_rows = ((rows as f64).sqrt() / 12.0).round().clamp(1.0, 1000.0) as usize;
        self.neighbours.map_or(0, |neighbours| neighbours.walk.unwrap_or(by_rows))
    }

    /// The decoder's hidden layers, from the code to the output.
    pub(super) fn decoder_hidden(&self) -> Vec<usize> {
        self.decoder.clone().unwrap_or_else(|| self.hidden.iter().rev().copied().collect())
    }
}

impl Default for TrainOptions {
    /// The preset for texts.
    fn default() -> Self {
        Self::preset(Preset::Text)
    }
}
