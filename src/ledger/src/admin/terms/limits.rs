//! What a body says of money: the main limit, a soft one over the same window, more of them, and those of single models.

use super::super::error::ApiError;
use super::super::fields::{self, Fields, Patch};
use super::main_duration;
use super::windows::{Parts, window};
use crate::store::{AccountRecord, LimitSpec};
use serde_json::value::RawValue;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::window::{BillingDay, Window, Zone};

/// Limits of one account over all models together at most: each is checked on every request.
const LIMITS_MAX: usize = 8;
/// Limits of single models at most.
pub(super) const OF_MODELS_MAX: usize = 64;
/// Parts of one limit that are told at most.
const THRESHOLDS_MAX: usize = 16;
/// The largest part, in percent: beyond it, nobody is surprised any more.
const THRESHOLD_MAX: u64 = 1_000;
/// Half and most of it are times to look; all of it is what was asked for.
const THRESHOLDS_DEFAULT: [u16; 3] = [50, 80, 100];
/// A soft limit is told when it is spent.
const THRESHOLDS_SOFT: [u16; 1] = [100];

/// What a body says of an account's limits.
#[derive(Debug, Default)]
pub(crate) struct LimitTerms {
    max_budget: Patch<Nanodollars>,
    duration: Patch<String>,
    zone: Patch<Zone>,
    billing_day: Patch<BillingDay>,
    rolling: Option<bool>,
    /// The main limit counts and shows, and refuses nothing.
    observe: Option<bool>,
    soft_budget: Patch<Nanodollars>,
    others: Option<Vec<Entry>>,
    of_models: Option<Vec<Entry>>,
    /// Of every limit that does not bring its own.
    thresholds: Option<Vec<u16>>,
}

/// A limit of which it is not decided yet when it is told.
#[derive(Debug)]
struct Entry {
    spec: LimitSpec,
    thresholds: Option<Vec<u16>>,
}

/// The main window, as whoever set it wrote it and as it counts.
struct Main {
    amount: Option<Nanodollars>,
    duration: Option<String>,
    window: Window,
}

impl LimitTerms {
    /// Takes what concerns limits out of a body, and out of its metadata, where LiteLLM keeps limits of models.
    pub(super) fn read(fields: &mut Fields, metadata: &mut Fields) -> Result<Self, ApiError> {
        Ok(Self {
            max_budget: fields.patch("max_budget", fields::money)?,
            duration: fields.patch("budget_duration", duration)?,
            zone: fields.patch("budget_time_zone", zone)?,
            billing_day: fields.patch("budget_billing_day", billing_day)?,
            rolling: fields.optional("budget_rolling", fields::flag)?,
            observe: fields.optional("observe", fields::flag)?,
            soft_budget: fields.patch("soft_budget", fields::money)?,
            others: fields.patch("budget_limits", others)?.map(Option::unwrap_or_default),
            of_models: super::here_or_in_metadata(fields, metadata, "model_max_budget", of_models)?,
            thresholds: fields.patch("alert_thresholds", thresholds)?.map(Option::unwrap_or_default),
        })
    }

    /// The models that have limits of their own.
    pub(super) fn models(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let entries = self.of_models.iter().flatten();
        entries.filter_map(|entry| Some(("model_max_budget", entry.spec.model.as_deref()?)))
    }

    /// The limits of a new account, and the duration of its main window.
    pub(super) fn into_specs(self) -> Result<(Vec<LimitSpec>, Option<String>), ApiError> {
        let main = self.main(&[], None)?;
        let limits = self.all(&main, &[])?;
        Ok((limits, main.duration))
    }

    /// All limits and the main duration, where any of them changes: what a body leaves out stays.
    pub(super) fn into_change(
        self,
        record: &AccountRecord,
    ) -> Result<(Option<Vec<LimitSpec>>, Patch<String>), ApiError> {
        if self.says_nothing() {
            return Ok((None, None));
        }
        let present: Vec<LimitSpec> = record.limits.iter().map(|limit| limit.spec.clone()).collect();
        let before = main_duration(record);
        let main = self.main(&present, before.clone())?;
        let limits = self.all(&main, &present)?;
        let duration = (self.duration.is_some() || main.duration != before).then_some(main.duration);
        Ok((Some(limits), duration))
    }

    fn says_nothing(&self) -> bool {
        let main = self.max_budget.is_none() && self.duration.is_none() && self.observe.is_none();
        let window = self.zone.is_none() && self.billing_day.is_none() && self.rolling.is_none();
        let more = self.others.is_none() && self.of_models.is_none() && self.soft_budget.is_none();
        main && window && more && self.thresholds.is_none()
    }

