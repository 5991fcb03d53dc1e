//! TLS in Envoy's configuration. Certificates are secrets in files that name files: Envoy follows the folder that they are
//! in, as Kubernetes renews a mounted Secret.

use serde_json::{Value, json};
use std::path::Path;

/// Our own certificate in the folder.
pub(crate) const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// The authorities in the folder by which the other side is believed.
pub(crate) const AUTHORITIES: &str = "ca.crt";

/// A secret that is a certificate, and its key.
pub(crate) fn certificate(name: &str, folder: &Path) -> Value {
    let chain = folder.join(CERTIFICATE);
    let key = folder.join(KEY);
    secret(
        name,
        "tls_certificate",
        json!({
            "certificate_chain": {"filename": chain},
            "private_key": {"filename": key},
            "watched_directory": {"path": folder},
        }),
    )
}

/// A secret that is a file of authorities.
pub(crate) fn authorities(name: &str, file: &Path) -> Value {
    let folder = file.parent().unwrap_or(Path::new("/"));
    secret(
        name,
        "validation_context",
        json!({
            "trusted_ca": {"filename": file},
            "watched_directory": {"path": folder},
        }),
    )
}

/// A secret that is a credential, as its header wants it.
pub(crate) fn credential(name: &str, value: &str) -> Value {
    secret(name, "generic_secret", json!({"secret": {"inline_string": value}}))
}

fn secret(name: &str, kind: &str, value: Value) -> Value {
    json!({"resources": [{
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": name,
        kind: value,
    }]})
}

/// The name of a secret's file in the folder of secrets.
pub(crate) fn file(name: &str) -> String {
    format!("{name}.json")
}

fn source(secrets: &Path, name: &str) -> Value {
    json!({"name": name, "sds_config": {"path_config_source": {"path": secrets.join(file(name))}}})
}

/// The socket of a listener that shows this certificate.
pub(crate) fn downstream(secrets: &Path, certificate: &str) -> Value {
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "tls_certificate_sds_secret_configs": [source(secrets, certificate)],
            },
        },
    })
}

/// The other side of a connection of ours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upstream<'a> {
    /// The name that must stand in its certificate.
    pub(crate) name: &'a str,
    /// The secret of the authorities.
    pub(crate) authorities: &'a str,
    /// The secret of the certificate that we show.
    pub(crate) certificate: Option<&'a str>,
    /// The protocols that we speak; none: whatever the cluster says.
    pub(crate) protocols: &'a [&'a str],
}

/// The socket of a cluster.
pub(crate) fn upstream(secrets: &Path, other: &Upstream<'_>) -> Value {
    let mut common = json!({
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "combined_validation_context": {
            "default_validation_context": {
                "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": other.name}}],
            },
            "validation_context_sds_secret_config": source(secrets, other.authorities),
        },
    });
    if let Some(certificate) = other.certificate {
        common["tls_certificate_sds_secret_configs"] = json!([source(secrets, certificate)]);
    }
    if !other.protocols.is_empty() {
        common["alpn_protocols"] = json!(other.protocols);
    }
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": other.name,
            "common_tls_context": common,
        },
    })
}
