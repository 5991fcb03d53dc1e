//! From the configuration that the project ships to the one that Envoy runs: values are replaced in the tree, text never.

pub(crate) mod tls;
mod upstream;

use crate::provider::{Provider, Url};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::Path;

/// What differs from the shipped configuration of a gateway with the filter.
#[derive(Debug)]
pub(crate) struct Rendering<'a> {
    pub(crate) listener: Listener<'a>,
    pub(crate) admin_socket: &'a Path,
    /// The folder of the files of secrets.
    pub(crate) secrets: &'a Path,
    /// Beyond it requests are refused; `None`: as shipped.
    pub(crate) heap_bytes_max: Option<u64>,
    /// The secret [`VIRTUAL_KEY`] takes the place of whatever the agent sends.
    pub(crate) virtual_key: bool,
    pub(crate) filter: Filter<'a>,
    pub(crate) ledger: Peer<'a>,
    /// The admin API, where it is served on the same port.
    pub(crate) admin: Option<Peer<'a>>,
    /// The certificate authorities of this machine, where they are not at the configuration's place.
    pub(crate) authorities: Option<&'a Path>,
    /// Where each provider is; `None`: at its own address.
    pub(crate) upstreams: &'a [(Provider, Option<Url>)],
}

/// Where it listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listener<'a> {
    pub(crate) address: &'a str,
    pub(crate) port: u16,
    /// By TLS, with the secret [`LISTENER`].
    pub(crate) tls: bool,
}

/// The filter, and its settings beside its providers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filter<'a> {
    pub(crate) code: &'a Path,
    pub(crate) settings: &'a serde_json::Map<String, Value>,
}

/// One of our own parts on the other side of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) tls: Option<tls::Upstream<'a>>,
}

/// What differs from the shipped configuration of a sidecar that only says who asks.
#[derive(Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) listener: Listener<'a>,
    pub(crate) admin_socket: &'a Path,
    pub(crate) secrets: &'a Path,
    pub(crate) heap_bytes_max: Option<u64>,
    /// The ingress.
    pub(crate) upstream: Peer<'a>,
    /// What stands in the `host` header.
    pub(crate) authority: &'a str,
}

/// The secret of a listener's certificate.
pub(crate) const LISTENER: &str = "listener";
/// The secret of a sidecar's virtual key.
pub(crate) const VIRTUAL_KEY: &str = "virtual-key";
/// Clusters of our own parts.
const LEDGER: &str = "ledger";
const ADMIN: &str = "ledger-admin";
const INGRESS: &str = "ingress";

/// A shipped configuration without something that it must have.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenderError {
    #[error("{0}")]
    Yaml(#[from] serde_yaml_ng::Error),
    #[error("Envoy's configuration has no {0}")]
    Missing(String),
}

fn missing(what: &str) -> RenderError {
    RenderError::Missing(what.to_owned())
}

const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
const ROUTES: &str = "/route_config/virtual_hosts/0/routes";

/// Paths of the admin API. Everything else belongs to the filter.
const ADMIN_PREFIXES: [&str; 8] =
    ["/key/", "/team/", "/user/", "/organization/", "/tag/", "/budget/", "/spend/", "/health/"];

/// Renders the configuration of a gateway with the filter.
pub(crate) fn render(yaml: &str, rendering: &Rendering<'_>) -> Result<Value, RenderError> {
    let mut config: Value = serde_yaml_ng::from_str(yaml)?;
    let secrets = rendering.secrets;
    render_place(&mut config, &rendering.listener, rendering.admin_socket, secrets)?;
    render_heap(&mut config, rendering.heap_bytes_max)?;
    render_filter(&mut config, rendering)?;
    if rendering.virtual_key {
        render_virtual_key(&mut config, secrets)?;
    }
    let ledger = named(list(&mut config, "/static_resources/clusters")?, LEDGER)?;
    render_peer(ledger, &rendering.ledger, secrets)?;
    if let Some(admin) = &rendering.admin {
        let routes = list(&mut config, &format!("{MANAGER}{ROUTES}"))?;
        routes.splice(0..0, admin_routes());
        let mut cluster = admin_cluster();
        render_peer(&mut cluster, admin, secrets)?;
        list(&mut config, "/static_resources/clusters")?.push(cluster);
    }
    for provider in Provider::ALL {
        match rendering.upstreams.iter().find(|(other, _)| *other == provider) {
            Some((_, url)) => {
                upstream::render(&mut config, provider, url.as_ref(), secrets, rendering.authorities)?;
            }
            None => upstream::remove(&mut config, provider)?,
        }
    }
    Ok(config)
}

