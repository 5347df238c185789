//! RecordService: writes, reads, deletes and lists records.

use prost::Message as _;
use tonic::{Request, Response, Status, Streaming};

use super::api::{Api, check_count, open};
use super::convert::{durability, ids, records};
use super::field::required;
use super::filter::filter;
use super::import::Import;
use super::proto;
use super::proto::record_service_server::RecordService;
use super::status::{as_elsewhere, refuse};
use crate::collection::{Collection, Page};
use crate::error::{Error, Result};
use crate::record::RecordId;

/// Records that are read at once, before their size is looked at.
const CHUNK: usize = 64;

#[tonic::async_trait]
impl RecordService for Api {
    async fn upsert_records(
        &self,
        request: Request<proto::UpsertRecordsRequest>,
    ) -> Result<Response<proto::UpsertRecordsResponse>, Status> {
        let (call, request) = open(request)?;
        let room = self.write_room(&request)?;
        let api = self.clone();
        self.work(&call, move || {
            let _room = room;
            check_count("records", request.records.len(), api.options.max_records)?;
            let collection = api.database.collection(&request.collection)?;
            let records = records(request.records, collection.width())?;
            let upserted = match durability(request.durability)? {
                Some(durability) => collection.upsert_with(records, durability)?,
                None => collection.upsert(records)?,
            };
            let records = upserted.into_iter().map(Into::into).collect();
            Ok(proto::UpsertRecordsResponse { records })
        })
        .await
    }

    async fn lookup_records(
        &self,
        request: Request<proto::LookupRecordsRequest>,
    ) -> Result<Response<proto::LookupRecordsResponse>, Status> {
        let (call, request) = open(request)?;
        let api = self.clone();
        self.work(&call, move || {
            check_count("ids", request.ids.len(), api.options.max_lookups)?;
            let collection = api.database.collection(&request.collection)?;
            lookup(&collection, &ids(request.ids)?, api.options.max_message_bytes)
        })
        .await
    }

    async fn delete_records(
        &self,
        request: Request<proto::DeleteRecordsRequest>,
    ) -> Result<Response<proto::DeleteRecordsResponse>, Status> {
        let (call, request) = open(request)?;
        let room = self.write_room(&request)?;
        let api = self.clone();
        self.work(&call, move || {
            let _room = room;
            check_count("ids", request.ids.len(), api.options.max_records)?;
            let collection = api.database.collection(&request.collection)?;
            let ids = ids(request.ids)?;
            let deleted = match durability(request.durability)? {
                Some(durability) => collection.delete_with(&ids, durability)?,
                None => collection.delete(&ids)?,
            };
            Ok(proto::DeleteRecordsResponse { deleted })
        })
        .await
    }

    async fn import_records(
        &self,
        request: Request<Streaming<proto::ImportRecordsRequest>>,
    ) -> Result<Response<proto::ImportRecordsResponse>, Status> {
        let (call, mut messages) = open(request)?;
        let mut import = Import::new(self.database.clone(), self.options.clone());
        loop {
            let message =
                tokio::time::timeout(self.options.stream_idle_timeout, messages.message());
            let message = match message.await {
                Ok(message) => message.map_err(as_elsewhere)?,
                Err(_) => return Err(self.idle()),
            };
            let Some(message) = message else { break };
            let room = self.write_room_in_turn(&message).await?;
            let add = move || {
                let _room = room;
                import.add(message)
            };
            let added = self.run(&call, add).await?;
            import = added?;
        }
        let summary = self.run(&call, move || import.finish()).await??;
        Ok(Response::new(summary))
    }

    async fn list_records(
        &self,
        request: Request<proto::ListRecordsRequest>,
    ) -> Result<Response<proto::ListRecordsResponse>, Status> {
        let (call, request) = open(request)?;
        let (api, deadline) = (self.clone(), call.deadline);
        self.work(&call, move || {
            let collection = api.database.collection(&request.collection)?;
            let after = match request.page_token.as_str() {
                "" => None,
                token => Some(read_token(token, &request.collection)?),
            };
            let filter = filter(request.filter)?;
            let list = |after, limit| match &filter {
                None => collection.list(after, limit),
                Some(filter) => {
                    collection.list_matching_before(filter, after, limit, Some(deadline))
                }
            };
            let size = api.page_size(request.page_size);
            let page = page(list, after, size, api.options.max_page_bytes)?;
            let token = |next| write_token(next, &request.collection);
            Ok(proto::ListRecordsResponse {
                next_page_token: page.next.map_or(String::new(), token),
                records: page.records,
            })
        })
        .await
    }

