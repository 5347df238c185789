//! How many records does the store take a second, durably; how quickly does it open; what does a
//! look-up cost; how many bytes does a record take, and how many while all are replaced again and
//! again?
//!
//! ```text
//! cargo bench --bench store
//! cargo bench --bench store -- size       # only the bytes of a record, by the form of its id
//! cargo bench --bench store -- space      # only what all takes on disk while it is replaced
//! cargo bench --bench store -- writers    # only many writers at once, beside an append and fdatasync
//! ```
//!
//! A million records of a 64-bit code and an id of 7 to 13 bytes, in commits of 10,000, each synced
//! (on the disk that `TMPDIR` names). The codes are clustered: 1,000 centres, each code within a few
//! bits of one, as learnt codes are.

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use nearbit::store::{FORMAT_VERSION, Operation, Precision, Store, Table};
use nearbit::{Code, Payload, Record, RecordId, Result, Width};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const RECORDS: u64 = 1_000_000;
const BATCH: u64 = 10_000;

fn width() -> Width {
    Width::new(64).unwrap()
}

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn centre(i: u64) -> u64 {
    rng(i).random()
}

fn clustered(rng: &mut ChaCha8Rng) -> Code {
    let mut bits = centre(rng.random_range(0..1000));
    for _ in 0..rng.random_range(0..8) {
        bits ^= 1 << rng.random_range(0..64);
    }
    Code::from_words(width(), &[bits]).unwrap()
}

fn id(i: u64) -> RecordId {
    RecordId::new(format!("record-{i}")).unwrap()
}

/// The commits of a whole collection; `payload` bytes of text in each record.
fn batches(records: u64, payload: usize) -> Vec<Vec<Operation>> {
    let mut rng = rng(7);
    let text = "x".repeat(payload.saturating_sub(12));
    let mut put = |i| {
        let mut record = Record {
            id: id(i),
            code: Some(clustered(&mut rng)),
            payload: Payload::default(),
            text: None,
            vector: None,
        };
        if payload > 0 {
            record.payload.set_text("text", text.clone());
        }
        Operation::Put { record, vectors: Precision::F32 }
    };
    (0..records)
        .step_by(BATCH as usize)
        .map(|start| (start..start + BATCH).map(&mut put).collect())
        .collect()
}

fn create(dir: &Path) -> Result<(Store, Table)> {
    let table = Table::open(&dir.join("table"))?;
    Ok((Store::create(&dir.join("c"), FORMAT_VERSION, b"", width(), &table)?, table))
}

/// The time of all commits, without that of making the records.
fn ingest(store: &Store, batches: Vec<Vec<Operation>>) -> Duration {
    let start = Instant::now();
    for batch in batches {
        store.commit(batch).unwrap();
    }
    start.elapsed()
}

