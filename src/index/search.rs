//! The search: look into the clusters that can hold something near, or scan, and keep the nearest.
//!
//! All ways hand spans of codes to the kernel and keep what it finds in [`Nearest`]; they differ
//! only in which spans, and know nothing of each other. The delta is always scanned.

use std::time::Instant;

use rayon::prelude::*;

use super::cost;
use super::delta::{self, Stretch};
use super::kernel::{Found, Kernel, Span};
use super::nearest::{Nearest, Rows};
use super::query::{Answer, Neighbour, Plan, Query, Stats};
use super::sealed::Sealed;
use super::snapshot::Snapshot;
use crate::code::Code;
use crate::numbers::Numbers;

/// Spans that are handed to the kernel at once: their codes come from the memory side by side.
const BATCH: usize = 128;

/// Records of a subset whose codes are compared at once.
const LIST: usize = 256;

/// Codes of one cluster that are worth a block of their own: while they are compared, those of other
/// clusters are not on their way from the memory.
const LONG: usize = 1024;

/// The fewest and the most codes that are compared with one radius.
const BLOCK: (u64, u64) = (64, 32 * 1024);

/// The bytes of codes that stay in the cache of a core while many queries are compared with them.
const TILE: usize = 256 * 1024;

/// Queries that share a tile: enough of them that its way from the memory costs little for each.
const SHARE: usize = 64;

/// Answers a query.
impl Snapshot {
    /// Finds the neighbours of a code.
    ///
    /// # Panics
    /// Where the query's code has another width: such codes have no distance.
    pub fn search(&self, query: &Query<'_>) -> Answer {
        assert_eq!(query.code.width(), self.width(), "codes of two widths have no distance");
        search(self, query)
    }

