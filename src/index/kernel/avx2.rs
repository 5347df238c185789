//! Four distances at a time, with AVX2.
//!
//! AVX2 cannot count ones, but it can look sixteen values up at once: the count of a byte is that
//! of its two halves (W. Mula, N. Kurz, D. Lemire, *Faster Population Counts Using AVX2
//! Instructions*, 2018). The counts of a code's bytes are added up as bytes, 128 at most, until
//! each 64-bit lane holds those of one row, and `vpsadbw` sums up the lane. The rows that do not
//! fill a block go to the portable kernel, compiled for this CPU.

use std::arch::x86_64::*;

use super::portable::{self, row_by_row};
use super::{Found, Span, fetch, rows};

/// Rows whose distances fill a vector.
const GROUP: usize = 4;
/// Rows that are tested with one branch.
const BLOCK: usize = 4 * GROUP;

#[target_feature(enable = "avx2,popcnt")]
pub(super) fn within(
    codes: &[u64],
    query: &[u64],
    spans: &[Span],
    radius: u32,
    found: &mut Vec<Found>,
) {
    if spans.len() > 1 {
        spans.iter().for_each(|span| fetch(codes, span.start as usize * query.len()));
    }
    match *query {
        [a] => narrow::<1>(codes, &[a; 4], spans, radius, found),
        [a, b] => narrow::<2>(codes, &[a, b, a, b], spans, radius, found),
        [a, b, c, d] => narrow::<4>(codes, &[a, b, c, d], spans, radius, found),
        _ => wide(codes, query, spans, radius, found),
    }
}

/// The plain loop, compiled for this CPU: its instruction that counts ones is what matters.
#[target_feature(enable = "avx2,popcnt")]
pub(super) fn closest(codes: &[u64], query: &[u64]) -> Option<Found> {
    match query.len() {
        1 => portable::closest(codes, &query[..1]),
        2 => portable::closest(codes, &query[..2]),
        4 => portable::closest(codes, &query[..4]),
        _ => portable::closest(codes, query),
    }
}

/// The plain loop, compiled for this CPU.
#[target_feature(enable = "avx2,popcnt")]
pub(super) fn reached(
    codes: &[u64],
    query: &[u64],
    reaches: &[u16],
    most: u16,
    radius: u32,
    found: &mut Vec<Found>,
) {
    match query.len() {
        1 => portable::reached(codes, &query[..1], reaches, most, radius, found),
        2 => portable::reached(codes, &query[..2], reaches, most, radius, found),
        4 => portable::reached(codes, &query[..4], reaches, most, radius, found),
        _ => portable::reached(codes, query, reaches, most, radius, found),
    }
}

/// Codes of `W` words, where `W` is 1, 2 or 4; `query` is repeated to fill a vector.
#[target_feature(enable = "avx2,popcnt")]
fn narrow<const W: usize>(
    codes: &[u64],
    query: &[u64; 4],
    spans: &[Span],
    radius: u32,
    found: &mut Vec<Found>,
) {
    let vector = load(query);
    for &span in spans {
        let mut row = span.start;
        let mut blocks = rows(codes, W, span).chunks_exact(BLOCK * W);
        for block in &mut blocks {
            let (a, rest) = block.split_at(GROUP * W);
            let (b, rest) = rest.split_at(GROUP * W);
            let (c, d) = rest.split_at(GROUP * W);
            let a = distances::<W>(a, vector);
            let b = distances::<W>(b, vector);
            let c = distances::<W>(c, vector);
            let d = distances::<W>(d, vector);
            keep([a, b, c, d], row, radius, found);
            row += BLOCK as u32;
        }
        row_by_row(blocks.remainder(), &query[..W], row, radius, found);
    }
}

/// The distances of four rows of `W` words, in the order of the rows.
#[inline]
#[target_feature(enable = "avx2")]
fn distances<const W: usize>(rows: &[u64], query: __m256i) -> __m256i {
    let counts = |i: usize| differing(load(&rows[4 * i..]), query);
    let bytes = match W {
        1 => counts(0),
        // Rows 0 2 1 3.
        2 => _mm256_permute4x64_epi64::<0b11_01_10_00>(add_words(counts(0), counts(1))),
        _ => {
            let low = add_words(counts(0), counts(1));
            add_lanes(low, add_words(counts(2), counts(3)))
        }
    };
    _mm256_sad_epu8(bytes, _mm256_setzero_si256())
}

