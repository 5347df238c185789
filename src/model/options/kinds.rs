//! The kinds of things that can be chosen, each with its word on the command line.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What kind of rows the other options are good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Running texts: TF-IDF, a linear encoder, words of the text and of a neighbour given back.
    Text,
    /// Dense vectors from another model: a linear encoder that starts as PCA and ITQ.
    Vector,
    /// Grey pictures: two hidden layers, neighbours by walks on a graph of pictures with like edges.
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
    /// Half the Poisson deviance, mean over columns: for counts. Features must not be negative.
    Poisson,
}

/// A loss for a run of columns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ColumnLoss {
    /// How many columns.
    pub columns: usize,
    /// How they are judged.
    pub loss: Loss,
}

/// What the code layer makes, in training, of the encoder's last values a. A bit of the finished
/// code is 1 where a is above 0, whatever is chosen here.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Binarize {
    /// The sigmoid of a and Gaussian noise, whose standard deviation grows evenly from `start` to
    /// `end` over the training: a unit that wants to say anything must saturate (Hinton and
    /// Salakhutdinov, *Semantic hashing*, 2009).
    Noise {
        /// Standard deviation in the first step.
        start: f64,
        /// Standard deviation in the last step.
        end: f64,
    },
    /// The sigmoid, rounded forward, the identity backward (straight-through; Bengio, Leonard and
    /// Courville, 2013).
    Round,
    /// A draw that is 1 with the sigmoid's probability forward, the identity backward: a stochastic
    /// encoder.
    Sample,
    /// The sigmoid as it is.
    Sigmoid,
    /// The value a itself: without hidden layers a linear autoencoder, which learns the subspace of
    /// the principal components (Baldi and Hornik, 1989).
    Linear,
    /// A draw from the normal distribution of mean a and of a variance that the encoder gives too:
    /// a variational autoencoder (Kingma and Welling, 2014).
    Gaussian,
}

impl Binarize {
    /// Whether the decoder reads the sigmoid of a or a bit, so a number from 0 to 1.
    pub(in crate::model) fn is_logistic(self) -> bool {
        !matches!(self, Self::Linear | Self::Gaussian)
    }
}

/// Who is near whom among the codes should be as it is among the features; for dense features.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Similarity {
    /// Beside the reconstruction's 1, for 128 bits; it is multiplied by the square of bits / 128, as
    /// only wide codes have room for an order: narrow ones do better to tell groups apart.
    pub weight: f64,
    /// How far one looks: smaller counts the nearest rows of a batch alone.
    pub temperature: f64,
}

/// What is done to the encoder's input in training, while the decoder must still give back what was
/// there before: a denoising autoencoder (Vincent et al., *Stacked denoising autoencoders*, 2010).
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Corruption {
    /// Each number becomes 0 with this probability; in a bag of words, each word is left out.
    Masking(f64),
    /// Normal noise of this standard deviation is added to each number.
    Gaussian(f64),
    /// Each number becomes the smallest or the largest of the training set with this probability,
    /// one as often as the other.
    SaltAndPepper(f64),
}

/// What keeps most units of a layer quiet. An activation h is the code layer's sigmoid (the value
/// itself where the code layer is linear) or what a hidden layer gives.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sparsity {
    /// `weight` times the mean of |h|: a Laplace prior (Olshausen and Field, 1996).
    L1 {
        /// Beside the reconstruction's 1.
        weight: f64,
    },
    /// `weight` times the mean over units of KL(target || m), where m is the unit's mean in the
    /// batch (Lee, Ekanadham and Ng, 2008).
    Kl {
        /// Beside the reconstruction's 1.
        weight: f64,
        /// The mean that every unit should have.
        target: f64,
    },
    /// Only this many units of the code, those of the largest values, are 1, in training as in the
    /// finished codes (Makhzani and Frey, *k-sparse autoencoders*, 2014).
    Top(usize),
}

