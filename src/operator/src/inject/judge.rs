//! Whether a pod can have a sidecar that keeps what it is given to itself.

use super::settings::Settings;
use super::{KEY, MODE};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};

/// Names of what is added begin with this, and nothing else of the pod may.
pub(super) const PREFIX: &str = "tollgate-";
/// Where the agent finds the sidecar.
pub(super) const PORT: i32 = 4000;
/// Health and metrics.
pub(super) const METRICS_PORT: i32 = 4003;
/// The longest name of an object.
const NAME_BYTES_MAX: usize = 253;

/// How the sidecar works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It puts the key on the request, and the ingress decides.
    Identity,
    /// It decides itself, and holds the providers' credentials.
    Direct,
}

/// What a pod asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The `VirtualKey`, whose Secret has the same name.
    pub key: String,
    /// How.
    pub mode: Mode,
}

/// Why a pod gets no sidecar, and is not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is none.
    #[error("this is no pod: {0}")]
    Malformed(String),
    /// Nobody pays.
    #[error("say which VirtualKey pays: annotation {KEY}: NAME")]
    NoKey,
    /// No object has such a name.
    #[error("annotation {KEY}: {0:?} is no name of a VirtualKey")]
    KeyName(String),
    /// There are two.
    #[error("annotation {MODE}: {0:?} must be identity or direct")]
    Mode(String),
    /// Its namespace would have to hold the providers' credentials.
    #[error(
        "annotation {MODE}: direct is not allowed in namespace {0}; write identity, or ask the platform for it"
    )]
    Direct(String),
    /// Every process could read the sidecar's memory.
    #[error("shareProcessNamespace: true would let the agent read the sidecar's key: leave it out")]
    ShareProcessNamespace,
    /// Every process of the machine could be reached, or could reach the sidecar.
    #[error("{0}: true would let others of the machine reach the sidecar: leave it out")]
    Host(&'static str),
    /// A container that comes later, into the processes of another.
    #[error("a pod with ephemeral containers gets no sidecar: they can enter its processes")]
    Ephemeral,
    /// A name of ours is taken.
    #[error("{0} {1:?} has a name that begins with {PREFIX}, which is for Tollgate's own")]
    Name(&'static str, String),
    /// A container would get what is the sidecar's.
    #[error("container {0:?} mounts {1:?}, which is for Tollgate's own")]
    Mounts(String, String),
    /// Only one can listen.
    #[error("container {0:?} has port {1}, where the sidecar listens")]
    Port(String, i32),
}

/// Every container of a pod, whenever it runs.
pub(super) fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

/// What the pod asks for, if it can have it. What is wrong first is told first, in the order of this function.
pub(super) fn judge(pod: &PodTemplateSpec, namespace: &str, settings: &Settings) -> Result<Ask, Refusal> {
    let none = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&none);
    let ask = ask(pod, namespace, settings)?;
    if spec.share_process_namespace == Some(true) {
        return Err(Refusal::ShareProcessNamespace);
    }
    for (name, value) in
        [("hostNetwork", spec.host_network), ("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc)]
    {
        if value == Some(true) {
            return Err(Refusal::Host(name));
        }
    }
    if spec.ephemeral_containers.as_ref().is_some_and(|containers| !containers.is_empty()) {
        return Err(Refusal::Ephemeral);
    }
    for volume in spec.volumes.iter().flatten() {
        if volume.name.starts_with(PREFIX) {
            return Err(Refusal::Name("volume", volume.name.clone()));
        }
    }
    containers(spec).try_for_each(judge_container)?;
    Ok(ask)
}

fn ask(pod: &PodTemplateSpec, namespace: &str, settings: &Settings) -> Result<Ask, Refusal> {
    let annotations = pod.metadata.as_ref().and_then(|metadata| metadata.annotations.as_ref());
    let annotation = |name: &str| annotations.and_then(|all| all.get(name)).map(String::as_str);
    let key = annotation(KEY).filter(|key| !key.is_empty()).ok_or(Refusal::NoKey)?;
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    let is_edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let is_name = key.len() <= NAME_BYTES_MAX
        && key.bytes().all(is_inner)
        && is_edge(key.bytes().next())
        && is_edge(key.bytes().last());
    if !is_name {
        return Err(Refusal::KeyName(key.to_owned()));
    }
    let mode = match annotation(MODE) {
        None | Some("identity") => Mode::Identity,
        Some("direct") if settings.direct_namespaces.contains(namespace) => Mode::Direct,
        Some("direct") => return Err(Refusal::Direct(namespace.to_owned())),
        Some(other) => return Err(Refusal::Mode(other.to_owned())),
    };
    Ok(Ask { key: key.to_owned(), mode })
}

fn judge_container(container: &Container) -> Result<(), Refusal> {
    let name = &container.name;
    if name.starts_with(PREFIX) {
        return Err(Refusal::Name("container", name.clone()));
    }
    // The volume is not there yet, and would be with the sidecar.
    let mounts = container.volume_mounts.iter().flatten().map(|mount| &mount.name);
    let devices = container.volume_devices.iter().flatten().map(|device| &device.name);
    if let Some(volume) = mounts.chain(devices).find(|volume| volume.starts_with(PREFIX)) {
        return Err(Refusal::Mounts(name.clone(), volume.clone()));
    }
    let ports = container.ports.iter().flatten().map(|port| port.container_port);
    if let Some(port) = ports.into_iter().find(|port| [PORT, METRICS_PORT].contains(port)) {
        return Err(Refusal::Port(name.clone(), port));
    }
    Ok(())
}
