//! An import in progress: what a stream of records has written so far.

use std::collections::HashSet;
use std::sync::Arc;

use tonic::Status;

use super::ServerOptions;
use super::convert::durability;
use super::field::required;
use super::proto;
use super::status::{problem, status_with};
use crate::collection::Collection;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::record::{NewRecord, RecordId};

/// An import: messages go in with [`Import::add`], [`Import::finish`] sums up.
pub struct Import {
    database: Database,
    options: Arc<ServerOptions>,
    /// The collection that the first message named.
    collection: Option<Collection>,
    /// Records seen, refused ones included: the index of the next.
    seen: u64,
    summary: proto::ImportRecordsResponse,
}

impl Import {
    pub fn new(database: Database, options: Arc<ServerOptions>) -> Self {
        Self {
            database,
            options,
            collection: None,
            seen: 0,
            summary: proto::ImportRecordsResponse::default(),
        }
    }

    /// Writes the records of one message, durably. Refused records are noted; a failure of the
    /// whole ends the import, and tells how far it came.
    pub fn add(mut self, message: proto::ImportRecordsRequest) -> Result<Self, Status> {
        match self.write(message) {
            Ok(()) => Ok(self),
            Err(error) => Err(status_with(&error, [("written", self.summary.written.to_string())])),
        }
    }

    /// Makes durable what is not yet, and sums up.
    pub fn finish(self) -> Result<proto::ImportRecordsResponse, Status> {
        let synced = self.collection.map_or(Ok(()), |collection| collection.sync());
        match synced {
            Ok(()) => Ok(self.summary),
            Err(error) => Err(status_with(&error, [("written", self.summary.written.to_string())])),
        }
    }

    fn write(&mut self, message: proto::ImportRecordsRequest) -> Result<()> {
        let collection = self.collection(&message.collection)?;
        let durability = durability(message.durability)?;
        let (count, max) = (message.records.len(), self.options.max_records);
        if count > max {
            let message = format!("expected at most {max} in one message, got {count}");
            return Err(Error::invalid("records", message));
        }
        let mut good = Vec::with_capacity(count);
        let mut ids = HashSet::new();
        for record in message.records {
            let id = record.id.clone();
            match check(record, &collection, &mut ids) {
                Ok(record) => good.push(record),
                Err(error) => self.reject(id, &error),
            }
            self.seen += 1;
        }
        if good.is_empty() {
            return Ok(());
        }
        let upserted = match durability {
            Some(durability) => collection.upsert_with(good, durability)?,
            None => collection.upsert(good)?,
        };
        self.summary.written += upserted.len() as u64;
        self.summary.replaced += upserted.iter().filter(|u| u.replaced).count() as u64;
        Ok(())
    }

    /// The collection of the import, which `name` names or leaves as it is.
    fn collection(&mut self, name: &str) -> Result<Collection> {
        match &self.collection {
            Some(collection) if name.is_empty() || name == collection.name() => {
                Ok(collection.clone())
            }
            Some(collection) => Err(Error::invalid(
                "collection",
                format!("expected {:?} in all messages, got {name:?}", collection.name()),
            )),
            None => {
                let name = Some(name).filter(|name| !name.is_empty());
                let name = required(name, "collection", "a name in the first message")?;
                Ok(self.collection.insert(self.database.collection(name)?).clone())
            }
        }
    }

    fn reject(&mut self, mut id: String, error: &Error) {
        self.summary.rejected += 1;
        if self.summary.rejections.len() < self.options.max_rejections {
            if id.len() > RecordId::MAX_BYTES {
                id.clear();
            }
            let problem = Some(problem(error));
            let index = self.seen;
            self.summary.rejections.push(proto::RejectedRecord { index, id, problem });
        }
    }
}

/// The record, where the collection will take it and its id is not among `ids`.
fn check(
    record: proto::NewRecord,
    collection: &Collection,
    ids: &mut HashSet<RecordId>,
) -> Result<NewRecord> {
    let record = record.into_record(collection.width())?;
    collection.check(&record)?;
    if let Some(id) = &record.id
        && !ids.insert(id.clone())
    {
        let message = "the same id stands earlier in this message; send it in a later one";
        return Err(Error::invalid("id", message));
    }
    Ok(record)
}
