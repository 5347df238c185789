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

mod ball;
mod codes;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bitvec::order::Msb0;
use bitvec::slice::BitSlice;
use bitvec::vec::BitVec;

pub use self::ball::{Ring, ball_size, ring_size};
pub use self::codes::Codes;
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

/// The Hamming distance of two codes of one width, given as words.
pub fn distance(a: &[u64], b: &[u64]) -> u32 {
    a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum()
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
