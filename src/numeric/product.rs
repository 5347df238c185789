//! Dense products: C = A B, where A and B are matrices of [`Matrix`](crate::Matrix)'s layout or
//! their transposes.

use nalgebra::{Dyn, MatrixView, MatrixViewMut};

/// A matrix that is looked at through two strides, so that a transpose costs nothing.
pub(crate) type View<'a> = MatrixView<'a, f32, Dyn, Dyn, Dyn, Dyn>;

/// Numbers that stand row after row, `cols` to a row, as a matrix of shape (rows, cols).
pub(crate) fn rows_of(values: &[f32], cols: usize) -> View<'_> {
    View::from_slice_with_strides(values, values.len() / cols.max(1), cols, cols, 1)
}

/// Numbers that stand row after row, `cols` to a row, as the transpose: shape (cols, rows).
pub(crate) fn transpose_of(values: &[f32], cols: usize) -> View<'_> {
    View::from_slice_with_strides(values, cols, values.len() / cols.max(1), 1, cols)
}

/// Shapes with a side up to this go through plain loops.
const SMALL: usize = 8;

/// Writes A B to `out`, row after row.
///
/// # Panics
/// Where the shapes do not fit.
pub(crate) fn multiply_into(a: View<'_>, b: View<'_>, out: &mut [f32]) {
    let (rows, inner, cols) = (a.nrows(), a.ncols(), b.ncols());
    assert_eq!(inner, b.nrows(), "a product of {:?} and {:?}", a.shape(), b.shape());
    assert_eq!(
        out.len(),
        rows * cols,
        "room for the product of {:?} and {:?}",
        a.shape(),
        b.shape()
    );
    if rows.min(inner).min(cols) <= SMALL {
        // nalgebra 0.35 leaves small shapes to a routine that steps outside views with strides.
        for (i, out) in out.chunks_exact_mut(cols.max(1)).enumerate() {
            for (j, out) in out.iter_mut().enumerate() {
                *out = (0..inner).map(|k| a[(i, k)] * b[(k, j)]).sum();
            }
        }
        return;
    }
    MatrixViewMut::from_slice_with_strides_generic(out, Dyn(rows), Dyn(cols), Dyn(cols), Dyn(1))
        .gemm(1.0, &a, &b, 0.0);
}
