//! What is to be done, from what is wanted and what there is.
//!
//! [`plan`] is a pure function over one snapshot of everything: custom resources, namespaces, Secrets of keys, and how accounts stand in
//! the ledger. It remembers nothing, so that a restart, a missed event, an event that comes twice and a second operator all come to the
//! same: the next plan. Carrying out its actions, in any order and any part of them, leads to a snapshot whose plan is empty.

mod account;
mod action;
mod adoption;
mod conditions;
mod desired;
mod events;
mod identity;
mod kept;
mod keys;
mod ledger;
mod limits;
mod models;
mod money;
mod prices;
mod program;
mod secret;
mod statuses;
mod time;
mod verdict;
mod wire;
mod world;

pub use account::{Account, Credential, Limit, RateLimit};
pub use action::{Action, Event, EventType, IssueKey, Kind, ObjectRef, Plan, Status};
pub use ledger::{
    Applied, Ledger, LimitStanding, Outcome, PriceFault, PricesAsked, PricesOutcome, Refusal, RefusalReason,
    Standing,
};
pub(crate) use money::{in_words, span};
pub use secret::{KeySecret, PresentKey, PreviousCredential, SECRET_LABEL, SecretContent};
pub use wire::{WireError, standing_from_wire};
pub(crate) use wire::{name_from_wire, window_from_wire};
pub use world::{CaBundle, ObjectName, SecretRefusal, Settings, World};

use tollgate_domain::account::{AccountKind, AccountName};
use tollgate_domain::time::Timestamp;

/// Who manages accounts that come from custom resources, in the ledger's words.
pub const MANAGED_BY: &str = "kubernetes";

/// What is to be done about `world` at `now`, and when to look again if nothing happens before.
pub fn plan(world: &World, settings: &Settings, now: Timestamp) -> Plan {
    let identities = identity::Identities::new(world, settings);
    let verdicts = verdict::Verdicts::new(world, settings);
    let desires = desired::Desires::new(world, settings, &verdicts);
    let program = program::Programmer::new(world, settings, &desires, now).program(&verdicts);
    let prices = prices::Prices::new(world, settings, &verdicts, now);
    let statuses = statuses::Statuses::new(world, identities, (&program, &prices), now);
    let (statuses, status_due) = statuses.write(&verdicts);
    let wake_at = program.wake_at.into_iter().chain(prices.wake_at).chain(status_due).min();
    let mut actions: Vec<Action> = prices.action().into_iter().collect();
    actions.extend(program.into_actions());
    actions.extend(statuses);
    Plan { actions, wake_at }
}

/// The accounts that must be there before this one.
fn owners_of(account: &Account) -> Vec<AccountName> {
    let owners = [
        (AccountKind::Organization, &account.organization),
        (AccountKind::Team, &account.team),
        (AccountKind::User, &account.user),
    ];
    let owner = |(kind, id): (AccountKind, &Option<String>)| {
        Some(AccountName { kind, scope: String::new(), id: id.clone()? })
    };
    owners.into_iter().filter_map(owner).collect()
}
