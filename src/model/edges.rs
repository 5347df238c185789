//! Histograms of edges: what pictures of one thing share where their pixels differ.
//!
//! ```text
//! g            the gradient of the picture, smoothed by a 40th of its sides, black around it
//! cell, way    sum of |g| over the pixels of a cell whose g points a way, of 7 x 7 cells and 12 ways;
//!              a pixel counts for the nearest cells and ways in equal parts with its nearness to each
//! histogram    the square roots of these sums
//! ```
//!
//! Dalal and Triggs, *Histograms of oriented gradients for human detection*, 2005, with the sign of the
//! gradient and without their blocks. A cosine of roots is the Bhattacharyya coefficient of the
//! histograms, which a few strong edges do not rule (Arandjelović and Zisserman, *Three things everyone
//! should know to improve object retrieval*, 2012). A stroke that is moved by a pixel shares few pixels with
//! itself and most of its histogram.

use super::features::fill_rows;
use crate::input::Matrix;

/// Cells along a side, or pixels where they are fewer.
const CELLS: usize = 7;
/// Directions of a gradient, all around.
const WAYS: usize = 12;
/// The standard deviation of the smoothing, as a part of the side.
const SMOOTH: f64 = 1.0 / 40.0;

/// Makes histograms of pictures of one size.
pub(super) struct Edges {
    down: Side,
    across: Side,
}

/// What there is to know along one side of the pictures.
struct Side {
    pixels: usize,
    /// The weights of a smoothed derivative, and of the smoothing alone, around a pixel.
    slope: Vec<f32>,
    smooth: Vec<f32>,
    /// The two cells that each pixel counts for, and how much for each.
    cells: Vec<[(usize, f32); 2]>,
    cell_count: usize,
}

impl Edges {
    /// For pictures of this size, in pixels.
    pub fn new(height: usize, width: usize) -> Self {
        Self { down: Side::new(height), across: Side::new(width) }
    }

    /// The numbers of a histogram.
    fn cols(&self) -> usize {
        self.down.cell_count * self.across.cell_count * WAYS
    }

    /// The histograms of pictures, each a row of pixels: shape (pictures, cells x directions).
    pub fn of(&self, pictures: &Matrix) -> Matrix {
        let fill = |i, histogram: &mut [f32]| self.fill(pictures.row(i), histogram);
        let values = fill_rows(pictures.rows(), self.cols(), fill);
        Matrix::new(pictures.rows(), self.cols(), values)
    }

    /// Writes the histogram of one picture into zeros.
    fn fill(&self, picture: &[f32], histogram: &mut [f32]) {
        let Self { down, across } = self;
        let along_rows = |picture: Vec<f32>, weights| -> Vec<f32> {
            picture.chunks(across.pixels).flat_map(|row| across.convolve(row, weights)).collect()
        };
        let slopes_down = along_rows(down.convolve(picture, &down.slope), &across.smooth);
        let slopes_across = along_rows(down.convolve(picture, &down.smooth), &across.slope);
        for (pixel, (y, x)) in slopes_down.into_iter().zip(slopes_across).enumerate() {
            let length = y.hypot(x);
            if length == 0.0 {
                continue;
            }
            let turn = (y.atan2(x) / std::f32::consts::TAU).rem_euclid(1.0) * WAYS as f32;
            let (way, part) = (turn as usize, turn.fract());
            for (row, of_row) in down.cells[pixel / across.pixels] {
                for (column, of_column) in across.cells[pixel % across.pixels] {
                    let cell = (row * across.cell_count + column) * WAYS;
                    let weight = length * of_row * of_column;
                    histogram[cell + way % WAYS] += weight * (1.0 - part);
                    histogram[cell + (way + 1) % WAYS] += weight * part;
                }
            }
        }
        histogram.iter_mut().for_each(|sum| *sum = sum.sqrt());
    }
}

impl Side {
    fn new(pixels: usize) -> Self {
        let deviation = SMOOTH * pixels as f64;
        // Beyond three deviations there is next to nothing.
        let reach = (3.0 * deviation).ceil() as i64;
        let bell = |at: i64| (-0.5 * (at as f64 / deviation).powi(2)).exp();
        let sum: f64 = (-reach..=reach).map(bell).sum();
        let weight = |at: i64| if at.abs() <= reach { bell(at) / sum } else { 0.0 };
        let around = || -reach - 1..=reach + 1;
        let cell_count = CELLS.min(pixels);
        let cells = (0..pixels).map(|pixel| {
            // Cell i has its middle at i + 1/2.
            let at = (pixel as f32 + 0.5) / pixels as f32 * cell_count as f32 - 0.5;
            let (first, part) = (at.floor(), at - at.floor());
            // What lies beyond the middle of an outer cell counts less.
            let inside = |at: f32, part| match (0.0..cell_count as f32).contains(&at) {
                true => (at as usize, part),
                false => (0, 0.0),
            };
            [inside(first, 1.0 - part), inside(first + 1.0, part)]
        });
        Self {
            pixels,
            // The central difference of the smoothed picture.
            slope: around().map(|at| ((weight(at - 1) - weight(at + 1)) / 2.0) as f32).collect(),
            smooth: around().map(|at| weight(at) as f32).collect(),
            cells: cells.collect(),
            cell_count,
        }
    }

