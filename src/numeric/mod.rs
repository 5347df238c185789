//! Numerics that learning and judging share: products, principal components, rotations, exact
//! neighbours.
//!
//! Everything here is a function of its arguments: the same rows and the same seed give the same
//! bytes on any number of threads, because work is cut into blocks of a fixed size and partial
//! sums are added in the order of the blocks.

mod neighbours;
mod product;

pub use neighbours::{Neighbours, nearest_other_rows, nearest_rows};
