//! What goes into an encoder: texts, vectors or images, many at a time.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Rows of numbers: shape (rows, cols), row after row.
///
/// ```
/// use nearbit::Matrix;
///
/// let matrix = Matrix::new(2, 3, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
/// assert_eq!((matrix.rows(), matrix.cols()), (2, 3));
/// assert_eq!(matrix.row(1), [4.0, 5.0, 6.0]);
/// assert_eq!(matrix.select(&[1, 0]).values(), [4.0, 5.0, 6.0, 1.0, 2.0, 3.0]);
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Matrix {
    rows: usize,
    cols: usize,
    values: Vec<f32>,
}

impl Matrix {
    /// A matrix of `values`, row after row.
    ///
    /// # Panics
    /// Where `values` does not hold rows x cols numbers.
    pub fn new(rows: usize, cols: usize, values: Vec<f32>) -> Self {
        assert_eq!(values.len(), rows * cols, "a {rows} x {cols} matrix of {}", values.len());
        Self { rows, cols, values }
    }

    /// A matrix of zeros.
    pub fn zeros(rows: usize, cols: usize) -> Self {
        Self { rows, cols, values: vec![0.0; rows * cols] }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Row `i`.
    ///
    /// # Panics
    /// Where `i` is not below `rows()`, as indexing a slice does.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.cols..(i + 1) * self.cols]
    }

    /// Row `i`, to write to.
    ///
    /// # Panics
    /// Where `i` is not below `rows()`, as indexing a slice does.
    pub fn row_mut(&mut self, i: usize) -> &mut [f32] {
        &mut self.values[i * self.cols..(i + 1) * self.cols]
    }

    /// Every row in turn. A matrix without columns has no rows to show.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.cols.max(1))
    }

    /// All values, row after row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The rows of the given numbers, in their order.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        let values = rows.iter().flat_map(|&i| self.row(i)).copied().collect();
        Self { rows: rows.len(), cols: self.cols, values }
    }

    /// Adds the rows of `other`, which has as many columns.
    pub(crate) fn append(&mut self, other: &Self) {
        debug_assert_eq!(self.cols, other.cols);
        self.rows += other.rows;
        self.values.extend_from_slice(&other.values);
    }

    /// Takes the rows of these numbers out, which ascend; the others close up, in their order and in
    /// their place: no second matrix is made.
    pub(crate) fn take(&mut self, rows: &[usize]) -> Self {
        let taken = self.select(rows);
        let mut kept = 0;
        for i in others(self.rows, rows) {
            self.values.copy_within(i * self.cols..(i + 1) * self.cols, kept * self.cols);
            kept += 1;
        }
        self.rows = kept;
        self.values.truncate(kept * self.cols);
        taken
    }
}

/// The numbers below `n` that are not among `rows`, which ascend.
fn others(n: usize, rows: &[usize]) -> impl Iterator<Item = usize> {
    let mut rows = rows.iter().peekable();
    (0..n).filter(move |i| rows.next_if_eq(&i).is_none())
}

/// A grey picture, row after row from the top, a byte a pixel.
///
/// ```
/// let dot = nearbit::Image { height: 3, width: 3, pixels: vec![0, 0, 0, 0, 255, 0, 0, 0, 0] };
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    /// Pixels from top to bottom.
    pub height: usize,
    /// Pixels from left to right.
    pub width: usize,
    /// height x width bytes.
    pub pixels: Vec<u8>,
}

/// Grey pictures of one size: shape (rows, height, width), a byte a pixel.
///
/// ```
/// let images = nearbit::Images { height: 1, width: 2, pixels: vec![0, 255, 255, 0] };
/// assert_eq!(images.len(), 2);
/// assert_eq!(images.row(1), [255, 0]);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Images {
    /// Pixels from top to bottom.
    pub height: usize,
    /// Pixels from left to right.
    pub width: usize,
    /// rows x height x width bytes.
    pub pixels: Vec<u8>,
}

impl Images {
    /// The number of pictures.
    pub fn len(&self) -> usize {
        self.pixels.len() / (self.height * self.width).max(1)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }

    /// The pixels of picture `i`.
    ///
    /// # Panics
    /// Where `i` is not below `len()`, as indexing a slice does.
    pub fn row(&self, i: usize) -> &[u8] {
        let n = self.height * self.width;
        &self.pixels[i * n..(i + 1) * n]
    }
}

