//! The ledger binary; `main` only wires.

use clap::{Args, Parser, Subcommand};
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tollgate_domain::price::{BUILT_IN, PriceBook};
use tollgate_ledger::master::MasterKey;
use tollgate_ledger::server::{self, Listeners};
use tollgate_ledger::store::{Keeper, Settings, sqlite};

/// Holds the money of Tollgate.
#[derive(Debug, Parser)]
#[command(name = "tollgate-ledger", version)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serves the filter and the admin API until SIGTERM.
    Serve(Serve),
}

#[derive(Debug, Args)]
struct Serve {
    /// Where the filter finds the ledger (gRPC).
    #[arg(long, env = "TOLLGATE_LEDGER_GRPC", default_value = "127.0.0.1:4001")]
    grpc: SocketAddr,
    /// Where the admin API listens (HTTP).
    #[arg(long, env = "TOLLGATE_LEDGER_ADMIN", default_value = "127.0.0.1:4002")]
    admin: SocketAddr,
    /// The SQLite file; made where it is missing.
    #[arg(long, env = "TOLLGATE_LEDGER_DB")]
    db: PathBuf,
    /// A price book that replaces the built-in one.
    #[arg(long, env = "TOLLGATE_PRICE_BOOK")]
    price_book: Option<PathBuf>,
    /// Refuses nothing for money: every limit only counts, and records what it would have refused.
    #[arg(long, env = "TOLLGATE_OBSERVE")]
    observe: bool,
    /// Ends when standard input does, so that the ledger never outlives whoever started it.
    #[arg(long)]
    exit_with_stdin: bool,
}

/// How long the last transaction may take to be written.
const CLOSE_MAX: Duration = Duration::from_secs(5);

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let colors = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colors).with_writer(std::io::stderr).init();
    let Verb::Serve(options) = Command::parse().verb;
    match serve(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the ledger stops");
            ExitCode::FAILURE
        }
    }
}

async fn serve(options: Serve) -> Result<(), Failure> {
    let master = master_key(&options)?;
    let book = Arc::new(price_book(&options)?);
    let settings = Settings { observe: options.observe, ..Settings::new(book) };
    let (store, mut keeper) = sqlite::open(&options.db, settings)?;
    let listeners = Listeners { grpc: bind(options.grpc).await?, admin: bind(options.admin).await? };
    let (grpc, admin) = (listeners.grpc.local_addr()?, listeners.admin.local_addr()?);
    tracing::info!(%grpc, %admin, db = %options.db.display(), "the ledger serves");
    let mut failure = None;
    let shutdown = async { failure = shutdown(&mut keeper, options.exit_with_stdin).await };
    server::run(listeners, Arc::new(store), master, shutdown).await?;
    if let Some(reason) = failure {
        return Err(format!("the books cannot be written: {reason}").into());
    }
    if !keeper.closed(CLOSE_MAX).await {
        tracing::warn!("the books were left open: the next start recovers what is in the log");
    }
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| format!("cannot listen on {address}: {error}").into())
}

/// Bytes of the shortest master key that may leave the machine.
const MASTER_KEY_BYTES_MIN: usize = 32;

fn master_key(options: &Serve) -> Result<MasterKey, Failure> {
    let secret = std::env::var("TOLLGATE_MASTER_KEY").unwrap_or_default();
    if secret.is_empty() {
        return Err("TOLLGATE_MASTER_KEY must be set: it is the key of the admin API".into());
    }
    if secret.len() < MASTER_KEY_BYTES_MIN {
        if !options.grpc.ip().is_loopback() || !options.admin.ip().is_loopback() {
            return Err(format!(
                "TOLLGATE_MASTER_KEY must have at least {MASTER_KEY_BYTES_MIN} characters off loopback"
            )
            .into());
        }
        tracing::warn!("TOLLGATE_MASTER_KEY is short: good for trying things out, on loopback only");
    }
    Ok(MasterKey::new(secret.as_bytes()))
}

fn price_book(options: &Serve) -> Result<PriceBook, Failure> {
    let Some(path) = &options.price_book else {
        return Ok(PriceBook::parse(BUILT_IN)?);
    };
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
    Ok(PriceBook::parse(&text).map_err(|error| named(&error))?)
}

/// Waits for the end: SIGTERM, SIGINT, the end of standard input, or books that cannot be written (and then says why).
async fn shutdown(keeper: &mut Keeper, with_stdin: bool) -> Option<String> {
    let mut terminate = signal(SignalKind::terminate()).ok();
    let mut interrupt = signal(SignalKind::interrupt()).ok();
    let terminated = async {
        match &mut terminate {
            Some(terminate) => terminate.recv().await,
            None => std::future::pending().await,
        }
    };
    let interrupted = async {
        match &mut interrupt {
            Some(interrupt) => interrupt.recv().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = terminated => tracing::info!("SIGTERM"),
        _ = interrupted => tracing::info!("SIGINT"),
        () = stdin_end(with_stdin) => tracing::info!("standard input has ended"),
        reason = keeper.failed() => return Some(reason),
    }
    None
}

/// On a thread of its own, because nothing can interrupt a read of standard input.
async fn stdin_end(wanted: bool) {
    let (ended, end) = tokio::sync::oneshot::channel();
    if !wanted {
        return std::future::pending().await;
    }
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = ended.send(());
    });
    let _ = end.await;
}
