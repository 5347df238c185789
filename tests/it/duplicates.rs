//! Near duplicates, against all pairs.

use nearbit::{Code, CollectionSettings, Database, EncoderSpec, NewRecord, RecordId, Width};
use proptest::prelude::*;
use tempfile::TempDir;

/// Groups by looking at all pairs until nothing changes.
fn oracle(codes: &[Code], radius: u32) -> Vec<Vec<String>> {
    let mut group: Vec<usize> = (0..codes.len()).collect();
    loop {
        let before = group.clone();
        for a in 0..codes.len() {
            for b in 0..codes.len() {
                if codes[a].distance(&codes[b]) <= radius {
                    group[a] = group[a].min(group[b]);
                }
            }
        }
        if group == before {
            break;
        }
    }
    let members = |first: usize| {
        let members = (0..codes.len()).filter(|i| group[*i] == first);
        members.map(|i| i.to_string()).collect::<Vec<_>>()
    };
    (0..codes.len()).map(members).filter(|group| group.len() > 1).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn groups_are_who_is_linked(
        bits in proptest::sample::select(vec![1usize, 8, 20, 70]),
        picks in proptest::collection::vec((0u64..40, 0usize..70), 0..120),
        radius in 0u32..5,
        doomed in proptest::collection::vec(0usize..120, 0..5),
    ) {
        let width = Width::new(bits).unwrap();
        let code = |(seed, flip): &(u64, usize)| {
            let mut code = Code::zero(width);
            (0..bits).filter(|i| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(*i as u32) & 1 == 1)
                .for_each(|i| code.flip(i));
            code.flip(flip % bits);
            code
        };
        let mut codes: Vec<Code> = picks.iter().map(code).collect();
        let dir = TempDir::new().unwrap();
        let database = Database::open(dir.path()).unwrap();
        let settings = CollectionSettings::new(EncoderSpec::Codes { width });
        let collection = database.create_collection("c", &settings).unwrap();
        let record = |(i, code): (usize, &Code)| {
            NewRecord::code(code.clone()).with_id(i.to_string()).unwrap()
        };
        collection.upsert(codes.iter().enumerate().map(record).collect()).unwrap();
        let found = collection.near_duplicates(radius).unwrap();
        let names = |groups: Vec<Vec<RecordId>>| -> Vec<Vec<String>> {
            let group = |ids: Vec<RecordId>| ids.iter().map(ToString::to_string).collect();
            groups.into_iter().map(group).collect()
        };
        prop_assert_eq!(names(found), oracle(&codes, radius));
        // A record that is deleted links nobody any more.
        let Some(last) = doomed.iter().filter(|i| **i < codes.len()).max() else { return Ok(()) };
        codes.truncate(*last);
        let ids: Vec<RecordId> =
            (*last..picks.len()).map(|i| RecordId::new(i.to_string()).unwrap()).collect();
        collection.delete(&ids).unwrap();
        prop_assert_eq!(names(collection.near_duplicates(radius).unwrap()), oracle(&codes, radius));
    }
}
