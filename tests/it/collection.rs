//! Collections and databases as an embedding program sees them, against a naive oracle.

use std::collections::BTreeMap;

use nearbit::model::{Model, Preset, TrainOptions, train};
use nearbit::{
    Code, Collection, CollectionSettings, Database, EncoderSpec, Error, InputKind, Inputs,
    KeepVectors, Matrix, NewRecord, Payload, Plan, Query, RecordId, Result, Search, Source, Width,
};
use proptest::prelude::*;
use tempfile::TempDir;

fn width(bits: usize) -> Width {
    Width::new(bits).unwrap()
}

fn id(name: &str) -> RecordId {
    RecordId::new(name).unwrap()
}

fn codes_only(bits: usize) -> CollectionSettings {
    CollectionSettings::new(EncoderSpec::Codes { width: width(bits) })
}

fn texts() -> CollectionSettings {
    let input = InputKind::Text;
    CollectionSettings::new(EncoderSpec::Hyperplanes { input, width: width(64), seed: 1 })
}

fn vectors(dim: usize, keep_vectors: KeepVectors) -> CollectionSettings {
    let input = InputKind::Vector { dim };
    let encoder = EncoderSpec::Hyperplanes { input, width: width(32), seed: 1 };
    CollectionSettings { keep_vectors, ..CollectionSettings::new(encoder) }
}

fn database() -> (TempDir, Database) {
    let dir = TempDir::new().unwrap();
    let database = Database::open(dir.path()).unwrap();
    (dir, database)
}

