//! How to train: one plain struct, a field an option, and the presets that fill it in.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::features::{FeatureOptions, VectorOptions};
use crate::code::Width;
use crate::error::{Error, Result};

/// What a training needs at least, where the number of epochs is not given: measured on 1,800 to
/// 69,000 rows.
const LEAST_STEPS: usize = 400;
const LEAST_EPOCHS: usize = 12;

/// What kind of rows the other options are good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Running texts: TF-IDF, a linear encoder, words of the text and of a neighbour given back.
    Text,
    /// Dense vectors from another model: a linear encoder that starts as PCA and ITQ.
    Vector,
    /// Grey pictures: two hidden layers, neighbours by walks on a graph of the pixels.
    Image,
}

/// What a layer applies to its product.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// x
    Linear,
    /// max(x, 0)
    Relu,
    /// tanh x
    Tanh,
    /// 1 / (1 + e^-x)
    Sigmoid,
    /// x times the normal distribution function of x, by its tanh approximation
    Gelu,
}

/// How a reconstruction is judged; also says what the decoder's last values mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// Half the squared error, mean over columns.
    Squared,
    /// Binary cross-entropy, mean over columns; features must lie in 0..1.
    Bernoulli,
    /// Cross-entropy of a softmax over all columns with the columns present, each counting the
    /// same; features must not be negative.
    Multinomial,
}

/// How the sigmoid code layer is brought to 0 and 1.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Binarize {
    /// Gaussian noise just before the sigmoid, its standard deviation growing evenly from `start`
    /// to `end` over the training: a unit that wants to say anything must saturate (Hinton and
    /// Salakhutdinov, *Semantic hashing*, 2009).
    Noise {
        /// Standard deviation in the first step.
        start: f64,
        /// Standard deviation in the last step.
        end: f64,
    },
    /// Rounded forward, the identity backward (straight-through; Bengio, Leonard and Courville,
    /// 2013).
    Round,
    /// A draw that is 1 with the sigmoid's probability forward, the identity backward.
    Sample,
}

/// How the learning rate goes over the training, after the warm-up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// It stays.
    Constant,
    /// Down to `final_rate` on a straight line.
    Linear,
    /// Down to `final_rate` along half a cosine wave.
    Cosine,
}

