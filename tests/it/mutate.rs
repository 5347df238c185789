//! Changes inputs at random, so that they stay nearly what a reader expects.

use rand::{Rng, RngExt as _};

/// Numbers at which sizes and offsets go wrong.
const EDGES: [u64; 12] =
    [0, 1, 0x7f, 0x80, 0xff, 0xffff, 1 << 31, u32::MAX as u64, 1 << 32, 1 << 62, 1 << 63, u64::MAX];

/// Pieces of text at which parsers go wrong.
const WORDS: [&[u8]; 20] = [
    b"\"",
    b"'",
    b"{",
    b"[[",
    b"(",
    b")",
    b"\\u0000",
    b"\\ud800",
    b"\xff\xfe",
    b"\0",
    b"\r\n",
    b",,",
    b"nan",
    b"1e999",
    b"-0",
    b"99999999999999999999",
    b"not ",
    b" and ",
    b"null",
    "\u{feff}é".as_bytes(),
];

/// One of `examples`, changed in one to eight places, no longer than 64 KiB.
pub fn mutate(examples: &[Vec<u8>], rng: &mut impl Rng) -> Vec<u8> {
    let mut bytes = pick(examples, rng).clone();
    for _ in 0..rng.random_range(1..=8) {
        change(&mut bytes, examples, rng);
    }
    bytes.truncate(1 << 16);
    bytes
}

fn pick<'a, T>(from: &'a [T], rng: &mut impl Rng) -> &'a T {
    &from[rng.random_range(0..from.len())]
}

fn change(bytes: &mut Vec<u8>, examples: &[Vec<u8>], rng: &mut impl Rng) {
    // Headers stand at the start, and are where a change says most.
    let reach = if rng.random() { bytes.len().min(64) } else { bytes.len() };
    let at = rng.random_range(0..=reach);
    let end = at + rng.random_range(0..=(bytes.len() - at).min(64));
    match rng.random_range(0..9) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << rng.random_range(0..8);
            }
        }
        1 => {
            let edge = pick(&EDGES, rng).wrapping_add_signed(rng.random_range(-1..=1));
            let number = if rng.random() { edge.to_le_bytes() } else { edge.to_be_bytes() };
            let width = 1 << rng.random_range(0..4);
            let number = if rng.random() { &number[..width] } else { &number[8 - width..] };
            for (byte, new) in bytes[at..].iter_mut().zip(number) {
                *byte = *new;
            }
        }
        2 => drop(bytes.drain(at..end)),
        3 => {
            let again = bytes[at..end].repeat(rng.random_range(1..40));
            bytes.splice(at..at, again);
        }
        4 => drop(bytes.splice(at..end, pick(&WORDS, rng).iter().copied())),
        5 => bytes.truncate(at),
        6 => {
            let other = pick(examples, rng);
            let from = rng.random_range(0..=other.len());
            bytes.splice(at.., other[from..].iter().copied());
        }
        7 => bytes[at..end].iter_mut().for_each(|byte| *byte = rng.random()),
        _ => {
            // A number that is written out becomes another.
            if let Some(digit) = bytes[at..].iter_mut().find(|byte| byte.is_ascii_digit()) {
                *digit = b'0' + rng.random_range(0..10);
            }
        }
    }
}
