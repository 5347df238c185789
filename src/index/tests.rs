//! The index against the simplest true version: compare the query with every record, sort, cut.

mod folds;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::numbers::Numbers;

/// Widths around every boundary: of a byte, a word, the widths that kernels are made for. Few of
/// them for Miri, which takes a thousand times as long.
pub(super) fn widths() -> Vec<Width> {
    [1, 7, 8, 31, 32, 63, 64, 65, 127, 128, 192, 256, 512, 576, 1000, 1024]
        .into_iter()
        .filter(|bits| !cfg!(miri) || [7, 64, 65, 256].contains(bits))
        .map(|bits| Width::new(bits).unwrap())
        .collect()
}

/// `rows` codes, each a few bits from one of `groups` centers, so that many are near and equal.
/// The centers do not depend on the seed.
pub(super) fn random_codes(width: Width, rows: usize, groups: usize, seed: u64) -> Codes {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let centers: Vec<Code> = (0..groups).map(|_| random_code(width, &mut rng)).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut codes = Codes::new(width);
    for _ in 0..rows {
        let center = &centers[rng.random_range(0..groups)];
        codes.push(&disturbed(center, 4, &mut rng)).unwrap();
    }
    codes
}

/// The same cases at every run.
pub(super) fn fixed(seed: u64, cases: u32) -> ProptestConfig {
    let cases = if cfg!(miri) { 2 } else { cases };
    let (rng_seed, failure_persistence) = (RngSeed::Fixed(seed), None);
    ProptestConfig { rng_seed, cases, failure_persistence, ..Default::default() }
}

fn random_code(width: Width, rng: &mut impl Rng) -> Code {
    let mut code = Code::zero(width);
    (0..width.bits()).filter(|_| rng.random()).for_each(|bit| code.flip(bit));
    code
}

/// `code` with 0 to `flips` bits flipped.
fn disturbed(code: &Code, flips: usize, rng: &mut impl Rng) -> Code {
    let mut code = code.clone();
    for _ in 0..rng.random_range(0..=flips) {
        code.flip(rng.random_range(0..code.width().bits()));
    }
    code
}

/// An index, and what must be in it.
struct Twin {
    index: Index,
    records: BTreeMap<u64, Code>,
    next: u64,
}

impl Twin {
    fn new(width: Width) -> Self {
        Self { index: Index::new(width), records: BTreeMap::new(), next: 1 }
    }

    fn built(codes: &Codes) -> Self {
        let numbers: Vec<u64> = (0..codes.len() as u64).map(|i| 10 + 3 * i).collect();
        let records = numbers.iter().zip(0..).map(|(&n, i)| (n, codes.get(i))).collect();
        let index = Index::build(codes.width(), numbers, codes.clone());
        Self { index, records, next: 10 + 3 * codes.len() as u64 }
    }

    fn apply(&mut self, codes: &Codes, removed: &[u64]) {
        let numbers: Vec<u64> = (self.next..).take(codes.len()).collect();
        self.index.apply(&numbers, codes, removed);
        self.next += codes.len() as u64;
        self.records.extend(numbers.iter().zip(0..).map(|(&n, i)| (n, codes.get(i))));
        removed.iter().for_each(|number| drop(self.records.remove(number)));
    }

    fn expected(&self, query: &Query<'_>) -> Vec<Neighbour> {
        let mut all: Vec<Neighbour> = self
            .records
            .iter()
            .map(|(&number, code)| Neighbour { distance: code.distance(query.code), number })
            .filter(|found| query.radius.is_none_or(|radius| found.distance <= radius))
            .filter(|found| query.only.is_none_or(|only| only.contains(found.number)))
            .collect();
        all.sort();
        all.truncate(query.limit);
        all
    }

    /// Every plan on every kernel gives what is expected.
    fn check(&self, code: &Code, limit: usize, radius: Option<u32>) {
        self.check_query(&Query { limit, radius, ..Query::nearest(code, 0) });
    }

