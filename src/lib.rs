//! Nearbit learns short binary codes, keeps them in a hash table, and finds neighbours in them
//! exactly.
//!
//! A deep autoencoder with a binarizing code layer turns texts, vectors and images into codes of
//! 8 to 1024 bits, so that similar things get codes that differ in few bits. A query is encoded
//! the same way and answered with everything inside a Hamming ball around its code, or with the k
//! nearest codes.
//!
//! ```
//! use nearbit::{CollectionSettings, Database, EncoderSpec, InputKind, NewRecord, Search, Width};
//!
//! # let dir = tempfile::tempdir().unwrap();
//! # let dir = dir.path();
//! let database = Database::open(dir)?;
//! // Random hyperplanes need no training; `EncoderSpec::Model` takes a learned model.
//! let encoder =
//!     EncoderSpec::Hyperplanes { input: InputKind::Text, width: Width::new(64)?, seed: 0 };
//! let notes = database.create_collection("notes", &CollectionSettings::new(encoder))?;
//!
//! notes.upsert(vec![
//!     NewRecord::text("the far side of the moon").with_id("moon")?,
//!     NewRecord::text("a loaf of rye bread").with_id("bread")?,
//! ])?;
//!
//! let answer = notes.search(&Search::text("the dark side of the moon").limit(1))?;
//! assert_eq!(answer.hits[0].id.as_str(), "moon");
//! # Ok::<(), nearbit::Error>(())
//! ```
//!
//! # The house
//!
//! Three machines that never meet: [`model`] learns, [`index`] finds, [`store`] keeps. They speak
//! one word, [`Code`], and one room, [`Collection`], holds all three.
//!
//! | floor | rooms |
//! |---|---|
//! | faces | `cli` (the program `nearbit`), `server` (gRPC) |
//! | rooms | [`Database`], [`Collection`], the encoder, [`Search`]; [`evaluate`] judges codes |
//! | machines | [`model`], [`index`], [`store`]; [`formats`] reads other people's files |
//! | vocabulary | [`Code`], [`Record`], [`Filter`], [`Inputs`], [`Error`]; [`numeric`] is linear algebra |
//!
//! # The life of a search
//!
//! 1. A face makes a [`Search`] of what it was sent: a [`Query`], a limit, perhaps a radius and a
//!    [`Filter`].
//! 2. [`Collection::search`] has its encoder turn the query's [`Source`] into a [`Code`]: the
//!    model's pipeline makes [`Features`] of it, its network activations, a threshold bits. A
//!    query by id takes the code that is stored.
//! 3. A filter is asked before anything is cut: the indexes of its fields say which record numbers
//!    match, and of what they have not seen payloads are read.
//! 4. [`index::Index::search`] takes one immutable snapshot, chooses a [`Plan`] by its cost, and
//!    collects (distance, record number) pairs: from the clusters that can hold something
//!    near, or from every code, in a kernel made for this CPU. Records since the last fold stand in
//!    a small delta that is compared too. What was deleted is passed over. Where the collection is
//!    searched on disk ([`IndexPlace`]), [`store::Store::nearest`] looks into the hash table instead.
//! 5. The pairs come back in one total order: distance, then age. Where the search asks for it,
//!    more of them than are wanted are looked at closely and put in a better order: [`Rescore`].
//! 6. [`store::Store::read`] turns each record number into an id and a payload, one read and one
//!    checksum each.
//! 7. The face writes the [`Answer`] down: a table, lines of JSON, a gRPC message.
//!
//! # Invariants
//!
//! 1. `model`, `index` and `store` never import one another. Their meeting place is `collection`.
//! 2. Only `server` knows tonic and prost; only `main` and `cli` know clap, print and exit; only
//!    `model` knows candle; only `store` knows sled; only `index/kernel` has `unsafe`. No foreign
//!    type stands in a public signature, bitvec's and std's aside.
//! 3. `index` does no I/O and returns no `Result`; it is derived, can be thrown away and rebuilt.
//! 4. The store is told before the index; nobody is told "done" before the store is durable.
//! 5. Hits come in one total order: distance or score, then age, the older record first. The same
//!    for every plan, kernel and thread count, and after a restart.
//! 6. A collection belongs to one model: its digest is stored, and codes of another are refused.
//!
//! `tests/it/house.rs` holds the sources to the first three.

#![warn(missing_docs)]

pub mod code;
pub mod collection;
pub mod database;
pub mod encoder;
pub mod error;
pub mod evaluate;
pub mod filter;
pub mod formats;
pub mod index;
pub mod input;
pub mod model;
#[cfg(test)]
#[path = "../tests/it/mutate.rs"]
mod mutate;
pub mod numbers;
pub mod numeric;
pub mod record;
pub mod search;
#[cfg(feature = "server")]
pub mod server;
pub mod store;

pub use code::{Code, Codes, Width};
pub use collection::{
    Ball, Collection, CollectionInfo, CollectionSettings, IndexPlace, IndexedField, KeepVectors,
    Metric, Page, Sizes, Upserted,
};
pub use database::{Database, Scrub};
pub use encoder::{EncoderInfo, EncoderSpec};
pub use error::{Error, Result};
pub use filter::Filter;
pub use index::Plan;
pub use input::{Features, Image, Images, InputKind, Inputs, Matrix, Sparse};
pub use record::{NewRecord, Payload, Record, RecordId, Source};
pub use search::{Answer, Diversity, GroupBy, Hit, Query, Rescore, RescoreBy, Search, SearchStats};
pub use store::Durability;
