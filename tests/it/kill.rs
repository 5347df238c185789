//! The real server, killed or without power at any moment, under four bulk writers.
//!
//! Each writer sends groups of records; one record of the group counts the groups of the writer. The
//! collection is compacted all the while, and snapshots of it are made.
//! After each kill a server is started again on the same directory and asked for everything: every
//! group that was acknowledged is there, whole, and at most the one that was on its way; and each
//! snapshot that is there is whole.
//!
//! ```text
//! cargo test --release --test it kill::                        a few kills
//! NEARBIT_KILLS=500 cargo test --release --test it kill::      many
//! NEARBIT_CUTS=100 cargo test --release --test it kill::power  power cuts, as root (tests/power_cut.py)
//! ```
//!
//! The moments are random and differ from run to run: no seed brings back what the kernel did.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nearbit::database::{list_snapshots, verify_snapshot};
use rand::{Rng, RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tonic::transport::Channel;

use super::process::{Process, create, read_all, snapshot};
use super::server::proto;
use proto::collection_service_client::CollectionServiceClient;
use proto::record_service_client::RecordServiceClient;
use proto::snapshot_service_client::SnapshotServiceClient;

pub const WRITERS: u64 = 4;
/// Records of a group, beside the one that counts.
const GROUP: u64 = 20;

/// What ends a server, and what stands between that and the next start.
trait Fault {
    fn strike(&mut self, server: Process);
}

/// `kill -9`.
struct Kill;

impl Fault for Kill {
    fn strike(&mut self, server: Process) {
        drop(server);
    }
}

/// The power of a file system on a loop device goes, and comes again.
struct PowerCut(PathBuf);

impl PowerCut {
    fn run(&self, verb: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power_cut.py");
        let status = Command::new("python3").arg(script).arg(verb).arg(&self.0).status().unwrap();
        assert!(status.success(), "{verb} {}", self.0.display());
    }
}

impl Fault for PowerCut {
    fn strike(&mut self, server: Process) {
        self.run("cut");
        drop(server);
        self.run("unmount");
        self.run("mount");
    }
}

impl Drop for PowerCut {
    fn drop(&mut self) {
        self.run("remove");
    }
}

/// Group `number` of a writer: new records, and the one that counts, which it replaces.
pub fn group(writer: u64, number: u64) -> Vec<proto::NewRecord> {
    let record = |id, code: u64| proto::NewRecord {
        id,
        source: Some(proto::new_record::Source::Code(code.to_be_bytes().to_vec())),
        payload_json: format!("{{\"group\":{number}}}"),
    };
    let new = (0..GROUP).map(|i| record(format!("{writer}/{number}/{i}"), number * GROUP + i));
    new.chain([record(format!("{writer}"), number)]).collect()
}

/// Writes groups from `next` on until the server is gone; every acknowledgement moves `next` on.
async fn write(channel: Channel, writer: u64, next: &AtomicU64) {
    let mut client = RecordServiceClient::new(channel);
    loop {
        let number = next.load(Ordering::Relaxed);
        let records = group(writer, number);
        let request =
            proto::UpsertRecordsRequest { collection: "c".to_owned(), records, durability: None };
        if client.upsert_records(request).await.is_err() {
            return;
        }
        next.store(number + 1, Ordering::Relaxed);
    }
}

/// Compacts again and again until the server is gone.
async fn compact(channel: Channel) {
    let mut client = CollectionServiceClient::new(channel);
    let request = proto::CompactCollectionRequest { name: "c".to_owned() };
    while client.compact_collection(request.clone()).await.is_ok() {}
}

/// Makes and deletes snapshots until the server is gone.
async fn snapshots(channel: Channel) {
    while snapshot(channel.clone(), &format!("s{}", rand::random::<u64>())).await {}
}

/// The groups that the payloads of all records name; codes are checked on the way.
pub fn groups(records: Vec<proto::Record>) -> HashMap<String, u64> {
    let mut all = HashMap::new();
    for record in records {
        let payload: serde_json::Value = serde_json::from_str(&record.payload_json).unwrap();
        let number = payload["group"].as_u64().unwrap();
        let i = record.id.split('/').nth(2).map(|i| i.parse::<u64>().unwrap());
        let code = i.map_or(number, |i| number * GROUP + i);
        assert_eq!(record.code, Some(code.to_be_bytes().to_vec()), "{}", record.id);
        assert_eq!(all.insert(record.id, number), None, "a record stands twice");
    }
    all
}

/// Every snapshot that survived is whole; they are deleted.
async fn check_snapshots(dir: &Path, channel: Channel) {
    let mut client = SnapshotServiceClient::new(channel);
    for snapshot in list_snapshots(dir).unwrap() {
        assert_eq!(verify_snapshot(&snapshot.dir).unwrap(), [], "{}", snapshot.name);
        let name = snapshot.name;
        client.delete_snapshot(proto::DeleteSnapshotRequest { name }).await.unwrap();
    }
}

/// Compares what is there with what was acknowledged, and takes over what was on its way: as many
/// groups of each writer at most.
pub fn check(mut all: HashMap<String, u64>, acknowledged: &[AtomicU64], on_its_way: u64) {
    for (writer, next) in (0..).zip(acknowledged) {
        let acknowledged = next.load(Ordering::Relaxed);
        let last = all.remove(&writer.to_string());
        let there = last.map_or(0, |last| last + 1);
        assert!(
            (acknowledged..=acknowledged + on_its_way).contains(&there),
            "writer {writer}: {acknowledged} groups were acknowledged, {there} are there"
        );
        for number in 0..there {
            for i in 0..GROUP {
                let id = format!("{writer}/{number}/{i}");
                assert_eq!(all.remove(&id), Some(number), "{id} of {there} groups");
            }
        }
        next.store(there, Ordering::Relaxed);
    }
    assert!(all.is_empty(), "groups that are there in part: {:?}", all.keys().next());
}

/// Strikes servers on one directory `count` times, at random moments.
async fn strike(dir: &Path, fault: &mut impl Fault, count: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(rand::random());
    let acknowledged: Vec<AtomicU64> = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
    let (mut slowest, mut strikes) = (Duration::ZERO, 0);
    while strikes < count {
        if rng.random_range(0..3) == 0 {
            // While it opens, before it listens.
            let server = Process::spawn(dir);
            pause(&mut rng, 60).await;
            fault.strike(server);
            strikes += 1;
        }
        let start = Instant::now();
        let server = Process::start(dir);
        slowest = slowest.max(start.elapsed());
        let channel = server.connect().await;
        create(channel.clone()).await;
        check(groups(read_all(channel.clone()).await), &acknowledged, 1);
        check_snapshots(dir, channel.clone()).await;
        let write_all = async {
            let writer =
                |writer: usize| write(channel.clone(), writer as u64, &acknowledged[writer]);
            let upkeep =
                async { tokio::join!(compact(channel.clone()), snapshots(channel.clone())) };
            tokio::join!(writer(0), writer(1), writer(2), writer(3), upkeep);
        };
        let struck = async {
            pause(&mut rng, 300).await;
            tokio::task::block_in_place(|| fault.strike(server));
        };
        tokio::join!(write_all, struck);
        strikes += 1;
    }
    let server = Process::start(dir);
    check(groups(read_all(server.connect().await).await), &acknowledged, 1);
    drop(server);
    let groups: u64 = acknowledged.iter().map(|next| next.load(Ordering::Relaxed)).sum();
    println!("{strikes} strikes, {groups} groups, slowest start {slowest:?}");
}

async fn pause(rng: &mut impl Rng, most_ms: u64) {
    tokio::time::sleep(Duration::from_micros(rng.random_range(0..most_ms * 1000))).await;
}

fn count(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// A new directory now and then, so that reading all of it stays quick.
const STRIKES_A_DIRECTORY: u64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kills() {
    let mut left = count("NEARBIT_KILLS").unwrap_or(4);
    while left > 0 {
        let dir = tempfile::tempdir().unwrap();
        let now = left.min(STRIKES_A_DIRECTORY);
        strike(&dir.path().join("db"), &mut Kill, now).await;
        left -= now;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_cuts_lose_nothing_that_was_acknowledged() {
    let Some(mut left) = count("NEARBIT_CUTS") else { return };
    while left > 0 {
        let dir = tempfile::tempdir().unwrap();
        let mount = dir.path().join("disk");
        let mut power = PowerCut(mount.clone());
        power.run("make");
        let now = left.min(STRIKES_A_DIRECTORY);
        strike(&mount.join("db"), &mut power, now).await;
        left -= now;
    }
}

/// A server that was killed while it made its first file could not be started again: the half-made
/// file passed for a stranger's.
#[test]
fn a_directory_that_was_half_made_is_made() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("LOCK"), b"").unwrap();
    std::fs::write(dir.path().join("FORMAT.new"), b"near").unwrap();
    drop(nearbit::Database::open(dir.path()).unwrap());
    nearbit::Database::open(dir.path()).unwrap();
}