/// Renders the configuration of a sidecar that only says who asks.
pub(crate) fn render_identity(yaml: &str, identity: &Identity<'_>) -> Result<Value, RenderError> {
    let mut config: Value = serde_yaml_ng::from_str(yaml)?;
    render_place(&mut config, &identity.listener, identity.admin_socket, identity.secrets)?;
    render_heap(&mut config, identity.heap_bytes_max)?;
    render_virtual_key(&mut config, identity.secrets)?;
    let cluster = named(list(&mut config, "/static_resources/clusters")?, INGRESS)?;
    render_peer(cluster, &identity.upstream, identity.secrets)?;
    let route = named(list(&mut config, &format!("{MANAGER}{ROUTES}"))?, INGRESS)?;
    set(route, "/route/host_rewrite_literal", json!(identity.authority))?;
    Ok(config)
}

/// Leads to the file of the virtual key, in a configuration that puts one in.
fn render_virtual_key(config: &mut Value, secrets: &Path) -> Result<(), RenderError> {
    let filter = named(list(config, &format!("{MANAGER}/http_filters"))?, VIRTUAL_KEY)?;
    let place = "/typed_config/credential/typed_config/credential/sds_config/path_config_source/path";
    set(filter, place, path(&secrets.join(tls::file(VIRTUAL_KEY))))
}

fn render_place(
    config: &mut Value,
    listener: &Listener<'_>,
    admin_socket: &Path,
    secrets: &Path,
) -> Result<(), RenderError> {
    let socket = "/static_resources/listeners/0/address/socket_address";
    set(config, &format!("{socket}/address"), json!(listener.address))?;
    set(config, &format!("{socket}/port_value"), json!(listener.port))?;
    if listener.tls {
        let chain = "/static_resources/listeners/0/filter_chains/0";
        let chain = config.pointer_mut(chain).ok_or_else(|| missing(chain))?;
        chain["transport_socket"] = tls::downstream(secrets, LISTENER);
    }
    set(config, "/admin/address/pipe/path", path(admin_socket))
}

fn render_heap(config: &mut Value, bytes_max: Option<u64>) -> Result<(), RenderError> {
    let Some(bytes_max) = bytes_max else { return Ok(()) };
    let heap = "envoy.resource_monitors.fixed_heap";
    let monitor = named(list(config, "/overload_manager/resource_monitors")?, heap)?;
    set(monitor, "/typed_config/max_heap_size_bytes", json!(bytes_max))
}

/// Leads a cluster to one of our own parts. An address that is a name is looked up.
fn render_peer(cluster: &mut Value, peer: &Peer<'_>, secrets: &Path) -> Result<(), RenderError> {
    set(cluster, &format!("{ENDPOINT}/address"), json!(peer.host))?;
    set(cluster, &format!("{ENDPOINT}/port_value"), json!(peer.port))?;
    if peer.host.parse::<IpAddr>().is_err() {
        set(cluster, "/type", json!("STRICT_DNS"))?;
        cluster["dns_lookup_family"] = json!("V4_PREFERRED");
    }
    if let Some(other) = &peer.tls {
        cluster["transport_socket"] = tls::upstream(secrets, other);
    }
    Ok(())
}

fn path(path: &Path) -> Value {
    json!(path.to_string_lossy())
}

