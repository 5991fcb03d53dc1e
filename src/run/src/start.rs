//! From settings to a running whole, and back.

use crate::child::{Command, Part};
use crate::drain;
use crate::envoy;
use crate::envoy_admin::EnvoyAdmin;
use crate::files::{self, FileError, absolute, make_folder, write_private};
use crate::http;
use crate::provider::{Provider, Url};
use crate::render::{self, Filter, Listener, Peer, Rendering};
use crate::settings::{Given, Settings};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Render(#[from] render::RenderError),
    #[error("port {0} is taken: set TOLLGATE_PORT to another one")]
    PortTaken(u16),
    #[error("{name} does not serve; the end of {}:\n{tail}", log.display())]
    NotReady { name: &'static str, log: PathBuf, tail: String },
    #[error("{name} fails again and again; the end of {}:\n{tail}", log.display())]
    Broken { name: &'static str, log: PathBuf, tail: String },
}

const LOOPBACK: &str = "127.0.0.1";
/// Long enough for Envoy to compile the filter on a busy machine.
const READY_PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(25);

/// Ports of the parts behind the one that is served: whatever is free, for as long as this runs.
struct Ports {
    ledger: u16,
    admin: u16,
    mock: u16,
}

struct Folders {
    run: PathBuf,
    log: PathBuf,
}

/// Starts everything, waits to be told to stop, and stops everything.
pub(crate) async fn run(settings: &Settings) -> Result<(), StartError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let serve = async {
        let mut whole = start(settings).await?;
        print_ready(settings);
        let failed = tokio::select! {
            failed = whole.supervise() => Some(failed),
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
        };
        match failed {
            Some(error) => {
                whole.stop(Duration::ZERO).await;
                Err(error)
            }
            None => {
                eprintln!(
                    "tollgate-run: stopping; open requests come to their end first (again to stop at once)"
                );
                let patience = Duration::from_secs(settings.drain_s);
                tokio::select! {
                    () = whole.drain(patience) => {}
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                whole.stop(Duration::from_secs(10)).await;
                Ok(())
            }
        }
    };
    serve.await
}

fn print_ready(settings: &Settings) {
    if settings.default_master_key {
        eprintln!(
            "tollgate-run: the admin key is sk-master, known to everybody; set TOLLGATE_MASTER_KEY for more than a try"
        );
    }
    println!("Tollgate is ready: http://localhost:{}", settings.port);
    let _ = io::stdout().flush();
}

async fn start(settings: &Settings) -> Result<Whole, StartError> {
    let folders = Folders { run: settings.data.join("run"), log: settings.data.join("log") };
    for folder in [&settings.data, &folders.run, &folders.log] {
        make_folder(folder)?;
    }
    if TcpListener::bind(("127.0.0.1", settings.port)).is_err() {
        return Err(StartError::PortTaken(settings.port));
    }
    let [ledger, admin, mock] = free_ports()?;
    let ports = Ports { ledger, admin, mock };
    let ledger = Part::start(ledger_command(settings, &folders, &ports))?;
    let mut parts = vec![ledger];
    wait_for(&mut parts, 0, ports.admin, "/health/readiness").await?;
    let upstreams = upstreams(settings, &ports).await;
    if upstreams.iter().any(|upstream| upstream.mock) {
        parts.push(Part::start(mock_command(settings, &folders, &ports))?);
        wait_for(&mut parts, 1, ports.mock, "/healthz").await?;
    }
    let socket = write_configuration(settings, &folders, &ports, &upstreams)?;
    let log = Some(folders.log.join("envoy.log"));
    let config = folders.run.join("envoy.json");
    parts.push(Part::start(envoy::command(&settings.envoy, config, settings.concurrency, log))?);
    let last = parts.len() - 1;
    wait_for(&mut parts, last, settings.port, "/api/hello").await?;
    for upstream in &upstreams {
        upstream.print();
    }
    Ok(Whole { parts, envoy: EnvoyAdmin { socket } })
}

/// Where Linux does not look for ports of outgoing connections. A part that is started again needs its port again, and must
/// not find that a client's connection has got it meanwhile, perhaps Envoy's own to that very port.
const PORTS: std::ops::Range<u16> = 16_384..32_768;
/// Ports that are tried before it is taken for hopeless.
const PORTS_TRIED_MAX: usize = 1_000;

/// Free ports, held together while they are looked for, so that none comes twice.
fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    let mut listeners = Vec::new();
    for _ in 0..PORTS_TRIED_MAX {
        let mut random = [0; 2];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let port = PORTS.start + u16::from_ne_bytes(random) % (PORTS.end - PORTS.start);
        listeners.extend(TcpListener::bind(("127.0.0.1", port)).map(|listener| (port, listener)));
        let ports: Vec<u16> = listeners.iter().map(|(port, _)| *port).collect();
        if let Ok(ports) = ports.try_into() {
            return Ok(ports);
        }
    }
    Err(io::Error::other("no free port on loopback"))
}

fn ledger_command(settings: &Settings, folders: &Folders, ports: &Ports) -> Command {
    let mut arguments = vec![
        "serve".into(),
        "--grpc".into(),
        format!("127.0.0.1:{}", ports.ledger).into(),
        "--admin".into(),
        format!("127.0.0.1:{}", ports.admin).into(),
    ];
    let mut environment = vec![("TOLLGATE_MASTER_KEY", settings.master_key.clone())];
    match &settings.database_url {
        // It has a password in it, and arguments are for everybody to see.
        Some(url) => environment.push(("TOLLGATE_LEDGER_DATABASE_URL", url.clone())),
        None => arguments.extend(["--db".into(), settings.data.join("ledger.db").into()]),
    }
    if let Some(book) = &settings.price_book {
        arguments.extend(["--price-book".into(), book.into()]);
    }
    if settings.observe {
        arguments.push("--observe".into());
    }
    Command {
        name: "ledger",
        program: settings.binaries.join("tollgate-ledger"),
        arguments,
        environment,
        log: Some(folders.log.join("ledger.log")),
    }
}

fn mock_command(settings: &Settings, folders: &Folders, ports: &Ports) -> Command {
    Command {
        name: "mock provider",
        program: settings.binaries.join("tollgate-mock-provider"),
        arguments: vec!["--listen".into(), format!("127.0.0.1:{}", ports.mock).into()],
        environment: Vec::new(),
        log: Some(folders.log.join("mock-provider.log")),
    }
}

/// Where one provider's traffic goes, and why.
#[derive(Debug)]
struct Upstream {
    provider: Provider,
    url: Option<Url>,
    key: String,
    mock: bool,
    /// The key in the environment was one of our own.
    own_key: bool,
}

impl Upstream {
    fn print(&self) {
        let to = match (&self.url, self.mock) {
            (_, true) => "the built-in mock provider".to_owned(),
            (Some(url), false) => url.to_string(),
            (None, false) => "the provider itself".to_owned(),
        };
        let variable = self.provider.key_variable();
        let why = match (self.mock, self.own_key) {
            (true, true) => format!("{variable} is a virtual key of this Tollgate, so not the provider's"),
            (true, false) => format!("{variable} is not set"),
            (false, _) => format!("with {variable}"),
        };
        println!("{:<10} goes to {to} ({why})", self.provider.as_str());
    }
}

async fn upstreams(settings: &Settings, ports: &Ports) -> Vec<Upstream> {
    let mock = Url { tls: false, host: "127.0.0.1".to_owned(), port: ports.mock, path: String::new() };
    let mut upstreams = Vec::new();
    for (provider, Given { key, url }) in settings.providers.clone() {
        let own_key = match &key {
            Some(key) => is_own_key(settings, ports, key).await,
            None => false,
        };
        upstreams.push(match key.filter(|_| !own_key) {
            Some(key) => Upstream { provider, url, key, mock: false, own_key },
            None => {
                Upstream { provider, url: Some(mock.clone()), key: "mock".to_owned(), mock: true, own_key }
            }
        });
    }
    upstreams
}

/// The tutorial sets `ANTHROPIC_API_KEY` to a virtual key; a new start from the same shell must not take it for the
/// provider's. The ledger is asked by the key's digest.
async fn is_own_key(settings: &Settings, ports: &Ports, key: &str) -> bool {
    if key.starts_with("sk-tg-") || key == settings.master_key {
        return true;
    }
    let digest: String = Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let known = async {
        let mut request = http::request("GET", &format!("/key/info?key={digest}"))?;
        let bearer = format!("Bearer {}", settings.master_key);
        request.headers_mut().insert("authorization", bearer.parse().map_err(io::Error::other)?);
        http::to_port(ports.admin, request).await
    };
    matches!(known.await, Ok((200, _)))
}

fn write_configuration(
    settings: &Settings,
    folders: &Folders,
    ports: &Ports,
    upstreams: &[Upstream],
) -> Result<PathBuf, StartError> {
    let secrets = absolute(&folders.run.join("secrets"))?;
    let socket = admin_socket(&folders.run)?;
    let yaml = files::read(&settings.envoy_config)?;
    let addresses: Vec<_> =
        upstreams.iter().map(|upstream| (upstream.provider, upstream.url.clone())).collect();
    let authorities = authorities(settings);
    let config = render::render(
        &yaml,
        &Rendering {
            listener: Listener { address: LOOPBACK, port: settings.port, tls: false },
            admin_socket: &socket,
            secrets: &secrets,
            heap_bytes_max: None,
            virtual_key: false,
            filter: Filter { code: &absolute(&settings.filter)?, settings: &settings.filter_settings },
            ledger: Peer { host: LOOPBACK, port: ports.ledger, tls: None },
            admin: Some(Peer { host: LOOPBACK, port: ports.admin, tls: None }),
            authorities: authorities.as_deref(),
            upstreams: &addresses,
        },
    )?;
    let keys: Vec<_> = upstreams.iter().map(|upstream| (upstream.provider, upstream.key.clone())).collect();
    make_folder(&secrets)?;
    for (name, file) in render::provider_secrets(&keys) {
        write_private(&secrets.join(name), &file.to_string())?;
    }
    write_private(&folders.run.join("envoy.json"), &config.to_string())?;
    Ok(socket)
}

/// Where the systems keep the certificate authorities: Debian, Fedora, older Red Hat, Alpine, openSUSE.
const AUTHORITIES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

fn authorities(settings: &Settings) -> Option<PathBuf> {
    let system = || AUTHORITIES.iter().map(PathBuf::from).find(|path| path.exists());
    settings.authorities.clone().or_else(system)
}

/// Paths of sockets are short: 108 bytes. A data folder that lies deep gets its socket in the folder for temporary files.
fn admin_socket(run: &Path) -> Result<PathBuf, StartError> {
    let socket = absolute(&run.join("envoy.sock"))?;
    if socket.as_os_str().len() < 100 {
        return Ok(socket);
    }
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let folder = std::env::temp_dir().join(format!("tollgate-{name}"));
    fs::DirBuilder::new().mode(0o700).create(&folder).map_err(files::at(&folder))?;
    Ok(folder.join("envoy.sock"))
}

/// Waits until a part serves.
async fn wait_for(parts: &mut [Part], index: usize, port: u16, path: &str) -> Result<(), StartError> {
    let Some(part) = parts.get_mut(index) else { return Ok(()) };
    let answers = async {
        let started = Instant::now();
        while started.elapsed() < READY_PATIENCE {
            let request = http::request("GET", path)?;
            if matches!(http::to_port(port, request).await, Ok((200, _))) {
                return Ok::<bool, io::Error>(true);
            }
            sleep(POLL).await;
        }
        Ok(false)
    };
    let (name, log) = (part.command.name, part.command.log.clone().unwrap_or_default());
    let ready = tokio::select! {
        ready = answers => ready?,
        _ = part.ended() => false,
    };
    if ready { Ok(()) } else { Err(StartError::NotReady { name, tail: tail(&log), log }) }
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(8)).map(|line| format!("  {line}\n")).collect()
}

