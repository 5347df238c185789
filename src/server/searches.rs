//! SearchService: one query, a whole ball, a batch, or a stream of queries.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use prost::Message as _;
use rayon::prelude::*;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::api::{Api, check_count, open, run_here};
use super::call::Call;
use super::filter::filter;
use super::outbox::Outbox;
use super::proto;
use super::proto::search_service_server::SearchService;
use super::proto::search_stream_response::Outcome;
use super::status::{as_elsewhere, problem, refuse, status};
use super::{ServerOptions, convert, field};
use crate::code::Width;
use crate::collection::Ball;
use crate::error::{Error, Result};
use crate::search::Search;

/// Hits where a request does not say.
const DEFAULT_LIMIT: usize = 10;
/// Words of codes that a quick search compares at most: 8 MiB, 0.1 to 0.2 ms with vector
/// instructions, and mostly the index needs to look at far fewer.
const QUICK_WORDS: u64 = 1 << 20;
/// Hits of a quick search: each is read from the disk's cache in about a microsecond.
const QUICK_HITS: u32 = 100;
/// Hits in one message of a ball.
const HITS_PER_MESSAGE: usize = 1000;
/// Messages of a ball that are made before the client reads them.
const PARTS_AHEAD: usize = 4;
/// Searches of a stream that are answered together, and outcomes that may wait for the client, so
/// that a group leaves as one.
const SEARCHES_AT_ONCE: usize = 64;

#[tonic::async_trait]
impl SearchService for Api {
    async fn search(
        &self,
        request: Request<proto::SearchRequest>,
    ) -> Result<Response<proto::SearchResponse>, Status> {
        let (call, request) = open(request)?;
        let deadline = call.deadline;
        let answer = if self.is_quick([&request]) {
            run_here(&call, || self.answer(request, deadline))?
        } else {
            let api = self.clone();
            self.search_work(&call, move || api.answer(request, deadline)).await?
        };
        self.answered(answer)
    }

    type SearchBallStream = ReceiverStream<Result<proto::SearchBallResponse, Status>>;

    async fn search_ball(
        &self,
        request: Request<proto::SearchBallRequest>,
    ) -> Result<Response<Self::SearchBallStream>, Status> {
        let (call, request) = open(request)?;
        let (api, deadline) = (self.clone(), call.deadline);
        let ball = self.search_work(&call, move || api.ball(request, deadline)).await?;
        let ball = ball.map_err(|e| status(&e))?;
        let mut rings = Rings { ball, ahead: None, max_bytes: self.options.max_page_bytes };
        let patience = self.options.stream_idle_timeout;
        let (mut outbox, stream) = Outbox::new(call.clone(), PARTS_AHEAD, patience)?;
        let api = self.clone();
        tokio::spawn(async move {
            loop {
                // Hits are read when there is room for them.
                let part = api.run(&call, move || (rings.part(), rings)).await;
                let part = match part {
                    Ok((part, rest)) => {
                        rings = rest;
                        part
                    }
                    Err(status) => return outbox.fail(status),
                };
                match part {
                    None => return,
                    Some(Err(error)) => return outbox.fail(status(&error)),
                    Some(Ok(message)) => match outbox.send(message).await {
                        Some(open) => outbox = open,
                        None => return,
                    },
                }
            }
        });
        Ok(Response::new(stream))
    }

    async fn search_batch(
        &self,
        request: Request<proto::SearchBatchRequest>,
    ) -> Result<Response<proto::SearchBatchResponse>, Status> {
        let (call, request) = open(request)?;
        let (api, deadline) = (self.clone(), call.deadline);
        let answer = self.search_work(&call, move || api.answer_batch(request, deadline)).await?;
        self.answered(answer)
    }

    type SearchStreamStream = ReceiverStream<Result<proto::SearchStreamResponse, Status>>;

    async fn search_stream(
        &self,
        request: Request<Streaming<proto::SearchStreamRequest>>,
    ) -> Result<Response<Self::SearchStreamStream>, Status> {
        let (call, requests) = open(request)?;
        let patience = self.options.stream_idle_timeout;
        let (outbox, stream) = Outbox::new(call.clone(), SEARCHES_AT_ONCE, patience)?;
        tokio::spawn(self.clone().answer_stream(call, requests, outbox));
        Ok(Response::new(stream))
    }
}

// What runs on threads that may block.
impl Api {
    fn answer(
        &self,
        request: proto::SearchRequest,
        deadline: Instant,
    ) -> Result<proto::SearchResponse> {
        let collection = self.database.collection(&request.collection)?;
        let search = search(request, collection.width(), deadline, &self.options)?;
        Ok(collection.search(&search)?.into())
    }

