//! What a server allows: every limit in one place, each with a default that is safe on an open
//! network.

use std::time::Duration;

/// The limits of a server; `ServerOptions::default()` is a good set.
///
/// ```
/// use std::time::Duration;
/// use nearbit::server::ServerOptions;
///
/// let options = ServerOptions { drain_timeout: Duration::from_secs(5), ..ServerOptions::default() };
/// assert_eq!(options.max_message_bytes, 16 << 20);
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct ServerOptions {
    /// Connections open at once; the next ones wait to be accepted. 1,024.
    pub max_connections: usize,
    /// From accepting a connection to its first request, or it is closed. 10 s.
    pub handshake_timeout: Duration,
    /// After this age a connection takes no further calls, and closes once those it has are
    /// answered. Clients connect again by themselves; so load moves to new servers. 1 h.
    pub max_connection_age: Duration,
    /// Silence on a connection after which it is pinged. 60 s.
    pub keepalive_interval: Duration,
    /// From a ping without an answer to closing the connection. 20 s.
    pub keepalive_timeout: Duration,

    /// Calls open at once on one connection. 128.
    pub max_streams_per_connection: u32,
    /// Calls that a client reset and the server did not yet look at; more close the connection
    /// (the "rapid reset" attack). 32.
    pub max_pending_resets: usize,
    /// Calls that the server reset because the client broke the protocol; more close the
    /// connection. 64.
    pub max_error_resets: usize,
    /// All headers of a call, in bytes. 8 KiB.
    pub max_header_bytes: u32,
    /// One message, in bytes, in either direction. 16 MiB.
    pub max_message_bytes: usize,
    /// Bytes that a client may send ahead on one call. 1 MiB.
    pub stream_window_bytes: u32,
    /// Bytes that a client may send ahead on one connection. 4 MiB.
    pub connection_window_bytes: u32,

    /// Calls in work at once, over all connections; more are refused with UNAVAILABLE. Times
    /// `max_message_bytes` it bounds the memory that requests hold while they arrive. 256.
    pub max_calls: usize,
    /// Bytes of the requests that write, from their arrival until they are written: those of all
    /// who wait for the disk. More are refused with RESOURCE_EXHAUSTED; an import waits for its
    /// turn. At least `max_message_bytes`. 256 MiB.
    pub max_write_bytes: usize,
    /// Searches that run at once; the next ones wait for their turn. The number of cores.
    pub max_searches: usize,
    /// The deadline of a call that brings none. 10 s.
    pub default_timeout: Duration,
    /// The latest deadline that a call may bring. 5 min.
    pub max_timeout: Duration,
    /// The latest deadline of a streaming call. 1 h.
    pub max_stream_timeout: Duration,
    /// Silence on a streaming call, or a client that does not read, after which the call is
    /// ended. 5 min.
    pub stream_idle_timeout: Duration,

    /// Records in one request to write them, or ids in one to delete them. 10,000.
    pub max_records: usize,
    /// Ids in one request to look them up. 1,000.
    pub max_lookups: usize,
    /// Queries in one batch. 1,000.
    pub max_queries: usize,
    /// Hits of one query. 10,000.
    pub max_limit: usize,
    /// Records that one query looks at more closely. 100,000.
    pub max_candidates: usize,
    /// Hits of all queries of a batch. 100,000.
    pub max_batch_hits: usize,
    /// Items on a page where the request does not say. 100.
    pub default_page_size: usize,
    /// Items on a page. 1,000.
    pub max_page_size: usize,
    /// Bytes of a page of records, but for a single record that is larger: half of what gRPC
    /// clients take by default. 2 MiB.
    pub max_page_bytes: usize,
    /// Refused records that the summary of an import names. 100.
    pub max_rejections: usize,

    /// From being told to stop to cutting off the calls that are still in work. 30 s.
    pub drain_timeout: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            handshake_timeout: Duration::from_secs(10),
            max_connection_age: Duration::from_secs(3600),
            keepalive_interval: Duration::from_secs(60),
            keepalive_timeout: Duration::from_secs(20),
            max_streams_per_connection: 128,
            max_pending_resets: 32,
            max_error_resets: 64,
            max_header_bytes: 8 << 10,
            max_message_bytes: 16 << 20,
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 4 << 20,
            max_calls: 256,
            max_write_bytes: 256 << 20,
            max_searches: std::thread::available_parallelism().map_or(1, usize::from),
            default_timeout: Duration::from_secs(10),
            max_timeout: Duration::from_secs(300),
            max_stream_timeout: Duration::from_secs(3600),
            stream_idle_timeout: Duration::from_secs(300),
            max_records: 10_000,
            max_lookups: 1000,
            max_queries: 1000,
            max_limit: 10_000,
            max_candidates: 100_000,
            max_batch_hits: 100_000,
            default_page_size: 100,
            max_page_size: 1000,
            max_page_bytes: 2 << 20,
            max_rejections: 100,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

impl ServerOptions {
    /// The same options, with nothing that the layers below could not hold or would wait for
    /// without end: moments further away than an `Instant` reaches, windows larger than HTTP/2
    /// has them, no place at all.
    pub(super) fn bounded(self) -> Self {
        const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        const MOST_PLACES: usize = 1 << 24;
        const MOST_BYTES: usize = usize::MAX >> 4;
        const MOST_WINDOW_BYTES: u32 = i32::MAX as u32;
        Self {
            max_connections: self.max_connections.clamp(1, MOST_PLACES),
            handshake_timeout: self.handshake_timeout.min(CENTURY),
            max_connection_age: self.max_connection_age.min(CENTURY),
            keepalive_interval: self.keepalive_interval.min(CENTURY),
            keepalive_timeout: self.keepalive_timeout.min(CENTURY),
            stream_window_bytes: self.stream_window_bytes.min(MOST_WINDOW_BYTES),
            connection_window_bytes: self.connection_window_bytes.min(MOST_WINDOW_BYTES),
            max_calls: self.max_calls.clamp(1, MOST_PLACES),
            max_write_bytes: self.max_write_bytes.max(self.max_message_bytes).min(MOST_BYTES),
            max_searches: self.max_searches.clamp(1, MOST_PLACES),
            default_timeout: self.default_timeout.min(CENTURY),
            max_timeout: self.max_timeout.min(CENTURY),
            max_stream_timeout: self.max_stream_timeout.min(CENTURY),
            stream_idle_timeout: self.stream_idle_timeout.min(CENTURY),
            default_page_size: self.default_page_size.max(1),
            max_page_size: self.max_page_size.max(1),
            drain_timeout: self.drain_timeout.min(CENTURY),
            ..self
        }
    }
}
