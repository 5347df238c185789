//! Collections: create, get, list, delete.

use nearbit::server::{Listeners, ServerOptions};
use nearbit::{Database, Width};
use tonic::Code;

use super::proto::encoder::Kind;
use super::proto::{self, input};
use super::{TestServer, check_refused, code_record};

fn width() -> Width {
    Width::new(64).unwrap()
}

#[tokio::test]
async fn a_collection_is_created_described_and_deleted() {
    let server = TestServer::start().await;
    let mut client = server.collections();
    let input = proto::Input { kind: Some(input::Kind::Vector(proto::VectorInput { dim: 3 })) };
    let encoder = proto::Encoder {
        kind: Some(Kind::Hyperplanes(proto::HyperplaneEncoder {
            input: Some(input),
            bits: 100,
            seed: 42,
        })),
    };
    let request = proto::CreateCollectionRequest {
        name: "points".to_owned(),
        encoder: Some(encoder.clone()),
        keep_text: Some(false),
        keep_vectors: Some(proto::KeepVectors::F16.into()),
        index_fields: vec!["label".to_owned()],
        metric: None,
        durability: None,
        index: Some(proto::IndexPlace::Disk.into()),
    };
    let created =
        client.create_collection(request.clone()).await.unwrap().into_inner().collection.unwrap();
    assert_eq!(created.name, "points");
    assert_eq!(created.bits, 100);
    assert_eq!(created.encoder, Some(encoder));
    assert_eq!(created.input, Some(input));
    assert!(!created.keep_text);
    assert_eq!(created.keep_vectors(), proto::KeepVectors::F16);
    assert_eq!(created.index(), proto::IndexPlace::Disk);
    assert_eq!(created.records, 0);
    assert!(created.created.unwrap().seconds > 1_600_000_000);

    let again = client.create_collection(request).await.unwrap_err();
    check_refused(&again, Code::AlreadyExists, "COLLECTION_EXISTS", "");

    let get = proto::GetCollectionRequest { name: "points".to_owned() };
    let got = client.get_collection(get.clone()).await.unwrap().into_inner().collection.unwrap();
    assert_eq!(got, created);

    let delete = proto::DeleteCollectionRequest { name: "points".to_owned() };
    client.delete_collection(delete.clone()).await.unwrap();
    let gone = client.get_collection(get).await.unwrap_err();
    check_refused(&gone, Code::NotFound, "COLLECTION_NOT_FOUND", "");
    let gone = client.delete_collection(delete).await.unwrap_err();
    check_refused(&gone, Code::NotFound, "COLLECTION_NOT_FOUND", "");
}

/// A damaged collection is told of, and the others are served.
#[tokio::test]
async fn a_damaged_collection_is_refused_and_the_others_are_served() {
    let server = TestServer::start().await;
    server.codes("bad", 64).await;
    server.codes("good", 64).await;
    let dir = server.close().await;
    let manifest = dir.path().join("collections/bad/MANIFEST");
    let mut bytes = std::fs::read(&manifest).unwrap();
    bytes[30] ^= 1;
    std::fs::write(manifest, bytes).unwrap();
    let server = TestServer::of(dir, Listeners::from, ServerOptions::default()).await;
    let mut client = server.collections();
    let page = proto::ListCollectionsRequest::default();
    let listed = client.list_collections(page).await.unwrap().into_inner();
    assert_eq!((listed.collections.len(), listed.unopened), (1, vec!["bad".to_owned()]));
    let get = proto::GetCollectionRequest { name: "bad".to_owned() };
    let refused = client.get_collection(get).await.unwrap_err();
    assert_eq!(refused.code(), Code::DataLoss, "{refused}");
    let get = proto::GetCollectionRequest { name: "good".to_owned() };
    client.get_collection(get).await.unwrap();
    let delete = proto::DeleteCollectionRequest { name: "bad".to_owned() };
    client.delete_collection(delete).await.unwrap();
    server.codes("bad", 64).await;
}

#[tokio::test]
async fn what_is_left_out_has_its_default() {
    let server = TestServer::start().await;
    let created =
        server.create("codes", Kind::Codes(proto::CodesEncoder { bits: 9 })).await.unwrap();
    assert_eq!((created.bits, created.input), (9, None));
    assert!(created.keep_text);
    assert_eq!(created.keep_vectors(), proto::KeepVectors::None);
}

