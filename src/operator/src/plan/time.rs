//! Kubernetes' instants and ours. Those of Kubernetes are whole seconds.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff;
use tollgate_domain::time::Timestamp;

pub(super) const SECOND_MS: i64 = 1_000;

/// The second that an instant is in: what comes back when it has been written.
pub(super) fn floor(at: Timestamp) -> Timestamp {
    Timestamp::new(at.unix_ms().div_euclid(SECOND_MS).saturating_mul(SECOND_MS))
}

pub(super) fn to_time(at: Timestamp) -> Time {
    Time(jiff::Timestamp::from_second(at.unix_ms().div_euclid(SECOND_MS)).unwrap_or_default())
}

pub(super) fn from_time(time: &Time) -> Timestamp {
    Timestamp::new(time.0.as_millisecond())
}

pub(super) fn text(at: Timestamp) -> String {
    to_time(at).0.to_string()
}

pub(super) fn parse(text: &str) -> Option<Timestamp> {
    text.parse::<jiff::Timestamp>().ok().map(|at| floor(Timestamp::new(at.as_millisecond())))
}
