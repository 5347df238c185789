//! A disk that is full: writes are refused by name, all else goes on, and nothing is lost.
//!
//! The disk is a small tmpfs, which needs root; where none can be mounted the tests say so and end.
//! A file takes the room away and gives it back. A server is written to until it refuses, asked, and
//! killed while there is no room; and every kind of work is done with no page left, one, two, and so
//! on, until there are enough of them. The same by number of the operation, on the store alone, is in
//! `src/store/tests/fault.rs`.
//!
//! ```text
//! cargo test --test it full:: -- --nocapture                      as root
//! NEARBIT_ROUNDS=50 cargo test --release --test it full::         the disk is full again and again
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use nearbit::{
    Code, Collection, CollectionSettings, Database, EncoderSpec, Error, IndexPlace, NewRecord,
    Payload, RecordId, Search, Width,
};
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;

use super::directory::copy;
use super::kill::{WRITERS, check, group, groups};
use super::process::{Process, create, read_all};
use super::server::proto;
use proto::collection_service_client::CollectionServiceClient;
use proto::record_service_client::RecordServiceClient;
use proto::search_service_client::SearchServiceClient;
use proto::snapshot_service_client::SnapshotServiceClient;

/// A file system of 64 MiB.
struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    /// `None` where it cannot be mounted, which is printed.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64m", "nearbit-test"]).arg(dir.path());
        let refused = match mount.output() {
            Ok(output) if output.status.success() => return Some(Self { dir }),
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        println!("skipped: a small disk needs root and a tmpfs: {}", refused.trim());
        None
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Leaves so many pages of 4 KiB, and no more, though others take some meanwhile.
    fn leave(&self, pages: u64) {
        let filler =
            fs::File::options().create(true).append(true).open(self.path("filler")).unwrap();
        loop {
            let stat = rustix::fs::statvfs(self.dir.path()).unwrap();
            let more = (stat.f_bavail * stat.f_frsize).checked_sub(pages << 12).unwrap();
            let length = filler.metadata().unwrap().len() + more;
            let flags = rustix::fs::FallocateFlags::empty();
            match rustix::fs::fallocate(&filler, flags, 0, length) {
                Err(rustix::io::Errno::NOSPC) => {}
                taken => return taken.unwrap(),
            }
        }
    }

    /// Gives all room back, at once: a process that another test starts has all files open for an
    /// instant.
    fn free(&self) {
        fs::write(self.path("filler"), b"").unwrap();
        fs::remove_file(self.path("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(self.dir.path()).status();
        assert!(unmounted.unwrap().success());
    }
}

fn rounds() -> Option<u64> {
    std::env::var("NEARBIT_ROUNDS").ok()?.parse().ok()
}

/// A disk that is full is told by its own name.
fn check_refusal(status: &tonic::Status) {
    assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status}");
    let reason = status.get_details_error_info().map(|info| info.reason);
    assert_eq!(reason.as_deref(), Some("DISK_FULL"), "{status}");
}

/// Writes groups until one is refused, or until `most` are written.
async fn write(
    channel: Channel,
    writer: u64,
    next: &AtomicU64,
    most: u64,
) -> Result<(), tonic::Status> {
    let mut client = RecordServiceClient::new(channel);
    let start = next.load(Ordering::Relaxed);
    for number in start..start + most {
        let records = group(writer, number);
        let collection = "c".to_owned();
        let request = proto::UpsertRecordsRequest { collection, records, durability: None };
        client.upsert_records(request).await?;
        next.store(number + 1, Ordering::Relaxed);
    }
    Ok(())
}

/// All four writers at once.
async fn write_all(
    channel: &Channel,
    next: &[AtomicU64],
    most: u64,
) -> Vec<Result<(), tonic::Status>> {
    let writer = |i: usize| write(channel.clone(), i as u64, &next[i], most);
    let (a, b, c, d) = tokio::join!(writer(0), writer(1), writer(2), writer(3));
    vec![a, b, c, d]
}

/// Everything but writing.
async fn ask(channel: &Channel, next: &[AtomicU64]) {
    check(groups(read_all(channel.clone()).await), next, 0);
    let kind = Some(proto::query::Kind::Code(0u64.to_be_bytes().to_vec()));
    let query = Some(proto::Query { kind });
    let request = proto::SearchRequest { collection: "c".to_owned(), query, ..Default::default() };
    let answer = SearchServiceClient::new(channel.clone()).search(request).await;
    assert_eq!(answer.unwrap().into_inner().hits.len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_that_has_no_room_refuses_writes_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount() else { return };
    let next: Vec<AtomicU64> = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
    let mut server = Process::start(&disk.path("db"));
    let mut channel = server.connect().await;
    create(channel.clone()).await;
    for round in 0..rounds().unwrap_or(2) {
        disk.leave(200);
        for refused in write_all(&channel, &next, u64::MAX >> 1).await {
            check_refusal(&refused.unwrap_err());
        }
        ask(&channel, &next).await;
        // What needs room for a moment is refused too, or has enough, and leaves nothing behind.
        let request = proto::CompactCollectionRequest { name: "c".to_owned() };
        let mut collections = CollectionServiceClient::new(channel.clone());
        if let Err(status) = collections.compact_collection(request).await {
            check_refusal(&status);
        }
        let mut snapshots = SnapshotServiceClient::new(channel.clone());
        let name = || "s".to_owned();
        let request = proto::CreateSnapshotRequest { name: name() };
        match snapshots.create_snapshot(request).await {
            Ok(_) => {
                let request = proto::DeleteSnapshotRequest { name: name() };
                snapshots.delete_snapshot(request).await.unwrap();
            }
            Err(status) => check_refusal(&status),
        }
        ask(&channel, &next).await;
        if round % 2 == 0 {
            // Killed, and started where there is no room.
            drop(server);
            server = Process::start(&disk.path("db"));
            channel = server.connect().await;
            ask(&channel, &next).await;
        }
        disk.free();
        for written in write_all(&channel, &next, 5).await {
            written.unwrap();
        }
        ask(&channel, &next).await;
    }
    drop(server);
    let server = Process::start(&disk.path("db"));
    ask(&server.connect().await, &next).await;
    let groups: u64 = next.iter().map(|next| next.load(Ordering::Relaxed)).sum();
    println!("{groups} groups were acknowledged");
}

/// A collection, and which version of each record it holds.
struct Kept {
    database: Option<Database>,
    dir: PathBuf,
    versions: BTreeMap<u64, u64>,
}

impl Kept {
    fn make(dir: &Path, index: IndexPlace) -> Self {
        let settings =
            CollectionSettings::new(EncoderSpec::Codes { width: Width::new(64).unwrap() });
        let settings = CollectionSettings { index, ..settings };
        let database = Database::open(dir).unwrap();
        database.create_collection("c", &settings).unwrap();
        Self { database: Some(database), dir: dir.to_owned(), versions: BTreeMap::new() }
    }

    fn collection(&self) -> Collection {
        self.database.as_ref().unwrap().collection("c").unwrap()
    }

    /// Puts records of this version.
    fn upsert(&mut self, numbers: std::ops::Range<u64>, version: u64) -> Result<(), Error> {
        let code = |number: u64| Code::from_words(Width::new(64).unwrap(), &[number]).unwrap();
        let payload = format!(r#"{{"version":{version},"long":"{}"}}"#, "x".repeat(200));
        let payload = Payload::from_json(&payload).unwrap();
        let record = |number: u64| {
            let record = NewRecord::code(code(number)).with_id(number.to_string()).unwrap();
            record.with_payload(payload.clone())
        };
        self.collection().upsert(numbers.clone().map(record).collect())?;
        self.versions.extend(numbers.map(|number| (number, version)));
        Ok(())
    }

    fn delete(&mut self, numbers: std::ops::Range<u64>) -> Result<(), Error> {
        let ids: Vec<_> =
            numbers.clone().map(|number| RecordId::new(number.to_string()).unwrap()).collect();
        self.collection().delete(&ids)?;
        self.versions.retain(|number, _| !numbers.contains(number));
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), Error> {
        self.database = None;
        self.database = Some(Database::open(&self.dir)?);
        Ok(())
    }

    /// As another process would find it. A sled that had no room may keep its files open as long as
    /// its process lives.
    fn restart(&mut self) {
        let copied = PathBuf::from(format!("{}.new", self.dir.display()));
        copy(&self.dir, &copied);
        self.database = None;
        self.dir = copied;
        self.reopen().unwrap();
    }

    fn check(&self) {
        let collection = self.collection();
        let records = collection.list(None, usize::MAX).unwrap().records;
        let version = |payload: &Payload| {
            let json: serde_json::Value = serde_json::from_str(&payload.to_json()).unwrap();
            json["version"].as_u64().unwrap()
        };
        let number = |id: &RecordId| id.as_str().parse::<u64>().unwrap();
        let there: BTreeMap<u64, u64> =
            records.iter().map(|record| (number(&record.id), version(&record.payload))).collect();
        assert_eq!(there, self.versions);
        let zero = Code::zero(collection.width());
        let mut nearest: Vec<u64> = self.versions.keys().copied().collect();
        nearest.sort_by_key(|number| number.count_ones());
        let hits = collection.search(&Search::code(zero).limit(1000)).unwrap().hits;
        let found: Vec<u32> = hits.iter().map(|hit| hit.distance).collect();
        assert_eq!(found, nearest.iter().map(|number| number.count_ones()).collect::<Vec<_>>());
    }
}

type Work = fn(&mut Kept) -> Result<(), Error>;

/// What may need room.
const WORK: [(&str, Work); 6] = [
    ("upsert", |kept| kept.upsert(10..60, 7)),
    ("delete", |kept| kept.delete(10..60)),
    ("compact", |kept| kept.collection().compact().map(drop)),
    ("snapshot", |kept| {
        let made = kept.database.as_ref().unwrap().create_snapshot("s")?;
        assert_eq!(nearbit::database::verify_snapshot(&made.dir).unwrap(), []);
        kept.database.as_ref().unwrap().delete_snapshot("s")
    }),
    ("checkpoint", |kept| kept.collection().checkpoint()),
    ("reopen", Kept::reopen),
];

/// One kind of work with more and more room, until it is enough.
fn check_work(index: IndexPlace, name: &str, work: Work) {
    let Some(disk) = SmallDisk::mount() else { return };
    let dir = disk.path("db");
    let mut kept = Kept::make(&dir, index);
    kept.upsert(0..200, 0).unwrap();
    for pages in (0..8).chain((8..).step_by(16)) {
        // Something to put into the table, and something to compact.
        kept.upsert(0..20, pages).unwrap();
        disk.leave(pages);
        let done = work(&mut kept);
        if let Err(error) = &done {
            assert!(is_for_room(error), "{index:?}: {name} with {pages} pages: {error}");
        }
        if kept.database.is_some() {
            kept.check();
        }
        disk.free();
        if kept.database.is_none() {
            kept.restart();
        }
        // There is room again, and nothing else is needed.
        kept.check();
        kept.upsert(60..70, pages).unwrap();
        kept.check();
        kept.collection().checkpoint().unwrap();
        assert_eq!(kept.collection().sizes().store.recent, 0);
        kept.reopen().unwrap();
        kept.check();
        let report = kept.database.as_ref().unwrap().check().unwrap();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        if done.is_ok() {
            println!("{index:?}: {name} needs {pages} pages");
            break;
        }
    }
}

/// Whether there was no room, be it sled that says so, or that cannot be closed because of it.
fn is_for_room(error: &Error) -> bool {
    let said = error.to_string();
    error.is_full() || said.contains("No space left on device") || said.contains("open elsewhere")
}

#[test]
fn work_that_has_no_room_changes_nothing_and_can_be_done_later() {
    let all = [IndexPlace::Disk, IndexPlace::Memory];
    for index in all.into_iter().take(if rounds().is_some() { 2 } else { 1 }) {
        for (name, work) in WORK {
            check_work(index, name, work);
        }
    }
}
