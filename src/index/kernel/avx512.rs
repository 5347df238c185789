//! Eight distances at a time, with AVX-512 and its VPOPCNTDQ extension.
//!
//! A vector holds eight words. Of codes of one word that is eight codes, and one `vpopcntq` counts
//! their ones. Wider codes lie over several vectors or lanes, whose counts are then added in
//! pairs until each lane holds the distance of one row. Four such groups are tested with one
//! branch, which is hardly ever taken. A tail is loaded under a mask, because the spans of a probe
//! are tails and nothing else.

use std::arch::x86_64::*;
use std::sync::atomic::{Ordering, compiler_fence};

use super::{Found, Span, fetch, rows};

/// Rows whose distances fill a vector.
const GROUP: usize = 8;
/// Rows that are tested with one branch.
const BLOCK: usize = 4 * GROUP;
/// Queries that are compared with a vector while it is in a register.
const TILE: usize = 4;
/// Rows of which it is only known how near the nearest is.
const CHUNK: usize = 8 * GROUP;

#[target_feature(enable = "avx512f,avx512vpopcntdq,popcnt")]
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
    let query = Query::new(query);
    match query.words {
        1 => span_by_span::<1>(codes, query, spans, radius, found),
        2 => span_by_span::<2>(codes, query, spans, radius, found),
        4 => span_by_span::<4>(codes, query, spans, radius, found),
        _ => span_by_span::<ANY>(codes, query, spans, radius, found),
    }
}

#[target_feature(enable = "avx512f,avx512vpopcntdq,popcnt")]
pub(super) fn closest(codes: &[u64], query: &[u64]) -> Option<Found> {
    let query = Query::new(query);
    match query.words {
        1 => least::<1>(codes, query),
        2 => least::<2>(codes, query),
        4 => least::<4>(codes, query),
        _ => least::<ANY>(codes, query),
    }
}

#[target_feature(enable = "avx512f,avx512vpopcntdq,popcnt")]
pub(super) fn closest_to_each(
    codes: &[u64],
    queries: &[u64],
    words: usize,
    found: &mut Vec<Found>,
) {
    let mut tiles = queries.chunks_exact(TILE * words);
    for tile in &mut tiles {
        match words {
            1 => found.extend(least_of_each::<1>(codes, tile, words)),
            2 => found.extend(least_of_each::<2>(codes, tile, words)),
            4 => found.extend(least_of_each::<4>(codes, tile, words)),
            _ => found.extend(least_of_each::<ANY>(codes, tile, words)),
        }
    }
    found.extend(tiles.remainder().chunks_exact(words).filter_map(|query| closest(codes, query)));
}

#[target_feature(enable = "avx512f,avx512vpopcntdq,popcnt")]
pub(super) fn reached(
    codes: &[u64],
    query: &[u64],
    reaches: &[u16],
    most: u16,
    radius: u32,
    found: &mut Vec<Found>,
) {
    let query = Query::new(query);
    match query.words {
        1 => row_by_row::<1>(codes, query, reaches, most, radius, found),
        2 => row_by_row::<2>(codes, query, reaches, most, radius, found),
        4 => row_by_row::<4>(codes, query, reaches, most, radius, found),
        _ => row_by_row::<ANY>(codes, query, reaches, most, radius, found),
    }
}

/// Stands for a number of words that is not a constant.
const ANY: usize = 0;

/// A query in vectors: repeated to fill one where it has 1, 2 or 4 words, and else in two parts,
/// filled up with zeros.
#[derive(Clone, Copy)]
struct Query {
    words: usize,
    parts: [__m512i; 2],
}

