//! What of a request costs more than its model alone, and can be forbidden like a model.

use crate::bounds::Bounds;
use crate::price::{CHEAPER_TIERS, Modifiers, STANDARD};
use std::fmt;
use std::str::FromStr;

/// Something that makes a request dearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Extra {
    /// `speed: fast`, and whatever else is not the standard speed.
    FastMode,
    /// A service tier that costs more than the standard one: `priority` and others that nobody knows to be cheaper.
    PriorityTier,
    /// Inference bound to a region.
    InferenceGeo,
    /// A request that may have more than [`LONG_CONTEXT_TOKENS`] tokens of input.
    LongContext,
}

/// Beyond this many input tokens a request is long: the threshold at which most providers begin to ask more.
pub const LONG_CONTEXT_TOKENS: u64 = 200_000;

impl Extra {
    /// Every extra.
    pub const ALL: [Self; 4] = [Self::FastMode, Self::PriorityTier, Self::InferenceGeo, Self::LongContext];

    /// The word for it, in policies and refusals.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FastMode => "fast_mode",
            Self::PriorityTier => "priority_tier",
            Self::InferenceGeo => "inference_geo",
            Self::LongContext => "long_context",
        }
    }

    /// Whether a request asks for it, or may need it.
    pub fn is_asked_for(self, modifiers: &Modifiers, bounds: &Bounds) -> bool {
        let other = |value: &Option<String>, usual: &[&str]| {
            value.as_deref().is_some_and(|value| !usual.contains(&value))
        };
        match self {
            Self::FastMode => other(&modifiers.speed, &["standard"]),
            Self::PriorityTier => {
                let tier = modifiers.tier();
                tier != STANDARD && !CHEAPER_TIERS.contains(&tier)
            }
            Self::InferenceGeo => other(&modifiers.inference_geo, &["global"]),
            Self::LongContext => bounds.input_per_call > LONG_CONTEXT_TOKENS,
        }
    }
}

impl fmt::Display for Extra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not the word for an extra.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not one of fast_mode, priority_tier, inference_geo, long_context")]
pub struct NotAnExtra;

impl FromStr for Extra {
    type Err = NotAnExtra;

    fn from_str(text: &str) -> Result<Self, NotAnExtra> {
        Self::ALL.into_iter().find(|extra| extra.as_str() == text).ok_or(NotAnExtra)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extra_is_asked_for_by_what_is_not_usual() {
        let named = |service_tier: Option<&str>, speed: Option<&str>, geo: Option<&str>| Modifiers {
            service_tier: service_tier.map(str::to_owned),
            speed: speed.map(str::to_owned),
            inference_geo: geo.map(str::to_owned),
        };
        let table = [
            (named(None, None, None), 200_000, vec![]),
            (named(Some("auto"), Some("standard"), Some("global")), 0, vec![]),
            (named(Some("flex"), None, None), 0, vec![]),
            (named(Some("priority"), None, None), 0, vec![Extra::PriorityTier]),
            (named(Some("unheard_of"), None, None), 0, vec![Extra::PriorityTier]),
            (named(None, Some("fast"), Some("us")), 0, vec![Extra::FastMode, Extra::InferenceGeo]),
            (named(None, None, None), 200_001, vec![Extra::LongContext]),
        ];
        for (modifiers, input_per_call, expected) in table {
            let bounds = Bounds { input_per_call, ..Bounds::default() };
            let asked: Vec<Extra> =
                Extra::ALL.into_iter().filter(|extra| extra.is_asked_for(&modifiers, &bounds)).collect();
            assert_eq!(asked, expected, "{modifiers:?} {input_per_call}");
        }
    }

    #[test]
    fn extras_survive_their_words() {
        for extra in Extra::ALL {
            assert_eq!(extra.as_str().parse(), Ok(extra));
        }
        assert_eq!("fast".parse::<Extra>(), Err(NotAnExtra));
    }
}
