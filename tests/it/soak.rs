//! The real server under a mixed load for a long time: nothing is lost, and neither memory nor the
//! disk grows.
//!
//! Two writers replace, delete and put back records of a fixed set, while others search and make
//! snapshots; now and then the server is killed, or closes. What is acknowledged is kept beside, and
//! compared.
//!
//! ```text
//! NEARBIT_SOAK=3600 cargo test --release --test it soak:: -- --nocapture    an hour
//! ```
//!
//! Servers that live for a minute or more may not grow. On glibc that rests on what `nearbit serve`
//! asks of the allocator (`src/cli/allocator.rs`): with `NEARBIT_ALLOCATOR=no` in the environment it
//! asks for nothing, and the test fails.
//!
//! Without `NEARBIT_SOAK` (seconds) it runs for two rounds of a second. `NEARBIT_SOAK_ROUND` is how many
//! seconds a server lives, `NEARBIT_SOAK_RECORDS` how many records each writer owns. The seed is
//! printed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tonic::transport::Channel;

use super::process::{PROGRAM, Process, create, read_all, snapshot};
use super::server::proto;
use proto::collection_service_client::CollectionServiceClient;
use proto::record_service_client::RecordServiceClient;
use proto::search_service_client::SearchServiceClient;

/// Records that a writer owns where nothing else is asked for, and those of a group that it writes.
const RECORDS: u64 = 20_000;
const GROUP: usize = 100;
/// A collection may have so many bytes more than its live records need, or half as many where that
/// is more.
const SPARE_BYTES: u64 = 6 << 20;
/// Sled's files may be 1.5 times the blocks and so much longer.
const SPARE_OF_SLED: u64 = 4 << 20;

/// A server that lived for so long has what it needs in memory.
const SETTLED: Duration = Duration::from_secs(30);

/// The versions of the records of a writer.
type Versions = BTreeMap<u64, u64>;

/// A writer, what was acknowledged to it, and the versions in the group that it sent last: none of a
/// record that it deletes.
struct Writer {
    name: usize,
    records: u64,
    rng: ChaCha8Rng,
    acknowledged: Versions,
    sent: Vec<(u64, Option<u64>)>,
    groups: u64,
}

impl Writer {
    fn record(&self, number: u64, version: u64) -> proto::NewRecord {
        let code = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (version % 8);
        proto::NewRecord {
            id: format!("{}/{number}", self.name),
            source: Some(proto::new_record::Source::Code(code.to_be_bytes().to_vec())),
            payload_json: format!("{{\"version\":{version},\"text\":\"{}\"}}", "x".repeat(100)),
        }
    }

    /// Writes until the server is gone.
    async fn write(&mut self, channel: Channel) {
        let mut client = RecordServiceClient::new(channel);
        loop {
            // Each once: a group that names a record twice is refused.
            let numbers: BTreeSet<u64> =
                (0..GROUP).map(|_| self.rng.random_range(0..self.records)).collect();
            let collection = "c".to_owned();
            let done = if self.rng.random_range(0..10) == 0 {
                self.sent = numbers.iter().map(|number| (*number, None)).collect();
                let ids = numbers.iter().map(|number| format!("{}/{number}", self.name)).collect();
                let request = proto::DeleteRecordsRequest { collection, ids, durability: None };
                client.delete_records(request).await.map(drop)
            } else {
                self.groups += 1;
                self.sent = numbers.iter().map(|number| (*number, Some(self.groups))).collect();
                let records = numbers.iter().map(|n| self.record(*n, self.groups)).collect();
                let request = proto::UpsertRecordsRequest { collection, records, durability: None };
                client.upsert_records(request).await.map(drop)
            };
            if let Err(status) = done {
                assert_ne!(status.code(), tonic::Code::InvalidArgument, "{status}");
                return;
            }
            self.acknowledge();
        }
    }

    /// Takes the last group for done.
    fn acknowledge(&mut self) {
        for (number, version) in self.sent.drain(..) {
            match version {
                Some(version) => self.acknowledged.insert(number, version),
                None => self.acknowledged.remove(&number),
            };
        }
    }

    /// Writes all of its records, in large groups.
    async fn fill(&mut self, channel: Channel) {
        let mut client = RecordServiceClient::new(channel);
        for from in (0..self.records).step_by(1000) {
            let numbers = from..self.records.min(from + 1000);
            let records = numbers.map(|number| self.record(number, 0)).collect();
            let collection = "c".to_owned();
            let request = proto::UpsertRecordsRequest { collection, records, durability: None };
            client.upsert_records(request).await.unwrap();
        }
        self.acknowledged = (0..self.records).map(|number| (number, 0)).collect();
    }

