//! YAML as people keep it: pods, and what makes pods.

use super::judge::Refusal;
use super::patch::inject;
use super::settings::Settings;
use serde::Deserialize;
use serde_json::Value;

/// Why documents were not taken.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// They are no YAML.
    #[error("the file cannot be read: {0}")]
    Yaml(#[from] serde_yaml_ng::Error),
    /// One of them gets no sidecar.
    #[error("{kind} {name}: {refusal}")]
    Refused {
        /// What it is.
        kind: String,
        /// What it is called.
        name: String,
        /// Why.
        refusal: Refusal,
    },
}

/// Where the pod is in a document of this kind; `None`: it makes none.
fn pod_of(kind: &str) -> Option<&'static str> {
    match kind {
        "Pod" => Some(""),
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" | "ReplicationController" => {
            Some("/spec/template")
        }
        "CronJob" => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

/// Gives every pod in the documents a sidecar; whatever else is there stays as it is. A document without a namespace is of `namespace`.
///
/// # Errors
/// [`DocumentError`], of the first that is refused.
pub fn inject_documents(yaml: &str, namespace: &str, settings: &Settings) -> Result<String, DocumentError> {
    let mut done = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(yaml) {
        let mut document = Value::deserialize(document)?;
        if document.is_null() {
            continue;
        }
        inject_document(&mut document, namespace, settings)?;
        done.push(serde_yaml_ng::to_string(&document)?);
    }
    Ok(done.join("---\n"))
}

fn inject_document(document: &mut Value, namespace: &str, settings: &Settings) -> Result<(), DocumentError> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&document["kind"]), text(&document["metadata"]["name"]));
    if kind == "List" {
        let items = document["items"].as_array_mut().into_iter().flatten();
        return items.into_iter().try_for_each(|item| inject_document(item, namespace, settings));
    }
    let own = document["metadata"]["namespace"].as_str().unwrap_or(namespace).to_owned();
    let Some(pod) = pod_of(&kind).and_then(|path| document.pointer_mut(path)) else { return Ok(()) };
    let refused = |refusal| DocumentError::Refused { kind: kind.clone(), name: name.clone(), refusal };
    let patch = inject(pod, &own, settings).map_err(refused)?;
    json_patch::patch(pod, &patch).map_err(|error| refused(Refusal::Malformed(error.to_string())))
}
