//! What is added to a pod. It fits into a namespace with restricted Pod Security, and only the sidecar mounts what is secret.

use super::judge::{Ask, METRICS_PORT, Mode, PORT};
use super::settings::{Authorities, Settings};
use crate::authority::SIDECAR_SECRET;
use serde_json::{Map, Value, json};

/// The entry of the key in its Secret, and of the authorities that the ingress is known by.
const KEY_ENTRY: &str = "ANTHROPIC_API_KEY";
const AUTHORITIES_ENTRY: &str = "ca.crt";
/// The authorities that providers are known by.
const AUTHORITIES: &str = "/run/tollgate/authorities";
/// The authorities of Envoy's image.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Nobody in particular; the same as of every image of Tollgate.
const USER: i64 = 65_532;

/// What the sidecar's supervisor reads.
pub(super) fn gateway_settings(ask: &Ask, settings: &Settings) -> String {
    let virtual_key = format!("/run/tollgate/key/{KEY_ENTRY}");
    let told = match ask.mode {
        Mode::Identity => {
            let ca = if settings.authorities_with_key {
                format!("/run/tollgate/key/{AUTHORITIES_ENTRY}")
            } else {
                SYSTEM_AUTHORITIES.to_owned()
            };
            json!({
                "mode": "identity",
                "virtualKey": virtual_key,
                "upstream": { "url": settings.ingress, "ca": ca },
            })
        }
        Mode::Direct => {
            let mut told = json!({
                "mode": "direct",
                "virtualKey": virtual_key,
                "ledger": { "address": settings.ledger, "tls": "/run/tollgate/ledger" },
                "providers": providers(settings),
            });
            if let Some(authorities) = &settings.authorities {
                told["authorities"] = format!("{AUTHORITIES}/{}", authorities.entry).into();
            }
            if !settings.filter.is_empty() {
                told["filter"] = Value::Object(settings.filter.clone());
            }
            told
        }
    };
    // JSON is YAML, and one line.
    told.to_string()
}

fn providers(settings: &Settings) -> Value {
    let each = settings.providers.iter().map(|(name, provider)| {
        let mut told = Map::new();
        let key = format!("/run/tollgate/providers/{name}/{}", provider.entry);
        told.insert("key".to_owned(), key.into());
        if let Some(url) = &provider.url {
            told.insert("url".to_owned(), url.clone().into());
        }
        (name.clone(), Value::Object(told))
    });
    Value::Object(each.collect())
}

/// The init containers, in their order: they come before every other container of the pod.
pub(super) fn containers(ask: &Ask, settings: &Settings) -> [Value; 2] {
    [install(settings), sidecar(ask, settings)]
}

fn install(settings: &Settings) -> Value {
    json!({
        "name": "tollgate-filter",
        "image": settings.filter_image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": ["install", "/run/tollgate/bin"],
        "resources": {
            "requests": { "cpu": "10m", "memory": "32Mi" },
            "limits": { "memory": "64Mi" },
        },
        "securityContext": security(),
        "volumeMounts": [mount("tollgate-bin", "/run/tollgate/bin", false)],
    })
}

fn sidecar(ask: &Ask, settings: &Settings) -> Value {
    let mut mounts = vec![
        mount("tollgate-bin", "/run/tollgate/bin", true),
        mount("tollgate-run", "/run/tollgate/envoy", false),
        mount("tollgate-settings", "/etc/tollgate", true),
        mount("tollgate-key", "/run/tollgate/key", true),
    ];
    if ask.mode == Mode::Direct {
        mounts.push(mount("tollgate-ledger", "/run/tollgate/ledger", true));
        mounts.extend(settings.authorities.iter().map(|_| mount("tollgate-authorities", AUTHORITIES, true)));
        let each = settings.providers.keys();
        mounts.extend(
            each.map(|name| mount(&provider_volume(name), &format!("/run/tollgate/providers/{name}"), true)),
        );
    }
    json!({
        "name": "tollgate-sidecar",
        "image": settings.envoy_image,
        "imagePullPolicy": settings.image_pull_policy,
        // A native sidecar: it starts before the agent, and does not keep the pod from ending.
        "restartPolicy": "Always",
        "command": ["/run/tollgate/bin/tollgate-run", "gateway"],
        "args": [
            "--settings=/etc/tollgate/gateway.yaml",
            "--envoy=/usr/local/bin/envoy",
            format!("--port={PORT}"),
            format!("--metrics=127.0.0.1:{METRICS_PORT}"),
        ],
        // The filter is compiled at the start; the agent starts after that.
        "startupProbe": probe("ready", 1, 120),
        "livenessProbe": probe("live", 10, 6),
        "resources": settings.resources,
        "securityContext": security(),
        "volumeMounts": mounts,
    })
}

