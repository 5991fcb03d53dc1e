//! The sidecar: what makes an agent's pod go through Tollgate without holding a key.
//!
//! [`inject`] is a pure function from a pod to a patch or a refusal; the [webhook](serve) and `tollgate-operator inject` both use
//! it and nothing else.

mod documents;
mod judge;
mod patch;
mod settings;
mod sidecar;
#[cfg(test)]
mod tests;
mod webhook;

pub use documents::{DocumentError, inject_documents};
pub use judge::{Ask, Mode, Refusal};
pub use patch::inject;
pub use settings::{Authorities, Provider, Settings};
pub use webhook::{routes, serve};

/// On a pod that wants a sidecar: `"true"`.
pub const LABEL: &str = "tollgate.dev/inject";
/// On the same pod: the name of the `VirtualKey` that pays.
pub const KEY: &str = "tollgate.dev/key";
/// On the same pod: [`Mode`], `identity` by default.
pub const MODE: &str = "tollgate.dev/mode";
/// What the sidecar is told. It comes to it as a file.
const SIDECAR: &str = "tollgate.dev/sidecar";
