//! A collection that is searched on disk answers as one that is searched in memory: the same
//! records, the same order, whatever was written before and however it is asked.

use nearbit::filter::Field;
use nearbit::{
    Code, Collection, CollectionSettings, Database, Diversity, EncoderSpec, Error, Filter, GroupBy,
    IndexPlace, InputKind, KeepVectors, NewRecord, Payload, Plan, RecordId, Rescore, Search, Width,
};
use proptest::prelude::*;
use tempfile::TempDir;

/// Vectors of three small numbers, so that many codes are equal.
type Vector = [i8; 3];

#[derive(Clone, Debug)]
enum Step {
    Upsert(Vec<(u8, Vector)>),
    Delete(Vec<u8>),
    Checkpoint,
    Compact,
    IndexField,
    Reopen,
    Search(Vector, usize, Option<u32>),
}

fn step() -> impl Strategy<Value = Step> {
    let vector = || prop::array::uniform3(-2i8..=2);
    let name = 0u8..60;
    let records = prop::collection::btree_map(name.clone(), vector(), 1..25);
    prop_oneof![
        5 => records.prop_map(|records| Step::Upsert(records.into_iter().collect())),
        2 => prop::collection::vec(name, 1..8).prop_map(Step::Delete),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Compact),
        1 => Just(Step::IndexField),
        2 => Just(Step::Reopen),
        4 => (vector(), 0usize..70, prop::option::of(0u32..18))
            .prop_map(|(vector, limit, radius)| Step::Search(vector, limit, radius)),
    ]
}

fn settings(index: IndexPlace) -> CollectionSettings {
    let encoder = EncoderSpec::Hyperplanes {
        input: InputKind::Vector { dim: 3 },
        width: Width::new(17).unwrap(),
        seed: 3,
    };
    let keep_vectors = KeepVectors::F32;
    CollectionSettings { index, keep_vectors, ..CollectionSettings::new(encoder) }
}

fn floats(vector: Vector) -> Vec<f32> {
    vector.map(f32::from).to_vec()
}

