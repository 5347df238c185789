//! Kernels: which of these codes lie within a radius of the query?
//!
//! The simplest true version is [`portable`]: xor, count the ones, compare. It is the meaning;
//! the others give the same answer faster and are compared with it in the tests. Only these files
//! hold `unsafe` code.
//!
//! A kernel takes many *spans* of rows at once. A scan gives it one long span, a probe hundreds of
//! short ones, and both pay for the choice of the instruction set once.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
mod weigh;

pub(super) use weigh::Bytes;

/// An instruction set that this machine has.
///
/// Whoever holds one may run it: the constructors ask the CPU.
///
/// ```
/// use nearbit::index::Kernel;
///
/// assert!(Kernel::available().contains(&Kernel::detect()));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kernel(Isa);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Isa {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// Some rows in succession: from `start`, up to but without `end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The first row.
    pub start: u32,
    /// The row after the last.
    pub end: u32,
}

impl Span {
    /// The number of rows.
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// A row within the radius.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// The row.
    pub row: u32,
    /// Its distance from the query, in bits.
    pub distance: u32,
}

impl Kernel {
    /// Plain Rust, on every machine.
    pub fn portable() -> Self {
        Self(Isa::Portable)
    }

    /// 256-bit vectors on x86-64, where the CPU has them.
    pub fn avx2() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt") {
            return Some(Self(Isa::Avx2));
        }
        None
    }

    /// 512-bit vectors on x86-64, of words and of bytes, and an instruction that counts the ones of
    /// words, where the CPU has all of it.
    pub fn avx512() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vpopcntdq")
            && is_x86_feature_detected!("popcnt")
        {
            return Some(Self(Isa::Avx512));
        }
        None
    }

    /// Those that this machine can run, the fastest first.
    pub fn available() -> Vec<Self> {
        [Self::avx512(), Self::avx2(), Some(Self::portable())].into_iter().flatten().collect()
    }

    /// The fastest that this machine can run.
    pub fn detect() -> Self {
        Self::avx512().or_else(Self::avx2).unwrap_or_else(Self::portable)
    }

    /// The name: `avx512`, `avx2` or `portable`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Isa::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => "avx512",
        }
    }

    /// What one word of a long scan costs, in nanoseconds; `benches/kernels.rs` measures it.
    pub(super) fn word_cost(self) -> f64 {
        match self.0 {
            Isa::Portable => 0.75,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => 0.20,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => 0.09,
        }
    }

    /// Appends to `found` each row of `spans` that is at most `radius` bits from `query`, span by
    /// span and in the order of the rows.
    ///
    /// `codes` has the shape (rows, `query.len()`), row after row.
    ///
    /// # Panics
    /// Where a span goes beyond the rows, as slicing does, or the query has no word or over 16.
    pub fn within(
        self,
        codes: &[u64],
        query: &[u64],
        spans: &[Span],
        radius: u32,
        found: &mut Vec<Found>,
    ) {
        assert!((1..=16).contains(&query.len()), "a query of {} words", query.len());
        match self.0 {
            Isa::Portable => portable::within(codes, query, spans, radius, found),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::Avx2` is made in `Kernel::avx2` alone, which saw avx2 and popcnt.
            Isa::Avx2 => unsafe { avx2::within(codes, query, spans, radius, found) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::Avx512` is made in `Kernel::avx512` alone, which saw avx512f,
            // avx512vpopcntdq and popcnt.
            Isa::Avx512 => unsafe { avx512::within(codes, query, spans, radius, found) },
        }
    }

    /// The row of `codes` nearest to `query`, the first of them where several are; none where there
    /// is no row.
    pub(super) fn closest(self, codes: &[u64], query: &[u64]) -> Option<Found> {
        assert!((1..=16).contains(&query.len()), "a query of {} words", query.len());
        match self.0 {
            Isa::Portable => portable::closest(codes, query),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::Avx2` is made in `Kernel::avx2` alone, which saw avx2 and popcnt.
            Isa::Avx2 => unsafe { avx2::closest(codes, query) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::Avx512` is made in `Kernel::avx512` alone, which saw avx512f,
            // avx512vpopcntdq and popcnt.
            Isa::Avx512 => unsafe { avx512::closest(codes, query) },
        }
    }

    /// Appends to `found` what `closest` finds for each of some queries, of shape (queries, words).
    /// Several are compared with a code while it is at hand.
    ///
    /// # Panics
    /// Where there is no code.
    pub(super) fn closest_to_each(
        self,
        codes: &[u64],
        queries: &[u64],
        words: usize,
        found: &mut Vec<Found>,
    ) {
        assert!((1..=16).contains(&words), "queries of {words} words");
        assert!(codes.len() >= words, "no code to be the closest");
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::Avx512` is made in `Kernel::avx512` alone, which saw avx512f,
            // avx512vpopcntdq and popcnt.
            Isa::Avx512 => unsafe { avx512::closest_to_each(codes, queries, words, found) },
            _ => found
                .extend(queries.chunks_exact(words).filter_map(|query| self.closest(codes, query))),
        }
    }

    /// Appends to `found` each row that is at most `radius + min(reaches[row], most)` bits from
    /// `query`, in the order of the rows: balls around the rows that the query's ball touches.
    ///
    /// # Panics
    /// Where there are not as many reaches as rows.
    pub(super) fn reached(
        self,
        codes: &[u64],
        query: &[u64],
        reaches: &[u16],
        most: u16,
        radius: u32,
        found: &mut Vec<Found>,
    ) {
        assert!((1..=16).contains(&query.len()), "a query of {} words", query.len());
        assert_eq!(codes.len(), reaches.len() * query.len(), "one reach for each row");
        match self.0 {
            Isa::Portable => portable::reached(codes, query, reaches, most, radius, found),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::Avx2` is made in `Kernel::avx2` alone, which saw avx2 and popcnt.
            Isa::Avx2 => unsafe { avx2::reached(codes, query, reaches, most, radius, found) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::Avx512` is made in `Kernel::avx512` alone, which saw avx512f,
            // avx512vpopcntdq and popcnt.
            Isa::Avx512 => unsafe { avx512::reached(codes, query, reaches, most, radius, found) },
        }
    }

    /// Appends to `sums` for each row of `codes` what the bits weigh in which it differs from
    /// `query`. `weights` has 64 bytes for each word, that of the lowest bit first.
    ///
    /// # Panics
    /// Where there are not weights for as many words as the query has.
    pub(super) fn weigh(
        self,
        codes: &[u64],
        query: &[u64],
        weights: &[Bytes],
        sums: &mut Vec<u32>,
    ) {
        assert_eq!(query.len(), weights.len(), "one weight for each bit");
        match self.0 {
            Isa::Portable => weigh::portable(codes, query, weights, sums),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::Avx2` is made in `Kernel::avx2` alone, which saw avx2.
            Isa::Avx2 => unsafe { weigh::avx2(codes, query, weights, sums) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::Avx512` is made in `Kernel::avx512` alone, which saw avx512f and
            // avx512bw.
            Isa::Avx512 => unsafe { weigh::avx512(codes, query, weights, sums) },
        }
    }
}

/// Asks the memory for an item that is soon needed, so that it is on its way while others are
/// looked at; does nothing where there is no such item.
#[inline]
pub(super) fn fetch<T>(items: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(item) = items.get(at) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: SSE is part of x86-64, and a prefetch reads nothing that a program could notice.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(item).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (items, at);
}

/// The rows of a span, as words.
#[inline(always)]
fn rows(codes: &[u64], words: usize, span: Span) -> &[u64] {
    &codes[span.start as usize * words..span.end as usize * words]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::code::Width;
    use crate::index::tests::{fixed, random_codes, widths};

    fn check(kernel: Kernel, codes: &[u64], query: &[u64], spans: &[Span], radius: u32) {
        let (mut fast, mut plain) = (Vec::new(), Vec::new());
        kernel.within(codes, query, spans, radius, &mut fast);
        Kernel::portable().within(codes, query, spans, radius, &mut plain);
        assert_eq!(fast, plain, "{kernel:?}, {} words, {spans:?}, radius {radius}", query.len());

        for &span in spans {
            let rows = rows(codes, query.len(), span);
            let reaches: Vec<u16> = (0..span.len()).map(|i| i as u16 % 7).collect();
            for most in [0, 4, u16::MAX] {
                fast.clear();
                plain.clear();
                kernel.reached(rows, query, &reaches, most, radius / 2, &mut fast);
                Kernel::portable().reached(rows, query, &reaches, most, radius / 2, &mut plain);
                assert_eq!(fast, plain, "{kernel:?}, {} words, reached in {span:?}", query.len());
            }
            let word = |word: usize| std::array::from_fn(|bit| (37 * word + 91 * bit) as u8 | 0x80);
            let weights: Vec<Bytes> = (0..query.len()).map(word).collect();
            let (mut fast, mut plain) = (Vec::new(), Vec::new());
            kernel.weigh(rows, query, &weights, &mut fast);
            Kernel::portable().weigh(rows, query, &weights, &mut plain);
            assert_eq!(fast, plain, "{kernel:?}, {} words, weighed in {span:?}", query.len());

            let closest = kernel.closest(rows, query);
            assert_eq!(closest, Kernel::portable().closest(rows, query), "{kernel:?}, {span:?}");
            if !span.is_empty() {
                let queries = &codes[..codes.len().min(11 * query.len())];
                let (mut fast, mut plain) = (Vec::new(), Vec::new());
                kernel.closest_to_each(rows, queries, query.len(), &mut fast);
                Kernel::portable().closest_to_each(rows, queries, query.len(), &mut plain);
                assert_eq!(fast, plain, "{kernel:?}, {} words, each in {span:?}", query.len());
            }
        }
    }

    /// Of so many offsets Miri tries one, and few lengths and radii.
    const STEP: usize = if cfg!(miri) { 9 } else { 1 };
    const LENGTHS: &[u32] = match cfg!(miri) {
        true => &[0, 1, 9, 33],
        false => &[0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127],
    };

    /// One less, exactly, one more than every block size, at every offset within a block.
    #[test]
    fn every_tail_agrees_with_portable() {
        for width in widths() {
            let rows = 140;
            let codes = random_codes(width, rows, 3, 7);
            let query = codes.row(60).to_vec();
            for kernel in Kernel::available() {
                for len in LENGTHS {
                    for start in (0..12).step_by(STEP) {
                        let span = Span { start, end: start + len };
                        let bits = width.bits() as u32;
                        for radius in [bits / 4, 0, bits].into_iter().step_by(STEP) {
                            check(kernel, codes.as_words(), &query, &[span], radius);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_last_rows_of_an_allocation_are_read_and_none_beyond() {
        for width in widths() {
            for rows in (1..40u32).step_by(STEP) {
                let codes = random_codes(width, rows as usize, 1, 1);
                let spans = [Span { start: 0, end: rows }, Span { start: rows - 1, end: rows }];
                for kernel in Kernel::available() {
                    check(kernel, codes.as_words(), codes.row(0), &spans, u32::MAX);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(fixed(11, 256))]

        #[test]
        fn any_spans_agree_with_portable(
            bits in 1usize..=1024, seed: u64, groups in 1usize..9, radius in 0u32..600,
            spans in proptest::collection::vec((0u32..=200, 0u32..=200), 0..20),
        ) {
            let width = Width::new(bits).unwrap();
            let codes = random_codes(width, 200, groups, seed);
            let spans: Vec<Span> = spans
                .into_iter()
                .map(|(a, b)| Span { start: a.min(b), end: a.max(b) })
                .collect();
            for kernel in Kernel::available() {
                check(kernel, codes.as_words(), codes.row(17), &spans, radius);
            }
        }
    }
}
