//! Starting, stopping, health and reflection.

use std::time::Duration;

use nearbit::server::{ServerOptions, serve_blocking};
use nearbit::{CollectionSettings, Database, EncoderSpec, Width};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::proto::search_stream_response::Outcome;
use super::{TestServer, check_refused, code_record, connect, proto, random_codes};

const SERVICES: [&str; 5] = [
    "nearbit.v1.CollectionService",
    "nearbit.v1.RecordService",
    "nearbit.v1.SearchService",
    "nearbit.v1.SnapshotService",
    "nearbit.v1.AdminService",
];

fn health_of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn health_knows_every_service() {
    let server = TestServer::start().await;
    let mut health = HealthClient::new(server.channel.clone());
    for service in SERVICES.into_iter().chain([""]) {
        let answer = health.check(health_of(service)).await.unwrap();
        assert_eq!(answer.get_ref().status(), ServingStatus::Serving, "{service:?}");
    }
    let unknown = health.check(health_of("nearbit.v1.Nothing")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

/// Both versions of reflection name every service and describe a method of ours.
macro_rules! check_reflection {
    ($server:expr, $version:ident) => {{
        use pb::server_reflection_request::MessageRequest;
        use pb::server_reflection_response::MessageResponse;
        use tonic_reflection::pb::$version as pb;

        let mut client =
            pb::server_reflection_client::ServerReflectionClient::new($server.channel.clone());
        let ask = |message| pb::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(message),
        };
        let requests = [
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol("nearbit.v1.SearchService.Search".into())),
        ];
        let answers = client.server_reflection_info(tokio_stream::iter(requests)).await.unwrap();
        let mut answers = answers.into_inner();
        let services = answers.message().await.unwrap().unwrap().message_response;
        let Some(MessageResponse::ListServicesResponse(list)) = services else {
            panic!("{services:?}")
        };
        let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
        for service in SERVICES.into_iter().chain(["grpc.health.v1.Health"]) {
            assert!(names.contains(&service), "{service} is not among {names:?}");
        }
        let file = answers.message().await.unwrap().unwrap().message_response;
        assert!(matches!(file, Some(MessageResponse::FileDescriptorResponse(_))), "{file:?}");
    }};
}

/// Whoever wants no limits gets none, and no crash either.
#[tokio::test]
async fn limits_may_be_endless() {
    let server = TestServer::with(ServerOptions {
        max_connections: usize::MAX,
        max_calls: usize::MAX,
        max_searches: usize::MAX,
        stream_window_bytes: u32::MAX,
        connection_window_bytes: u32::MAX,
        handshake_timeout: Duration::MAX,
        max_connection_age: Duration::MAX,
        keepalive_interval: Duration::MAX,
        default_timeout: Duration::MAX,
        max_timeout: Duration::MAX,
        max_stream_timeout: Duration::MAX,
        stream_idle_timeout: Duration::MAX,
        drain_timeout: Duration::MAX,
        ..Default::default()
    })
    .await;
    server.codes("codes", 16).await;
    let (sender, requests) = mpsc::channel(1);
    let answers = server.searches().search_stream(ReceiverStream::new(requests)).await.unwrap();
    sender.send(proto::SearchStreamRequest::default()).await.unwrap();
    drop(sender);
    let mut answers = answers.into_inner();
    assert!(answers.message().await.unwrap().is_some());
    assert!(answers.message().await.unwrap().is_none());
    server.close().await;
}

#[tokio::test]
async fn reflection_describes_the_services() {
    let server = TestServer::start().await;
    check_reflection!(server, v1);
    check_reflection!(server, v1alpha);
}

