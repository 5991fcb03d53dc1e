//! From settings to the files that Envoy reads.

use super::credentials::Opens;
use super::settings::{Listener, Metering, Mode, Upstream};
use crate::files::{self, FileError};
use crate::provider::Url;
use crate::render::{self, Filter, Identity, LISTENER, Peer, RenderError, Rendering, tls};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Configurations as they are shipped with this program.
const INGRESS_YAML: &str = include_str!("../../../../envoy/ingress.yaml");
const SIDECAR_YAML: &str = include_str!("../../../../envoy/sidecar.yaml");
const IDENTITY_YAML: &str = include_str!("../../../../envoy/identity.yaml");

/// Secrets of our own certificates and authorities.
const LEDGER_CLIENT: &str = "ledger-client";
const LEDGER_AUTHORITY: &str = "ledger-authority";
const ADMIN_AUTHORITY: &str = "admin-authority";
const INGRESS_AUTHORITY: &str = "ingress-authority";
/// The name that stands in every certificate of the ledger, whatever its Service is called.
const LEDGER_NAME: &str = "tollgate-ledger";
const LOOPBACK: &str = "127.0.0.1";

/// Where everything of a gateway is.
#[derive(Debug)]
pub(crate) struct Places<'a> {
    pub(crate) port: u16,
    pub(crate) admin_socket: &'a Path,
    pub(crate) secrets: &'a Path,
    pub(crate) filter: &'a Path,
    pub(crate) heap_bytes_max: Option<u64>,
}

/// The shipped configuration of a mode.
pub(crate) const fn shipped(mode: &Mode) -> &'static str {
    match mode {
        Mode::Ingress { .. } => INGRESS_YAML,
        Mode::Direct { .. } => SIDECAR_YAML,
        Mode::Identity { .. } => IDENTITY_YAML,
    }
}

/// The credentials that the gateway puts on requests, and their files.
pub(crate) fn credentials(mode: &Mode) -> Vec<(Opens, PathBuf)> {
    let providers = |metering: &Metering| -> Vec<_> {
        let of = |(provider, settings): (&_, &super::settings::ProviderSettings)| {
            (Opens::Provider(*provider), settings.key.clone())
        };
        metering.providers.iter().map(of).collect()
    };
    let own = |file: &Path| (Opens::Gateway, file.to_owned());
    match mode {
        Mode::Ingress { metering, .. } => providers(metering),
        Mode::Direct { metering, virtual_key } => {
            providers(metering).into_iter().chain([own(virtual_key)]).collect()
        }
        Mode::Identity { virtual_key, .. } => vec![own(virtual_key)],
    }
}

/// Writes the secrets that are certificates and authorities.
pub(crate) fn write_certificates(mode: &Mode, secrets: &Path) -> Result<(), FileError> {
    for (name, secret) in certificates(mode) {
        files::write_private(&secrets.join(tls::file(name)), &secret.to_string())?;
    }
    Ok(())
}

fn certificates(mode: &Mode) -> Vec<(&'static str, Value)> {
    let certificate = |name, folder: &Path| (name, tls::certificate(name, folder));
    let authorities = |name, file: &Path| (name, tls::authorities(name, file));
    let ledger = |metering: &Metering| -> Vec<_> {
        let of = |folder: &PathBuf| {
            let known_by = authorities(LEDGER_AUTHORITY, &folder.join(tls::AUTHORITIES));
            [certificate(LEDGER_CLIENT, folder), known_by]
        };
        metering.ledger.tls.iter().flat_map(of).collect()
    };
    match mode {
        Mode::Ingress { listener, admin, metering } => {
            let own = listener.tls.iter().map(|folder| certificate(LISTENER, folder));
            let admin = admin.iter().filter_map(|admin| admin.ca.as_ref());
            let admin = admin.map(|file| authorities(ADMIN_AUTHORITY, file));
            ledger(metering).into_iter().chain(own).chain(admin).collect()
        }
        Mode::Direct { metering, .. } => ledger(metering),
        Mode::Identity { upstream, .. } => vec![authorities(INGRESS_AUTHORITY, &upstream.ca)],
    }
}

