//! What the server counts, for Prometheus.
//!
//! Calls are counted as they are answered, a stream with its first message, under the names that
//! gRPC servers elsewhere use (`grpc_server_handled_total`, `grpc_server_handling_seconds`), so that
//! dashboards made for those show this one. What collections hold is looked up when it is asked for.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use prost_types::{FileDescriptorSet, MethodDescriptorProto};
use tokio::sync::Semaphore;
use tonic::Code;

use super::descriptors::{methods, path};
use super::options::ServerOptions;
use crate::collection::Sizes;
use crate::database::Database;

type Labels = Vec<(&'static str, String)>;

/// From quick searches, of some 50 us, to the default deadline.
const SECONDS: [f64; 16] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// The statuses of gRPC, by their numbers.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// All that is counted.
pub struct Metrics {
    registry: Registry,
    /// By path. A client that makes paths up adds none.
    methods: HashMap<String, Method>,
}

/// What is counted of one method.
struct Method {
    /// By the number of the status: all begin at 0, so that the first failure is a rise.
    handled: Vec<Counter>,
    seconds: Histogram,
}

impl Metrics {
    /// Those of `database` and of the methods that `descriptors` describe, with the `places` for calls
    /// in work.
    pub fn new(
        database: Database,
        descriptors: &FileDescriptorSet,
        places: Arc<Semaphore>,
        options: &ServerOptions,
    ) -> Self {
        let mut registry = Registry::default();
        let handled = Family::<Labels, Counter>::default();
        let seconds = Family::<Labels, Histogram>::new_with_constructor(|| Histogram::new(SECONDS));
        registry.register("grpc_server_handled", "Calls that were answered", handled.clone());
        let help = "Seconds to the answer, or to the first message of a stream";
        registry.register_with_unit("grpc_server_handling", help, Unit::Seconds, seconds.clone());
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("nearbit_build", "The program that runs", version);
        let max_calls = options.max_calls;
        registry.register_collector(Box::new(Now { database, places, max_calls }));

        let count_method = |(service, method): (String, &MethodDescriptorProto)| {
            let path = path(&service, method);
            let labels = vec![("grpc_service", service), ("grpc_method", method.name().to_owned())];
            let counter = |code: &&str| {
                let code = ("grpc_code", (*code).to_owned());
                handled.get_or_create_owned(&labels.iter().cloned().chain([code]).collect())
            };
            let handled = CODES.iter().map(counter).collect();
            (path, Method { handled, seconds: seconds.get_or_create_owned(&labels) })
        };
        let methods = methods(descriptors).map(count_method).collect();
        Self { registry, methods }
    }

    /// Counts a call that ended so, and how long it was in work; none where it was turned away.
    pub fn count(&self, path: &str, code: Code, in_work: Option<Duration>) {
        let Some(method) = self.methods.get(path) else { return };
        if let Some(handled) = method.handled.get(code as usize) {
            handled.inc();
        }
        if let Some(in_work) = in_work {
            method.seconds.observe(in_work.as_secs_f64());
        }
    }

    /// All of them as they are now, in the text format of OpenMetrics 1.0. It looks every collection
    /// up.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// What is looked up when it is asked for.
struct Now {
    database: Database,
    places: Arc<Semaphore>,
    max_calls: usize,
}

impl fmt::Debug for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Now")
    }
}

/// A number of a collection: its name, what it is, whether it only ever grows, and where it stands.
type OfCollection = (&'static str, &'static str, MetricType, fn(&Sizes) -> u64);

const OF_COLLECTIONS: [OfCollection; 13] = [
    ("records", "Live records", MetricType::Gauge, |of| of.store.records),
    ("dead_records", "Replaced or deleted records that still take room", MetricType::Gauge, |of| {
        of.store.dead
    }),
    ("segments", "Segment files", MetricType::Gauge, |of| of.store.segments),
    ("segment_bytes", "Bytes of the segments", MetricType::Gauge, |of| of.store.segment_bytes),
    ("live_bytes", "Bytes of the live records in them, about", MetricType::Gauge, |of| {
        of.store.live_bytes
    }),
    (
        "unsynced_bytes",
        "Bytes that were acknowledged and are not synced yet",
        MetricType::Gauge,
        |of| of.store.unsynced_bytes,
    ),
    ("table_bytes", "Bytes of its blocks in the table", MetricType::Gauge, |of| {
        of.store.table_bytes
    }),
    ("index_bytes", "Bytes of its index in memory", MetricType::Gauge, |of| {
        of.index.total() as u64
    }),
    ("recent_records", "Live records that are not in the table yet", MetricType::Gauge, |of| {
        of.store.recent
    }),
    (
        "writable",
        "1, or 0 where writes are refused until it is opened again",
        MetricType::Gauge,
        |of| u64::from(of.store.refuses_writes.is_none()),
    ),
    (
        "damaged_places",
        "Places that were found damaged since it was opened",
        MetricType::Counter,
        |of| of.store.damaged,
    ),
    ("scrubs", "Whole passes of the scrub since then", MetricType::Counter, |of| of.store.scrubs),
    ("scrubbed_bytes", "Bytes that scrubs have verified since then", MetricType::Counter, |of| {
        of.store.scrubbed_bytes
    }),
];

impl Collector for Now {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let in_work = self.max_calls - self.places.available_permits().min(self.max_calls);
        let help = "Calls in work";
        let gauge =
            encoder.encode_descriptor("nearbit_calls_in_work", help, None, MetricType::Gauge)?;
        ConstGauge::new(in_work as u64).encode(gauge)?;
        let help = "Collections that could not be opened";
        let gauge = encoder.encode_descriptor("nearbit_unopened", help, None, MetricType::Gauge)?;
        ConstGauge::new(self.database.unopened().len() as u64).encode(gauge)?;
        let collections = self.database.collections();
        let sizes: Vec<_> = collections
            .iter()
            .map(|collection| ([("collection", collection.name())], collection.sizes()))
            .collect();
        for (name, help, kind, number) in OF_COLLECTIONS {
            let name = format!("nearbit_collection_{name}");
            let mut family = encoder.encode_descriptor(&name, help, None, kind)?;
            for (labels, sizes) in &sizes {
                let (number, metric) = (number(sizes), family.encode_family(labels)?);
                match kind {
                    MetricType::Counter => ConstCounter::new(number).encode(metric)?,
                    _ => ConstGauge::new(number).encode(metric)?,
                }
            }
        }
        Ok(())
    }
}
