//! Encoders: what a collection turns sources into codes with.
//!
//! A collection belongs to one encoder for life. Its description is kept with the collection, a
//! learned model by name and digest, so that codes of another model are never mixed in.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::code::{Code, Codes, Width};
use crate::error::{Error, Result};
use crate::input::{Image, Images, InputKind, Inputs, Matrix};
use crate::model::Model;
use crate::model::hyperplanes::Hyperplanes;
use crate::record::Source;

/// The encoder that a new collection is to have.
///
/// ```
/// use nearbit::{EncoderSpec, InputKind, Width};
///
/// let learned = EncoderSpec::Model("news@2".to_owned());
/// let untrained =
///     EncoderSpec::Hyperplanes { input: InputKind::Text, width: Width::new(64)?, seed: 0 };
/// let none = EncoderSpec::Codes { width: Width::new(64)? };
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub enum EncoderSpec {
    /// A learned model of the database: `name`, or `name@version`.
    Model(String),
    /// Random hyperplanes: needs no training, so a collection works from its first record.
    Hyperplanes {
        /// What it takes.
        input: InputKind,
        /// The width of its codes.
        width: Width,
        /// The seed that draws the hyperplanes.
        seed: u64,
    },
    /// None: records and queries bring their codes.
    Codes {
        /// The width of the codes.
        width: Width,
    },
}

/// A collection's encoder, described.
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// use nearbit::{EncoderInfo, InputKind};
///
/// let expected = EncoderInfo::Hyperplanes { input: InputKind::Text, bits: 64, seed: 0 };
/// assert_eq!(notes.info().encoder, expected);
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EncoderInfo {
    /// A learned model.
    Model {
        /// Its name and version in the database, as in `news@1`.
        name: String,
        /// The BLAKE3 digest of its file, in hexadecimal digits.
        digest: String,
    },
    /// Random hyperplanes.
    Hyperplanes {
        /// What they take.
        input: InputKind,
        /// The width of a code.
        bits: usize,
        /// The seed that drew them.
        seed: u64,
    },
    /// Records and queries bring their codes.
    Codes {
        /// The width of a code.
        bits: usize,
    },
}

impl EncoderInfo {
    /// The model, as `name@version`, where there is one.
    pub(crate) fn model(&self) -> Option<&str> {
        match self {
            Self::Model { name, .. } => Some(name),
            Self::Hyperplanes { .. } | Self::Codes { .. } => None,
        }
    }
}

impl fmt::Display for EncoderInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model { name, .. } => write!(f, "model {name}"),
            Self::Hyperplanes { input, seed, .. } => {
                write!(f, "random hyperplanes over {input}, seed {seed}")
            }
            Self::Codes { .. } => write!(f, "none: records bring their codes"),
        }
    }
}

/// A working encoder.
pub(crate) enum Encoder {
    Model(Model),
    Hyperplanes(Hyperplanes),
    Codes(Width),
}

impl Encoder {
    pub(crate) fn width(&self) -> Width {
        match self {
            Self::Model(model) => model.width(),
            Self::Hyperplanes(hyperplanes) => hyperplanes.width(),
            Self::Codes(width) => *width,
        }
    }

    /// What it takes beside codes.
    pub(crate) fn input(&self) -> Option<InputKind> {
        match self {
            Self::Model(model) => Some(model.input()),
            Self::Hyperplanes(hyperplanes) => Some(hyperplanes.input()),
            Self::Codes(_) => None,
        }
    }

    /// The codes of `sources`, in their order.
    ///
    /// # Errors
    /// A source that does not fit, named by its number among `sources`.
    pub(crate) fn encode(&self, sources: &[&Source]) -> Result<Vec<Code>, (usize, Error)> {
        let mut codes = vec![None; sources.len()];
        let mut rows = Vec::new();
        for (i, source) in sources.iter().enumerate() {
            self.check(source).map_err(|error| (i, error))?;
            match source {
                Source::Code(code) => codes[i] = Some(code.clone()),
                _ => rows.push(i),
            }
        }
        if !rows.is_empty() {
            let chosen: Vec<&Source> = rows.iter().map(|&i| sources[i]).collect();
            let encoded = self.encode_checked(&chosen).map_err(|error| (rows[0], error))?;
            for (row, i) in rows.into_iter().enumerate() {
                codes[i] = Some(encoded.get(row));
            }
        }
        Ok(codes.into_iter().flatten().collect())
    }