/// Writers of single records share syncs: prints what a group takes, beside an append and an
/// fdatasync of as many bytes by one thread, and beside the same into zeros that stand there already,
/// as the store does it. All take turns, and the medians of their turns are compared, so that what else
/// the disk has to do meets all.
fn print_group_commit(store: &Store, dir: &Path, writers: u64) {
    const RECORDS: u64 = 50;
    const TURNS: u64 = 21;
    let [appended, laid] =
        ["appended", "laid"].map(|name| std::fs::File::create(dir.join(name)).unwrap());
    let (mut groups, mut group_times) = (0, Vec::new());
    let rounds = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&rounds);
    store.on_commit(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let waits = Mutex::new(Vec::new());
    let (mut append_times, mut laid_times) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        let before = store.stats().segment_bytes;
        let write = |writer: u64| {
            for i in 0..RECORDS {
                let code = Some(Code::from_words(width(), &[i]).unwrap());
                let id = RecordId::new(format!("group-{writers}-{turn}-{writer}-{i}")).unwrap();
                let payload = Payload::default();
                let record = Record { id, code, payload, text: None, vector: None };
                let put = Operation::Put { record, vectors: Precision::F32 };
                let start = Instant::now();
                store.commit(vec![put]).unwrap();
                waits.lock().unwrap().push(start.elapsed());
            }
        };
        let start = Instant::now();
        std::thread::scope(|scope| {
            (0..writers).for_each(|writer| drop(scope.spawn(move || write(writer))));
        });
        let took = start.elapsed();
        let rounds = rounds.swap(0, Ordering::Relaxed);
        groups += rounds;
        group_times.push(took / rounds as u32);
        let bytes = vec![7; ((store.stats().segment_bytes - before) / rounds) as usize];
        let time = |write: &dyn Fn(u64), file: &std::fs::File| {
            let start = Instant::now();
            for i in 0..rounds {
                write(i);
                file.sync_data().unwrap();
            }
            start.elapsed() / rounds as u32
        };
        append_times.push(time(&|_| (&appended).write_all(&bytes).unwrap(), &appended));
        let place = |i| i * bytes.len() as u64;
        laid.write_all_at(&vec![0; place(rounds) as usize], 0).unwrap();
        laid.sync_all().unwrap();
        laid_times.push(time(&|i| laid.write_all_at(&bytes, place(i)).unwrap(), &laid));
    }
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    };
    let [group, append, laid] = [group_times, append_times, laid_times].map(median);
    let per_group = (TURNS * writers * RECORDS) as f64 / groups as f64;
    println!(
        "{writers} writers of single records: {:.0} records a second, {per_group:.1} a group; a group \
         takes {:.0} us, {:.2} times an append and fdatasync of as many bytes, {:.2} times a write \
         into zeros and fdatasync",
        per_group / group,
        group * 1e6,
        group / append,
        group / laid
    );
    let mut waits = waits.into_inner().unwrap();
    waits.sort_unstable();
    let wait = |part: f64| waits[(part * (waits.len() - 1) as f64) as usize].as_micros();
    let [half, most, nearly_all] = [0.5, 0.99, 0.999].map(wait);
    println!("a writer waits {half} us at the median, {most} at p99, {nearly_all} at p99.9");
}

/// Prints the bytes of a record on disk, beside those that it holds: its code, its id and its text.
fn print_bytes() {
    let forms = ["numbers", "record-1 and so on", "UUIDs"];
    let make = |form: &str, i: u64| match form {
        "numbers" => i.to_string(),
        "UUIDs" => {
            // In no order, as they come from many clients.
            let random: u128 = rng(i).random();
            let hex = format!("{random:032x}");
            [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
        }
        _ => id(i).to_string(),
    };
    for (form, payload) in forms.into_iter().flat_map(|form| [(form, 0), (form, 200)]) {
        let dir = tempfile::tempdir().unwrap();
        let (store, table) = create(dir.path()).unwrap();
        let mut held = 0;
        let mut batches = batches(RECORDS, payload);
        for (i, operation) in (0..).zip(batches.iter_mut().flatten()) {
            if let Operation::Put { record, .. } = operation {
                record.id = RecordId::new(make(form, i)).unwrap();
                let text = if payload > 0 {
                    serde_json::to_vec(&record.payload).unwrap().len()
                } else {
                    0
                };
                held += width().bytes() + record.id.as_str().len() + text;
            }
        }
        ingest(&store, batches);
        store.checkpoint().unwrap();
        let (segments, table) = (store.stats().segment_bytes, table.bytes().unwrap());
        let per_record = |bytes: u64| bytes as f64 / RECORDS as f64;
        println!(
            "ids are {form}, {payload} bytes of payload: a record holds {:.1} bytes and takes {:.1} in segments \
             ({:.2} times) and {:.1} in the table ({:.2} times in all)",
            per_record(held as u64),
            per_record(segments),
            segments as f64 / held as f64,
            per_record(table),
            (segments + table) as f64 / held as f64,
        );
    }
}

/// Replaces all records again and again: prints what all takes on disk, beside what is live of it.
fn print_space(dir: &Path) {
    const RECORDS: u64 = 500_000;
    let (store, table) = create(dir).unwrap();
    let print = |when: &str| {
        let (stats, table) = (store.stats(), table.bytes().unwrap());
        let live = stats.live_bytes + stats.table_bytes;
        let ratio = (stats.segment_bytes + table) as f64 / live as f64;
        let [segments, live_segments, table, blocks] =
            [stats.segment_bytes, stats.live_bytes, table, stats.table_bytes].map(|b| b >> 20);
        println!(
            "{when}: {ratio:.2} times the live bytes; {segments} MiB of segments ({live_segments} \
             live), {table} of the table ({blocks} in blocks)"
        );
    };
    for round in 0..=10 {
        ingest(&store, batches(RECORDS, 100));
        print(&format!("500,000 records with 100 bytes, replaced {round} times"));
    }
    store.checkpoint().unwrap();
    print("after a checkpoint");
    store.compact(|| Ok(())).unwrap();
    print("after a compaction on demand");
    drop(store);
    Store::remove(&dir.join("c"), &table).unwrap();
    println!("after it was deleted: {} KiB of the table", table.bytes().unwrap() >> 10);
}

/// Whether the command line asks for this, or for nothing by name.
fn is_wanted(what: &str) -> bool {
    let mut asked = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).peekable();
    asked.peek().is_none() || asked.any(|asked| asked == what)
}

