//! The search: probe ring by ring, or scan, and keep the nearest.
//!
//! Both plans hand spans of codes to the kernel and keep what it finds in [`Nearest`]; they
//! differ only in which spans, and know nothing of each other. The delta is always scanned.

use std::time::Instant;

use super::kernel::{Found, Kernel, Span};
use super::nearest::Nearest;
use super::query::{Answer, Neighbour, Plan, Query, Stats};
use super::sealed::Sealed;
use super::snapshot::Snapshot;
use super::{cost, ring};
use crate::numbers::Numbers;

/// Slots that are looked up before their codes are compared: the lookups overlap in the memory.
const BATCH: usize = 128;

/// Codes of one slot that are worth a block of their own.
const LONG: usize = 64;

/// The fewest and the most codes that are compared with one radius.
const BLOCK: (u64, u64) = (64, 32 * 1024);

pub(super) fn search(snapshot: &Snapshot, query: &Query<'_>) -> Answer {
    let mut search = Search::new(snapshot, query);
    // Nothing is asked for where the limit is 0, so nothing is looked at.
    let plan = if query.limit > 0 { search.run(query.plan) } else { Plan::Probe };
    Answer {
        complete: !search.expired,
        stats: Stats {
            plan,
            kernel: snapshot.kernel.name(),
            radius: search.radius,
            probes: search.probes,
            compared: search.compared,
            listed: search.listed,
        },
        neighbours: search.nearest.into_sorted(),
    }
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
    /// What the kernel found last; kept for its memory.
    found: Vec<Found>,
    expired: bool,
    radius: u32,
    probes: u64,
    compared: u64,
    listed: bool,
}

impl<'a> Search<'a> {
    fn new(snapshot: &'a Snapshot, query: &Query<'a>) -> Self {
        let width = snapshot.width().bits() as u32;
        let radius = query.radius.unwrap_or(width).min(width);
        Self {
            snapshot,
            kernel: snapshot.kernel,
            sealed: &snapshot.sealed,
            query: query.code.words(),
            limit: query.limit,
            only: query.only,
            deadline: query.deadline,
            nearest: Nearest::new(query.limit, radius),
            found: Vec::new(),
            expired: false,
            radius: 0,
            probes: 0,
            compared: 0,
            listed: false,
        }
    }

    /// Searches everything by a plan, and says which of the two it was.
    fn run(&mut self, plan: Plan) -> Plan {
        if let Some(only) = self.only.filter(|only| plan != Plan::Probe && self.is_short(only)) {
            self.list(only);
            self.scan_delta();
            return Plan::Scan;
        }
        let probed = plan != Plan::Scan && self.probe(plan == Plan::Probe);
        if !probed {
            self.scan();
        }
        self.scan_delta();
        if probed { Plan::Probe } else { Plan::Scan }
    }

    /// Whether to go through the records of a subset costs less than to scan and look up what is
    /// near.
    fn is_short(&self, only: &Numbers) -> bool {
        let (codes, records) = (self.sealed.span().len(), self.sealed.len());
        let share = only.len() as f64 / records as f64;
        let scan = cost::scan(self.kernel, codes, self.query.len())
            + cost::look_up(records, share.clamp(f64::MIN_POSITIVE, 1.0), self.limit);
        cost::list(only.len()) < scan
    }

    /// Compares the code of each sealed record of a subset.
    fn list(&mut self, only: &Numbers) {
        self.listed = true;
        let mut ages = self.sealed.ages_of(only.iter());
        let mut listed = [0; BATCH];
        let mut spans = [Span { start: 0, end: 0 }; BATCH];
        loop {
            let mut count = 0;
            for age in ages.by_ref().take(BATCH) {
                let start = self.sealed.row(age);
                (listed[count], spans[count]) = (age, Span { start, end: start + 1 });
                count += 1;
            }
            if count == 0 {
                break;
            }
            if self.is_expired() {
                return;
            }
            self.compared += count as u64;
            let (spans, radius) = (&spans[..count], self.nearest.radius());
            self.kernel.within(self.sealed.codes(), self.query, spans, radius, &mut self.found);
            // What was found stands in the order of the spans.
            let mut at = 0;
            for Found { row, distance } in self.found.drain(..) {
                at += spans[at..].iter().take_while(|span| span.start != row).count();
                if !self.snapshot.dead.contains(listed[at]) {
                    let number = self.sealed.number(listed[at] as u32);
                    self.nearest.push(Neighbour { distance, number });
                }
                at += 1;
            }
            self.nearest.cut();
        }
        self.radius = self.snapshot.width().bits() as u32;
    }

