//! The gRPC face, driven by a real client over a real socket.

mod calls;
mod collections;
mod metrics;
mod records;
mod running;
mod searches;
mod snapshots;

use std::net::{SocketAddr, TcpListener};

use nearbit::server::{Listeners, ServerOptions, serve};
use nearbit::{Code, Database, Result, Width};
use rand::{RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code as GrpcCode, Status};
use tonic_types::StatusExt as _;

use proto::collection_service_client::CollectionServiceClient;
use proto::record_service_client::RecordServiceClient;
use proto::search_service_client::SearchServiceClient;

/// The client, made from the same .proto files as the server.
#[allow(clippy::all)]
pub mod proto {
    tonic::include_proto!("nearbit.v1");
}

/// A server on a free port, and a client of it.
struct TestServer {
    database: Database,
    address: SocketAddr,
    channel: Channel,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<Result<()>>>,
    dir: TempDir,
}

impl TestServer {
    async fn start() -> Self {
        Self::with(ServerOptions::default()).await
    }

    async fn with(options: ServerOptions) -> Self {
        Self::listening(Listeners::from, options).await
    }

    async fn listening(
        listening: impl FnOnce(TcpListener) -> Listeners,
        options: ServerOptions,
    ) -> Self {
        Self::of(tempfile::tempdir().unwrap(), listening, options).await
    }

    /// Of the database in `dir`.
    async fn of(
        dir: TempDir,
        listening: impl FnOnce(TcpListener) -> Listeners,
        options: ServerOptions,
    ) -> Self {
        let database = Database::open(dir.path()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let listeners = listening(listener);
        let serving = tokio::spawn(serve(listeners, database.clone(), options, async {
            stopped.await.ok();
        }));
        let channel = connect(address).await;
        let (stop, serving) = (Some(stop), Some(serving));
        Self { database, address, channel, stop, serving, dir }
    }

    /// Tells the server to stop; it finishes what is in flight.
    fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// What the server returned.
    async fn ended(&mut self) -> Result<()> {
        self.serving.take().unwrap().await.unwrap()
    }

    /// Stops the server and closes the database, whose directory is left.
    async fn close(mut self) -> TempDir {
        self.stop();
        self.ended().await.unwrap();
        self.dir
    }

    fn collections(&self) -> CollectionServiceClient<Channel> {
        CollectionServiceClient::new(self.channel.clone())
    }

    fn records(&self) -> RecordServiceClient<Channel> {
        RecordServiceClient::new(self.channel.clone())
    }

    fn searches(&self) -> SearchServiceClient<Channel> {
        SearchServiceClient::new(self.channel.clone())
    }

    /// A collection of plain codes.
    async fn codes(&self, name: &str, bits: u32) {
        let kind = proto::encoder::Kind::Codes(proto::CodesEncoder { bits });
        self.create(name, kind).await.unwrap();
    }

    /// A collection of texts, encoded by random hyperplanes.
    async fn texts(&self, name: &str, bits: u32) {
        let input = proto::Input { kind: Some(proto::input::Kind::Text(proto::TextInput {})) };
        let planes = proto::HyperplaneEncoder { input: Some(input), bits, seed: 7 };
        self.create(name, proto::encoder::Kind::Hyperplanes(planes)).await.unwrap();
    }

    async fn create(
        &self,
        name: &str,
        kind: proto::encoder::Kind,
    ) -> Result<proto::Collection, Status> {
        let request = proto::CreateCollectionRequest {
            name: name.to_owned(),
            encoder: Some(proto::Encoder { kind: Some(kind) }),
            keep_text: None,
            keep_vectors: None,
            index_fields: Vec::new(),
            metric: None,
            durability: None,
            index: None,
        };
        let created = self.collections().create_collection(request).await?;
        Ok(created.into_inner().collection.unwrap())
    }

    async fn upsert(
        &self,
        collection: &str,
        records: Vec<proto::NewRecord>,
    ) -> Result<Vec<proto::UpsertedRecord>, Status> {
        let request = proto::UpsertRecordsRequest {
            collection: collection.to_owned(),
            records,
            durability: None,
        };
        Ok(self.records().upsert_records(request).await?.into_inner().records)
    }
}

async fn connect(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

fn code_record(id: &str, code: &Code) -> proto::NewRecord {
    proto::NewRecord {
        id: id.to_owned(),
        source: Some(proto::new_record::Source::Code(code.to_bytes())),
        payload_json: String::new(),
    }
}

fn text_record(id: &str, text: &str) -> proto::NewRecord {
    proto::NewRecord {
        id: id.to_owned(),
        source: Some(proto::new_record::Source::Text(text.to_owned())),
        payload_json: String::new(),
    }
}

/// Random codes that lie close together, so that balls around them are not empty.
fn random_codes(bits: usize, count: usize, seed: u64) -> Vec<Code> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let width = Width::new(bits).unwrap();
    (0..count)
        .map(|_| {
            let mut code = Code::zero(width);
            (0..rng.random_range(0..8)).for_each(|_| code.flip(rng.random_range(0..bits)));
            code
        })
        .collect()
}

/// The naive search: every (distance, position) within `radius`, in order, the first `limit`.
fn oracle(codes: &[Code], query: &Code, radius: Option<u32>, limit: usize) -> Vec<(u32, usize)> {
    let distances = codes.iter().enumerate().map(|(i, code)| (code.distance(query), i));
    let mut found: Vec<_> =
        distances.filter(|(distance, _)| radius.is_none_or(|r| *distance <= r)).collect();
    found.sort_unstable();
    found.truncate(limit);
    found
}

/// Hits as (distance, position), where the id of the record at position 7 is "7".
fn positions(hits: &[proto::Hit]) -> Vec<(u32, usize)> {
    hits.iter().map(|hit| (hit.distance, hit.id.parse().unwrap())).collect()
}

/// Fails where `status` is not of this code and reason, or does not put the fault in this field;
/// a refusal without a field has the empty one.
#[track_caller]
fn check_refused(status: &Status, code: GrpcCode, reason: &str, field: &str) {
    assert_eq!(status.code(), code, "{status:?}");
    let details = status.get_error_details();
    let info = details.error_info().expect("an ErrorInfo");
    assert_eq!((info.domain.as_str(), info.reason.as_str()), ("nearbit", reason));
    let violations = details.bad_request().map_or(&[][..], |b| &b.field_violations);
    let fields: Vec<&str> = violations.iter().map(|v| v.field.as_str()).collect();
    assert_eq!(fields.join(","), field, "{status:?}");
    assert!(violations.iter().all(|v| !v.description.is_empty()));
    assert!(!status.message().is_empty());
}