/// What turns errors into changes of the weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Procedure {
    /// Gradients of the loss by back-propagation.
    Backpropagation,
    /// Each layer learns from how its own values change when a reconstruction goes round once more
    /// (Hinton and McClelland, 1988); for one layer each way.
    Recirculation,
}

/// Restricted Boltzmann machines, layer upon layer, as a start for the network (Hinton and
/// Salakhutdinov, *Reducing the dimensionality of data with neural networks*, 2006).
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Pretraining {
    /// Passes over the training rows for each layer.
    pub epochs: usize,
    /// Adam's step size.
    pub learning_rate: f64,
}

impl Default for Pretraining {
    fn default() -> Self {
        Self { epochs: 10, learning_rate: 1e-2 }
    }
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

/// What neighbours are found by: the cosine of
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Likeness {
    /// the features that the network reads.
    #[default]
    Features,
    /// histograms of the directions of edges in cells of an image (Dalal and Triggs, *Histograms of
    /// oriented gradients for human detection*, 2005); for images. They bear a stroke's being moved or made
    /// bolder, and the network, which reads pixels all the same, learns to bear it too. While neighbours are
    /// searched for they take 2.3 KB a row.
    Edges,
}

impl Likeness {
    /// Whether it is by features, which older files do not mention.
    fn is_by_features(&self) -> bool {
        *self == Self::Features
    }
}

/// How to use the k-nearest-neighbour graph of the training rows.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct NeighbourOptions {
    /// Neighbours of a row, 1..=1000. In a small set take few: others are no longer near.
    pub count: usize,
    /// What they are found by.
    #[serde(default, skip_serializing_if = "Likeness::is_by_features")]
    pub likeness: Likeness,
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
    /// Share of the partners that are, in place of the end of a walk, one of the rows nearest by the
    /// code layer's values, half as many as `count`, found anew before each epoch but the first two. What was learned so far
    /// relates texts that share few words (nearest neighbours as positives: Dwibedi et al., *With a
    /// little help from my friends*, 2021).
    #[serde(default, skip_serializing_if = "is_none")]
    pub learned: f64,
}

/// Whether a share is 0, which older files do not mention.
fn is_none(share: &f64) -> bool {
    *share == 0.0
}

/// The memory that the rows of a training may take.
///
/// Rows whose features need no more are in memory, and nothing is different. Others go to a scratch file,
/// once, from which each epoch reads them in blocks: the blocks in random order, half of the memory's
/// worth at a time, and the rows of these in random order (Xu et al., *In-database machine learning
/// with CorgiPile*, 2022). What looks at all rows at once then looks at a sample, spread over all
/// rows: at most 20,000, in an eighth of the memory. Neighbours of a row are rows of the sample; the start from
/// ITQ and Boltzmann machines learn from it. As many rows are held out at most.
///
/// Beside the rows there are the network, its checkpoint, the search for neighbours (up to 64 MiB a
/// thread, and what is compared of the sample, where that is its [`Likeness::Edges`]), and where the words
/// of texts are counted, each different word.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Memory {
    /// Bytes, at least 1 MiB.
    pub bytes: u64,
    /// The folder of the scratch file, which has no name there and goes with the process; `None`: that
    /// for temporary files. It is no part of the model file.
    #[serde(skip)]
    pub scratch: Option<PathBuf>,
}

impl Memory {
    /// The folder of the scratch file.
    pub(in crate::model) fn folder(&self) -> PathBuf {
        self.scratch.clone().unwrap_or_else(std::env::temp_dir)
    }
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
words!(Loss: "loss", Squared = "squared", Bernoulli = "bernoulli", Multinomial = "multinomial",
    Poisson = "poisson");
words!(Likeness: "likeness", Features = "features", Edges = "edges");
words!(Procedure: "procedure",
    Backpropagation = "backpropagation", Recirculation = "recirculation");
words!(Schedule: "schedule", Constant = "constant", Linear = "linear", Cosine = "cosine");
