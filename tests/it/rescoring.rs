//! The final order of hits: rescoring, diversity and groups, against naive oracles.

use nearbit::model::hyperplanes::Hyperplanes;
use nearbit::{
    Code, Collection, CollectionSettings, Database, Diversity, EncoderSpec, Filter, GroupBy,
    InputKind, Inputs, KeepVectors, Matrix, Metric, NewRecord, Payload, RecordId, Rescore, Search,
    Width,
};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

const DIM: usize = 12;
const INPUT: InputKind = InputKind::Vector { dim: DIM };
const BITS: usize = 40;

fn width() -> Width {
    Width::new(BITS).unwrap()
}

fn planes() -> Hyperplanes {
    Hyperplanes::new(INPUT, width(), 7).unwrap()
}

fn vectors(count: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| (0..DIM).map(|_| rng.random_range(-1.0f32..1.0)).collect()).collect()
}

fn settings(keep_vectors: KeepVectors, metric: Metric) -> CollectionSettings {
    let encoder = EncoderSpec::Hyperplanes { input: INPUT, width: width(), seed: 7 };
    CollectionSettings { keep_vectors, metric, ..CollectionSettings::new(encoder) }
}

fn filled(settings: &CollectionSettings, vectors: &[Vec<f32>]) -> (TempDir, Database, Collection) {
    let dir = TempDir::new().unwrap();
    let database = Database::open(dir.path()).unwrap();
    let collection = database.create_collection("c", settings).unwrap();
    let record = |(i, vector): (usize, &Vec<f32>)| {
        NewRecord::vector(vector.clone()).with_id(i.to_string()).unwrap()
    };
    collection.upsert(vectors.iter().enumerate().map(record).collect()).unwrap();
    (dir, database, collection)
}

/// The `count` nearest by code: positions.
fn nearest(vectors: &[Vec<f32>], query: &[f32], count: usize) -> Vec<usize> {
    let code = |vector: &[f32]| {
        planes().encode(&Inputs::Vectors(Matrix::new(1, DIM, vector.to_vec()))).unwrap().get(0)
    };
    let query = code(query);
    let all = planes()
        .encode(&Inputs::Vectors(Matrix::new(vectors.len(), DIM, vectors.concat())))
        .unwrap();
    let mut found: Vec<(u32, usize)> =
        (0..vectors.len()).map(|i| (all.get(i).distance(&query), i)).collect();
    found.sort_unstable();
    found.into_iter().take(count).map(|(_, i)| i).collect()
}

/// The `count` of which vectors are read: the best by weight of four times as many by code.
fn looked_at(vectors: &[Vec<f32>], query: &[f32], count: usize, but: Option<usize>) -> Vec<usize> {
    let near = nearest(vectors, query, 4 * count + but.iter().len()).into_iter();
    let near = near.filter(|i| Some(*i) != but).take(4 * count);
    let weighed = near.map(|i| (agreement(query, &vectors[i]), i)).collect();
    best(weighed, count).into_iter().map(|(_, i)| i).collect()
}

/// The share of the query's weight on bits that agree. A bit weighs a byte.
fn agreement(query: &[f32], other: &[f32]) -> f64 {
    let input = |vector: &[f32]| Inputs::Vectors(Matrix::new(1, DIM, vector.to_vec()));
    let values = planes().products(&input(query)).unwrap();
    let other = planes().encode(&input(other)).unwrap().get(0);
    let largest = values.values().iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let weight = |value: &f32| f64::from((value.abs() / largest * 255.0).round());
    let weights = || values.values().iter().map(weight);
    let agreeing = values.values().iter().zip(weights()).enumerate();
    let agreeing = agreeing.filter(|(bit, (value, _))| other.bit(*bit) == (**value > 0.0));
    agreeing.map(|(_, (_, weight))| weight).sum::<f64>() / weights().sum::<f64>()
}

