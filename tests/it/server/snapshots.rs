//! SnapshotService and AdminService.

use super::proto::admin_service_client::AdminServiceClient;
use super::proto::snapshot_service_client::SnapshotServiceClient;
use super::*;

#[tokio::test]
async fn snapshots_are_made_listed_verified_and_deleted() {
    let server = TestServer::start().await;
    server.codes("codes", 16).await;
    let records: Vec<_> =
        random_codes(16, 30, 1).iter().map(|code| code_record("", code)).collect();
    server.upsert("codes", records).await.unwrap();
    let mut client = SnapshotServiceClient::new(server.channel.clone());
    let named = |name: &str| proto::CreateSnapshotRequest { name: name.to_owned() };
    let mut made = Vec::new();
    for name in ["a", "b", "c"] {
        let answer = client.create_snapshot(named(name)).await.unwrap().into_inner();
        made.push(answer.snapshot.unwrap());
    }
    assert_eq!((made[0].records, made[0].collections["codes"]), (30, 30));
    assert!(made[0].created.is_some() && made[0].files > 2 && made[0].bytes > 300);
    let status = client.create_snapshot(named("a")).await.unwrap_err();
    check_refused(&status, GrpcCode::AlreadyExists, "SNAPSHOT_EXISTS", "");
    let status = client.create_snapshot(named("../a")).await.unwrap_err();
    check_refused(&status, GrpcCode::InvalidArgument, "INVALID_FIELD", "name");

    let request = proto::ListSnapshotsRequest { page_size: 2, ..Default::default() };
    let first = client.list_snapshots(request).await.unwrap().into_inner();
    assert_eq!(first.snapshots, made[..2]);
    let page_token = first.next_page_token;
    let request = proto::ListSnapshotsRequest { page_size: 2, page_token };
    let second = client.list_snapshots(request).await.unwrap().into_inner();
    assert_eq!((second.snapshots.as_slice(), second.next_page_token.as_str()), (&made[2..], ""));

    let verify = |name: &str| proto::VerifySnapshotRequest { name: name.to_owned() };
    assert!(client.verify_snapshot(verify("a")).await.unwrap().into_inner().findings.is_empty());
    std::fs::write(server.dir.path().join("snapshots/a/FORMAT"), "no").unwrap();
    let found = client.verify_snapshot(verify("a")).await.unwrap().into_inner().findings;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].file, "snapshots/a/FORMAT", "from the data directory");
    let status = client.verify_snapshot(verify("x")).await.unwrap_err();
    check_refused(&status, GrpcCode::NotFound, "SNAPSHOT_NOT_FOUND", "");

    let delete = |name: &str| proto::DeleteSnapshotRequest { name: name.to_owned() };
    client.delete_snapshot(delete("a")).await.unwrap();
    let status = client.delete_snapshot(delete("a")).await.unwrap_err();
    check_refused(&status, GrpcCode::NotFound, "SNAPSHOT_NOT_FOUND", "");
    server.close().await;
}

#[tokio::test]
async fn a_server_checks_its_database() {
    let server = TestServer::start().await;
    server.codes("codes", 16).await;
    let records: Vec<_> =
        random_codes(16, 30, 1).iter().map(|code| code_record("", code)).collect();
    server.upsert("codes", records).await.unwrap();
    let mut client = AdminServiceClient::new(server.channel.clone());
    let checked = client.check(proto::CheckRequest {}).await.unwrap().into_inner();
    assert_eq!((checked.collections, checked.records, checked.findings.len()), (1, 30, 0));
    let segment = server.dir.path().join("collections/codes/segments/00000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let checked = client.check(proto::CheckRequest {}).await.unwrap().into_inner();
    let found = &checked.findings;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].file, "collections/codes/segments/00000001.seg");
    assert_eq!((found[0].offset, found[0].first_number, found[0].numbers), (Some(92), Some(0), 1));
    server.close().await;
}
