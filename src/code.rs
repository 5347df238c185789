//! Codes: short strings of bits, their distance, and the balls around them.
//!
//! A code has 1 to 1024 bits. Everywhere outside a search kernel bit `i` is
//! `(bytes[i / 8] >> (7 - i % 8)) & 1`: the first bit is the highest of the first byte, as in
//! `BitVec<u8, Msb0>`, numpy's `packbits` and PostgreSQL's `B'0101'` read from left to right. The
//! bits that fill the last byte are zero, and anything else is refused, because a wrong bit order
//! gives wrong neighbours without a word.
//!
//! Inside, eight bytes make a `u64` in big-endian order, so that the order of words is the order
//! of bytes, and bit `i` is bit `63 - i % 64` of word `i / 64`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bitvec::order::Msb0;
use bitvec::slice::BitSlice;
use bitvec::vec::BitVec;

use crate::error::{Error, Result};

/// The number of bits of a code: 1 to 1024. Whoever holds one need not check again.
///
/// ```
/// use nearbit::Width;
///
/// let width = Width::new(100)?;
/// assert_eq!((width.bits(), width.bytes(), width.words()), (100, 13, 2));
/// assert!(Width::new(0).is_err() && Width::new(Width::MAX + 1).is_err());
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Width(u16);

impl Width {
    /// The widest code, in bits.
    pub const MAX: usize = 1024;

    /// A width of `bits` bits, or an error where that is not within 1..=1024.
    pub fn new(bits: usize) -> Result<Self> {
        match bits {
            1..=Self::MAX => Ok(Self(bits as u16)),
            _ => Err(Error::invalid("bits", format!("expected 1 to {}, got {bits}", Self::MAX))),
        }
    }

    /// The width in bits.
    pub fn bits(self) -> usize {
        usize::from(self.0)
    }

    /// The bytes of a packed code: bits / 8, rounded up.
    pub fn bytes(self) -> usize {
        self.bits().div_ceil(8)
    }

    /// The words of a code: bits / 64, rounded up.
    pub fn words(self) -> usize {
        self.bits().div_ceil(64)
    }

    /// The bits of the last word that a code may use.
    fn last_word_mask(self) -> u64 {
        u64::MAX << ((64 - self.bits() % 64) % 64)
    }
}

impl fmt::Display for Width {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bits", self.0)
    }
}

/// One code. Codes of one width are ordered as their bytes are.
///
/// ```
/// use nearbit::{Code, Width};
///
/// let width = Width::new(12)?;
/// let a = Code::parse("0b010110100000", width)?;
/// let b = Code::from_bytes(width, &[0x5a, 0x10])?;
/// assert_eq!(a.to_hex(), "5a00");
/// assert_eq!(a.distance(&b), 1);
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code {
    words: Box<[u64]>,
    width: Width,
}

impl Code {
    /// The code with every bit 0.
    ///
    /// ```
    /// use nearbit::{Code, Width};
    ///
    /// assert_eq!(Code::zero(Width::new(12)?).to_hex(), "0000");
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn zero(width: Width) -> Self {
        Self { words: vec![0; width.words()].into(), width }
    }

    /// A code from its packed bytes.
    ///
    /// ```
    /// use nearbit::{Code, Width};
    ///
    /// assert!(Code::from_bytes(Width::new(12)?, &[0x5a, 0x10]).is_ok());
    /// assert!(Code::from_bytes(Width::new(12)?, &[0x5a, 0x1f]).is_err()); // 16 bits, not 12
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// The wrong number of bytes, or bits set beyond the width.
    pub fn from_bytes(width: Width, bytes: &[u8]) -> Result<Self> {
        if bytes.len() != width.bytes() {
            return Err(Error::invalid(
                "code",
                format!("expected {} bytes for {width}, got {}", width.bytes(), bytes.len()),
            ));
        }
        let mut words = vec![0; width.words()];
        pack_words(bytes, &mut words);
        Self::from_words(width, &words)
    }

    /// A code from its words, the first bit highest in the first word.
    ///
    /// ```
    /// use nearbit::{Code, Width};
    ///
    /// let code = Code::from_words(Width::new(12)?, &[0x5a10_0000_0000_0000])?;
    /// assert_eq!(code.to_hex(), "5a10");
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// The wrong number of words, or bits set beyond the width.
    pub fn from_words(width: Width, words: &[u64]) -> Result<Self> {
        check_words(width, words)?;
        Ok(Self { words: words.into(), width })
    }

    /// A code from single bits; its width is their number.
    ///
    /// ```
    /// use bitvec::prelude::*;
    /// use nearbit::Code;
    ///
    /// let code = Code::from_bits(bits![u8, Msb0; 0, 1, 0, 1, 1])?;
    /// assert_eq!(code.to_binary(), "0b01011");
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// No bit, or more than 1024.
    pub fn from_bits(bits: &BitSlice<u8, Msb0>) -> Result<Self> {
        let mut code = Self::zero(Width::new(bits.len())?);
        bits.iter_ones().for_each(|i| code.flip(i));
        Ok(code)
    }