fn record((name, vector): (u8, Vector)) -> NewRecord {
    let payload = format!(r#"{{"n":{name},"third":{},"v":{}}}"#, name % 3, vector[0]);
    NewRecord::vector(floats(vector))
        .with_id(name.to_string())
        .unwrap()
        .with_payload(Payload::from_json(&payload).unwrap())
}

fn id(name: u8) -> RecordId {
    RecordId::new(name.to_string()).unwrap()
}

/// Asks both in every way that the query can be asked.
fn compare(memory: &Collection, disk: &Collection, vector: Vector, k: usize, radius: Option<u32>) {
    let plain = Search { radius, ..Search::vector(floats(vector)).limit(k) };
    let filters = [r#"third == 1"#, r#"n >= 20 and v != 0"#, r#"id in ["7", "8", "30"]"#];
    let filters = filters.map(|filter| Filter::parse(filter).unwrap());
    let field: Field = "third".parse().unwrap();
    let mut searches = vec![
        plain.clone(),
        plain.clone().plan(Plan::Probe),
        plain.clone().plan(Plan::Scan),
        plain.clone().rescore(Rescore::vector()),
        plain.clone().rescore(Rescore::asymmetric()).filter(filters[0].clone()),
        plain.clone().diversity(Diversity { weight: 0.4, candidates: 20 }),
        plain.clone().group_by(GroupBy { field, size: 2 }),
        Search { radius, ..Search::id(id(7)).limit(k) },
    ];
    searches.extend(filters.iter().map(|filter| plain.clone().filter(filter.clone())));
    let mut answered = Vec::new();
    for search in &searches {
        match (memory.search(search), disk.search(search)) {
            (Ok(expected), Ok(got)) => {
                assert_eq!(got.hits, expected.hits, "{search:?}");
                answered.push((search.clone(), expected.hits));
            }
            (Err(expected), Err(got)) => assert_eq!(got.to_string(), expected.to_string()),
            (expected, got) => panic!("{search:?}: {expected:?} and {got:?}"),
        }
    }
    let (all, expected): (Vec<Search>, Vec<_>) = answered.into_iter().unzip();
    for collection in [memory, disk] {
        let together = collection.search_batch(&all).unwrap().into_iter().map(|answer| answer.hits);
        assert_eq!(together.collect::<Vec<_>>(), expected, "in a batch");
    }
    let ball = plain.clone().radius(radius.unwrap_or(9));
    let hits = |collection: &Collection| -> Vec<_> {
        collection.ball(&ball).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(hits(disk), hits(memory));
    for filter in &filters {
        assert_eq!(disk.count(filter).unwrap(), memory.count(filter).unwrap());
        let page = |collection: &Collection| collection.list_matching(filter, None, 5).unwrap();
        assert_eq!(page(disk), page(memory));
    }
}

fn sorted_codes(collection: &Collection) -> Vec<Vec<u64>> {
    let mut codes: Vec<_> = collection.codes().unwrap().rows().map(<[u64]>::to_vec).collect();
    codes.sort();
    codes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_history_is_answered_as_from_memory(steps in prop::collection::vec(step(), 1..25)) {
        let dir = TempDir::new().unwrap();
        let mut database = Database::open(dir.path()).unwrap();
        let both = [("memory", IndexPlace::Memory), ("disk", IndexPlace::Disk)];
        let mut both = both.map(|(name, index)| {
            database.create_collection(name, &settings(index)).unwrap()
        });
        for step in steps.into_iter().chain([Step::Reopen, Step::Search([1, -1, 0], 9, None)]) {
            match step {
                Step::Upsert(records) => {
                    let written = both.each_ref().map(|collection| {
                        collection.upsert(records.iter().copied().map(record).collect()).unwrap()
                    });
                    prop_assert_eq!(&written[0], &written[1]);
                }
                Step::Delete(names) => {
                    let ids: Vec<RecordId> = names.into_iter().map(id).collect();
                    let deleted = both.each_ref().map(|collection| collection.delete(&ids).unwrap());
                    prop_assert_eq!(&deleted[0], &deleted[1]);
                }
                Step::Checkpoint => both.iter().for_each(|c| c.checkpoint().unwrap()),
                Step::Compact => both.iter().for_each(|c| drop(c.compact().unwrap())),
                Step::IndexField => both.iter().for_each(|collection| {
                    collection.index_field("third".parse().unwrap()).unwrap();
                }),
                Step::Reopen => {
                    drop((both, database));
                    database = Database::open(dir.path()).unwrap();
                    both = ["memory", "disk"].map(|name| database.collection(name).unwrap());
                    prop_assert_eq!(both[1].info().index, IndexPlace::Disk);
                }
                Step::Search(vector, k, radius) => compare(&both[0], &both[1], vector, k, radius),
            }
            prop_assert_eq!(both[0].info().records, both[1].info().records);
            prop_assert_eq!(both[0].list(None, 100).unwrap(), both[1].list(None, 100).unwrap());
        }
        prop_assert_eq!(sorted_codes(&both[0]), sorted_codes(&both[1]));
        prop_assert_eq!(both[0].bucket_sizes().unwrap(), both[1].bucket_sizes().unwrap());
        let report = database.check().unwrap();
        prop_assert!(report.findings.is_empty(), "{:?}", report.findings);
    }
}

#[test]
fn what_needs_the_index_in_memory_is_refused_by_name() {
    let dir = TempDir::new().unwrap();
    let database = Database::open(dir.path()).unwrap();
    let disk = database.create_collection("disk", &settings(IndexPlace::Disk)).unwrap();
    let refused = disk.near_duplicates(1).unwrap_err();
    assert!(matches!(refused, Error::Invalid { .. }));
    assert!(refused.to_string().contains("needs an index in memory"), "{refused}");
    assert_eq!(disk.sizes().index.total(), 0);
}

/// Whichever of the collections was written to, each leaves what makes its next open quick.
#[test]
fn a_closed_database_is_open_again_at_once() {
    let dir = TempDir::new().unwrap();
    let names = ["a", "b", "c"];
    let places = [IndexPlace::Disk, IndexPlace::Memory, IndexPlace::Disk];
    let database = Database::open(dir.path()).unwrap();
    for (name, index) in names.into_iter().zip(places) {
        database.create_collection(name, &settings(index)).unwrap();
    }
    drop(database);
    for written in [&names[..], &["a"], &["b"], &["c"], &[]] {
        let database = Database::open(dir.path()).unwrap();
        for name in written {
            let collection = database.collection(name).unwrap();
            collection.upsert(vec![record((1, [1, 0, 1])), record((2, [2, 2, 2]))]).unwrap();
        }
        drop(database);
        let left = |name: &str| dir.path().join("collections").join(name).join("CLOSED").exists();
        assert_eq!(names.map(left), [true, false, true], "{written:?}");
    }
}

/// Any collection can be searched on disk for once; a large one is open then without being read.
#[test]
fn what_is_opened_on_disk_answers_the_same() {
    let dir = TempDir::new().unwrap();
    let database = Database::open(dir.path()).unwrap();
    let codes = EncoderSpec::Codes { width: Width::new(20).unwrap() };
    let large = database.create_collection("large", &CollectionSettings::new(codes)).unwrap();
    let small = database.create_collection("small", &settings(IndexPlace::Memory)).unwrap();
    small.upsert((0..9u8).map(|name| record((name, [1, 2, 1]))).collect()).unwrap();
    let code = |n: u64| Code::from_words(large.width(), &[n.wrapping_mul(0x9e37_79b9) << 44]);
    let new = |n: u64| NewRecord::code(code(n).unwrap()).with_id(n.to_string()).unwrap();
    for start in (0..70_000).step_by(10_000) {
        large.upsert((start..start + 10_000).map(new).collect()).unwrap();
    }
    let searches: Vec<Search> = (0..5).map(|n| Search::code(code(n * 999).unwrap())).collect();
    let answers = |large: &Collection| -> Vec<_> {
        searches.iter().map(|search| large.search(search).unwrap().hits).collect()
    };
    let expected = answers(&large);
    drop((large, small, database));
    let note = |name: &str| dir.path().join("collections").join(name).join("CLOSED");
    assert!(note("large").exists() && !note("small").exists());
    for on_disk in [true, false, true] {
        let database = match on_disk {
            true => Database::open_on_disk(dir.path()).unwrap(),
            false => Database::open(dir.path()).unwrap(),
        };
        let (large, small) =
            (database.collection("large").unwrap(), database.collection("small").unwrap());
        assert_eq!(answers(&large), expected);
        assert_eq!((large.info().index, small.info().records), (IndexPlace::Memory, 9));
        assert_eq!(large.sizes().index.total() == 0, on_disk);
        assert_eq!(large.near_duplicates(0).is_err(), on_disk);
        drop((large, small, database));
        assert!(note("large").exists(), "nothing was written");
    }
}

/// While hits are replaced all the time, each search with a filter finds every record once.
#[test]
fn a_filter_finds_what_is_being_replaced() {
    let dir = TempDir::new().unwrap();
    let database = Database::open(dir.path()).unwrap();
    let disk = database.create_collection("disk", &settings(IndexPlace::Disk)).unwrap();
    let all = || (0..30u8).map(|name| record((name, [1, 2, 1]))).collect::<Vec<_>>();
    disk.upsert(all()).unwrap();
    disk.checkpoint().unwrap();
    let search = Search::vector(floats([1, 2, 1])).limit(100);
    let third = search.clone().filter(Filter::parse("third == 1").unwrap());
    let some = search.filter(Filter::parse(r#"id in ["3", "4", "5"]"#).unwrap());
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| (0..40).for_each(|_| drop(disk.upsert(all()).unwrap())));
        while !writer.is_finished() {
            assert_eq!(disk.search(&third).unwrap().hits.len(), 10);
            assert_eq!(disk.search(&some).unwrap().hits.len(), 3);
        }
    });
}
