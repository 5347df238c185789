//! From the wire to the vocabulary and back.
//!
//! What is unset, unspecified or unknown is refused with the path of its field, never ignored.

use prost_types::Timestamp;

use super::field::{at, required};
use super::proto;
use crate::code::{Code, Width};
use crate::collection::{
    Collection, CollectionSettings, IndexPlace, IndexedField, KeepVectors, Metric, Upserted,
};
use crate::encoder::{EncoderInfo, EncoderSpec};
use crate::error::{Error, Result};
use crate::filter::Field;
use crate::index::Plan;
use crate::input::{Image, InputKind};
use crate::record::{NewRecord, Payload, Record, RecordId, Source};
use crate::search::{Answer, Diversity, GroupBy, Hit, Query, Rescore, SearchStats};
use crate::store::Durability;

/// Candidates that diverse hits are chosen from, where a request does not say.
const DEFAULT_CANDIDATES: usize = 100;

/// A size from the wire; any `u32` is one.
fn size(value: u32) -> usize {
    value as usize
}

/// The value of an enum field, or an error where a newer or broken client sent another.
fn unknown(place: &str, expected: &str, value: i32) -> Error {
    let message = match value {
        0 => format!("expected {expected}, got UNSPECIFIED; leave the field out for its default"),
        _ => format!("expected {expected}, got the unknown value {value}"),
    };
    Error::invalid(place, message)
}

// Collections

impl proto::CreateCollectionRequest {
    /// The settings of the collection to make.
    pub fn settings(&self) -> Result<CollectionSettings> {
        let mut settings = CollectionSettings::new(encoder_spec(self.encoder.as_ref())?);
        if let Some(keep) = self.keep_text {
            settings.keep_text = keep;
        }
        if let Some(keep) = self.keep_vectors {
            settings.keep_vectors = keep_vectors(keep)?;
        }
        if let Some(wanted) = self.metric {
            settings.metric = metric(wanted)?;
        }
        if let Some(wanted) = durability(self.durability)? {
            settings.durability = wanted;
        }
        if let Some(wanted) = self.index {
            settings.index = index_place(wanted)?;
        }
        let field = |(i, name): (usize, &String)| {
            Field::parse(name).map_err(|e| at(&format!("index_fields[{i}]"), e))
        };
        settings.index_fields =
            self.index_fields.iter().enumerate().map(field).collect::<Result<_>>()?;
        Ok(settings)
    }
}

fn encoder_spec(encoder: Option<&proto::Encoder>) -> Result<EncoderSpec> {
    use proto::encoder::Kind;
    let kind = encoder.and_then(|encoder| encoder.kind.as_ref());
    Ok(match required(kind, "encoder", "one of model, hyperplanes and codes")? {
        Kind::Model(model) => EncoderSpec::Model(model.name.clone()),
        Kind::Hyperplanes(proto::HyperplaneEncoder { input, bits, seed }) => {
            let within = |e: Error| e.within("encoder.hyperplanes.");
            EncoderSpec::Hyperplanes {
                input: input_kind(input.as_ref()).map_err(within)?,
                width: Width::new(size(*bits)).map_err(within)?,
                seed: *seed,
            }
        }
        Kind::Codes(proto::CodesEncoder { bits }) => EncoderSpec::Codes {
            width: Width::new(size(*bits)).map_err(|e| e.within("encoder.codes."))?,
        },
    })
}

fn input_kind(input: Option<&proto::Input>) -> Result<InputKind> {
    use proto::input::Kind;
    let kind = input.and_then(|input| input.kind.as_ref());
    Ok(match required(kind, "input", "one of text, vector and image")? {
        Kind::Text(proto::TextInput {}) => InputKind::Text,
        Kind::Vector(proto::VectorInput { dim }) => InputKind::Vector { dim: size(*dim) },
        Kind::Image(proto::ImageInput { height, width }) => {
            InputKind::Image { height: size(*height), width: size(*width) }
        }
    })
}

