//! Folds: when they begin, and that nobody notices them.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

#[test]
fn a_large_delta_is_folded_for_who_reads() {
    let width = Width::new(64).unwrap();
    let mut pair = Twin::new(width);
    for seed in 0..20 {
        let removed: Vec<u64> = pair.records.keys().copied().step_by(5).take(300).collect();
        pair.apply(&random_codes(width, 2000, 500, seed), &removed);
    }
    let codes = random_codes(width, 3, 1, 1);
    pair.check(&codes.get(0), 10, None);
    pair.index.fold();
    pair.check(&codes.get(1), 10, None);
    pair.check_contents();
    let memory = pair.index.memory();
    assert_eq!((memory.delta, memory.tombstones), (0, 0));
    assert!(memory.codes > 0 && memory.numbers > 0 && memory.table > 0);
}

/// A bulk load sorts nothing, and who reads finds few rows that are not sorted.
#[test]
fn recent_rows_wait_for_a_reader_and_dead_ones_until_they_are_half() {
    let width = Width::new(64).unwrap();
    let mut twin = Twin::built(&random_codes(width, 2 * FOLD_ROWS, 500, 1));
    let recent = |twin: &Twin| {
        twin.index.publication.wait_for_fold();
        twin.index.publication.current.load().delta.len()
    };
    let query = random_codes(width, 1, 1, 3).get(0);
    twin.apply(&random_codes(width, 3 * FOLD_ROWS, 500, 2), &[]);
    assert_eq!(recent(&twin), 3 * FOLD_ROWS);
    twin.check(&query, 10, None);
    assert_eq!(recent(&twin), 0);
    twin.apply(&random_codes(width, FOLD_ROWS - 1, 500, 4), &[]);
    twin.check(&query, 10, None);
    assert_eq!(recent(&twin), FOLD_ROWS - 1);
    twin.apply(&random_codes(width, 1, 500, 5), &[]);
    assert_eq!(twin.index.sorted_snapshot().delta.len(), 0);

    // Of 6 parts and 3 more that come, 4 die in the sealed part, and then 1 among the recent.
    twin.apply(&random_codes(width, 3 * FOLD_ROWS, 500, 6), &[]);
    let numbers: Vec<u64> = twin.records.keys().copied().collect();
    let none = Codes::new(width);
    twin.apply(&none, &numbers[..4 * FOLD_ROWS]);
    assert_eq!(recent(&twin), 3 * FOLD_ROWS);
    twin.apply(&none, &numbers[8 * FOLD_ROWS..]);
    assert_eq!(recent(&twin), 0);
    assert_eq!(twin.index.memory().tombstones, 0);
    twin.check_contents();
}

#[test]
fn an_index_answers_before_it_is_sorted() {
    let width = Width::new(64).unwrap();
    let mut twin = Twin::built(&random_codes(width, 100_000, 500, 1));
    let (numbers, codes): (Vec<u64>, Vec<&Code>) = twin.records.iter().unzip();
    let mut all = Codes::new(width);
    codes.into_iter().for_each(|code| all.push(code).unwrap());
    let removed: Vec<u64> = numbers.iter().copied().step_by(70).collect();
    twin.index = Index::build_in_background(width, numbers, all);

    // Sorting takes longer than these groups.
    for (seed, removed) in (2..).zip(removed.chunks(100)) {
        twin.apply(&random_codes(width, 100, 500, seed), removed);
    }
    let codes = random_codes(width, 3, 500, 20);
    twin.check(&codes.get(0), 10, None);
    let sorted = twin.index.sorted_snapshot();
    assert!(sorted.sealed.len() >= 90_000, "{}", sorted.sealed.len());
    twin.check(&codes.get(1), 10, None);
    twin.check(&codes.get(2), usize::MAX, Some(12));
    twin.check_contents();
}

/// A writer replaces all records again and again by others with the same codes, while folds run.
/// Whoever asks for a code must find exactly one record: never none, never the old beside the new.
#[test]
fn readers_see_whole_groups_only() {
    const RECORDS: u64 = 256;
    const ROUNDS: u64 = 300;
    let width = Width::new(64).unwrap();
    let mut codes = Codes::new(width);
    // Multiples of an odd number are all different.
    (0..RECORDS).for_each(|i| codes.push_words(&[i.wrapping_mul(0x9e37_79b9_7f4a_7c15)]).unwrap());
    let numbers = |round: u64| (round * RECORDS..(round + 1) * RECORDS).collect::<Vec<u64>>();
    let index = Index::build(width, numbers(0), codes.clone());
    let done = AtomicBool::new(false);

    std::thread::scope(|scope| {
        for reader in 0..2 {
            let (index, codes, done) = (&index, &codes, &done);
            scope.spawn(move || {
                let rows = (0..RECORDS).cycle().skip(reader * 100);
                for row in rows.take_while(|_| !done.load(Ordering::Relaxed)) {
                    let found = index.within(&codes.get(row as usize), 0);
                    assert_eq!(found.len(), 1, "{found:?}");
                    assert_eq!(found[0].number % RECORDS, row);
                    assert_eq!(index.len(), RECORDS as usize);
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                index.fold();
            }
        });
        for round in 1..=ROUNDS {
            index.apply(&numbers(round), &codes, &numbers(round - 1));
        }
        done.store(true, Ordering::Relaxed);
    });
    let oldest = index.nearest(&codes.get(0), usize::MAX).iter().map(|found| found.number).min();
    assert_eq!(oldest, Some(ROUNDS * RECORDS));
}

#[test]
fn an_index_may_go_while_a_fold_is_under_way() {
    let width = Width::new(64).unwrap();
    let index = Index::new(width);
    let codes = random_codes(width, 2 * FOLD_ROWS, 100, 1);
    index.apply(&(0..codes.len() as u64).collect::<Vec<_>>(), &codes, &[]);
    let snapshot = index.snapshot();
    drop(index);
    assert_eq!(snapshot.len(), codes.len());
}