fn set(tree: &mut Value, pointer: &str, value: Value) -> Result<(), RenderError> {
    *tree.pointer_mut(pointer).ok_or_else(|| missing(pointer))? = value;
    Ok(())
}

fn list<'a>(tree: &'a mut Value, pointer: &str) -> Result<&'a mut Vec<Value>, RenderError> {
    tree.pointer_mut(pointer).and_then(Value::as_array_mut).ok_or_else(|| missing(pointer))
}

fn named<'a>(list: &'a mut [Value], name: &str) -> Result<&'a mut Value, RenderError> {
    list.iter_mut().find(|entry| entry["name"] == name).ok_or_else(|| missing(name))
}

fn render_filter(config: &mut Value, rendering: &Rendering<'_>) -> Result<(), RenderError> {
    let filters = list(config, &format!("{MANAGER}/http_filters"))?;
    let filter = named(filters, "tollgate")?;
    set(filter, "/typed_config/config/vm_config/code/local/filename", path(rendering.filter.code))?;
    let providers: Vec<&str> = rendering.upstreams.iter().map(|(provider, _)| provider.as_str()).collect();
    let mut settings = rendering.filter.settings.clone();
    settings.insert("ledger_cluster".to_owned(), json!(LEDGER));
    settings.insert("providers".to_owned(), json!(providers));
    set(filter, "/typed_config/config/configuration/value", json!(Value::Object(settings).to_string()))
}

/// The admin API on the same port: by prefixes of its own, past the filter; and the list of models where the filter has
/// recognized the master key.
fn admin_routes() -> Vec<Value> {
    let no_upgrades = json!([{"upgrade_type": "websocket", "enabled": false}]);
    let to_admin = json!({"cluster": ADMIN, "timeout": "60s", "upgrade_configs": no_upgrades});
    let past_the_filter = json!({"tollgate": {
        "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig",
        "disabled": true,
        "config": {},
    }});
    let prefix = |prefix| json!({"match": {"prefix": prefix}, "route": to_admin, "typed_per_filter_config": past_the_filter});
    let models = json!({
        "match": {
            "prefix": "/v1/models",
            "filter_state": [{"key": "wasm.tollgate.route", "string_match": {"exact": "admin"}}],
        },
        "route": to_admin,
    });
    ADMIN_PREFIXES.iter().map(prefix).chain([models]).collect()
}

fn admin_cluster() -> Value {
    let nowhere = json!({"socket_address": {"address": "", "port_value": 0}});
    json!({
        "name": ADMIN,
        "type": "STATIC",
        "connect_timeout": "0.25s",
        "load_assignment": {
            "cluster_name": ADMIN,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": nowhere}}]}],
        },
    })
}

const ENDPOINT: &str = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
/// The secrets of providers, by the names of their files in the folder of secrets.
pub(crate) fn provider_secrets(keys: &[(Provider, String)]) -> Vec<(String, Value)> {
    let secrets = keys.iter().flat_map(|(provider, key)| provider.secrets(key));
    secrets.map(|(name, value)| (tls::file(name), tls::credential(name, &value))).collect()
}

#[cfg(test)]
mod tests {
    use super::upstream::{AUTHORITIES, CREDENTIAL, OPTIONS, TLS};
    use super::*;

    const SHIPPED: &str = include_str!("../../../../envoy/ingress.yaml");