    /// Reads `0b0101...`, hexadecimal digits or base64 of the packed bytes.
    ///
    /// At one width the three forms differ in length or by base64's `=`, so none can be taken for
    /// another, though hexadecimal digits and base64 may begin with `0b` too.
    ///
    /// ```
    /// use nearbit::{Code, Width};
    ///
    /// let width = Width::new(16)?;
    /// let code = Code::parse("0b0101101000010000", width)?;
    /// assert_eq!(Code::parse("5a10", width)?, code);
    /// assert_eq!(Code::parse("WhA=", width)?, code);
    /// assert!(Code::parse("5a", width).is_err());
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// Text that is none of the three, of another length, or with bits set beyond the width.
    pub fn parse(text: &str, width: Width) -> Result<Self> {
        if let Some(digits) = text.strip_prefix("0b")
            && digits.len() == width.bits()
            && digits.bytes().all(|b| matches!(b, b'0' | b'1'))
        {
            let mut code = Self::zero(width);
            digits.bytes().enumerate().filter(|(_, b)| *b == b'1').for_each(|(i, _)| code.flip(i));
            return Ok(code);
        }
        let digit = |b: u8| char::from(b).to_digit(16).map(|digit| digit as u8);
        let from_hex = || -> Option<Vec<u8>> {
            text.as_bytes()
                .chunks(2)
                .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
                .collect()
        };
        let bytes = (text.len() == 2 * width.bytes())
            .then(from_hex)
            .flatten()
            .or_else(|| BASE64.decode(text).ok())
            .filter(|bytes| bytes.len() == width.bytes());
        let Some(bytes) = bytes else {
            return Err(Error::invalid(
                "code",
                format!(
                    "expected {} hexadecimal digits, base64 of {} bytes, or 0b and {} binary \
                     digits, got {:?} ({} characters)",
                    2 * width.bytes(),
                    width.bytes(),
                    width.bits(),
                    shorten(text),
                    text.chars().count()
                ),
            ));
        };
        Self::from_bytes(width, &bytes)
    }

    /// The packed bytes, `width().bytes()` of them.
    ///
    /// ```
    /// use nearbit::{Code, Width};
    ///
    /// assert_eq!(Code::parse("5a10", Width::new(12)?)?.to_bytes(), [0x5a, 0x10]);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.width.bytes());
        unpack_words(&self.words, self.width, &mut bytes);
        bytes
    }

    /// The single bits.
    ///
    /// ```
    /// use nearbit::{Code, Width};
    ///
    /// let bits = Code::parse("0b01011", Width::new(5)?)?.to_bits();
    /// assert_eq!(bits.iter().map(|bit| u8::from(*bit)).collect::<Vec<_>>(), [0, 1, 0, 1, 1]);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn to_bits(&self) -> BitVec<u8, Msb0> {
        let mut bits = BitVec::from_vec(self.to_bytes());
        bits.truncate(self.width.bits());
        bits
    }

    /// Hexadecimal digits of the packed bytes.
    ///
    /// ```
    /// use nearbit::{Code, Width};
    ///
    /// assert_eq!(Code::parse("0b01011", Width::new(5)?)?.to_hex(), "58");
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn to_hex(&self) -> String {
        self.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Base64 of the packed bytes.
    ///
    /// ```
    /// use nearbit::{Code, Width};
    ///
    /// assert_eq!(Code::parse("5a10", Width::new(16)?)?.to_base64(), "WhA=");
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn to_base64(&self) -> String {
        BASE64.encode(self.to_bytes())
    }

    /// `0b` and one digit a bit.
    ///
    /// ```
    /// use nearbit::{Code, Width};
    ///
    /// assert_eq!(Code::parse("58", Width::new(5)?)?.to_binary(), "0b01011");
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn to_binary(&self) -> String {
        let digits = (0..self.width.bits()).map(|i| if self.bit(i) { '1' } else { '0' });
        "0b".chars().chain(digits).collect()
    }

    /// The width.
    pub fn width(&self) -> Width {
        self.width
    }

    /// The words, the first bit highest in the first word.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Bit `i`.
    ///
    /// ```
    /// use nearbit::{Code, Width};
    ///
    /// assert!(Code::parse("0b01011", Width::new(5)?)?.bit(1));
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Panics
    /// Where `i` is not below the width, as indexing a slice does.
    pub fn bit(&self, i: usize) -> bool {
        assert!(i < self.width.bits(), "bit {i} of a code of {}", self.width);
        self.words[i / 64] >> (63 - i % 64) & 1 == 1
    }

    /// Turns bit `i` over.
    ///
    /// ```
    /// use nearbit::{Code, Width};
    ///
    /// let mut code = Code::zero(Width::new(5)?);
    /// code.flip(1);
    /// assert_eq!(code.to_binary(), "0b01000");
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Panics
    /// Where `i` is not below the width, as indexing a slice does.
    pub fn flip(&mut self, i: usize) {
        assert!(i < self.width.bits(), "bit {i} of a code of {}", self.width);
        self.words[i / 64] ^= 1 << (63 - i % 64);
    }

    /// The Hamming distance: in how many bits the two differ.
    ///
    /// ```
    /// use nearbit::{Code, Width};
    ///
    /// let width = Width::new(8)?;
    /// let (a, b) = (Code::parse("0b00001111", width)?, Code::parse("0b00111100", width)?);
    /// assert_eq!(a.distance(&b), 4);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Panics
    /// Where the widths differ: such codes have no distance.
    pub fn distance(&self, other: &Self) -> u32 {
        assert_eq!(self.width, other.width, "codes of two widths have no distance");
        distance(&self.words, &other.words)
    }

    /// Every code at exactly `radius` from this one, C(bits, radius) of them, in the order of
    /// the positions that are flipped. Empty where the radius is over the width.
    ///
    /// ```
    /// use nearbit::{Code, Width};
    ///
    /// let ring: Vec<String> = Code::zero(Width::new(3)?).ring(1).map(|code| code.to_binary()).collect();
    /// assert_eq!(ring, ["0b100", "0b010", "0b001"]);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn ring(&self, radius: usize) -> Ring {
        Ring {
            center: self.clone(),
            flips: (0..radius).collect(),
            done: radius > self.width.bits(),
        }
    }

    /// Every code within `radius` of this one, ring by ring from the inside.
    ///
    /// ```
    /// use nearbit::{Code, Width};
    ///
    /// assert_eq!(Code::zero(Width::new(64)?).ball(2).count(), 1 + 64 + 64 * 63 / 2);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn ball(&self, radius: usize) -> impl Iterator<Item = Self> + use<> {
        let center = self.clone();
        (0..=radius.min(self.width.bits())).flat_map(move |r| center.ring(r))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({}, {})", self.width, self.to_hex())
    }
}

