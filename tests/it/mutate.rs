//! Changes inputs at random, so that they stay nearly what a reader expects, and watches the reader.
//! The tests inside the library have this file too.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use rand::{Rng, RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a reader may take that does not depend on the input: its buffers.
const OWN_BYTES: u64 = 1 << 20;

/// Gives changed examples to `read`, which must return.
pub fn fuzz(examples: &[&[u8]], read: impl Fn(&[u8])) {
    let number = |name| std::env::var(name).ok().map(|text: String| text.parse::<u64>().unwrap());
    let runs = match number("NEARBIT_RUN") {
        Some(run) => run..run + 1,
        None => 0..number("NEARBIT_RUNS").unwrap_or(3000),
    };
    let examples: Vec<Vec<u8>> = examples.iter().map(|example| example.to_vec()).collect();
    for run in runs {
        let input = mutate(&examples, &mut ChaCha8Rng::seed_from_u64(run));
        let of =
            || format!("run {run}: {:?}", String::from_utf8_lossy(&input[..input.len().min(400)]));
        let mut panic = None;
        let memory = allocation_counter::measure(|| {
            panic = catch_unwind(AssertUnwindSafe(|| read(&input))).err();
        });
        if let Some(panic) = panic {
            eprintln!("{}", of());
            resume_unwind(panic);
        }
        let allowed = 8 * input.len() as u64 + OWN_BYTES;
        let most = memory.bytes_max;
        assert!(most <= allowed, "{most} bytes allocated, expected at most {allowed}; {}", of());
    }
}

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
fn mutate(examples: &[Vec<u8>], rng: &mut impl Rng) -> Vec<u8> {
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
