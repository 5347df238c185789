//! Records: upsert, lookup, delete, import, list.

use nearbit::server::ServerOptions;
use nearbit::{Code, Width};
use tokio::task::JoinSet;
use tonic::Code as GrpcCode;
use tonic_types::StatusExt as _;

use super::proto::new_record::Source;
use super::{TestServer, check_refused, code_record, proto, random_codes, text_record};

#[tokio::test]
async fn records_are_written_replaced_read_and_deleted() {
    let server = TestServer::start().await;
    server.texts("notes", 64).await;
    let mut moon = text_record("moon", "the far side of the moon");
    // An integer that no double can hold.
    moon.payload_json = r#"{"n":9007199254740993}"#.to_owned();
    let nameless = text_record("", "a loaf of rye bread");
    let bare = proto::NewRecord { id: "bare".to_owned(), ..Default::default() };
    let written = server.upsert("notes", vec![moon.clone(), nameless, bare]).await.unwrap();
    assert_eq!(written[0], proto::UpsertedRecord { id: "moon".to_owned(), replaced: false });
    assert_eq!(written[1].id.len(), 36, "a UUID was made");
    let again = server.upsert("notes", vec![moon]).await.unwrap();
    assert!(again[0].replaced);

    let lookup = proto::LookupRecordsRequest {
        collection: "notes".to_owned(),
        ids: ["bare", "missing", "moon"].map(str::to_owned).into(),
    };
    let found = server.records().lookup_records(lookup.clone()).await.unwrap().into_inner();
    assert_eq!(found.missing_ids, ["missing"]);
    let [bare, moon] = &found.records[..] else { panic!("{found:?}") };
    assert_eq!((bare.id.as_str(), &bare.code, &bare.text), ("bare", &None, &None));
    assert_eq!(bare.payload_json, "");
    assert_eq!(moon.id, "moon");
    assert_eq!(moon.payload_json, r#"{"n":9007199254740993}"#);
    assert_eq!(moon.text.as_deref(), Some("the far side of the moon"));
    assert_eq!(moon.code.as_ref().map(Vec::len), Some(8));

    let delete = proto::DeleteRecordsRequest {
        collection: "notes".to_owned(),
        ids: ["moon", "missing"].map(str::to_owned).into(),
        durability: None,
    };
    let deleted = server.records().delete_records(delete).await.unwrap().into_inner();
    assert_eq!(deleted.deleted, [true, false]);
    let found = server.records().lookup_records(lookup).await.unwrap().into_inner();
    assert_eq!(found.missing_ids, ["missing", "moon"]);
}

#[tokio::test]
async fn a_group_with_a_bad_record_is_refused_whole() {
    let server = TestServer::start().await;
    server.codes("codes", 12).await;
    let source = |source| proto::NewRecord {
        id: "bad".to_owned(),
        source: Some(source),
        ..Default::default()
    };
    let code = |bytes: &[u8]| source(Source::Code(bytes.into()));
    let good = || code_record("good", &Code::zero(Width::new(12).unwrap()));
    let long_id = code_record(&"x".repeat(513), &Code::zero(Width::new(12).unwrap()));
    let payload = |json: &str| proto::NewRecord { payload_json: json.to_owned(), ..good() };
    let vector = proto::Vector { values: vec![1.0] };
    let image = proto::Image { height: 2, width: 2, pixels: vec![0; 4] };
    for (bad, field) in [
        (code(&[0]), "records[1].code"),
        (code(&[0, 0, 0]), "records[1].code"),
        (code(&[0, 1]), "records[1].code"),
        (long_id, "records[1].id"),
        (payload("{"), "records[1].payload_json"),
        (payload("[]"), "records[1].payload_json"),
        (text_record("t", "text"), "records[1].text"),
        (source(Source::Vector(vector)), "records[1].vector"),
        (source(Source::Image(image)), "records[1].image"),
        (good(), "records[1].id"),
    ] {
        let refused = server.upsert("codes", vec![good(), bad]).await.unwrap_err();
        check_refused(&refused, GrpcCode::InvalidArgument, "INVALID_FIELD", field);
    }
    assert_eq!(server.database.collection("codes").unwrap().info().records, 0);
    let refused = server.upsert("nowhere", vec![good()]).await.unwrap_err();
    check_refused(&refused, GrpcCode::NotFound, "COLLECTION_NOT_FOUND", "");
}

#[tokio::test]
async fn counts_have_limits() {
    let server =
        TestServer::with(ServerOptions { max_records: 3, max_lookups: 2, ..Default::default() })
            .await;
    server.texts("notes", 8).await;
    let records = |n| (0..n).map(|i| text_record(&i.to_string(), "x")).collect::<Vec<_>>();
    let ids = |n| (0..n).map(|i| i.to_string()).collect::<Vec<_>>();
    let collection = || "notes".to_owned();
    let invalid =
        |status, field| check_refused(&status, GrpcCode::InvalidArgument, "INVALID_FIELD", field);
    let mut client = server.records();

    server.upsert("notes", records(3)).await.unwrap();
    for n in [0, 4] {
        invalid(server.upsert("notes", records(n)).await.unwrap_err(), "records");
        let delete =
            proto::DeleteRecordsRequest { collection: collection(), ids: ids(n), durability: None };
        invalid(client.delete_records(delete).await.unwrap_err(), "ids");
    }
    for n in [0, 3] {
        let lookup = proto::LookupRecordsRequest { collection: collection(), ids: ids(n) };
        invalid(client.lookup_records(lookup).await.unwrap_err(), "ids");
    }
    let lookup = proto::LookupRecordsRequest {
        collection: collection(),
        ids: vec!["0".to_owned(), String::new()],
    };
    invalid(client.lookup_records(lookup).await.unwrap_err(), "ids[1]");
    let import = proto::ImportRecordsRequest {
        collection: collection(),
        records: records(4),
        durability: None,
    };
    let refused = client.import_records(tokio_stream::iter([import])).await.unwrap_err();
    invalid(refused, "records");
}

#[tokio::test]
async fn an_import_writes_the_good_and_names_the_bad() {
    let server = TestServer::with(ServerOptions { max_rejections: 4, ..Default::default() }).await;
    server.codes("codes", 16).await;
    let codes = random_codes(16, 10, 1);
    let good = |i: usize| code_record(&i.to_string(), &codes[i]);
    let bad = |id: &str| proto::NewRecord {
        id: id.to_owned(),
        source: Some(Source::Code(vec![1])),
        ..Default::default()
    };
    let message = |collection: &str, records| proto::ImportRecordsRequest {
        collection: collection.to_owned(),
        records,
        durability: None,
    };
    let stream = vec![
        message("codes", vec![good(0), bad("a"), good(1), good(0)]),
        message("", vec![]),
        message("codes", vec![bad("b"), bad("c")]),
        message("", vec![good(2), good(1), bad("d")]),
    ];
    let summary = server.records().import_records(tokio_stream::iter(stream)).await.unwrap();
    let summary = summary.into_inner();
    assert_eq!((summary.written, summary.replaced, summary.rejected), (4, 1, 5));
    let rejections: Vec<_> = summary
        .rejections
        .iter()
        .map(|r| (r.index, r.id.as_str(), r.problem.as_ref().unwrap().field.as_str()))
        .collect();
    assert_eq!(rejections, [(1, "a", "code"), (3, "0", "id"), (4, "b", "code"), (5, "c", "code")]);
    let problem = summary.rejections[0].problem.as_ref().unwrap();
    assert_eq!((problem.code, problem.reason.as_str()), (3, "INVALID_FIELD"));
    assert!(problem.message.contains("expected 2 bytes"), "{problem:?}");
    assert_eq!(server.database.collection("codes").unwrap().info().records, 3);
}

#[tokio::test]
async fn an_import_that_fails_says_how_far_it_came() {
    use tonic_types::StatusExt as _;

    let server = TestServer::start().await;
    server.codes("codes", 16).await;
    let records: Vec<_> = random_codes(16, 5, 2).iter().map(|c| code_record("", c)).collect();
    let first =
        proto::ImportRecordsRequest { collection: "codes".to_owned(), records, durability: None };
    let other = proto::ImportRecordsRequest {
        collection: "other".to_owned(),
        records: vec![],
        durability: None,
    };
    let stream = tokio_stream::iter([first, other]);
    let refused = server.records().import_records(stream).await.unwrap_err();
    check_refused(&refused, GrpcCode::InvalidArgument, "INVALID_FIELD", "collection");
    assert_eq!(refused.get_details_error_info().unwrap().metadata["written"], "5");
    assert_eq!(server.database.collection("codes").unwrap().info().records, 5);

    let nameless = tokio_stream::iter([proto::ImportRecordsRequest::default()]);
    let refused = server.records().import_records(nameless).await.unwrap_err();
    check_refused(&refused, GrpcCode::InvalidArgument, "INVALID_FIELD", "collection");
}

/// All ids in the order of the pages, and how many each page had.
async fn list_all(server: &TestServer, page_size: u32) -> (Vec<String>, Vec<usize>) {
    let (mut ids, mut sizes) = (Vec::new(), Vec::new());
    let mut request = proto::ListRecordsRequest {
        filter: None,
        collection: "codes".to_owned(),
        page_size,
        page_token: String::new(),
    };
    loop {
        let page = server.records().list_records(request.clone()).await.unwrap().into_inner();
        sizes.push(page.records.len());
        ids.extend(page.records.into_iter().map(|record| record.id));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return (ids, sizes);
        }
    }
}

