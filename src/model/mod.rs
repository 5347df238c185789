//! Learns: features, networks, training, model files.
