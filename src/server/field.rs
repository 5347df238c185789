//! What is said of a field of a message that is wrong.

use crate::error::{Error, Result};

/// An error where a required field is not set, or a oneof has no choice.
pub fn required<T>(field: Option<T>, place: &str, expected: &str) -> Result<T> {
    field.ok_or_else(|| Error::invalid(place, format!("expected {expected}, got nothing")))
}

/// The same error at a place that the wire calls otherwise.
pub fn at(place: &str, error: Error) -> Error {
    match error {
        Error::Invalid { message, .. } => Error::invalid(place, message),
        other => other,
    }
}