#[tokio::test]
async fn records_are_listed_in_pages_oldest_first() {
    let server = TestServer::with(ServerOptions { max_page_size: 150, ..Default::default() }).await;
    server.codes("codes", 16).await;
    let codes = random_codes(16, 200, 3);
    let records = codes.iter().enumerate().map(|(i, c)| code_record(&i.to_string(), c)).collect();
    server.upsert("codes", records).await.unwrap();
    let expected: Vec<_> = (0..200).map(|i| i.to_string()).collect();
    for (page_size, largest) in [(1, 1), (7, 7), (100, 100), (0, 100), (u32::MAX, 150)] {
        let (ids, sizes) = list_all(&server, page_size).await;
        assert_eq!(ids, expected, "pages of {page_size}");
        assert_eq!(sizes[0], largest);
    }
}

#[tokio::test]
async fn a_page_ends_before_it_is_too_large() {
    let options = ServerOptions { max_page_bytes: 1000, ..Default::default() };
    let server = TestServer::with(options).await;
    server.codes("codes", 16).await;
    // Every third record is larger than a page on its own.
    let codes = random_codes(16, 30, 4);
    let records = codes.iter().enumerate().map(|(i, code)| {
        let filler = "x".repeat(if i % 3 == 0 { 2000 } else { 300 });
        let payload_json = format!("{{\"filler\":\"{filler}\"}}");
        proto::NewRecord { payload_json, ..code_record(&i.to_string(), code) }
    });
    server.upsert("codes", records.collect()).await.unwrap();
    let (ids, sizes) = list_all(&server, 100).await;
    assert_eq!(ids, (0..30).map(|i| i.to_string()).collect::<Vec<_>>());
    assert_eq!(&sizes[..4], [1, 2, 1, 2]);
}

