//! Calls: how many are in work at once, and until when each may take.
//!
//! [`Admission`] stands before every service of Nearbit. It turns a call away when there are too
//! many, gives it a deadline, and answers in its stead once that has passed. Health and
//! reflection pass by it: they must answer most of all when the server is busy.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use prost_types::FileDescriptorSet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::ServerOptions;
use super::descriptors::{methods, path};
use super::metrics::Metrics;
use super::status::{as_elsewhere, refuse, status};
use crate::database::Database;
use crate::error::Error;

/// A call that was let in. Clones stand for the same call; its place is free again when the last
/// is gone, so work that outlives the call's future still counts.
#[derive(Clone)]
pub struct Call {
    /// When the client will not wait any longer.
    pub deadline: Instant,
    _place: Arc<OwnedSemaphorePermit>,
}

#[cfg(test)]
impl Call {
    /// A call that came past admission.
    pub fn lone(deadline: Instant) -> Self {
        let places = Arc::new(Semaphore::new(1));
        let place = places.try_acquire_owned().expect("a free place");
        Self { deadline, _place: Arc::new(place) }
    }
}

/// Lets calls in; a tower layer.
#[derive(Clone)]
pub struct Admission {
    places: Arc<Semaphore>,
    /// The paths of streaming calls, which may take longer.
    streaming: Arc<HashSet<String>>,
    stopping: watch::Receiver<bool>,
    options: Arc<ServerOptions>,
    metrics: Arc<Metrics>,
}

impl Admission {
    /// Admission to the services that `descriptors` describe, on the database `of`, until `stopping` is
    /// true.
    pub fn new(
        of: Database,
        options: Arc<ServerOptions>,
        stopping: watch::Receiver<bool>,
        descriptors: &FileDescriptorSet,
    ) -> Self {
        let places = Arc::new(Semaphore::new(options.max_calls));
        let metrics = Metrics::new(of, descriptors, Arc::clone(&places), &options);
        Self {
            places,
            streaming: Arc::new(streaming_paths(descriptors)),
            stopping,
            options,
            metrics: Arc::new(metrics),
        }
    }

    /// What is counted of the calls, and more.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Waits until no call is in work. Meaningful once none is let in any more.
    pub async fn empty(&self) {
        // The semaphore is never closed, so this ends with all places in hand.
        drop(self.places.acquire_many(self.options.max_calls as u32).await);
    }

    fn admit<B>(&self, request: &Request<B>) -> Result<Call, Status> {
        if *self.stopping.borrow() {
            let message = "the server stops; connect again, perhaps to another";
            return Err(refuse(Code::Unavailable, "SERVER_STOPPING", message));
        }
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            refuse(
                Code::Unavailable,
                "TOO_MANY_CALLS",
                format!(
                    "{} calls are in work, which is the limit; try again in a moment",
                    self.options.max_calls
                ),
            )
        })?;
        let (default, max) = match self.streaming.contains(request.uri().path()) {
            true => (self.options.max_stream_timeout, self.options.max_stream_timeout),
            false => (self.options.default_timeout, self.options.max_timeout),
        };
        let timeout = grpc_timeout(request.headers()).map_err(|e| status(&e))?;
        let deadline = Instant::now() + timeout.unwrap_or(default).min(max);
        Ok(Call { deadline, _place: Arc::new(place) })
    }
}

impl<S> Layer<S> for Admission {
    type Service = Admitted<S>;

    fn layer(&self, inner: S) -> Admitted<S> {
        Admitted { admission: self.clone(), inner }
    }
}

/// A service behind [`Admission`].
#[derive(Clone)]
pub struct Admitted<S> {
    admission: Admission,
    inner: S,
}

impl<S> Service<Request<Body>> for Admitted<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if !request.uri().path().starts_with("/nearbit.") {
            return Box::pin(self.inner.call(request));
        }
        let path = request.uri().path().to_owned();
        let call = match self.admission.admit(&request) {
            Ok(call) => call,
            Err(refusal) => {
                tracing::debug!(path, code = ?refusal.code(), "call turned away");
                self.admission.metrics.count(&path, refusal.code(), None);
                return Box::pin(async { Ok(refusal.into_http()) });
            }
        };
        request.extensions_mut().insert(call.clone());
        let metrics = self.admission.metrics();
        let ending = Ending { metrics, path, started: Instant::now(), code: Code::Cancelled };
        let answer = self.inner.call(request);
        Box::pin(async move {
            // All of it, not the one field that is set below.
            let mut ending = ending;
            let answered = match tokio::time::timeout_at(call.deadline.into(), answer).await {
                Ok(response) => with_usual_code(response?),
                Err(_) => status(&Error::Timeout).into_http(),
            };
            ending.code = answered.extensions().get::<Status>().map_or(Code::Ok, Status::code);
            Ok(answered)
        })
    }
}

/// Counts a call when it is answered, or given up: then its status is still what it was at first.
struct Ending {
    metrics: Arc<Metrics>,
    path: String,
    started: Instant,
    code: Code,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let Self { path, code, .. } = self;
        let in_work = self.started.elapsed();
        self.metrics.count(path, *code, Some(in_work));
        tracing::debug!(path, ?code, seconds = in_work.as_secs_f64(), "call");
    }
}