/// The codes at one distance from a center; made by [`Code::ring`].
#[derive(Clone, Debug)]
pub struct Ring {
    center: Code,
    /// The positions that the next code flips, ascending.
    flips: Vec<usize>,
    done: bool,
}

impl Iterator for Ring {
    type Item = Code;

    fn next(&mut self) -> Option<Code> {
        if self.done {
            return None;
        }
        let mut code = self.center.clone();
        self.flips.iter().for_each(|&i| code.flip(i));
        self.done = !next_combination(&mut self.flips, self.center.width.bits());
        Some(code)
    }
}

/// The next choice of positions below `n` in lexicographic order; false after the last.
fn next_combination(flips: &mut [usize], n: usize) -> bool {
    let k = flips.len();
    let Some(i) = (0..k).rev().find(|&i| flips[i] < n - k + i) else { return false };
    flips[i] += 1;
    for j in i + 1..k {
        flips[j] = flips[j - 1] + 1;
    }
    true
}

/// How many codes a ring holds: C(bits, radius), or `u64::MAX` where that is not representable.
///
/// ```
/// let width = nearbit::Width::new(64)?;
/// assert_eq!(nearbit::code::ring_size(width, 3), 41_664);
/// # Ok::<(), nearbit::Error>(())
/// ```
pub fn ring_size(width: Width, radius: usize) -> u64 {
    let bits = width.bits() as u128;
    if radius > width.bits() {
        return 0;
    }
    let mut size = 1u128;
    for i in 0..radius.min(width.bits() - radius) as u128 {
        // Exact at each step: size is C(bits, i + 1).
        size = size * (bits - i) / (i + 1);
        if size > u128::from(u64::MAX) {
            return u64::MAX;
        }
    }
    size as u64
}

/// How many codes a ball holds: the sum of its rings, or `u64::MAX`.
///
/// ```
/// let width = nearbit::Width::new(64)?;
/// assert_eq!(nearbit::code::ball_size(width, 3), 43_745);
/// # Ok::<(), nearbit::Error>(())
/// ```
pub fn ball_size(width: Width, radius: usize) -> u64 {
    (0..=radius.min(width.bits())).fold(0u64, |sum, r| sum.saturating_add(ring_size(width, r)))
}

/// The Hamming distance of two codes of one width, given as words.
pub fn distance(a: &[u64], b: &[u64]) -> u32 {
    a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum()
}

