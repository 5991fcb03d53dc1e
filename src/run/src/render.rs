//! From the configuration that the project ships to the one that Envoy runs: values are replaced in the tree, text never.

use crate::provider::{Provider, Url};
use serde_json::{Value, json};
use std::path::Path;

/// What differs from the shipped configuration.
#[derive(Debug)]
pub(crate) struct Rendering<'a> {
    pub(crate) port: u16,
    pub(crate) ledger_port: u16,
    pub(crate) admin_port: u16,
    pub(crate) admin_socket: &'a Path,
    pub(crate) filter: &'a Path,
    /// The folder of the files of [`secrets`].
    pub(crate) secrets: &'a Path,
    /// Settings of the filter beside its providers.
    pub(crate) filter_settings: &'a serde_json::Map<String, Value>,
    /// The certificate authorities of this machine, where they are not at the configuration's place.
    pub(crate) authorities: Option<&'a Path>,
    /// Where each provider is; `None`: at its own address.
    pub(crate) upstreams: &'a [(Provider, Option<Url>)],
}

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

/// Renders the configuration.
pub(crate) fn render(yaml: &str, rendering: &Rendering<'_>) -> Result<Value, RenderError> {
    let mut config: Value = serde_yaml_ng::from_str(yaml)?;
    let port = "/static_resources/listeners/0/address/socket_address/port_value";
    set(&mut config, port, json!(rendering.port))?;
    set(&mut config, "/admin/address/pipe/path", path(rendering.admin_socket))?;
    render_filter(&mut config, rendering)?;
    let admin = admin_routes();
    let routes = list(&mut config, &format!("{MANAGER}{ROUTES}"))?;
    routes.splice(0..0, admin);
    let clusters = list(&mut config, "/static_resources/clusters")?;
    let ledger = named(clusters, "ledger")?;
    set(ledger, &format!("{ENDPOINT}/port_value"), json!(rendering.ledger_port))?;
    clusters.push(admin_cluster(rendering.admin_port));
    for provider in Provider::ALL {
        match rendering.upstreams.iter().find(|(other, _)| *other == provider) {
            Some((_, url)) => render_upstream(
                &mut config,
                provider,
                url.as_ref(),
                rendering.secrets,
                rendering.authorities,
            )?,
            None => remove_upstream(&mut config, provider)?,
        }
    }
    Ok(config)
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
    set(filter, "/typed_config/config/vm_config/code/local/filename", path(rendering.filter))?;
    let providers: Vec<&str> = rendering.upstreams.iter().map(|(provider, _)| provider.as_str()).collect();
    let mut settings = rendering.filter_settings.clone();
    settings.insert("ledger_cluster".to_owned(), json!("ledger"));
    settings.insert("providers".to_owned(), json!(providers));
    set(filter, "/typed_config/config/configuration/value", json!(Value::Object(settings).to_string()))
}

