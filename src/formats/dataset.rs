//! A whole file in memory, as an encoder or an index takes it.

use super::place::Place;
use super::rows::{Rows, open};
use super::{Origin, ReadOptions, SourceKind};
use crate::code::{Codes, Width};
use crate::error::{Error, Result};
use crate::input::{Images, Inputs, Matrix};
use crate::record::{NewRecord, Source};

/// Rows of a file, by columns.
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
    let mut rows = open(origin, options)?;
    let all = rows.next_rows(usize::MAX)?;
    all.ok_or_else(|| Error::invalid(rows.name(), "the file holds no rows"))
}

/// At most `most` rows of a file, spread evenly over all of its `rows`.
///
/// # Errors
/// As [`load`].
pub fn load_spread(
    origin: &Origin,
    options: &ReadOptions,
    rows: usize,
    most: usize,
) -> Result<Dataset> {
    let count = rows.min(most);
    let first = options.first_row;
    let wanted = |number: u64| {
        // Whether a multiple of rows / count lies in number..number + 1.
        let at = (number - first) as u128 * count as u128;
        at.div_ceil(rows as u128) * (rows as u128) < at + count as u128
    };
    let mut file = open(origin, options)?;
    let chosen = file.next_wanted(count, wanted)?;
    chosen.ok_or_else(|| Error::invalid(file.name(), "the file holds no rows"))
}

/// Bytes of the rows that [`Rows::into_inputs`] gives together.
const PART_BYTES: usize = 16 << 20;
/// The most of these rows, and how many come first, when it is not known how long they are.
const PART_ROWS: (usize, usize) = (8192, 64);

impl Rows {
    /// The sources of all rows, in parts of some megabytes.
    pub fn into_inputs(mut self) -> impl Iterator<Item = Result<Inputs>> {
        let (most, mut limit) = PART_ROWS;
        std::iter::from_fn(move || {
            let part = self.next_rows(limit).transpose()?;
            Some(part.map(|part| {
                let bytes = match &part.inputs {
                    Inputs::Texts(texts) => texts.iter().map(String::len).sum(),
                    Inputs::Vectors(vectors) => 4 * vectors.values().len(),
                    Inputs::Images(images) => images.pixels.len(),
                };
                limit = (part.ids.len() * PART_BYTES / bytes.max(1)).clamp(1, most);
                part.inputs
            }))
        })
    }

    /// At most `limit` further rows together; `None` at the end.
    ///
    /// # Errors
    /// As [`load`].
    pub fn next_rows(&mut self, limit: usize) -> Result<Option<Dataset>> {
        self.next_wanted(limit, |_| true)
    }

    /// At most `limit` further rows of the numbers that are wanted.
    fn next_wanted(
        &mut self,
        limit: usize,
        wanted: impl Fn(u64) -> bool,
    ) -> Result<Option<Dataset>> {
        let capacity = capacity(self).min(limit);
        let mut inputs: Option<Collected> = None;
        let mut ids = Vec::with_capacity(capacity);
        let mut labels = Some(Vec::new());
        while ids.len() < limit
            && let Some(row) = self.next().transpose()?
        {
            if !wanted(row.number) {
                continue;
            }
            let NewRecord { id, source, payload } = row.record?;
            let (Some(id), Some(source)) = (id, source) else {
                return Err(Error::invalid(row.place.to_string(), "expected an id and a source"));
            };
            let label = payload.text(self.label_field());
            if label.is_none() && self.label_required() {
                let message = format!(
                    "there is no label {:?}; name the field with --label-field, or a file of \
                     labels with --labels",
                    self.label_field()
                );
                return Err(Error::invalid(row.place.to_string(), message));
            }
            ids.push(id.as_str().to_owned());
            // One row without a label, and there are none: half of them answers no question.
            labels = labels.zip(label).map(|(mut labels, label)| {
                labels.push(label);
                labels
            });
            match &mut inputs {
                Some(inputs) => inputs.push(source),
                None => inputs = Some(Collected::first(source, capacity, &row.place)?),
            }
        }
        Ok(inputs.map(|inputs| Dataset { ids, inputs: inputs.into_inputs(), labels }))
    }
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
    fn first(source: Source, rows: usize, place: &Place) -> Result<Self> {
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
                return Err(Error::invalid(place.to_string(), message));
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
