//! Sends one request over and over, on connections that stay open, and prints what it saw as a line of JSON.
//!
//! An answer other than 200 ends it with an error: a benchmark of refusals measures nothing.

use bytes::Bytes;
use clap::Parser;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::cell::Cell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

/// Sends one request over and over, and measures.
#[derive(Debug, Parser)]
struct Arguments {
    /// Port on loopback.
    #[arg(long)]
    port: u16,
    /// Path, with its query.
    #[arg(long)]
    path: String,
    /// `name: value`, as often as there are headers.
    #[arg(long = "header")]
    headers: Vec<String>,
    /// File that holds the body.
    #[arg(long)]
    body: PathBuf,
    /// Connections; each has one request under way at a time.
    #[arg(long)]
    connections: usize,
    /// How many requests to send at most.
    #[arg(long, default_value_t = u64::MAX)]
    requests: u64,
    /// For how long to begin new ones at most.
    #[arg(long, default_value_t = 600.0)]
    seconds: f64,
    /// How many to begin in a second at most; by default each as soon as its connection is free.
    #[arg(long)]
    rate: Option<f64>,
}

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    // One thread: what it takes from the measured programs is one core at most, and the same for each.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let measured = runtime
        .map_err(Failure::from)
        .and_then(|runtime| LocalSet::new().block_on(&runtime, measure(Arguments::parse())));
    match measured {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tollgate-load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Opens every connection, then sends.
async fn measure(arguments: Arguments) -> Result<serde_json::Value, Failure> {
    let request = Rc::new(request(&arguments)?);
    let mut connections = Vec::new();
    for _ in 0..arguments.connections {
        connections.push(connect(arguments.port).await?);
    }
    let started = Instant::now();
    let plan = Rc::new(Plan {
        started,
        until: started + Duration::try_from_secs_f64(arguments.seconds)?,
        apart: arguments.rate.map_or(Ok(Duration::ZERO), |rate| Duration::try_from_secs_f64(1.0 / rate))?,
        requests: arguments.requests,
        begun: Cell::new(0),
    });
    let mut clients = JoinSet::new();
    for sender in connections {
        clients.spawn_local(keep_asking(sender, Rc::clone(&request), Rc::clone(&plan)));
    }
    let mut seen = Seen::default();
    while let Some(client) = clients.join_next().await {
        let client = client??;
        seen.bytes += client.bytes;
        seen.latencies_us.extend(client.latencies_us);
    }
    seen.summary(started.elapsed())
}

fn request(arguments: &Arguments) -> Result<Request<Full<Bytes>>, Failure> {
    let mut builder = Request::post(&arguments.path).header("host", "tollgate");
    for header in &arguments.headers {
        let (name, value) = header.split_once(": ").ok_or_else(|| format!("no header: {header:?}"))?;
        builder = builder.header(name, value);
    }
    Ok(builder.body(Full::from(std::fs::read(&arguments.body)?))?)
}

async fn connect(port: u16) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // A connection that fails fails the request on it.
    tokio::task::spawn_local(connection);
    Ok(sender)
}

/// When requests begin.
struct Plan {
    started: Instant,
    until: Instant,
    /// Time from one to the next, whichever connection they are on.
    apart: Duration,
    requests: u64,
    begun: Cell<u64>,
}

impl Plan {
    /// When the next one begins; `None`: there is none.
    fn next(&self) -> Option<Instant> {
        let number = self.begun.get();
        let at = self.started + self.apart.mul_f64(number as f64);
        if number >= self.requests || at.max(Instant::now()) >= self.until {
            return None;
        }
        self.begun.set(number + 1);
        Some(at)
    }
}

/// What one client, or all of them, saw.
#[derive(Default)]
struct Seen {
    bytes: u64,
    latencies_us: Vec<u64>,
}

/// The next request leaves when the last answer has come whole, and not before its time.
async fn keep_asking(
    mut sender: SendRequest<Full<Bytes>>,
    request: Rc<Request<Full<Bytes>>>,
    plan: Rc<Plan>,
) -> Result<Seen, String> {
    let mut seen = Seen::default();
    while let Some(at) = plan.next() {
        tokio::time::sleep_until(at).await;
        let sent = Instant::now();
        let bytes = ask(&mut sender, &request).await?;
        seen.latencies_us.push(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
        seen.bytes += bytes;
    }
    Ok(seen)
}

/// One exchange; gives the bytes of the answer's body.
async fn ask(sender: &mut SendRequest<Full<Bytes>>, request: &Request<Full<Bytes>>) -> Result<u64, String> {
    let broken = |error: hyper::Error| format!("the connection broke: {error:?}");
    sender.ready().await.map_err(broken)?;
    let mut answer = sender.send_request(request.clone()).await.map_err(broken)?;
    if answer.status() != StatusCode::OK {
        let (status, body) = (answer.status(), answer.into_body().collect().await.map_err(broken)?);
        return Err(format!("{status}: {}", String::from_utf8_lossy(&body.to_bytes())));
    }
    let mut bytes = 0;
    while let Some(frame) = answer.body_mut().frame().await {
        bytes += frame.map_err(broken)?.data_ref().map_or(0, Bytes::len) as u64;
    }
    Ok(bytes)
}

impl Seen {
    fn summary(mut self, elapsed: Duration) -> Result<serde_json::Value, Failure> {
        self.latencies_us.sort_unstable();
        let count = self.latencies_us.len();
        // The smallest latency that so many in a hundred do not exceed.
        let percentile = |percent: usize| {
            let rank = (count * percent).div_ceil(100).max(1);
            self.latencies_us.get(rank - 1).ok_or("no request was sent")
        };
        Ok(serde_json::json!({
            "requests": count,
            "bytes": self.bytes,
            "seconds": elapsed.as_secs_f64(),
            "p50_us": percentile(50)?,
            "p99_us": percentile(99)?,
        }))
    }
}
