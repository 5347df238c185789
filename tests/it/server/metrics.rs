//! What Prometheus reads.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use nearbit::server::{Listeners, ServerOptions};
use tonic::Code;

use super::{TestServer, check_refused, code_record, proto, random_codes};

/// The whole answer to the bytes of a request.
fn answer(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

async fn ask(address: SocketAddr, request: String) -> String {
    tokio::task::spawn_blocking(move || answer(address, &request)).await.unwrap()
}

async fn page(address: SocketAddr) -> String {
    let answer = ask(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.ends_with("# EOF\n"));
    body.to_owned()
}

/// The number that a series has on a page.
fn number(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {page}")).parse().unwrap()
}

/// The series of the calls of a method that ended so.
fn handled(method: &str, code: &str) -> String {
    let (service, method) = method.split_once('/').unwrap();
    format!(
        "grpc_server_handled_total{{grpc_service=\"nearbit.v1.{service}\",\
         grpc_method=\"{method}\",grpc_code=\"{code}\"}}"
    )
}

async fn start() -> (TestServer, SocketAddr) {
    start_with(ServerOptions::default()).await
}

async fn start_with(options: ServerOptions) -> (TestServer, SocketAddr) {
    let metrics = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = metrics.local_addr().unwrap();
    let listening = |grpc: TcpListener| Listeners { metrics: Some(metrics), ..grpc.into() };
    (TestServer::listening(listening, options).await, address)
}

#[tokio::test]
async fn calls_are_counted_and_collections_described() {
    let (server, address) = start().await;
    let first = page(address).await;
    assert_eq!(number(&first, &handled("SearchService/Search", "OK")), 0.0);
    assert!(!first.contains("collection=\""));

    server.codes("notes", 8).await;
    let codes = random_codes(8, 2, 1);
    let records = vec![code_record("a", &codes[0]), code_record("b", &codes[1])];
    let request =
        proto::UpsertRecordsRequest { collection: "notes".to_owned(), records, durability: None };
    server.records().upsert_records(request).await.unwrap();
    let search = |collection: &str| proto::SearchRequest {
        collection: collection.to_owned(),
        query: Some(proto::Query { kind: Some(proto::query::Kind::Code(vec![1])) }),
        ..Default::default()
    };
    for _ in 0..3 {
        server.searches().search(search("notes")).await.unwrap();
    }
    let missing = server.searches().search(search("nothing")).await.unwrap_err();
    check_refused(&missing, Code::NotFound, "COLLECTION_NOT_FOUND", "");

    let page = page(address).await;
    assert_eq!(number(&page, &handled("SearchService/Search", "OK")), 3.0);
    assert_eq!(number(&page, &handled("SearchService/Search", "NotFound")), 1.0);
    assert_eq!(number(&page, &handled("RecordService/UpsertRecords", "OK")), 1.0);
    let labels = "{grpc_service=\"nearbit.v1.SearchService\",grpc_method=\"Search\"}";
    assert_eq!(number(&page, &format!("grpc_server_handling_seconds_count{labels}")), 4.0);
    assert!(number(&page, &format!("grpc_server_handling_seconds_sum{labels}")) > 0.0);
    assert_eq!(number(&page, "nearbit_calls_in_work"), 0.0);
    let of =
        |name: &str| number(&page, &format!("nearbit_collection_{name}{{collection=\"notes\"}}"));
    assert_eq!(of("records"), 2.0);
    assert_eq!(of("writable"), 1.0);
    assert_eq!(of("damaged_places_total"), 0.0);
    assert!(of("segment_bytes") > 0.0 && of("index_bytes") > 0.0);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(number(&page, &format!("nearbit_build_info{{version=\"{version}\"}}")), 1.0);
}

/// A call that its client gives up ends too, and one that is turned away was never in work.
#[tokio::test]
async fn calls_that_are_given_up_or_turned_away_are_counted() {
    let (server, address) = start_with(ServerOptions { max_calls: 1, ..Default::default() }).await;
    let mut importing = server.records();
    let (sender, receiver) = tokio::sync::mpsc::channel::<proto::ImportRecordsRequest>(1);
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let import = tokio::spawn(async move { importing.import_records(stream).await.map(drop) });
    let in_work = async || number(&page(address).await, "nearbit_calls_in_work");
    while in_work().await == 0.0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let list = proto::ListCollectionsRequest::default();
    let refused = server.collections().list_collections(list).await.unwrap_err();
    check_refused(&refused, Code::Unavailable, "TOO_MANY_CALLS", "");
    import.abort();
    while in_work().await > 0.0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(sender);
    let page = page(address).await;
    assert_eq!(number(&page, &handled("RecordService/ImportRecords", "Canceled")), 1.0);
    assert_eq!(number(&page, &handled("CollectionService/ListCollections", "Unavailable")), 1.0);
    let count = "grpc_server_handling_seconds_count";
    let labels = "grpc_service=\"nearbit.v1.CollectionService\",grpc_method=\"ListCollections\"";
    assert_eq!(number(&page, &format!("{count}{{{labels}}}")), 0.0);
}

/// Nobody makes series up.
#[tokio::test]
async fn a_method_that_is_not_there_is_not_counted() {
    let (server, address) = start().await;
    let before = page(address).await.lines().count();
    let mut client = tonic::client::Grpc::new(server.channel.clone());
    client.ready().await.unwrap();
    let path = "/nearbit.v1.SearchService/Guess".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<proto::SearchRequest, proto::SearchResponse>::default();
    let request = tonic::Request::new(proto::SearchRequest::default());
    assert_eq!(client.unary(request, path, codec).await.unwrap_err().code(), Code::Unimplemented);
    let after = page(address).await;
    assert_eq!(after.lines().count(), before);
    assert!(!after.contains("Guess"));
}

#[tokio::test]
async fn what_is_no_question_for_metrics_is_refused() {
    let (_server, address) = start().await;
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "404"),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".to_owned(), "405"),
        ("what\r\n\r\n".to_owned(), "400"),
        (format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(9000)), "431"),
    ] {
        let answer = ask(address, request.clone()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:.40}: {answer}");
    }
}

/// Those who say nothing wait together for the end of their time, and hold nobody else up for ever.
#[tokio::test]
async fn who_says_nothing_is_sent_away() {
    let (_server, address) = start().await;
    let silent: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(address).unwrap()).collect();
    let start = Instant::now();
    page(address).await;
    assert!(start.elapsed() > Duration::from_secs(1), "there was a place left");
    drop(silent);
}