    async fn count_records(
        &self,
        request: Request<proto::CountRecordsRequest>,
    ) -> Result<Response<proto::CountRecordsResponse>, Status> {
        let (call, request) = open(request)?;
        let (api, deadline) = (self.clone(), call.deadline);
        self.work(&call, move || {
            let collection = api.database.collection(&request.collection)?;
            let count = match filter(request.filter)? {
                None => collection.info().records,
                Some(filter) => collection.count_before(&filter, Some(deadline))?,
            };
            Ok(proto::CountRecordsResponse { count })
        })
        .await
    }

    async fn delete_matching_records(
        &self,
        request: Request<proto::DeleteMatchingRecordsRequest>,
    ) -> Result<Response<proto::DeleteMatchingRecordsResponse>, Status> {
        let (call, request) = open(request)?;
        let (api, deadline) = (self.clone(), call.deadline);
        self.work(&call, move || {
            let collection = api.database.collection(&request.collection)?;
            let filter = required(filter(request.filter)?, "filter", "a filter")?;
            Ok(proto::DeleteMatchingRecordsResponse {
                deleted: collection.delete_matching_before(&filter, Some(deadline))?,
            })
        })
        .await
    }
}

impl Api {
    /// The status of a stream on which nothing has happened for too long.
    pub fn idle(&self) -> Status {
        let seconds = self.options.stream_idle_timeout.as_secs_f64();
        refuse(
            tonic::Code::DeadlineExceeded,
            "STREAM_IDLE",
            format!("nothing came for {seconds} s, which is the limit; end a stream or use it"),
        )
    }
}

/// The records of `ids`. It stops reading once they are more than `max_bytes`: such an answer will
/// be refused.
fn lookup(
    collection: &Collection,
    ids: &[RecordId],
    max_bytes: usize,
) -> Result<proto::LookupRecordsResponse> {
    let mut answer = proto::LookupRecordsResponse::default();
    let mut bytes = 0;
    for ids in ids.chunks(CHUNK) {
        for (id, found) in ids.iter().zip(collection.get(ids)?) {
            match found.map(proto::Record::from) {
                Some(record) => {
                    bytes += record.encoded_len();
                    answer.records.push(record);
                }
                None => answer.missing_ids.push(id.to_string()),
            }
        }
        if bytes > max_bytes {
            break;
        }
    }
    Ok(answer)
}

/// A page of at most `size` records and, but for a single record that is larger, `max_bytes`.
fn page(
    list: impl Fn(Option<u64>, usize) -> Result<Page>,
    mut after: Option<u64>,
    size: usize,
    max_bytes: usize,
) -> Result<PageOfMessages> {
    let mut page = PageOfMessages { records: Vec::new(), next: None };
    let mut bytes = 0;
    let mut chunk = CHUNK;
    while page.records.len() < size {
        let limit = chunk.min(size - page.records.len());
        let Page { records, next } = list(after, limit)?;
        let records: Vec<proto::Record> = records.into_iter().map(Into::into).collect();
        let more: usize = records.iter().map(|record| record.encoded_len()).sum();
        if bytes + more > max_bytes {
            // Read again in smaller steps, down to a single record, which is let through where
            // the page has none yet: a page without records would never end.
            if limit > 1 {
                chunk = limit / 2;
                continue;
            }
            if !page.records.is_empty() {
                break;
            }
        }
        bytes += more;
        page.records.extend(records);
        page.next = next;
        if next.is_none() {
            break;
        }
        after = next;
    }
    Ok(page)
}

/// A page whose records are as large as they will be on the wire.
struct PageOfMessages {
    records: Vec<proto::Record>,
    next: Option<u64>,
}

/// A page token: the number of the record that the page ended with, and a checksum over it and
/// the collection's name, so that the token of another list, or one made up, is noticed.
fn write_token(number: u64, collection: &str) -> String {
    format!("{number:x}.{:08x}", checksum(number, collection))
}

fn read_token(token: &str, collection: &str) -> Result<u64> {
    let parts = token.split_once('.').and_then(|(number, sum)| {
        Some((u64::from_str_radix(number, 16).ok()?, u32::from_str_radix(sum, 16).ok()?))
    });
    match parts {
        Some((number, sum)) if sum == checksum(number, collection) => Ok(number),
        _ => Err(Error::invalid(
            "page_token",
            "expected the next_page_token of a page of this collection, unchanged; leave it empty \
             to begin anew",
        )),
    }
}

fn checksum(number: u64, collection: &str) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(collection.as_bytes()), &number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_one_number_and_one_collection() {
        for number in [0, 1, 255, u64::MAX] {
            let token = write_token(number, "news");
            assert_eq!(read_token(&token, "news").unwrap(), number);
            assert!(read_token(&token, "sports").is_err());
            assert!(read_token(&format!("1{token}"), "news").is_err());
        }
        for bad in ["", ".", "1", "zz.00000000", "1.1", "-1.00000000"] {
            assert!(read_token(bad, "news").is_err(), "{bad:?}");
        }
    }
}
