//! `gateway`: Envoy in a pod, with this program as the first process. It writes what Envoy reads, follows credentials, says how
//! the gateway is, and drains it before it stops.

mod config;
mod credentials;
mod health;
mod memory;
mod settings;

use crate::child::Part;
use crate::envoy_admin::EnvoyAdmin;
use crate::files::{self, FileError};
use crate::install::FILTER;
use crate::render::RenderError;
use crate::{drain, envoy};
use clap::Args;
use config::Places;
use credentials::{CredentialError, Credentials};
use health::Health;
use settings::{Settings, SettingsError};
use std::io;
use std::net::{AddrParseError, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

#[derive(Args)]
pub(crate) struct Options {
    /// The settings, in YAML. Without it they are the text of `TOLLGATE_GATEWAY_SETTINGS`.
    #[arg(long)]
    settings: Option<PathBuf>,
    /// Envoy.
    #[arg(long)]
    envoy: PathBuf,
    /// Envoy's configuration, in the place of the shipped one of the mode.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The filter; without it, the one beside this program.
    #[arg(long)]
    filter: Option<PathBuf>,
    /// Where requests come in.
    #[arg(long, default_value_t = 4000)]
    port: u16,
    /// Where `/ready`, `/live` and `/metrics` are served: by default to the whole network of pods, which the kubelet and Prometheus come
    /// from. On loopback, `tollgate-run health` asks in their place.
    #[arg(long, value_name = "[ADDRESS:]PORT", default_value = "4003", value_parser = metrics_address)]
    metrics: SocketAddr,
    /// A folder of its own, best in memory: Envoy's configuration, its secrets and its admin socket.
    #[arg(long, default_value = "/run/tollgate/envoy")]
    run: PathBuf,
}

/// A port alone is one of every address.
fn metrics_address(text: &str) -> Result<SocketAddr, AddrParseError> {
    match text.parse() {
        Ok(port) => Ok(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)),
        Err(_) => text.parse(),
    }
}

/// Why the gateway does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GatewayError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("there are no settings: give --settings, or TOLLGATE_GATEWAY_SETTINGS")]
    NoSettings,
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Ended(String),
}

/// What is open once it is told to stop, and told so again, may take this long.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Signals by which it is told to stop.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Runs Envoy until it is told to stop, or Envoy ends.
pub(crate) async fn run(options: Options) -> Result<(), GatewayError> {
    let mut stop = Stop::new()?;
    let settings = read_settings(&options)?;
    let folder = files::absolute(&options.run)?;
    let listener = listen(options.metrics).await?;
    let admin = EnvoyAdmin { socket: folder.join("admin.sock") };
    let credentials = write(&options, &settings, &folder, &admin)?;
    let command = envoy::command(&options.envoy, folder.join("envoy.json"), Some(settings.concurrency), None);
    let mut envoy = Part::start(command)?;
    let health = Health::new(admin.clone());
    tokio::spawn(health::serve(listener, health.clone()));
    tokio::spawn(credentials.follow());
    tokio::select! {
        how = envoy.ended() => return Err(GatewayError::Ended(how)),
        () = stop.told() => {}
    }
    health.drain();
    let drained = tokio::select! {
        // An Envoy that ends by itself now has cut what was open.
        how = envoy.ended() => Err(GatewayError::Ended(how)),
        () = leave(&admin, settings.drain) => Ok(()),
        () = stop.told() => Ok(()),
    };
    envoy.stop(STOP_PATIENCE).await;
    drained
}

/// Goes on for a while, so that nobody is sent here any more; then lets what is open come to its end.
async fn leave(admin: &EnvoyAdmin, drain: settings::Drain) {
    eprintln!("tollgate-run: stopping; open requests come to their end first");
    tokio::time::sleep(drain.endpoints).await;
    drain::drain(admin, drain.streams).await;
}

fn read_settings(options: &Options) -> Result<Settings, GatewayError> {
    let text = match &options.settings {
        Some(file) => files::read(file)?,
        None => std::env::var("TOLLGATE_GATEWAY_SETTINGS").map_err(|_| GatewayError::NoSettings)?,
    };
    Ok(Settings::parse(&text)?)
}

async fn listen(address: SocketAddr) -> Result<TcpListener, GatewayError> {
    TcpListener::bind(address).await.map_err(|error| GatewayError::Listen(address, error))
}

/// Writes everything that Envoy reads.
fn write(
    options: &Options,
    settings: &Settings,
    folder: &Path,
    admin: &EnvoyAdmin,
) -> Result<Credentials, GatewayError> {
    let secrets = folder.join("secrets");
    files::make_folder(&secrets)?;
    config::write_certificates(&settings.mode, &secrets)?;
    let credentials = Credentials::write(&secrets, &config::credentials(&settings.mode))?;
    let filter = match &options.filter {
        Some(filter) => files::absolute(filter)?,
        None => std::env::current_exe()?.with_file_name(FILTER),
    };
    let yaml = match &options.config {
        Some(file) => files::read(file)?,
        None => config::shipped(&settings.mode).to_owned(),
    };
    let places = Places {
        port: options.port,
        admin_socket: &admin.socket,
        secrets: &secrets,
        filter: &filter,
        heap_bytes_max: memory::heap_bytes_max(),
    };
    let config = config::render(&yaml, &settings.mode, &places)?;
    files::write_private(&folder.join("envoy.json"), &config.to_string())?;
    Ok(credentials)
}

#[cfg(test)]
mod tests {
    use super::metrics_address;

    #[test]
    fn metrics_are_served_on_a_port_or_on_an_address() {
        let table = [
            ("4003", Some("0.0.0.0:4003")),
            ("127.0.0.1:4003", Some("127.0.0.1:4003")),
            ("[::1]:9", Some("[::1]:9")),
            ("localhost", None),
            ("70000", None),
        ];
        for (text, address) in table {
            assert_eq!(
                metrics_address(text).ok().map(|found| found.to_string()).as_deref(),
                address,
                "{text}"
            );
        }
    }
}
