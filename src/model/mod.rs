//! Learns: features, networks, training, model files.

pub mod features;
pub mod hyperplanes;