/// The admin API on the same port: by prefixes of its own, past the filter; and the list of models where the filter has
/// recognized the master key.
fn admin_routes() -> Vec<Value> {
    let no_upgrades = json!([{"upgrade_type": "websocket", "enabled": false}]);
    let to_admin = json!({"cluster": "ledger-admin", "timeout": "60s", "upgrade_configs": no_upgrades});
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

fn admin_cluster(port: u16) -> Value {
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    json!({
        "name": "ledger-admin",
        "type": "STATIC",
        "connect_timeout": "0.25s",
        "load_assignment": {
            "cluster_name": "ledger-admin",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    })
}

const ENDPOINT: &str = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
const OPTIONS: &str =
    "/typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const CREDENTIAL: &str = "/http_filters/0/typed_config/credential/typed_config/credential";
const TLS: &str = "/transport_socket/typed_config";
const AUTHORITIES: &str = "common_tls_context/validation_context/trusted_ca/filename";

fn render_upstream(
    config: &mut Value,
    provider: Provider,
    url: Option<&Url>,
    secrets: &Path,
    authorities: Option<&Path>,
) -> Result<(), RenderError> {
    for name in provider.clusters() {
        let cluster = named(list(config, "/static_resources/clusters")?, name)?;
        let credential = cluster.pointer(&format!("{OPTIONS}{CREDENTIAL}/name")).and_then(Value::as_str);
        let file = secrets.join(secret_file(credential.ok_or_else(|| missing("credential"))?));
        set(cluster, &format!("{OPTIONS}{CREDENTIAL}/sds_config/path_config_source/path"), path(&file))?;
        if let Some(authorities) = authorities {
            set(cluster, &format!("{TLS}/{AUTHORITIES}"), path(authorities))?;
        }
        let Some(url) = url else { continue };
        set(cluster, &format!("{ENDPOINT}/address"), json!(url.host))?;
        set(cluster, &format!("{ENDPOINT}/port_value"), json!(url.port))?;
        if url.tls {
            set(cluster, &format!("{TLS}/sni"), json!(url.host))?;
            let names =
                format!("{TLS}/common_tls_context/validation_context/match_typed_subject_alt_names/0");
            set(cluster, &format!("{names}/matcher/exact"), json!(url.host))?;
        } else {
            plain_text(cluster)?;
        }
        let route = named(list(config, &format!("{MANAGER}{ROUTES}"))?, name)?;
        set(route, "/route/host_rewrite_literal", json!(url.authority()))?;
        if !url.path.is_empty() {
            let matched = route.pointer("/match/prefix").or(route.pointer("/match/path"));
            let beyond = route.pointer("/route/prefix_rewrite").or(matched).and_then(Value::as_str);
            let path = format!("{}{}", url.path, beyond.unwrap_or("/v1/"));
            let action = route.pointer_mut("/route").ok_or_else(|| missing("route"))?;
            action["prefix_rewrite"] = json!(path);
        }
    }
    Ok(())
}

/// Without TLS nothing negotiates the protocol: HTTP/1.1.
fn plain_text(cluster: &mut Value) -> Result<(), RenderError> {
    let options =
        cluster.pointer_mut(OPTIONS).and_then(Value::as_object_mut).ok_or_else(|| missing(OPTIONS))?;
    options.remove("auto_config");
    options.insert("explicit_http_config".to_owned(), json!({"http_protocol_options": {}}));
    if let Some(cluster) = cluster.as_object_mut() {
        cluster.remove("transport_socket");
    }
    Ok(())
}

fn remove_upstream(config: &mut Value, provider: Provider) -> Result<(), RenderError> {
    let gone = |entry: &Value| provider.clusters().iter().any(|name| entry["name"] == *name);
    list(config, "/static_resources/clusters")?.retain(|cluster| !gone(cluster));
    list(config, &format!("{MANAGER}{ROUTES}"))?.retain(|route| !gone(route));
    Ok(())
}

fn secret_file(name: &str) -> String {
    format!("{name}.json")
}

/// The files of secrets that Envoy reads beside its configuration, one for each, by their names in the folder.
pub(crate) fn secrets(keys: &[(Provider, String)]) -> Vec<(String, Value)> {
    let file = |(name, value): (&str, String)| {
        let secret = json!({
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            "name": name,
            "generic_secret": {"secret": {"inline_string": value}},
        });
        (secret_file(name), json!({"resources": [secret]}))
    };
    keys.iter().flat_map(|(provider, key)| provider.secrets(key)).map(file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../../envoy/ingress.yaml");

    fn rendered(upstreams: &[(Provider, Option<Url>)]) -> Value {
        let settings = serde_json::from_str(r#"{"slots":16}"#).unwrap();
        let rendering = Rendering {
            port: 1,
            ledger_port: 2,
            admin_port: 3,
            admin_socket: Path::new("/run/admin.sock"),
            filter: Path::new("/filter.wasm"),
            secrets: Path::new("/secrets"),
            filter_settings: &settings,
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
        let files = secrets(&[(Provider::Anthropic, "k".to_owned())]);
        let value = |index: usize| {
            let (name, file) = &files[index];
            (name.as_str(), file["resources"][0]["generic_secret"]["secret"]["inline_string"].clone())
        };
        assert_eq!(value(0), ("anthropic.json", json!("k")));
        assert_eq!(value(1), ("anthropic-bearer.json", json!("Bearer k")));
    }
}