/// Many codes of one width, packed one after the other: a matrix of shape (rows, words).
///
/// ```
/// use nearbit::{Code, Codes, Width};
///
/// let width = Width::new(12)?;
/// let mut codes = Codes::from_bytes(width, &[0x5a, 0x10, 0x00, 0x00])?;
/// codes.push(&Code::parse("fff0", width)?)?;
/// assert_eq!(codes.len(), 3);
/// assert_eq!(codes.get(2).to_hex(), "fff0");
/// assert_eq!(codes.rows().filter(|row| row[0] == 0).count(), 1);
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Codes {
    width: Width,
    words: Vec<u64>,
}

impl Codes {
    /// No codes yet.
    pub fn new(width: Width) -> Self {
        Self { width, words: Vec::new() }
    }

    /// No codes yet, and room for `rows`.
    pub fn with_capacity(width: Width, rows: usize) -> Self {
        Self { width, words: Vec::with_capacity(rows * width.words()) }
    }

    /// Codes from packed bytes, one row after the other: shape (rows, `width.bytes()`).
    ///
    /// # Errors
    /// A number of bytes that is no multiple of a row, or bits set beyond the width, with the row.
    pub fn from_bytes(width: Width, bytes: &[u8]) -> Result<Self> {
        if !bytes.len().is_multiple_of(width.bytes()) {
            return Err(Error::invalid(
                "codes",
                format!(
                    "expected a multiple of {} bytes for {width}, got {}",
                    width.bytes(),
                    bytes.len()
                ),
            ));
        }
        let mut codes = Self::with_capacity(width, bytes.len() / width.bytes());
        let mut row = vec![0; width.words()];
        for (i, bytes) in bytes.chunks_exact(width.bytes()).enumerate() {
            pack_words(bytes, &mut row);
            codes.push_words(&row).map_err(|e| e.within(&format!("row {i}: ")))?;
        }
        Ok(codes)
    }

    /// The packed bytes, one row after the other: shape (rows, `width.bytes()`).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len() * self.width.bytes());
        self.rows().for_each(|row| unpack_words(row, self.width, &mut bytes));
        bytes
    }

    /// Adds one code.
    ///
    /// # Errors
    /// A code of another width.
    pub fn push(&mut self, code: &Code) -> Result<()> {
        if code.width != self.width {
            let message = format!("expected {}, got {}", self.width, code.width);
            return Err(Error::invalid("code", message));
        }
        self.words.extend_from_slice(&code.words);
        Ok(())
    }

    /// Adds one code given as words.
    ///
    /// # Errors
    /// The wrong number of words, or bits set beyond the width.
    pub fn push_words(&mut self, words: &[u64]) -> Result<()> {
        check_words(self.width, words)?;
        self.words.extend_from_slice(words);
        Ok(())
    }

    /// The width of every code.
    pub fn width(&self) -> Width {
        self.width
    }

    /// The number of codes.
    pub fn len(&self) -> usize {
        self.words.len() / self.width.words()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The words of code `row`.
    ///
    /// # Panics
    /// Where `row` is not below `len()`, as indexing a slice does.
    pub fn row(&self, row: usize) -> &[u64] {
        let n = self.width.words();
        &self.words[row * n..(row + 1) * n]
    }

    /// Code `row`.
    ///
    /// # Panics
    /// Where `row` is not below `len()`, as indexing a slice does.
    pub fn get(&self, row: usize) -> Code {
        Code { words: self.row(row).into(), width: self.width }
    }

    /// The words of every code in turn.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[u64]> {
        self.words.chunks_exact(self.width.words())
    }

    /// All words, row after row.
    pub fn as_words(&self) -> &[u64] {
        &self.words
    }
}

impl fmt::Debug for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Codes({} x {})", self.len(), self.width)
    }
}

fn check_words(width: Width, words: &[u64]) -> Result<()> {
    if words.len() != width.words() {
        return Err(Error::invalid(
            "code",
            format!("expected {} words for {width}, got {}", width.words(), words.len()),
        ));
    }
    if words[words.len() - 1] & !width.last_word_mask() != 0 {
        return Err(Error::invalid(
            "code",
            format!(
                "bits are set beyond the first {}; the unused low bits of the last byte must be \
                 0 (is the bit order reversed?)",
                width.bits()
            ),
        ));
    }
    Ok(())
}

/// Bytes to words; a last word that is not full is filled up with zeros.
fn pack_words(bytes: &[u8], words: &mut [u64]) {
    for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
        let mut full = [0; 8];
        full[..chunk.len()].copy_from_slice(chunk);
        *word = u64::from_be_bytes(full);
    }
}

/// Words to bytes, appended to `bytes`.
fn unpack_words(words: &[u64], width: Width, bytes: &mut Vec<u8>) {
    let end = bytes.len() + width.bytes();
    words.iter().for_each(|word| bytes.extend_from_slice(&word.to_be_bytes()));
    bytes.truncate(end);
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
