//! Limits that hold for every call: deadlines, calls in work, connections.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use nearbit::server::ServerOptions;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::{TestServer, check_refused, connect, proto};

fn get() -> proto::GetCollectionRequest {
    proto::GetCollectionRequest { name: "codes".to_owned() }
}

/// The server's own timeout; the client's is a matter of the client too, which gives up at the
/// same time, and of a test beside the code.
#[tokio::test]
async fn a_deadline_that_passed_ends_the_call() {
    let server = TestServer::with(ServerOptions {
        default_timeout: Duration::from_nanos(1),
        max_stream_timeout: Duration::from_nanos(1),
        ..Default::default()
    })
    .await;
    let late = server.collections().get_collection(get()).await.unwrap_err();
    check_refused(&late, Code::DeadlineExceeded, "DEADLINE_PASSED", "");
    let ball = proto::SearchBallRequest::default();
    let late = server.searches().search_ball(ball).await.unwrap_err();
    check_refused(&late, Code::DeadlineExceeded, "DEADLINE_PASSED", "");

    let mut request = Request::new(get());
    request.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    let refused = server.collections().get_collection(request).await.unwrap_err();
    check_refused(&refused, Code::InvalidArgument, "INVALID_FIELD", "grpc-timeout");
}

/// A client cannot ask for more time than the server gives.
#[tokio::test]
async fn deadlines_have_a_limit() {
    let server = TestServer::with(ServerOptions {
        max_stream_timeout: Duration::from_millis(20),
        ..Default::default()
    })
    .await;
    let (_sender, never) = mpsc::channel::<proto::ImportRecordsRequest>(1);
    let mut request = Request::new(ReceiverStream::new(never));
    request.set_timeout(Duration::from_secs(60));
    let late = server.records().import_records(request).await.unwrap_err();
    check_refused(&late, Code::DeadlineExceeded, "DEADLINE_PASSED", "");

    let (_sender, never) = mpsc::channel::<proto::SearchStreamRequest>(1);
    let mut request = Request::new(ReceiverStream::new(never));
    request.set_timeout(Duration::from_secs(60));
    let mut answers = server.searches().search_stream(request).await.unwrap().into_inner();
    let late = answers.message().await.unwrap_err();
    check_refused(&late, Code::DeadlineExceeded, "DEADLINE_PASSED", "");
}

#[tokio::test]
async fn an_idle_stream_is_ended() {
    let server = TestServer::with(ServerOptions {
        stream_idle_timeout: Duration::from_millis(20),
        ..Default::default()
    })
    .await;
    let (_sender, never) = mpsc::channel::<proto::ImportRecordsRequest>(1);
    let idle = server.records().import_records(ReceiverStream::new(never)).await.unwrap_err();
    check_refused(&idle, Code::DeadlineExceeded, "STREAM_IDLE", "");

    let (_sender, never) = mpsc::channel::<proto::SearchStreamRequest>(1);
    let answers = server.searches().search_stream(ReceiverStream::new(never)).await.unwrap();
    let idle = answers.into_inner().message().await.unwrap_err();
    check_refused(&idle, Code::DeadlineExceeded, "STREAM_IDLE", "");
}

#[tokio::test]
async fn calls_beyond_the_limit_are_turned_away_but_health_answers() {
    let server = TestServer::with(ServerOptions { max_calls: 1, ..Default::default() }).await;
    server.codes("codes", 16).await;
    // An open stream of searches is a call in work.
    let (sender, requests) = mpsc::channel::<proto::SearchStreamRequest>(1);
    let stream = server.searches().search_stream(ReceiverStream::new(requests)).await.unwrap();
    let busy = server.collections().get_collection(get()).await.unwrap_err();
    check_refused(&busy, Code::Unavailable, "TOO_MANY_CALLS", "");
    let mut health = HealthClient::new(server.channel.clone());
    health.check(HealthCheckRequest::default()).await.unwrap();
    // Once it has ended, its place is free again.
    drop(sender);
    assert!(stream.into_inner().message().await.unwrap().is_none());
    server.collections().get_collection(get()).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let server = TestServer::with(ServerOptions {
        handshake_timeout: Duration::from_millis(300),
        ..Default::default()
    })
    .await;
    for greeting in [&b""[..], b"PRI * HTTP/2.0"] {
        let address = server.address;
        let read = tokio::task::spawn_blocking(move || {
            let mut silent = TcpStream::connect(address).unwrap();
            silent.write_all(greeting).unwrap();
            silent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            silent.read_to_end(&mut Vec::new())
        });
        match read.await.unwrap() {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
    // Those who spoke in time are still welcome, however long ago that was.
    server.codes("codes", 16).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let options = ServerOptions { max_connections: 1, ..Default::default() };
    let mut server = TestServer::with(options).await;
    server.codes("codes", 16).await;
    let mut second = super::CollectionServiceClient::new(connect(server.address).await);
    let answer = tokio::spawn(async move { second.get_collection(get()).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!answer.is_finished(), "a second connection was served beside the first");
    // The first goes; its place is taken.
    server.channel = super::Channel::from_static("http://127.0.0.1:1").connect_lazy();
    answer.await.unwrap().unwrap();
}
