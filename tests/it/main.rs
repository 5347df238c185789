//! The tests that drive Nearbit from outside, one module a feature.

mod code;
mod collection;
mod house;
