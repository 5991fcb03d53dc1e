//! The custom resources: what people write, and what they read in the status. The types are the source; the definitions in
//! `k8s/crds` are written from them.
//!
//! Everything that can be judged by looking at one object is in the schema, with a message that says what to write instead.
//! What needs another object, or the table of time zones, is judged by the [plan](crate::plan) and told as a condition.

// `KubeSchema` keeps a copy of each type inside of a function.
#![expect(unreachable_pub, reason = "the copies are as public as the types")]

mod attachment;
mod budget;
mod definitions;
mod limit;
mod models;
mod organization;
mod price_book;
mod rates;
mod status;
mod tags;
mod team;
mod user;
mod virtual_key;

pub use attachment::{AllowedNamespaces, NamespacesFrom, Reference};
pub use budget::{Alert, Budget, BudgetSpec, BudgetStatus, Mode, TargetKind, TargetRef};
pub use definitions::{definitions, definitions_yaml};
pub use limit::{Limit, Period};
pub use organization::{Organization, OrganizationSpec};
pub use price_book::{
    ModelAlias, ModelMode, PriceBook, PriceBookSpec, PriceBookStatus, PriceDiscount, PricedModel,
    ProviderName, TokenPrices,
};
pub use rates::Rates;
pub use status::{AccountStatus, LimitStatus, Spending};
pub use team::{Extra, PerKey, Team, TeamSpec};
pub use user::{User, UserSpec};
pub use virtual_key::{
    PreviousKey, Rotation, SecretNames, SecretSpec, VirtualKey, VirtualKeySpec, VirtualKeyStatus,
};

/// The group of all custom resources.
pub const GROUP: &str = "tollgate.dev";
/// Kept on every object that has an account in the ledger, until that has been deleted.
pub const FINALIZER: &str = "tollgate.dev/ledger";
/// Each new value of this annotation on a `VirtualKey` makes a new key, as the schedule would.
pub const ROTATE_ANNOTATION: &str = "tollgate.dev/rotate";
