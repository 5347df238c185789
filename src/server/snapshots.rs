//! SnapshotService and AdminService: copies of the database, and checks of it.

use prost_types::Timestamp;
use tonic::{Request, Response, Status};

use super::api::{Api, open};
use super::field::at;
use super::proto;
use super::proto::admin_service_server::AdminService;
use super::proto::snapshot_service_server::SnapshotService;
use crate::database::Snapshot;
use crate::error::{Error, Result};
use crate::store::Finding;

#[tonic::async_trait]
impl SnapshotService for Api {
    async fn create_snapshot(
        &self,
        request: Request<proto::CreateSnapshotRequest>,
    ) -> Result<Response<proto::CreateSnapshotResponse>, Status> {
        let (call, proto::CreateSnapshotRequest { name }) = open(request)?;
        let api = self.clone();
        self.work(&call, move || {
            let snapshot = api.database.create_snapshot(&name).map_err(at_name)?;
            Ok(proto::CreateSnapshotResponse { snapshot: Some(snapshot.into()) })
        })
        .await
    }

    async fn list_snapshots(
        &self,
        request: Request<proto::ListSnapshotsRequest>,
    ) -> Result<Response<proto::ListSnapshotsResponse>, Status> {
        let (call, request) = open(request)?;
        let api = self.clone();
        self.work(&call, move || {
            let mut snapshots = api.database.snapshots()?;
            snapshots.retain(|snapshot| snapshot.name > request.page_token);
            let size = api.page_size(request.page_size);
            let more = snapshots.len() > size;
            snapshots.truncate(size);
            let last = snapshots.last().filter(|_| more);
            Ok(proto::ListSnapshotsResponse {
                next_page_token: last.map_or(String::new(), |last| last.name.clone()),
                snapshots: snapshots.into_iter().map(Into::into).collect(),
            })
        })
        .await
    }

    async fn verify_snapshot(
        &self,
        request: Request<proto::VerifySnapshotRequest>,
    ) -> Result<Response<proto::VerifySnapshotResponse>, Status> {
        let (call, proto::VerifySnapshotRequest { name }) = open(request)?;
        let api = self.clone();
        self.work(&call, move || {
            let findings = api.database.verify_snapshot(&name).map_err(at_name)?;
            Ok(proto::VerifySnapshotResponse { findings: api.findings(findings) })
        })
        .await
    }

    async fn delete_snapshot(
        &self,
        request: Request<proto::DeleteSnapshotRequest>,
    ) -> Result<Response<proto::DeleteSnapshotResponse>, Status> {
        let (call, proto::DeleteSnapshotRequest { name }) = open(request)?;
        let api = self.clone();
        self.work(&call, move || {
            api.database.delete_snapshot(&name).map_err(at_name)?;
            Ok(proto::DeleteSnapshotResponse {})
        })
        .await
    }
}

#[tonic::async_trait]
impl AdminService for Api {
    async fn check(
        &self,
        request: Request<proto::CheckRequest>,
    ) -> Result<Response<proto::CheckResponse>, Status> {
        let (call, proto::CheckRequest {}) = open(request)?;
        let api = self.clone();
        self.work(&call, move || {
            let report = api.database.check()?;
            Ok(proto::CheckResponse {
                collections: report.collections,
                models: report.models,
                records: report.records,
                bytes: report.bytes,
                table_entries: report.table_entries,
                findings: api.findings(report.findings),
            })
        })
        .await
    }
}

impl Api {
    /// Where the data directory is, is none of a client's business.
    fn findings(&self, findings: Vec<Finding>) -> Vec<proto::Finding> {
        let finding = |finding: Finding| {
            let numbers = finding.numbers;
            let file = finding.file.strip_prefix(self.database.dir()).unwrap_or(&finding.file);
            proto::Finding {
                file: file.display().to_string(),
                offset: finding.offset,
                first_number: (!numbers.is_empty()).then_some(numbers.start),
                numbers: numbers.end.saturating_sub(numbers.start),
                id: finding.id.unwrap_or_default(),
                message: finding.message,
            }
        };
        findings.into_iter().map(finding).collect()
    }
}

/// The database speaks of a snapshot; the client wrote a name.
fn at_name(error: Error) -> Error {
    match &error {
        Error::Invalid { place, .. } if place == "snapshot" => at("name", error),
        _ => error,
    }
}

impl From<Snapshot> for proto::Snapshot {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            name: snapshot.name,
            created: Some(Timestamp { seconds: snapshot.created as i64, nanos: 0 }),
            collections: snapshot.collections.into_iter().collect(),
            records: snapshot.records,
            files: snapshot.files,
            bytes: snapshot.bytes,
        }
    }
}
