//! A whole file in memory, as an encoder or an index takes it.

use super::rows::{Rows, open};
use super::{Origin, ReadOptions, SourceKind};
use crate::code::{Codes, Width};
use crate::error::{Error, Result};
use crate::input::{Images, Inputs, Matrix};
use crate::record::{NewRecord, Payload, Source};

/// The rows of a file.
#[derive(Clone, PartialEq, Debug)]
pub struct Dataset {
    /// The id of each row.
    pub ids: Vec<String>,
    /// The source of each row.
    pub inputs: Inputs,
    /// The label of each row, where each row has one.
    pub labels: Option<Vec<String>>,
}

/// Reads a file of texts, vectors or pictures.
///
/// # Errors
/// Any row that is wrong, no row, codes, or, where [`ReadOptions::label_field`] is set, a row
/// without a label.
pub fn load(origin: &Origin, options: &ReadOptions) -> Result<Dataset> {
    let rows = open(origin, options)?;
    let name = rows.name().to_owned();
    let mut collected: Option<Collected> = None;
    let mut ids = Vec::new();
    let mut labels = Some(Vec::new());
    let capacity = capacity(&rows);
    for row in rows {
        let row = row?;
        let NewRecord { id, source, payload } = row.record?;
        let source = source.ok_or_else(|| Error::invalid(&name, "a row has no source"))?;
        let label = label(&payload, options, || row.place.to_string())?;
        ids.extend(id.map(|id| id.as_str().to_owned()));
        // One row without a label, and there are none: half of them answers no question.
        labels = labels.zip(label).map(|(mut labels, label)| {
            labels.push(label);
            labels
        });
        match &mut collected {
            Some(collected) => collected.push(source),
            None => collected = Some(Collected::first(source, capacity, &name)?),
        }
    }
    let inputs = collected.ok_or_else(|| Error::invalid(&name, "the file holds no rows"))?;
    Ok(Dataset { ids, inputs: inputs.into_inputs(), labels })
}

fn label(
    payload: &Payload,
    options: &ReadOptions,
    place: impl FnOnce() -> String,
) -> Result<Option<String>> {
    let field = options.label_field();
    let label = payload.text(field);
    if label.is_none() && options.label_field.is_some() {
        return Err(Error::invalid(
            place(),
            format!(
                "there is no label {field:?}; name the field with --label-field, or a file of labels with --labels"
            ),
        ));
    }
    Ok(label)
}

/// Reads a file of codes, such as a u8 .npy of shape (rows, `width.bytes()`), in the bit order of
/// [`Code`](crate::Code) unless `options` say otherwise.
///
/// # Errors
/// Any row that is wrong, or no row.
pub fn load_codes(origin: &Origin, width: Width, options: &ReadOptions) -> Result<Codes> {
    let mut options = options.clone();
    if !matches!(options.source, Some(SourceKind::Code { width: w, .. }) if w == width) {
        options.source = Some(SourceKind::Code { width, bit_order: Default::default() });
    }
    let rows = open(origin, &options)?;
    let mut codes = Codes::with_capacity(width, capacity(&rows));
    for row in rows {
        if let Some(Source::Code(code)) = row?.record?.source {
            codes.push(&code)?;
        }
    }
    Ok(codes)
}

/// Room for all rows, where their number is certain.
fn capacity(rows: &Rows) -> usize {
    rows.total_rows().and_then(|rows| rows.try_into().ok()).unwrap_or(0)
}

/// Sources of one kind and shape, which [`Rows`] sees to.
enum Collected {
    Texts(Vec<String>),
    Vectors { dim: usize, values: Vec<f32> },
    Images(Images),
}

impl Collected {
    fn first(source: Source, rows: usize, name: &str) -> Result<Self> {
        let mut collected = match &source {
            Source::Text(_) => Self::Texts(Vec::new()),
            Source::Vector(vector) => {
                let dim = vector.len();
                Self::Vectors { dim, values: Vec::with_capacity(rows.saturating_mul(dim)) }
            }
            Source::Image(image) => {
                let (height, width) = (image.height, image.width);
                let pixels = Vec::with_capacity(rows.saturating_mul(height * width));
                Self::Images(Images { height, width, pixels })
            }
            Source::Code(_) => {
                let message = "expected texts, vectors or pictures, got codes";
                return Err(Error::invalid(name, message));
            }
        };
        collected.push(source);
        Ok(collected)
    }

    fn push(&mut self, source: Source) {
        match (self, source) {
            (Self::Texts(texts), Source::Text(text)) => texts.push(text),
            (Self::Vectors { values, .. }, Source::Vector(vector)) => values.extend(vector),
            (Self::Images(images), Source::Image(image)) => images.pixels.extend(image.pixels),
            _ => unreachable!("rows of a file are of one kind"),
        }
    }

    fn into_inputs(self) -> Inputs {
        match self {
            Self::Texts(texts) => Inputs::Texts(texts),
            Self::Vectors { dim, values } => {
                Inputs::Vectors(Matrix::new(values.len() / dim, dim, values))
            }
            Self::Images(images) => Inputs::Images(images),
        }
    }
}
