//! Eight distances at a time, with AVX-512 and its VPOPCNTDQ extension.
//!
//! A vector holds eight words. Of codes of one word that is eight codes, and one `vpopcntq` counts
//! their ones. Wider codes lie over several vectors or lanes, whose counts are then added in
//! pairs until each lane holds the distance of one row. Four such groups are tested with one
//! branch, which is hardly ever taken. A tail is loaded under a mask, because the spans of a probe
//! are tails and nothing else.

use std::arch::x86_64::*;

use super::{Found, Span, fetch, rows};

/// Rows whose distances fill a vector.
const GROUP: usize = 8;
/// Rows that are tested with one branch.
const BLOCK: usize = 4 * GROUP;

#[target_feature(enable = "avx512f,avx512vpopcntdq")]
pub(super) fn within(
    codes: &[u64],
    query: &[u64],
    spans: &[Span],
    radius: u32,
    found: &mut Vec<Found>,
) {
    if spans.len() > 1 {
        fetch(codes, query.len(), spans);
    }
    match *query {
        [a] => narrow::<1>(codes, [a; 8], spans, radius, found),
        [a, b] => narrow::<2>(codes, [a, b, a, b, a, b, a, b], spans, radius, found),
        [a, b, c, d] => narrow::<4>(codes, [a, b, c, d, a, b, c, d], spans, radius, found),
        _ => wide(codes, query, spans, radius, found),
    }
}

/// Codes of `W` words, where `W` is 1, 2 or 4; `query` is repeated to fill a vector.
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
fn narrow<const W: usize>(
    codes: &[u64],
    query: [u64; 8],
    spans: &[Span],
    radius: u32,
    found: &mut Vec<Found>,
) {
    let query = load(&query);
    for &span in spans {
        let mut row = span.start;
        let mut blocks = rows(codes, W, span).chunks_exact(BLOCK * W);
        for block in &mut blocks {
            let (a, rest) = block.split_at(GROUP * W);
            let (b, rest) = rest.split_at(GROUP * W);
            let (c, d) = rest.split_at(GROUP * W);
            let a = distances::<W>(a, query);
            let b = distances::<W>(b, query);
            let c = distances::<W>(c, query);
            let d = distances::<W>(d, query);
            let least = _mm512_min_epu64(_mm512_min_epu64(a, b), _mm512_min_epu64(c, d));
            if _mm512_cmple_epu64_mask(least, _mm512_set1_epi64(i64::from(radius))) != 0 {
                for (group, row) in [a, b, c, d].into_iter().zip((row..).step_by(GROUP)) {
                    keep(group, GROUP, row, radius, found);
                }
            }
            row += BLOCK as u32;
        }
        for row in (row..span.end).step_by(GROUP) {
            let count = GROUP.min((span.end - row) as usize);
            let distances = distances::<W>(&codes[row as usize * W..], query);
            keep(distances, count, row, radius, found);
        }
    }
}

/// Codes of any number of words up to 16: each row's counts are summed up on their own.
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
fn wide(codes: &[u64], query: &[u64], spans: &[Span], radius: u32, found: &mut Vec<Found>) {
    let words = query.len();
    let (low, high) = (first(words), first(words.saturating_sub(8)));
    let query = [load(query), load(&query[words.min(8)..])];
    for &span in spans {
        for row in (span.start..span.end).step_by(GROUP) {
            let count = GROUP.min((span.end - row) as usize);
            let mut sums = [_mm512_setzero_si512(); GROUP];
            for (sum, row) in sums.iter_mut().zip(row as usize..row as usize + count) {
                let code = &codes[row * words..];
                let part = _mm512_xor_si512(load(code), query[0]);
                *sum = _mm512_maskz_popcnt_epi64(low, part);
                if words > 8 {
                    let part = _mm512_xor_si512(load(&code[8..]), query[1]);
                    let part = _mm512_maskz_popcnt_epi64(high, part);
                    *sum = _mm512_add_epi64(*sum, part);
                }
            }
            let [a, b, c, d, e, f, g, h] = sums;
            let distances = add_lanes(
                add_lanes(add_words(a, b), add_words(c, d)),
                add_lanes(add_words(e, f), add_words(g, h)),
            );
            keep(distances, count, row, radius, found);
        }
    }
}

/// The distances of eight rows of `W` words, in the order of the rows; lanes for which there is
/// no row are filled with anything.
#[inline]
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
fn distances<const W: usize>(rows: &[u64], query: __m512i) -> __m512i {
    let counts = |i: usize| differing(load(&rows[(8 * i).min(rows.len())..]), query);
    match W {
        1 => counts(0),
        2 => {
            let sums = add_words(counts(0), counts(1));
            // Rows 0 4 1 5 2 6 3 7.
            _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), sums)
        }
        _ => {
            let low = add_words(counts(0), counts(1));
            let high = add_words(counts(2), counts(3));
            let sums = add_lanes(low, high);
            // Rows 0 2 1 3 4 6 5 7.
            _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 1, 3, 4, 6, 5, 7), sums)
        }
    }
}

/// The ones in each word of `a ^ b`.
#[inline]
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
fn differing(a: __m512i, b: __m512i) -> __m512i {
    _mm512_popcnt_epi64(_mm512_xor_si512(a, b))
}

/// The two words of each 128-bit lane added up, `a`'s sum beside `b`'s.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_words(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi64(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b))
}

/// Neighbouring 128-bit lanes added up, the two sums of `a` before those of `b`.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_lanes(a: __m512i, b: __m512i) -> __m512i {
    let even = _mm512_shuffle_i64x2::<0b10_00_10_00>(a, b);
    let odd = _mm512_shuffle_i64x2::<0b11_01_11_01>(a, b);
    _mm512_add_epi64(even, odd)
}

/// Appends those of the first `count` lanes that are near enough; lane 0 belongs to `row`.
#[inline]
#[target_feature(enable = "avx512f")]
fn keep(distances: __m512i, count: usize, row: u32, radius: u32, found: &mut Vec<Found>) {
    let radius = _mm512_set1_epi64(i64::from(radius));
    let mut near = _mm512_mask_cmple_epu64_mask(first(count), distances, radius);
    if near != 0 {
        let distances = store(distances);
        while near != 0 {
            let lane = near.trailing_zeros();
            found.push(Found { row: row + lane, distance: distances[lane as usize] as u32 });
            near &= near - 1;
        }
    }
}

/// A mask of the first `count` lanes, all eight where `count` is over eight.
#[inline]
fn first(count: usize) -> __mmask8 {
    (0xff_u16 >> (8 - count.min(8))) as u8
}

/// The first eight words, or, where there are fewer, those and zeros.
///
/// To load what is not needed and mask the result is better than to mask the load: only a plain
/// load makes the CPU fetch ahead.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(words: &[u64]) -> __m512i {
    match words.first_chunk::<8>() {
        // SAFETY: the array has the 64 bytes that are read.
        Some(words) => unsafe { _mm512_loadu_si512(words.as_ptr().cast()) },
        // SAFETY: the mask lets the instruction touch the first `words.len()` words only, and all
        // of them are in the slice.
        None => unsafe { _mm512_maskz_loadu_epi64(first(words.len()), words.as_ptr().cast()) },
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(vector: __m512i) -> [u64; 8] {
    let mut words = [0; 8];
    // SAFETY: the array has room for the 64 bytes that are written.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), vector) };
    words
}
