//! What is asked of the index, and what it answers.

use std::time::Instant;

use crate::code::Code;
use crate::numbers::Numbers;

/// Which records to find, and how.
///
/// The plain forms are [`Index::nearest`] and [`Index::within`].
///
/// [`Index::nearest`]: super::Index::nearest
/// [`Index::within`]: super::Index::within
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The code to find the neighbours of.
    pub code: &'a Code,
    /// At most this many of them, the nearest; `usize::MAX` for no limit.
    pub limit: usize,
    /// Only those at most this far away, in bits; `None` for any distance.
    pub radius: Option<u32>,
    /// Only records of this set; `None` for all. It may name numbers that are not in the index.
    pub only: Option<&'a Numbers>,
    /// How to look.
    pub plan: Plan,
    /// When to stop looking and give what was found so far.
    pub deadline: Option<Instant>,
}

impl<'a> Query<'a> {
    /// The `limit` nearest, at any distance.
    pub fn nearest(code: &'a Code, limit: usize) -> Self {
        Self { code, limit, radius: None, only: None, plan: Plan::Auto, deadline: None }
    }

    /// The whole ball of `radius` bits.
    pub fn within(code: &'a Code, radius: u32) -> Self {
        Self { radius: Some(radius), ..Self::nearest(code, usize::MAX) }
    }
}

/// A way to find neighbours. All give the same answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plan {
    /// The one that should cost least: it probes, and scans once probing on would cost more.
    Auto,
    /// Look into the clusters that can hold something near, the query's own first.
    Probe,
    /// Compare the query with every code; with `Query::only`, where few records may be found, with
    /// the codes of those alone.
    Scan,
}

impl Plan {
    /// The name: `auto`, `probe` or `scan`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Probe => "probe",
            Self::Scan => "scan",
        }
    }
}

/// A record that was found. Neighbours are ordered by distance, then older first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Neighbour {
    /// The Hamming distance from the query, in bits.
    pub distance: u32,
    /// The record's number.
    pub number: u64,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Nearest first, older before newer at one distance.
    pub neighbours: Vec<Neighbour>,
    /// False where the deadline passed first: there may be nearer ones.
    pub complete: bool,
    /// How they were found.
    pub stats: Stats,
}

/// How an answer was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stats {
    /// The plan that gave the answer: `Probe` or `Scan`.
    pub plan: Plan,
    /// The kernel that compared the codes.
    pub kernel: &'static str,
    /// Every sealed code at most this far from the query was compared with it, in bits; where the
    /// answer is not complete, 0 promises nothing.
    pub radius: u32,
    /// Clusters that were looked into, also where a scan followed.
    pub probes: u64,
    /// Codes that were compared with the query; equal ones count once, unless `listed`.
    pub compared: u64,
    /// Whether the sealed records of `Query::only` were gone through one by one, because they are
    /// few; otherwise whoever is near was looked up in it.
    pub listed: bool,
}
