//! Four distances at a time, with AVX2.
//!
//! AVX2 cannot count ones, but it can look sixteen values up at once: the count of a byte is that
//! of its two halves (W. Mula, N. Kurz, D. Lemire, *Faster Population Counts Using AVX2
//! Instructions*, 2018). The counts of a code's bytes are added up as bytes, 128 at most, until
//! each 64-bit lane holds those of one row, and `vpsadbw` sums up the lane. The rows that do not
//! fill a block go to the portable kernel, compiled for this CPU.

use std::arch::x86_64::*;

use super::portable::row_by_row;
use super::{Found, Span, rows};

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
    match *query {
        [a] => narrow::<1>(codes, &[a; 4], spans, radius, found),
        [a, b] => narrow::<2>(codes, &[a, b, a, b], spans, radius, found),
        [a, b, c, d] => narrow::<4>(codes, &[a, b, c, d], spans, radius, found),
        _ => wide(codes, query, spans, radius, found),
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
            let groups = [0, 1, 2, 3].map(|i| {
                let group = &block[i * GROUP * W..(i + 1) * GROUP * W];
                sums::<W>([0, 1, 2, 3].map(|j| match j < W {
                    true => differing(load(&group[4 * j..4 * j + 4]), vector),
                    false => _mm256_setzero_si256(),
                }))
            });
            keep_block(groups, row, radius, found);
            row += BLOCK as u32;
        }
        row_by_row(blocks.remainder(), &query[..W], row, radius, found);
    }
}

/// Codes of any number of words up to 16: each row's counts are summed up on their own.
#[target_feature(enable = "avx2,popcnt")]
fn wide(codes: &[u64], query: &[u64], spans: &[Span], radius: u32, found: &mut Vec<Found>) {
    let words = query.len();
    for &span in spans {
        let mut row = span.start;
        let mut blocks = rows(codes, words, span).chunks_exact(BLOCK * words);
        for block in &mut blocks {
            let mut groups = [_mm256_setzero_si256(); 4];
            for (sum, group) in groups.iter_mut().zip(block.chunks_exact(GROUP * words)) {
                let mut counts = [_mm256_setzero_si256(); GROUP];
                for (count, code) in counts.iter_mut().zip(group.chunks_exact(words)) {
                    for (code, query) in code.chunks(4).zip(query.chunks(4)) {
                        *count = _mm256_add_epi8(*count, differing(load(code), load(query)));
                    }
                }
                *sum = sums::<4>(counts);
            }
            keep_block(groups, row, radius, found);
            row += BLOCK as u32;
        }
        row_by_row(blocks.remainder(), query, row, radius, found);
    }
}

/// The distances of four rows of `W` words, in the order of the rows, from the counts of their
/// bytes, of which the first `W` vectors are full.
#[inline]
#[target_feature(enable = "avx2")]
fn sums<const W: usize>(counts: [__m256i; 4]) -> __m256i {
    let [a, b, c, d] = counts;
    let bytes = match W {
        1 => a,
        // Rows 0 2 1 3.
        2 => _mm256_permute4x64_epi64::<0b11_01_10_00>(add_words(a, b)),
        _ => add_lanes(add_words(a, b), add_words(c, d)),
    };
    _mm256_sad_epu8(bytes, _mm256_setzero_si256())
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
fn keep_block(groups: [__m256i; 4], row: u32, radius: u32, found: &mut Vec<Found>) {
    let radius = _mm256_set1_epi64x(i64::from(radius));
    let [a, b, c, d] = groups.map(|group| _mm256_cmpgt_epi64(group, radius));
    let all_far = _mm256_and_si256(_mm256_and_si256(a, b), _mm256_and_si256(c, d));
    if _mm256_movemask_epi8(all_far) == -1 {
        return;
    }
    for (group, row) in groups.into_iter().zip((row..).step_by(GROUP)) {
        let far = _mm256_cmpgt_epi64(group, radius);
        let mut near = !_mm256_movemask_pd(_mm256_castsi256_pd(far)) & 0b1111;
        let distances = store(group);
        while near != 0 {
            let lane = near.trailing_zeros();
            found.push(Found { row: row + lane, distance: distances[lane as usize] as u32 });
            near &= near - 1;
        }
    }
}

/// Up to four words, the rest zero.
#[inline]
#[target_feature(enable = "avx2")]
fn load(words: &[u64]) -> __m256i {
    if let Ok(words) = <&[u64; 4]>::try_from(words) {
        // SAFETY: the array has the 32 bytes that are read.
        return unsafe { _mm256_loadu_si256(words.as_ptr().cast()) };
    }
    let mut full = [0; 4];
    full[..words.len()].copy_from_slice(words);
    load(&full)
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(vector: __m256i) -> [u64; 4] {
    let mut words = [0; 4];
    // SAFETY: the array has room for the 32 bytes that are written.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), vector) };
    words
}
