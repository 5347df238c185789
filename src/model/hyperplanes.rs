//! The untrained encoder: the side of random hyperplanes that an input lies on.
//!
//! Bit `j` of a code is 1 where the input has a positive scalar product with the normal of plane
//! `j`. Normals are drawn from a Gaussian, so two inputs at angle θ differ in each bit with
//! probability θ / π (Charikar, *Similarity estimation techniques from rounding algorithms*, STOC
//! 2002): Hamming distance estimates the angle, and a collection works from its first record.
//!
//! A vector or the pixels of an image are taken as they are, neither centred nor scaled. A text is
//! a vector with a component for the stem of every word there could ever be, stop words apart; a
//! stem that stands `tf` times has `1 + log2 tf` there, rounded down. Nobody can keep the normals
//! of that space, but a stem's share of each can be hashed from the stem when it is met (Charikar's
//! SimHash).
//!
//! **The bytes of a code never change.** Normals are made of BLAKE3 output, and everything from
//! there on is sums, products, quotients and square roots in a fixed order, which IEEE 754 rounds
//! alike on every machine; no call of a library whose last digit differs. One seed gives one
//! encoder for ever, and the first bits of a wider code are the narrower code. Tests pin the bytes.
//! Whoever must change them, or the words of a text, counts `GENERATOR` up.

use serde::{Deserialize, Serialize};

use super::features::{Words, check_finite, check_whole, fill_rows};
use crate::code::{Codes, Width};
use crate::error::{Error, Result};
use crate::input::{InputKind, Inputs, Matrix};

/// The version of how planes are made. A saved encoder of another version is refused.
const GENERATOR: u32 = 1;

/// The most numbers that all normals may have: 1 GiB of them.
const MOST_NUMBERS: usize = 1 << 28;

/// Random hyperplanes in the space of one kind of input.
///
/// ```
/// use nearbit::model::hyperplanes::Hyperplanes;
/// use nearbit::{InputKind, Inputs, Width};
///
/// let planes = Hyperplanes::new(InputKind::Text, Width::new(256)?, 7)?;
/// let texts = ["a fast red car", "the red car is fast", "how bread is baked"];
/// let codes = planes.encode(&Inputs::Texts(texts.map(String::from).to_vec()))?;
/// assert_eq!(codes.get(0).distance(&codes.get(1)), 0); // the same words
/// assert!(codes.get(0).distance(&codes.get(2)) > 64);
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Settings", into = "Settings")]
pub struct Hyperplanes {
    settings: Settings,
    width: Width,
    /// What the hashes are keyed with: follows from kind and seed.
    key: [u8; 32],
    /// Shape (dim, bits): row `d` holds component `d` of every normal. Empty for texts.
    normals: Vec<f32>,
}

/// All that has to be kept of an encoder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Settings {
    generator: u32,
    #[serde(with = "SavedKind")]
    input: InputKind,
    bits: usize,
    seed: u64,
}

/// `InputKind` as it is written: `"text"`, `{"vector":{"dim":384}}`.
#[derive(Serialize, Deserialize)]
#[serde(remote = "InputKind", rename_all = "snake_case")]
enum SavedKind {
    Text,
    Vector { dim: usize },
    Image { height: usize, width: usize },
}

impl From<Hyperplanes> for Settings {
    fn from(planes: Hyperplanes) -> Self {
        planes.settings
    }
}

impl TryFrom<Settings> for Hyperplanes {
    type Error = Error;

    fn try_from(settings: Settings) -> Result<Self> {
        if settings.generator != GENERATOR {
            return Err(Error::invalid(
                "hyperplanes",
                format!(
                    "expected generator {GENERATOR}, got {}; open it with the version that made it",
                    settings.generator
                ),
            ));
        }
        Self::new(settings.input, Width::new(settings.bits)?, settings.seed)
    }
}