/// Rows of one kind for an encoder.
///
/// ```
/// use nearbit::{InputKind, Inputs};
///
/// let texts = Inputs::Texts(vec!["a map".to_owned(), "a key".to_owned(), "a door".to_owned()]);
/// assert_eq!((texts.len(), texts.kind()), (3, InputKind::Text));
/// assert_eq!(texts.select(&[2]), Inputs::Texts(vec!["a door".to_owned()]));
/// ```
#[derive(Clone, PartialEq, Debug)]
pub enum Inputs {
    /// Running texts.
    Texts(Vec<String>),
    /// Dense vectors, one a row.
    Vectors(Matrix),
    /// Grey pictures of one size.
    Images(Images),
}

impl Inputs {
    /// The number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Vectors(vectors) => vectors.rows(),
            Self::Images(images) => images.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The kind and shape of a row.
    pub fn kind(&self) -> InputKind {
        match self {
            Self::Texts(_) => InputKind::Text,
            Self::Vectors(vectors) => InputKind::Vector { dim: vectors.cols() },
            Self::Images(Images { height, width, .. }) => {
                InputKind::Image { height: *height, width: *width }
            }
        }
    }

    /// The rows of the given numbers, in their order.
    ///
    /// # Panics
    /// Where a number is not below `len()`, as indexing a slice does.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        match self {
            Self::Texts(texts) => Self::Texts(rows.iter().map(|&i| texts[i].clone()).collect()),
            Self::Vectors(vectors) => Self::Vectors(vectors.select(rows)),
            Self::Images(images) => Self::Images(Images {
                height: images.height,
                width: images.width,
                pixels: rows.iter().flat_map(|&i| images.row(i)).copied().collect(),
            }),
        }
    }
}

/// The kind and shape of one row that an encoder takes.
///
/// ```
/// use nearbit::InputKind;
///
/// let encoder = InputKind::Vector { dim: 384 };
/// let error = encoder.check(InputKind::Vector { dim: 768 }).unwrap_err().to_string();
/// assert!(error.contains("takes vectors of 384 numbers, got vectors of 768"), "{error}");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    /// Running text.
    Text,
    /// A vector of `dim` numbers.
    Vector {
        /// Numbers a vector.
        dim: usize,
    },
    /// A grey picture.
    Image {
        /// Pixels from top to bottom.
        height: usize,
        /// Pixels from left to right.
        width: usize,
    },
}

impl InputKind {
    /// An error where a row of kind `got` cannot go into an encoder of this kind.
    pub fn check(self, got: Self) -> Result<()> {
        if self == got {
            return Ok(());
        }
        Err(Error::invalid("input", format!("the encoder takes {self}, got {got}")))
    }
}

impl std::fmt::Display for InputKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text => write!(f, "text"),
            Self::Vector { dim } => write!(f, "vectors of {dim} numbers"),
            Self::Image { height, width } => write!(f, "images of {height} x {width} pixels"),
        }
    }
}

/// Rows of numbers that are mostly zero: shape (rows, cols), compressed by rows.
///
/// ```
/// use nearbit::Sparse;
///
/// let mut words = Sparse::new(10_000);
/// words.push([(7, 0.6), (4_211, 0.8)]);
/// assert_eq!((words.rows(), words.cols()), (1, 10_000));
/// assert_eq!(words.row(0), (&[7, 4_211][..], &[0.6, 0.8][..]));
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Sparse {
    cols: usize,
    /// Row `i` is `starts[i]..starts[i + 1]` of the other two.
    starts: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
}

impl Sparse {
    /// A matrix of no rows yet.
    pub fn new(cols: usize) -> Self {
        Self { cols, starts: vec![0], columns: Vec::new(), values: Vec::new() }
    }

    /// Adds a row: (column, value) pairs, columns ascending and below `cols()`.
    pub fn push(&mut self, row: impl IntoIterator<Item = (u32, f32)>) {
        for (column, value) in row {
            debug_assert!((column as usize) < self.cols);
            self.columns.push(column);
            self.values.push(value);
        }
        self.starts.push(self.columns.len());
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// The number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The columns and the values of row `i`.
    ///
    /// # Panics
    /// Where `i` is not below `rows()`, as indexing a slice does.
    pub fn row(&self, i: usize) -> (&[u32], &[f32]) {
        let range = self.starts[i]..self.starts[i + 1];
        (&self.columns[range.clone()], &self.values[range])
    }

    /// The rows of the given numbers, in their order.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        let mut selected = Self::new(self.cols);
        for &i in rows {
            let (columns, values) = self.row(i);
            selected.push(columns.iter().copied().zip(values.iter().copied()));
        }
        selected
    }

