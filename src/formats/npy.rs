//! numpy's .npy: a magic, a version, a Python literal that tells type, order and shape, the numbers.
//!
//! ```text
//! \x93NUMPY  1 0  u16 length  {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }\n  data
//! \x93NUMPY  2 0  u32 length  ...                                      (3 0: the text is UTF-8)
//! ```
//!
//! Source: NumPy Enhancement Proposal 1, <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use super::array::Header;
use super::number::{Encoding, Number};
use super::source::Source;
use crate::error::Result;

/// numpy itself refuses longer headers by default at 10,000.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// Reads the header.
pub(super) fn header(source: &mut Source) -> Result<Header> {
    let [magic @ .., major, minor] = source.array::<8>("the .npy header")?;
    if &magic != b"\x93NUMPY" {
        return Err(source.invalid("this is no .npy file: it does not begin with \\x93NUMPY"));
    }
    let (length, before) = match major {
        1 => (usize::from(u16::from_le_bytes(source.array("the .npy header")?)), 10),
        2 | 3 => (u32::from_le_bytes(source.array("the .npy header")?) as usize, 12),
        _ => {
            let message = format!("expected .npy version 1, 2 or 3, got {major}.{minor}");
            return Err(source.invalid(message));
        }
    };
    if length > MAX_HEADER_BYTES {
        return Err(source.invalid(format!(
            "expected a .npy header of at most {MAX_HEADER_BYTES} bytes, got {length}"
        )));
    }
    let mut text = vec![0; length];
    if source.fill(&mut text)? < length {
        return Err(source.invalid(format!("cut short in the .npy header of {length} bytes")));
    }
    let text = String::from_utf8_lossy(&text);
    let (numbers, fortran_order, shape) = parse(&text).map_err(|message| {
        source.invalid(format!("{message} in the .npy header {:?}", text.trim_end()))
    })?;
    Ok(Header { shape, numbers, fortran_order, bytes: (before + length) as u64 })
}

/// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
fn parse(text: &str) -> Result<(Encoding, bool, Vec<u64>), String> {
    let mut rest = text.trim().strip_prefix('{').ok_or("expected {")?.trim_start();
    let (mut numbers, mut fortran_order, mut shape) = (None, None, None);
    while !rest.starts_with('}') {
        let (key, after) = quoted(rest).ok_or("expected a quoted key")?;
        let value = after.trim_start().strip_prefix(':').ok_or("expected : after a key")?;
        let value = value.trim_start();
        rest = match key {
            "descr" => {
                let (descr, after) = quoted(value).ok_or("expected one number a cell")?;
                numbers = Some(encoding(descr)?);
                after
            }
            "fortran_order" => {
                let (order, after) = boolean(value).ok_or("expected True or False")?;
                fortran_order = Some(order);
                after
            }
            "shape" => {
                let (sides, after) = tuple(value).ok_or("expected a tuple of sizes")?;
                shape = Some(sides);
                after
            }
            other => return Err(format!("unknown key {other:?}")),
        }
        .trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    match (numbers, fortran_order, shape) {
        (Some(numbers), Some(fortran_order), Some(shape)) => Ok((numbers, fortran_order, shape)),
        _ => Err("descr, fortran_order or shape is missing".to_owned()),
    }
}

fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote)
}

fn boolean(text: &str) -> Option<(bool, &str)> {
    let value = |word, value| text.strip_prefix(word).map(|rest| (value, rest));
    value("True", true).or_else(|| value("False", false))
}

fn tuple(text: &str) -> Option<(Vec<u64>, &str)> {
    let (inside, rest) = text.strip_prefix('(')?.split_once(')')?;
    // Python 2 wrote long integers as 3L.
    let side = |side: &str| side.trim().trim_end_matches('L').parse().ok();
    let sides: Vec<&str> = inside.split(',').filter(|side| !side.trim().is_empty()).collect();
    sides.into_iter().map(side).collect::<Option<_>>().map(|sides| (sides, rest))
}

fn encoding(descr: &str) -> Result<Encoding, String> {
    let unknown = || {
        let advice = match descr.ends_with("b1") {
            true => "pack booleans with numpy.packbits(a, axis=1)",
            false => "save with .astype(\"float32\")",
        };
        format!("expected numbers of 8 to 64 bits, got {descr:?} ({advice})")
    };
    let (order, kind) = descr.split_at_checked(1).ok_or_else(unknown)?;
    let big_endian = match order {
        "<" | "|" => false,
        ">" => true,
        _ => return Err(unknown()),
    };
    let number = match kind {
        "u1" => Number::U8,
        "i1" => Number::I8,
        "u2" => Number::U16,
        "i2" => Number::I16,
        "u4" => Number::U32,
        "i4" => Number::I32,
        "u8" => Number::U64,
        "i8" => Number::I64,
        "f2" => Number::F16,
        "f4" => Number::F32,
        "f8" => Number::F64,
        _ => return Err(unknown()),
    };
    Ok(Encoding { number, big_endian })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_as_numpy_and_others_write_them() {
        let f4 = Encoding::little_endian(Number::F32);
        let numpy = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }   \n";
        assert_eq!(parse(numpy), Ok((f4, false, vec![3, 4])));
        let tight = r#"{"shape":(3,),"fortran_order":True,"descr":">i8"}"#;
        assert_eq!(parse(tight), Ok((Encoding::big_endian(Number::I64), true, vec![3])));
        let python2 = "{'descr': '|u1', 'fortran_order': False, 'shape': (3L, 4L)}";
        assert_eq!(parse(python2).map(|(_, _, shape)| shape), Ok(vec![3, 4]));
        let scalar = "{'descr': '<f4', 'fortran_order': False, 'shape': ()}";
        assert_eq!(parse(scalar).map(|(_, _, shape)| shape), Ok(vec![]));
    }

    #[test]
    fn headers_that_are_wrong() {
        for (text, message) in [
            ("", "expected {"),
            ("{'descr'}", "expected : after a key"),
            ("{'descr': '<f4', 'shape': (3,)}", "missing"),
            ("{'descr': [('a', '<f4')], 'shape': (3,)}", "expected one number a cell"),
            ("{'descr': '<U8', 'fortran_order': False, 'shape': (3,)}", "<U8"),
            ("{'descr': '|b1', 'fortran_order': False, 'shape': (3,)}", "packbits"),
            ("{'descr': '<f4', 'fortran_order': 1, 'shape': (3,)}", "expected True or False"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-3,)}", "expected a tuple"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", "tuple"),
            ("{'descr': '<f4', 'colour': 1}", "unknown key \"colour\""),
            ("{'é': 1", "unknown key"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
