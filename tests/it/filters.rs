//! Filters in a collection, against the naive oracle: every record in turn.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nearbit::filter::Field;
use nearbit::{
    Code, Collection, CollectionSettings, Database, EncoderSpec, Error, Filter, NewRecord, Payload,
    Plan, RecordId, Search, Width,
};
use proptest::prelude::*;
use tempfile::TempDir;

fn width() -> Width {
    Width::new(8).unwrap()
}

fn code(byte: u8) -> Code {
    Code::from_bytes(width(), &[byte]).unwrap()
}

fn settings(fields: &[&str]) -> CollectionSettings {
    CollectionSettings {
        index_fields: fields.iter().map(|field| field.parse().unwrap()).collect(),
        ..CollectionSettings::new(EncoderSpec::Codes { width: width() })
    }
}

fn record(name: u8, byte: u8, payload: &str) -> NewRecord {
    let record = NewRecord::code(code(byte)).with_id(name.to_string()).unwrap();
    record.with_payload(Payload::from_json(payload).unwrap())
}

fn parse(filter: &str) -> Filter {
    Filter::parse(filter).unwrap()
}

/// Until every record is in every index.
fn wait(collection: &Collection) {
    let start = Instant::now();
    while !collection.info().index_fields.iter().all(|indexed| indexed.complete) {
        assert!(start.elapsed() < Duration::from_secs(60), "the indexes are never complete");
        std::thread::sleep(Duration::from_millis(1));
    }
}

const PAYLOADS: [&str; 8] = [
    r#"{}"#,
    r#"{"a": 1, "b": "x", "t": ["p", "q"]}"#,
    r#"{"a": 2, "b": "y", "d": "2024-05-01"}"#,
    r#"{"a": 2.5, "t": []}"#,
    r#"{"a": null, "b": true, "d": "2024-05-01T12:00:00Z"}"#,
    r#"{"a": "1", "o": {"p": 1}, "t": ["p"]}"#,
    r#"{"b": "x", "o": {"p": null}}"#,
    r#"{"a": 3, "b": "x", "d": "later"}"#,
];

const FILTERS: [&str; 16] = [
    "a >= 2",
    "a == 1 or a == 2.5",
    "a != 1",
    r#"b == "x""#,
    r#"b == "x" and a < 3"#,
    r#"not (b == "x" or a exists)"#,
    "a is null",
    r#"d > "2024-05-01""#,
    r#"d <= "2024-05-01T00:00:00Z" or t contains "q""#,
    r#"t contains all ["p", "q"]"#,
    "t contains all []",
    "o.p == 1 or o.p is null",
    r#"id in ["3", "7", "nobody"] or a == 1"#,
    r#"id not in ["3", "7"] and b in ["x", true]"#,
    "true",
    "false",
];

/// What is in a collection: (age, code, payload) by name.
#[derive(Default)]
struct Oracle {
    records: BTreeMap<u8, (u64, u8, usize)>,
    age: u64,
}

impl Oracle {
    fn matching(&self, filter: &Filter) -> Vec<(u64, u8, u8)> {
        let matches = |(name, (age, byte, payload)): (&u8, &(u64, u8, usize))| {
            let id = RecordId::new(name.to_string()).unwrap();
            let payload = Payload::from_json(PAYLOADS[*payload]).unwrap();
            filter.matches(&id, &payload).then_some((*age, *byte, *name))
        };
        let mut matching: Vec<_> = self.records.iter().filter_map(matches).collect();
        matching.sort();
        matching
    }

    /// Sort all that match by distance and age, and cut.
    fn search(&self, filter: &Filter, byte: u8, limit: usize) -> Vec<(u32, String)> {
        let matching = self.matching(filter).into_iter();
        let mut all: Vec<_> =
            matching.map(|(age, other, name)| ((byte ^ other).count_ones(), age, name)).collect();
        all.sort();
        all.into_iter()
            .take(limit)
            .map(|(distance, _, name)| (distance, name.to_string()))
            .collect()
    }
}

