//! The real server in a process of its own, to be killed.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tonic::transport::Channel;

use super::server::proto;
use proto::collection_service_client::CollectionServiceClient;
use proto::record_service_client::RecordServiceClient;
use proto::snapshot_service_client::SnapshotServiceClient;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_nearbit");

/// A server in a process of its own.
pub struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    /// Starts one, and does not wait until it listens.
    pub fn spawn(dir: &Path) -> Self {
        Self::spawn_as(&[PROGRAM], dir, &[])
    }

    /// The same by another command, with more in its environment.
    fn spawn_as(program: &[&str], dir: &Path, environment: &[(&str, &str)]) -> Self {
        let child = Command::new(program[0])
            .args(&program[1..])
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(dir)
            .envs(environment.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, address: ([127, 0, 0, 1], 0).into() }
    }

    /// Starts one, and waits until it listens.
    pub fn start(dir: &Path) -> Self {
        Self::start_as(&[PROGRAM], dir, &[])
    }

    /// The same by another command, with more in its environment.
    pub fn start_as(program: &[&str], dir: &Path, environment: &[(&str, &str)]) -> Self {
        let mut process = Self::spawn_as(program, dir, environment);
        let mut said = String::new();
        for line in BufReader::new(process.child.stderr.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some(address) = line.strip_prefix("listening on ") {
                process.address = address.parse().unwrap();
                return process;
            }
            said += &format!("{line}\n");
        }
        panic!("the server does not open {}: {said}", dir.display());
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Has it close, as a service manager does, and waits for its end.
    pub fn stop(mut self) {
        let id = self.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "exit after SIGTERM");
    }

    pub async fn connect(&self) -> Channel {
        let address = format!("http://{}", self.address);
        Channel::from_shared(address).unwrap().connect().await.unwrap()
    }
}

impl Drop for Process {
    /// `kill -9`.
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Makes the collection `c` of 64-bit codes, where it is not there yet.
pub async fn create(channel: Channel) {
    let kind = proto::encoder::Kind::Codes(proto::CodesEncoder { bits: 64 });
    let request = proto::CreateCollectionRequest {
        name: "c".to_owned(),
        encoder: Some(proto::Encoder { kind: Some(kind) }),
        ..Default::default()
    };
    match CollectionServiceClient::new(channel).create_collection(request).await {
        Err(status) if status.code() != tonic::Code::AlreadyExists => panic!("{status}"),
        _ => {}
    }
}

/// Every record of the collection `c`, in order.
pub async fn read_all(channel: Channel) -> Vec<proto::Record> {
    let mut client = RecordServiceClient::new(channel);
    let mut all = Vec::new();
    let mut request = proto::ListRecordsRequest {
        collection: "c".to_owned(),
        page_size: 1000,
        ..Default::default()
    };
    loop {
        let page = client.list_records(request.clone()).await.unwrap().into_inner();
        all.extend(page.records);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return all;
        }
    }
}

/// Makes a snapshot, verifies and deletes it; false where the server is gone.
pub async fn snapshot(channel: Channel, name: &str) -> bool {
    let mut client = SnapshotServiceClient::new(channel);
    let name = || name.to_owned();
    let made = client.create_snapshot(proto::CreateSnapshotRequest { name: name() }).await;
    if made.is_err() {
        return false;
    }
    let verify = proto::VerifySnapshotRequest { name: name() };
    let Ok(verified) = client.verify_snapshot(verify).await else { return false };
    assert_eq!(verified.into_inner().findings, []);
    client.delete_snapshot(proto::DeleteSnapshotRequest { name: name() }).await.is_ok()
}
