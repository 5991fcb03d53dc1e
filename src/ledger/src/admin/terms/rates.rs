//! What a body says of rates: requests and tokens in a minute, tokens in a day, requests at once; of all models together, or of
//! single ones.

use super::super::error::ApiError;
use super::super::fields::{self, Fields, Patch};
use super::limits::OF_MODELS_MAX;
use crate::store::RateSpec;
use serde_json::value::RawValue;
use tollgate_domain::rate::{Rate, RateKind};

/// The field of each kind.
pub(crate) const PLAIN: [(RateKind, &str); 4] = [
    (RateKind::RequestsPerMinute, "rpm_limit"),
    (RateKind::TokensPerMinute, "tpm_limit"),
    (RateKind::TokensPerDay, "tpd_limit"),
    (RateKind::Parallel, "max_parallel_requests"),
];

/// The field of each kind that single models may have.
pub(crate) const OF_MODELS: [(RateKind, &str); 2] =
    [(RateKind::RequestsPerMinute, "model_rpm_limit"), (RateKind::TokensPerMinute, "model_tpm_limit")];

/// What a body says of an account's rates.
#[derive(Debug, Default)]
pub(crate) struct RateTerms {
    plain: Vec<(RateKind, Option<u64>)>,
    of_models: Vec<(RateKind, &'static str, Vec<(String, u64)>)>,
    /// All of them count and show, and refuse nothing.
    observe: Option<bool>,
}

impl RateTerms {
    /// Takes what concerns rates out of a body, and out of its metadata, where LiteLLM keeps those of models.
    pub(super) fn read(fields: &mut Fields, metadata: &mut Fields) -> Result<Self, ApiError> {
        let mut terms = Self { observe: fields.optional("observe_rates", fields::flag)?, ..Self::default() };
        for (kind, name) in PLAIN {
            let patch: Patch<u64> = fields.patch(name, fields::count)?;
            terms.plain.extend(patch.map(|limit| (kind, limit)));
        }
        for (kind, name) in OF_MODELS {
            let given = super::here_or_in_metadata(fields, metadata, name, of_models)?;
            terms.of_models.extend(given.map(|limits| (kind, name, limits)));
        }
        Ok(terms)
    }

    /// The models that have rates of their own.
    pub(super) fn models(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.of_models
            .iter()
            .flat_map(|(_, name, limits)| limits.iter().map(move |(model, _)| (*name, model.as_str())))
    }

    /// All rates, where any of them changes: what a body leaves out stays.
    pub(super) fn changed(self, present: &[RateSpec]) -> Result<Option<Vec<RateSpec>>, ApiError> {
        if self.plain.is_empty() && self.of_models.is_empty() && self.observe.is_none() {
            return Ok(None);
        }
        let observe = self.observe.unwrap_or_else(|| present.iter().any(|spec| spec.observe));
        let mut rates = present.to_vec();
        for (kind, limit) in self.plain {
            rates.retain(|spec| spec.rate.kind != kind || spec.model.is_some());
            rates.extend(limit.map(|limit| RateSpec { rate: Rate { kind, limit }, model: None, observe }));
        }
        for (kind, _, limits) in self.of_models {
            rates.retain(|spec| spec.rate.kind != kind || spec.model.is_none());
            let spec = |(model, limit)| RateSpec { rate: Rate { kind, limit }, model: Some(model), observe };
            rates.extend(limits.into_iter().map(spec));
        }
        for spec in &mut rates {
            spec.observe = observe;
        }
        if self.observe == Some(true) && rates.is_empty() {
            return Err(ApiError::field("observe_rates", "needs a rate, such as rpm_limit"));
        }
        Ok(Some(rates))
    }
}

fn of_models(name: &str, raw: &RawValue) -> Result<Vec<(String, u64)>, ApiError> {
    let members = fields::members_at_most(OF_MODELS_MAX, "models", name, raw)?;
    let limit = |(model, raw): (String, Box<RawValue>)| {
        let wrong =
            |_| ApiError::field(name, format!("has for {model:?} no whole number, or a negative one"));
        fields::count(name, &raw).map_err(wrong).map(|limit| (model.clone(), limit))
    };
    members.into_iter().map(limit).collect()
}