/// A record named by a number, with a code of 8 bits.
fn small(name: u8, code: u8) -> NewRecord {
    let payload = Payload::from_json(&format!(r#"{{"code":{code}}}"#)).unwrap();
    NewRecord::code(Code::from_bytes(width(8), &[code]).unwrap())
        .with_id(name.to_string())
        .unwrap()
        .with_payload(payload)
}

/// What is in a collection, in the simplest form: (age, code) by id.
#[derive(Default)]
struct Oracle {
    records: BTreeMap<u8, (u64, u8)>,
    age: u64,
}

impl Oracle {
    fn upsert(&mut self, name: u8, code: u8) {
        self.age += 1;
        self.records.insert(name, (self.age, code));
    }

    /// Sort everything by distance and age, and cut.
    fn search(&self, code: u8, limit: usize, radius: Option<u32>) -> Vec<(String, u32)> {
        let distance = |(name, (age, other)): (&u8, &(u64, u8))| {
            ((code ^ other).count_ones(), *age, name.to_string())
        };
        let mut all: Vec<_> = self.records.iter().map(distance).collect();
        all.sort();
        all.retain(|(distance, ..)| radius.is_none_or(|radius| *distance <= radius));
        all.into_iter().take(limit).map(|(distance, _, name)| (name, distance)).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Upsert(BTreeMap<u8, u8>),
    Delete(Vec<u8>),
    Checkpoint,
    Reopen,
    Search { code: u8, limit: usize, radius: Option<u32> },
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0u8..40;
    prop_oneof![
        4 => proptest::collection::btree_map(name.clone(), any::<u8>(), 1..20).prop_map(Step::Upsert),
        2 => proptest::collection::vec(name, 1..8).prop_map(Step::Delete),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Reopen),
        4 => (any::<u8>(), 0usize..50, proptest::option::of(0u32..10))
            .prop_map(|(code, limit, radius)| Step::Search { code, limit, radius }),
    ]
}

fn check_search(
    collection: &Collection,
    oracle: &Oracle,
    code: u8,
    limit: usize,
    radius: Option<u32>,
) -> Result<()> {
    let expected = oracle.search(code, limit, radius);
    let query = Code::from_bytes(width(8), &[code])?;
    let names = |hits: Vec<nearbit::Hit>| -> Vec<(String, u32)> {
        hits.into_iter().map(|hit| (hit.id.to_string(), hit.distance)).collect()
    };
    for plan in [Plan::Auto, Plan::Probe, Plan::Scan] {
        let search = Search { radius, plan, ..Search::code(query.clone()).limit(limit) };
        assert_eq!(names(collection.search(&search)?.hits), expected, "{search:?}");
    }
    if let Some(radius) = radius {
        let found = names(collection.lookup(&query, radius, limit)?);
        assert_eq!(found, expected, "on disk, radius {radius}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_history_finds_what_the_oracle_finds(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let dir = TempDir::new().unwrap();
        let mut database = Database::open(dir.path()).unwrap();
        let mut collection = database.create_collection("c", &codes_only(8)).unwrap();
        let mut oracle = Oracle::default();
        for step in steps {
            match step {
                Step::Upsert(records) => {
                    let group = records.iter().map(|(&name, &code)| small(name, code)).collect();
                    let upserted = collection.upsert(group).unwrap();
                    for (upserted, (name, code)) in upserted.iter().zip(records) {
                        prop_assert_eq!(upserted.replaced, oracle.records.contains_key(&name));
                        oracle.upsert(name, code);
                    }
                }
                Step::Delete(names) => {
                    let ids: Vec<RecordId> = names.iter().map(|n| id(&n.to_string())).collect();
                    let deleted = collection.delete(&ids).unwrap();
                    for (deleted, name) in deleted.into_iter().zip(names) {
                        prop_assert_eq!(deleted, oracle.records.remove(&name).is_some());
                    }
                }
                Step::Checkpoint => collection.checkpoint().unwrap(),
                Step::Reopen => {
                    drop((collection, database));
                    database = Database::open(dir.path()).unwrap();
                    collection = database.collection("c").unwrap();
                }
                Step::Search { code, limit, radius } => {
                    check_search(&collection, &oracle, code, limit, radius).unwrap();
                }
            }
            prop_assert_eq!(collection.info().records, oracle.records.len() as u64);
        }
        let mut listed = Vec::new();
        let mut page = collection.list(None, 7).unwrap();
        loop {
            listed.extend(page.records.iter().map(|record| record.id.to_string()));
            let Some(next) = page.next else { break };
            page = collection.list(Some(next), 7).unwrap();
        }
        let mut by_age: Vec<_> = oracle.records.iter().map(|(name, (age, _))| (age, name)).collect();
        by_age.sort();
        let expected: Vec<String> = by_age.iter().map(|(_, name)| name.to_string()).collect();
        prop_assert_eq!(listed, expected);
        for (name, (_, code)) in &oracle.records {
            let got = collection.get(&[id(&name.to_string())]).unwrap().remove(0).unwrap();
            prop_assert_eq!(got.payload.text("code"), Some(code.to_string()));
        }
    }
}

#[test]
fn what_is_kept_is_the_collections_choice() {
    let (_dir, database) = database();
    let vector = vec![0.1, -2.5, 70.0];
    for keep in [KeepVectors::None, KeepVectors::F16, KeepVectors::F32] {
        let name = format!("{keep:?}");
        let collection = database.create_collection(&name, &vectors(3, keep)).unwrap();
        collection.upsert(vec![NewRecord::vector(vector.clone()).with_id("a").unwrap()]).unwrap();
        let kept = collection.get(&[id("a")]).unwrap().remove(0).unwrap().vector;
        match keep {
            KeepVectors::None => assert_eq!(kept, None),
            KeepVectors::F16 => {
                let kept = kept.unwrap();
                assert!(kept.iter().zip(&vector).all(|(a, b)| (a - b).abs() <= b.abs() / 1024.0));
                assert_ne!(kept, vector, "0.1 has no exact half");
            }
            KeepVectors::F32 => assert_eq!(kept.as_ref(), Some(&vector)),
        }
    }
    for keep_text in [true, false] {
        let settings = CollectionSettings { keep_text, ..texts() };
        let name = format!("text-{keep_text}");
        let collection = database.create_collection(&name, &settings).unwrap();
        collection.upsert(vec![NewRecord::text("rye bread").with_id("a").unwrap()]).unwrap();
        let kept = collection.get(&[id("a")]).unwrap().remove(0).unwrap().text;
        assert_eq!(kept, keep_text.then(|| "rye bread".to_owned()));
    }
}

#[test]
fn a_record_without_a_source_is_found_by_id_only() {
    let (_dir, database) = database();
    let collection = database.create_collection("notes", &texts()).unwrap();
    let payload = Payload::from_json(r#"{"a":[1,{"b":null}]}"#).unwrap();
    let record = NewRecord { id: Some(id("p")), source: None, payload: payload.clone() };
    collection.upsert(vec![record]).unwrap();
    let got = collection.get(&[id("p"), id("q")]).unwrap();
    assert_eq!(got[0].as_ref().unwrap().payload, payload);
    assert_eq!(got[0].as_ref().unwrap().code, None);
    assert_eq!(got[1], None);
    assert!(collection.search(&Search::text("anything")).unwrap().hits.is_empty());
    let error = collection.search(&Search::id(id("p"))).unwrap_err().to_string();
    assert!(error.contains("without a source"), "{error}");
}

/// Numbers that a careless reader of JSON moves by one unit in the last place.
#[test]
fn payload_numbers_keep_every_bit() {
    let (_dir, database) = database();
    let collection = database.create_collection("numbers", &texts()).unwrap();
    let numbers = [51.248_178_375_505_4_f64, 122.416_294_033_786_58, 5e-324, f64::MAX, -0.0];
    let json = format!("{{\"numbers\":{}}}", serde_json::to_string(&numbers).unwrap());
    let payload = Payload::from_json(&json).unwrap();
    let record = NewRecord { id: Some(id("n")), source: None, payload };
    collection.upsert(vec![record]).unwrap();
    let kept = collection.get(&[id("n")]).unwrap().remove(0).unwrap().payload.to_json();
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    let kept: Vec<u64> =
        kept["numbers"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap().to_bits()).collect();
    assert_eq!(kept, numbers.map(f64::to_bits));
}

#[test]
fn ids_are_made_where_none_is_given() {
    let (_dir, database) = database();
    let collection = database.create_collection("notes", &texts()).unwrap();
    let upserted = collection.upsert(vec![NewRecord::text("one"), NewRecord::text("two")]).unwrap();
    assert_ne!(upserted[0].id, upserted[1].id);
    assert!(upserted.iter().all(|u| u.id.as_str().len() == 36 && !u.replaced));
}

#[test]
fn a_search_by_id_leaves_the_record_itself_out() {
    let (_dir, database) = database();
    let collection = database.create_collection("c", &codes_only(8)).unwrap();
    collection.upsert(vec![small(1, 0b1111), small(2, 0b0111), small(3, 0b1111)]).unwrap();
    let hits = collection.search(&Search::id(id("3")).limit(2)).unwrap().hits;
    let found: Vec<_> = hits.iter().map(|hit| (hit.id.as_str(), hit.distance)).collect();
    assert_eq!(found, [("1", 0), ("2", 1)]);
    let error = collection.search(&Search::id(id("9"))).unwrap_err();
    assert!(matches!(error, Error::NotFound { kind: "record", .. }), "{error}");
}

/// Every bad record names its place, and nothing of its group is stored.
#[test]
fn a_bad_record_keeps_its_whole_group_out() {
    let (_dir, database) = database();
    let collection = database.create_collection("v", &vectors(2, KeepVectors::None)).unwrap();
    let good = || NewRecord::vector(vec![1.0, 2.0]).with_id("good").unwrap();
    let wide = Code::zero(width(64));
    let cases = [
        (NewRecord::vector(vec![1.0, f32::NAN]), "records[1].vector[1]"),
        (NewRecord::vector(vec![f32::INFINITY, 1.0]), "records[1].vector[0]"),
        (NewRecord::vector(vec![1.0]), "vectors of 2 numbers, got vectors of 1 numbers"),
        (NewRecord::text("words"), "records[1].text"),
        (NewRecord::code(wide), "expected 32 bits, got 64 bits"),
        (good(), "records[1].id"),
    ];
    for (bad, place) in cases {
        let error = collection.upsert(vec![good(), bad]).unwrap_err().to_string();
        assert!(error.contains(place), "{error} should have {place}");
        assert_eq!(collection.info().records, 0);
    }
    let error = collection.search(&Search::vector(vec![1.0, f32::NAN])).unwrap_err().to_string();
    assert!(error.starts_with("query.vector[1]"), "{error}");
    assert!(RecordId::new("").is_err() && RecordId::new("x".repeat(513)).is_err());
}

fn tiny_model(seed: u64) -> Model {
    let values = (0..320).map(|i| ((i * i) as f32 * 0.37).sin()).collect();
    let options = TrainOptions {
        bits: width(6),
        epochs: Some(1),
        seed,
        ..TrainOptions::preset(Preset::Vector)
    };
    let inputs = Inputs::Vectors(Matrix::new(40, 8, values));
    train(&inputs, &options, &mut |_| std::ops::ControlFlow::Continue(())).unwrap()
}

#[test]
fn a_collection_belongs_to_one_model() {
    let (dir, database) = database();
    let (one, two) = (tiny_model(1), tiny_model(2));
    assert_eq!(database.add_model("m", &one).unwrap(), "m@1");
    assert_eq!(database.add_model("m", &one).unwrap(), "m@1", "the same model is kept once");
    assert_eq!(database.add_model("m", &two).unwrap(), "m@2");
    assert_eq!(database.models().unwrap(), ["m@1", "m@2"]);
    assert_eq!(database.model("m").unwrap().digest(), two.digest());
    assert_eq!(database.model("m@1").unwrap().digest(), one.digest());
    let missing = database.model("n").unwrap_err().to_string();
    assert!(missing.contains("m@1, m@2"), "{missing}");

    let settings = CollectionSettings::new(EncoderSpec::Model("m@1".to_owned()));
    let collection = database.create_collection("c", &settings).unwrap();
    assert_eq!(collection.width(), width(6));
    let vector = vec![0.5; 8];
    let source = Source::Vector(vector.clone());
    let expected = one.encode(&Inputs::Vectors(Matrix::new(1, 8, vector))).unwrap().get(0);
    assert_eq!(collection.encode_one(&source).unwrap(), expected);
    drop((collection, database));

    // Another model under the same name is not the collection's.
    two.save(dir.path().join("models/m@1.safetensors")).unwrap();
    let database = Database::open(dir.path()).unwrap();
    let Err(error) = database.collection("c") else { panic!("opened with another model") };
    let message = error.to_string();
    assert!(matches!(error, Error::Damaged { .. }), "{message}");
    assert!(message.contains(&one.digest().to_string()), "{message}");
}

#[test]
fn names_of_collections_are_checked() {
    let (_dir, database) = database();
    for name in ["", ".", "..", ".hidden", "a/b", "a b", "ä", &"x".repeat(129)] {
        let error = database.create_collection(name, &texts()).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{name:?}: {error}");
    }
    database.create_collection("a-b_c.1", &texts()).unwrap();
    let error = database.create_collection("a-b_c.1", &texts()).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    let error = database.collection("a").map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("the database has a-b_c.1"), "{error}");
}

#[test]
fn a_deleted_collection_is_gone_for_its_handles_too() {
    let (dir, database) = database();
    let collection = database.create_collection("c", &codes_only(8)).unwrap();
    collection.upsert(vec![small(1, 1)]).unwrap();
    database.delete_collection("c").unwrap();
    assert!(!dir.path().join("collections/c").exists());
    assert!(collection.upsert(vec![small(2, 2)]).is_err());
    assert!(collection.get(&[id("1")]).is_err());
    assert!(database.delete_collection("c").is_err());
    let again = database.create_collection("c", &codes_only(8)).unwrap();
    assert_eq!(again.info().records, 0);
    drop((collection, again, database));
    assert_eq!(Database::open(dir.path()).unwrap().collections().len(), 1);
}

#[test]
fn a_directory_has_one_process_and_holds_nothing_else() {
    let (dir, database) = database();
    let Err(error) = Database::open(dir.path()) else { panic!("opened twice") };
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    drop(database);
    assert!(Database::open(dir.path()).is_ok());

    let other = TempDir::new().unwrap();
    std::fs::write(other.path().join("letter.txt"), "dear").unwrap();
    let Err(error) = Database::open(other.path()) else { panic!("opened among other files") };
    assert!(error.to_string().contains("other files"), "{error}");
    assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 1, "nothing may be left behind");
}

/// Readers see a record that is being replaced exactly once, in its old form or its new one.
#[test]
fn readers_see_whole_groups() {
    let (_dir, database) = database();
    let collection = database.create_collection("c", &codes_only(8)).unwrap();
    collection.upsert((0..20).map(|i| small(i, i)).collect()).unwrap();
    let everything = Search::code(Code::zero(width(8))).limit(100);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..30u8 {
                collection.upsert((0..20).map(|i| small(i, i ^ round)).collect()).unwrap();
            }
        });
        while !writer.is_finished() {
            let hits = collection.search(&everything).unwrap().hits;
            let mut ids: Vec<_> = hits.iter().map(|hit| hit.id.as_str()).collect();
            ids.sort();
            ids.dedup();
            assert_eq!((hits.len(), ids.len()), (20, 20));
            let rounds = hits.iter().map(|hit| {
                let code: u8 = hit.payload.as_ref().unwrap().text("code").unwrap().parse().unwrap();
                code ^ hit.id.as_str().parse::<u8>().unwrap()
            });
            let rounds: std::collections::BTreeSet<u8> = rounds.collect();
            assert_eq!(rounds.len(), 1, "one group, whole");
        }
    });
}

#[test]
fn a_batch_names_the_search_that_is_wrong() {
    let (_dir, database) = database();
    let collection = database.create_collection("c", &codes_only(8)).unwrap();
    collection.upsert((0..9).map(|i| small(i, i)).collect()).unwrap();
    let good = Search::code(Code::zero(width(8))).limit(3);
    let answers = collection.search_batch(&[good.clone(), good.clone()]).unwrap();
    assert_eq!(answers[0].hits, collection.search(&good).unwrap().hits);
    let bad = Search::new(Query::Source(Source::Text("words".to_owned())));
    let error = collection.search_batch(&[good, bad]).unwrap_err().to_string();
    assert!(error.starts_with("searches[1].query.text"), "{error}");
}
