//! Eight distances at a time, with AVX-512 and its VPOPCNTDQ extension.
//!
//! A vector holds eight words. Of codes of one word that is eight codes, and one `vpopcntq` counts
//! their ones. Wider codes lie over several vectors or lanes, whose counts are then added in
//! pairs until each lane holds the distance of one row. Four such groups are tested with one
//! branch, which is hardly ever taken. A tail is loaded under a mask, because the spans of a probe
//! are tails and nothing else.

use std::arch::x86_64::*;

use super::{Found, Span, rows};

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
            let groups = [0, 1, 2, 3].map(|i| {
                let group = &block[i * GROUP * W..(i + 1) * GROUP * W];
                sums::<W>([0, 1, 2, 3].map(|j| match j < W {
                    true => differing(load(&group[8 * j..8 * j + 8]), query),
                    false => _mm512_setzero_si512(),
                }))
            });
            keep_block(groups, row, radius, found);
            row += BLOCK as u32;
        }
        for group in blocks.remainder().chunks(GROUP * W) {
            let part = |j: usize| &group[(8 * j).min(group.len())..(8 * j + 8).min(group.len())];
            let distances = sums::<W>([0, 1, 2, 3].map(|j| match j < W {
                true => differing(load(part(j)), query),
                false => _mm512_setzero_si512(),
            }));
            keep(distances, group.len() / W, row, radius, found);
            row += GROUP as u32;
        }
    }
}

/// Codes of any number of words up to 16: each row's counts are summed up on their own.
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
fn wide(codes: &[u64], query: &[u64], spans: &[Span], radius: u32, found: &mut Vec<Found>) {
    let words = query.len();
    let half = words.min(8);
    let queries = [load(&query[..half]), load(&query[half..])];
    for &span in spans {
        let mut row = span.start;
        for group in rows(codes, words, span).chunks(GROUP * words) {
            let mut counts = [_mm512_setzero_si512(); GROUP];
            for (count, code) in counts.iter_mut().zip(group.chunks_exact(words)) {
                *count = differing(load(&code[..half]), queries[0]);
                if words > half {
                    let rest = differing(load(&code[half..]), queries[1]);
                    *count = _mm512_add_epi64(*count, rest);
                }
            }
            let [a, b, c, d, e, f, g, h] = counts;
            let distances = add_lanes(
                add_lanes(add_words(a, b), add_words(c, d)),
                add_lanes(add_words(e, f), add_words(g, h)),
            );
            keep(distances, group.len() / words, row, radius, found);
            row += GROUP as u32;
        }
    }
}

/// The distances of eight rows of `W` words, in the order of the rows, from the counts of their
/// words, of which the first `W` vectors are full.
#[inline]
#[target_feature(enable = "avx512f")]
fn sums<const W: usize>(counts: [__m512i; 4]) -> __m512i {
    let [a, b, c, d] = counts;
    match W {
        1 => a,
        2 => {
            // Rows 0 4 1 5 2 6 3 7.
            let order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
            _mm512_permutexvar_epi64(order, add_words(a, b))
        }
        _ => {
            // Rows 0 2 1 3 4 6 5 7.
            let order = _mm512_setr_epi64(0, 2, 1, 3, 4, 6, 5, 7);
            _mm512_permutexvar_epi64(order, add_lanes(add_words(a, b), add_words(c, d)))
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

#[inline]
#[target_feature(enable = "avx512f")]
fn keep_block(groups: [__m512i; 4], row: u32, radius: u32, found: &mut Vec<Found>) {
    let [a, b, c, d] = groups;
    let least = _mm512_min_epu64(_mm512_min_epu64(a, b), _mm512_min_epu64(c, d));
    if _mm512_cmple_epu64_mask(least, _mm512_set1_epi64(i64::from(radius))) != 0 {
        for (group, row) in groups.into_iter().zip((row..).step_by(GROUP)) {
            keep(group, GROUP, row, radius, found);
        }
    }
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

/// Up to eight words, the rest zero.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(words: &[u64]) -> __m512i {
    // SAFETY: the mask lets the instruction touch the first `words.len()` words at most, and all
    // of them are in the slice.
    unsafe { _mm512_maskz_loadu_epi64(first(words.len()), words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(vector: __m512i) -> [u64; 8] {
    let mut words = [0; 8];
    // SAFETY: the array has room for the 64 bytes that are written.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), vector) };
    words
}
