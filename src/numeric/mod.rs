//! Numerics that learning and judging share: principal components, rotations, exact neighbours.
//!
//! Everything here is a function of its arguments: the same rows and the same seed give the same
//! bytes on any number of threads, because work is cut into blocks of a fixed size and partial
//! sums are added in the order of the blocks.

mod components;
mod gaussian;
mod neighbours;
mod product;
mod projection;
mod rotation;

pub use components::Components;
pub use gaussian::gaussian;
pub use neighbours::{Neighbours, nearest_other_rows, nearest_rows};
pub use projection::{Projection, column_means};
pub use rotation::{ITQ_ITERATIONS, itq_rotation, procrustes, random_rotation};

/// Rows of a block. It is the same on every machine, and with it the order of every sum.
const BLOCK_ROWS: usize = 1024;