    /// Adds the rows of `other`, which has as many columns.
    pub(crate) fn append(&mut self, other: &Self) {
        debug_assert_eq!(self.cols, other.cols);
        let before = self.columns.len();
        self.starts.extend(other.starts[1..].iter().map(|start| before + start));
        self.columns.extend_from_slice(&other.columns);
        self.values.extend_from_slice(&other.values);
    }

    /// Takes the rows of these numbers out, which ascend, as [`Matrix::take`] does.
    pub(crate) fn take(&mut self, rows: &[usize]) -> Self {
        let taken = self.select(rows);
        let (mut kept, mut end) = (0, 0);
        for i in others(self.rows(), rows) {
            let range = self.starts[i]..self.starts[i + 1];
            self.columns.copy_within(range.clone(), end);
            self.values.copy_within(range.clone(), end);
            // No start that is still to be read: `kept` is at most i.
            self.starts[kept] = end;
            (kept, end) = (kept + 1, end + range.len());
        }
        self.starts[kept] = end;
        self.starts.truncate(kept + 1);
        self.columns.truncate(end);
        self.values.truncate(end);
        taken
    }
}

/// Inputs as numbers: what a feature pipeline makes of them and a network takes.
///
/// ```
/// use nearbit::{Features, Matrix};
///
/// let features = Features::Dense(Matrix::zeros(3, 2));
/// assert_eq!((features.rows(), features.cols(), features.select(&[0]).rows()), (3, 2, 1));
/// ```
#[derive(Clone, PartialEq, Debug)]
pub enum Features {
    /// One dense row an input: vectors and images.
    Dense(Matrix),
    /// One sparse row an input: texts.
    Sparse(Sparse),
}

impl Features {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        match self {
            Self::Dense(dense) => dense.rows(),
            Self::Sparse(sparse) => sparse.rows(),
        }
    }

    /// The number of columns.
    pub fn cols(&self) -> usize {
        match self {
            Self::Dense(dense) => dense.cols(),
            Self::Sparse(sparse) => sparse.cols(),
        }
    }

    /// The rows of the given numbers, in their order.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        match self {
            Self::Dense(dense) => Self::Dense(dense.select(rows)),
            Self::Sparse(sparse) => Self::Sparse(sparse.select(rows)),
        }
    }

    /// Adds the rows of `other`, which is of the same kind and has as many columns.
    pub(crate) fn append(&mut self, other: &Self) {
        match (self, other) {
            (Self::Dense(dense), Self::Dense(other)) => dense.append(other),
            (Self::Sparse(sparse), Self::Sparse(other)) => sparse.append(other),
            _ => unreachable!("rows of one pipeline are of one kind"),
        }
    }

    /// Takes the rows of these numbers out, which ascend; the others close up in their order, and no
    /// second table is made.
    pub(crate) fn take(&mut self, rows: &[usize]) -> Self {
        match self {
            Self::Dense(dense) => Self::Dense(dense.take(rows)),
            Self::Sparse(sparse) => Self::Sparse(sparse.take(rows)),
        }
    }

    /// The memory that the rows take, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::Dense(dense) => 4 * dense.values.len(),
            Self::Sparse(sparse) => 8 * (sparse.values.len() + sparse.rows()),
        };
        bytes as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn both(rows: &[Vec<u8>]) -> [Features; 2] {
        let mut sparse = Sparse::new(3);
        for row in rows {
            let present = row.iter().enumerate().filter(|(_, value)| **value > 1);
            sparse.push(present.map(|(column, &value)| (column as u32, f32::from(value))));
        }
        let values = rows.iter().flatten().map(|&value| f32::from(value)).collect();
        [Features::Dense(Matrix::new(rows.len(), 3, values)), Features::Sparse(sparse)]
    }

    proptest! {
        /// Beside `select`, which makes new tables.
        #[test]
        fn taking_rows_out_and_appending_rows_is_selecting_them(
            rows in proptest::collection::vec((any::<bool>(), proptest::collection::vec(0u8..4, 3)), 0..20),
        ) {
            let numbers = |out: bool| -> Vec<usize> {
                (0..rows.len()).filter(|&i| rows[i].0 == out).collect()
            };
            let (out, left) = (numbers(true), numbers(false));
            for features in both(&rows.iter().map(|row| row.1.clone()).collect::<Vec<_>>()) {
                let mut rest = features.clone();
                let taken = rest.take(&out);
                prop_assert_eq!(&taken, &features.select(&out));
                prop_assert_eq!(&rest, &features.select(&left));
                rest.append(&taken);
                prop_assert_eq!(rest, features.select(&[left.clone(), out.clone()].concat()));
            }
        }
    }
}
