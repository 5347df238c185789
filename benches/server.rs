//! What does a server add? Searches and writes over gRPC, by one client and by many at once, beside the
//! same calls on the collection itself.
//!
//! ```text
//! cargo bench --bench server
//! cargo bench --bench server -- search    # or: write, import
//! ```
//!
//! A million clustered codes of 64 bits, searched for the 10 nearest. Server and clients share this
//! machine and its cores, each client has one call at a time, on a connection of its own or on one that
//! all share, and each way has five turns, of which the median counts.

mod common;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::Spread;
use nearbit::server::{ServerOptions, serve_blocking};
use nearbit::{
    Code, Codes, Collection, CollectionSettings, Database, EncoderSpec, NewRecord, Search,
};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use proto::new_record::Source;
use proto::query::Kind;
use proto::record_service_client::RecordServiceClient;
use proto::search_service_client::SearchServiceClient;

/// The client, made from the same .proto files as the server.
#[allow(clippy::all)]
mod proto {
    tonic::include_proto!("nearbit.v1");
}

const ROWS: usize = 1_000_000;
const QUERIES: usize = 1000;
/// Clients at once, and their connections.
const CLIENTS: [(usize, usize); 5] = [(1, 1), (8, 8), (8, 1), (32, 32), (32, 1)];
const TURNS: usize = 5;
const TURN: Duration = Duration::from_secs(1);
/// Searches in one call, or on their way in one stream; records in one message of an import.
const BATCH: usize = 100;
const MESSAGE: usize = 1000;

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let wanted = |name: &str| asked.is_empty() || asked.iter().any(|asked| asked == name);
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let served = database.clone();
    let serving = std::thread::spawn(move || {
        let wait = move || stopped.recv().unwrap_or(());
        serve_blocking(listener, served, ServerOptions::default(), wait).unwrap();
    });
    let runtime = Runtime::new().unwrap();
    let (codes, queries) = Spread::Clustered.make(64, ROWS, QUERIES);
    if wanted("import") {
        import(&runtime, address, &database, &codes);
    }
    if wanted("search") {
        search(&runtime, address, &filled(&database, "searched", &codes), queries);
    }
    if wanted("write") {
        write(&runtime, address, &create(&database, "written"), &codes);
    }
    drop(stop);
    serving.join().unwrap();
}

fn create(database: &Database, name: &str) -> Collection {
    let codes = EncoderSpec::Codes { width: nearbit::Width::new(64).unwrap() };
    database.create_collection(name, &CollectionSettings::new(codes)).unwrap()
}

/// The records of some rows, for the collection itself.
fn records(codes: &Codes, rows: std::ops::Range<usize>) -> Vec<NewRecord> {
    let record = |row| NewRecord::code(codes.get(row)).with_id(row.to_string()).unwrap();
    rows.map(record).collect()
}

/// The same for a server.
fn messages(codes: &Codes, rows: std::ops::Range<usize>) -> Vec<proto::NewRecord> {
    let record = |row: usize| proto::NewRecord {
        id: row.to_string(),
        source: Some(Source::Code(codes.get(row).to_bytes())),
        payload_json: String::new(),
    };
    rows.map(record).collect()
}

fn filled(database: &Database, name: &str, codes: &Codes) -> Collection {
    let collection = create(database, name);
    for start in (0..codes.len()).step_by(10_000) {
        collection.upsert(records(codes, start..start + 10_000)).unwrap();
    }
    collection
}