/// Nothing of a sidecar listens where other pods could reach it, so it is asked from inside.
fn probe(question: &str, period_s: i32, failures: i32) -> Value {
    let ask = ["/run/tollgate/bin/tollgate-run", "health", question, &format!("--port={METRICS_PORT}")];
    json!({
        "exec": { "command": ask },
        "periodSeconds": period_s,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    })
}

fn mount(volume: &str, path: &str, read_only: bool) -> Value {
    let mut mount = json!({ "name": volume, "mountPath": path });
    if read_only {
        mount["readOnly"] = true.into();
    }
    mount
}

fn security() -> Value {
    json!({
        "runAsNonRoot": true,
        "runAsUser": USER,
        "runAsGroup": USER,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] },
        "seccompProfile": { "type": "RuntimeDefault" },
    })
}

fn provider_volume(name: &str) -> String {
    format!("tollgate-provider-{name}")
}

/// The volumes. Only the sidecar mounts them, so that their files may be read by whoever can open them: its group is not the pod's.
pub(super) fn volumes(ask: &Ask, settings: &Settings) -> Vec<Value> {
    let secret = |volume: &str, secret: &str, entries: &[&str]| {
        let mut source = json!({ "secretName": secret, "defaultMode": 0o444 });
        if !entries.is_empty() {
            let items = entries.iter().map(|entry| json!({ "key": entry, "path": entry }));
            source["items"] = items.collect();
        }
        json!({ "name": volume, "secret": source })
    };
    let from_annotation = json!({ "fieldPath": format!("metadata.annotations['{}']", super::SIDECAR) });
    let with_authorities = ask.mode == Mode::Identity && settings.authorities_with_key;
    let entries: &[&str] = if with_authorities { &[KEY_ENTRY, AUTHORITIES_ENTRY] } else { &[KEY_ENTRY] };
    let mut volumes = vec![
        json!({ "name": "tollgate-bin", "emptyDir": { "sizeLimit": "64Mi" } }),
        // Envoy's configuration and its secrets: in memory, and gone with the pod.
        json!({ "name": "tollgate-run", "emptyDir": { "medium": "Memory", "sizeLimit": "16Mi" } }),
        json!({ "name": "tollgate-settings", "downwardAPI": { "items": [
            { "path": "gateway.yaml", "fieldRef": from_annotation },
        ] } }),
        secret("tollgate-key", &ask.key, entries),
    ];
    if ask.mode == Mode::Direct {
        volumes.push(secret("tollgate-ledger", SIDECAR_SECRET, &[]));
        volumes.extend(settings.authorities.iter().map(|Authorities { config_map, entry }| {
            let source = json!({ "name": config_map, "items": [{ "key": entry, "path": entry }] });
            json!({ "name": "tollgate-authorities", "configMap": source })
        }));
        let each = settings.providers.iter();
        volumes.extend(
            each.map(|(name, provider)| secret(&provider_volume(name), &provider.secret, &[&provider.entry])),
        );
    }
    volumes
}

/// What every other container finds in its environment. The key is none: the sidecar puts the real one in its place.
pub(super) fn environment() -> [(&'static str, String); 4] {
    let url = format!("http://127.0.0.1:{PORT}");
    [
        ("ANTHROPIC_BASE_URL", url.clone()),
        ("ANTHROPIC_API_KEY", "tollgate-sidecar".to_owned()),
        ("OPENAI_BASE_URL", format!("{url}/v1")),
        ("OPENAI_API_KEY", "tollgate-sidecar".to_owned()),
    ]
}
