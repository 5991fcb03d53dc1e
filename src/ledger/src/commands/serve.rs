//! `serve`: the ledger itself.

use super::Failure;
use super::doors::DoorArgs;
use super::place::PlaceArgs;
use axum::serve::Listener;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tollgate_domain::price::{BUILT_IN, PriceBook};
use tollgate_ledger::master::MasterKey;
use tollgate_ledger::server;
use tollgate_ledger::store::postgres::{self, Config};
use tollgate_ledger::store::{Keeper, Place, Settings, sqlite};

#[derive(Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    doors: DoorArgs,
    #[command(flatten)]
    place: PlaceArgs,
    /// A price book that replaces the built-in one.
    #[arg(long, env = "TOLLGATE_PRICE_BOOK", hide_env_values = true)]
    price_book: Option<PathBuf>,
    /// Refuses nothing for money: every limit only counts, and records what it would have refused.
    #[arg(long, env = "TOLLGATE_OBSERVE", hide_env_values = true)]
    observe: bool,
    /// How long a hold lives after its last sign of life: 900s, 15m, 1h. A filter gives one every minute.
    #[arg(long, env = "TOLLGATE_HOLD_TTL", hide_env_values = true, value_name = "TIME", default_value = "15m", value_parser = duration_ms)]
    hold_ttl: i64,
    /// Once: the clock is right, although the books end later, or more than a month earlier.
    #[arg(long)]
    accept_clock: bool,
    /// Once: the books were restored, and go on without what happened since their backup.
    #[arg(long)]
    accept_gap: bool,
    /// Ends when standard input does, so that the ledger never outlives whoever started it.
    #[arg(long)]
    exit_with_stdin: bool,
}

/// How long the last transaction may take to be written.
const CLOSE_MAX: Duration = Duration::from_secs(5);

pub(crate) async fn run(options: Serve) -> ExitCode {
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
    let tls = options.doors.tls()?;
    let book = Arc::new(price_book(&options)?);
    let settings = Settings {
        observe: options.observe,
        hold_ttl_ms: options.hold_ttl,
        accept_clock: options.accept_clock,
        accept_gap: options.accept_gap,
        ..Settings::new(book)
    };
    let place = options.place.place()?;
    let (store, mut keeper) = match &place {
        Place::Sqlite(path) => sqlite::open(path, settings)?,
        Place::Postgres(config) => postgres::open(Config::clone(config), settings).await?,
    };
    let is_tls = tls.is_some();
    let listeners = options.doors.listen(tls).await?;
    let (grpc, admin) = (listeners.grpc.local_addr()?, listeners.admin.local_addr()?);
    let metrics = listeners.metrics.as_ref().map(TcpListener::local_addr).transpose()?;
    let metrics = metrics.map_or_else(|| "none".to_owned(), |address| address.to_string());
    tracing::info!(%grpc, %admin, %metrics, tls = is_tls, db = %place, "the ledger serves");
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

/// Bytes of the shortest master key that may leave the machine.
const MASTER_KEY_BYTES_MIN: usize = 32;

fn master_key(options: &Serve) -> Result<MasterKey, Failure> {
    let secret = std::env::var("TOLLGATE_MASTER_KEY").unwrap_or_default();
    if secret.is_empty() {
        return Err("TOLLGATE_MASTER_KEY must be set: it is the key of the admin API".into());
    }
    if secret.len() < MASTER_KEY_BYTES_MIN {
        if options.doors.are_off_loopback() {
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

/// Shorter, and a hold would expire between two signs of life that come a minute apart.
const HOLD_TTL_MS_MIN: i64 = 120_000;
/// Longer, and what nobody settled would stay reserved for longer than any answer takes.
const HOLD_TTL_MS_MAX: i64 = 86_400_000;

fn duration_ms(text: &str) -> Result<i64, String> {
    let units = [("s", 1_000), ("m", 60_000), ("h", 3_600_000_i64)];
    let unit = units.iter().find_map(|(unit, ms)| Some((text.strip_suffix(unit)?, ms)));
    let ms = unit.and_then(|(count, ms)| count.parse::<u32>().ok().map(|count| i64::from(count) * ms));
    ms.filter(|ms| (HOLD_TTL_MS_MIN..=HOLD_TTL_MS_MAX).contains(ms))
        .ok_or_else(|| "a time such as 900s, 15m or 1h, from two minutes to a day".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_life_of_a_hold_has_a_unit_and_bounds() {
        for (text, ms) in [
            ("900s", Some(900_000)),
            ("15m", Some(900_000)),
            ("24h", Some(86_400_000)),
            ("120s", Some(120_000)),
            ("119s", None),
            ("25h", None),
            ("15", None),
            ("-15m", None),
            ("m", None),
            ("", None),
        ] {
            assert_eq!(duration_ms(text).ok(), ms, "{text}");
        }
    }
}
