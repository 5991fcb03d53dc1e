//! What must be so before an account is taken over: that whoever asks may have it, and that each of its limits is written down here.
//!
//! An object and the budgets on it come one after another, and nobody says in which order. So an account of the admin API is left as it is until
//! there is a Budget over each window (and model) of its limits, one that refuses where the limit did, whatever amount it says. Nothing else
//! is compared: amounts, models, rates, tags and the expiry are what the objects say from the moment of the adoption.

use super::identity::Identities;
use super::verdict::Problem;
use super::{Account, Kind, Limit, LimitStanding, MANAGED_BY, ObjectName, Settings, Standing, World, money};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use std::collections::BTreeMap;
use tollgate_domain::window::{CalendarUnit, Window};

/// When an object was made, and which one it is: the order in which they have what several want.
type Age<'a> = (Option<&'a Time>, &'a ObjectName);

/// Who adopts which account.
pub(super) struct Adopters<'a> {
    identities: Identities<'a>,
    settings: &'a Settings,
    /// The oldest that is there, also while it is being deleted: until then the account is its own.
    oldest: BTreeMap<(Kind, &'a str), Age<'a>>,
}

impl<'a> Adopters<'a> {
    pub(super) fn new(world: &'a World, settings: &'a Settings) -> Self {
        let identities = Identities::new(world, settings);
        let mut all = Self { identities, settings, oldest: BTreeMap::new() };
        all.take(Kind::Organization, world.organizations.iter().map(|(name, one)| (name, &one.metadata)));
        all.take(Kind::Team, world.teams.iter().map(|(name, one)| (name, &one.metadata)));
        all.take(Kind::User, world.users.iter().map(|(name, one)| (name, &one.metadata)));
        all.take(Kind::VirtualKey, world.virtual_keys.iter().map(|(name, one)| (name, &one.metadata)));
        all
    }

    fn take(&mut self, kind: Kind, objects: impl Iterator<Item = (&'a ObjectName, &'a ObjectMeta)>) {
        for (name, meta) in objects {
            let Some(id) = self.identities.adopted(kind, name) else { continue };
            let age = (meta.creation_timestamp.as_ref(), name);
            let oldest = self.oldest.entry((kind, id)).or_insert(age);
            *oldest = age.min(*oldest);
        }
    }

    /// Why an object may not adopt what it says.
    pub(super) fn problem(&self, kind: Kind, name: &ObjectName) -> Option<Problem> {
        let said = self.identities.said(kind, name)?;
        if self.identities.is_of_an_object(said) {
            let message = format!(
                "spec.adopt: {said} is the account of a custom resource, and not of the admin API: make the object without adopt"
            );
            return Some(Problem::new("AdoptionNotPermitted", message));
        }
        let Some(id) = self.identities.adopted(kind, name) else {
            let and_others =
                if kind == Kind::VirtualKey { "" } else { " and in those that the platform lists" };
            let message = format!(
                "spec.adopt of a {kind} counts only in namespace {}{and_others}: make it there, or without adopt",
                self.settings.release_namespace
            );
            return Some(Problem::new("AdoptionNotPermitted", message));
        };
        let (_, oldest) = self.oldest.get(&(kind, id)).filter(|(_, oldest)| *oldest != name)?;
        let message = format!(
            "spec.adopt: {kind} {oldest} has adopted {id}, and is older: delete one of them, or make this one without adopt"
        );
        Some(Problem::new("AdoptedByAnother", message))
    }
}

/// The first limit that would be lost by applying this account over the one that was told, in a sentence.
pub(super) fn opens(account: &Account, told: Option<&Standing>) -> Option<String> {
    let told = told.filter(|told| account.adopt && !told.deleted && told.managed_by != MANAGED_BY)?;
    let lost = told.limits.iter().find(|limit| !account.limits.iter().any(|row| says(row, limit)))?;
    let period = lost.window.map_or_else(|| "over a span that no Budget has".to_owned(), money::in_words);
    let model = lost.model.as_ref().map(|model| format!(" for {model}")).unwrap_or_default();
    let refuses = if lost.soft || lost.observe { "" } else { ", which refuses," };
    Some(format!(
        "{} {} in the ledger has a limit of {} USD ({period}){model}{refuses} that no Budget here has, so it is left as it is: write a Budget with \
         it, or take it away through the admin API",
        account.name.kind, account.name.id, lost.amount
    ))
}

/// Whether a row stands for a limit: of one that refuses, a row that does so, too. One that only warns has its place in one that observes,
/// too, and none above one that refuses.
fn says(row: &Limit, limit: &LimitStanding) -> bool {
    let same = Some(row.window) == limit.window.map(as_written) && row.model == limit.model;
    let stands = match (limit.soft, limit.observe) {
        (true, _) => row.soft || row.observe || row.amount <= limit.amount,
        (false, true) => !row.soft,
        (false, false) => !row.soft && !row.observe,
    };
    same && stands
}

/// A month from its first day is the calendar's, in the words of a Budget.
fn as_written(window: Window) -> Window {
    match window {
        Window::Anchored { day, zone } if day.get() == 1 => Window::Calendar(CalendarUnit::Months(1), zone),
        window => window,
    }
}