    fn check_query(&self, query: &Query<'_>) {
        let expected = self.expected(query);
        let mut snapshot = Snapshot::clone(&self.index.snapshot());
        assert_eq!(snapshot.len(), self.records.len());
        for kernel in Kernel::available() {
            snapshot.kernel = kernel;
            for plan in [Plan::Auto, Plan::Probe, Plan::Scan] {
                let query = Query { plan, ..*query };
                let answer = snapshot.search(&query);
                let at = format!("{kernel:?} {query:?}");
                assert_eq!(answer.neighbours, expected, "{at}");
                assert!(answer.complete, "{at}");
                assert_eq!(answer.stats.kernel, kernel.name());
                assert!(answer.stats.plan != Plan::Auto, "{at}");
                assert!(!answer.stats.listed || query.only.is_some() && plan != Plan::Probe);
            }
        }
        let [auto, scan] = [Plan::Auto, Plan::Scan].map(|plan| Query { plan, ..*query });
        for answer in snapshot.search_batch(&[auto, scan]) {
            assert_eq!(answer.neighbours, expected, "in a batch: {query:?}");
        }
    }

    /// All limits and radii at which something changes, around some of the codes.
    fn check_edges(&self, queries: &[Code]) {
        let (n, bits) = (self.records.len(), self.index.width().bits() as u32);
        for code in queries {
            for limit in [0, 1, 2, 10, n.saturating_sub(1), n, n + 1, usize::MAX] {
                for radius in [None, Some(0), Some(1), Some(3), Some(bits), Some(bits + 1)] {
                    self.check(code, limit, radius);
                }
            }
        }
    }

    fn check_contents(&self) {
        let snapshot = self.index.snapshot();
        let mut rows: Vec<(u64, Vec<u64>)> =
            snapshot.rows().map(|(number, words)| (number, words.to_vec())).collect();
        rows.sort();
        let expected: Vec<(u64, Vec<u64>)> =
            self.records.iter().map(|(&number, code)| (number, code.words().to_vec())).collect();
        assert_eq!(rows, expected);

        let mut buckets: BTreeMap<&Code, usize> = BTreeMap::new();
        self.records.values().for_each(|code| *buckets.entry(code).or_default() += 1);
        let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
        buckets.values().for_each(|&size| *sizes.entry(size).or_default() += 1);
        assert_eq!(snapshot.bucket_sizes(), sizes);
    }
}

#[test]
fn every_plan_and_kernel_finds_what_the_oracle_finds_at_every_edge() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for width in widths() {
        for (rows, groups) in [(0, 1), (1, 1), (60, 1), (300, 4), (300, 150)] {
            let mut pair = Twin::built(&random_codes(width, rows, groups, 2));
            let near = pair.records.values().next().cloned().unwrap_or(Code::zero(width));
            let queries = [disturbed(&near, 3, &mut rng), random_code(width, &mut rng)];
            pair.check_edges(&queries);

            // The same where the very nearest are dead.
            let nearest = pair.expected(&Query::nearest(&near, 3));
            let nearest: Vec<u64> = nearest.iter().map(|found| found.number).collect();
            pair.apply(&Codes::new(width), &nearest);
            pair.check_edges(&queries[..1]);

            // The same with a third of the sealed dead, and some recent rows, one of them dead.
            let mut removed: Vec<u64> = pair.records.keys().copied().step_by(3).collect();
            removed.push(pair.next + 1);
            pair.apply(&random_codes(width, 20, 3, 3), &removed);
            pair.check_edges(&queries[..1]);
            pair.check_contents();
        }
    }
}

#[test]
fn equal_codes_come_oldest_first_and_cost_one_comparison() {
    let width = Width::new(64).unwrap();
    let mut codes = random_codes(width, 5000, 1, 1);
    let query = codes.get(0);
    (0..45_000).for_each(|_| codes.push(&query).unwrap());
    let pair = Twin::built(&codes);
    for limit in [1, 10, 2000, 44_000] {
        pair.check(&query, limit, None);
    }
    let scan = Query { plan: Plan::Scan, ..Query::nearest(&query, 10) };
    assert!(pair.index.search(&scan).stats.compared <= 5000);
}

#[test]
fn ties_at_the_last_place_go_to_the_older_whatever_the_order_of_the_codes() {
    // 4,096 different codes at one distance of the query: the numbers alone decide.
    let width = Width::new(128).unwrap();
    let query = random_code(width, &mut ChaCha8Rng::seed_from_u64(9));
    let mut ring: Vec<Code> = query.ring(2).take(4096).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for i in (1..ring.len()).rev() {
        ring.swap(i, rng.random_range(0..=i));
    }
    let mut codes = Codes::new(width);
    ring.iter().for_each(|code| codes.push(code).unwrap());
    let pair = Twin::built(&codes);
    for limit in [1, 7, 100, 1500, 4095] {
        pair.check(&query, limit, None);
        pair.check(&query, limit, Some(2));
        pair.check(&query, limit, Some(1));
    }
}

