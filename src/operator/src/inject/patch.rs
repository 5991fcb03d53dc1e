//! A pod into a patch. Only what is added is named, so that fields which this program does not know stay as they are.

use super::judge::{Refusal, judge};
use super::settings::Settings;
use super::sidecar;
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, ReplaceOperation};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Value, json};

/// What turns a pod, or a pod template, into one with a sidecar. Where it has that very sidecar already, only what it lacks.
///
/// # Errors
/// [`Refusal`].
pub fn inject(pod: &Value, namespace: &str, settings: &Settings) -> Result<Patch, Refusal> {
    completion(pod, namespace, settings).map_or_else(|| patch(pod, namespace, settings), Ok)
}

/// What a pod lacks that has the very sidecar that it would get: the environment of containers that have come since. `None`: it has no
/// such sidecar. Whatever the API server and others have added on its way does not matter: they fill in defaults, and mount tokens.
fn completion(pod: &Value, namespace: &str, settings: &Settings) -> Option<Patch> {
    let mut expected = without_sidecar(pod)?;
    let whole_patch = patch(&expected, namespace, settings).ok()?;
    json_patch::patch(&mut expected, &whole_patch).ok()?;
    leave_to_the_cluster(&mut expected);
    let mut edit = Edit { pod, operations: Vec::new() };
    edit.environment();
    let lacking = Patch(edit.operations);
    let mut completed = pod.clone();
    json_patch::patch(&mut completed, &lacking).ok()?;
    covers(&completed, &expected).then_some(lacking)
}

/// How our images are pulled and how much our containers may use is also a cluster's to say, by plugins and webhooks that come after ours.
/// What they run is not.
fn leave_to_the_cluster(pod: &mut Value) {
    let containers = pod.pointer_mut("/spec/initContainers").and_then(Value::as_array_mut);
    let ours = containers.into_iter().flatten().filter(|container| is_ours(container));
    for container in ours.filter_map(Value::as_object_mut) {
        container.remove("imagePullPolicy");
        container.remove("resources");
    }
}

fn is_ours(one: &Value) -> bool {
    one["name"].as_str().is_some_and(|name| name.starts_with(super::judge::PREFIX))
}

/// Whether everything that is expected is there; what has a name is found by it.
fn covers(actual: &Value, expected: &Value) -> bool {
    match (actual, expected) {
        _ if actual == expected => true,
        (Value::Object(actual), Value::Object(expected)) => {
            expected.iter().all(|(name, value)| actual.get(name).is_some_and(|actual| covers(actual, value)))
        }
        (Value::Array(actual), Value::Array(expected)) => expected.iter().all(|one| {
            one["name"].is_string()
                && actual.iter().any(|other| other["name"] == one["name"] && covers(other, one))
        }),
        _ => false,
    }
}

/// The pod without what a sidecar adds beside the environment; `None`: it has no sidecar.
fn without_sidecar(pod: &Value) -> Option<Value> {
    pod.pointer("/metadata/annotations")?.get(super::SIDECAR)?;
    let mut bare = pod.clone();
    if let Some(annotations) = bare.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(super::SIDECAR);
    }
    for list in ["/spec/initContainers", "/spec/volumes"] {
        if let Some(all) = bare.pointer_mut(list).and_then(Value::as_array_mut) {
            all.retain(|one| !is_ours(one));
        }
    }
    // A list that was not there before is not there again.
    if let Some(spec) = bare.get_mut("spec").and_then(Value::as_object_mut) {
        for list in ["initContainers", "volumes"] {
            if spec.get(list).and_then(Value::as_array).is_some_and(Vec::is_empty) {
                spec.remove(list);
            }
        }
    }
    Some(bare)
}

fn patch(pod: &Value, namespace: &str, settings: &Settings) -> Result<Patch, Refusal> {
    let typed: PodTemplateSpec =
        serde_json::from_value(pod.clone()).map_err(|error| Refusal::Malformed(error.to_string()))?;
    let ask = judge(&typed, namespace, settings)?;
    let mut edit = Edit { pod, operations: Vec::new() };
    edit.environment();
    edit.first("initContainers", sidecar::containers(&ask, settings).into());
    edit.last("volumes", sidecar::volumes(&ask, settings));
    let told = sidecar::gateway_settings(&ask, settings);
    edit.add(["metadata", "annotations", super::SIDECAR], told.into());
    Ok(Patch(edit.operations))
}

/// Operations, in an order in which each finds what it needs.
struct Edit<'a> {
    pod: &'a Value,
    operations: Vec<PatchOperation>,
}

impl Edit<'_> {
    fn add<const N: usize>(&mut self, path: [&str; N], value: Value) {
        let path = PointerBuf::from_tokens(path);
        self.operations.push(PatchOperation::Add(AddOperation { path, value }));
    }

    /// Puts these before what is in a list of the specification.
    fn first(&mut self, list: &str, all: Vec<Value>) {
        if self.pod["spec"][list].is_array() {
            for one in all.into_iter().rev() {
                self.add(["spec", list, "0"], one);
            }
        } else {
            self.add(["spec", list], all.into());
        }
    }

    /// Puts these behind what is in a list of the specification.
    fn last(&mut self, list: &str, all: Vec<Value>) {
        if self.pod["spec"][list].is_array() {
            for one in all {
                self.add(["spec", list, "-"], one);
            }
        } else {
            self.add(["spec", list], all.into());
        }
    }

    /// Sets the environment of every container that there is beside ours. Before containers are put in front of them.
    fn environment(&mut self) {
        let pod = self.pod;
        for list in ["initContainers", "containers"] {
            let containers = pod["spec"][list].as_array().into_iter().flatten().enumerate();
            for (index, container) in containers.filter(|(_, container)| !is_ours(container)) {
                self.environment_of(list, &index.to_string(), &container["env"]);
            }
        }
    }

    fn environment_of(&mut self, list: &str, index: &str, env: &Value) {
        let Some(present) = env.as_array() else {
            let all = sidecar::environment().map(|(name, value)| json!({ "name": name, "value": value }));
            return self.add(["spec", list, index, "env"], all.into_iter().collect());
        };
        for (name, value) in sidecar::environment() {
            let value = json!({ "name": name, "value": value });
            let mut places = present.iter().enumerate().filter(|(_, one)| one["name"] == name).peekable();
            if places.peek().is_none() {
                self.add(["spec", list, index, "env", "-"], value.clone());
            }
            // Whatever stood there led around the sidecar. Of several, the last would count.
            for (place, one) in places {
                if *one != value {
                    let path = PointerBuf::from_tokens(["spec", list, index, "env", &place.to_string()]);
                    self.operations
                        .push(PatchOperation::Replace(ReplaceOperation { path, value: value.clone() }));
                }
            }
        }
    }
}
