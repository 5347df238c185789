//! The balls around a code, ring by ring.

use super::{Code, Width};

impl Code {
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
