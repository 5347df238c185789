//! IDX, the format of MNIST: two zero bytes, the type, the rank, the sizes, the numbers.
//!
//! All big-endian; sizes are u32. Source: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST
//! database of handwritten digits", section "File formats".

use super::array::Header;
use super::number::{Encoding, Number};
use super::source::Source;
use crate::error::Result;

/// Reads the header.
pub(super) fn header(source: &mut Source) -> Result<Header> {
    let [zero, also_zero, kind, rank] = source.array("the IDX header")?;
    let number = match ((zero, also_zero), kind) {
        ((0, 0), 0x08) => Number::U8,
        ((0, 0), 0x09) => Number::I8,
        ((0, 0), 0x0b) => Number::I16,
        ((0, 0), 0x0c) => Number::I32,
        ((0, 0), 0x0d) => Number::F32,
        ((0, 0), 0x0e) => Number::F64,
        _ => {
            return Err(source.invalid(format!(
                "this is no IDX file: expected it to begin with 00 00 and a type (08 for bytes), \
                 got {zero:02x} {also_zero:02x} {kind:02x}"
            )));
        }
    };
    let shape = (0..rank)
        .map(|_| source.array("the IDX header").map(|size| u32::from_be_bytes(size).into()))
        .collect::<Result<_>>()?;
    Ok(Header {
        shape,
        numbers: Encoding::big_endian(number),
        fortran_order: false,
        bytes: 4 + 4 * u64::from(rank),
    })
}
