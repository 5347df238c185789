//! The meaning of every kernel: xor, count the ones, keep what is near enough.

use super::{Found, Span, rows};
use crate::code::distance;

pub(super) fn within(
    codes: &[u64],
    query: &[u64],
    spans: &[Span],
    radius: u32,
    found: &mut Vec<Found>,
) {
    // Where the length is a constant, the loop over the words of a code is unrolled.
    match query.len() {
        1 => span_by_span(codes, &query[..1], spans, radius, found),
        2 => span_by_span(codes, &query[..2], spans, radius, found),
        4 => span_by_span(codes, &query[..4], spans, radius, found),
        _ => span_by_span(codes, query, spans, radius, found),
    }
}

#[inline(always)]
fn span_by_span(codes: &[u64], query: &[u64], spans: &[Span], radius: u32, found: &mut Vec<Found>) {
    for &span in spans {
        row_by_row(rows(codes, query.len(), span), query, span.start, radius, found);
    }
}

/// Compares rows of which the first bears the number `first`.
///
/// Always inlined, so that where a wide kernel hands its tail over here, it is compiled for the
/// CPU of that kernel.
#[inline(always)]
pub(super) fn row_by_row(
    rows: &[u64],
    query: &[u64],
    first: u32,
    radius: u32,
    found: &mut Vec<Found>,
) {
    for (row, code) in (first..).zip(rows.chunks_exact(query.len())) {
        let distance = distance(code, query);
        if distance <= radius {
            found.push(Found { row, distance });
        }
    }
}

/// Meaning of `Kernel::closest`; always inlined, as above.
#[inline(always)]
pub(super) fn closest(codes: &[u64], query: &[u64]) -> Option<Found> {
    let rows = (0..).zip(codes.chunks_exact(query.len()));
    rows.map(|(row, code)| Found { row, distance: distance(code, query) })
        .min_by_key(|found| found.distance)
}

/// Meaning of `Kernel::reached`; always inlined, as above.
#[inline(always)]
pub(super) fn reached(
    codes: &[u64],
    query: &[u64],
    reaches: &[u16],
    most: u16,
    radius: u32,
    found: &mut Vec<Found>,
) {
    for ((row, code), &reach) in (0..).zip(codes.chunks_exact(query.len())).zip(reaches) {
        let distance = distance(code, query);
        if distance <= radius + u32::from(reach.min(most)) {
            found.push(Found { row, distance });
        }
    }
}
