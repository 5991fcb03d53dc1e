//! What is decided about a request before it may cost anything, and every name that a refusal has.
//!
//! A request is refused by the first of these that applies:
//! 1. its head: operation, WebSocket, media type, tags in headers ([`crate::request::head::classify`]);
//! 2. its credential: missing, two of them, a subscription login ([`crate::request::head::credential`]);
//! 3. its key: unknown, blocked, expired, nothing left on an account ([`gate`]);
//! 4. its body: too large, malformed, a field of a wrong type, a feature that is not metered ([`crate::request::body`]);
//! 5. its model: unknown, not allowed, of another API, without an upstream ([`admit`]);
//! 6. its extras and its tags: forbidden, missing ([`admit`]);
//! 7. the ledger's word on the hold: the same checks on its own rows, then rates, then money ([`refused_hold`]).

use crate::account::AccountLabel;
use crate::api::Api;
use crate::bounds::{self, Bounds};
use crate::catalogue::{Catalogue, Mode, Model, Provider};
use crate::extra::Extra;
use crate::hold::{DenialReason, HoldDenied};
use crate::ids::{ModelName, Tag};
use crate::json::Fault;
use crate::policy::{Amounts, Exhausted, Policy};
use crate::price::Modifiers;
use crate::request::body::Body;
use crate::request::head::{Client, add_tag};
use crate::time::Timestamp;

/// Why a request is refused. What the client reads of it is in [`crate::answer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// No operation that Tollgate knows.
    UnknownOperation,
    /// An operation of the provider that cannot be metered.
    NotMetered(&'static str),
    /// A WebSocket upgrade; clients then use HTTP.
    WebSocket,
    /// A compressed body.
    ContentEncoding,
    /// Not JSON in UTF-8.
    MediaType,
    /// A text that is no tag.
    Tag {
        /// The text, shortened.
        tag: String,
    },
    /// More tags than [`Tag::COUNT_MAX`].
    TooManyTags,
    /// No credential.
    KeyMissing,
    /// Two different credentials.
    KeyConflict,
    /// A credential in the query.
    KeyInQuery,
    /// The OAuth token of a Claude subscription.
    SubscriptionLogin,
    /// A credential that nobody knows, well formed or not.
    KeyUnknown,
    /// The key or an account above it is blocked.
    KeyBlocked,
    /// The key has expired.
    KeyExpired,
    /// A body beyond the limit.
    BodyTooLarge,
    /// A body that is not JSON.
    Malformed(Fault),
    /// A field that is not what it should be.
    Field {
        /// Which.
        name: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A feature that costs what no usage tells.
    FeatureNotMetered(String),
    /// A model without a price.
    ModelUnknown {
        /// As the client named it.
        model: String,
        /// What the key may use.
        allowed: Vec<ModelName>,
    },
    /// A model that has a price, but not for everything that the request asks for.
    ModelUnpriced {
        /// As the client named it.
        model: String,
    },
    /// A model that this API does not serve.
    ModelMisfit {
        /// As the client named it.
        model: String,
    },
    /// A model of a provider that this installation does not reach.
    ProviderMissing {
        /// Whose.
        provider: Provider,
    },
    /// A model that a level's list does not allow.
    ModelNotAllowed {
        /// As the client named it.
        model: String,
        /// What the key may use.
        allowed: Vec<ModelName>,
    },
    /// An extra that a policy forbids; `None`: only the ledger knows which.
    ExtraForbidden(Option<Extra>),
    /// A required tag is missing; `None`: only the ledger knows which.
    TagMissing(Option<Tag>),
    /// A rate is exceeded.
    RateLimited {
        /// Whose.
        account: Option<AccountLabel>,
        /// Milliseconds to wait; `None`: the ledger did not say.
        retry_after_ms: Option<u64>,
    },
    /// Nothing is left.
    BudgetSpent(Budget),
    /// Less is left than the request may cost.
    BudgetTooSmall(Budget),
    /// The ledger does not answer, or not in a way that can be understood.
    LedgerAway,
    /// No room for another request: its report could not be kept, or its body not buffered.
    Overloaded,
    /// The provider refuses our credential.
    ProviderCredential,
}

/// The limit that refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Whose.
    pub account: Option<AccountLabel>,
    /// How it stands.
    pub amounts: Option<Amounts>,
    /// When its window ends; `None`: never by itself.
    pub resets_at: Option<Timestamp>,
}

