//! What a search asks and answers.

use std::time::{Duration, Instant};

use crate::code::Code;
use crate::filter::Filter;
use crate::index::Plan;
use crate::record::{Hit, RecordId, Source};

/// What is looked for.
///
/// ```
/// use nearbit::{Query, RecordId, Search, Source};
///
/// let by_text = Query::Source(Source::Text("rye bread".to_owned()));
/// assert_eq!(Search::new(by_text), Search::text("rye bread"));
/// assert_eq!(Search::id(RecordId::new("bread")?).query, Query::Id(RecordId::new("bread")?));
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub enum Query {
    /// The neighbours of a source, which the collection's encoder turns into a code.
    Source(Source),
    /// The neighbours of a stored record, which is itself left out.
    Id(RecordId),
}

/// One search: the nearest `limit` records, or those of them within `radius`.
///
/// ```
/// use nearbit::Search;
///
/// let nearest = Search::text("the far side of the moon").limit(5);
/// let close = Search::text("the far side of the moon").radius(3);
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Search {
    /// What is looked for.
    pub query: Query,
    /// The most hits to return. Without a radius exactly that many come back, or all records.
    pub limit: usize,
    /// The largest distance of a hit, in bits.
    pub radius: Option<u32>,
    /// Which records may be hits; it is asked before the nearest are taken, so that `limit` hits
    /// come whenever so many records match.
    pub filter: Option<Filter>,
    /// How the index is to go about it; the hits are the same whatever the plan.
    pub plan: Plan,
    /// Whether hits carry their payload.
    pub payload: bool,
    /// When to give up.
    pub deadline: Option<Instant>,
}

impl Search {
    /// A search for the 10 nearest of `query`.
    ///
    /// ```
    /// use nearbit::{Plan, Query, Search, Source};
    ///
    /// let search = Search::new(Query::Source(Source::Vector(vec![0.5, 1.0])));
    /// assert_eq!((search.limit, search.radius, search.plan), (10, None, Plan::Auto));
    /// ```
    pub fn new(query: Query) -> Self {
        Self {
            query,
            limit: 10,
            radius: None,
            filter: None,
            plan: Plan::Auto,
            payload: true,
            deadline: None,
        }
    }

    /// A search by text.
    ///
    /// ```
    /// let search = nearbit::Search::text("the far side of the moon");
    /// ```
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(Query::Source(Source::Text(text.into())))
    }

    /// A search by vector.
    ///
    /// ```
    /// let search = nearbit::Search::vector([0.25, -1.0, 0.5]);
    /// ```
    pub fn vector(vector: impl Into<Vec<f32>>) -> Self {
        Self::new(Query::Source(Source::Vector(vector.into())))
    }

    /// A search by code.
    ///
    /// ```
    /// use nearbit::{Code, Search, Width};
    ///
    /// let search = Search::code(Code::parse("5a", Width::new(8)?)?);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn code(code: Code) -> Self {
        Self::new(Query::Source(Source::Code(code)))
    }

    /// A search for the neighbours of a stored record.
    ///
    /// ```
    /// use nearbit::{RecordId, Search};
    ///
    /// let search = Search::id(RecordId::new("moon")?);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn id(id: RecordId) -> Self {
        Self::new(Query::Id(id))
    }

    /// Returns at most `limit` hits; `usize::MAX` with a radius returns the whole ball.
    ///
    /// ```
    /// let five = nearbit::Search::text("the moon").limit(5);
    /// let ball = nearbit::Search::text("the moon").radius(3).limit(usize::MAX);
    /// ```
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Returns only hits within `radius` bits.
    ///
    /// ```
    /// let search = nearbit::Search::text("the moon").radius(3);
    /// assert_eq!(search.radius, Some(3));
    /// ```
    #[must_use]
    pub fn radius(mut self, radius: u32) -> Self {
        self.radius = Some(radius);
        self
    }

    /// Returns only records that match `filter`.
    ///
    /// ```
    /// use nearbit::{Filter, Search};
    ///
    /// let filter = Filter::parse(r#"label == "space" and year >= 1990"#)?;
    /// let search = Search::text("the moon").filter(filter);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Asks for a plan.
    ///
    /// ```
    /// use nearbit::{Plan, Search};
    ///
    /// let search = Search::text("the moon").plan(Plan::Scan);
    /// ```
    #[must_use]
    pub fn plan(mut self, plan: Plan) -> Self {
        self.plan = plan;
        self
    }
}

/// What a search found.
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// let answer = notes.search(&nearbit::Search::text("rye bread"))?;
/// let ids: Vec<&str> = answer.hits.iter().map(|hit| hit.id.as_str()).collect();
/// assert_eq!(ids, ["bread", "moon"]); // nearest first
/// assert!(answer.complete);
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    /// The hits: nearest first, and of equal distance the older record first.
    pub hits: Vec<Hit>,
    /// Whether the hits are exactly what was asked for. A search that runs out of time is an
    /// error, so an answer that arrives is complete; plans to come may say otherwise.
    pub complete: bool,
    /// How they were found.
    pub stats: SearchStats,
}

/// How an answer was found.
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// let stats = notes.search(&nearbit::Search::text("rye bread"))?.stats;
/// println!("{} codes compared by {} in {:?}", stats.compared, stats.kernel, stats.searching);
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct SearchStats {
    /// The plan that was followed: [`Plan::Auto`] never stands here.
    pub plan: Plan,
    /// The kernel that compared codes: `avx512`, `avx2` or `portable`.
    pub kernel: &'static str,
    /// Every code at most this far from the query's was compared with it, in bits.
    pub radius: u32,
    /// Slots of the hash table that were looked into, also where a scan followed.
    pub probes: u64,
    /// Codes that were compared with the query's; equal ones count once.
    pub compared: u64,
    /// Payloads that were read to know whether their records match the filter.
    pub tested: u64,
    /// From the filter to what the indexes of its fields say.
    pub filtering: Duration,
    /// From the query to its code.
    pub encoding: Duration,
    /// From the code to the record numbers.
    pub searching: Duration,
    /// From the record numbers to ids and payloads.
    pub reading: Duration,
}
