//! Limits on rates.

use kube::{KubeSchema, core::Rule};
use serde::{Deserialize, Serialize};

/// How much passes in a span of time. What is left out is not limited; zero allows nothing.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rates {
    /// Requests in a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = at_least_zero("requestsPerMinute"))]
    pub requests_per_minute: Option<i64>,
    /// Tokens in a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = at_least_zero("tokensPerMinute"))]
    pub tokens_per_minute: Option<i64>,
    /// Tokens in a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = at_least_zero("tokensPerDay"))]
    pub tokens_per_day: Option<i64>,
    /// Requests that run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = at_least_zero("parallelRequests"))]
    pub parallel_requests: Option<i64>,
}

/// A million millions: more than any provider serves.
fn at_least_zero(field: &str) -> Rule {
    let message = format!(
        "{field} is a whole number from 0 (nothing passes) to 1000000000000; leave it out for no limit"
    );
    Rule::new("self >= 0 && self <= 1000000000000").message(message.as_str())
}