/// Envoy's configuration.
pub(crate) fn render(yaml: &str, mode: &Mode, places: &Places<'_>) -> Result<Value, RenderError> {
    match mode {
        Mode::Ingress { listener: Listener { address, tls }, admin, metering } => {
            let listener = render::Listener { address, port: places.port, tls: tls.is_some() };
            let admin = admin.as_ref().map(|admin| Peer {
                host: &admin.address.host,
                port: admin.address.port,
                tls: admin.ca.is_some().then_some(tls::Upstream {
                    name: LEDGER_NAME,
                    authorities: ADMIN_AUTHORITY,
                    certificate: None,
                    protocols: &[],
                }),
            });
            render_metering(yaml, listener, admin, false, metering, places)
        }
        Mode::Direct { metering, .. } => {
            render_metering(yaml, loopback(places), None, true, metering, places)
        }
        Mode::Identity { upstream, .. } => render_identity(yaml, upstream, places),
    }
}

fn loopback(places: &Places<'_>) -> render::Listener<'static> {
    render::Listener { address: LOOPBACK, port: places.port, tls: false }
}

fn render_metering(
    yaml: &str,
    listener: render::Listener<'_>,
    admin: Option<Peer<'_>>,
    virtual_key: bool,
    metering: &Metering,
    places: &Places<'_>,
) -> Result<Value, RenderError> {
    let upstreams: Vec<_> =
        metering.providers.iter().map(|(provider, settings)| (*provider, settings.url.clone())).collect();
    let ledger = Peer {
        host: &metering.ledger.address.host,
        port: metering.ledger.address.port,
        tls: metering.ledger.tls.is_some().then_some(tls::Upstream {
            name: LEDGER_NAME,
            authorities: LEDGER_AUTHORITY,
            certificate: Some(LEDGER_CLIENT),
            protocols: &["h2"],
        }),
    };
    render::render(
        yaml,
        &Rendering {
            listener,
            admin_socket: places.admin_socket,
            secrets: places.secrets,
            heap_bytes_max: places.heap_bytes_max,
            virtual_key,
            filter: Filter { code: places.filter, settings: &metering.filter },
            ledger,
            admin,
            authorities: metering.authorities.as_deref(),
            upstreams: &upstreams,
        },
    )
}

fn render_identity(yaml: &str, upstream: &Upstream, places: &Places<'_>) -> Result<Value, RenderError> {
    let Url { host, port, .. } = &upstream.url;
    let other =
        tls::Upstream { name: host, authorities: INGRESS_AUTHORITY, certificate: None, protocols: &[] };
    render::render_identity(
        yaml,
        &Identity {
            listener: loopback(places),
            admin_socket: places.admin_socket,
            secrets: places.secrets,
            heap_bytes_max: places.heap_bytes_max,
            upstream: Peer { host, port: *port, tls: Some(other) },
            authority: &upstream.url.authority(),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::super::settings::Settings;
    use super::*;
    use serde_json::json;

    fn rendered(settings: &str) -> (Value, Mode) {
        let mode = Settings::parse(settings).unwrap().mode;
        let places = Places {
            port: 4000,
            admin_socket: Path::new("/run/admin.sock"),
            secrets: Path::new("/secrets"),
            filter: Path::new("/plugin.wasm"),
            heap_bytes_max: Some(1000),
        };
        (render(shipped(&mode), &mode, &places).unwrap(), mode)
    }

    fn names(secrets: &[(&str, Value)]) -> Vec<String> {
        secrets.iter().map(|(name, _)| (*name).to_owned()).collect()
    }

    fn cluster<'a>(config: &'a Value, name: &str) -> Option<&'a Value> {
        config["static_resources"]["clusters"].as_array().unwrap().iter().find(|one| one["name"] == name)
    }

    fn http_filters(config: &Value) -> Vec<&str> {
        let filters = config
            .pointer("/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters");
        filters.unwrap().as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect()
    }

    const METERING: &str = "ledger: {address: 'l.ns.svc:4001', tls: /own}\nproviders: {openai: {key: /k}}\n";

    #[test]
    fn an_ingress_shows_its_certificate_on_both_sides() {
        let (config, mode) = rendered(&format!("mode: ingress\nlistener: {{tls: /public}}\n{METERING}"));
        assert_eq!(names(&certificates(&mode)), ["ledger-client", "ledger-authority", "listener"]);
        let listener = &config["static_resources"]["listeners"][0];
        assert_eq!(listener["address"]["socket_address"], json!({"address": "0.0.0.0", "port_value": 4000}));
        let text = listener["filter_chains"][0]["transport_socket"].to_string();
        assert!(text.contains("/secrets/listener.json") && text.contains("DownstreamTlsContext"), "{text}");
        let ledger = cluster(&config, "ledger").unwrap();
        assert_eq!(ledger["type"], "STRICT_DNS");
        let text = ledger.to_string();
        for part in
            ["l.ns.svc", "/secrets/ledger-client.json", "/secrets/ledger-authority.json", "tollgate-ledger"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        // Nobody asked for the admin API.
        assert!(cluster(&config, "ledger-admin").is_none());
        assert!(!config.to_string().contains("/key/"));
        assert!(config["overload_manager"].to_string().contains("\"max_heap_size_bytes\":1000"));
    }

    #[test]
    fn the_admin_api_is_served_where_it_is_asked_for() {
        let (config, mode) =
            rendered(&format!("mode: ingress\nadmin: {{address: 'l:4002', ca: /own/ca.crt}}\n{METERING}"));
        assert_eq!(names(&certificates(&mode)), ["ledger-client", "ledger-authority", "admin-authority"]);
        let admin = cluster(&config, "ledger-admin").unwrap().to_string();
        assert!(admin.contains("/secrets/admin-authority.json"), "{admin}");
        assert!(!admin.contains("ledger-client"), "the master key opens it, no certificate");
    }

    #[test]
    fn a_sidecar_listens_on_loopback_and_puts_the_key_in_first() {
        let (config, mode) = rendered(&format!("mode: direct\nvirtualKey: /key\n{METERING}"));
        assert_eq!(names(&certificates(&mode)), ["ledger-client", "ledger-authority"]);
        assert_eq!(credentials(&mode).len(), 2);
        let address = &config["static_resources"]["listeners"][0]["address"]["socket_address"]["address"];
        assert_eq!(address, LOOPBACK);
        assert_eq!(http_filters(&config)[..3], ["placeholder", "virtual-key", "tollgate"]);
        assert!(config.to_string().contains("/secrets/virtual-key.json"));
    }

    #[test]
    fn a_sidecar_that_says_who_asks_knows_the_ingress_alone() {
        let (config, mode) = rendered(
            "mode: identity\nvirtualKey: /key\nupstream: {url: 'https://t.ns.svc:8443', ca: /ca.crt}\n",
        );
        assert_eq!(names(&certificates(&mode)), ["ingress-authority"]);
        assert_eq!(credentials(&mode).len(), 1);
        assert_eq!(http_filters(&config)[..2], ["placeholder", "virtual-key"]);
        let clusters = config["static_resources"]["clusters"].as_array().unwrap();
        assert_eq!(clusters.len(), 1);
        let text = clusters[0].to_string();
        assert!(text.contains("\"sni\":\"t.ns.svc\"") && text.contains("8443"), "{text}");
        assert!(config.to_string().contains("\"host_rewrite_literal\":\"t.ns.svc:8443\""));
        assert!(!config.to_string().contains("wasm"));
    }
}