#[test]
fn larger_collections_too() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    for (bits, groups) in [(32, 50), (64, 50), (64, 40_000), (128, 200)] {
        let codes = random_codes(Width::new(bits).unwrap(), 40_000, groups, 8);
        let pair = Twin::built(&codes);
        for i in 0..6 {
            let code = disturbed(&codes.get(i * 6000), 5, &mut rng);
            pair.check(&code, 10, None);
            pair.check(&code, 1000, None);
            pair.check(&code, usize::MAX, Some(3));
        }
    }
}

/// Where every code is there, codes stand at every distance that the clusters are pruned by.
#[test]
fn every_ball_among_all_codes_is_whole() {
    let width = Width::new(12).unwrap();
    let mut codes = Codes::new(width);
    (0..1u64 << 12).for_each(|code| codes.push_words(&[code << 52]).unwrap());
    let index = Index::build(width, (0..1 << 12).collect(), codes.clone());
    for (row, code) in (0..codes.len()).map(|row| (row, codes.get(row))) {
        for (radius, len) in [1, 13, 79, 299].into_iter().enumerate() {
            let query = Query { plan: Plan::Probe, ..Query::within(&code, radius as u32) };
            assert_eq!(index.search(&query).neighbours.len(), len, "{row} {radius}");
            assert_eq!(
                index.nearest(&code, len).iter().map(|n| n.distance).max(),
                Some(radius as u32)
            );
        }
    }
}

/// Subsets of every size, with numbers that are dead, recent or nowhere: listed where they are
/// small, looked up in where they are large, and k of them are found wherever there are k.
#[test]
fn a_subset_is_all_that_is_found() {
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    for (bits, rows, groups) in [(64, 9000, 40), (64, 9000, 1), (65, 3000, 3000), (8, 2000, 100)] {
        let codes = random_codes(Width::new(bits).unwrap(), rows, groups, 8);
        let mut pair = Twin::built(&codes);
        let removed: Vec<u64> = pair.records.keys().copied().step_by(9).collect();
        pair.apply(&random_codes(codes.width(), 1500, groups, 9), &removed);
        let mut listed = BTreeMap::new();
        for percent in [0, 1, 10, 50, 99, 100] {
            let chosen = |_: &u64| rng.random_range(0..100) < percent;
            let only: Numbers = (0..pair.next + 100).filter(chosen).collect();
            let code = disturbed(&codes.get(percent * 9), 3, &mut ChaCha8Rng::seed_from_u64(1));
            for limit in [0, 1, 10, 200, usize::MAX] {
                for radius in [None, Some(0), Some(4)] {
                    let query = Query { limit, radius, ..Query::nearest(&code, 0) };
                    pair.check_query(&Query { only: Some(&only), ..query });
                    let scan = Query { only: Some(&only), plan: Plan::Scan, ..query };
                    listed.insert((limit, percent), pair.index.search(&scan).stats.listed);
                }
            }
        }
        assert!(listed[&(10, 0)] && listed[&(10, 1)] && !listed[&(1, 100)], "{listed:?}");
    }
}

#[test]
fn a_batch_is_answered_as_its_queries_one_by_one() {
    for (bits, rows, groups) in [(64, 70_000, 70_000), (1000, 5000, 50), (64, 40_000, 40)] {
        let codes = random_codes(Width::new(bits).unwrap(), rows, groups, 8);
        let mut pair = Twin::built(&codes);
        pair.apply(&random_codes(codes.width(), 1500, groups, 9), &[10, 13, 16]);
        let only: Numbers = (0..pair.next).step_by(3).collect();
        let asked: Vec<Code> = (0..150).map(|i| codes.get(i * 31)).collect();
        let queries: Vec<Query<'_>> = asked
            .iter()
            .zip([Plan::Auto, Plan::Scan, Plan::Probe].into_iter().cycle())
            .zip([1, 10, 100, 0, usize::MAX].into_iter().cycle())
            .zip([None, Some(&only)].into_iter().cycle())
            .map(|(((code, plan), limit), only)| Query {
                only,
                plan,
                radius: (limit == usize::MAX).then_some(2),
                ..Query::nearest(code, limit)
            })
            .collect();
        let answers = pair.index.search_batch(&queries);
        assert_eq!(answers.len(), queries.len());
        for (answer, query) in answers.iter().zip(&queries) {
            assert_eq!(answer.neighbours, pair.index.search(query).neighbours, "{query:?}");
            assert!(answer.complete);
        }
        for i in [0, 1, 2, 77] {
            assert_eq!(answers[i].neighbours, pair.expected(&queries[i]));
        }
    }
}

