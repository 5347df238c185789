//! The answers of a streaming call, on their way to a client that may read slowly.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::call::Call;
use super::status::{refuse, status};
use crate::error::Error;

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
    /// An outbox, and the stream of what is put into it. So many messages may be `waiting` for the
    /// client, which may take `patience` to read one.
    pub fn new(
        call: Call,
        waiting: usize,
        patience: Duration,
    ) -> Result<(Self, ReceiverStream<Result<T, Status>>), Status> {
        let (messages, stream) = mpsc::channel(waiting + 1);
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio_stream::StreamExt as _;
    use tonic_types::StatusExt as _;

    use super::*;

    const WAITING: usize = 4;
    const LONG: Duration = Duration::from_secs(600);
    const SHORT: Duration = Duration::from_millis(10);

    /// What a client that wakes up late reads of a stream of numbers without end.
    async fn read_late(deadline: Duration, patience: Duration) -> (Vec<u32>, String) {
        let call = Call::lone(Instant::now() + deadline);
        let (outbox, mut stream) = Outbox::new(call, WAITING, patience).unwrap();
        let mut outbox = Some(outbox);
        for number in 0.. {
            let Some(open) = outbox.take() else { break };
            outbox = open.send(number).await;
        }
        let (mut numbers, mut reason) = (Vec::new(), String::new());
        while let Some(message) = stream.next().await {
            match message {
                Ok(number) => numbers.push(number),
                Err(status) => reason = status.get_details_error_info().unwrap().reason,
            }
        }
        (numbers, reason)
    }

    #[tokio::test]
    async fn a_stream_that_nobody_reads_ends_with_a_status() {
        let waiting: Vec<u32> = (0..WAITING as u32).collect();
        let expected = |reason: &str| (waiting.clone(), reason.to_owned());
        assert_eq!(read_late(LONG, SHORT).await, expected("CLIENT_TOO_SLOW"));
        assert_eq!(read_late(SHORT, LONG).await, expected("DEADLINE_PASSED"));
    }

    #[tokio::test]
    async fn a_stream_whose_client_is_gone_ends() {
        let call = Call::lone(Instant::now() + LONG);
        let (outbox, stream) = Outbox::new(call, WAITING, LONG).unwrap();
        drop(stream);
        assert!(outbox.send(0).await.is_none());
    }
}
