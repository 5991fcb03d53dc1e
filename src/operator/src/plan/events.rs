//! What a person would want to hear, once each.
//!
//! An event is the change of a status, so what was published can be told from the status that there is: after a restart nothing is said again.
//! The status is written after them; should it not have been, they come again under the names that they had, and are the same ones.

use super::conditions::{EXHAUSTED, PROGRAMMED, REFUSED_BY_LEDGER, find};
use super::statuses::turned_true;
use super::{Event, EventType, ObjectRef, Status};
use crate::resources::{LimitStatus, VirtualKeyStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// The events that the change of a status means.
pub(super) fn of(object: &ObjectRef, meta: &ObjectMeta, before: &Status, after: &Status) -> Vec<Event> {
    let mut events = Events { object, events: vec![] };
    let generation = meta.generation.unwrap_or_default();
    events.refused(generation, conditions(before), conditions(after));
    match (before, after) {
        (Status::VirtualKey(before), Status::VirtualKey(after)) => {
            events.key(before, after);
            let spent = after.limits.iter().find(|limit| limit.used_percent.is_some_and(|used| used >= 100));
            events.exhausted(&before.conditions, &after.conditions, spent);
        }
        (Status::Budget(before), Status::Budget(after)) => {
            events.thresholds(&before.limits, &after.limits);
            let spent = after.limits.iter().find(|limit| limit.used_percent.is_some_and(|used| used >= 100));
            events.exhausted(&before.conditions, &after.conditions, spent);
        }
        _ => {}
    }
    events.events
}

fn conditions(status: &Status) -> &[Condition] {
    match status {
        Status::Account(status) => &status.conditions,
        Status::VirtualKey(status) => &status.conditions,
        Status::Budget(status) => &status.conditions,
        Status::PriceBook(status) => &status.conditions,
    }
}

struct Events<'a> {
    object: &'a ObjectRef,
    events: Vec<Event>,
}

impl Events<'_> {
    /// `what` tells it from every other event of that reason.
    fn push(&mut self, event_type: EventType, reason: &'static str, what: &str, note: String) {
        let name = name(self.object, reason, what);
        self.events.push(Event { name, about: self.object.clone(), event_type, reason, note });
    }

    fn refused(&mut self, generation: i64, before: &[Condition], after: &[Condition]) {
        let refused =
            |all| find(all, PROGRAMMED).filter(|one| one.reason == REFUSED_BY_LEDGER).map(|one| &one.message);
        match (refused(before), refused(after)) {
            (before, Some(message)) if before != Some(message) => {
                let what = format!("{generation} {message}");
                self.push(EventType::Warning, REFUSED_BY_LEDGER, &what, message.clone());
            }
            _ => {}
        }
    }

    fn exhausted(&mut self, before: &[Condition], after: &[Condition], spent: Option<&LimitStatus>) {
        if !turned_true(before, after, EXHAUSTED) {
            return;
        }
        let note = find(after, EXHAUSTED).map(|condition| condition.message.clone()).unwrap_or_default();
        let what = spent.map(window).unwrap_or_default();
        self.push(EventType::Warning, EXHAUSTED, &what, note);
    }

    fn thresholds(&mut self, before: &[LimitStatus], after: &[LimitStatus]) {
        for (index, limit) in after.iter().enumerate() {
            let same = before.get(index).filter(|before| window(before) == window(limit));
            let known = same.map_or(&[][..], |before| &before.alerted_percents);
            for percent in limit.alerted_percents.iter().filter(|percent| !known.contains(percent)) {
                let note = format!(
                    "{percent} % of the limit of {} USD ({}) is spent: {} USD.",
                    limit.amount,
                    limit.period,
                    limit.posted.as_deref().unwrap_or("0"),
                );
                let what = format!("{percent} {index} {}", window(limit));
                self.push(EventType::Warning, "ThresholdCrossed", &what, note);
            }
        }
    }

    fn key(&mut self, before: &VirtualKeyStatus, after: &VirtualKeyStatus) {
        let (Some(issued_at), Some(key)) = (&after.issued_at, &after.key_name) else { return };
        let what = format!("{} {key}", issued_at.0);
        let secret = after.secret_name.as_deref().unwrap_or_default();
        match (&before.issued_at, after.previous.iter().map(|previous| previous.expires_at.0).max()) {
            (None, _) => {
                self.push(EventType::Normal, "KeyIssued", &what, format!("Key {key} is in Secret {secret}."));
            }
            (Some(at), _) if at == issued_at && before.key_name == after.key_name => {}
            (Some(_), Some(until)) => {
                let note = format!("Key {key} is in Secret {secret}. The one before works until {until}.");
                self.push(EventType::Normal, "KeyRotated", &what, note);
            }
            (Some(_), None) => {
                let note = format!("Key {key} is in Secret {secret}. No key before it works any more.");
                self.push(EventType::Normal, "KeyRotated", &what, note);
            }
        }
    }
}

/// Which span of which limit, in one text.
fn window(limit: &LimitStatus) -> String {
    let since = limit.since.as_ref().map(|since| since.0.to_string()).unwrap_or_default();
    format!("{} {} {} {since}", limit.amount, limit.period, limit.model.as_deref().unwrap_or_default())
}

/// The same for the same thing that happened to the same object.
fn name(object: &ObjectRef, reason: &str, what: &str) -> String {
    let digest = Sha256::digest(format!("{} {} {reason} {what}", object.kind, object.uid));
    let mut name = format!("{}.", object.name.name);
    for byte in digest.iter().take(8) {
        let _ = write!(name, "{byte:02x}");
    }
    name
}