impl Hyperplanes {
    /// The planes that `seed` gives: `width` of them, for inputs of one kind and shape.
    ///
    /// # Errors
    /// Rows of no numbers, or of so many that the planes would not fit into 1 GiB.
    pub fn new(input: InputKind, width: Width, seed: u64) -> Result<Self> {
        let dim = match input {
            InputKind::Text => None,
            InputKind::Vector { dim } => Some(dim),
            InputKind::Image { height, width } => Some(height.saturating_mul(width)),
        };
        let most = MOST_NUMBERS / width.bits();
        if dim.is_some_and(|dim| !(1..=most).contains(&dim)) {
            return Err(Error::invalid(
                "input",
                format!("expected rows of 1 to {most} numbers for {width}, got {input}"),
            ));
        }
        // Two contexts: a word can never be taken for the number of a plane.
        let key = match dim {
            None => blake3::derive_key("nearbit hyperplanes 1: words", &seed.to_le_bytes()),
            Some(_) => blake3::derive_key("nearbit hyperplanes 1: planes", &seed.to_le_bytes()),
        };
        let normals = dim.map_or(Vec::new(), |dim| normals(&key, dim, width.bits()));
        let settings = Settings { generator: GENERATOR, input, bits: width.bits(), seed };
        Ok(Self { settings, width, key, normals })
    }

    /// The kind and shape of the rows that it takes.
    pub fn input(&self) -> InputKind {
        self.settings.input
    }

    /// The width of its codes.
    pub fn width(&self) -> Width {
        self.width
    }

    /// The seed that it was made from.
    pub fn seed(&self) -> u64 {
        self.settings.seed
    }

    /// A code for each row. A row of zeros, or a text of stop words only, gets the code 0.
    ///
    /// # Errors
    /// Inputs of another kind or shape, or numbers that are not finite.
    pub fn encode(&self, inputs: &Inputs) -> Result<Codes> {
        self.check(inputs)?;
        let words = fill_rows(inputs.len(), self.width.words(), |i, code: &mut [u64]| {
            let mut products = vec![0.0; self.width.bits()];
            self.project(inputs, i, &mut products);
            for (j, product) in products.iter().enumerate() {
                code[j / 64] |= u64::from(*product > 0.0) << (63 - j % 64);
            }
        });
        let mut codes = Codes::with_capacity(self.width, inputs.len());
        for code in words.chunks_exact(self.width.words()) {
            codes.push_words(code)?;
        }
        Ok(codes)
    }

    /// The scalar products of each row, taken at length 1, with the normals: shape (rows, bits). A
    /// bit of the code is 1 where its product is above 0.
    ///
    /// # Errors
    /// As in [`Self::encode`].
    pub fn products(&self, inputs: &Inputs) -> Result<Matrix> {
        self.check(inputs)?;
        let values = fill_rows(inputs.len(), self.width.bits(), |i, row| {
            self.project(inputs, i, row);
        });
        Ok(Matrix::new(inputs.len(), self.width.bits(), values))
    }

    /// The code layer's real values: the logistic function of each row's scalar products, taken at
    /// length 1. Shape (rows, bits), within 0..=1; above one half where the bit is 1 (or just one
    /// half, where the product is too small for an f32 to show).
    ///
    /// # Errors
    /// As in [`Self::encode`].
    pub fn activations(&self, inputs: &Inputs) -> Result<Matrix> {
        self.check(inputs)?;
        let values = fill_rows(inputs.len(), self.width.bits(), |i, row| {
            self.project(inputs, i, row);
            row.iter_mut().for_each(|value| *value = 1.0 / (1.0 + (-*value).exp()));
        });
        Ok(Matrix::new(inputs.len(), self.width.bits(), values))
    }

    fn check(&self, inputs: &Inputs) -> Result<()> {
        self.settings.input.check(inputs.kind())?;
        match inputs {
            Inputs::Texts(_) => Ok(()),
            Inputs::Vectors(vectors) => check_finite(vectors, 0),
            Inputs::Images(images) => check_whole(images),
        }
    }

    /// The scalar product of row `i`, at length 1, with the normal of every plane.
    fn project(&self, inputs: &Inputs, i: usize, products: &mut [f32]) {
        match inputs {
            Inputs::Texts(texts) => self.project_text(&texts[i], products),
            Inputs::Vectors(vectors) => self.project_vector(vectors.row(i), products),
            Inputs::Images(images) => {
                let pixels: Vec<f32> = images.row(i).iter().map(|byte| f32::from(*byte)).collect();
                self.project_vector(&pixels, products);
            }
        }
    }

    fn project_vector(&self, vector: &[f32], products: &mut [f32]) {
        let length = length(vector.iter().copied());
        for (value, components) in vector.iter().zip(self.normals.chunks_exact(products.len())) {
            if *value != 0.0 {
                add_scaled(products, (f64::from(*value) / length) as f32, components);
            }
        }
    }