    /// The main limit's amount and window. What of the present window has no use in the new one falls away; what the body
    /// gives must have one.
    fn main(&self, present: &[LimitSpec], before: Option<String>) -> Result<Main, ApiError> {
        const ABOUT: [&str; 3] = ["budget_rolling", "budget_billing_day", "budget_time_zone"];
        let limit = present.iter().find(|limit| limit.main);
        let amount = self.max_budget.unwrap_or_else(|| limit.map(|limit| limit.amount));
        let inherited = limit.map(|limit| Parts::of(limit.window)).unwrap_or_default();
        let given = Parts {
            zone: self.zone.flatten(),
            day: self.billing_day.flatten(),
            rolling: self.rolling.unwrap_or_default(),
        };
        let named = [given.rolling, given.day.is_some(), given.zone.is_some()];
        if let Some((name, _)) = ABOUT.iter().zip(named).find(|(_, named)| *named && amount.is_none()) {
            return Err(ApiError::field(name, "needs a max_budget"));
        }
        let monthly = || given.day.map(|_| "1mo".to_owned());
        let duration = self.duration.clone().unwrap_or(before).or_else(monthly);
        let kept = inherited.kept(duration.as_deref(), &given);
        let parts = Parts {
            zone: self.zone.unwrap_or(kept.zone),
            day: self.billing_day.unwrap_or(kept.day),
            rolling: self.rolling.unwrap_or(kept.rolling),
        };
        let parts = if amount.is_some() { parts } else { Parts::default() };
        let window = window(duration.as_deref(), &parts, ["budget_duration", ABOUT[0], ABOUT[1], ABOUT[2]])?;
        Ok(Main { amount, duration, window })
    }

    /// Every limit: at most [`LIMITS_MAX`] over all models, and no window twice.
    fn all(&self, main: &Main, present: &[LimitSpec]) -> Result<Vec<LimitSpec>, ApiError> {
        let duration = &main.duration;
        let over_main = |amount| LimitSpec::new(amount, main.window, duration.clone());
        let before = present.iter().find(|limit| limit.main);
        let observe = self.observe.unwrap_or_else(|| before.is_some_and(|before| before.observe));
        let mut limits = Vec::new();
        if let Some(amount) = main.amount {
            let thresholds = self.thresholds.clone().or_else(|| Some(before?.thresholds.clone()));
            let thresholds = thresholds.unwrap_or_else(|| THRESHOLDS_DEFAULT.to_vec());
            limits.push(LimitSpec { main: true, observe, thresholds, ..over_main(amount) });
        }
        let soft = self.soft_budget.unwrap_or_else(|| soft_of(present).map(|soft| soft.amount));
        if let Some(amount) = soft {
            limits.push(LimitSpec { soft: true, thresholds: THRESHOLDS_SOFT.to_vec(), ..over_main(amount) });
        }
        limits.extend(self.more(self.others.as_deref(), present, |limit| limit.model.is_none()));
        let over_all = limits.iter().filter(|limit| !limit.soft).count();
        if over_all > LIMITS_MAX {
            return Err(ApiError::field("budget_limits", format!("makes more than {LIMITS_MAX} limits")));
        }
        limits.extend(self.more(self.of_models.as_deref(), present, |limit| limit.model.is_some()));
        if self.thresholds.is_some() && limits.iter().all(|limit| limit.soft) {
            return Err(ApiError::field(
                "alert_thresholds",
                "needs a max_budget, budget_limits or model_max_budget",
            ));
        }
        no_window_twice(&limits)?;
        Ok(limits)
    }

    /// The limits that are given, else those of the kind that stand.
    fn more(
        &self,
        given: Option<&[Entry]>,
        present: &[LimitSpec],
        kind: impl Fn(&LimitSpec) -> bool,
    ) -> Vec<LimitSpec> {
        let standing = present.iter().filter(|limit| !limit.main && !limit.soft && kind(limit));
        match given {
            None => {
                let thresholds = |old: &Vec<u16>| self.thresholds.clone().unwrap_or_else(|| old.clone());
                standing
                    .map(|limit| LimitSpec { thresholds: thresholds(&limit.thresholds), ..limit.clone() })
                    .collect()
            }
            Some(given) => {
                given.iter().map(|entry| entry.decided(self.thresholds.as_ref(), standing.clone())).collect()
            }
        }
    }
}

impl Entry {
    /// With its own thresholds, else the account's, else those that the limit had before.
    fn decided<'l>(
        &self,
        account: Option<&Vec<u16>>,
        mut standing: impl Iterator<Item = &'l LimitSpec>,
    ) -> LimitSpec {
        let same = |old: &&LimitSpec| (old.window, &old.model) == (self.spec.window, &self.spec.model);
        let thresholds = self.thresholds.as_ref().or(account).cloned();
        let thresholds = thresholds.or_else(|| standing.find(same).map(|old| old.thresholds.clone()));
        LimitSpec {
            thresholds: thresholds.unwrap_or_else(|| THRESHOLDS_DEFAULT.to_vec()),
            ..self.spec.clone()
        }
    }
}

/// The soft limit over all models.
pub(crate) fn soft_of(limits: &[LimitSpec]) -> Option<&LimitSpec> {
    limits.iter().find(|limit| limit.soft && limit.model.is_none())
}