#[tokio::test]
async fn stopping_finishes_an_import_in_flight() {
    let mut server = TestServer::start().await;
    server.codes("codes", 16).await;
    let message = |seed| proto::ImportRecordsRequest {
        collection: "codes".to_owned(),
        records: random_codes(16, 10, seed).iter().map(|code| code_record("", code)).collect(),
        durability: None,
    };
    let mut health = HealthClient::new(server.channel.clone());
    let mut watch = health.watch(health_of(SERVICES[1])).await.unwrap().into_inner();
    let mut next = async || watch.message().await.unwrap().map(|answer| answer.status());
    assert_eq!(next().await, Some(ServingStatus::Serving));

    let (sender, messages) = mpsc::channel(1);
    let mut client = server.records();
    let importing =
        tokio::spawn(async move { client.import_records(ReceiverStream::new(messages)).await });
    sender.send(message(1)).await.unwrap();
    let collection = server.database.collection("codes").unwrap();
    while collection.info().records < 10 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    server.stop();
    assert_eq!(next().await, Some(ServingStatus::NotServing));
    assert_eq!(next().await, None, "watching ends");
    while tokio::net::TcpStream::connect(server.address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // No newcomer is served any more, but the import goes on.
    sender.send(message(2)).await.unwrap();
    drop(sender);
    let summary = importing.await.unwrap().unwrap().into_inner();
    assert_eq!((summary.written, summary.rejected), (20, 0));
    server.ended().await.unwrap();
    assert_eq!(collection.info().records, 20);
}

#[tokio::test]
async fn stopping_ends_a_stream_of_searches_with_unavailable() {
    let mut server = TestServer::start().await;
    server.codes("codes", 16).await;
    let code = random_codes(16, 1, 3).remove(0);
    server.upsert("codes", vec![code_record("0", &code)]).await.unwrap();
    let search = proto::SearchRequest {
        collection: "codes".to_owned(),
        query: Some(proto::Query { kind: Some(proto::query::Kind::Code(code.to_bytes())) }),
        ..Default::default()
    };
    let (sender, requests) = mpsc::channel(1);
    let answers = server.searches().search_stream(ReceiverStream::new(requests)).await.unwrap();
    let mut answers = answers.into_inner();
    sender.send(proto::SearchStreamRequest { tag: 5, search: Some(search) }).await.unwrap();
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!(answer.tag, 5);
    assert!(matches!(answer.outcome, Some(Outcome::Answer(_))));
    server.stop();
    let stopped = answers.message().await.unwrap_err();
    check_refused(&stopped, Code::Unavailable, "SERVER_STOPPING", "");
    server.ended().await.unwrap();
}

#[tokio::test]
async fn stopping_does_not_wait_for_ever() {
    let mut server = TestServer::with(ServerOptions {
        drain_timeout: Duration::from_millis(50),
        ..Default::default()
    })
    .await;
    let (_sender, never) = mpsc::channel::<proto::ImportRecordsRequest>(1);
    let mut client = server.records();
    let importing =
        tokio::spawn(async move { client.import_records(ReceiverStream::new(never)).await });
    // The import counts as in flight once the server has it; health answers after that.
    let mut health = HealthClient::new(server.channel.clone());
    health.check(health_of("")).await.unwrap();
    server.stop();
    server.ended().await.unwrap();
    assert!(importing.await.unwrap().is_err());
}

/// A client that is idle, and does not go when it is told that the server does, is cut off.
#[tokio::test]
async fn stopping_does_not_wait_for_the_idle() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let mut server = TestServer::start().await;
    let mut idle = tokio::net::TcpStream::connect(server.address).await.unwrap();
    // The preface and an empty SETTINGS frame; then nothing, not even an acknowledgement.
    idle.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    idle.read_exact(&mut [0; 9]).await.unwrap();
    server.stop();
    server.ended().await.unwrap();
}

#[test]
fn a_server_with_a_runtime_of_its_own_stops_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path()).unwrap();
    let encoder = EncoderSpec::Codes { width: Width::new(16).unwrap() };
    database.create_collection("codes", &CollectionSettings::new(encoder)).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let serving = std::thread::spawn(move || {
        serve_blocking(listener, database, ServerOptions::default(), move || {
            stopped.recv().ok();
        })
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut client = super::CollectionServiceClient::new(connect(address).await);
        let list = client.list_collections(proto::ListCollectionsRequest::default()).await;
        assert_eq!(list.unwrap().get_ref().collections.len(), 1);
    });
    stop.send(()).unwrap();
    serving.join().unwrap().unwrap();
    // Whoever comes next may open the directory.
    Database::open(dir.path()).unwrap();
}