#[tokio::test]
async fn a_page_token_must_be_the_one_that_was_given() {
    let server = TestServer::start().await;
    server.codes("codes", 16).await;
    server.codes("other", 16).await;
    let records = random_codes(16, 3, 5).iter().map(|c| code_record("", c)).collect();
    server.upsert("codes", records).await.unwrap();
    let request = |collection: &str, token: &str| proto::ListRecordsRequest {
        filter: None,
        collection: collection.to_owned(),
        page_size: 1,
        page_token: token.to_owned(),
    };
    let mut client = server.records();
    let page = client.list_records(request("codes", "")).await.unwrap().into_inner();
    for (collection, token) in [("other", page.next_page_token.as_str()), ("codes", "made up")] {
        let refused = client.list_records(request(collection, token)).await.unwrap_err();
        check_refused(&refused, GrpcCode::InvalidArgument, "INVALID_FIELD", "page_token");
    }
}

#[tokio::test]
async fn messages_that_are_too_large_are_refused_both_ways() {
    let options = ServerOptions { max_message_bytes: 10_000, ..Default::default() };
    let server = TestServer::with(options).await;
    server.texts("notes", 64).await;
    let long = "word ".repeat(1000);
    let record = |i: usize| text_record(&i.to_string(), &long);
    let refused = server.upsert("notes", vec![record(0), record(1)]).await.unwrap_err();
    check_refused(&refused, GrpcCode::ResourceExhausted, "MESSAGE_TOO_LARGE", "");

    server.upsert("notes", vec![record(0)]).await.unwrap();
    server.upsert("notes", vec![record(1)]).await.unwrap();
    let ids = vec!["0".to_owned(), "1".to_owned()];
    let lookup = proto::LookupRecordsRequest { collection: "notes".to_owned(), ids };
    let refused = server.records().lookup_records(lookup).await.unwrap_err();
    check_refused(&refused, GrpcCode::ResourceExhausted, "ANSWER_TOO_LARGE", "");

    let message = proto::ImportRecordsRequest {
        collection: "notes".to_owned(),
        records: vec![record(2), record(3)],
        durability: None,
    };
    let stream = tokio_stream::iter([message]);
    let refused = server.records().import_records(stream).await.unwrap_err();
    check_refused(&refused, GrpcCode::ResourceExhausted, "MESSAGE_TOO_LARGE", "");
}

