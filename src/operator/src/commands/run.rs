//! `run`: the operator itself.

use super::Failure;
use super::installation::Installation;
use clap::{ArgAction, Args};
use futures_util::FutureExt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tollgate_operator::authority::{self, Authorities, Own, Trust};
use tollgate_operator::inject;
use tollgate_operator::plan::{CaBundle, Settings};
use tollgate_operator::runtime::{self, Gauges, Ledger, Operator, Pass};

#[derive(Args)]
pub(crate) struct Run {
    /// Where Tollgate is installed.
    #[arg(long, env = "TOLLGATE_OPERATOR_RELEASE_NAMESPACE", value_name = "NAMESPACE")]
    release_namespace: String,
    #[command(flatten)]
    installation: Installation,
    /// Where agents send their requests: what stands in the Secrets of keys.
    #[arg(long, env = "TOLLGATE_OPERATOR_BASE_URL", value_name = "URL")]
    base_url: String,
    /// Names by which agents reach the ingress, beside its Service's: they stand in its certificate.
    #[arg(long, env = "TOLLGATE_OPERATOR_GATEWAY_NAMES", value_name = "NAMES", value_delimiter = ',')]
    gateway_names: Vec<String>,
    /// By whom agents know the ingress: `own`, if it shows a certificate of those between Tollgate's parts; `public`, if agents know it
    /// anyway; or the file of its authorities, which is followed. They stand in the Secrets of keys.
    #[arg(
        long,
        env = "TOLLGATE_OPERATOR_GATEWAY_AUTHORITIES",
        value_name = "own|public|FILE",
        default_value = "own"
    )]
    gateway_authorities: Trust,
    /// Whether the certificates between Tollgate's parts are the operator's to make; otherwise it reads its own, and somebody else keeps
    /// all of them.
    #[arg(long, env = "TOLLGATE_OPERATOR_KEEP_CERTIFICATES", action = ArgAction::Set, default_value_t = true)]
    keep_certificates: bool,
    /// What sidecars are made from; left out: there is no webhook.
    #[arg(long, env = "TOLLGATE_OPERATOR_SIDECAR", value_name = "FILE")]
    sidecar: Option<PathBuf>,
    /// Where the API server asks about pods.
    #[arg(long, env = "TOLLGATE_OPERATOR_WEBHOOK_PORT", value_name = "PORT", default_value_t = 9443)]
    webhook_port: u16,
    /// Where health and metrics are told.
    #[arg(long, env = "TOLLGATE_OPERATOR_METRICS_PORT", value_name = "PORT", default_value_t = 4003)]
    metrics_port: u16,
    /// This replica's name; left out: the machine's.
    #[arg(long, env = "POD_NAME", value_name = "NAME", default_value = "")]
    instance: String,
}

pub(crate) async fn run(options: Run) -> Result<(), Failure> {
    let sidecar = options.sidecar.as_deref().map(sidecar).transpose()?;
    let client = kube::Client::try_default().await?;
    let gauges = Arc::new(Gauges::default());
    let health = axum::serve(bind(options.metrics_port).await?, runtime::health(gauges.clone()));
    let stop = stop()?.shared();
    let instance = if options.instance.is_empty() { hostname() } else { options.instance.clone() };
    let lease = format!("{}-operator", options.installation.release);
    let leads = runtime::follow_leader(client.clone(), &options.release_namespace, &lease, &instance).await?;
    let (told, own) = watch::channel(None);
    let certificates = authority::Settings {
        release: options.installation.release.clone(),
        namespace: options.release_namespace.clone(),
        gateway_names: options.gateway_names.clone(),
        direct_namespaces: sidecar.iter().flat_map(|sidecar| sidecar.direct_namespaces.clone()).collect(),
        injects: sidecar.is_some(),
        keeps: options.keep_certificates,
    };
    let keep = authority::keep(client.clone(), certificates, leads.clone(), told);
    let webhook = async {
        match sidecar {
            Some(sidecar) => {
                let routes = inject::routes(Arc::new(sidecar));
                inject::serve(bind(options.webhook_port).await?, routes, own.clone(), stop.clone()).await
            }
            None => std::future::pending().await,
        }
    };
    let operator = operate(&options, client, instance, gauges, own.clone(), leads, stop.clone());
    tokio::select! {
        ended = health => Ok(ended?),
        ended = webhook => Ok(ended?),
        () = keep => Err(authority::Gone.into()),
        ended = operator => ended,
    }
}

/// Custom resources and the ledger, from the first certificate on.
async fn operate(
    options: &Run,
    client: kube::Client,
    instance: String,
    gauges: Arc<Gauges>,
    mut own: watch::Receiver<Option<Own>>,
    leads: watch::Receiver<bool>,
    stop: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let mut stop = std::pin::pin!(stop);
    let mut authorities = Authorities::new(options.gateway_authorities.clone(), own.clone());
    let pass = |own: &Option<Own>| own.as_ref().and_then(Pass::of);
    let first = async {
        let first_pass = pass(&*own.wait_for(|own| pass(own).is_some()).await?);
        Ok::<_, Failure>(first_pass.ok_or("the operator has no certificate")?)
    };
    let first_pass = tokio::select! {
        () = &mut stop => return Ok(()),
        first = first => first?,
    };
    let (passes, newest_pass) = watch::channel(first_pass);
    let (bundles, newest_bundle) = watch::channel(authorities.now().await);
    let follow_passes = async {
        while own.changed().await.is_ok() {
            let Some(pass) = pass(&own.borrow_and_update()) else { continue };
            passes.send_replace(pass);
        }
    };
    let follow_bundles = async {
        while let Ok(bundle) = authorities.next().await {
            bundles.send_replace(bundle);
        }
    };
    let settings = Settings {
        cluster: options.installation.cluster.clone(),
        release_namespace: options.release_namespace.clone(),
        platform_namespaces: options.installation.platform_namespaces.iter().cloned().collect(),
        base_url: options.base_url.trim_end_matches('/').to_owned(),
        ca_bundle: CaBundle::Unknown,
    };
    let ledger = Ledger::new(options.installation.ledger.clone(), newest_pass);
    let operator = Operator { client, ledger, settings, bundle: newest_bundle, instance, gauges };
    tokio::select! {
        () = operator.run(leads, stop) => Ok(()),
        () = follow_passes => Err(authority::Gone.into()),
        () = follow_bundles => Err(authority::Gone.into()),
    }
}

fn sidecar(file: &std::path::Path) -> Result<inject::Settings, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(serde_yaml_ng::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?)
}

/// From everywhere: pods have one address, and it is known to nobody beforehand.
async fn bind(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await
}

/// SIGTERM or SIGINT.
fn stop() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "operator".to_owned(), |name| name.trim().to_owned())
}
