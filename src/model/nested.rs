//! Nested codes: the first bits of a code are a code of their own, so that one training serves
//! every width.
//!
//! ```text
//! loss = mean over widths w of L(z[..w])        w: those asked for, and that of the whole code
//! ```
//!
//! Where whole codes alone are judged, each bit is good in the company of all others, and the first few
//! are whatever they happen to be. Judged at every width, what matters most goes to the front
//! (Kusupati et al., *Matryoshka representation learning*, 2022, with equal weights).
//!
//! The encoder runs once. Contrast and similarity, which see the code alone, are computed at every width.
//! The reconstruction costs as much as all the rest, so a step gives back its rows from one width, drawn
//! anew each time: the bits beyond are left out, 0 to the decoder (Rippel, Gelbart and Adams, *Learning
//! ordered representations with nested dropout*, 2014, with equal shares for a few widths in place of
//! geometric ones for all). Its expectation is the same mean.

use std::path::Path;

use candle_core::{Result as CandleResult, Tensor};
use rand::{Rng, RngExt};

use super::file::{Array, Parts};
use super::options::TrainOptions;
use super::{KIND, Model};
use crate::code::Width;
use crate::error::{Error, Result};

/// The widths that a training with `options` judges codes at: the whole one is the last.
pub(super) fn widths(options: &TrainOptions) -> Vec<usize> {
    let mut widths = options.nested.clone();
    widths.push(options.bits.bits());
    widths
}

/// One of `widths`.
pub(super) fn drawn(widths: &[usize], rng: &mut impl Rng) -> usize {
    widths[rng.random_range(0..widths.len())]
}

/// The codes `z`, shape (rows, bits), without what is beyond their first `width` bits.
pub(super) fn prefix(z: &Tensor, width: usize) -> CandleResult<Tensor> {
    let (_, bits) = z.dims2()?;
    if width == bits {
        return Ok(z.clone());
    }
    let kept: Vec<f64> = (0..bits).map(|bit| f64::from(u8::from(bit < width))).collect();
    z.broadcast_mul(&Tensor::from_vec(kept, (1, bits), z.device())?.to_dtype(z.dtype())?)
}

impl Model {
    /// The widths that it makes codes of, the narrowest first: those that it was trained for beside the
    /// whole one, which is the last.
    pub fn widths(&self) -> Vec<usize> {
        widths(&self.info().options)
    }

    /// The model whose codes are the first bits of this one's: encoder, decoder and file of one that was
    /// trained for `width` alone. The same cut gives the same bytes.
    ///
    /// # Errors
    /// A width that the model was not trained for: see [`Model::widths`].
    pub fn truncated(&self, width: Width) -> Result<Self> {
        let (bits, whole) = (width.bits(), &self.info().options);
        if width == whole.bits {
            return Ok(self.clone());
        }
        if !whole.nested.contains(&bits) {
            let widths: Vec<String> = self.widths().iter().map(usize::to_string).collect();
            let message = format!(
                "expected a width that the model was trained for ({}), got {bits}; \
                 `nearbit train --nested` trains for several",
                widths.join(", ")
            );
            return Err(Error::invalid("bits", message));
        }
        let origin = Path::new("the truncated model");
        let mut parts = Parts::from_bytes(&self.0.bytes, KIND, origin)?;
        let last = format!("encoder.{}", whole.hidden.len());
        let by_bit = ["weight", "bias"].map(|part| format!("{last}.{part}"));
        let by_bit =
            by_bit.into_iter().chain(["share", "zero", "one"].map(|s| format!("code.{s}")));
        for name in by_bit {
            parts.arrays.entry(name).and_modify(|array| *array = first_columns(array, bits));
        }
        parts.arrays.entry("decoder.0.weight".into()).and_modify(|array| {
            array.values.truncate(bits * array.shape[1]);
            array.shape[0] = bits;
        });
        let nested = whole.nested.iter().copied().filter(|&narrower| narrower < bits).collect();
        let options = TrainOptions { bits: width, nested, ..whole.clone() };
        parts.put("bits", &bits)?;
        parts.put("options", &options)?;
        Self::parse(parts.to_bytes(KIND), origin)
    }
}

/// The first `count` numbers of each row, where the last dimension is the row.
fn first_columns(array: &Array, count: usize) -> Array {
    let mut shape = array.shape.clone();
    let Some(cols) = shape.last_mut() else { return array.clone() };
    let rows = array.values.chunks_exact(*cols);
    let values = rows.flat_map(|row| &row[..count]).copied().collect();
    *cols = count;
    Array { shape, values }
}
