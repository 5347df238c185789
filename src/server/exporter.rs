//! The page that Prometheus reads: `GET /metrics` over HTTP/1.
//!
//! A place of its own, so that it can be open to whom the gRPC port is not. Few connections, of one
//! request each, that end after a few seconds.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connection::ACCEPT_DELAY;
use super::metrics::Metrics;

/// Connections at once; the next ones wait to be accepted.
const PLACES: usize = 8;
/// How long a connection may last.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a request.
const MAX_BYTES: usize = 8 << 10;

const PLAIN: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers until it is dropped.
pub async fn export(listener: TcpListener, metrics: Arc<Metrics>) -> Infallible {
    let places = Arc::new(Semaphore::new(PLACES));
    let mut connections = JoinSet::new();
    loop {
        // Never closed.
        let place = Arc::clone(&places).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let metrics = Arc::clone(&metrics);
                connections.spawn(async move {
                    let _place = place;
                    if timeout(PATIENCE, talk(stream, metrics)).await.is_err() {
                        tracing::debug!("a reader of metrics took too long");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a reader of metrics");
                sleep(ACCEPT_DELAY).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn talk(stream: TcpStream, metrics: Arc<Metrics>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&metrics)));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .max_buf_size(MAX_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a reader of metrics went");
    }
}

async fn answer(
    request: Request<Incoming>,
    metrics: Arc<Metrics>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, kind, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            // Collections are locked for a moment each.
            match tokio::task::spawn_blocking(move || metrics.text()).await {
                Ok(Ok(text)) => (StatusCode::OK, OPEN_METRICS, text),
                failed => {
                    tracing::error!(?failed, "the metrics could not be written");
                    let text = "the server failed at this; its log says why\n".to_owned();
                    (StatusCode::INTERNAL_SERVER_ERROR, PLAIN, text)
                }
            }
        }
        (_, "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, PLAIN, "expected GET\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, PLAIN, "the metrics are at /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    Ok(response)
}
