//! The command: reads its options, listens, and serves until it is told to stop.

use clap::Parser;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tollgate_mock_provider::{Keys, Mock, Options, serve};

/// Speaks the wire formats of Anthropic, OpenAI and Google, without a model behind.
#[derive(Debug, Parser)]
#[command(name = "tollgate-mock-provider", version)]
struct Arguments {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:4010")]
    listen: SocketAddr,
    /// Also exit when standard input ends: no mock outlives the test that started it.
    #[arg(long)]
    exit_with_stdin: bool,
    /// Record nothing: for benchmarks.
    #[arg(long)]
    quiet: bool,
    /// The one key that the Anthropic side takes; any by default.
    #[arg(long)]
    anthropic_key: Option<String>,
    /// The one key that the OpenAI side takes; any by default.
    #[arg(long)]
    openai_key: Option<String>,
    /// The one key that the Google side takes; any by default.
    #[arg(long)]
    gemini_key: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tollgate-mock-provider: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = TcpListener::bind(arguments.listen).await?;
    announce(listener.local_addr()?)?;
    let stdin_ended = watch_stdin(arguments.exit_with_stdin);
    let keys = Keys {
        anthropic: arguments.anthropic_key,
        openai: arguments.openai_key,
        gemini: arguments.gemini_key,
    };
    let mock = Mock::new(Options { keys, quiet: arguments.quiet });
    tokio::select! {
        served = serve(listener, mock) => served,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        () = stdin_ended => Ok(()),
    }
}

/// One line, when connections are taken.
fn announce(address: SocketAddr) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "Mock provider serves on http://{address}")?;
    out.flush()
}

/// Ready when standard input ends. A plain thread, because a blocked read in the runtime would keep it from stopping.
async fn watch_stdin(wanted: bool) {
    let (ended, end) = oneshot::channel::<()>();
    if !wanted {
        return std::future::pending().await;
    }
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        let mut stdin = std::io::stdin().lock();
        while !matches!(stdin.read(&mut buffer), Ok(0) | Err(_)) {}
        drop(ended);
    });
    let _ = end.await;
}