    fn ball(&self, request: proto::SearchBallRequest, deadline: Instant) -> Result<Ball> {
        let collection = self.database.collection(&request.collection)?;
        let search = Search {
            limit: usize::MAX,
            radius: Some(request.radius),
            filter: filter(request.filter)?,
            plan: convert::plan(request.plan)?,
            payload: request.payload,
            deadline: Some(deadline),
            ..Search::new(convert::query(request.query, collection.width())?)
        };
        collection.ball(&search)
    }

    fn answer_batch(
        &self,
        request: proto::SearchBatchRequest,
        deadline: Instant,
    ) -> Result<proto::SearchBatchResponse> {
        let proto::SearchBatchRequest { collection: name, searches } = request;
        check_count("searches", searches.len(), self.options.max_queries)?;
        let collection = self.database.collection(&name)?;
        let convert = |(i, request): (usize, proto::SearchRequest)| {
            if !request.collection.is_empty() && request.collection != name {
                let message = format!("expected {name:?} or nothing, got {:?}", request.collection);
                return Err(Error::invalid(format!("searches[{i}].collection"), message));
            }
            search(request, collection.width(), deadline, &self.options)
                .map_err(|e| e.within(&format!("searches[{i}].")))
        };
        let searches = searches.into_iter().enumerate().map(convert).collect::<Result<Vec<_>>>()?;
        let hits = searches.iter().map(|search| search.limit).sum::<usize>();
        if hits > self.options.max_batch_hits {
            let max = self.options.max_batch_hits;
            let message = format!("expected limits of at most {max} in all, got {hits}");
            return Err(Error::invalid("searches", message));
        }
        let answers = collection.search_batch(&searches)?;
        Ok(proto::SearchBatchResponse { answers: answers.into_iter().map(Into::into).collect() })
    }

    /// The outcome of one search of a stream.
    fn outcome(
        &self,
        request: proto::SearchStreamRequest,
        deadline: Instant,
    ) -> proto::SearchStreamResponse {
        let proto::SearchStreamRequest { tag, search } = request;
        let answer = field::required(search, "search", "a search")
            .and_then(|search| self.answer(search, deadline).map_err(|e| e.within("search.")));
        let outcome = match answer {
            Ok(answer) => Outcome::Answer(answer),
            Err(error) => Outcome::Problem(problem(&error)),
        };
        proto::SearchStreamResponse { tag, outcome: Some(outcome) }
    }

    /// Whether all these searches together take less time than to hand them to another thread
    /// and back, even where every code has to be compared.
    fn is_quick<'a>(&self, searches: impl IntoIterator<Item = &'a proto::SearchRequest>) -> bool {
        let mut words = 0;
        searches.into_iter().all(|search| {
            use proto::query::Kind;
            let kind = search.query.as_ref().and_then(|query| query.kind.as_ref());
            if !matches!(kind, Some(Kind::Code(_) | Kind::Id(_)))
                || search.plan.is_some()
                || search.filter.is_some()
                || search.rescore.is_some()
                || search.diversity.is_some()
                || search.group_by.is_some()
                || search.limit() > QUICK_HITS
            {
                return false;
            }
            let Ok(collection) = self.database.collection(&search.collection) else { return true };
            words += collection.len() * collection.width().words() as u64;
            words <= QUICK_WORDS
        })
    }
}

// What runs between.
impl Api {
    /// Answers requests as they come, until the client has no more or the server stops.
    async fn answer_stream(
        self,
        call: Call,
        mut requests: Streaming<proto::SearchStreamRequest>,
        mut outbox: Outbox<proto::SearchStreamResponse>,
    ) {
        let mut stopping = self.stopping.clone();
        loop {
            let next = tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => Err(refuse(
                    Code::Unavailable,
                    "SERVER_STOPPING",
                    "the server stops; every search that has an outcome was answered, open a new \
                     stream for the others",
                )),
                next = next_request(&mut requests, &self, &call) => next,
            };
            let first = match next {
                Ok(Some(request)) => request,
                Ok(None) => return,
                Err(status) => return outbox.fail(status),
            };
            // Those that wait already are answered together, on all cores.
            let mut group = vec![first];
            let mut end = None;
            while group.len() < SEARCHES_AT_ONCE && end.is_none() {
                match now(requests.message()).await {
                    None => break,
                    Some(Ok(Some(request))) => group.push(request),
                    Some(Ok(None)) => end = Some(None),
                    Some(Err(status)) => end = Some(Some(as_elsewhere(status))),
                }
            }
            let api = self.clone();
            let deadline = call.deadline.min(Instant::now() + self.options.default_timeout);
            let outcomes = if self.is_quick(group.iter().filter_map(|r| r.search.as_ref())) {
                run_here(&call, || group.into_iter().map(|r| api.outcome(r, deadline)).collect())
            } else {
                let outcomes = move || {
                    group.into_par_iter().map(|r| api.outcome(r, deadline)).collect::<Vec<_>>()
                };
                self.search_work(&call, outcomes).await
            };
            let outcomes = match outcomes {
                Ok(outcomes) => outcomes,
                Err(status) => return outbox.fail(status),
            };
            for outcome in outcomes {
                match outbox.send(self.fitting(outcome)).await {
                    Some(open) => outbox = open,
                    None => return,
                }
            }
            match end {
                None => {}
                Some(None) => return,
                Some(Some(status)) => return outbox.fail(status),
            }
        }
    }

    /// The outcome; or, where it is larger than a message may be, that it is.
    fn fitting(&self, outcome: proto::SearchStreamResponse) -> proto::SearchStreamResponse {
        match self.check_size(&outcome) {
            Ok(()) => outcome,
            Err(status) => proto::SearchStreamResponse {
                tag: outcome.tag,
                outcome: Some(Outcome::Problem(proto::Problem {
                    code: status.code() as u32,
                    reason: "ANSWER_TOO_LARGE".to_owned(),
                    field: String::new(),
                    message: status.message().to_owned(),
                })),
            },
        }
    }
}

