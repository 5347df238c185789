//! Images to features: pixels as numbers from 0, black, to 1, the brightest pixel of the fit.
//!
//! Bytes do not say what white is: MNIST's pixels reach 255, those of the 8x8 digits 16. So the
//! largest byte seen in the training set counts as 1, unless an option names another, and brighter
//! pixels of later images count as 1 too.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::fill_rows;
use crate::error::{Error, Result};
use crate::input::{Images, InputKind, Matrix};

/// What is done to images.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ImageOptions {
    /// The byte that stands for 1; none for the largest of the training set.
    pub white: Option<u8>,
}

/// Fitted: `pixel / white`, at most 1.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct ImagePipeline {
    height: usize,
    width: usize,
    white: u8,
}

/// The most pixels that an image may have: 4,096 x 4,096. A larger size in a file is damage.
const MOST_PIXELS: usize = 1 << 24;

impl ImagePipeline {
    /// Learns the size and the brightest pixel. Where all are black, 255 is white.
    ///
    /// # Errors
    /// No image, images of no pixels or too many, or a number of bytes that is no whole number of
    /// images.
    pub fn fit(images: &Images, options: &ImageOptions) -> Result<Self> {
        let mut fit = ImageFit::new(images, options);
        fit.add(images)?;
        fit.finish()
    }

    fn new(height: usize, width: usize, white: u8) -> Result<Self> {
        if !height.checked_mul(width).is_some_and(|pixels| (1..=MOST_PIXELS).contains(&pixels)) {
            return Err(Error::invalid(
                "images",
                format!("expected 1 to {MOST_PIXELS} pixels an image, got {height} x {width}"),
            ));
        }
        if white == 0 {
            return Err(Error::invalid("white", "expected a byte from 1 to 255, got 0"));
        }
        Ok(Self { height, width, white })
    }

    /// The features of `images`: shape (images, height x width), each within 0..=1.
    ///
    /// # Errors
    /// Images of another size than in the fit, or a number of bytes that is no whole number of
    /// images.
    pub fn apply(&self, images: &Images) -> Result<Matrix> {
        self.apply_rows(images, 0..images.len())
    }

    /// The features of some of the images.
    pub(super) fn apply_rows(&self, images: &Images, rows: Range<usize>) -> Result<Matrix> {
        let got = InputKind::Image { height: images.height, width: images.width };
        self.input().check(got)?;
        check_whole(images)?;
        // One division a level, not one a pixel.
        let white = f32::from(self.white);
        let levels: Vec<f32> = (0..=255u8).map(|byte| f32::from(byte).min(white) / white).collect();
        let values = fill_rows(rows.len(), self.cols(), |i, row| {
            let pixels = images.row(rows.start + i).iter();
            row.iter_mut().zip(pixels).for_each(|(feature, byte)| {
                *feature = levels[usize::from(*byte)];
            });
        });
        Ok(Matrix::new(rows.len(), self.cols(), values))
    }

    /// Images of `features`, rounded to bytes; what is beyond 0..=1 is cut off.
    ///
    /// # Panics
    /// Where a row has another number of columns than an image has pixels.
    pub fn undo(&self, features: &Matrix) -> Images {
        assert_eq!(features.cols(), self.cols(), "pixels of the features");
        let byte = |x: &f32| (x.clamp(0.0, 1.0) * f32::from(self.white)).round() as u8;
        let pixels = features.values().iter().map(byte).collect();
        Images { height: self.height, width: self.width, pixels }
    }

    /// The size of the images.
    pub fn input(&self) -> InputKind {
        InputKind::Image { height: self.height, width: self.width }
    }

    /// The number of pixels, and of features.
    pub fn cols(&self) -> usize {
        self.height * self.width
    }

    /// The byte that stands for 1.
    pub fn white(&self) -> u8 {
        self.white
    }
}

/// A fit under way: it is shown all images, some at a time.
pub(crate) struct ImageFit {
    height: usize,
    width: usize,
    options: ImageOptions,
    is_empty: bool,
    brightest: u8,
}

impl ImageFit {
    /// For images of the size of `like`.
    pub fn new(like: &Images, options: &ImageOptions) -> Self {
        let Images { height, width, .. } = *like;
        Self { height, width, options: *options, is_empty: true, brightest: 0 }
    }