#[test]
fn pairs_are_all_that_are_near_each_other_each_once_and_in_order() {
    for ((width, groups), seed) in widths().into_iter().zip([1, 7, 90].into_iter().cycle()).zip(0..)
    {
        let mut twin = Twin::built(&random_codes(width, 400, groups, seed));
        let removed: Vec<u64> = twin.records.keys().copied().step_by(7).collect();
        twin.apply(&random_codes(width, 60, groups, seed + 1), &removed);
        for radius in [0, 1, 3, width.bits() as u32] {
            let mut expected = Vec::new();
            for (&older, code) in &twin.records {
                for (&newer, other) in twin.records.range(older + 1..) {
                    let distance = code.distance(other);
                    expected.push(Pair { older, distance, newer });
                }
            }
            expected.retain(|pair| pair.distance <= radius);
            expected.sort();
            let pairs: Vec<_> = twin.index.snapshot().pairs(radius).collect();
            assert!(pairs == expected, "{width} {groups} {radius}");

            // Each record takes the least number that any of its pairs has, until none changes.
            let mut least: BTreeMap<u64, u64> = twin.records.keys().map(|&n| (n, n)).collect();
            loop {
                let before = least.clone();
                for pair in &expected {
                    let one = least[&pair.older].min(least[&pair.newer]);
                    least.insert(pair.older, one);
                    least.insert(pair.newer, one);
                }
                if least == before {
                    break;
                }
            }
            let mut joined: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
            least.iter().for_each(|(&n, &one)| joined.entry(one).or_default().push(n));
            joined.retain(|_, group| group.len() > 1);
            let expected: Vec<Vec<u64>> = joined.into_values().collect();
            assert_eq!(twin.index.snapshot().groups(radius), expected, "{width} {radius}");
        }
    }
}

#[test]
fn a_delta_of_several_chunks_is_searched_whole() {
    let width = Width::new(65).unwrap();
    let mut pair = Twin::new(width);
    for seed in 0..4 {
        pair.apply(&random_codes(width, 700, 30, seed), &[]);
    }
    let removed: Vec<u64> =
        pair.records.keys().copied().filter(|n| n % 3 == 0 || *n > 2700).collect();
    pair.apply(&Codes::new(width), &removed);
    for code in [random_codes(width, 1, 30, 9).get(0), pair.records[&1].clone()] {
        for limit in [1, 10, 500, usize::MAX] {
            pair.check(&code, limit, None);
        }
    }
    pair.check_contents();
}

#[test]
fn auto_probes_where_that_is_cheap_and_scans_where_it_is_not() {
    let codes = random_codes(Width::new(64).unwrap(), 40_000, 10_000, 8);
    let pair = Twin::built(&codes);
    let code = codes.get(17);
    assert_eq!(pair.index.search(&Query::within(&code, 1)).stats.plan, Plan::Probe);
    let far = pair.index.search(&Query::within(&code, 20));
    assert_eq!(far.stats.plan, Plan::Scan);
    assert!(far.stats.probes < 20_000, "{:?}", far.stats);
    // However many records a small ball may have, they are not gone through for it.
    let even: Numbers = (0..40_000).step_by(2).collect();
    let near = pair.index.search(&Query { only: Some(&even), ..Query::within(&code, 1) });
    assert_eq!((near.stats.plan, near.stats.listed), (Plan::Probe, false), "{:?}", near.stats);
}

