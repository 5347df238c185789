//! The gRPC face: domain out, protocol buffers in, and back.
//!
//! [`serve`] is a function of a listener. A call passes through these files, from the outside in:
//!
//! 1. `connection`: a place among the connections, and patience with the client's greeting;
//! 2. `call`: a place among the calls in work, and a deadline;
//! 3. `collections`, `records`, `searches`, `snapshots`: one method a call, each a thin async shell around
//!    blocking work, which `api` runs on threads of its own;
//! 4. `convert`: messages of `proto/nearbit/v1` become the vocabulary and back;
//! 5. `status`: errors become statuses with `google.rpc` details.
//!
//! `metrics` counts calls and describes collections; `exporter` shows that to Prometheus.
//!
//! Every limit stands in [`ServerOptions`].

mod api;
mod call;
mod collections;
mod connection;
mod convert;
mod descriptors;
mod exporter;
mod field;
mod filter;
mod import;
mod metrics;
mod options;
mod outbox;
mod records;
mod searches;
mod snapshots;
mod status;

use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tower::layer::util::{Identity, Stack};

use self::api::Api;
use self::call::Admission;
use self::descriptors::{DESCRIPTORS, descriptors};
pub use self::options::ServerOptions;
use self::proto::admin_service_server::AdminServiceServer;
use self::proto::collection_service_server::CollectionServiceServer;
use self::proto::record_service_server::RecordServiceServer;
use self::proto::search_service_server::SearchServiceServer;
use self::proto::snapshot_service_server::SnapshotServiceServer;
use crate::database::Database;
use crate::error::{Error, Result};

/// What tonic and prost make of `proto/nearbit/v1`.
#[allow(missing_docs, clippy::all)]
mod proto {
    tonic::include_proto!("nearbit.v1");
}

/// From the end of the last call to closing the connections of clients that do not go by
/// themselves: time for the last answer to arrive.
const GOODBYE: Duration = Duration::from_secs(1);

/// The names under which health is told; the empty one stands for the whole server.
const HEALTH_NAMES: [&str; 6] = [
    "",
    <CollectionServiceServer<Api> as NamedService>::NAME,
    <RecordServiceServer<Api> as NamedService>::NAME,
    <SearchServiceServer<Api> as NamedService>::NAME,
    <SnapshotServiceServer<Api> as NamedService>::NAME,
    <AdminServiceServer<Api> as NamedService>::NAME,
];

/// Where a server listens.
///
/// ```
/// use std::net::TcpListener;
/// use nearbit::server::Listeners;
///
/// # fn main() -> std::io::Result<()> {
/// let grpc = TcpListener::bind("127.0.0.1:0")?;
/// let listeners = Listeners { metrics: Some(TcpListener::bind("127.0.0.1:0")?), ..grpc.into() };
/// assert!(listeners.metrics.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Listeners {
    /// For gRPC clients.
    pub grpc: TcpListener,
    /// For Prometheus, which reads `/metrics` over HTTP/1 in the text format of OpenMetrics.
    pub metrics: Option<TcpListener>,
}

impl From<TcpListener> for Listeners {
    /// No metrics are shown.
    fn from(grpc: TcpListener) -> Self {
        Self { grpc, metrics: None }
    }
}

/// The listener on the runtime that polls this, and where it listens.
fn on_runtime(listener: TcpListener) -> Result<(tokio::net::TcpListener, String)> {
    let address = listener.local_addr().map_or_else(|_| "?".to_owned(), |a| a.to_string());
    let refused = Error::io("listen on", &address);
    let listener = listener
        .set_nonblocking(true)
        .and_then(|()| tokio::net::TcpListener::from_std(listener))
        .map_err(refused)?;
    Ok((listener, address))
}