fn keep_vectors(keep: i32) -> Result<KeepVectors> {
    match proto::KeepVectors::try_from(keep) {
        Ok(proto::KeepVectors::None) => Ok(KeepVectors::None),
        Ok(proto::KeepVectors::F16) => Ok(KeepVectors::F16),
        Ok(proto::KeepVectors::F32) => Ok(KeepVectors::F32),
        Ok(proto::KeepVectors::Unspecified) | Err(_) => Err(unknown(
            "keep_vectors",
            "KEEP_VECTORS_NONE, KEEP_VECTORS_F16 or KEEP_VECTORS_F32",
            keep,
        )),
    }
}

fn metric(metric: i32) -> Result<Metric> {
    match proto::Metric::try_from(metric) {
        Ok(proto::Metric::Cosine) => Ok(Metric::Cosine),
        Ok(proto::Metric::Dot) => Ok(Metric::Dot),
        Ok(proto::Metric::L2) => Ok(Metric::L2),
        Ok(proto::Metric::Unspecified) | Err(_) => {
            Err(unknown("metric", "METRIC_COSINE, METRIC_DOT or METRIC_L2", metric))
        }
    }
}
fn index_place(place: i32) -> Result<IndexPlace> {
    match proto::IndexPlace::try_from(place) {
        Ok(proto::IndexPlace::Memory) => Ok(IndexPlace::Memory),
        Ok(proto::IndexPlace::Disk) => Ok(IndexPlace::Disk),
        Ok(proto::IndexPlace::Unspecified) | Err(_) => {
            Err(unknown("index", "INDEX_PLACE_MEMORY or INDEX_PLACE_DISK", place))
        }
    }
}

/// When a write is to be durable, where it says so.
pub fn durability(message: Option<proto::Durability>) -> Result<Option<Durability>> {
    use proto::durability::Kind;
    let Some(proto::Durability { kind }) = message else { return Ok(None) };
    Ok(Some(match required(kind, "durability", "one of sync and interval_ms")? {
        Kind::Sync(proto::SyncDurability {}) => Durability::Sync,
        Kind::IntervalMs(millis) => {
            Durability::interval(millis).map_err(|error| at("durability.interval_ms", error))?
        }
    }))
}

impl From<Durability> for proto::Durability {
    fn from(durability: Durability) -> Self {
        use proto::durability::Kind;
        let kind = match durability {
            Durability::Sync => Kind::Sync(proto::SyncDurability {}),
            Durability::Interval(interval) => Kind::IntervalMs(interval.millis()),
        };
        Self { kind: Some(kind) }
    }
}

