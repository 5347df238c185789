//! How much do codes differ from a query, where each bit has a weight of its own?
//!
//! The simplest true version goes through the bits that differ and adds up their weights. The
//! wide ones turn those bits into a mask of bytes, which picks all weights of a word at once; an
//! instruction that sums up differences of bytes adds them up. Weights are bytes and sums exact, so
//! all give the same.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// The weights of the bits of a word, that of the lowest first.
pub(in crate::index) type Bytes = [u8; 64];

pub(super) fn portable(codes: &[u64], query: &[u64], weights: &[Bytes], sums: &mut Vec<u32>) {
    sums.extend(codes.chunks_exact(query.len()).map(|code| {
        let words = code.iter().zip(query).zip(weights);
        words.map(|((a, b), weights)| word(a ^ b, weights)).sum::<u32>()
    }));
}

fn word(mut bits: u64, weights: &Bytes) -> u32 {
    let mut sum = 0;
    while bits != 0 {
        sum += u32::from(weights[bits.trailing_zeros() as usize]);
        bits &= bits - 1;
    }
    sum
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
pub(super) fn avx2(codes: &[u64], query: &[u64], weights: &[Bytes], sums: &mut Vec<u32>) {
    // Lane i of a half gets the byte that has bit i, and keeps this bit of it.
    let byte =
        _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
    let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let zero = _mm256_setzero_si256();
    for code in codes.chunks_exact(query.len()) {
        let mut sum = zero;
        for ((a, b), weights) in code.iter().zip(query).zip(weights) {
            let (halves, _) = weights.as_chunks::<32>();
            for (half, bits) in halves.iter().zip([a ^ b, (a ^ b) >> 32]) {
                let spread = _mm256_shuffle_epi8(_mm256_set1_epi32(bits as i32), byte);
                let differs = _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit);
                // SAFETY: the array has the 32 bytes that are read.
                let half = unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
                let picked = _mm256_and_si256(half, differs);
                sum = _mm256_add_epi64(sum, _mm256_sad_epu8(picked, zero));
            }
        }
        let (low, high) = (_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
        let sum = _mm_add_epi64(low, high);
        sums.push((_mm_cvtsi128_si64(sum) + _mm_extract_epi64::<1>(sum)) as u32);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn avx512(codes: &[u64], query: &[u64], weights: &[Bytes], sums: &mut Vec<u32>) {
    let zero = _mm512_setzero_si512();
    for code in codes.chunks_exact(query.len()) {
        let mut sum = zero;
        for ((a, b), weights) in code.iter().zip(query).zip(weights) {
            // SAFETY: the array has the 64 bytes that are read.
            let weights = unsafe { _mm512_loadu_si512(weights.as_ptr().cast()) };
            let picked = _mm512_maskz_mov_epi8(a ^ b, weights);
            sum = _mm512_add_epi64(sum, _mm512_sad_epu8(picked, zero));
        }
        sums.push(_mm512_reduce_add_epi64(sum) as u32);
    }
}