fn best(mut scored: Vec<(f64, usize)>, limit: usize) -> Vec<(f64, usize)> {
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    scored.truncate(limit);
    scored
}

#[track_caller]
fn check(collection: &Collection, search: &Search, expected: &[(f64, usize)]) {
    let hits = collection.search(search).unwrap().hits;
    let ids: Vec<String> = hits.iter().map(|hit| hit.id.to_string()).collect();
    let names: Vec<String> = expected.iter().map(|(_, i)| i.to_string()).collect();
    assert_eq!(ids, names);
    for (hit, (score, _)) in hits.iter().zip(expected) {
        assert!((f64::from(hit.score) - score).abs() < 1e-3, "{} is not {score}", hit.score);
    }
}

#[test]
fn vectors_put_the_nearest_by_code_in_order() {
    let stored = vectors(300, 1);
    let similarity = |metric: Metric, a: &[f32], b: &[f32]| {
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        match metric {
            Metric::Dot => dot(a, b),
            Metric::Cosine => dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
            Metric::L2 => -(dot(a, a) + dot(b, b) - 2.0 * dot(a, b)).sqrt(),
        }
    };
    for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
        let (_dir, _database, collection) = filled(&settings(KeepVectors::F32, metric), &stored);
        for query in vectors(5, 2) {
            for (limit, times) in [(10, 3), (1, 1), (5, 1000)] {
                let near = looked_at(&stored, &query, limit * times, None).into_iter();
                let scored = near.map(|i| (similarity(metric, &query, &stored[i]), i)).collect();
                let search =
                    Search::vector(query.clone()).limit(limit).rescore(Rescore::vector().of(times));
                check(&collection, &search, &best(scored, limit));
            }
        }
    }
    // Halves are near enough to find the same, and a stored record can be the query.
    let (_dir, _database, collection) =
        filled(&settings(KeepVectors::F16, Metric::Cosine), &stored);
    let near = looked_at(&stored, &stored[7], 40, Some(7)).into_iter();
    let scored = near.map(|i| (similarity(Metric::Cosine, &stored[7], &stored[i]), i)).collect();
    let search = Search::id(RecordId::new("7").unwrap()).rescore(Rescore::vector());
    check(&collection, &search, &best(scored, 10));
    let stats = collection.search(&search).unwrap().stats;
    assert_eq!(stats.rescored, 40);
}

#[test]
fn asymmetric_weighs_each_bit_by_the_query() {
    let stored = vectors(300, 3);
    let (_dir, _database, collection) =
        filled(&settings(KeepVectors::None, Metric::Cosine), &stored);
    for query in vectors(5, 4) {
        for (limit, times) in [(10, 3), (3, 50)] {
            let near = nearest(&stored, &query, limit * times).into_iter();
            let scored = near.map(|i| (agreement(&query, &stored[i]), i)).collect();
            let search =
                Search::vector(query.clone()).limit(limit).rescore(Rescore::asymmetric().of(times));
            check(&collection, &search, &best(scored, limit));
        }
    }
}

