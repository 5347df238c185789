//! Who is near whom before anything is learned.

use std::borrow::Cow;

use super::edges::Edges;
use super::options::{Likeness, NeighbourOptions};
use crate::error::{Error, Result};
use crate::input::{Features, InputKind};
use crate::numeric::{Neighbours, nearest_other_rows};

/// Finds the neighbours of rows.
pub(super) struct Nearness {
    pub count: usize,
    /// `None` where rows are compared as they are.
    edges: Option<Edges>,
}

impl Nearness {
    /// As the options ask for, among rows that were made of `input`.
    ///
    /// # Errors
    /// Edges of what is no image.
    pub fn new(options: NeighbourOptions, input: InputKind) -> Result<Self> {
        let edges = match (options.likeness, input) {
            (Likeness::Features, _) => None,
            (Likeness::Edges, InputKind::Image { height, width }) => {
                Some(Edges::new(height, width))
            }
            (Likeness::Edges, other) => {
                let message =
                    format!("only images have edges, got {other}; take likeness by features");
                return Err(Error::invalid("likeness", message));
            }
        };
        Ok(Self { count: options.count, edges })
    }

    /// What is compared of rows.
    pub fn looks<'a>(&self, rows: &'a Features) -> Cow<'a, Features> {
        match (&self.edges, rows) {
            (Some(edges), Features::Dense(pictures)) => {
                Cow::Owned(Features::Dense(edges.of(pictures)))
            }
            _ => Cow::Borrowed(rows),
        }
    }

    /// The neighbours of each row among the others.
    pub fn graph(&self, rows: &Features) -> Result<Neighbours> {
        nearest_other_rows(&self.looks(rows), self.count)
    }
}
