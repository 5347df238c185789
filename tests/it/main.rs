//! The tests that drive Nearbit from outside, one module a feature.

#[cfg(feature = "cli")]
mod cli;
mod code;
mod collection;
mod house;
#[cfg(feature = "cli")]
mod testenv;