fn bench(c: &mut Criterion) {
    if is_wanted("size") {
        print_bytes();
    }
    if is_wanted("space") {
        print_space(tempfile::tempdir().unwrap().path());
    }

    let mut group = c.benchmark_group("store");
    group.sample_size(10).warm_up_time(Duration::from_millis(1));

    for (name, records, payload) in
        [("ingest/64 bits", RECORDS, 0), ("ingest/64 bits and 200 bytes", RECORDS / 4, 200)]
    {
        group.throughput(Throughput::Elements(records));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| {
                (0..rounds)
                    .map(|_| {
                        let dir = tempfile::tempdir().unwrap();
                        let (store, _table) = create(dir.path()).unwrap();
                        ingest(&store, batches(records, payload))
                    })
                    .sum()
            });
        });
    }

    let dir = tempfile::tempdir().unwrap();
    let (store, table) = create(dir.path()).unwrap();
    ingest(&store, batches(RECORDS, 0));
    store.checkpoint().unwrap();

    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("replace/10,000 of 1,000,000", |bencher| {
        let mut rng = rng(9);
        let mut batch = || -> Vec<Operation> {
            let operation =
                batches(BATCH, 0).concat().into_iter().map(|operation| match operation {
                    Operation::Put { record, vectors } => {
                        let record = Record { id: id(rng.random_range(0..RECORDS)), ..record };
                        Operation::Put { record, vectors }
                    }
                    other => other,
                });
            operation.collect()
        };
        bencher.iter_batched(
            &mut batch,
            |batch| store.commit(batch).unwrap(),
            BatchSize::LargeInput,
        );
    });
    store.checkpoint().unwrap();

    if is_wanted("writers") {
        for writers in [1, 2, 4, 8, 32] {
            print_group_commit(&store, dir.path(), writers);
        }
    }

    group.throughput(Throughput::Elements(1));
    group.bench_function("commit/one record, synced", |bencher| {
        let mut i = RECORDS;
        bencher.iter(|| {
            i += 1;
            let record = Record {
                id: id(i),
                code: None,
                payload: Payload::default(),
                text: None,
                vector: None,
            };
            store.commit(vec![Operation::Put { record, vectors: Precision::F32 }]).unwrap()
        });
    });
    store.checkpoint().unwrap();

    group.bench_function("get/by id", |bencher| {
        let mut rng = rng(8);
        bencher.iter(|| store.get(&id(rng.random_range(0..RECORDS))).unwrap().unwrap());
    });
    group.bench_function("read/by number", |bencher| {
        let live = store.list(None, 100_000).unwrap();
        let mut rng = rng(8);
        bencher.iter(|| store.read(live[rng.random_range(0..live.len())].0).unwrap().unwrap());
    });

    for radius in 0..=3 {
        let probes = nearbit::code::ball_size(width(), radius);
        group.throughput(Throughput::Elements(probes));
        group.bench_function(format!("within/radius {radius}, {probes} probes"), |bencher| {
            let mut rng = rng(6);
            bencher.iter(|| store.within(&clustered(&mut rng), radius as u32, 100).unwrap());
        });
    }

    drop(store);
    group.throughput(Throughput::Elements(RECORDS));
    group.bench_function("open/1,000,000 records", |bencher| {
        bencher.iter(|| Store::open(&dir.path().join("c"), &table).unwrap().1.numbers.len());
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