    /// Compares every sealed code.
    ///
    /// It begins with the query's own slot and goes on from there, round the end: near codes often
    /// begin alike, and the sooner some are found, the smaller the radius for the rest.
    fn scan(&mut self) {
        self.nearest.restart();
        let Span { start, end } = self.sealed.span();
        let home = self.sealed.slot_span(self.sealed.slot(self.query)).start;
        self.sweep(Span { start: home, end });
        self.sweep(Span { start, end: home });
        if !self.expired {
            self.radius = self.snapshot.width().bits() as u32;
        }
    }

    /// Looks into the slots, ring by ring, until no slot farther out can help.
    ///
    /// A code r bits away stands in a slot at most r bits away, so once the rings up to r are done
    /// every code within r was compared. There are 2^`slot_bits` slots in all rings, fewer than
    /// codes, so this ends soon whatever the query.
    ///
    /// Unless it is `forced`, gives up, and says false, where a scan should cost less.
    fn probe(&mut self, forced: bool) -> bool {
        let bits = self.sealed.slot_bits();
        let home = self.sealed.slot(self.query);
        let codes = self.sealed.span().len();
        let scan = cost::scan(self.kernel, codes, self.query.len());
        let mut spent = 0.0;
        let mut density = codes as f64 / f64::from(1 << bits);
        for ring in 0..=bits {
            let cost = |ring| cost::ring(ring::size(bits, ring), density);
            // The rings up to the radius are sure to be enough. Fewer may be, as the radius comes
            // down with what is found, unless all there is is wanted.
            let at_most: f64 = (ring..=self.nearest.radius().min(bits)).map(cost).sum();
            let venture = if self.limit < codes { cost::VENTURE * scan } else { 0.0 };
            if !forced && at_most > scan && spent + cost(ring) > venture {
                return false;
            }
            spent += cost(ring);

            let (probes, compared) = (self.probes, self.compared);
            self.probe_ring(home, bits, ring);
            density = (self.compared - compared) as f64 / (self.probes - probes) as f64;
            self.nearest.cut();
            if self.expired {
                return true;
            }
            self.radius = ring;
            if self.nearest.radius() <= ring {
                return true;
            }
        }
        // Every slot was looked into.
        self.radius = self.snapshot.width().bits() as u32;
        true
    }

    /// Compares the codes of all slots exactly `ring` bits from the slot `home`.
    fn probe_ring(&mut self, home: u32, bits: u32, ring: u32) {
        let mut spans = [Span { start: 0, end: 0 }; BATCH];
        let mut count = 0;
        for flips in ring::flips(bits, ring) {
            let span = self.sealed.slot_span(home ^ flips);
            self.probes += 1;
            if span.len() > LONG {
                self.sweep(span);
                continue;
            }
            // Which slots are empty cannot be foreseen, so there is no branch for it: a wrong
            // guess would make every lookup behind it wait.
            spans[count] = span;
            count += usize::from(!span.is_empty());
            if count == BATCH {
                self.compare(&spans);
                count = 0;
            }
            if self.expired {
                return;
            }
        }
        self.compare(&spans[..count]);
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
            self.nearest.cut();
            start = end;
        }
    }

    /// Compares some sealed codes and keeps the records of those that are near enough.
    fn compare(&mut self, spans: &[Span]) {
        if self.is_expired() {
            return;
        }
        let radius = self.nearest.radius();
        self.kernel.within(self.sealed.codes(), self.query, spans, radius, &mut self.found);
        self.compared += spans.iter().map(|span| span.len() as u64).sum::<u64>();
        for Found { row, distance } in self.found.drain(..) {
            let live = self.sealed.bucket(row).iter();
            let live = live.filter(|&&age| !self.snapshot.dead.contains(age as usize));
            let numbers = live.map(|&age| self.sealed.number(age));
            let wanted =
                numbers.filter(|&number| self.only.is_none_or(|only| only.contains(number)));
            // The ages of a bucket ascend, so of a large one only the first can be wanted.
            for number in wanted.take(self.limit) {
                self.nearest.push(Neighbour { distance, number });
            }
        }
    }

    /// Compares every recent row.
    fn scan_delta(&mut self) {
        let delta = &self.snapshot.delta;
        for stretch in delta.stretches() {
            if self.is_expired() {
                return;
            }
            let (span, radius) = ([stretch.span()], self.nearest.radius());
            self.kernel.within(stretch.words, self.query, &span, radius, &mut self.found);
            self.compared += span[0].len() as u64;
            for Found { row, distance } in self.found.drain(..) {
                let number = stretch.numbers[row as usize];
                let dead = delta.dead().contains(stretch.place + row as usize);
                if !dead && self.only.is_none_or(|only| only.contains(number)) {
                    self.nearest.push(Neighbour { distance, number });
                }
            }
            self.nearest.cut();
        }
    }

    /// Whether the deadline passed; asked between blocks.
    fn is_expired(&mut self) -> bool {
        self.expired |= self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        self.expired
    }
}
