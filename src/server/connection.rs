//! Connections: how many there are, and how long one may take to say something.
//!
//! tonic accepts without end, waits for a first byte without end, and spins when the process is
//! out of file descriptors. So accepting is done here: a connection takes one of a fixed number
//! of places, and is read through [`Connection`], which fails when the client says nothing at
//! first or when the server will not wait any longer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Sleep, sleep};
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::ServerOptions;

/// What a client sends before its first call: HTTP/2's preface and the header of a SETTINGS frame.
const GREETING_BYTES: usize = 24 + 9;

/// How long to wait before accepting again when the system refuses, for want of file descriptors.
pub const ACCEPT_DELAY: Duration = Duration::from_millis(50);

/// Accepts connections and sends them on, until nobody takes them any more.
pub async fn accept(
    listener: TcpListener,
    options: ServerOptions,
    cut: watch::Receiver<bool>,
    accepted: mpsc::Sender<io::Result<Connection>>,
) {
    let places = Arc::new(Semaphore::new(options.max_connections));
    loop {
        // The place comes first: a client beyond the limit waits in the system's queue.
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
            let (stream, peer) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tracing::debug!(%peer, "a client connected");
            io::Result::Ok(Connection::new(stream, place, options.handshake_timeout, cut.clone()))
        };
        let connection = tokio::select! {
            () = accepted.closed() => return,
            connection = next => connection,
        };
        match connection {
            Ok(connection) => {
                if accepted.send(Ok(connection)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                sleep(ACCEPT_DELAY).await;
            }
        }
    }
}

/// A client's connection: a TCP stream that ends when the greeting is late or the server's
/// patience is over. While it lives it holds its place among the connections.
pub struct Connection {
    stream: TcpStream,
    /// Runs until the greeting is read.
    greeting: Option<Greeting>,
    /// Ready when the server waits no longer.
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    _place: OwnedSemaphorePermit,
}

struct Greeting {
    missing: usize,
    late: Pin<Box<Sleep>>,
}

impl Connection {
    fn new(
        stream: TcpStream,
        place: OwnedSemaphorePermit,
        patience: Duration,
        mut cut: watch::Receiver<bool>,
    ) -> Self {
        let greeting = Greeting { missing: GREETING_BYTES, late: Box::pin(sleep(patience)) };
        Self {
            stream,
            greeting: Some(greeting),
            // A sender that is gone has not cut anything.
            cut: Box::pin(async move {
                if cut.wait_for(|cut| *cut).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }),
            _place: place,
        }
    }

    /// An error where this connection has had its time.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the server stops"));
        }
        if let Some(greeting) = &mut self.greeting
            && greeting.late.as_mut().poll(cx).is_ready()
        {
            tracing::debug!("a client did not greet in time");
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no HTTP/2 greeting in time"));
        }
        Ok(())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let read = buffer.filled().len() - before;
        if let Some(greeting) = &mut self.greeting {
            greeting.missing = greeting.missing.saturating_sub(read);
            if greeting.missing == 0 {
                self.greeting = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}