    fn rendered(upstreams: &[(Provider, Option<Url>)]) -> Value {
        let settings = serde_json::from_str(r#"{"slots":16}"#).unwrap();
        let rendering = Rendering {
            listener: Listener { address: "127.0.0.1", port: 1, tls: false },
            admin_socket: Path::new("/run/admin.sock"),
            secrets: Path::new("/secrets"),
            heap_bytes_max: None,
            virtual_key: false,
            filter: Filter { code: Path::new("/filter.wasm"), settings: &settings },
            ledger: Peer { host: "127.0.0.1", port: 2, tls: None },
            admin: Some(Peer { host: "127.0.0.1", port: 3, tls: None }),
            authorities: Some(Path::new("/authorities.pem")),
            upstreams,
        };
        render(SHIPPED, &rendering).unwrap()
    }

    fn entry<'a>(config: &'a Value, pointer: &str, name: &str) -> Option<&'a Value> {
        config.pointer(pointer).unwrap().as_array().unwrap().iter().find(|entry| entry["name"] == name)
    }

    #[test]
    fn a_provider_that_is_not_reached_has_no_route_and_no_cluster() {
        let config = rendered(&[(Provider::OpenAi, None)]);
        for name in ["anthropic", "anthropic-openai", "gemini"] {
            assert!(entry(&config, "/static_resources/clusters", name).is_none(), "{name}");
            assert!(entry(&config, &format!("{MANAGER}{ROUTES}"), name).is_none(), "{name}");
        }
        let cluster = entry(&config, "/static_resources/clusters", "openai").unwrap();
        assert_eq!(cluster.pointer(&format!("{TLS}/sni")).unwrap(), "api.openai.com");
        assert_eq!(cluster.pointer(&format!("{TLS}/{AUTHORITIES}")).unwrap(), "/authorities.pem");
        let file = cluster.pointer(&format!("{OPTIONS}{CREDENTIAL}/sds_config/path_config_source/path"));
        assert_eq!(file.unwrap(), "/secrets/openai-bearer.json");
    }

    #[test]
    fn another_address_changes_everything_that_names_the_old_one() {
        let plain: Url = "http://127.0.0.1:4010/x".parse().unwrap();
        let tls: Url = "https://gateway.example:444".parse().unwrap();
        let config = rendered(&[(Provider::Gemini, Some(plain)), (Provider::Anthropic, Some(tls))]);
        let gemini = entry(&config, "/static_resources/clusters", "gemini").unwrap();
        assert!(gemini.get("transport_socket").is_none());
        assert_eq!(gemini.pointer(&format!("{ENDPOINT}/port_value")).unwrap(), 4010);
        let route = entry(&config, &format!("{MANAGER}{ROUTES}"), "gemini").unwrap();
        assert_eq!(route.pointer("/route/prefix_rewrite").unwrap(), "/x/v1beta/openai/");
        assert_eq!(route.pointer("/route/host_rewrite_literal").unwrap(), "127.0.0.1:4010");
        let text = serde_json::to_string(&config).unwrap();
        assert!(!text.contains("api.anthropic.com"), "no trace of the old address is left");
    }

    #[test]
    fn the_filter_gets_its_settings_and_its_providers() {
        let config = rendered(&[(Provider::OpenAi, None)]);
        let filter = entry(&config, &format!("{MANAGER}/http_filters"), "tollgate").unwrap();
        let value = filter.pointer("/typed_config/config/configuration/value").unwrap().as_str().unwrap();
        let settings: Value = serde_json::from_str(value).unwrap();
        assert_eq!(settings, json!({"ledger_cluster": "ledger", "providers": ["openai"], "slots": 16}));
    }

    #[test]
    fn the_last_route_refuses() {
        let config = rendered(&[]);
        let routes = config.pointer(&format!("{MANAGER}{ROUTES}")).unwrap().as_array().unwrap();
        let last = routes.last().unwrap();
        assert_eq!(last.pointer("/match/prefix").unwrap(), "/");
        assert_eq!(last.pointer("/route/cluster").unwrap(), "refused");
        let nobody = entry(&config, "/static_resources/clusters", "refused").unwrap();
        assert!(nobody.get("load_assignment").is_none());
    }

    #[test]
    fn a_secret_stands_as_its_header_wants_it() {
        let files = provider_secrets(&[(Provider::Anthropic, "k".to_owned())]);
        let value = |index: usize| {
            let (name, file) = &files[index];
            (name.as_str(), file["resources"][0]["generic_secret"]["secret"]["inline_string"].clone())
        };
        assert_eq!(value(0), ("anthropic.json", json!("k")));
        assert_eq!(value(1), ("anthropic-bearer.json", json!("Bearer k")));
    }
}