fn no_window_twice(limits: &[LimitSpec]) -> Result<(), ApiError> {
    for (index, limit) in limits.iter().enumerate() {
        let key = |limit: &LimitSpec| (limit.window, limit.model.clone(), limit.soft);
        if limits.iter().take(index).any(|earlier| key(earlier) == key(limit)) {
            let duration = limit.duration.as_deref().unwrap_or("lifetime");
            return Err(ApiError::field(
                "budget_limits",
                format!("limits the same window twice: {duration}"),
            ));
        }
    }
    Ok(())
}

fn duration(name: &str, raw: &RawValue) -> Result<String, ApiError> {
    let text = fields::text(name, raw)?;
    Window::from_duration(&text).map_err(|why| ApiError::field(name, why))?;
    Ok(text)
}

fn zone(name: &str, raw: &RawValue) -> Result<Zone, ApiError> {
    fields::text(name, raw)?.parse().map_err(|why| ApiError::field(name, why))
}

fn billing_day(name: &str, raw: &RawValue) -> Result<BillingDay, ApiError> {
    // A day beyond a byte is no day of any month.
    let day = u8::try_from(fields::count(name, raw)?).unwrap_or(u8::MAX);
    BillingDay::new(day).map_err(|why| ApiError::field(name, why))
}

/// Percents, each once and in order.
fn thresholds(name: &str, raw: &RawValue) -> Result<Vec<u16>, ApiError> {
    let wrong = || ApiError::field(name, format!("must be a list of whole percents, 1 to {THRESHOLD_MAX}"));
    let percents: Vec<Box<RawValue>> = serde_json::from_str(raw.get()).map_err(|_| wrong())?;
    if percents.len() > THRESHOLDS_MAX {
        return Err(ApiError::field(name, format!("holds more than {THRESHOLDS_MAX} percents")));
    }
    let percent = |raw: Box<RawValue>| {
        let percent = fields::count(name, &raw).ok().filter(|percent| (1..=THRESHOLD_MAX).contains(percent));
        percent.and_then(|percent| u16::try_from(percent).ok()).ok_or_else(wrong)
    };
    let mut percents = percents.into_iter().map(percent).collect::<Result<Vec<_>, _>>()?;
    percents.sort_unstable();
    percents.dedup();
    Ok(percents)
}

/// `budget_limits`: each with a duration and an amount.
fn others(name: &str, raw: &RawValue) -> Result<Vec<Entry>, ApiError> {
    let inside = |why: ApiError| ApiError::field(name, format!("has an entry whose {why}"));
    let entry = |limit: Fields| {
        if !limit.has("billing_day") {
            limit.needs("budget_duration")?;
        }
        entry(limit, None)
    };
    fields::objects(name, raw)?.into_iter().map(|fields| entry(fields).map_err(inside)).collect()
}

/// `model_max_budget`: for each model an amount over its life, or what `budget_limits` has, also under the names that LiteLLM
/// gives it here.
fn of_models(name: &str, raw: &RawValue) -> Result<Vec<Entry>, ApiError> {
    let members = fields::members_at_most(OF_MODELS_MAX, "models", name, raw)?;
    let read = |(model, raw): (String, Box<RawValue>)| {
        let about = |why: ApiError| ApiError::field(name, format!("has for {model:?} an entry whose {why}"));
        if raw.get().starts_with('{') {
            let mut limit = fields::one(&model, &raw).map_err(about)?;
            limit.rename("budget_limit", "max_budget").map_err(about)?;
            limit.rename("time_period", "budget_duration").map_err(about)?;
            return entry(limit, Some(model.clone())).map_err(about);
        }
        let amount = fields::money("max_budget", &raw).map_err(about)?;
        let spec = LimitSpec { model: Some(model), ..LimitSpec::new(amount, Window::Lifetime, None) };
        Ok(Entry { spec, thresholds: None })
    };
    members.into_iter().map(read).collect()
}

/// One limit. What answers show of it may come back with it.
fn entry(mut limit: Fields, model: Option<String>) -> Result<Entry, ApiError> {
    let amount = limit.required("max_budget", fields::money)?;
    let parts = Parts {
        zone: limit.optional("time_zone", zone)?,
        day: limit.optional("billing_day", billing_day)?,
        rolling: limit.optional("rolling", fields::flag)?.unwrap_or_default(),
    };
    let duration = limit.optional("budget_duration", duration)?;
    let duration = duration.or_else(|| parts.day.map(|_| "1mo".to_owned()));
    let window =
        window(duration.as_deref(), &parts, ["budget_duration", "rolling", "billing_day", "time_zone"])?;
    let observe = limit.optional("observe", fields::flag)?.unwrap_or_default();
    let thresholds = limit.optional("thresholds", thresholds)?;
    for shown in ["reset_at", "spend", "pending"] {
        limit.take(shown);
    }
    limit.finish()?;
    let spec = LimitSpec { observe, model, ..LimitSpec::new(amount, window, duration) };
    Ok(Entry { spec, thresholds })
}