/// What searches in vain teach is for those that come no nearer.
#[test]
fn where_looking_at_clusters_is_in_vain_what_is_near_is_still_probed_for() {
    let codes = random_codes(Width::new(64).unwrap(), 40_000, 40_000, 8);
    let (pair, fresh) = (Twin::built(&codes), Twin::built(&codes));
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let scans = |code: &Code| {
        let query = Query::nearest(code, 10);
        let answer = pair.index.search(&query);
        assert_eq!(answer.neighbours, pair.expected(&query));
        answer.stats.plan == Plan::Scan
    };
    let strangers: Vec<Code> = (0..150).map(|_| random_code(codes.width(), &mut rng)).collect();
    assert!(strangers.iter().filter(|code| scans(code)).count() > 140);
    let probes = (0..20).filter(|i| {
        let code = disturbed(&codes.get(i * 1000), 1, &mut rng);
        let query = Query::nearest(&code, 1);
        let answer = pair.index.search(&query);
        assert_eq!(answer.neighbours, pair.expected(&query));
        assert_eq!(answer.stats, fresh.index.search(&query).stats);
        answer.stats.plan == Plan::Probe
    });
    assert!(probes.count() > 15);
}

#[test]
fn a_deadline_ends_the_search_and_the_answer_says_so() {
    let codes = random_codes(Width::new(64).unwrap(), 5000, 100, 8);
    let mut pair = Twin::built(&codes);
    pair.apply(&random_codes(codes.width(), 100, 1, 2), &[]);
    let code = codes.get(3);
    for plan in [Plan::Auto, Plan::Probe, Plan::Scan] {
        let query = Query { plan, ..Query::nearest(&code, 10) };
        let past = Query { deadline: Some(Instant::now()), ..query };
        let answer = pair.index.search(&past);
        assert!(!answer.complete && answer.neighbours.is_empty(), "{answer:?}");
        let later = Query { deadline: Some(Instant::now() + Duration::from_secs(600)), ..query };
        assert_eq!(pair.index.search(&later), pair.index.search(&query));
    }
}

#[test]
fn a_group_that_is_refused_changes_nothing() {
    let width = Width::new(9).unwrap();
    let index = Index::new(width);
    index.apply(&[5], &random_codes(width, 1, 1, 1), &[]);
    let bad = |numbers: &[u64], codes: Codes| {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            index.apply(numbers, &codes, &[5]);
        }));
        assert!(result.is_err());
    };
    bad(&[5], random_codes(width, 1, 1, 1));
    bad(&[7, 6], random_codes(width, 2, 1, 1));
    bad(&[6], random_codes(width, 2, 1, 1));
    bad(&[6], random_codes(Width::new(10).unwrap(), 1, 1, 1));
    assert_eq!(index.len(), 1);
    index.apply(&[6], &random_codes(width, 1, 1, 1), &[5, 77]);
    assert_eq!(index.len(), 1);
}

#[derive(Clone, Debug)]
enum Step {
    /// So many new records; then those of these places among the living, new ones included, go.
    Apply(usize, Vec<prop::sample::Index>),
    Fold,
    /// The limit, the radius, and every which number may be found.
    Ask(usize, Option<u32>, Option<u64>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..40, prop::collection::vec(any::<prop::sample::Index>(), 0..15))
            .prop_map(|(added, removed)| Step::Apply(added, removed)),
        1 => Just(Step::Fold),
        3 => (0usize..60, prop::option::of(0u32..40), prop::option::of(1u64..30))
            .prop_map(|(limit, radius, every)| Step::Ask(limit, radius, every)),
    ]
}

proptest! {
    #![proptest_config(fixed(2, 96))]

    #[test]
    fn groups_and_folds_in_any_order_agree_with_the_oracle(
        width in prop::sample::select(widths()),
        seed: u64,
        groups in 1usize..20,
        steps in prop::collection::vec(step(), 1..30),
    ) {
        let mut pair = Twin::new(width);
        for (i, step) in (0..).zip(steps) {
            let seed = u64::wrapping_add(seed, i);
            match step {
                Step::Apply(added, removed) => {
                    let codes = random_codes(width, added, groups, seed);
                    let mut living: Vec<u64> = pair.records.keys().copied().collect();
                    living.extend((pair.next..).take(added));
                    let removed: Vec<u64> = match living.is_empty() {
                        true => vec![3],
                        false => removed.iter().map(|place| *place.get(&living)).collect(),
                    };
                    pair.apply(&codes, &removed);
                }
                Step::Fold => pair.index.fold(),
                Step::Ask(limit, radius, every) => {
                    let code = random_codes(width, 1, groups, seed).get(0);
                    let only: Option<Numbers> =
                        every.map(|every| (0..pair.next).step_by(every as usize).collect());
                    let query = Query { limit, radius, ..Query::nearest(&code, 0) };
                    pair.check_query(&Query { only: only.as_ref(), ..query });
                }
            }
        }
        pair.check_contents();
    }
}
