//! Nearbit: a semantic-hashing retrieval database.

pub mod code;
pub mod error;
pub mod evaluate;
pub mod formats;
pub mod index;
pub mod input;
pub mod model;
pub mod numeric;
pub mod record;
pub mod store;

pub use code::{Code, Codes, Width};
pub use error::{Error, Result};
pub use input::{Features, Image, Images, InputKind, Inputs, Matrix, Sparse};
pub use record::{Hit, NewRecord, Payload, Record, RecordId, Source};