#[tokio::test]
async fn writes_say_when_they_are_durable() {
    let server = TestServer::start().await;
    server.codes("codes", 8).await;
    let durable = |kind| Some(proto::Durability { kind: Some(kind) });
    let interval = |ms| durable(proto::durability::Kind::IntervalMs(ms));
    let write = |id: &str, durability| proto::UpsertRecordsRequest {
        collection: "codes".to_owned(),
        records: vec![proto::NewRecord {
            id: id.to_owned(),
            source: Some(Source::Code(vec![1])),
            ..Default::default()
        }],
        durability,
    };
    let collection = server.database.collection("codes").unwrap();
    let unsynced = || collection.sizes().store.unsynced_bytes;
    let mut records = server.records();
    records.upsert_records(write("a", interval(60_000))).await.unwrap();
    assert!(unsynced() > 0);
    let sync = durable(proto::durability::Kind::Sync(proto::SyncDurability {}));
    records.upsert_records(write("b", sync)).await.unwrap();
    assert_eq!(unsynced(), 0);
    for (wrong, field) in [
        (interval(0), "durability.interval_ms"),
        (interval(60_001), "durability.interval_ms"),
        (Some(proto::Durability { kind: None }), "durability"),
    ] {
        let refused = records.upsert_records(write("c", wrong)).await.unwrap_err();
        check_refused(&refused, GrpcCode::InvalidArgument, "INVALID_FIELD", field);
    }
    // Or the collection says it for those that do not.
    let set =
        |durability| proto::SetDurabilityRequest { collection: "codes".to_owned(), durability };
    server.collections().set_durability(set(interval(60_000))).await.unwrap();
    let get = proto::GetCollectionRequest { name: "codes".to_owned() };
    let got = server.collections().get_collection(get).await.unwrap().into_inner();
    assert_eq!(got.collection.unwrap().durability, interval(60_000));
    records.upsert_records(write("d", None)).await.unwrap();
    assert!(unsynced() > 0);
    // What an import wrote is durable when its summary comes.
    let message = proto::ImportRecordsRequest {
        collection: "codes".to_owned(),
        records: write("e", None).records,
        durability: interval(60_000),
    };
    records.import_records(tokio_stream::iter([message])).await.unwrap();
    assert_eq!(unsynced(), 0);
    server.collections().set_durability(set(sync)).await.unwrap();
    let refused = server.collections().set_durability(set(None)).await.unwrap_err();
    check_refused(&refused, GrpcCode::InvalidArgument, "INVALID_FIELD", "durability");
}

/// However many write at once, what they hold is bounded: who does not fit is told to come again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_find_no_room_are_refused_and_imports_wait() {
    let limit = 4096;
    let server = TestServer::with(ServerOptions {
        max_message_bytes: limit,
        max_write_bytes: limit,
        ..ServerOptions::default()
    })
    .await;
    server.codes("codes", 8).await;
    let records = |writer: usize| -> Vec<proto::NewRecord> {
        vec![proto::NewRecord {
            id: writer.to_string(),
            source: Some(Source::Code(vec![1])),
            payload_json: format!("{{\"filler\": \"{}\"}}", "x".repeat(limit / 2)),
        }]
    };
    // While somebody holds the room there is none for two.
    let mut writers = JoinSet::new();
    for writer in 0..40 {
        let (mut client, records) = (server.records(), records(writer));
        writers.spawn(async move {
            let mut refusals = 0;
            loop {
                let request = proto::UpsertRecordsRequest {
                    collection: "codes".to_owned(),
                    records: records.clone(),
                    durability: None,
                };
                let Err(refused) = client.upsert_records(request).await else { return refusals };
                let code = GrpcCode::ResourceExhausted;
                check_refused(&refused, code, "TOO_MANY_WRITES", "");
                assert!(refused.get_error_details().retry_info().is_some());
                refusals += 1;
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        });
    }
    for first in [1000, 2000] {
        let message = |i| proto::ImportRecordsRequest {
            collection: "codes".to_owned(),
            records: records(i),
            durability: None,
        };
        let stream: Vec<_> = (first..first + 20).map(message).collect();
        let mut client = server.records();
        writers.spawn(async move {
            let done = client.import_records(tokio_stream::iter(stream)).await.unwrap();
            assert_eq!(done.into_inner().written, 20);
            0
        });
    }
    let refusals: usize = writers.join_all().await.into_iter().sum();
    assert!(refusals > 0, "nobody was refused");
    assert_eq!(server.database.collection("codes").unwrap().info().records, 80);
}