    /// What is there is what was acknowledged, or that and the group that was on its way.
    fn check(&mut self, there: &Versions) {
        if *there != self.acknowledged {
            self.acknowledge();
        }
        let (name, records, expected) = (self.name, there.len(), self.acknowledged.len());
        let same = *there == self.acknowledged;
        assert!(same, "writer {name}: {records} records are there, {expected} were acknowledged");
        self.sent.clear();
    }
}

/// The versions that are there, of each writer.
fn versions(records: Vec<proto::Record>) -> [Versions; 2] {
    let mut all = [Versions::new(), Versions::new()];
    for record in records {
        let payload: serde_json::Value = serde_json::from_str(&record.payload_json).unwrap();
        let (writer, number) = record.id.split_once('/').unwrap();
        let (writer, number): (usize, u64) = (writer.parse().unwrap(), number.parse().unwrap());
        let version = payload["version"].as_u64().unwrap();
        assert_eq!(all[writer].insert(number, version), None, "{} stands twice", record.id);
    }
    all
}

/// Searches until the server is gone.
async fn search(channel: Channel) {
    let mut client = SearchServiceClient::new(channel);
    loop {
        let code = rand::random::<u64>().to_be_bytes().to_vec();
        let kind = Some(proto::query::Kind::Code(code));
        let query = Some(proto::Query { kind });
        let request =
            proto::SearchRequest { collection: "c".to_owned(), query, ..Default::default() };
        match client.search(request).await {
            Ok(answer) => assert!(answer.into_inner().hits.len() <= 10),
            Err(_) => return,
        }
    }
}