async fn connect(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// The calls of a turn, and how long each took.
struct Turn {
    waits: Vec<Duration>,
    took: Duration,
}

impl Turn {
    /// What many did at once.
    fn of(waits: impl IntoIterator<Item = Vec<Duration>>, took: Duration) -> Self {
        let mut waits: Vec<Duration> = waits.into_iter().flatten().collect();
        waits.sort_unstable();
        Self { waits, took }
    }

    fn a_second(&self) -> f64 {
        self.waits.len() as f64 / self.took.as_secs_f64()
    }

    fn wait(&self, part: f64) -> f64 {
        self.waits[((self.waits.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Takes turns and prints their medians; `each` items come of a call.
fn print(what: &str, each: usize, turn: impl FnMut() -> Turn) {
    let turns: Vec<Turn> = std::iter::repeat_with(turn).take(TURNS).collect();
    let of = |value: &dyn Fn(&Turn) -> f64| median(turns.iter().map(value).collect());
    let (rate, half, most) =
        (of(&Turn::a_second) * each as f64, of(&|t| t.wait(0.5)), of(&|t| t.wait(0.99)));
    println!("  {what:44} {rate:9.0} a second, {half:7.0} us at the median, {most:7.0} at p99");
}

/// The same of calls by one client and by many.
fn print_of_clients<F: Future<Output = ()> + Send>(
    runtime: &Runtime,
    address: SocketAddr,
    call: impl Fn(Channel, usize) -> F + Clone + Send + 'static,
) {
    for (clients, connections) in CLIENTS {
        let what = format!("{clients} clients on {connections} connections, each one a call");
        let clients = (clients, connections);
        print(&what, 1, || turn_of_clients(runtime, address, clients, call.clone()));
    }
}

/// One turn of calls by one thread.
fn turn_here(mut call: impl FnMut(usize)) -> Turn {
    let (mut waits, begun) = (Vec::new(), Instant::now());
    while begun.elapsed() < TURN {
        let start = Instant::now();
        call(waits.len());
        waits.push(start.elapsed());
    }
    Turn::of([waits], begun.elapsed())
}

/// One turn of calls by so many clients at once, on so many connections.
fn turn_of_clients<F: Future<Output = ()> + Send>(
    runtime: &Runtime,
    address: SocketAddr,
    (clients, connections): (usize, usize),
    call: impl Fn(Channel, usize) -> F + Clone + Send + 'static,
) -> Turn {
    runtime.block_on(async {
        let mut channels = Vec::new();
        for _ in 0..connections {
            channels.push(connect(address).await);
        }
        let channels: Vec<Channel> = channels.into_iter().cycle().take(clients).collect();
        let (mut tasks, begun) = (JoinSet::new(), Instant::now());
        for (client, channel) in channels.into_iter().enumerate() {
            let call = call.clone();
            tasks.spawn(async move {
                let mut waits = Vec::new();
                while begun.elapsed() < TURN {
                    let start = Instant::now();
                    call(channel.clone(), client + waits.len() * clients).await;
                    waits.push(start.elapsed());
                }
                waits
            });
        }
        Turn::of(tasks.join_all().await, begun.elapsed())
    })
}

fn search(runtime: &Runtime, address: SocketAddr, collection: &Collection, queries: Vec<Code>) {
    println!("searches for the 10 nearest of {ROWS} codes");
    let queries = Arc::new(queries);
    let request = {
        let (queries, collection) = (Arc::clone(&queries), collection.name().to_owned());
        move |i: usize| proto::SearchRequest {
            collection: collection.clone(),
            query: Some(proto::Query {
                kind: Some(Kind::Code(queries[i % queries.len()].to_bytes())),
            }),
            ..Default::default()
        }
    };
    // The first one has all sorted.
    let here = |i: usize| {
        collection.search(&Search::code(queries[i % queries.len()].clone())).unwrap();
    };
    here(0);
    while collection.sizes().index.delta > 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    print("the collection itself, one thread", 1, || turn_here(here));
    let single = {
        let request = request.clone();
        move |channel, i| {
            let request = request(i);
            async move {
                drop(SearchServiceClient::new(channel).search(request).await.unwrap());
            }
        }
    };
    print_of_clients(runtime, address, single);
    let batch = {
        let (request, collection) = (request.clone(), collection.name().to_owned());
        move |channel, i: usize| {
            let searches = (0..BATCH).map(|k| request(i * BATCH + k)).collect();
            let request = proto::SearchBatchRequest { collection: collection.clone(), searches };
            async move {
                drop(SearchServiceClient::new(channel).search_batch(request).await.unwrap());
            }
        }
    };
    print(&format!("1 client, {BATCH} searches a call"), BATCH, || {
        turn_of_clients(runtime, address, (1, 1), batch.clone())
    });
    print(&format!("1 client, a stream with {BATCH} on their way"), 1, || {
        runtime.block_on(turn_of_stream(address, &request))
    });
}

/// One turn of searches in one stream, of which so many are on their way.
async fn turn_of_stream(
    address: SocketAddr,
    request: &(impl Fn(usize) -> proto::SearchRequest + Clone + Send + 'static),
) -> Turn {
    let mut client = SearchServiceClient::new(connect(address).await);
    let (send, sent) = tokio::sync::mpsc::channel(BATCH);
    let begun = Instant::now();
    let answers = client.search_stream(tokio_stream::wrappers::ReceiverStream::new(sent));
    let ask = |i: usize| proto::SearchStreamRequest { tag: i as u64, search: Some(request(i)) };
    let mut begins = Vec::new();
    for i in 0..BATCH {
        begins.push(Instant::now());
        send.send(ask(i)).await.unwrap();
    }
    let (mut answers, mut waits) = (answers.await.unwrap().into_inner(), Vec::new());
    let mut send = Some(send);
    while let Some(answer) = answers.message().await.unwrap() {
        waits.push(begins[answer.tag as usize].elapsed());
        if begun.elapsed() >= TURN {
            send = None;
        }
        if let Some(send) = &send {
            send.send(ask(begins.len())).await.unwrap();
            begins.push(Instant::now());
        }
    }
    Turn::of([waits], begun.elapsed())
}

fn write(runtime: &Runtime, address: SocketAddr, collection: &Collection, codes: &Codes) {
    println!("single records, new ones in the first turn and the same again in the others, synced");
    let here = |i: usize| {
        collection.upsert(records(codes, i..i + 1)).unwrap();
    };
    print("the collection itself, one thread", 1, || turn_here(here));
    let (codes, collection) = (Arc::new(codes.clone()), collection.name().to_owned());
    print_of_clients(runtime, address, move |channel, i| {
        let (records, collection) = (messages(&codes, i..i + 1), collection.clone());
        let request = proto::UpsertRecordsRequest { collection, records, durability: None };
        async move {
            drop(RecordServiceClient::new(channel).upsert_records(request).await.unwrap());
        }
    });
}

/// Imports all records in one stream, and in the same groups without a server.
fn import(runtime: &Runtime, address: SocketAddr, database: &Database, codes: &Codes) {
    println!("{ROWS} records in messages of {MESSAGE}");
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        let collection = create(database, &format!("here-{turn}"));
        let groups: Vec<_> =
            (0..ROWS).step_by(MESSAGE).map(|i| records(codes, i..i + MESSAGE)).collect();
        let start = Instant::now();
        groups.into_iter().for_each(|group| drop(collection.upsert(group).unwrap()));
        here.push(ROWS as f64 / start.elapsed().as_secs_f64());

        let name = format!("there-{turn}");
        create(database, &name);
        let message = |i| proto::ImportRecordsRequest {
            collection: name.clone(),
            records: messages(codes, i..i + MESSAGE),
            durability: None,
        };
        let messages: Vec<_> = (0..ROWS).step_by(MESSAGE).map(message).collect();
        let took = runtime.block_on(async {
            let mut client = RecordServiceClient::new(connect(address).await);
            let start = Instant::now();
            let summary = client.import_records(tokio_stream::iter(messages)).await.unwrap();
            assert_eq!(summary.into_inner().written, ROWS as u64);
            start.elapsed()
        });
        there.push(ROWS as f64 / took.as_secs_f64());
        for name in [format!("here-{turn}"), name] {
            database.delete_collection(&name).unwrap();
        }
    }
    for (what, rates) in
        [("the collection itself, one thread", here), ("1 client, a stream", there)]
    {
        println!("  {what:44} {:9.0} a second", median(rates));
    }
}