    /// Sums of the lines around each line of a picture, which has one a pixel of this side; beyond it
    /// there is nothing.
    fn convolve(&self, lines: &[f32], weights: &[f32]) -> Vec<f32> {
        let length = lines.len() / self.pixels;
        let mut sums = vec![0.0; lines.len()];
        for (line, sums) in sums.chunks_exact_mut(length).enumerate() {
            for (i, &weight) in weights.iter().enumerate() {
                let Some(from) = (line + i).checked_sub(weights.len() / 2) else { continue };
                if from < self.pixels {
                    let line = &lines[from * length..(from + 1) * length];
                    sums.iter_mut().zip(line).for_each(|(sum, x)| *sum += weight * x);
                }
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The histogram of one picture, drawn by a function of row and column.
    fn histogram(height: usize, width: usize, draw: impl Fn(usize, usize) -> f32) -> Matrix {
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (y, x)));
        let pixels = pixels.map(|(y, x)| draw(y, x)).collect();
        Edges::new(height, width).of(&Matrix::new(1, height * width, pixels))
    }

    fn cosine(a: &Matrix, b: &Matrix) -> f32 {
        let dot = |a: &Matrix, b: &Matrix| -> f32 {
            a.values().iter().zip(b.values()).map(|(a, b)| a * b).sum()
        };
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    }

    /// A ramp rises in one direction all over; black is around it, so only the middle cell tells.
    #[test]
    fn a_ramp_is_one_direction_and_turns_with_the_picture() {
        let strongest = |way_y: f32, way_x: f32| {
            let ramp = histogram(28, 28, |y, x| 2.0 + (way_y * y as f32 + way_x * x as f32) / 28.0);
            let middle = &ramp.values()[(3 * CELLS + 3) * WAYS..][..WAYS];
            let way = (0..WAYS).max_by(|&a, &b| middle[a].total_cmp(&middle[b])).unwrap();
            let others: f32 = (0..WAYS).filter(|&w| w != way).map(|w| middle[w]).sum();
            assert!(others < 0.05 * middle[way], "{middle:?}");
            way
        };
        // Rightwards, downwards, leftwards, upwards: a quarter of the ways each.
        assert_eq!(strongest(0.0, 1.0), 0);
        assert_eq!(strongest(1.0, 0.0), 3);
        assert_eq!(strongest(0.0, -1.0), 6);
        assert_eq!(strongest(-1.0, 0.0), 9);
    }

    #[test]
    fn a_stroke_that_is_moved_keeps_its_histogram_rather_than_its_pixels() {
        let stroke = |at: usize| {
            move |y: usize, x: usize| {
                let inside = (6..22).contains(&y) && (at..at + 2).contains(&x);
                if inside { 1.0 } else { 0.0 }
            }
        };
        let (before, after) = (histogram(28, 28, stroke(12)), histogram(28, 28, stroke(14)));
        assert!(cosine(&before, &after) > 0.8, "{}", cosine(&before, &after));
        let lying = histogram(28, 28, |y, x| stroke(12)(x, y));
        assert!(cosine(&before, &lying) < 0.4, "{}", cosine(&before, &lying));
    }

    /// All of a gradient is shared out, but for what lies beyond the middles of the outer cells.
    #[test]
    fn every_pixel_inside_counts_once() {
        for pixels in [1, 2, 6, 7, 8, 28, 29, 300] {
            let side = Side::new(pixels);
            for (pixel, cells) in side.cells.iter().enumerate() {
                let sum: f32 = cells.iter().map(|(_, part)| part).sum();
                let at = (pixel as f32 + 0.5) / pixels as f32 * side.cell_count as f32;
                let is_outer = at < 0.5 || at > side.cell_count as f32 - 0.5;
                assert!(cells.iter().all(|(cell, _)| *cell < side.cell_count));
                assert!(
                    is_outer && sum >= 0.49 || (sum - 1.0).abs() < 1e-4,
                    "{pixel} of {pixels}: {sum}"
                );
            }
            let sum: f32 = side.smooth.iter().sum();
            assert!((sum - 1.0).abs() < 1e-5, "{pixels}: {sum}");
        }
    }

    #[test]
    fn pictures_of_any_size_and_without_edges_have_finite_histograms() {
        for (height, width) in [(1, 1), (1, 9), (8, 8), (3, 200), (64, 40)] {
            let noisy = histogram(height, width, |y, x| ((y * 31 + x * 17) % 11) as f32 / 10.0);
            assert!(noisy.values().iter().all(|x| x.is_finite()));
            assert_eq!(noisy.cols(), height.min(7) * width.min(7) * 12);
            let black = histogram(height, width, |_, _| 0.0);
            assert!(black.values().iter().all(|x| *x == 0.0));
        }
    }
}