    pub fn add(&mut self, images: &Images) -> Result<()> {
        let Images { height, width, ref pixels } = *images;
        InputKind::Image { height: self.height, width: self.width }
            .check(InputKind::Image { height, width })?;
        check_whole(images)?;
        self.is_empty &= pixels.is_empty();
        self.brightest = self.brightest.max(pixels.iter().copied().max().unwrap_or(0));
        Ok(())
    }

    pub fn finish(self) -> Result<ImagePipeline> {
        if self.is_empty {
            return Err(Error::invalid("images", "expected at least one image, got none"));
        }
        let brightest = if self.brightest > 0 { self.brightest } else { 255 };
        ImagePipeline::new(self.height, self.width, self.options.white.unwrap_or(brightest))
    }
}

/// An error where the bytes are no whole number of images.
pub(crate) fn check_whole(images: &Images) -> Result<()> {
    let Images { height, width, ref pixels } = *images;
    let whole = match height.checked_mul(width) {
        Some(0) | None => pixels.is_empty(),
        Some(size) => pixels.len().is_multiple_of(size),
    };
    if whole {
        return Ok(());
    }
    Err(Error::invalid(
        "images",
        format!(
            "expected a whole number of images of {height} x {width} pixels, got {} bytes",
            pixels.len()
        ),
    ))
}

/// An image pipeline as it was read, not believed yet.
#[derive(Deserialize)]
struct Stored {
    height: usize,
    width: usize,
    white: u8,
}

impl TryFrom<Stored> for ImagePipeline {
    type Error = Error;

    fn try_from(Stored { height, width, white }: Stored) -> Result<Self> {
        Self::new(height, width, white).map_err(|e| e.within("image pipeline: "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(height: usize, width: usize, pixels: &[u8]) -> Images {
        Images { height, width, pixels: pixels.to_vec() }
    }

    fn fit(images: &Images, white: Option<u8>) -> Result<ImagePipeline> {
        ImagePipeline::fit(images, &ImageOptions { white })
    }

    #[test]
    fn the_brightest_pixel_counts_as_1() {
        let digits = images(1, 3, &[0, 4, 16, 8, 16, 0]);
        let pipeline = fit(&digits, None).unwrap();
        let features = pipeline.apply(&digits).unwrap();
        assert_eq!(features, Matrix::new(2, 3, vec![0.0, 0.25, 1.0, 0.5, 1.0, 0.0]));
        let brighter = pipeline.apply(&images(1, 3, &[17, 255, 2])).unwrap();
        assert_eq!(brighter.values(), [1.0, 1.0, 0.125]);
    }

    #[test]
    fn another_white_can_be_named() {
        let pipeline = fit(&images(1, 1, &[51]), Some(255)).unwrap();
        assert_eq!(pipeline.apply(&images(1, 1, &[51])).unwrap().values(), [0.2]);
        assert_eq!(fit(&images(1, 2, &[0, 0]), None).unwrap().white(), 255);
        let error = fit(&images(1, 1, &[51]), Some(0)).unwrap_err();
        assert_eq!(error.to_string(), "white: expected a byte from 1 to 255, got 0");
    }

    #[test]
    fn wrong_sizes_are_refused() {
        let pipeline = fit(&images(2, 3, &[1; 6]), None).unwrap();
        let check = |images: &Images, expected: &str| {
            let error = pipeline.apply(images).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&images(3, 2, &[1; 6]), "images of 2 x 3 pixels, got images of 3 x 2 pixels");
        check(&images(2, 3, &[1; 7]), "images of 2 x 3 pixels, got 7 bytes");
        assert!(fit(&images(2, 3, &[]), None).is_err());
        assert!(fit(&images(2, 3, &[1; 5]), None).is_err());
        assert!(fit(&images(0, 3, &[1; 6]), None).is_err());
        assert!(fit(&images(usize::MAX, 3, &[1; 6]), None).is_err());
        assert_eq!(pipeline.apply(&images(2, 3, &[])).unwrap().rows(), 0);
    }

    #[test]
    fn damaged_pipelines_are_refused() {
        let read = |json: &str| serde_json::from_str::<ImagePipeline>(json);
        let good = read(r#"{"height":8,"width":8,"white":16}"#).unwrap();
        assert_eq!((good.cols(), good.white()), (64, 16));
        for bad in [
            r#"{"height":0,"width":8,"white":16}"#,
            r#"{"height":8,"width":8,"white":0}"#,
            r#"{"height":8,"width":8,"white":256}"#,
            r#"{"height":4097,"width":4096,"white":16}"#,
            r#"{"height":18446744073709551615,"width":2,"white":16}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
