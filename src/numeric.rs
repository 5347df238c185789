//! Numerics that learning and judging share: principal components, rotations, exact neighbours.