/// The next request of a stream; an error where it fails, is late, or none comes for too long.
async fn next_request(
    requests: &mut Streaming<proto::SearchStreamRequest>,
    api: &Api,
    call: &Call,
) -> Result<Option<proto::SearchStreamRequest>, Status> {
    let idle = Instant::now() + api.options.stream_idle_timeout;
    let next = tokio::time::timeout_at(idle.min(call.deadline).into(), requests.message());
    match next.await {
        Ok(next) => next.map_err(as_elsewhere),
        Err(_) if call.deadline <= idle => Err(status(&Error::Timeout)),
        Err(_) => Err(api.idle()),
    }
}

/// What `future` gives without waiting.
async fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        })
    })
    .await
}

/// The search that a request asks for.
fn search(
    request: proto::SearchRequest,
    width: Width,
    deadline: Instant,
    options: &ServerOptions,
) -> Result<Search> {
    let limit = request.limit.map_or(DEFAULT_LIMIT, |limit| limit as usize);
    check_count("limit", limit, options.max_limit)?;
    let search = Search {
        limit,
        radius: request.radius,
        filter: filter(request.filter)?,
        rescore: request.rescore.map(convert::rescore).transpose()?,
        diversity: request.diversity.map(convert::diversity),
        group_by: request.group_by.map(convert::group_by).transpose()?,
        plan: convert::plan(request.plan)?,
        payload: request.payload,
        deadline: Some(deadline),
        ..Search::new(convert::query(request.query, width)?)
    };
    if let Some(diversity) = search.diversity {
        check_count("diversity.candidates", diversity.candidates, options.max_limit)?;
    }
    if let Some(rescore) = search.rescore {
        let chosen_from = search.diversity.map_or(limit, |d| d.candidates.max(limit));
        let found = chosen_from.saturating_mul(rescore.oversampling);
        let what = match search.diversity {
            Some(_) => "rescore.oversampling x diversity.candidates",
            None => "rescore.oversampling x limit",
        };
        check_count(what, found, options.max_candidates)?;
    }
    if let Some(by) = &search.group_by {
        check_count("group_by.size x limit", limit.saturating_mul(by.size), options.max_limit)?;
    }
    Ok(search)
}

/// A ball as messages of one ring each.
struct Rings {
    ball: Ball,
    /// A hit that did not fit the last message.
    ahead: Option<proto::Hit>,
    max_bytes: usize,
}

impl Rings {
    /// The next hits of one distance: at most so many, and but for a single one so many bytes.
    fn part(&mut self) -> Option<Result<proto::SearchBallResponse>> {
        let first = match self.ahead.take().map(Ok).or_else(|| self.next())? {
            Ok(first) => first,
            Err(error) => return Some(Err(error)),
        };
        let distance = first.distance;
        let mut bytes = first.encoded_len();
        let mut hits = vec![first];
        while hits.len() < HITS_PER_MESSAGE {
            let hit = match self.next() {
                None => break,
                Some(Ok(hit)) => hit,
                Some(Err(error)) => return Some(Err(error)),
            };
            bytes += hit.encoded_len();
            if hit.distance != distance || bytes > self.max_bytes {
                self.ahead = Some(hit);
                break;
            }
            hits.push(hit);
        }
        Some(Ok(proto::SearchBallResponse { distance, hits }))
    }

    fn next(&mut self) -> Option<Result<proto::Hit>> {
        Some(self.ball.next()?.map(Into::into))
    }
}