    /// The values that the code of `source` is made from: a bit is 1 where its value is above 0.
    ///
    /// # Errors
    /// A source that does not fit, or one that is a code: it was made from no values.
    pub(crate) fn values(&self, source: &Source) -> Result<Vec<f32>> {
        self.check(source)?;
        let inputs = gather(&[source]);
        let values = match (self, source) {
            (_, Source::Code(_)) | (Self::Codes(_), _) => {
                return Err(Error::invalid("code", "expected a source, got a code"));
            }
            (Self::Model(model), _) => model.logits(&inputs)?,
            (Self::Hyperplanes(hyperplanes), _) => hyperplanes.products(&inputs)?,
        };
        Ok(values.values().to_vec())
    }

    /// An error where the encoder cannot take `source`.
    pub(crate) fn check(&self, source: &Source) -> Result<()> {
        let got = match source {
            Source::Code(code) if code.width() == self.width() => return Ok(()),
            Source::Code(code) => {
                let message = format!("expected {}, got {}", self.width(), code.width());
                return Err(Error::invalid("code", message));
            }
            Source::Text(_) => InputKind::Text,
            Source::Vector(vector) => InputKind::Vector { dim: vector.len() },
            Source::Image(Image { height, width, pixels }) => {
                if pixels.len() != height * width {
                    let message = format!("{height} x {width} pixels, got {}", pixels.len());
                    return Err(Error::invalid("image", format!("expected {message} bytes")));
                }
                InputKind::Image { height: *height, width: *width }
            }
        };
        let expected = match self.input() {
            Some(input) if input == got => return self.check_finite(source),
            Some(input) => input.to_string(),
            None => "codes only: the collection has no encoder".to_owned(),
        };
        Err(Error::invalid(source.kind(), format!("the collection takes {expected}, got {got}")))
    }

    fn check_finite(&self, source: &Source) -> Result<()> {
        let Source::Vector(vector) = source else { return Ok(()) };
        match vector.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(i) => Err(Error::invalid(
                format!("vector[{i}]"),
                format!("expected a finite number, got {}", vector[i]),
            )),
        }
    }

    /// The codes of sources that were checked; none of them is a code.
    fn encode_checked(&self, sources: &[&Source]) -> Result<Codes> {
        let inputs = gather(sources);
        match self {
            Self::Model(model) => model.encode(&inputs),
            Self::Hyperplanes(hyperplanes) => hyperplanes.encode(&inputs),
            Self::Codes(width) => Ok(Codes::new(*width)),
        }
    }
}

/// Sources of one kind and shape as the rows of one input.
fn gather(sources: &[&Source]) -> Inputs {
    match sources.first() {
        Some(Source::Vector(first)) => {
            let cols = first.len();
            let rows = sources.iter().filter_map(|source| match source {
                Source::Vector(vector) => Some(vector.as_slice()),
                _ => None,
            });
            Inputs::Vectors(Matrix::new(sources.len(), cols, rows.flatten().copied().collect()))
        }
        Some(Source::Image(first)) => {
            let rows = sources.iter().filter_map(|source| match source {
                Source::Image(image) => Some(image.pixels.as_slice()),
                _ => None,
            });
            Inputs::Images(Images {
                height: first.height,
                width: first.width,
                pixels: rows.flatten().copied().collect(),
            })
        }
        _ => Inputs::Texts(
            sources
                .iter()
                .filter_map(|source| match source {
                    Source::Text(text) => Some(text.clone()),
                    _ => None,
                })
                .collect(),
        ),
    }
}
