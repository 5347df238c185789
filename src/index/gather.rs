//! Copies codes side by side, so that a kernel can compare them in one go.

/// Fills `to` with the codes of some rows of `from`, whose shape is (rows, words), in their order.
/// The memory finds many at once.
pub(super) fn gather(
    from: &[u64],
    words: usize,
    rows: impl ExactSizeIterator<Item = u32>,
    to: &mut Vec<u64>,
) {
    to.clear();
    to.resize(rows.len() * words, 0);
    // Where the length is a constant, a code is copied without a call.
    match words {
        1 => copy(from, rows, 1, to),
        2 => copy(from, rows, 2, to),
        4 => copy(from, rows, 4, to),
        _ => copy(from, rows, words, to),
    }
}

#[inline(always)]
fn copy(from: &[u64], rows: impl Iterator<Item = u32>, words: usize, to: &mut [u64]) {
    for (to, row) in to.chunks_exact_mut(words).zip(rows) {
        to.copy_from_slice(&from[row as usize * words..][..words]);
    }
}