/// Serves `database` to the clients of `listeners`, which may be one for gRPC alone, until
/// `shutdown` completes. Then no further connection or call is taken, health says NOT_SERVING, and
/// what is in flight is finished, for at most `options.drain_timeout`.
///
/// It runs on the tokio runtime that polls it; [`serve_blocking`] brings its own.
///
/// # Errors
/// A listener that the system does not let us use.
pub async fn serve(
    listeners: impl Into<Listeners>,
    database: Database,
    options: ServerOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<()> {
    let Listeners { grpc, metrics } = listeners.into();
    let (listener, address) = on_runtime(grpc)?;
    let for_metrics = metrics.map(on_runtime).transpose()?;
    let options = options.bounded();
    let (stop, stopping) = watch::channel(false);
    let (cut, cutting) = watch::channel(false);
    let (accepted, connections) = mpsc::channel(1);
    let health = HealthReporter::new();
    let stopped = async {
        shutdown.await;
        tracing::info!("stopping; finishing what is in flight");
        say_not_serving(health.clone()).await;
        stop.send_replace(true);
    };
    let accepting = connection::accept(listener, options.clone(), cutting, accepted);
    let drain_timeout = options.drain_timeout;
    let options = Arc::new(options);
    let admission =
        Admission::new(database.clone(), Arc::clone(&options), stopping.clone(), &descriptors());
    let api = Api::new(database, Arc::clone(&options), stopping.clone());
    let router = router(api, &options, admission.clone(), health.clone()).await?;
    tracing::info!(address, "serving");

    let serving = async {
        let connections = ReceiverStream::new(connections);
        let mut serving = pin!(router.serve_with_incoming_shutdown(connections, stopped));
        let mut stopping = stopping;
        let patience_ends = async {
            // The sender lives as long as `stopped` is polled, so this ends by stopping only.
            let _ = stopping.wait_for(|stopping| *stopping).await;
            tokio::select! {
                () = sleep(drain_timeout) => tracing::warn!("cutting off what is still in flight"),
                // Whoever is idle and does not go when asked is not waited for.
                () = async { admission.empty().await; sleep(GOODBYE).await } => {}
            }
        };
        tokio::select! {
            served = &mut serving => return served,
            () = patience_ends => {}
        }
        cut.send_replace(true);
        serving.await
    };
    let exporting = async {
        match for_metrics {
            Some((listener, _)) => exporter::export(listener, admission.metrics()).await,
            None => std::future::pending().await,
        }
    };
    let served = tokio::select! {
        (served, ()) = async { tokio::join!(serving, accepting) } => served,
        never = exporting => match never {},
    };
    served.map_err(|e| Error::io("serve", &address)(io::Error::other(e)))
}

/// The same on a runtime of its own, until `wait_for_stop` returns; that is called on a thread of
/// its own and may block as long as it likes.
///
/// ```no_run
/// use std::net::TcpListener;
/// use nearbit::Database;
/// use nearbit::server::{ServerOptions, serve_blocking};
///
/// let database = Database::open("data")?;
/// let listener = TcpListener::bind("127.0.0.1:7450").expect("the port is free");
/// let wait_for_enter = || {
///     let _ = std::io::stdin().read_line(&mut String::new());
/// };
/// serve_blocking(listener, database, ServerOptions::default(), wait_for_enter)?;
/// # Ok::<(), nearbit::Error>(())
/// ```
///
/// # Errors
/// A listener, or threads, that the system does not let us use.
pub fn serve_blocking(
    listeners: impl Into<Listeners>,
    database: Database,
    options: ServerOptions,
    wait_for_stop: impl FnOnce() + Send + 'static,
) -> Result<()> {
    let options = options.bounded();
    let drain_timeout = options.drain_timeout;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("nearbit-server")
        .enable_all()
        // A call blocks one thread at a time, so more would never run.
        .max_blocking_threads(options.max_calls)
        .build()
        .map_err(Error::io("start threads for", "the server"))?;
    let (stop, stopped) = oneshot::channel();
    std::thread::Builder::new()
        .name("nearbit-stop".to_owned())
        .spawn(move || {
            wait_for_stop();
            let _ = stop.send(());
        })
        .map_err(Error::io("start threads for", "the server"))?;
    let served = runtime.block_on(serve(listeners, database, options, async {
        // A thread that died cannot say stop any more: then the server had better stop too.
        let _ = stopped.await;
    }));
    // A write whose client is gone may still be on its way to the disk.
    runtime.shutdown_timeout(drain_timeout);
    served
}

/// All services, with every limit set.
async fn router(
    api: Api,
    options: &ServerOptions,
    admission: Admission,
    health: HealthReporter,
) -> Result<Router<Stack<Admission, Identity>>> {
    for name in HEALTH_NAMES {
        health.set_service_status(name, ServingStatus::Serving).await;
    }
    let health = HealthServer::new(HealthService::from_health_reporter(health));
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let unreadable = |e: tonic_reflection::server::Error| {
        Error::io("describe", "the services")(io::Error::other(e))
    };
    let reflection_v1 = reflection().build_v1().map_err(unreadable)?;
    let reflection_v1alpha = reflection().build_v1alpha().map_err(unreadable)?;

    let max = options.max_message_bytes;
    Ok(Server::builder()
        .http2_keepalive_interval(Some(options.keepalive_interval))
        .http2_keepalive_timeout(Some(options.keepalive_timeout))
        .max_connection_age(options.max_connection_age)
        .max_concurrent_streams(options.max_streams_per_connection)
        .http2_max_pending_accept_reset_streams(Some(options.max_pending_resets))
        .http2_max_local_error_reset_streams(Some(options.max_error_resets))
        .http2_max_header_list_size(options.max_header_bytes)
        .initial_stream_window_size(options.stream_window_bytes)
        .initial_connection_window_size(options.connection_window_bytes)
        .layer(admission)
        .add_service(
            CollectionServiceServer::new(api.clone())
                .max_decoding_message_size(max)
                .max_encoding_message_size(max),
        )
        .add_service(
            RecordServiceServer::new(api.clone())
                .max_decoding_message_size(max)
                .max_encoding_message_size(max),
        )
        .add_service(
            SearchServiceServer::new(api.clone())
                .max_decoding_message_size(max)
                .max_encoding_message_size(max),
        )
        .add_service(
            SnapshotServiceServer::new(api.clone())
                .max_decoding_message_size(max)
                .max_encoding_message_size(max),
        )
        .add_service(
            AdminServiceServer::new(api)
                .max_decoding_message_size(max)
                .max_encoding_message_size(max),
        )
        .add_service(health)
        .add_service(reflection_v1)
        .add_service(reflection_v1alpha))
}

/// Tells those who watch that it is over, and ends their watching, which would otherwise keep
/// their connections open.
async fn say_not_serving(mut health: HealthReporter) {
    for name in HEALTH_NAMES {
        health.set_service_status(name, ServingStatus::NotServing).await;
        health.clear_service_status(name).await;
    }
}