    /// Finds the neighbours of many codes, on all cores: the answers of `search`, one for each
    /// query. What would have to scan does so together, which is faster by far where the codes are
    /// larger than the caches.
    ///
    /// # Panics
    /// Where a query's code has another width.
    pub fn search_batch(&self, queries: &[Query<'_>]) -> Vec<Answer> {
        let fits = |query: &Query<'_>| query.code.width() == self.width();
        assert!(queries.iter().all(fits), "codes of two widths have no distance");
        search_batch(self, queries)
    }
}

fn search(snapshot: &Snapshot, query: &Query<'_>) -> Answer {
    Search::new(snapshot, query.code.words(), query).answer(query.plan)
}

/// Answers many queries, each as `search` does, on all cores.
///
/// Those that have to scan do so together, tile by tile of the codes: beyond the caches a scan
/// waits for the memory, and a tile that is there serves many queries.
fn search_batch<'a>(snapshot: &'a Snapshot, queries: &'a [Query<'a>]) -> Vec<Answer> {
    let begin = |query: &'a Query<'a>| {
        let mut search = Search::new(snapshot, query.code.words(), query);
        let plan = search.begin(query.plan);
        (search, plan)
    };
    let mut searches: Vec<(Search<'a>, Option<Plan>)> = queries.par_iter().map(begin).collect();
    let scans = searches.iter_mut().filter(|(_, plan)| plan.is_none());
    let mut scans: Vec<&mut Search<'a>> = scans.map(|(search, _)| search).collect();
    let group = scans.len().div_ceil(rayon::current_num_threads()).clamp(1, SHARE);
    let tile = TILE / (snapshot.width().words() * size_of::<u64>());
    scans.par_chunks_mut(group).for_each(|group| {
        let Span { end, .. } = snapshot.sealed.span();
        for start in (0..end).step_by(tile) {
            let tile = Span { start, end: end.min(start + tile as u32) };
            group.iter_mut().for_each(|search| search.sweep(tile));
        }
        group.iter_mut().for_each(|search| search.scanned());
    });
    let recent: Vec<_> = snapshot.delta.stretches().collect();
    let group = searches.len().div_ceil(rayon::current_num_threads()).clamp(1, SHARE);
    searches.par_chunks_mut(group).for_each(|group| {
        group.iter_mut().for_each(|(search, _)| search.leave_sealed());
        for tile in recent.chunks(tile.div_ceil(delta::CHUNK)) {
            group.iter_mut().for_each(|(search, _)| search.scan_recent(tile.iter().copied()));
        }
    });
    let end = |(search, plan): (Search<'a>, Option<Plan>)| search.end(plan.unwrap_or(Plan::Scan));
    searches.into_par_iter().map(end).collect()
}

/// Finds the whole ball of `radius` bits around a code, or what of it is in a subset.
pub(super) fn within(
    snapshot: &Snapshot,
    code: &[u64],
    radius: u32,
    only: Option<&Numbers>,
) -> Vec<Neighbour> {
    let zero = Code::zero(snapshot.width());
    let query = Query { only, ..Query::within(&zero, radius) };
    Search::new(snapshot, code, &query).answer(Plan::Auto).neighbours
}

/// How many rows more than neighbours are to be found, so that among the nearest rows there are the
/// nearest records, whoever is dead; none where it is better to look at records at once: few are
/// wanted of many, or many share a code.
fn spare(snapshot: &Snapshot, query: &Query<'_>) -> Option<usize> {
    let (dead, rows) = (snapshot.dead.count(), snapshot.sealed.span().len());
    let few_share = snapshot.sealed.len() - rows <= rows / 8;
    let bounded = query.limit < usize::MAX && query.only.is_none();
    (bounded && few_share && dead <= query.limit).then_some(dead)
}

/// One search on its way.
struct Search<'a> {
    snapshot: &'a Snapshot,
    kernel: Kernel,
    sealed: &'a Sealed,
    query: &'a [u64],
    limit: usize,
    only: Option<&'a Numbers>,
    deadline: Option<Instant>,
    nearest: Nearest,
    /// Sealed rows that may be among the nearest, where their records are asked for at the end.
    rows: Option<Rows>,
    /// What the kernel found last; kept for its memory.
    found: Vec<Found>,
    /// The clusters that are to be looked into now; kept for their memory.
    clusters: Vec<Found>,
    /// Those that may have to be looked into later.
    rest: Vec<Found>,
    expired: bool,
    /// The nearest cluster that is known, mostly the query's own, and the distance of its centre.
    home: Found,
    radius: u32,
    probes: u64,
    compared: u64,
    listed: bool,
}

impl<'a> Search<'a> {
    /// Looks for the neighbours of `code` in the way of `query`.
    fn new(snapshot: &'a Snapshot, code: &'a [u64], query: &Query<'a>) -> Self {
        let width = snapshot.width().bits() as u32;
        let radius = query.radius.unwrap_or(width).min(width);
        Self {
            snapshot,
            kernel: snapshot.kernel,
            sealed: &snapshot.sealed,
            query: code,
            limit: query.limit,
            only: query.only,
            deadline: query.deadline,
            nearest: Nearest::new(query.limit, radius),
            rows: spare(snapshot, query)
                .map(|spare| Rows::new(query.limit.saturating_add(spare), radius)),
            found: Vec::with_capacity(BATCH),
            clusters: Vec::with_capacity(BATCH),
            rest: Vec::with_capacity(BATCH),
            expired: false,
            home: Found { row: 0, distance: 0 },
            radius: 0,
            probes: 0,
            compared: 0,
            listed: false,
        }
    }

    /// Searches it all by a plan.
    fn answer(mut self, plan: Plan) -> Answer {
        let plan = self.begin(plan).unwrap_or_else(|| self.scan());
        self.leave_sealed();
        self.scan_recent(self.snapshot.delta.stretches());
        self.end(plan)
    }

    /// Searches the sealed part by a plan; says which it was, or none where it is to be scanned.
    fn begin(&mut self, plan: Plan) -> Option<Plan> {
        // Nothing is asked for where the limit is 0, so nothing is looked at.
        if self.limit == 0 || self.sealed.span().is_empty() {
            let recent = self.limit > 0 && self.snapshot.delta.len() > 0;
            self.radius = if recent { self.radius_of_all() } else { 0 };
            return Some(if recent || plan == Plan::Scan { Plan::Scan } else { Plan::Probe });
        }
        let short = self.only.filter(|only| plan != Plan::Probe && self.is_short(only));
        // A ball is small, however many records it is asked for: clusters are looked at first.
        let in_ball = self.near() < self.radius_of_all();
        let clusters_first = |only| plan == Plan::Auto && (in_ball || self.is_long(only));
        if let Some(only) = short.filter(|only| !clusters_first(only)) {
            self.list(only);
            return Some(Plan::Scan);
        }
        self.home = self.sealed.centres().guess(self.kernel, self.query);
        self.look_at_home();
        let list = short.map_or(f64::INFINITY, |only| self.cost_of_list(only));
        if plan != Plan::Scan && self.try_clusters(plan == Plan::Probe, list) {
            return Some(Plan::Probe);
        }
        self.restart();
        let only = short?;
        self.list(only);
        Some(Plan::Scan)
    }

    /// Nothing farther can be among the nearest.
    fn near(&self) -> u32 {
        self.rows.as_ref().map_or(self.nearest.radius(), Rows::radius)
    }

    /// The distance that no code exceeds.
    fn radius_of_all(&self) -> u32 {
        self.snapshot.width().bits() as u32
    }

    /// Asks for the records of the nearest sealed rows: what comes now has to be nearer.
    fn leave_sealed(&mut self) {
        if let Some(rows) = self.rows.take() {
            self.keep(&rows.into_near());
        }
    }

    /// Gives what was found.
    fn end(self, plan: Plan) -> Answer {
        let neighbour = |(distance, age)| Neighbour { distance, number: self.snapshot.number(age) };
        let best = self.nearest.into_sorted();
        Answer {
            complete: !self.expired,
            stats: Stats {
                plan,
                kernel: self.kernel.name(),
                radius: self.radius,
                probes: self.probes,
                compared: self.compared,
                listed: self.listed,
            },
            neighbours: best.map(neighbour).collect(),
        }
    }

    /// Looks into the nearest cluster, which should bring the radius down to little more than
    /// it will be in the end.
    fn look_at_home(&mut self) {
        self.clusters.clear();
        self.clusters.push(self.home);
        self.visit();
    }

    /// Whether to go through the records of a subset costs less than to scan and look up what is
    /// near.
    fn is_short(&self, only: &Numbers) -> bool {
        let records = self.sealed.len();
        let share = only.len() as f64 / records as f64;
        let scan = cost::scan(self.kernel, self.sealed.codes().len())
            + cost::look_up(records, share.clamp(f64::MIN_POSITIVE, 1.0), self.limit);
        self.cost_of_list(only) < scan
    }

    /// Whether to look at clusters first costs little beside to go through the records of a subset.
    fn is_long(&self, only: &Numbers) -> bool {
        let centres = self.sealed.centres();
        let home = self.sealed.span().len() / centres.len().max(1);
        let cost = cost::try_clusters(self.kernel, centres.codes().len(), home);
        cost < cost::TRY * self.cost_of_list(only)
    }

    fn cost_of_list(&self, only: &Numbers) -> f64 {
        cost::list(only.len(), self.query.len(), self.sealed.codes().len())
    }

    /// Compares the code of each sealed record of a subset.
    fn list(&mut self, only: &Numbers) {
        self.listed = true;
        let mut rows = self.sealed.rows_of(only.iter());
        let (mut ages, mut places, mut codes) = (Vec::new(), Vec::new(), Vec::new());
        while !self.is_expired() {
            ages.clear();
            places.clear();
            for (age, row) in rows.by_ref().take(LIST) {
                ages.push(age);
                places.push(row);
            }
            if ages.is_empty() {
                self.radius = self.radius_of_all();
                return;
            }
            self.sealed.gather(&places, &mut codes);
            let (span, radius) =
                ([Span { start: 0, end: ages.len() as u32 }], self.nearest.radius());
            self.kernel.within(&codes, self.query, &span, radius, &mut self.found);
            self.compared += ages.len() as u64;
            for Found { row, distance } in self.found.drain(..) {
                let age = ages[row as usize];
                if !self.snapshot.dead.contains(age as usize) {
                    self.nearest.push(distance, age);
                }
            }
        }
    }

    /// Compares every sealed code.
    ///
    /// It begins with the nearest cluster and goes on from there, round the end: the sooner
    /// near codes are found, the smaller the radius for the rest.
    fn scan(&mut self) -> Plan {
        let Span { start, end } = self.sealed.span();
        let home = self.sealed.cluster_start(self.home.row);
        self.sweep(Span { start: home, end });
        self.sweep(Span { start, end: home });
        self.scanned();
        Plan::Scan
    }

    /// Notes that every sealed code was compared.
    fn scanned(&mut self) {
        if !self.expired {
            self.radius = self.radius_of_all();
        }
    }

    /// Looks into clusters, as [`probe`](Self::probe) does, where the searches before leave hope.
    fn try_clusters(&mut self, forced: bool, other: f64) -> bool {
        let outlook = self.sealed.outlook();
        // What gives up because of something else than a scan teaches nothing of scans.
        let teaches = !forced && other == f64::INFINITY;
        let is_open = |search: &Self| !teaches || outlook.is_open(search.near());
        let hopeful = is_open(self) || self.move_home() && is_open(self);
        if !hopeful {
            return false;
        }
        let radius = self.near();
        let found = self.probe(forced, other);
        if teaches {
            outlook.note(radius, !found);
        }
        found
    }

    /// Begins again in the nearest cluster, where the guess was another; says whether it was.
    fn move_home(&mut self) -> bool {
        let nearest = self.kernel.closest(self.sealed.centres().codes(), self.query);
        let Some(nearest) = nearest.filter(|nearest| nearest.distance < self.home.distance) else {
            return false;
        };
        self.home = nearest;
        self.restart();
        self.look_at_home();
        true
    }

    /// Forgets what was found.
    fn restart(&mut self) {
        self.nearest.restart();
        self.rows.iter_mut().for_each(Rows::restart);
    }

    /// Looks into the clusters, apart from the nearest, that can hold something near.
    ///
    /// First into those within half of the radius, to bring it down where it is still large, and
    /// then into all the others within it. Where half of it takes in too much, a quarter may do, and
    /// so on, but only where the query is near to a centre: elsewhere most clusters are as near.
    ///
    /// Unless it is `forced`, gives up, and says false, where a scan should cost less, or `other`
    /// does.
    fn probe(&mut self, forced: bool, other: f64) -> bool {
        let codes = self.sealed.span().len();
        let least = cost::scan(self.kernel, self.sealed.codes().len()).min(other);
        let budget = |share: f64| if forced { f64::INFINITY } else { share * least };
        if !self.expired {
            self.look_at_centres();
        }
        let radius = self.near();
        if self.limit < codes && radius > 1 && !self.expired {
            let mut near = radius / 2;
            while !self.reach(near, budget(cost::VENTURE)) {
                near /= 2;
                if near <= self.home.distance / 2 {
                    return false;
                }
            }
            self.visit();
        }
        if !self.expired {
            if !self.reach(self.near(), budget(1.0)) {
                return false;
            }
            self.visit();
        }
        if !self.expired {
            self.radius = self.near();
        }
        true
    }

    /// Finds the clusters that can have codes within the radius, which are the only ones to look into
    /// from now on. The query's own is among them, if it can: it is looked into where the guess was
    /// another.
    fn look_at_centres(&mut self) {
        let (centres, reaches) = (self.sealed.centres().codes(), self.sealed.reaches());
        let (guess, radius) = (self.home, self.near());
        let most = (guess.distance + radius) as u16;
        self.rest.clear();
        self.kernel.reached(centres, self.query, reaches, most, radius, &mut self.rest);
        let nearest = self.rest.iter().min_by_key(|found| found.distance);
        if let Some(&nearest) = nearest.filter(|found| found.distance < guess.distance) {
            self.home = nearest;
            self.look_at_home();
        }
        let seen = [guess.row, self.home.row];
        self.rest.retain(|found| !seen.contains(&found.row));
    }

    /// Takes out of the rest the clusters that can have codes in the ball of `radius` bits; false,
    /// and none, where to visit them costs too much.
    fn reach(&mut self, radius: u32, budget: f64) -> bool {
        let (sealed, home, reaches) = (self.sealed, self.home, self.sealed.reaches());
        let most = home.distance + radius;
        let clusters = &mut self.clusters;
        split_off(&mut self.rest, clusters, |found| {
            found.distance <= radius + u32::from(reaches[found.row as usize]).min(most)
        });
        let (all, count) = (sealed.codes().len(), clusters.len());
        let cost = |words| cost::visit(self.kernel, count, words, all);
        // What of them is to be looked at, their rings say, which have to come from the memory. So that
        // is asked only where all of it costs too much; the first few mostly show it then.
        if cost(count * all / sealed.centres().len().max(1)) > budget {
            let mut words = 0;
            let is_dear = |found: &Found| {
                let rings = sealed.rings(found.row, found.distance, home.distance, radius);
                words += rings.len() * self.query.len();
                cost(words) > budget
            };
            if clusters.iter().any(is_dear) {
                self.rest.append(clusters);
                return false;
            }
        }
        true
    }

    /// Compares the codes of the clusters that were reached, in the rings within the radius.
    fn visit(&mut self) {
        let clusters = std::mem::take(&mut self.clusters);
        let mut spans = [Span { start: 0, end: 0 }; BATCH];
        let mut count = 0;
        let mut radius = self.near();
        for (i, &Found { row, distance }) in clusters.iter().enumerate() {
            if i.is_multiple_of(BATCH) {
                let coming = clusters[i..].iter().take(BATCH);
                coming.for_each(|found| self.sealed.fetch_rings(found.row, found.distance, radius));
            }
            let span = self.sealed.rings(row, distance, self.home.distance, radius);
            self.probes += 1;
            if span.len() > LONG {
                self.sweep(span);
                radius = self.near();
                continue;
            }
            spans[count] = span;
            count += usize::from(!span.is_empty());
            if count == BATCH {
                self.compare(&spans);
                radius = self.near();
                count = 0;
            }
            if self.expired {
                return;
            }
        }
        self.compare(&spans[..count]);
        self.clusters = clusters;
    }

    /// Compares a long span, block by block.
    ///
    /// A block is looked at with the radius that those before it left. With as many codes in it as
    /// were compared so far it brings in about as many neighbours as are wanted, not more.
    fn sweep(&mut self, span: Span) {
        let mut start = span.start;
        while start < span.end && !self.expired {
            let block = self.compared.clamp(BLOCK.0, BLOCK.1) as u32;
            let end = span.end.min(start.saturating_add(block));
            self.compare(&[Span { start, end }]);
            start = end;
        }
    }

    /// Compares some sealed codes and keeps those that are near enough, or their records.
    fn compare(&mut self, spans: &[Span]) {
        if self.is_expired() {
            return;
        }
        let radius = self.near();
        self.kernel.within(self.sealed.codes(), self.query, spans, radius, &mut self.found);
        self.compared += spans.iter().map(|span| span.len() as u64).sum::<u64>();
        match &mut self.rows {
            Some(rows) => self.found.drain(..).for_each(|found| rows.push(found)),
            None => {
                let mut found = std::mem::take(&mut self.found);
                self.keep(&found);
                found.clear();
                self.found = found;
            }
        }
    }

    /// Keeps the wanted records of some sealed rows.
    fn keep(&mut self, rows: &[Found]) {
        rows.iter().for_each(|found| self.sealed.fetch_bucket(found.row));
        for &Found { row, distance } in rows {
            if distance > self.nearest.radius() {
                continue;
            }
            let live = self.sealed.bucket(row).iter();
            let live = live.filter(|&&age| !self.snapshot.dead.contains(age as usize));
            let is_wanted =
                |age| self.only.is_none_or(|only| only.contains(self.sealed.number(age)));
            let wanted = live.filter(|&&age| is_wanted(age));
            // The ages of a bucket ascend, so of a large one only the first can be wanted.
            for &age in wanted.take(self.limit) {
                self.nearest.push(distance, age);
            }
        }
    }

    /// Compares some recent rows.
    fn scan_recent(&mut self, stretches: impl Iterator<Item = Stretch<'a>>) {
        for stretch in stretches {
            if self.limit == 0 || self.is_expired() {
                return;
            }
            let (span, radius) = ([stretch.span()], self.nearest.radius());
            self.kernel.within(stretch.words, self.query, &span, radius, &mut self.found);
            self.compared += span[0].len() as u64;
            let first = self.snapshot.recent_age(stretch.place);
            for Found { row, distance } in self.found.drain(..) {
                let number = stretch.numbers[row as usize];
                let dead = self.snapshot.delta.dead().contains(stretch.place + row as usize);
                if !dead && self.only.is_none_or(|only| only.contains(number)) {
                    self.nearest.push(distance, first + row);
                }
            }
        }
    }

    /// Whether the deadline passed; asked between blocks.
    fn is_expired(&mut self) -> bool {
        self.expired |= self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        self.expired
    }
}

/// Moves what `is_wanted` from one list to another, which is emptied before, both in their order;
/// without a branch, as nobody can foresee which is.
#[inline(always)]
fn split_off(from: &mut Vec<Found>, to: &mut Vec<Found>, is_wanted: impl Fn(&Found) -> bool) {
    to.clear();
    to.resize(from.len(), Found { row: 0, distance: 0 });
    let (mut moved, mut left) = (0, 0);
    for i in 0..from.len() {
        let found = from[i];
        let is_wanted = is_wanted(&found);
        (to[moved], from[left]) = (found, found);
        moved += usize::from(is_wanted);
        left += usize::from(!is_wanted);
    }
    to.truncate(moved);
    from.truncate(left);
}