/// Makes snapshots now and then until the server is gone.
async fn snapshots(channel: Channel) {
    while snapshot(channel.clone(), &format!("s{}", rand::random::<u64>())).await {
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
}

/// The bytes that a process has in memory.
fn resident(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// The bytes that a process usually has in memory towards the end of `time`: the median of a few
/// moments, since a snapshot that is checked takes some for as long.
async fn usual(process: &Process, time: Duration) -> u64 {
    const MOMENTS: u32 = 11;
    tokio::time::sleep(time / 2).await;
    let mut all = Vec::new();
    for _ in 0..MOMENTS {
        tokio::time::sleep(time / 2 / MOMENTS).await;
        all.push(resident(process));
    }
    all.sort_unstable();
    all[all.len() / 2]
}

/// The bytes of the segments and those of sled, which may be writing its files anew.
fn disk_bytes(dir: &Path) -> (u64, u64) {
    let collections = std::fs::read_dir(dir.join("collections")).unwrap();
    let segments = collections.map(|entry| bytes_in(&entry.unwrap().path().join("segments")));
    let table = ["table", "table.new", "table.old"].map(|name| bytes_in(&dir.join(name)));
    (segments.sum(), table.iter().sum())
}

/// The bytes of a directory's files, of those that stay for a moment.
fn bytes_in(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).into_iter().flatten();
    files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_run_loses_nothing_and_does_not_grow() {
    let asked = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = asked("NEARBIT_SOAK");
    let records = asked("NEARBIT_SOAK_RECORDS").unwrap_or(RECORDS);
    let round = asked("NEARBIT_SOAK_ROUND").unwrap_or(if seconds.is_some() { 20 } else { 1 });
    let round = Duration::from_secs(round);
    let long = Duration::from_secs(seconds.unwrap_or(2));
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut writers = [0, 1].map(|name| Writer {
        name,
        records,
        rng: ChaCha8Rng::seed_from_u64(seed + 1 + name as u64),
        acknowledged: Versions::new(),
        sent: Vec::new(),
        groups: 0,
    });
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("db");
    let (start, mut rounds, mut lived) = (Instant::now(), Vec::new(), Duration::ZERO);
    while start.elapsed() < long {
        let server = Process::start(&dir);
        let channel = server.connect().await;
        create(channel.clone()).await;
        let [a, b] = &mut writers;
        if rounds.is_empty() {
            tokio::join!(a.fill(channel.clone()), b.fill(channel.clone()));
        } else {
            let [in_a, in_b] = versions(read_all(channel.clone()).await);
            a.check(&in_a);
            b.check(&in_b);
        }
        let struck = async {
            let half = round.mul_f64(rng.random_range(0.4..0.6));
            let before = usual(&server, half).await;
            let after = usual(&server, half).await;
            lived += 2 * half;
            rounds.push((after, disk_bytes(&dir)));
            if half >= SETTLED {
                println!("a server had {before} bytes in memory, and {after} after as long again");
                assert!(after <= before + before / 4, "memory grows from {before} to {after}");
            }
            // A server that closes merges all into sled, which one that is killed seldom comes to.
            let closes = rounds.len() % 3 == 0;
            tokio::task::block_in_place(|| if closes { server.stop() } else { drop(server) });
        };
        let searches = async { tokio::join!(search(channel.clone()), search(channel.clone())) };
        let writes = async { tokio::join!(a.write(channel.clone()), b.write(channel.clone())) };
        tokio::join!(writes, searches, snapshots(channel.clone()), struck);
    }
    let server = Process::start(&dir);
    let channel = server.connect().await;
    let there = versions(read_all(channel.clone()).await);
    writers.iter_mut().zip(&there).for_each(|(writer, there)| writer.check(there));
    let request = proto::CompactCollectionRequest { name: "c".to_owned() };
    let compacted = CollectionServiceClient::new(channel).compact_collection(request).await;
    let compacted = compacted.unwrap().into_inner();
    let (live, blocks) = (compacted.bytes_after, compacted.table_bytes_after);
    let groups: u64 = writers.iter().map(|writer| writer.groups).sum();
    let rate = groups as f64 / lived.as_secs_f64();
    println!("{} rounds, {groups} groups, {rate:.0} a second", rounds.len());
    println!("{live} live bytes, {blocks} of sled");
    for (i, (resident, (segments, table))) in rounds.iter().enumerate() {
        println!("round {i}: {resident} bytes resident, {segments} in segments, {table} of sled");
    }
    // The set of records is full from the first round on: nothing has a reason to grow.
    let (early, late) = (&rounds[rounds.len() / 4..rounds.len() / 2], &rounds[rounds.len() / 2..]);
    let most = |of: &[(u64, _)]| of.iter().map(|(resident, _)| *resident).max();
    if let Some(before) = most(early).filter(|_| rounds.len() >= 12) {
        let after = most(late).unwrap_or(0);
        assert!(after <= before + before / 4, "memory grows from {before} to {after} bytes");
    }
    // What compaction copies stands twice meanwhile, which is within the bound.
    let most = live + (live / 2).max(SPARE_BYTES);
    let over: Vec<u64> =
        late.iter().map(|(_, disk)| disk.0).filter(|&segments| segments > most).collect();
    assert!(over.is_empty(), "segments: {over:?} bytes keep {live}, expected {most} at most");
    // sled's files are written anew as a whole: now and then there are two of all that is in them.
    let most = blocks + blocks / 2 + SPARE_OF_SLED;
    let over: Vec<u64> =
        late.iter().map(|(_, disk)| disk.1).filter(|&table| table > most).collect();
    assert!(over.iter().all(|&table| table <= most + blocks), "sled: {over:?} bytes keep {blocks}");
    assert!(over.len() <= late.len() / 10, "sled: {over:?} bytes keep {blocks}");
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn a_server_asks_the_allocator_for_little_unless_its_user_asked() {
    let asked = |program: &[&str], user: &[(&str, &str)]| {
        let dir = tempfile::tempdir().unwrap();
        let server = Process::start_as(program, dir.path(), user);
        let all = std::fs::read_to_string(format!("/proc/{}/environ", server.id())).unwrap();
        let of_malloc = |line: &&str| line.starts_with("MALLOC_") || line.starts_with("NEARBIT_A");
        all.split('\0').filter(of_malloc).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let cores = std::thread::available_parallelism().unwrap().get().max(2);
    let arenas = format!("MALLOC_ARENA_MAX={cores}");
    let own = [&arenas, "MALLOC_MMAP_THRESHOLD_=262144", "NEARBIT_ALLOCATOR=set"];
    assert_eq!(asked(&[PROGRAM], &[]), own.map(str::to_owned).into());
    for (name, value) in [("MALLOC_ARENA_MAX", "7"), ("NEARBIT_ALLOCATOR", "no")] {
        assert_eq!(asked(&[PROGRAM], &[(name, value)]), [format!("{name}={value}")].into());
    }
    assert!(asked(&[PROGRAM], &[("GLIBC_TUNABLES", "glibc.malloc.check=0")]).is_empty());
    // Run by the loader, which is not to be run again with `serve` as what it loads.
    let loader = "/lib64/ld-linux-x86-64.so.2";
    if Path::new(loader).exists() {
        assert!(asked(&[loader, PROGRAM], &[]).is_empty());
    }
}
