//! What is to be done, from what is wanted and what there is.
//!
//! [`plan`] is a pure function over one snapshot of everything: custom resources, namespaces, Secrets of keys, and how accounts stand in
//! the ledger. It remembers nothing, so that a restart, a missed event, an event that comes twice and a second operator all come to the
//! same: the next plan. Carrying out its actions, in any order and any part of them, leads to a snapshot whose plan is empty.

mod account;
mod action;
mod ledger;
mod secret;
mod wire;
mod world;

pub use account::{Account, Credential, Limit, RateLimit};
pub use action::{Action, Event, EventType, IssueKey, Kind, ObjectRef, Plan, Status};
pub use ledger::{Applied, Ledger, LimitStanding, Outcome, Refusal, RefusalReason, Standing};
pub use secret::{KeySecret, PresentKey, PreviousCredential, SecretContent, masked};
pub use wire::{WireError, name_from_wire, name_to_wire, standing_from_wire};
pub use world::{ObjectName, Settings, World};

use tollgate_domain::time::Timestamp;

/// Who manages accounts that come from custom resources, in the ledger's words.
pub const MANAGED_BY: &str = "kubernetes";

/// What is to be done about `world` at `now`, and when to look again if nothing happens before.
pub fn plan(_world: &World, _settings: &Settings, _now: Timestamp) -> Plan {
    Plan::default()
}