/// Codes of any number of words up to 16: each row's counts are summed up on their own.
#[target_feature(enable = "avx2,popcnt")]
fn wide(codes: &[u64], query: &[u64], spans: &[Span], radius: u32, found: &mut Vec<Found>) {
    let words = query.len();
    let mut parts = [(_mm256_setzero_si256(), _mm256_setzero_si256()); 4];
    for (part, query) in parts.iter_mut().zip(query.chunks(4)) {
        *part = (load(query), first(query.len()));
    }
    let parts = &parts[..words.div_ceil(4)];
    for &span in spans {
        let blocks = span.len() / BLOCK;
        for row in (span.start..).step_by(BLOCK).take(blocks) {
            let mut groups = [_mm256_setzero_si256(); 4];
            for (distances, row) in groups.iter_mut().zip((row as usize..).step_by(GROUP)) {
                let mut sums = [_mm256_setzero_si256(); GROUP];
                for (sum, row) in sums.iter_mut().zip(row..) {
                    let code = &codes[row * words..];
                    for (i, &(query, mask)) in parts.iter().enumerate() {
                        let part = _mm256_and_si256(load(&code[4 * i..]), mask);
                        *sum = _mm256_add_epi8(*sum, differing(part, query));
                    }
                }
                let [a, b, c, d] = sums;
                let bytes = add_lanes(add_words(a, b), add_words(c, d));
                *distances = _mm256_sad_epu8(bytes, _mm256_setzero_si256());
            }
            keep(groups, row, radius, found);
        }
        let tail = Span { start: span.start + (blocks * BLOCK) as u32, ..span };
        row_by_row(rows(codes, words, tail), query, tail.start, radius, found);
    }
}

/// The ones in each byte of `a ^ b`.
#[inline]
#[target_feature(enable = "avx2")]
fn differing(a: __m256i, b: __m256i) -> __m256i {
    #[rustfmt::skip]
    let ones = _mm256_setr_epi8(
        0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
        0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
    );
    let low = _mm256_set1_epi8(0x0f);
    let bits = _mm256_xor_si256(a, b);
    let high = _mm256_srli_epi16::<4>(bits);
    _mm256_add_epi8(
        _mm256_shuffle_epi8(ones, _mm256_and_si256(bits, low)),
        _mm256_shuffle_epi8(ones, _mm256_and_si256(high, low)),
    )
}

/// The two words of each 128-bit lane added up byte by byte, `a`'s sum beside `b`'s.
#[inline]
#[target_feature(enable = "avx2")]
fn add_words(a: __m256i, b: __m256i) -> __m256i {
    _mm256_add_epi8(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b))
}

/// The two 128-bit lanes added up byte by byte, the sum of `a` before that of `b`.
#[inline]
#[target_feature(enable = "avx2")]
fn add_lanes(a: __m256i, b: __m256i) -> __m256i {
    let low = _mm256_permute2x128_si256::<0x20>(a, b);
    let high = _mm256_permute2x128_si256::<0x31>(a, b);
    _mm256_add_epi8(low, high)
}

/// Appends what is near enough of four groups; the first lane belongs to `row`.
#[inline]
#[target_feature(enable = "avx2")]
fn keep(groups: [__m256i; 4], row: u32, radius: u32, found: &mut Vec<Found>) {
    let [a, b, c, d] = groups;
    let limit = _mm256_set1_epi64x(i64::from(radius));
    let far_ab = _mm256_and_si256(_mm256_cmpgt_epi64(a, limit), _mm256_cmpgt_epi64(b, limit));
    let far_cd = _mm256_and_si256(_mm256_cmpgt_epi64(c, limit), _mm256_cmpgt_epi64(d, limit));
    if _mm256_movemask_epi8(_mm256_and_si256(far_ab, far_cd)) == -1 {
        return;
    }
    for (group, row) in groups.into_iter().zip((row..).step_by(GROUP)) {
        for (distance, row) in store(group).into_iter().zip(row..) {
            if distance <= u64::from(radius) {
                found.push(Found { row, distance: distance as u32 });
            }
        }
    }
}

/// A mask of the first `count` words.
#[inline]
#[target_feature(enable = "avx2")]
fn first(count: usize) -> __m256i {
    _mm256_cmpgt_epi64(_mm256_set1_epi64x(count as i64), _mm256_setr_epi64x(0, 1, 2, 3))
}

/// The first four words, or, where there are fewer, those and zeros.
///
/// To load what is not needed and mask the result is better than to mask the load: only a plain
/// load makes the CPU fetch ahead.
#[inline]
#[target_feature(enable = "avx2")]
fn load(words: &[u64]) -> __m256i {
    match words.first_chunk::<4>() {
        // SAFETY: the array has the 32 bytes that are read.
        Some(words) => unsafe { _mm256_loadu_si256(words.as_ptr().cast()) },
        // SAFETY: the mask lets the instruction touch the first `words.len()` words only, and all
        // of them are in the slice.
        None => unsafe { _mm256_maskload_epi64(words.as_ptr().cast(), first(words.len())) },
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(vector: __m256i) -> [u64; 4] {
    let mut words = [0; 4];
    // SAFETY: the array has room for the 32 bytes that are written.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), vector) };
    words
}