/// How to use the k-nearest-neighbour graph of the training rows (by their features' cosine).
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct NeighbourOptions {
    /// Neighbours of a row, 1..=1000; in a small set no more than a twentieth of the rows, as others
    /// are no longer near.
    pub count: usize,
    /// Steps of the random walk that leads from a row to the one it is paired with, 1..=1000. `None`:
    /// a twelfth of the square root of the number of rows, so 4 for 2,000 and 22 for 70,000, since a
    /// cluster of more rows is a longer way across.
    pub walk: Option<usize>,
    /// Weight of InfoNCE between the codes of a pair.
    pub contrast: f64,
    /// Temperature of InfoNCE: smaller looks harder at the nearest wrong pairs.
    pub temperature: f64,
    /// Weight of giving back the partner's features from a row's code.
    pub reconstruction: f64,
}

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
    /// Sizes of the encoder's hidden layers, from the input to the code. Empty: a linear encoder.
    pub hidden: Vec<usize>,
    /// Sizes of the decoder's hidden layers, from the code to the output; `None` mirrors the encoder.
    pub decoder: Option<Vec<usize>>,
    /// What hidden layers apply.
    pub activation: Activation,
    /// How a reconstruction is judged.
    pub loss: Loss,
    /// How the code layer is brought to 0 and 1.
    pub binarize: Binarize,
    /// Whether the encoder starts as principal components, rotated to the nearest cube corners
    /// (PCA and ITQ); needs dense features and no hidden layer.
    pub start_from_itq: bool,
    /// Weight of giving back the row's own features.
    pub reconstruction: f64,
    /// What neighbours add; `None` trains a plain autoencoder.
    pub neighbours: Option<NeighbourOptions>,
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
    /// How rows become numbers.
    pub features: FeatureOptions,
    /// Where to write a checkpoint after every epoch, and to go on from if the file exists. It is no
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
            hidden: Vec::new(),
            decoder: None,
            activation: Activation::Relu,
            loss: Loss::Squared,
            binarize: Binarize::Round,
            start_from_itq: false,
            reconstruction: 1.0,
            neighbours: None,
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
            features: FeatureOptions::default(),
            checkpoint: None,
        };
        let neighbours = NeighbourOptions {
            count: 20,
            walk: Some(1),
            contrast: 1.0,
            temperature: 0.5,
            reconstruction: 0.0,
        };
        match preset {
            Preset::Text => Self {
                loss: Loss::Multinomial,
                reconstruction: 0.3,
                neighbours: Some(NeighbourOptions {
                    walk: Some(2),
                    reconstruction: 0.3,
                    ..neighbours
                }),
                ..common
            },
            Preset::Vector => Self {
                start_from_itq: true,
                // A cooler softmax looks at the nearest rows: labels of neighbours and recall of exact
                // neighbours both gain over PCA and ITQ, where 0.5 gains more of the first and
                // loses of the second.
                neighbours: Some(NeighbourOptions { count: 10, temperature: 0.2, ..neighbours }),
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
                neighbours: Some(NeighbourOptions { count: 10, walk: None, ..neighbours }),
                learning_rate: 2e-3,
                ..common
            },
        }
    }

    /// An error that names the first option out of its range.
    pub fn check(&self) -> Result<()> {
        for (name, sizes) in [("hidden", Some(&self.hidden)), ("decoder", self.decoder.as_ref())] {
            for (i, size) in sizes.into_iter().flatten().enumerate() {
                integer(&format!("{name}[{i}]"), *size, 1, 65_536)?;
            }
            integer(&format!("{name} layers"), sizes.map_or(0, Vec::len), 0, 16)?;
        }
        if let Some(epochs) = self.epochs {
            integer("epochs", epochs, 1, 100_000)?;
        }
        integer("batch", self.batch, 2, 65_536)?;
        number("learning rate", self.learning_rate, f64::MIN_POSITIVE, 10.0)?;
        number("warm-up", self.warm_up, 0.0, 1.0)?;
        number("final rate", self.final_rate, 0.0, 1.0)?;
        if let Some(clip) = self.clip {
            number("clip", clip, f64::MIN_POSITIVE, f64::MAX)?;
        }
        number("weight decay", self.weight_decay, 0.0, 1.0)?;
        number("validation", self.validation, 0.0, 0.9)?;
        number("reconstruction", self.reconstruction, 0.0, 1e6)?;
        if let Binarize::Noise { start, end } = self.binarize {
            number("noise start", start, 0.0, 1e3)?;
            number("noise end", end, 0.0, 1e3)?;
        }
        let mut goals = self.reconstruction;
        if let Some(neighbours) = self.neighbours {
            integer("neighbours", neighbours.count, 1, 1000)?;
            if let Some(walk) = neighbours.walk {
                integer("walk", walk, 1, 1000)?;
            }
            number("contrast", neighbours.contrast, 0.0, 1e6)?;
            number("temperature", neighbours.temperature, 0.05, 100.0)?;
            number("neighbour reconstruction", neighbours.reconstruction, 0.0, 1e6)?;
            goals += neighbours.contrast + neighbours.reconstruction;
        }
        if goals == 0.0 {
            return Err(Error::invalid(
                "reconstruction",
                "every loss has weight 0, so there is nothing to learn; give reconstruction or \
                 contrast a weight above 0",
            ));
        }
        if self.patience.is_some() && self.validation == 0.0 {
            return Err(Error::invalid(
                "patience",
                "early stopping judges by validation rows, and validation is 0; give it a share \
                 such as 0.05",
            ));
        }
        if self.start_from_itq && !self.hidden.is_empty() {
            return Err(Error::invalid(
                "start from ITQ",
                format!(
                    "principal components start an encoder without hidden layers, got {:?}; leave \
                     one of the two out",
                    self.hidden
                ),
            ));
        }
        Ok(())
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

fn integer(name: &str, got: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&got) {
        return Ok(());
    }
    Err(Error::invalid(name, format!("expected {least} to {most}, got {got}")))
}

/// NaN is in no range.
fn number(name: &str, got: f64, least: f64, most: f64) -> Result<()> {
    if (least..=most).contains(&got) {
        return Ok(());
    }
    let range = if most == f64::MAX {
        "a number above 0".into()
    } else if least == f64::MIN_POSITIVE {
        format!("a number above 0, at most {most}")
    } else {
        format!("{least} to {most}")
    };
    Err(Error::invalid(name, format!("expected {range}, got {got}")))
}

macro_rules! words {
    ($type:ident: $place:literal, $($variant:ident = $word:literal),+) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }

        impl std::str::FromStr for $type {
            type Err = Error;

            fn from_str(word: &str) -> Result<Self> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(Error::invalid(
                        $place,
                        format!("expected one of {}, got {word:?}", [$($word),+].join(", ")),
                    )),
                }
            }
        }
    };
}

words!(Preset: "preset", Text = "text", Vector = "vector", Image = "image");
words!(Activation: "activation",
    Linear = "linear", Relu = "relu", Tanh = "tanh", Sigmoid = "sigmoid", Gelu = "gelu");
words!(Loss: "loss", Squared = "squared", Bernoulli = "bernoulli", Multinomial = "multinomial");
words!(Schedule: "schedule", Constant = "constant", Linear = "linear", Cosine = "cosine");
