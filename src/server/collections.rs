//! CollectionService: creates, describes, lists, tends and deletes collections.

use std::time::Instant;

use tonic::{Request, Response, Status};

use super::api::{Api, open};
use super::convert::durability;
use super::field::{at, required};
use super::proto;
use super::proto::collection_service_server::CollectionService;
use crate::code::Width;
use crate::encoder::EncoderSpec;
use crate::error::{Error, Result};
use crate::filter::Field;
use crate::input::InputKind;

/// The most numbers that the hyperplanes of one collection may have, which are drawn at each open and
/// held in memory: 64 MiB of them. In the process itself there may be more.
const MAX_PLANE_NUMBERS: usize = 1 << 24;

#[tonic::async_trait]
impl CollectionService for Api {
    async fn create_collection(
        &self,
        request: Request<proto::CreateCollectionRequest>,
    ) -> Result<Response<proto::CreateCollectionResponse>, Status> {
        let (call, request) = open(request)?;
        let api = self.clone();
        self.work(&call, move || api.create(&request)).await
    }

    async fn get_collection(
        &self,
        request: Request<proto::GetCollectionRequest>,
    ) -> Result<Response<proto::GetCollectionResponse>, Status> {
        let (call, proto::GetCollectionRequest { name }) = open(request)?;
        let api = self.clone();
        self.work(&call, move || {
            let collection = api.database.collection(&name)?;
            Ok(proto::GetCollectionResponse { collection: Some((&collection).into()) })
        })
        .await
    }

    async fn list_collections(
        &self,
        request: Request<proto::ListCollectionsRequest>,
    ) -> Result<Response<proto::ListCollectionsResponse>, Status> {
        let (call, request) = open(request)?;
        let api = self.clone();
        self.work(&call, move || api.list_collections_page(&request)).await
    }

    async fn delete_collection(
        &self,
        request: Request<proto::DeleteCollectionRequest>,
    ) -> Result<Response<proto::DeleteCollectionResponse>, Status> {
        let (call, proto::DeleteCollectionRequest { name }) = open(request)?;
        let api = self.clone();
        self.work(&call, move || {
            api.database.delete_collection(&name)?;
            Ok(proto::DeleteCollectionResponse {})
        })
        .await
    }

    async fn index_field(
        &self,
        request: Request<proto::IndexFieldRequest>,
    ) -> Result<Response<proto::IndexFieldResponse>, Status> {
        let (call, proto::IndexFieldRequest { collection, field }) = open(request)?;
        let api = self.clone();
        self.work(&call, move || {
            let created =
                api.database.collection(&collection)?.index_field(Field::parse(&field)?)?;
            Ok(proto::IndexFieldResponse { created })
        })
        .await
    }

    async fn drop_field_index(
        &self,
        request: Request<proto::DropFieldIndexRequest>,
    ) -> Result<Response<proto::DropFieldIndexResponse>, Status> {
        let (call, proto::DropFieldIndexRequest { collection, field }) = open(request)?;
        let api = self.clone();
        self.work(&call, move || {
            let field = Field::parse(&field)?;
            let dropped = api.database.collection(&collection)?.drop_field_index(&field)?;
            Ok(proto::DropFieldIndexResponse { dropped })
        })
        .await
    }

    async fn set_durability(
        &self,
        request: Request<proto::SetDurabilityRequest>,
    ) -> Result<Response<proto::SetDurabilityResponse>, Status> {
        let (call, proto::SetDurabilityRequest { collection, durability: wanted }) = open(request)?;
        let api = self.clone();
        self.work(&call, move || {
            let wanted =
                required(durability(wanted)?, "durability", "one of sync and interval_ms")?;
            api.database.collection(&collection)?.set_durability(wanted)?;
            Ok(proto::SetDurabilityResponse {})
        })
        .await
    }

    async fn compact_collection(
        &self,
        request: Request<proto::CompactCollectionRequest>,
    ) -> Result<Response<proto::CompactCollectionResponse>, Status> {
        let (call, proto::CompactCollectionRequest { name }) = open(request)?;
        let (api, deadline) = (self.clone(), call.deadline);
        self.work(&call, move || {
            let collection = api.database.collection(&name)?;
            let done = collection.compact_while(|| match *api.stopping.borrow() {
                true => Err(Error::Interrupted),
                false if Instant::now() >= deadline => Err(Error::Timeout),
                false => Ok(()),
            })?;
            Ok(proto::CompactCollectionResponse {
                bytes_before: done.bytes_before,
                bytes_after: done.bytes_after,
                segments_before: done.segments_before as u32,
                segments_after: done.segments_after as u32,
                left_alone: done.left_alone.len() as u32,
                table_bytes_before: done.table_bytes_before,
                table_bytes_after: done.table_bytes_after,
            })
        })
        .await
    }
}

/// An error for planes that would be too large for what they cost a client.
fn check_planes(input: InputKind, width: Width) -> Result<()> {
    let dim = match input {
        InputKind::Text => 0,
        InputKind::Vector { dim } => dim,
        InputKind::Image { height, width } => height.saturating_mul(width),
    };
    let most = MAX_PLANE_NUMBERS / width.bits();
    if dim <= most {
        return Ok(());
    }
    let message = format!("expected rows of 1 to {most} numbers for {width}, got {dim}");
    Err(Error::invalid("encoder.hyperplanes.input", message))
}

impl Api {
    fn create(
        &self,
        request: &proto::CreateCollectionRequest,
    ) -> Result<proto::CreateCollectionResponse> {
        let settings = request.settings()?;
        if let EncoderSpec::Hyperplanes { input, width, .. } = settings.encoder {
            check_planes(input, width)?;
        }
        let created = self.database.create_collection(&request.name, &settings);
        let collection = created.map_err(|error| match &error {
            // The database speaks of names and inputs; the client wrote fields.
            Error::Invalid { place, .. } if place == "collection" => at("name", error),
            Error::Invalid { place, .. } if place == "input" => {
                at("encoder.hyperplanes.input", error)
            }
            Error::Invalid { place, .. } if place == "model" => at("encoder.model.name", error),
            _ => error,
        })?;
        Ok(proto::CreateCollectionResponse { collection: Some((&collection).into()) })
    }

    fn list_collections_page(
        &self,
        request: &proto::ListCollectionsRequest,
    ) -> Result<proto::ListCollectionsResponse> {
        // The token is the name that the last page ended with: a name that is deleted meanwhile
        // still has its place in the order.
        let after = request.page_token.as_str();
        let mut collections = self.database.collections();
        collections.retain(|collection| collection.name() > after);
        let size = self.page_size(request.page_size);
        let more = collections.len() > size;
        collections.truncate(size);
        let last = collections.last().filter(|_| more);
        let unopened = match after {
            "" => self.database.unopened().into_iter().map(|(name, _)| name).collect(),
            _ => Vec::new(),
        };
        Ok(proto::ListCollectionsResponse {
            next_page_token: last.map_or(String::new(), |last| last.name().to_owned()),
            collections: collections.iter().map(Into::into).collect(),
            unopened,
        })
    }

    /// The size of a page: the default for 0, and never more than the limit.
    pub fn page_size(&self, asked: u32) -> usize {
        match asked as usize {
            0 => self.options.default_page_size,
            asked => asked.min(self.options.max_page_size),
        }
    }
}