    fn project_text(&self, text: &str, products: &mut [f32]) {
        let mut words = Vec::new();
        Words::new(true, true).for_each(text, |word| words.push(word.to_string()));
        // Sums of floats depend on their order; the order of words in a text shall not.
        words.sort_unstable();
        let runs: Vec<&[String]> = words.chunk_by(|a, b| a == b).collect();
        let weights: Vec<f32> = runs.iter().map(|run| sublinear(run.len())).collect();
        let length = length(weights.iter().copied());
        let mut bytes = vec![0; 8 * products.len()];
        let mut components = vec![0.0; products.len()];
        for (run, weight) in runs.iter().zip(weights) {
            hash(&self.key, run[0].as_bytes(), &mut bytes);
            bytes.chunks_exact(8).zip(&mut components).for_each(|(b, c)| *c = gaussian(b));
            add_scaled(products, (f64::from(weight) / length) as f32, &components);
        }
    }
}

/// `1 + log2 tf`, rounded down to a whole number, which no machine gets wrong.
fn sublinear(tf: usize) -> f32 {
    (1 + tf.max(1).ilog2()) as f32
}

fn length(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt()
}

/// `sum += factor * row`.
fn add_scaled(sum: &mut [f32], factor: f32, row: &[f32]) {
    sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += factor * value);
}

/// The components of every normal, shape (dim, bits). Normal `j` is hashed from the number `j`
/// alone, so it is the same in a wider code.
fn normals(key: &[u8; 32], dim: usize, bits: usize) -> Vec<f32> {
    let mut normals = vec![0.0; dim * bits];
    let mut bytes = vec![0; 8 * dim];
    for j in 0..bits {
        hash(key, &(j as u64).to_le_bytes(), &mut bytes);
        let components = bytes.chunks_exact(8).map(gaussian);
        components.zip(normals.iter_mut().skip(j).step_by(bits)).for_each(|(c, n)| *n = c);
    }
    normals
}

/// Fills `bytes` with the keyed hash of `input`.
fn hash(key: &[u8; 32], input: &[u8], bytes: &mut [u8]) {
    blake3::Hasher::new_keyed(key).update(input).finalize_xof().fill(bytes);
}

