//! What an exchange asks the host to do.

use tollgate_domain::answer::Answer;
use tollgate_domain::catalogue::Provider;
use tollgate_domain::request::edit::Edits;
use tollgate_proto::v1;

/// What the host has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ask the ledger.
    Call(Call),
    /// Answer the client; nothing goes to the provider.
    Respond(Answer),
    /// Let the request go on, changed.
    Forward(Forward),
}

/// A call to the ledger, and its request's bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// `Lookup`
    Lookup(v1::LookupRequest),
    /// `Hold`
    Hold(Box<v1::HoldRequest>),
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To a provider.
    Provider(Provider),
    /// To the ledger's admin API.
    Admin,
}

impl Route {
    /// The word by which Envoy's routes know it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provider(provider) => provider.as_str(),
            Self::Admin => "admin",
        }
    }
}

/// A request that goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// Where.
    pub route: Route,
    /// The path and query.
    pub path: String,
    /// Headers that stay behind.
    pub remove: Vec<String>,
    /// What changes in the body; `None`: there is none, or it passes as it is.
    pub body: Option<BodyEdit>,
}

/// Changes of a body.
#[derive(Clone, Debug, PartialEq)]
pub struct BodyEdit {
    /// The changes.
    pub edits: Edits,
    /// Bytes before them.
    pub bytes: u64,
}