/// Everything that runs, in the order of its start.
struct Whole {
    parts: Vec<Part>,
    envoy: EnvoyAdmin,
}

impl Whole {
    /// Restarts what ends, until something is broken.
    async fn supervise(&mut self) -> StartError {
        loop {
            let (index, what) = first_ended(&mut self.parts).await;
            let Some(part) = self.parts.get_mut(index) else { continue };
            eprintln!("tollgate-run: {what}; starting it again");
            match part.restart().await {
                Ok(true) => {}
                Ok(false) => {
                    let (name, log) = (part.command.name, part.command.log.clone().unwrap_or_default());
                    return StartError::Broken { name, tail: tail(&log), log };
                }
                Err(error) => return error.into(),
            }
        }
    }

    /// Lets streams and reports come to their end, while the ledger still runs.
    async fn drain(&mut self, patience: Duration) {
        let Self { parts, envoy } = self;
        let Some((last, others)) = parts.split_last_mut() else { return };
        tokio::select! {
            () = drain::drain(envoy, patience) => {}
            _ = last.ended() => {}
            // The ledger takes the last reports, so it is started again even now.
            () = keep(others) => {}
        }
    }

    /// Ends the parts, the last one first.
    async fn stop(&mut self, patience: Duration) {
        for part in self.parts.iter_mut().rev() {
            part.stop(patience).await;
        }
    }
}

async fn keep(parts: &mut [Part]) {
    loop {
        let (index, _) = first_ended(parts).await;
        let Some(part) = parts.get_mut(index) else { return };
        if !matches!(part.restart().await, Ok(true)) {
            return;
        }
    }
}

/// Waits until one of them has ended: which, and how.
async fn first_ended(parts: &mut [Part]) -> (usize, String) {
    let mut waiting: Vec<_> = parts
        .iter_mut()
        .enumerate()
        .map(|(index, part)| Box::pin(async move { (index, part.ended().await) }))
        .collect();
    std::future::poll_fn(|context| {
        for future in &mut waiting {
            if let std::task::Poll::Ready(ended) = future.as_mut().poll(context) {
                return std::task::Poll::Ready(ended);
            }
        }
        std::task::Poll::Pending
    })
    .await
}