#[test]
fn what_cannot_be_rescored_is_refused() {
    let stored = vectors(20, 5);
    let (_dir, database, plain) = filled(&settings(KeepVectors::None, Metric::Cosine), &stored);
    let keeping =
        database.create_collection("v", &settings(KeepVectors::F32, Metric::Cosine)).unwrap();
    let bare = NewRecord::code(Code::zero(width())).with_id("bare").unwrap();
    let whole = NewRecord::vector(stored[0].clone()).with_id("whole").unwrap();
    keeping.upsert(vec![bare, whole]).unwrap();
    let encoder = EncoderSpec::Codes { width: width() };
    let codes = database.create_collection("k", &CollectionSettings::new(encoder)).unwrap();
    codes.upsert(vec![NewRecord::code(Code::zero(width()))]).unwrap();

    let vector = || Search::vector(stored[0].clone());
    let code = || Search::code(Code::zero(width()));
    let id = |id: &str| Search::id(RecordId::new(id).unwrap());
    let (asymmetric, by_vector) = (Rescore::asymmetric(), Rescore::vector());
    for (collection, search, part) in [
        (&plain, vector().rescore(by_vector), "this one keeps none"),
        (&plain, id("3").rescore(by_vector), "this one keeps none"),
        (&plain, id("3").rescore(asymmetric), "only the code is kept"),
        (&plain, code().rescore(asymmetric), "of a code nothing more is known"),
        (&codes, code().rescore(asymmetric), "a collection with an encoder"),
        (&codes, code().rescore(by_vector), "keeps none"),
        (&keeping, code().rescore(by_vector), "got a query by code"),
        (&keeping, id("bare").rescore(by_vector), "bare came without"),
        (&keeping, vector().rescore(by_vector.of(0)), "rescore.oversampling: expected 1 to 1000"),
        (&keeping, vector().rescore(by_vector.of(1001)), "got 1001"),
        (&keeping, vector().diversity(Diversity { weight: f32::NAN, candidates: 9 }), "0 to 1"),
        (&keeping, vector().diversity(Diversity { weight: 1.1, candidates: 9 }), "got 1.1"),
        (
            &keeping,
            vector().group_by(GroupBy { field: "a".parse().unwrap(), size: 0 }),
            "1 or more",
        ),
        (
            &keeping,
            vector().rescore(by_vector).group_by(GroupBy { field: "a".parse().unwrap(), size: 1 }),
            "without rescoring",
        ),
    ] {
        let error = collection.search(&search).unwrap_err().to_string();
        assert!(error.contains(part), "{error} should have {part}");
    }
    // Who has no vector comes last.
    let hits = keeping.search(&vector().rescore(by_vector)).unwrap().hits;
    let found: Vec<_> = hits.iter().map(|hit| (hit.id.as_str(), hit.score)).collect();
    assert_eq!(found[1], ("bare", f32::NEG_INFINITY));
    assert!(found[0].0 == "whole" && (found[0].1 - 1.0).abs() < 1e-6);
    let hits = keeping.search(&id("whole").rescore(asymmetric)).unwrap().hits;
    assert_eq!(hits[0].id.as_str(), "bare");
}

#[test]
fn numbers_beyond_half_precision_are_refused_where_that_is_kept() {
    let large: Vec<Vec<f32>> =
        vec![vec![1.0; vectors(1, 0)[0].len()], vec![65_520.0; vectors(1, 0)[0].len()]];
    let upsert = |keep: KeepVectors| {
        let (_dir, _database, collection) = filled(&settings(keep, Metric::Dot), &[]);
        collection.upsert(large.iter().cloned().map(NewRecord::vector).collect()).map(|_| ())
    };
    upsert(KeepVectors::F32).unwrap();
    upsert(KeepVectors::None).unwrap();
    let error = upsert(KeepVectors::F16).unwrap_err().to_string();
    assert!(error.contains("records[1].vector") && error.contains("65504"), "{error}");
}

#[test]
fn diverse_hits_are_chosen_from_the_nearest() {
    // Ten copies of one vector, and others.
    let mut stored = vectors(200, 6);
    (0..10).for_each(|i| stored[i] = stored[0].clone());
    let (_dir, _database, collection) =
        filled(&settings(KeepVectors::F32, Metric::Cosine), &stored);
    let search = Search::vector(stored[0].clone()).limit(5);
    let plain = collection.search(&search).unwrap().hits;
    assert!(plain.iter().all(|hit| hit.distance == 0));
    for rescore in [None, Some(Rescore::vector()), Some(Rescore::asymmetric())] {
        let search = Search { rescore, ..search.clone() };
        let diverse = |weight| {
            let diversity = Diversity { weight, candidates: 60 };
            collection.search(&search.clone().diversity(diversity)).unwrap()
        };
        let none = diverse(0.0).hits;
        assert_eq!(
            none.iter().map(|hit| &hit.id).collect::<Vec<_>>(),
            plain.iter().map(|hit| &hit.id).collect::<Vec<_>>()
        );
        let answer = diverse(0.7);
        let near = answer.hits.iter().filter(|hit| hit.distance == 0).count();
        assert_eq!((answer.hits.len(), near), (5, 1), "one of the copies is enough");
        assert_eq!(answer.hits[0].id.as_str(), "0");
        assert_eq!(answer.stats.rescored, if rescore.is_some() { 200 } else { 60 });
    }
}