/// A number of mean 0 and variance 1, next to Gaussian, from eight random bytes.
///
/// The number of ones among 40 fair bits is binomial, a Gaussian on whole numbers; the other 24
/// bits spread it evenly over the gap to the next. Mean 20, variance 10 + 1/12, kurtosis within
/// 0.05 of a Gaussian's. Unlike the textbook's transforms it takes no logarithm, whose last digit
/// differs between machines.
fn gaussian(bytes: &[u8]) -> f32 {
    let random = bytes.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let ones = (random >> 24).count_ones() as f32 - 20.0;
    let spread = (random & 0xff_ffff) as f32 / (1 << 24) as f32 - 0.5;
    (ones + spread) * 0.314_919_7
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use super::*;
    use crate::input::Images;

    fn planes(input: InputKind, bits: usize, seed: u64) -> Hyperplanes {
        Hyperplanes::new(input, Width::new(bits).unwrap(), seed).unwrap()
    }

    fn texts(texts: &[&str]) -> Inputs {
        Inputs::Texts(texts.iter().map(|text| text.to_string()).collect())
    }

    fn samples() -> [Inputs; 3] {
        let values = (0..120).map(|i| ((i * i + 3) % 17) as f32 - 8.0).collect();
        let sentences: Vec<String> =
            (0..40).map(|i| format!("alpha{i} beta{} gamma beta{}", i % 5, i % 3)).collect();
        let pixels = (0..160).map(|i| (i * 37 % 256) as u8).collect();
        [
            Inputs::Texts(sentences),
            Inputs::Vectors(Matrix::new(40, 3, values)),
            Inputs::Images(Images { height: 2, width: 2, pixels }),
        ]
    }

    /// Changed bytes would make every stored code wrong: then a new generator is due. The expected
    /// ones were computed by another program, written in Python from this module's description.
    #[test]
    fn the_bytes_are_pinned() {
        let check = |inputs: Inputs, seed, expected: [&str; 2]| {
            let codes = planes(inputs.kind(), 100, seed).encode(&inputs).unwrap();
            assert_eq!([codes.get(0).to_hex(), codes.get(1).to_hex()], expected);
        };
        let sentences = ["The quick brown fox", "C# and naïve Ωmega's fox: hashing hashes, hashed"];
        let expected = ["861044c276a1981a0ee103a010", "954e739b0ed29f5eaa846ba030"];
        check(texts(&sentences), 0, expected);
        let vectors = Matrix::new(2, 3, vec![1.0, 0.0, 0.0, 0.3, -2.0, 1e30]);
        let expected = ["a183b11a0a8a74292f33ae6b50", "9075de083763a57eb417c707b0"];
        check(Inputs::Vectors(vectors), 1, expected);
        let images = Images { height: 1, width: 3, pixels: vec![0, 255, 16, 3, 9, 9] };
        let expected = ["a54e3d72fb092855153d82e8e0", "906c7ff2ca840855147de8c1a0"];
        check(Inputs::Images(images), u64::MAX, expected);
    }

    #[test]
    fn the_distance_of_codes_is_the_angle_of_inputs() {
        const BITS: usize = 1024;
        let dim = 8;
        for degrees in [1.0, 10.0, 45.0, 90.0, 135.0, 180.0] {
            let angle = f64::to_radians(degrees);
            // Pairs in planes along the axes are the hardest for planes not drawn from a Gaussian.
            for seed in 0..4 {
                let mut vectors = Matrix::zeros(2, dim);
                vectors.row_mut(0)[0] = 3.0;
                vectors.row_mut(1)[0] = angle.cos() as f32;
                vectors.row_mut(1)[seed as usize + 1] = angle.sin() as f32;
                let codes = planes(InputKind::Vector { dim }, BITS, seed)
                    .encode(&Inputs::Vectors(vectors))
                    .unwrap();
                let distance = f64::from(codes.get(0).distance(&codes.get(1)));
                let share = angle / PI;
                let expected = BITS as f64 * share;
                let error = (BITS as f64 * share * (1.0 - share)).sqrt();
                assert!((distance - expected).abs() <= 4.0 * error + 1e-9, "{degrees}: {distance}");
            }
        }
    }

    #[test]
    fn the_distance_of_texts_is_the_angle_of_their_word_counts() {
        let encoder = planes(InputKind::Text, 1024, 5);
        let codes = encoder
            .encode(&texts(&["red fox", "red dog", "dog red", "green house", "fox fox red"]))
            .unwrap();
        let check = |a: usize, b: usize, cosine: f64| {
            let share = cosine.acos() / PI;
            let distance = f64::from(codes.get(a).distance(&codes.get(b)));
            let error = (1024.0 * share * (1.0 - share)).sqrt();
            assert!((distance - 1024.0 * share).abs() <= 4.0 * error + 1e-9, "{a} {b}: {distance}");
        };
        check(0, 1, 0.5);
        check(1, 2, 1.0);
        check(0, 3, 0.0);
        check(0, 4, 3.0 / 10f64.sqrt());
    }

    #[test]
    fn the_order_of_words_does_not_matter() {
        let encoder = planes(InputKind::Text, 1024, 6);
        let orders = ["red fox red dog cat sun red", "sun cat dog red red fox red"];
        let activations = encoder.activations(&texts(&orders)).unwrap();
        assert_eq!(activations.row(0), activations.row(1));
    }

    #[test]
    fn the_first_bits_of_a_wider_code_are_the_narrower_code() {
        for inputs in samples() {
            let wide = planes(inputs.kind(), 130, 9).encode(&inputs).unwrap();
            let narrow = planes(inputs.kind(), 67, 9).encode(&inputs).unwrap();
            for i in 0..inputs.len() {
                assert_eq!(wide.get(i).to_bits()[..67], narrow.get(i).to_bits());
            }
        }
    }

    #[test]
    fn one_row_alone_and_among_many_gets_one_code_and_another_seed_another() {
        for inputs in samples() {
            let encoder = planes(inputs.kind(), 96, 1);
            let codes = encoder.encode(&inputs).unwrap();
            for i in 0..inputs.len() {
                assert_eq!(encoder.encode(&inputs.select(&[i])).unwrap().get(0), codes.get(i));
            }
            assert_ne!(planes(inputs.kind(), 96, 2).encode(&inputs).unwrap(), codes);
        }
    }

    #[test]
    fn length_does_not_matter_and_nothing_overflows() {
        let rows = [[1.0, -2.0, 0.5], [1e38, -2e38, 0.5e38], [2e-38, -4e-38, 1e-38]];
        let vectors = Inputs::Vectors(Matrix::new(3, 3, rows.concat()));
        let codes = planes(vectors.kind(), 256, 3).encode(&vectors).unwrap();
        assert!(codes.get(0).distance(&codes.get(1)) <= 1);
        assert!(codes.get(0).distance(&codes.get(2)) <= 1);
    }

    #[test]
    fn activations_stand_on_the_side_of_their_bit() {
        for inputs in samples() {
            let encoder = planes(inputs.kind(), 70, 4);
            let activations = encoder.activations(&inputs).unwrap();
            let codes = encoder.encode(&inputs).unwrap();
            assert_eq!((activations.rows(), activations.cols()), (inputs.len(), 70));
            for (i, row) in activations.iter().enumerate() {
                for (j, value) in row.iter().enumerate() {
                    let bit = codes.get(i).bit(j);
                    assert!(if bit { *value >= 0.5 } else { *value <= 0.5 }, "{i} {j}: {value}");
                }
                let spread = row.iter().filter(|v| (0.1..0.9).contains(*v)).count();
                assert!(spread > 50, "squashed to the ends: {row:?}");
            }
        }
    }

    #[test]
    fn rows_without_a_direction_get_the_code_0() {
        let encoder = planes(InputKind::Text, 64, 0);
        let nothing = texts(&["", "the of and", "?!"]);
        assert!(encoder.encode(&nothing).unwrap().as_words().iter().all(|word| *word == 0));
        assert!(encoder.activations(&nothing).unwrap().values().iter().all(|v| *v == 0.5));
        let zeros = Inputs::Vectors(Matrix::zeros(2, 3));
        assert_eq!(planes(zeros.kind(), 64, 0).encode(&zeros).unwrap().as_words(), [0, 0]);
    }

    #[test]
    fn bits_are_balanced_and_numbers_nearly_gaussian() {
        let components = normals(&[7; 32], 1000, 64);
        let n = components.len() as f64;
        let moment = |k| components.iter().map(|c| f64::from(*c).powi(k)).sum::<f64>() / n;
        assert!(moment(1).abs() < 0.02, "{}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.03, "{}", moment(2));
        assert!(moment(3).abs() < 0.06, "{}", moment(3));
        assert!((moment(4) - 3.0).abs() < 0.2, "{}", moment(4));
        let within = components.iter().filter(|c| c.abs() < 0.1).count() as f64 / n;
        assert!((within - 0.0797).abs() < 0.005, "{within}");
    }

    #[test]
    fn settings_come_back_from_json_and_damaged_ones_are_refused() {
        for inputs in samples() {
            let encoder = planes(inputs.kind(), 33, u64::MAX);
            let json = serde_json::to_string(&encoder).unwrap();
            assert!(json.len() < 120, "{json}");
            let back: Hyperplanes = serde_json::from_str(&json).unwrap();
            assert_eq!(
                (back.input(), back.width(), back.seed()),
                (inputs.kind(), encoder.width(), u64::MAX)
            );
            assert_eq!(back.encode(&inputs).unwrap(), encoder.encode(&inputs).unwrap());
        }
        let check = |json: &str, expected: &str| {
            let error = serde_json::from_str::<Hyperplanes>(json).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(r#"{"generator":2,"input":"text","bits":8,"seed":0}"#, "expected generator 1, got 2");
        check(r#"{"generator":1,"input":"text","bits":0,"seed":0}"#, "1 to 1024, got 0");
        check(r#"{"generator":1,"input":{"vector":{"dim":0}},"bits":8,"seed":0}"#, "rows of 1 to");
        let huge = r#"{"image":{"height":18446744073709551615,"width":9}}"#;
        check(&format!(r#"{{"generator":1,"input":{huge},"bits":8,"seed":0}}"#), "rows of 1 to");
    }

    #[test]
    fn other_inputs_are_refused() {
        let encoder = planes(InputKind::Vector { dim: 3 }, 8, 0);
        for inputs in [texts(&["a"]), Inputs::Vectors(Matrix::zeros(1, 4))] {
            assert!(encoder.encode(&inputs).unwrap_err().to_string().contains("of 3 numbers"));
        }
        let bad = Inputs::Vectors(Matrix::new(1, 3, vec![0.0, f32::NAN, 1.0]));
        let error = encoder.encode(&bad).unwrap_err().to_string();
        assert!(error.starts_with("vectors[0][1]"), "{error}");
        assert!(encoder.activations(&bad).is_err());
        let ragged = Images { height: 1, width: 3, pixels: vec![0; 4] };
        let encoder = planes(InputKind::Image { height: 1, width: 3 }, 8, 0);
        assert!(encoder.encode(&Inputs::Images(ragged)).is_err());
    }
}