impl Query {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new(query: &[u64]) -> Self {
        let repeated = match *query {
            [a] => [a; 8],
            [a, b] => [a, b, a, b, a, b, a, b],
            [a, b, c, d] => [a, b, c, d, a, b, c, d],
            _ => {
                let (low, high) = query.split_at(query.len().min(8));
                return Self { words: query.len(), parts: [load(low), load(high)] };
            }
        };
        let part = load(&repeated);
        Self { words: query.len(), parts: [part, part] }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512vpopcntdq,popcnt")]
fn span_by_span<const W: usize>(
    codes: &[u64],
    query: Query,
    spans: &[Span],
    radius: u32,
    found: &mut Vec<Found>,
) {
    let words = if W == ANY { query.words } else { W };
    let limit = _mm512_set1_epi64(i64::from(radius));
    for &span in spans {
        let mut row = span.start;
        let mut blocks = rows(codes, words, span).chunks_exact(BLOCK * words);
        for block in &mut blocks {
            let groups = groups::<W>(block, query);
            let [a, b, c, d] = groups;
            let least = _mm512_min_epu64(_mm512_min_epu64(a, b), _mm512_min_epu64(c, d));
            if _mm512_cmple_epu64_mask(least, limit) != 0 {
                keep(groups, groups.map(|group| _mm512_cmple_epu64_mask(group, limit)), row, found);
            }
            row += BLOCK as u32;
        }
        let rest = blocks.remainder().chunks(GROUP * words);
        for (group, row) in rest.zip((row..).step_by(GROUP)) {
            let here = first(group.len() / words);
            let group = distances::<W>(group, query);
            let near = _mm512_mask_cmple_epu64_mask(here, group, limit);
            if near != 0 {
                keep([group], [near], row, found);
            }
        }
    }
}

/// A block is looked at closely only where it has something nearer than all before it, which is
/// seldom.
#[inline]
#[target_feature(enable = "avx512f,avx512vpopcntdq,popcnt")]
fn least<const W: usize>(codes: &[u64], query: Query) -> Option<Found> {
    let words = if W == ANY { query.words } else { W };
    let mut best = Found { row: 0, distance: u32::MAX };
    let mut row = 0;
    let mut blocks = codes.chunks_exact(BLOCK * words);
    for block in &mut blocks {
        let groups = groups::<W>(block, query);
        let [a, b, c, d] = groups;
        let least = _mm512_min_epu64(_mm512_min_epu64(a, b), _mm512_min_epu64(c, d));
        if _mm512_cmplt_epu64_mask(least, _mm512_set1_epi64(i64::from(best.distance))) != 0 {
            for (distance, row) in groups.into_iter().zip((row..).step_by(GROUP)) {
                nearer(distance, GROUP, row, &mut best);
            }
        }
        row += BLOCK as u32;
    }
    let rest = blocks.remainder().chunks(GROUP * words);
    for (group, row) in rest.zip((row..).step_by(GROUP)) {
        nearer(distances::<W>(group, query), group.len() / words, row, &mut best);
    }
    (!codes.is_empty()).then_some(best)
}

/// Which rows are the nearest is not looked at on the way: for each query only the chunk is kept
/// that had the first of them, and looked at once more.
#[inline]
#[target_feature(enable = "avx512f,avx512vpopcntdq,popcnt")]
fn least_of_each<const W: usize>(codes: &[u64], tile: &[u64], words: usize) -> [Found; TILE] {
    let words = if W == ANY { words } else { W };
    let queries: [Query; TILE] = std::array::from_fn(|i| Query::new(&tile[i * words..][..words]));
    let chunk = |row: usize| &codes[row * words..codes.len().min((row + CHUNK) * words)];
    let mut best = [Found { row: 0, distance: u32::MAX }; TILE];
    for start in (0..codes.len() / words).step_by(CHUNK) {
        let mut least = [_mm512_set1_epi64(i64::MAX); TILE];
        let mut groups = chunk(start).chunks_exact(GROUP * words);
        for group in &mut groups {
            for (least, query) in least.iter_mut().zip(queries) {
                *least = _mm512_min_epu64(*least, distances::<W>(group, query));
            }
        }
        let rest = groups.remainder();
        let here = first(rest.len() / words);
        if here != 0 {
            for (least, query) in least.iter_mut().zip(queries) {
                *least = _mm512_mask_min_epu64(*least, here, *least, distances::<W>(rest, query));
            }
        }
        for (best, least) in best.iter_mut().zip(least) {
            let nearer = _mm512_set1_epi64(i64::from(best.distance));
            if _mm512_cmplt_epu64_mask(least, nearer) != 0 {
                let distance = _mm512_reduce_min_epu64(least) as u32;
                *best = Found { row: start as u32, distance };
            }
        }
    }
    for (best, query) in best.iter_mut().zip(queries) {
        let nearest = _mm512_set1_epi64(i64::from(best.distance));
        for group in chunk(best.row as usize).chunks(GROUP * words) {
            let here = first(group.len() / words);
            let equal = _mm512_mask_cmpeq_epu64_mask(here, distances::<W>(group, query), nearest);
            if equal != 0 {
                best.row += equal.trailing_zeros();
                break;
            }
            best.row += GROUP as u32;
        }
    }
    best
}

/// Takes the first of the least among the first `count` lanes where it beats the best.
#[inline]
#[target_feature(enable = "avx512f")]
fn nearer(distances: __m512i, count: usize, row: u32, best: &mut Found) {
    let here = first(count);
    let least = _mm512_mask_reduce_min_epu64(here, distances);
    if least < u64::from(best.distance) {
        let equal = _mm512_mask_cmpeq_epu64_mask(here, distances, _mm512_set1_epi64(least as i64));
        *best = Found { row: row + equal.trailing_zeros(), distance: least as u32 };
    }
}

/// Whatever its reach, no row is near that is farther than `radius + most`: where that holds for all of
/// a block, their reaches are not looked at.
#[inline]
#[target_feature(enable = "avx512f,avx512vpopcntdq,popcnt")]
fn row_by_row<const W: usize>(
    codes: &[u64],
    query: Query,
    reaches: &[u16],
    most: u16,
    radius: u32,
    found: &mut Vec<Found>,
) {
    let words = if W == ANY { query.words } else { W };
    let farthest = _mm512_set1_epi64(i64::from(radius) + i64::from(most));
    let (radius, most) = (_mm512_set1_epi64(i64::from(radius)), _mm512_set1_epi64(i64::from(most)));
    let limit = |reaches| _mm512_add_epi64(_mm512_min_epu64(widen(reaches), most), radius);
    let mut row = 0;
    let mut blocks = codes.chunks_exact(BLOCK * words);
    let mut reaches = reaches.chunks_exact(BLOCK);
    for (block, reaches) in (&mut blocks).zip(&mut reaches) {
        let groups = groups::<W>(block, query);
        let [a, b, c, d] = groups;
        let least = _mm512_min_epu64(_mm512_min_epu64(a, b), _mm512_min_epu64(c, d));
        if _mm512_cmple_epu64_mask(least, farthest) != 0 {
            let mut near = [0; BLOCK / GROUP];
            for ((near, reaches), group) in near.iter_mut().zip(reaches.chunks(GROUP)).zip(groups) {
                *near = _mm512_cmple_epu64_mask(group, limit(reaches));
            }
            keep(groups, near, row, found);
        }
        row += BLOCK as u32;
    }
    let rest = blocks.remainder().chunks(GROUP * words).zip(reaches.remainder().chunks(GROUP));
    for ((group, reaches), row) in rest.zip((row..).step_by(GROUP)) {
        let distance = distances::<W>(group, query);
        let near = _mm512_mask_cmple_epu64_mask(first(reaches.len()), distance, limit(reaches));
        if near != 0 {
            keep([distance], [near], row, found);
        }
    }
}

/// The distances of the rows of a block, in their order.
///
/// The fence, which is none for the CPU, keeps the compiler from loading the third group before the
/// first, as it would here and there: the CPU then fetches ahead no more, and codes of 256 bits that
/// come from the memory take 1.6 times as long.
#[inline]
#[target_feature(enable = "avx512f,avx512vpopcntdq,popcnt")]
fn groups<const W: usize>(block: &[u64], query: Query) -> [__m512i; BLOCK / GROUP] {
    let (low, high) = block.split_at(block.len() / 2);
    let ((a, b), (c, d)) = (low.split_at(low.len() / 2), high.split_at(high.len() / 2));
    [a, b, c, d].map(|group| {
        let distances = distances::<W>(group, query);
        compiler_fence(Ordering::AcqRel);
        distances
    })
}

/// The distances of up to eight rows of `W` words, in the order of the rows; lanes for which there
/// is no row are filled with anything.
#[inline]
#[target_feature(enable = "avx512f,avx512vpopcntdq,popcnt")]
fn distances<const W: usize>(rows: &[u64], query: Query) -> __m512i {
    let counts = |i: usize| differing(load(&rows[(8 * i).min(rows.len())..]), query.parts[0]);
    match W {
        1 => counts(0),
        2 => {
            let sums = add_words(counts(0), counts(1));
            // Rows 0 4 1 5 2 6 3 7.
            _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), sums)
        }
        4 => {
            let low = add_words(counts(0), counts(1));
            let high = add_words(counts(2), counts(3));
            let sums = add_lanes(low, high);
            // Rows 0 2 1 3 4 6 5 7.
            _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 1, 3, 4, 6, 5, 7), sums)
        }
        _ => wide_distances(rows, query),
    }
}

