//! What a search asks and answers.

use std::time::{Duration, Instant};

use crate::code::Code;
use crate::filter::{Field, Filter, Value};
use crate::index::Plan;
use crate::record::{Payload, RecordId, Source};

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
    /// Whether, and how, what is near by code is put in a better order.
    pub rescore: Option<Rescore>,
    /// Whether hits are to differ from one another; not together with `group_by`.
    pub diversity: Option<Diversity>,
    /// Whether hits come in groups; not together with `rescore`.
    pub group_by: Option<GroupBy>,
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
            rescore: None,
            diversity: None,
            group_by: None,
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

    /// Puts what is near by code in a better order.
    ///
    /// ```
    /// use nearbit::{Rescore, Search};
    ///
    /// // The 30 nearest by code, and of those the 10 nearest by their vectors.
    /// let search = Search::vector([0.5, 1.0]).limit(10).rescore(Rescore::vector().of(3));
    /// ```
    #[must_use]
    pub fn rescore(mut self, rescore: Rescore) -> Self {
        self.rescore = Some(rescore);
        self
    }

    /// Asks for hits that differ from one another.
    ///
    /// ```
    /// use nearbit::{Diversity, Search};
    ///
    /// let search = Search::text("the moon").diversity(Diversity { weight: 0.5, candidates: 50 });
    /// ```
    #[must_use]
    pub fn diversity(mut self, diversity: Diversity) -> Self {
        self.diversity = Some(diversity);
        self
    }

    /// Asks for groups of hits; `limit` is then the number of groups.
    ///
    /// ```
    /// use nearbit::{GroupBy, Search};
    ///
    /// let by = GroupBy { field: "label".parse()?, size: 2 };
    /// let search = Search::text("the moon").limit(5).group_by(by); // 5 labels, 2 hits of each
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    #[must_use]
    pub fn group_by(mut self, group_by: GroupBy) -> Self {
        self.group_by = Some(group_by);
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

/// How what is near by code is put in a better order: `oversampling` times as many as are wanted
/// are found by code, and the best of them by a closer look are the hits.
///
/// ```
/// use nearbit::{Rescore, RescoreBy};
///
/// let rescore = Rescore::asymmetric();
/// assert_eq!((rescore.by, rescore.oversampling), (RescoreBy::Asymmetric, 4));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rescore {
    /// What is looked at.
    pub by: RescoreBy,
    /// How many times as many as are wanted: 1 to [`Rescore::MAX_OVERSAMPLING`].
    pub oversampling: usize,
}

impl Rescore {
    /// The oversampling where nothing is said.
    pub const DEFAULT_OVERSAMPLING: usize = 4;
    /// The greatest oversampling.
    pub const MAX_OVERSAMPLING: usize = 1000;

    /// Compares the query's values with stored codes.
    ///
    /// ```
    /// use nearbit::{Rescore, RescoreBy};
    ///
    /// assert_eq!(Rescore::asymmetric().by, RescoreBy::Asymmetric);
    /// ```
    pub fn asymmetric() -> Self {
        Self { by: RescoreBy::Asymmetric, oversampling: Self::DEFAULT_OVERSAMPLING }
    }

    /// Compares vectors.
    ///
    /// ```
    /// use nearbit::{Rescore, RescoreBy};
    ///
    /// assert_eq!(Rescore::vector().by, RescoreBy::Vector);
    /// ```
    pub fn vector() -> Self {
        Self { by: RescoreBy::Vector, oversampling: Self::DEFAULT_OVERSAMPLING }
    }

    /// The same with another oversampling.
    ///
    /// ```
    /// use nearbit::Rescore;
    ///
    /// assert_eq!(Rescore::vector().of(10).oversampling, 10);
    /// ```
    #[must_use]
    pub fn of(self, oversampling: usize) -> Self {
        Self { oversampling, ..self }
    }
}

/// What rescoring looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RescoreBy {
    /// The values that the query's code was made from, against stored codes: a bit that differs
    /// costs as much as the query is sure of it. Needs a source that the encoder takes, or the id
    /// of a record whose text or vector is kept; stored vectors are not needed.
    Asymmetric,
    /// Vectors, by the collection's [`Metric`](crate::Metric); those that are read are the best by
    /// the asymmetric order of four times as many. Needs a collection that keeps
    /// vectors, and a query by vector or by id. Records without a vector come last, with the score
    /// minus infinity.
    Vector,
}

/// How much hits are to differ from one another, by maximal marginal relevance: each is the
/// candidate with the greatest (1 - weight) x score - weight x (similarity to the hits before it).
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// use nearbit::{Diversity, Search};
///
/// let diversity = Diversity { weight: 0.7, candidates: 20 };
/// let answer = notes.search(&Search::text("the moon").limit(2).diversity(diversity))?;
/// assert_eq!(answer.hits[0].id.as_str(), "moon"); // the first is the nearest
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Diversity {
    /// 0 is nearness only, 1 difference only.
    pub weight: f32,
    /// So many of the nearest are chosen from; at least `limit` are.
    pub candidates: usize,
}

/// Hits in groups: the nearest records of each value of a field, the groups in the order of their
/// nearest. Records that hold no single value in the field are passed over.
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// use nearbit::{GroupBy, Search};
///
/// let by_label = GroupBy { field: "label".parse()?, size: 1 };
/// let answer = notes.search(&Search::text("the moon").group_by(by_label))?;
/// assert_eq!(answer.hits[0].group, Some("space".into()));
/// assert_eq!(answer.hits[1].group, Some("food".into()));
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupBy {
    /// The field.
    pub field: Field,
    /// At most so many hits of each group.
    pub size: usize,
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
    /// The hits: nearest first, and of equal distance the older record first; with rescoring the
    /// highest score first; with groups group by group.
    pub hits: Vec<Hit>,
    /// Whether the hits are exactly what was asked for. A search that runs out of time is an
    /// error, so an answer that arrives is complete; plans to come may say otherwise.
    pub complete: bool,
    /// How they were found.
    pub stats: SearchStats,
}

/// A record found by a search.
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// let answer = notes.search(&nearbit::Search::text("rye bread").limit(1))?;
/// let hit = &answer.hits[0];
/// assert_eq!(hit.score, 1.0 - hit.distance as f32 / 64.0);
/// assert_eq!(hit.payload.as_ref().unwrap().text("label").as_deref(), Some("food"));
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Hit {
    /// The record's id.
    pub id: RecordId,
    /// The Hamming distance from the query's code, in bits.
    pub distance: u32,
    /// How near; more is nearer. From 0 to 1 the share of bits that agree, each weighted by how
    /// sure the query is of it where the search was rescored asymmetrically; where it was rescored
    /// by vectors, what the collection's metric says.
    pub score: f32,
    /// What the record holds in the field by which hits are grouped.
    pub group: Option<Value>,
    /// The record's payload, where it was asked for.
    pub payload: Option<Payload>,
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
    /// Records that were looked at more closely, or chosen from.
    pub rescored: u64,
    /// From the filter to what the indexes of its fields say.
    pub filtering: Duration,
    /// From the query to its code.
    pub encoding: Duration,
    /// From the code to the record numbers; in a batch, of all that were asked together.
    pub searching: Duration,
    /// From the record numbers to their final order.
    pub rescoring: Duration,
    /// From the record numbers to ids and payloads.
    pub reading: Duration,
}
