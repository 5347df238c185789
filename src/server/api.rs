//! What every method needs: the database, the limits, and threads to block.
//!
//! Everything below the face blocks: on the disk, on a lock, on a core. So a method does nothing
//! itself but hand its request to [`Api::work`] or [`Api::search_work`], which run it where
//! blocking harms nobody. Only quick searches run where they are, by [`run_here`]: handing over
//! costs two threads' waking, about 25 us of a core, which is more than they take.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::{Code, Request, Response, Status};

use super::ServerOptions;
use super::call::Call;
use super::status::{TOO_MANY_WRITES, refuse, status};
use crate::database::Database;
use crate::error::{Error, Result};

/// All services in one: a cheap handle on what they share.
#[derive(Clone)]
pub struct Api {
    pub database: Database,
    pub options: Arc<ServerOptions>,
    /// True once the server is to stop.
    pub stopping: watch::Receiver<bool>,
    /// Turns to search: searches keep cores busy, and more of them than cores only wait longer.
    turns: Arc<Semaphore>,
    /// Bytes that writes may still have; given back when one is written.
    write_room: Arc<Semaphore>,
}

impl Api {
    pub fn new(
        database: Database,
        options: Arc<ServerOptions>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let turns = Arc::new(Semaphore::new(options.max_searches));
        let write_room = Arc::new(Semaphore::new(options.max_write_bytes));
        Self { database, options, stopping, turns, write_room }
    }

    /// Room for a request that writes, to be held until it is written.
    pub fn write_room(&self, request: &impl Message) -> Result<OwnedSemaphorePermit, Status> {
        let room = Arc::clone(&self.write_room).try_acquire_many_owned(bytes(request));
        room.map_err(|_| {
            refuse(
                Code::ResourceExhausted,
                TOO_MANY_WRITES,
                format!(
                    "the writes that wait hold {} bytes, which is the limit; try again in a moment",
                    self.options.max_write_bytes
                ),
            )
        })
    }

    /// The same for a message of a stream, which can wait.
    pub async fn write_room_in_turn(
        &self,
        message: &impl Message,
    ) -> Result<OwnedSemaphorePermit, Status> {
        let room = Arc::clone(&self.write_room).acquire_many_owned(bytes(message));
        room.await.map_err(|_| failed())
    }

    /// Runs `work` on a thread that may block. What has begun is carried through even where the
    /// call is given up meanwhile, and counts as a call in work until then.
    pub async fn run<T: Send + 'static>(
        &self,
        call: &Call,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        let call = call.clone();
        let running = tokio::task::spawn_blocking(move || run_here(&call, work));
        running.await.unwrap_or_else(|_| Err(failed()))
    }

    /// The answer of a unary call, made by `work` on a thread that may block.
    pub async fn work<T: Message + 'static>(
        &self,
        call: &Call,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let answer = self.run(call, work).await?;
        self.answered(answer)
    }

    /// Runs work that keeps cores busy, once it is its turn.
    pub async fn search_work<T: Send + 'static>(
        &self,
        call: &Call,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        self.run(call, move || {
            let result = work();
            drop(turn);
            result
        })
        .await
    }

    /// The response that `answer` makes.
    pub fn answered<T: Message>(&self, answer: Result<T>) -> Result<Response<T>, Status> {
        let answer = answer.map_err(|e| status(&e))?;
        self.check_size(&answer)?;
        Ok(Response::new(answer))
    }

    /// A refusal where `answer` is larger than a message may be.
    pub fn check_size(&self, answer: &impl Message) -> Result<(), Status> {
        let (bytes, max) = (answer.encoded_len(), self.options.max_message_bytes);
        if bytes <= max {
            return Ok(());
        }
        Err(refuse(
            Code::ResourceExhausted,
            "ANSWER_TOO_LARGE",
            format!(
                "expected an answer of at most {max} bytes, got {bytes}; ask for less at a time"
            ),
        ))
    }
}

/// The bytes of a message; of no message they are more than the room for writes.
fn bytes(message: &impl Message) -> u32 {
    message.encoded_len().try_into().unwrap_or(u32::MAX)
}

/// Runs `work` on this thread, unless the deadline has passed. Where it panics, only this call
/// fails.
pub fn run_here<T>(call: &Call, work: impl FnOnce() -> T) -> Result<T, Status> {
    if Instant::now() >= call.deadline {
        return Err(status(&Error::Timeout));
    }
    // What the call owns is gone with it; what it shares is behind locks, which know of panics.
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
        tracing::error!("a call panicked");
        failed()
    })
}

fn failed() -> Status {
    refuse(Code::Internal, "INTERNAL", "the server failed at this; its log says why")
}

/// The call and the message of a request.
pub fn open<T>(mut request: Request<T>) -> Result<(Call, T), Status> {
    let call = request.extensions_mut().remove::<Call>();
    let call = call.ok_or_else(|| Status::internal("the call came past admission"))?;
    Ok((call, request.into_inner()))
}

/// An error where there are no items, or more than `max`.
pub fn check_count(place: &str, count: usize, max: usize) -> Result<()> {
    if (1..=max).contains(&count) {
        return Ok(());
    }
    Err(Error::invalid(place, format!("expected 1 to {max}, got {count}")))
}