fn check(collection: &Collection, oracle: &Oracle, filter: &str, byte: u8, limit: usize) {
    let filter = parse(filter);
    let expected = oracle.search(&filter, byte, limit);
    for plan in [Plan::Auto, Plan::Probe, Plan::Scan] {
        let search = Search::code(code(byte)).limit(limit).filter(filter.clone()).plan(plan);
        let hits = collection.search(&search).unwrap().hits;
        let hits: Vec<_> = hits.iter().map(|hit| (hit.distance, hit.id.to_string())).collect();
        assert_eq!(hits, expected, "{filter}, {plan:?}");
    }
    let matching = oracle.matching(&filter);
    assert_eq!(collection.count(&filter).unwrap(), matching.len() as u64, "{filter}");
    let mut listed = Vec::new();
    let mut page = collection.list_matching(&filter, None, 3).unwrap();
    loop {
        listed.extend(page.records.iter().map(|record| record.id.to_string()));
        let Some(next) = page.next else { break };
        page = collection.list_matching(&filter, Some(next), 3).unwrap();
    }
    let expected: Vec<String> = matching.iter().map(|(_, _, name)| name.to_string()).collect();
    assert_eq!(listed, expected, "{filter}");
}

#[derive(Clone, Debug)]
enum Step {
    Upsert(BTreeMap<u8, (u8, usize)>),
    Delete(Vec<u8>),
    DeleteMatching(usize),
    Index(&'static str),
    Drop(&'static str),
    Wait,
    Reopen,
    Ask { filter: usize, byte: u8, limit: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let content = (any::<u8>(), 0..PAYLOADS.len());
    let field = proptest::sample::select(vec!["a", "b", "d", "t", "o.p"]);
    prop_oneof![
        4 => proptest::collection::btree_map(0u8..60, content, 1..30).prop_map(Step::Upsert),
        1 => proptest::collection::vec(0u8..60, 1..8).prop_map(Step::Delete),
        1 => (0..FILTERS.len()).prop_map(Step::DeleteMatching),
        2 => field.clone().prop_map(Step::Index),
        1 => field.prop_map(Step::Drop),
        1 => Just(Step::Wait),
        1 => Just(Step::Reopen),
        8 => (0..FILTERS.len(), any::<u8>(), 0usize..20)
            .prop_map(|(filter, byte, limit)| Step::Ask { filter, byte, limit }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_history_finds_what_matches(steps in proptest::collection::vec(step(), 1..40)) {
        let dir = TempDir::new().unwrap();
        let mut database = Database::open(dir.path()).unwrap();
        let mut collection = database.create_collection("c", &settings(&["a"])).unwrap();
        let mut oracle = Oracle::default();
        for step in steps {
            match step {
                Step::Upsert(records) => {
                    let new = |(name, (byte, p)): (&u8, &(u8, usize))| record(*name, *byte, PAYLOADS[*p]);
                    collection.upsert(records.iter().map(new).collect()).unwrap();
                    for (name, (byte, payload)) in records {
                        oracle.age += 1;
                        oracle.records.insert(name, (oracle.age, byte, payload));
                    }
                }
                Step::Delete(names) => {
                    let ids = names.iter().map(|name| RecordId::new(name.to_string()).unwrap());
                    collection.delete(&ids.collect::<Vec<_>>()).unwrap();
                    names.iter().for_each(|name| { oracle.records.remove(name); });
                }
                Step::DeleteMatching(filter) => {
                    let filter = parse(FILTERS[filter]);
                    let matching = oracle.matching(&filter);
                    prop_assert_eq!(collection.delete_matching(&filter).unwrap(), matching.len() as u64);
                    matching.iter().for_each(|(_, _, name)| { oracle.records.remove(name); });
                }
                Step::Index(field) => {
                    let field: Field = field.parse().unwrap();
                    let known = collection.info().index_fields.iter().any(|i| i.field == field);
                    prop_assert_eq!(collection.index_field(field).unwrap(), !known);
                }
                Step::Drop(field) => {
                    let field: Field = field.parse().unwrap();
                    let known = collection.info().index_fields.iter().any(|i| i.field == field);
                    prop_assert_eq!(collection.drop_field_index(&field).unwrap(), known);
                }
                Step::Wait => wait(&collection),
                Step::Reopen => {
                    let fields: Vec<Field> =
                        collection.info().index_fields.into_iter().map(|i| i.field).collect();
                    drop((collection, database));
                    database = Database::open(dir.path()).unwrap();
                    collection = database.collection("c").unwrap();
                    let kept: Vec<Field> =
                        collection.info().index_fields.into_iter().map(|i| i.field).collect();
                    prop_assert_eq!(kept, fields);
                }
                Step::Ask { filter, byte, limit } => {
                    check(&collection, &oracle, FILTERS[filter], byte, limit);
                }
            }
        }
        for filter in FILTERS {
            check(&collection, &oracle, filter, 0b1010, 5);
        }
    }
}

/// More records than are read at a time, before the search or in the background.
fn many() -> (TempDir, Database, Collection) {
    let dir = TempDir::new().unwrap();
    let database = Database::open(dir.path()).unwrap();
    let collection = database.create_collection("c", &settings(&["indexed"])).unwrap();
    let new = |i: u32| {
        let payload = format!(r#"{{"indexed": {}, "plain": {}, "n": {i}}}"#, i % 10, i % 10);
        NewRecord::code(code((i * 37 % 256) as u8))
            .with_id(i.to_string())
            .unwrap()
            .with_payload(Payload::from_json(&payload).unwrap())
    };
    for group in 0..5 {
        collection.upsert((group * 1000..(group + 1) * 1000).map(new).collect()).unwrap();
    }
    (dir, database, collection)
}

#[test]
fn an_index_spares_the_payloads() {
    let (_dir, _database, collection) = many();
    wait(&collection);
    let search = |filter: &str, limit| {
        let search = Search::code(code(3)).limit(limit).filter(parse(filter));
        let answer = collection.search(&search).unwrap();
        let ids: Vec<String> = answer.hits.iter().map(|hit| hit.id.to_string()).collect();
        (ids, answer.stats.tested)
    };
    let (indexed, tested) = search("indexed == 7", 20);
    assert_eq!((indexed.len(), tested), (20, 0));
    assert!(indexed.iter().all(|id| id.ends_with('7')));
    let (plain, tested) = search("plain == 7", 20);
    assert_eq!(plain, indexed);
    assert!((20..1000).contains(&tested), "{tested} payloads read to find 20 of 500");
    // An indexed condition narrows what has to be read for another.
    let (both, tested) = search("indexed == 7 and n < 100", 50);
    assert_eq!((both.len(), tested <= 500), (10, true));
    let (_, tested) = search("plain == 11", 1);
    assert_eq!(tested, 5000, "all are read where none matches");
    let info = collection.info().index_fields;
    assert_eq!((info[0].field.to_string().as_str(), info[0].values), ("indexed", 10));
}

#[test]
fn a_batch_reads_a_payload_once() {
    let (_dir, _database, collection) = many();
    let searches: Vec<Search> = (0..50)
        .map(|i| Search::code(code(i)).limit(3).filter(parse("plain == 11")))
        .chain([Search::code(code(0)).limit(3)])
        .collect();
    let answers = collection.search_batch(&searches).unwrap();
    let tested: u64 = answers.iter().map(|answer| answer.stats.tested).sum();
    // Two threads may read the same one at the same time.
    assert!((5000..20_000).contains(&tested), "{tested}");
    assert!(answers[..50].iter().all(|answer| answer.hits.is_empty()));
    assert_eq!(answers[50].hits.len(), 3);
}

#[test]
fn a_deadline_ends_the_reading() {
    let (_dir, _database, collection) = many();
    for filter in ["plain == 11", "true"] {
        let search = Search {
            deadline: Some(Instant::now()),
            ..Search::code(code(0)).limit(5000).filter(parse(filter))
        };
        let error = collection.search(&search).unwrap_err();
        assert!(matches!(error, Error::Timeout), "{filter}: {error}");
    }
}

#[test]
fn a_tree_that_is_too_deep_is_refused() {
    let (_dir, _database, collection) = many();
    let mut filter = parse("true");
    for _ in 0..1000 {
        filter = Filter::Not(Box::new(filter));
    }
    let search = Search::code(code(0)).filter(filter.clone());
    for error in [collection.search(&search).unwrap_err(), collection.count(&filter).unwrap_err()] {
        assert!(error.to_string().starts_with("filter: expected at most 32"), "{error}");
    }
}

/// A record that is replaced again and again is found exactly once by a filter that both its forms
/// match, whether the field is indexed or not, and by its id.
#[test]
fn readers_see_a_replaced_record_once() {
    let dir = TempDir::new().unwrap();
    let database = Database::open(dir.path()).unwrap();
    let collection = database.create_collection("c", &settings(&["a"])).unwrap();
    let group = |round: u8| -> Vec<NewRecord> {
        (0..20).map(|name| record(name, name ^ round, r#"{"a": 1, "b": 1}"#)).collect()
    };
    collection.upsert(group(0)).unwrap();
    let filters = ["a == 1", "b == 1", "not a == 2 and b exists", r#"id in ["3", "4", "5"]"#];
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            (1..60).for_each(|round| {
                collection.upsert(group(round)).unwrap();
            })
        });
        while !writer.is_finished() {
            for filter in filters {
                let expected = if filter.starts_with("id") { 3 } else { 20 };
                let filter = parse(filter);
                let search = Search::code(code(0)).limit(100).filter(filter.clone());
                let hits = collection.search(&search).unwrap().hits;
                let mut ids: Vec<_> = hits.iter().map(|hit| hit.id.as_str()).collect();
                ids.sort();
                ids.dedup();
                assert_eq!((hits.len(), ids.len()), (expected, expected), "{filter}");
            }
        }
    });
    assert_eq!(collection.count(&parse("a == 1")).unwrap(), 20);
}

/// A record that is there all the time is listed, counted and deleted, though it is replaced all the
/// time.
#[test]
fn what_is_being_replaced_is_not_missed() {
    let dir = TempDir::new().unwrap();
    let database = Database::open(dir.path()).unwrap();
    let collection = database.create_collection("c", &settings(&[])).unwrap();
    // Enough to read that the one is replaced before its turn comes.
    let others = |i: u32| {
        let record = NewRecord::code(code(1)).with_id(format!("other {i}")).unwrap();
        record.with_payload(Payload::from_json(r#"{"a": "other"}"#).unwrap())
    };
    collection.upsert((0..20_000).map(others).collect()).unwrap();
    let upsert = || collection.upsert(vec![record(0, 1, r#"{"a": "x"}"#)]).unwrap();
    upsert();
    let filter = parse(r#"a == "x""#);
    // Also where an assertion fails: the other thread is waited for.
    struct Tells<'a>(&'a AtomicBool);
    impl Drop for Tells<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                upsert();
            }
        });
        let _tells = Tells(&done);
        for _ in 0..10 {
            assert_eq!(collection.count(&filter).unwrap(), 1);
            assert_eq!(collection.list_matching(&filter, None, 10).unwrap().records.len(), 1);
        }
        assert_eq!(collection.delete_matching(&filter).unwrap(), 1);
    });
}

/// More records than a block of a compressed set holds, and all that follow one another match.
#[test]
fn a_filter_that_all_records_match_loses_none() {
    const RECORDS: u64 = 3 * (1 << 16) + 7;
    let dir = TempDir::new().unwrap();
    let database = Database::open(dir.path()).unwrap();
    let collection = database.create_collection("c", &settings(&["a"])).unwrap();
    for start in (0..RECORDS).step_by(16_384) {
        let record = |i: u64| {
            let record = NewRecord::code(code(i as u8)).with_id(i.to_string()).unwrap();
            record.with_payload(Payload::from_json(r#"{"a": 1}"#).unwrap())
        };
        collection.upsert((start..RECORDS.min(start + 16_384)).map(record).collect()).unwrap();
    }
    wait(&collection);
    for filter in ["true", "a == 1", "a != 2", "not (b exists)"] {
        let filter = parse(filter);
        assert_eq!(collection.count(&filter).unwrap(), RECORDS, "{filter}");
        for plan in [Plan::Auto, Plan::Scan, Plan::Probe] {
            let search = Search::code(code(0)).limit(usize::MAX).filter(filter.clone()).plan(plan);
            let found = collection.search(&search).unwrap().hits.len();
            assert_eq!(found as u64, RECORDS, "{filter}, {plan:?}");
        }
    }
    assert_eq!(collection.delete_matching(&parse("a == 1")).unwrap(), RECORDS);
    assert_eq!(collection.info().records, 0);
}
