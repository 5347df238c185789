//! The answers of a streaming call, on their way to a client that may read slowly.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::call::Call;
use super::status::{refuse, status};
use crate::error::Error;

/// Messages that may wait for the client.
const WAITING: usize = 4;

/// Where the messages of one streaming answer are put. The stream ends well when it is dropped,
/// and with a status when it [fails](Outbox::fail).
pub struct Outbox<T> {
    call: Call,
    patience: Duration,
    messages: mpsc::Sender<Result<T, Status>>,
    /// A slot that is kept free for the last word: a stream that had to be given up because
    /// nobody reads must not look as if it were whole.
    last: mpsc::OwnedPermit<Result<T, Status>>,
}

impl<T> Outbox<T> {
    /// An outbox, and the stream of what is put into it. The client may take `patience` to read
    /// a message.
    pub fn new(
        call: Call,
        patience: Duration,
    ) -> Result<(Self, ReceiverStream<Result<T, Status>>), Status> {
        let (messages, stream) = mpsc::channel(WAITING + 1);
        let last = messages.clone().try_reserve_owned();
        let last = last.map_err(|_| Status::internal("a new channel has no room"))?;
        Ok((Self { call, patience, messages, last }, ReceiverStream::new(stream)))
    }

    /// Puts one message in, once there is room. `None` where the stream is over: the client is
    /// gone, too slow, or the deadline has passed.
    pub async fn send(self, message: T) -> Option<Self> {
        let deadline = tokio::time::Instant::from_std(self.call.deadline);
        let too_slow = tokio::time::Instant::now() + self.patience;
        let sent =
            tokio::time::timeout_at(deadline.min(too_slow), self.messages.send(Ok(message))).await;
        match sent {
            Ok(Ok(())) => Some(self),
            Ok(Err(_)) => None,
            Err(_) if deadline <= too_slow => {
                self.fail(status(&Error::Timeout));
                None
            }
            Err(_) => {
                let seconds = self.patience.as_secs_f64();
                self.fail(refuse(
                    tonic::Code::DeadlineExceeded,
                    "CLIENT_TOO_SLOW",
                    format!("no answer was read for {seconds} s, which is the limit"),
                ));
                None
            }
        }
    }

    /// Ends the stream with a status.
    pub fn fail(self, status: Status) {
        self.last.send(Err(status));
    }
}
