//! The tests that drive Nearbit from outside, one module a feature.

#[cfg(all(feature = "cli", feature = "server"))]
mod python;
#[cfg(feature = "server")]
mod server;
