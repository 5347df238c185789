//! The slots around a slot: all ways to flip exactly r of its bits.

/// Every number below 2^`bits` with exactly `ones` ones, ascending: C(`bits`, `ones`) of them.
///
/// The next one comes from the last by Gosper's hack (HAKMEM, item 175, 1972): the lowest run of
/// ones moves its highest bit up by one and drops the others to the bottom. Both are below 31.
pub(super) fn flips(bits: u32, ones: u32) -> impl Iterator<Item = u32> {
    let next = |&last: &u32| {
        let lowest = last & last.wrapping_neg();
        let up = last + lowest;
        // Without a one there is no other number without a one.
        (last != 0).then(|| (((last ^ up) >> 2) >> lowest.trailing_zeros()) | up)
    };
    std::iter::successors(Some((1 << ones) - 1), next).take_while(move |&n| n >> bits == 0)
}

/// How many there are: C(`bits`, `ones`).
pub(super) fn size(bits: u32, ones: u32) -> u64 {
    if ones > bits {
        return 0;
    }
    (0..u64::from(ones)).fold(1, |size, i| size * (u64::from(bits) - i) / (i + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flips_are_all_numbers_with_so_many_ones_in_ascending_order() {
        for bits in 1..=12 {
            for ones in 0..=bits + 1 {
                let expected: Vec<u32> =
                    (0..1 << bits).filter(|n: &u32| n.count_ones() == ones).collect();
                assert_eq!(flips(bits, ones).collect::<Vec<_>>(), expected, "{bits} {ones}");
                assert_eq!(size(bits, ones), expected.len() as u64);
            }
        }
        assert_eq!(size(26, 13), 10_400_600);
        assert_eq!(flips(26, 26).collect::<Vec<_>>(), [(1 << 26) - 1]);
    }
}