/// The same for any number of words up to 16: each row's counts are summed up on their own.
#[inline]
#[target_feature(enable = "avx512f,avx512vpopcntdq,popcnt")]
fn wide_distances(rows: &[u64], query: Query) -> __m512i {
    let (low, high) = (first(query.words), first(query.words.saturating_sub(8)));
    let mut sums = [_mm512_setzero_si512(); GROUP];
    // The words behind a row belong to the next one; to load them and mask them is quick.
    for (sum, at) in sums.iter_mut().zip((0..rows.len()).step_by(query.words)) {
        let part = _mm512_xor_si512(load(&rows[at..]), query.parts[0]);
        *sum = _mm512_maskz_popcnt_epi64(low, part);
        if query.words > 8 {
            let part = _mm512_xor_si512(load(&rows[at + 8..]), query.parts[1]);
            let part = _mm512_maskz_popcnt_epi64(high, part);
            *sum = _mm512_add_epi64(*sum, part);
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    add_lanes(
        add_lanes(add_words(a, b), add_words(c, d)),
        add_lanes(add_words(e, f), add_words(g, h)),
    )
}

/// The ones in each word of `a ^ b`.
#[inline]
#[target_feature(enable = "avx512f,avx512vpopcntdq,popcnt")]
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

/// Appends the lanes of the masks `near` of some groups; the first lane belongs to `row`.
///
/// The lanes are written side by side without a branch: which of them are near cannot be foreseen.
#[inline]
#[target_feature(enable = "avx512f,popcnt")]
fn keep<const N: usize>(
    groups: [__m512i; N],
    near: [__mmask8; N],
    row: u32,
    found: &mut Vec<Found>,
) {
    const { assert!(size_of::<Found>() == 8 && std::mem::offset_of!(Found, distance) == 4) };
    found.reserve(N * GROUP);
    let mut len = found.len();
    let mut rows = _mm512_add_epi64(
        _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7),
        _mm512_set1_epi64(i64::from(row)),
    );
    for (distances, near) in groups.into_iter().zip(near) {
        // A `Found` in each lane: the row below, the distance above.
        let all = _mm512_or_si512(rows, _mm512_slli_epi64::<32>(distances));
        let packed = _mm512_maskz_compress_epi64(near, all);
        // SAFETY: there is room for N * 8 more than there were, at most 8 were added for each
        // group before this one, and 8 are written.
        unsafe { _mm512_storeu_si512(found.as_mut_ptr().add(len).cast(), packed) };
        len += near.count_ones() as usize;
        rows = _mm512_add_epi64(rows, _mm512_set1_epi64(GROUP as i64));
    }
    // SAFETY: so many were there or have been written, each as a row and a distance.
    unsafe { found.set_len(len) };
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

/// Up to eight numbers of 16 bits, and zeros, as numbers of 64.
#[inline]
#[target_feature(enable = "avx512f")]
fn widen(numbers: &[u16]) -> __m512i {
    let mut all = [0; 8];
    let numbers = numbers.first_chunk::<8>().unwrap_or_else(|| {
        all[..numbers.len()].copy_from_slice(numbers);
        &all
    });
    // SAFETY: the array has the 16 bytes that are read.
    _mm512_cvtepu16_epi64(unsafe { _mm_loadu_si128(numbers.as_ptr().cast()) })
}