impl From<&Collection> for proto::Collection {
    fn from(collection: &Collection) -> Self {
        let (info, stats) = (collection.info(), collection.sizes().store);
        let keep_vectors = match info.keep_vectors {
            KeepVectors::None => proto::KeepVectors::None,
            KeepVectors::F16 => proto::KeepVectors::F16,
            KeepVectors::F32 => proto::KeepVectors::F32,
        };
        let metric = match info.metric {
            Metric::Cosine => proto::Metric::Cosine,
            Metric::Dot => proto::Metric::Dot,
            Metric::L2 => proto::Metric::L2,
        };
        let index = match info.index {
            IndexPlace::Memory => proto::IndexPlace::Memory,
            IndexPlace::Disk => proto::IndexPlace::Disk,
        };
        Self {
            name: info.name,
            bits: info.width.bits() as u32,
            encoder: Some(info.encoder.into()),
            input: collection.input().map(Into::into),
            keep_text: info.keep_text,
            keep_vectors: keep_vectors.into(),
            metric: metric.into(),
            durability: Some(info.durability.into()),
            index: index.into(),
            damaged: stats.damaged,
            scrubs: stats.scrubs,
            records: info.records,
            created: Some(Timestamp { seconds: info.created as i64, nanos: 0 }),
            index_fields: info.index_fields.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<IndexedField> for proto::IndexedField {
    fn from(indexed: IndexedField) -> Self {
        let IndexedField { field, values, complete } = indexed;
        Self { field: field.to_string(), values: values as u64, complete }
    }
}

impl From<EncoderInfo> for proto::Encoder {
    fn from(info: EncoderInfo) -> Self {
        use proto::encoder::Kind;
        let kind = match info {
            EncoderInfo::Model { name, digest } => {
                Kind::Model(proto::ModelEncoder { name, digest })
            }
            EncoderInfo::Hyperplanes { input, bits, seed } => {
                Kind::Hyperplanes(proto::HyperplaneEncoder {
                    input: Some(input.into()),
                    bits: bits as u32,
                    seed,
                })
            }
            EncoderInfo::Codes { bits } => Kind::Codes(proto::CodesEncoder { bits: bits as u32 }),
        };
        Self { kind: Some(kind) }
    }
}

impl From<InputKind> for proto::Input {
    fn from(input: InputKind) -> Self {
        use proto::input::Kind;
        let kind = match input {
            InputKind::Text => Kind::Text(proto::TextInput {}),
            InputKind::Vector { dim } => Kind::Vector(proto::VectorInput { dim: dim as u32 }),
            InputKind::Image { height, width } => {
                Kind::Image(proto::ImageInput { height: height as u32, width: width as u32 })
            }
        };
        Self { kind: Some(kind) }
    }
}

// Records

impl proto::NewRecord {
    /// The record, for a collection whose codes have `width`.
    pub fn into_record(self, width: Width) -> Result<NewRecord> {
        use proto::new_record::Source as Wire;
        let id = match self.id.as_str() {
            "" => None,
            _ => Some(RecordId::new(self.id)?),
        };
        let source = match self.source {
            None => None,
            Some(Wire::Text(text)) => Some(Source::Text(text)),
            Some(Wire::Vector(vector)) => Some(Source::Vector(vector.values)),
            Some(Wire::Image(image)) => Some(Source::Image(image.into())),
            Some(Wire::Code(code)) => Some(Source::Code(Code::from_bytes(width, &code)?)),
        };
        let payload = match self.payload_json.as_str() {
            "" => Payload::default(),
            json => Payload::from_json(json).map_err(|e| at("payload_json", e))?,
        };
        Ok(NewRecord { id, source, payload })
    }
}

/// Records of a request, their errors placed at `records[3].code`.
pub fn records(records: Vec<proto::NewRecord>, width: Width) -> Result<Vec<NewRecord>> {
    let convert = |(i, record): (usize, proto::NewRecord)| {
        record.into_record(width).map_err(|e| e.within(&format!("records[{i}].")))
    };
    records.into_iter().enumerate().map(convert).collect()
}

/// Ids of a request, their errors placed at `ids[3]`.
pub fn ids(ids: Vec<String>) -> Result<Vec<RecordId>> {
    let convert = |(i, id)| RecordId::new(id).map_err(|e| at(&format!("ids[{i}]"), e));
    ids.into_iter().enumerate().map(convert).collect()
}

impl From<proto::Image> for Image {
    fn from(image: proto::Image) -> Self {
        Self { height: size(image.height), width: size(image.width), pixels: image.pixels }
    }
}

impl From<Record> for proto::Record {
    fn from(record: Record) -> Self {
        Self {
            id: record.id.into(),
            code: record.code.map(|code| code.to_bytes()),
            payload_json: match record.payload.is_empty() {
                true => String::new(),
                false => record.payload.to_json(),
            },
            text: record.text,
            vector: record.vector.map(|values| proto::Vector { values }),
        }
    }
}

impl From<Upserted> for proto::UpsertedRecord {
    fn from(upserted: Upserted) -> Self {
        Self { id: upserted.id.into(), replaced: upserted.replaced }
    }
}

// Searches

/// The query, for a collection whose codes have `width`; errors are placed at `query.code`.
pub fn query(query: Option<proto::Query>, width: Width) -> Result<Query> {
    use proto::query::Kind;
    let kind = query.and_then(|query| query.kind);
    let kind = required(kind, "query", "one of text, vector, image, code and id")?;
    let query = match kind {
        Kind::Text(text) => Query::Source(Source::Text(text)),
        Kind::Vector(vector) => Query::Source(Source::Vector(vector.values)),
        Kind::Image(image) => Query::Source(Source::Image(image.into())),
        Kind::Code(code) => Code::from_bytes(width, &code)
            .map(|code| Query::Source(Source::Code(code)))
            .map_err(|e| e.within("query."))?,
        Kind::Id(id) => RecordId::new(id).map(Query::Id).map_err(|e| e.within("query."))?,
    };
    Ok(query)
}

/// The plan of a request: automatic where it does not say.
pub fn plan(plan: Option<i32>) -> Result<Plan> {
    let Some(plan) = plan else { return Ok(Plan::Auto) };
    match proto::Plan::try_from(plan) {
        Ok(proto::Plan::Auto) => Ok(Plan::Auto),
        Ok(proto::Plan::Probe) => Ok(Plan::Probe),
        Ok(proto::Plan::Scan) => Ok(Plan::Scan),
        Ok(proto::Plan::Unspecified) | Err(_) => {
            Err(unknown("plan", "PLAN_AUTO, PLAN_PROBE or PLAN_SCAN", plan))
        }
    }
}

/// The rescoring of a request.
pub fn rescore(rescore: proto::Rescore) -> Result<Rescore> {
    let plain = match proto::RescoreBy::try_from(rescore.by) {
        Ok(proto::RescoreBy::Asymmetric) => Rescore::asymmetric(),
        Ok(proto::RescoreBy::Vector) => Rescore::vector(),
        Ok(proto::RescoreBy::Unspecified) | Err(_) => {
            let expected = "RESCORE_BY_ASYMMETRIC or RESCORE_BY_VECTOR";
            return Err(unknown("rescore.by", expected, rescore.by));
        }
    };
    Ok(rescore.oversampling.map_or(plain, |oversampling| plain.of(size(oversampling))))
}

/// The diversity of a request.
pub fn diversity(diversity: proto::Diversity) -> Diversity {
    let proto::Diversity { weight, candidates } = diversity;
    Diversity { weight, candidates: candidates.map_or(DEFAULT_CANDIDATES, size) }
}

/// The groups of a request.
pub fn group_by(group_by: proto::GroupBy) -> Result<GroupBy> {
    let field = Field::parse(&group_by.field).map_err(|e| at("group_by.field", e))?;
    Ok(GroupBy { field, size: group_by.size.map_or(1, size) })
}

impl From<Answer> for proto::SearchResponse {
    fn from(answer: Answer) -> Self {
        Self {
            hits: answer.hits.into_iter().map(Into::into).collect(),
            complete: answer.complete,
            stats: Some(answer.stats.into()),
        }
    }
}

impl From<Hit> for proto::Hit {
    fn from(hit: Hit) -> Self {
        Self {
            id: hit.id.into(),
            distance: hit.distance,
            score: hit.score,
            payload_json: hit.payload.map(|payload| payload.to_json()),
            group: hit.group.as_ref().map(super::filter::to_wire),
        }
    }
}

impl From<SearchStats> for proto::SearchStats {
    fn from(stats: SearchStats) -> Self {
        let plan = match stats.plan {
            Plan::Auto => proto::Plan::Auto,
            Plan::Probe => proto::Plan::Probe,
            Plan::Scan => proto::Plan::Scan,
        };
        Self {
            plan: plan.into(),
            kernel: stats.kernel.to_owned(),
            radius: stats.radius,
            probes: stats.probes,
            compared: stats.compared,
            tested: stats.tested,
            rescored: stats.rescored,
            rescoring_seconds: stats.rescoring.as_secs_f64(),
            filtering_seconds: stats.filtering.as_secs_f64(),
            encoding_seconds: stats.encoding.as_secs_f64(),
            searching_seconds: stats.searching.as_secs_f64(),
            reading_seconds: stats.reading.as_secs_f64(),
        }
    }
}
