//! The number of a record, worked out from its checksum.
//!
//! The CRC-32C of a record covers its number, which is stored nowhere, and then its bytes. Each step
//! of a CRC can be undone where the byte that it took in is known (Stigge, Plötz, Müller and Redlich,
//! Reversing CRC, 2006), so from the checksum one gets back to the state behind the number; and of
//! four unknown bytes only one value leads there. So no numbers are tried one by one.

use std::ops::RangeInclusive;

/// The remainder that each byte leaves, for the reflected polynomial of CRC-32C.
const REMAINDERS: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut remainder, mut bit) = (byte as u32, 0);
        while bit < 8 {
            remainder = (remainder >> 1) ^ (0x82F6_3B78 * (remainder & 1));
            bit += 1;
        }
        table[byte] = remainder;
        byte += 1;
    }
    table
};

/// Which byte leaves a remainder that begins with this one.
const BYTES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[(REMAINDERS[byte] >> 24) as usize] = byte as u8;
        byte += 1;
    }
    table
};

/// The state before `bytes` were taken in, the last first.
fn undo(state: u32, bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(state, |state, byte| {
        let index = BYTES[(state >> 24) as usize];
        ((state ^ REMAINDERS[usize::from(index)]) << 8) | u32::from(index ^ byte)
    })
}

/// The numbers `within` that give a record of `bytes` the checksum `crc`, the smallest first.
pub(super) fn numbers(
    crc: u32,
    bytes: &[u8],
    within: RangeInclusive<u64>,
) -> impl Iterator<Item = u64> {
    let behind = undo(!crc, bytes);
    (within.start() >> 32..=within.end() >> 32).filter_map(move |high| {
        // The lower four bytes are taken in first, which is to add them to the first state.
        let low = !undo(behind, &[&[0; 4], &(high as u32).to_le_bytes()[..]].concat());
        Some(high << 32 | u64::from(low)).filter(|number| within.contains(number))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::record::record_crc;
    use super::*;

    proptest! {
        #[test]
        fn the_number_comes_back_as_if_all_were_tried(
            number in prop_oneof![0..3000u64, (1u64 << 32) - 900..(1 << 32) + 900, any::<u64>()],
            before in 0..1000u64,
            behind in 0..1000u64,
            bytes in prop::collection::vec(any::<u8>(), 0..40),
            other in any::<u32>(),
        ) {
            let within = number.saturating_sub(before)..=number.saturating_add(behind);
            for crc in [record_crc(number, &bytes), other] {
                let tried = within.clone().filter(|number| record_crc(*number, &bytes) == crc);
                let tried: Vec<u64> = tried.collect();
                prop_assert_eq!(numbers(crc, &bytes, within.clone()).collect::<Vec<_>>(), tried);
            }
        }
    }
}