#[tokio::test]
async fn lists_come_in_pages_by_name() {
    let server = TestServer::start().await;
    for name in ["d", "a", "c", "e", "b"] {
        server.codes(name, 8).await;
    }
    let mut client = server.collections();
    let mut names = Vec::new();
    let mut request = proto::ListCollectionsRequest { page_size: 2, page_token: String::new() };
    loop {
        let page = client.list_collections(request.clone()).await.unwrap().into_inner();
        let page_names: Vec<_> = page.collections.into_iter().map(|c| c.name).collect();
        names.push(page_names.join(""));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["ab", "cd", "e"]);
    let all = client.list_collections(proto::ListCollectionsRequest::default()).await.unwrap();
    assert_eq!(all.get_ref().collections.len(), 5);
    assert_eq!(all.get_ref().next_page_token, "");
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_field() {
    let server = TestServer::start().await;
    let planes = |input: Option<input::Kind>, bits| {
        let input = input.map(|kind| proto::Input { kind: Some(kind) });
        Some(Kind::Hyperplanes(proto::HyperplaneEncoder { input, bits, seed: 0 }))
    };
    let text = || Some(input::Kind::Text(proto::TextInput {}));
    let vector = |dim| Some(input::Kind::Vector(proto::VectorInput { dim }));
    let codes = |bits| Some(Kind::Codes(proto::CodesEncoder { bits }));
    for (name, kind, keep_vectors, field) in [
        ("x", None, None, "encoder"),
        ("x", codes(0), None, "encoder.codes.bits"),
        ("x", codes(1025), None, "encoder.codes.bits"),
        ("x", planes(None, 8), None, "encoder.hyperplanes.input"),
        ("x", planes(text(), 0), None, "encoder.hyperplanes.bits"),
        ("x", planes(vector(0), 8), None, "encoder.hyperplanes.input"),
        ("x", planes(vector(u32::MAX), 1024), None, "encoder.hyperplanes.input"),
        ("x", planes(vector((1 << 14) + 1), 1024), None, "encoder.hyperplanes.input"),
        ("x", codes(8), Some(0), "keep_vectors"),
        ("x", codes(8), Some(77), "keep_vectors"),
        ("", codes(8), None, "name"),
        ("../x", codes(8), None, "name"),
    ] {
        let request = proto::CreateCollectionRequest {
            name: name.to_owned(),
            encoder: Some(proto::Encoder { kind }),
            keep_text: None,
            index_fields: Vec::new(),
            metric: None,
            durability: None,
            index: None,
            keep_vectors,
        };
        let refused = server.collections().create_collection(request).await.unwrap_err();
        check_refused(&refused, Code::InvalidArgument, "INVALID_FIELD", field);
    }
    let model = proto::ModelEncoder { name: "none".to_owned(), digest: String::new() };
    let refused = server.create("x", Kind::Model(model)).await.unwrap_err();
    check_refused(&refused, Code::NotFound, "MODEL_NOT_FOUND", "");
    let endless = proto::GetCollectionRequest { name: "x".repeat(1 << 20) };
    let refused = server.collections().get_collection(endless).await.unwrap_err();
    check_refused(&refused, Code::NotFound, "COLLECTION_NOT_FOUND", "");
    // Nothing of all this has left a trace, not even on disk.
    assert!(server.database.collections().is_empty());
    let dir = server.close().await;
    assert!(Database::open(dir.path()).unwrap().collections().is_empty());
}

#[tokio::test]
async fn a_collection_is_compacted_while_it_is_used() {
    let server = TestServer::start().await;
    server.codes("c", 64).await;
    let mut client = server.collections();
    let records = |round: u64| {
        let code =
            |i: u64| nearbit::Code::parse(&format!("{:016x}", round * 100 + i), width()).unwrap();
        (0..100).map(|i| code_record(&i.to_string(), &code(i))).collect::<Vec<_>>()
    };
    for round in 0..10 {
        server.upsert("c", records(round)).await.unwrap();
    }
    let request = proto::CompactCollectionRequest { name: "c".to_owned() };
    let done = client.compact_collection(request.clone()).await.unwrap().into_inner();
    assert!(done.bytes_after < done.bytes_before / 5, "{done:?}");
    assert_eq!((done.segments_before, done.segments_after, done.left_alone), (1, 2, 0));
    let again = client.compact_collection(request.clone()).await.unwrap().into_inner();
    assert_eq!(again.bytes_before, again.bytes_after);
    let lookup =
        proto::LookupRecordsRequest { collection: "c".to_owned(), ids: vec!["7".to_owned()] };
    let found = server.records().lookup_records(lookup).await.unwrap().into_inner().records;
    assert_eq!(found[0].code, Some(907u64.to_be_bytes().to_vec()));
    // One that is not given the time is told so, and nothing is lost.
    server.upsert("c", records(10)).await.unwrap();
    let mut hasty = tonic::Request::new(request.clone());
    hasty.set_timeout(std::time::Duration::from_micros(1));
    let late = client.compact_collection(hasty).await.unwrap_err();
    assert!(matches!(late.code(), Code::DeadlineExceeded | Code::Cancelled), "{late:?}");
    let nobody = proto::CompactCollectionRequest { name: "d".to_owned() };
    let refused = client.compact_collection(nobody).await.unwrap_err();
    check_refused(&refused, Code::NotFound, "COLLECTION_NOT_FOUND", "");
}
