//! The tests that drive Nearbit from outside, one module a feature.
#[cfg(feature = "server")]
mod server;