impl Denial {
    /// The name in logs, metrics and the header `x-tollgate-denial`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::UnknownOperation => "unknown_operation",
            Self::NotMetered(_) => "operation_not_metered",
            Self::WebSocket => "websocket",
            Self::ContentEncoding => "content_encoding",
            Self::MediaType => "media_type",
            Self::Tag { .. } => "tag",
            Self::TooManyTags => "too_many_tags",
            Self::KeyMissing => "key_missing",
            Self::KeyConflict => "key_conflict",
            Self::KeyInQuery => "key_in_query",
            Self::SubscriptionLogin => "subscription_login",
            Self::KeyUnknown => "key_unknown",
            Self::KeyBlocked => "key_blocked",
            Self::KeyExpired => "key_expired",
            Self::BodyTooLarge => "body_too_large",
            Self::Malformed(_) => "malformed",
            Self::Field { .. } => "field",
            Self::FeatureNotMetered(_) => "feature_not_metered",
            Self::ModelUnknown { .. } => "model_unknown",
            Self::ModelUnpriced { .. } => "model_unpriced",
            Self::ModelMisfit { .. } => "model_misfit",
            Self::ProviderMissing { .. } => "provider_missing",
            Self::ModelNotAllowed { .. } => "model_not_allowed",
            Self::ExtraForbidden(_) => "extra_forbidden",
            Self::TagMissing(_) => "tag_missing",
            Self::RateLimited { .. } => "rate_limited",
            Self::BudgetSpent(_) => "budget_spent",
            Self::BudgetTooSmall(_) => "budget_too_small",
            Self::LedgerAway => "ledger_away",
            Self::Overloaded => "overloaded",
            Self::ProviderCredential => "provider_credential",
        }
    }
}

/// Judges the key by its policy.
///
/// # Errors
/// [`Denial::KeyBlocked`], [`Denial::KeyExpired`], [`Denial::BudgetSpent`], in this order.
pub fn gate(policy: &Policy, exhausted: Option<&Exhausted>, now: Timestamp) -> Result<(), Denial> {
    if policy.blocked.is_some() {
        return Err(Denial::KeyBlocked);
    }
    if policy.expired(now) {
        return Err(Denial::KeyExpired);
    }
    match exhausted.filter(|exhausted| !exhausted.over(now)) {
        Some(exhausted) => Err(Denial::BudgetSpent(Budget {
            account: Some(exhausted.account.clone()),
            amounts: Some(exhausted.amounts),
            resets_at: exhausted.resets_at,
        })),
        None => Ok(()),
    }
}

/// What an admitted request goes on as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The model, as the provider names it.
    pub model: Model,
    /// Models that the provider may answer with instead.
    pub fallback_models: Vec<ModelName>,
    /// The most that it can use.
    pub bounds: Bounds,
    /// What its input is, as an estimate.
    pub input_estimate: u64,
    /// Tags of the key, the headers and the body.
    pub tags: Vec<Tag>,
}

/// Judges what the body asks for.
///
/// # Errors
/// A [`Denial`] about the model, its extras or tags.
pub fn admit(
    policy: &Policy,
    catalogue: &Catalogue,
    upstreams: &[Provider],
    api: Api,
    client: &Client,
    body: &Body,
) -> Result<Admission, Denial> {
    let judge = |name: &str| judge_model(policy, catalogue, upstreams, api, name);
    let model = judge(&body.model)?;
    let bounds_of = |model: &Model| match client.context_window {
        Some(wider) if wider > model.context_window => {
            bounds::of(api, body, &Model { context_window: wider, ..model.clone() })
        }
        _ => bounds::of(api, body, model),
    };
    let mut bounds = bounds_of(model);
    let mut fallback_models = Vec::new();
    for name in &body.fallback_models {
        let fallback = judge(name)?;
        bounds = bounds.max(bounds_of(fallback));
        fallback_models.push(fallback.name.clone());
    }
    if let Some(name) = unprintable(&body.modifiers) {
        return Err(Denial::Field { name, why: "holds a control character" });
    }
    if let Some(extra) = policy.forbidden_extra(&body.modifiers, &bounds) {
        return Err(Denial::ExtraForbidden(Some(extra)));
    }
    let mut tags = policy.tags.clone();
    for tag in client.tags.iter().chain(&body.tags) {
        add_tag(&mut tags, tag.as_str())?;
    }
    if let Some(missing) = policy.missing_tag(&tags) {
        return Err(Denial::TagMissing(Some(missing.clone())));
    }
    let input_estimate = bounds::input_estimate(api, body, model, &bounds);
    Ok(Admission { model: model.clone(), fallback_models, bounds, input_estimate, tags })
}