/// The same response, with the status that other gRPC servers would send.
fn with_usual_code(response: Response<Body>) -> Response<Body> {
    match response.extensions().get::<Status>() {
        Some(status) if status.code() == Code::OutOfRange => {
            as_elsewhere(status.clone()).into_http()
        }
        _ => response,
    }
}

/// The paths of all calls that stream in either direction.
fn streaming_paths(descriptors: &FileDescriptorSet) -> HashSet<String> {
    methods(descriptors)
        .filter(|(_, method)| method.client_streaming() || method.server_streaming())
        .map(|(service, method)| path(&service, method))
        .collect()
}

/// The timeout that a client sends: at most eight digits and a unit, as gRPC over HTTP/2 has it
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
fn grpc_timeout(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    let Some(header) = headers.get("grpc-timeout") else { return Ok(None) };
    let parse = || {
        let (number, unit) =
            header.to_str().ok()?.split_at_checked(header.len().checked_sub(1)?)?;
        if !(1..=8).contains(&number.len()) || !number.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let number: u64 = number.parse().ok()?;
        Some(match unit {
            "H" => Duration::from_secs(number * 3600),
            "M" => Duration::from_secs(number * 60),
            "S" => Duration::from_secs(number),
            "m" => Duration::from_millis(number),
            "u" => Duration::from_micros(number),
            "n" => Duration::from_nanos(number),
            _ => return None,
        })
    };
    match parse() {
        Some(timeout) => Ok(Some(timeout)),
        None => Err(Error::invalid(
            "grpc-timeout",
            format!("expected 1 to 8 digits and one of H, M, S, m, u and n, got {header:?}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::super::descriptors::descriptors;
    use super::*;

    fn timeout(header: &'static str) -> Result<Option<Duration>, Error> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", header.parse().unwrap());
        grpc_timeout(&headers)
    }

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        assert_eq!(grpc_timeout(&HeaderMap::new()).unwrap(), None);
        assert_eq!(timeout("1H").unwrap(), Some(Duration::from_secs(3600)));
        assert_eq!(timeout("2M").unwrap(), Some(Duration::from_secs(120)));
        assert_eq!(timeout("99999999S").unwrap(), Some(Duration::from_secs(99_999_999)));
        assert_eq!(timeout("250m").unwrap(), Some(Duration::from_millis(250)));
        assert_eq!(timeout("7u").unwrap(), Some(Duration::from_micros(7)));
        assert_eq!(timeout("8n").unwrap(), Some(Duration::from_nanos(8)));
        for bad in ["", "1", "S", "+1S", "-1S", "1s", "1.5S", "100000000S", "1 S", "\u{e9}"] {
            assert!(timeout(bad).is_err(), "{bad:?}");
        }
    }

    /// Admission with one place, and the switch that stops it.
    fn admission() -> (Admission, watch::Sender<bool>) {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(dir.path()).unwrap();
        let (stop, stopping) = watch::channel(false);
        let options = Arc::new(ServerOptions { max_calls: 1, ..ServerOptions::default() });
        (Admission::new(database, options, stopping, &descriptors()), stop)
    }

    fn search() -> tonic::codegen::http::request::Builder {
        Request::builder().uri("/nearbit.v1.SearchService/Search")
    }

    #[tokio::test]
    async fn the_client_says_how_long_it_waits() {
        let (admission, _stop) = admission();
        let never = tower::service_fn(|request: Request<Body>| async move {
            assert!(request.extensions().get::<Call>().is_some());
            std::future::pending::<Result<Response<Body>, std::convert::Infallible>>().await
        });
        let request = search().header("grpc-timeout", "1m").body(Body::empty()).unwrap();
        let response = admission.layer(never).call(request).await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "4");
    }

    #[tokio::test]
    async fn a_stopping_server_lets_nobody_in_and_sees_the_last_one_out() {
        let (admission, stop) = admission();
        let last = admission.admit(&search().body(()).unwrap()).unwrap();
        stop.send_replace(true);
        let refused = admission.admit(&search().body(()).unwrap()).map(drop).unwrap_err();
        let reason = refused.get_details_error_info().unwrap().reason;
        assert_eq!((refused.code(), reason.as_str()), (Code::Unavailable, "SERVER_STOPPING"));
        let mut empty = Box::pin(admission.empty());
        let waited = tokio::time::timeout(Duration::from_millis(10), &mut empty).await;
        assert!(waited.is_err(), "a call is still in work");
        drop(last);
        empty.await;
    }

    #[test]
    fn streaming_calls_are_found_in_the_descriptors() {
        let paths = streaming_paths(&descriptors());
        let expected = [
            "RecordService/ImportRecords",
            "SearchService/SearchBall",
            "SearchService/SearchStream",
        ];
        assert_eq!(paths, expected.map(|path| format!("/nearbit.v1.{path}")).into());
    }
}
