//! Numerics that learning and judging share: principal components, rotations, exact neighbours.
//!
//! Everything here is a function of its arguments: the same rows and the same seed give the same
//! bytes on any number of threads of one machine.

mod blocks;
mod components;
mod gaussian;
mod neighbours;
pub(crate) mod product;
mod projection;
mod rotation;
mod vectorized;

pub use components::Components;
pub use gaussian::gaussian;
pub use neighbours::{Neighbours, nearest_other_rows, nearest_rows};
pub use projection::{Projection, column_means};
pub use rotation::{ITQ_ITERATIONS, itq_rotation, procrustes, random_rotation};
pub(crate) use vectorized::{exp, vectorized};