/// A modifier that no provider can mean: the ledger takes no such text, and an answer of ours is clearer than its error.
fn unprintable(modifiers: &Modifiers) -> Option<&'static str> {
    let named = [
        ("service_tier", &modifiers.service_tier),
        ("speed", &modifiers.speed),
        ("inference_geo", &modifiers.inference_geo),
    ];
    let holds_one = |text: &Option<String>| text.as_ref().is_some_and(|text| text.contains(char::is_control));
    named.into_iter().find(|(_, text)| holds_one(text)).map(|(name, _)| name)
}

/// Judges a model that a request names.
///
/// # Errors
/// A [`Denial`] about the model.
pub fn judge_model<'a>(
    policy: &Policy,
    catalogue: &'a Catalogue,
    upstreams: &[Provider],
    api: Api,
    name: &str,
) -> Result<&'a Model, Denial> {
    let allowed = || policy.models(catalogue).map(|model| model.name.clone()).collect();
    let model = catalogue
        .resolve(name)
        .ok_or_else(|| Denial::ModelUnknown { model: name.to_owned(), allowed: allowed() })?;
    if !policy.allows(model, catalogue) {
        return Err(Denial::ModelNotAllowed { model: name.to_owned(), allowed: allowed() });
    }
    if !serves(api, model) {
        return Err(Denial::ModelMisfit { model: name.to_owned() });
    }
    if !upstreams.contains(&model.provider) {
        return Err(Denial::ProviderMissing { provider: model.provider });
    }
    Ok(model)
}

/// Whether the model's provider serves it in this API.
fn serves(api: Api, model: &Model) -> bool {
    use Provider::{Anthropic, Gemini, OpenAi};
    matches!(
        (api, model.provider, model.mode),
        (Api::Messages, Anthropic, Mode::Chat)
            | (Api::ChatCompletions, Anthropic | OpenAi | Gemini, Mode::Chat)
            | (Api::Responses, OpenAi, Mode::Chat | Mode::Responses)
            | (Api::Embeddings, OpenAi | Gemini, Mode::Embedding)
            | (Api::Completions, OpenAi, Mode::Completion)
    )
}

/// What the ledger's refusal of a hold means for the client.
pub fn refused_hold(denied: HoldDenied, model: &str, policy: &Policy, catalogue: &Catalogue) -> Denial {
    let allowed = || policy.models(catalogue).map(|model| model.name.clone()).collect();
    let retry_after_ms = denied.retry_after_ms;
    let budget = Budget { account: denied.account, amounts: denied.amounts, resets_at: denied.resets_at };
    match denied.reason {
        DenialReason::KeyUnknown => Denial::KeyUnknown,
        DenialReason::KeyBlocked => Denial::KeyBlocked,
        DenialReason::KeyExpired => Denial::KeyExpired,
        DenialReason::ModelUnpriced => Denial::ModelUnpriced { model: model.to_owned() },
        DenialReason::ModelUnknown => Denial::ModelUnknown { model: model.to_owned(), allowed: allowed() },
        DenialReason::ModelNotAllowed => {
            Denial::ModelNotAllowed { model: model.to_owned(), allowed: allowed() }
        }
        DenialReason::BudgetSpent => Denial::BudgetSpent(budget),
        DenialReason::BudgetTooSmall => Denial::BudgetTooSmall(budget),
        DenialReason::RateLimited => Denial::RateLimited { account: budget.account, retry_after_ms },
        DenialReason::TagMissing => Denial::TagMissing(None),
        DenialReason::ExtraForbidden => Denial::ExtraForbidden(None),
        // Our own message overtook itself; nothing that the client could mend.
        DenialReason::HoldEnded => Denial::LedgerAway,
    }
}

#[cfg(test)]
mod tests;