/// Hits of each group in their order, groups in the order of their first.
fn oracle(records: &[(u8, Option<u8>)], query: u8, limit: usize, size: usize) -> Vec<(u8, usize)> {
    let mut order: Vec<usize> = (0..records.len()).collect();
    order.sort_by_key(|i| ((records[*i].0 ^ query).count_ones(), *i));
    let mut groups: Vec<(u8, Vec<usize>)> = Vec::new();
    for i in order {
        let Some(value) = records[i].1 else { continue };
        match groups.iter_mut().find(|(known, _)| *known == value) {
            Some((_, group)) => group.push(i),
            None => groups.push((value, vec![i])),
        }
    }
    let hits =
        |(value, group): (u8, Vec<usize>)| group.into_iter().take(size).map(move |i| (value, i));
    groups.into_iter().take(limit).flat_map(hits).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn groups_hold_their_nearest(
        records in proptest::collection::vec((any::<u8>(), proptest::option::of(0u8..30)), 1..300),
        query in any::<u8>(),
        limit in 0usize..12,
        size in 1usize..5,
        indexed in any::<bool>(),
        narrow in any::<bool>(),
    ) {
        let dir = TempDir::new().unwrap();
        let database = Database::open(dir.path()).unwrap();
        let width = Width::new(8).unwrap();
        let index_fields = if indexed { vec!["g".parse().unwrap()] } else { Vec::new() };
        let settings = CollectionSettings {
            index_fields,
            ..CollectionSettings::new(EncoderSpec::Codes { width })
        };
        let collection = database.create_collection("c", &settings).unwrap();
        let new = |(i, (byte, group)): (usize, &(u8, Option<u8>))| {
            let payload = group.map_or(format!(r#"{{"n":{i}}}"#), |g| format!(r#"{{"g":{g},"n":{i}}}"#));
            NewRecord::code(Code::from_bytes(width, &[*byte]).unwrap())
                .with_id(i.to_string()).unwrap()
                .with_payload(Payload::from_json(&payload).unwrap())
        };
        collection.upsert(records.iter().enumerate().map(new).collect()).unwrap();
        let mut search = Search::code(Code::from_bytes(width, &[query]).unwrap())
            .limit(limit)
            .group_by(GroupBy { field: "g".parse().unwrap(), size });
        let mut matching = records.clone();
        if narrow {
            let half = records.len() / 2;
            search = search.filter(Filter::parse(&format!("n < {half}")).unwrap());
            matching.truncate(half);
        }
        let hits = collection.search(&search).unwrap().hits;
        let found: Vec<(u8, usize)> = hits
            .iter()
            .map(|hit| {
                let group = hit.group.as_ref().unwrap().to_string();
                (group.parse().unwrap(), hit.id.as_str().parse().unwrap())
            })
            .collect();
        prop_assert_eq!(found, oracle(&matching, query, limit, size));
    }
}

#[test]
fn settings_outlive_the_process() {
    let dir = TempDir::new().unwrap();
    let settings = settings(KeepVectors::F16, Metric::L2);
    let before = {
        let database = Database::open(dir.path()).unwrap();
        database.create_collection("c", &settings).unwrap().info()
    };
    let database = Database::open(dir.path()).unwrap();
    let after = database.collection("c").unwrap().info();
    assert_eq!((&after, after.metric), (&before, Metric::L2));
}
