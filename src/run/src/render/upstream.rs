//! Providers in Envoy's configuration.

use super::{ENDPOINT, MANAGER, ROUTES, RenderError, list, missing, named, path, set, tls};
use crate::provider::{Provider, Url};
use serde_json::{Value, json};
use std::path::Path;

pub(super) const OPTIONS: &str =
    "/typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
pub(super) const CREDENTIAL: &str = "/http_filters/0/typed_config/credential/typed_config/credential";
pub(super) const TLS: &str = "/transport_socket/typed_config";
pub(super) const AUTHORITIES: &str = "common_tls_context/validation_context/trusted_ca/filename";

/// Leads a provider's clusters and routes to where it is, with its credential.
pub(super) fn render(
    config: &mut Value,
    provider: Provider,
    url: Option<&Url>,
    secrets: &Path,
    authorities: Option<&Path>,
) -> Result<(), RenderError> {
    for name in provider.clusters() {
        let cluster = named(list(config, "/static_resources/clusters")?, name)?;
        let credential = cluster.pointer(&format!("{OPTIONS}{CREDENTIAL}/name")).and_then(Value::as_str);
        let file = secrets.join(tls::file(credential.ok_or_else(|| missing("credential"))?));
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

/// Takes a provider out.
pub(super) fn remove(config: &mut Value, provider: Provider) -> Result<(), RenderError> {
    let gone = |entry: &Value| provider.clusters().iter().any(|name| entry["name"] == *name);
    list(config, "/static_resources/clusters")?.retain(|cluster| !gone(cluster));
    list(config, &format!("{MANAGER}{ROUTES}"))?.retain(|route| !gone(route));
    Ok(())
}
