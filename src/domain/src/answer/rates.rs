//! How rates stand, in the headers in which each API tells it.
//!
//! Clients pace themselves by them. What the provider says under the same names is about the account that everybody here
//! shares, so where there is a limit of our own, ours takes its place.

use crate::account::AccountKind;
use crate::api::Shape;
use crate::rate::{RateKind, RateNow};
use crate::time::Timestamp;

/// What a header is about; open requests have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topic {
    Requests,
    Tokens,
}

/// The names under which one topic is told.
struct Names {
    limit: &'static str,
    remaining: &'static str,
    reset: &'static str,
}

/// Headers that tell how the rates stand. Of tokens by the minute and by the day, those that run out first are told.
pub fn rate_headers(rates: &[RateNow], shape: Shape, now: Timestamp) -> Vec<(&'static str, String)> {
    [Topic::Requests, Topic::Tokens]
        .into_iter()
        .filter_map(|topic| Some((topic, tightest(rates, topic)?)))
        .flat_map(|(topic, rate)| headers(topic, rate, shape, now))
        .collect()
}

fn topic(kind: RateKind) -> Option<Topic> {
    match kind {
        RateKind::RequestsPerMinute => Some(Topic::Requests),
        RateKind::TokensPerMinute | RateKind::TokensPerDay => Some(Topic::Tokens),
        RateKind::Parallel => None,
    }
}

fn tightest(rates: &[RateNow], about: Topic) -> Option<&RateNow> {
    rates.iter().filter(|now| topic(now.rate.kind) == Some(about)).min_by_key(|now| now.remaining)
}

fn headers(topic: Topic, now: &RateNow, shape: Shape, at: Timestamp) -> Vec<(&'static str, String)> {
    let (limit, remaining) = (now.rate.limit.to_string(), now.remaining.to_string());
    let names = names(topic, shape);
    let mut headers = vec![(names.limit, limit.clone()), (names.remaining, remaining.clone())];
    headers.extend(reset(now.resets_at, shape, at).map(|reset| (names.reset, reset)));
    if now.account.kind == AccountKind::Key {
        let (of_key_limit, of_key_remaining) = names_of_key(topic);
        headers.extend([(of_key_limit, limit), (of_key_remaining, remaining)]);
    }
    headers
}

/// Anthropic: "Rate limits", response headers. OpenAI: "Rate limits", rate limits in headers.
const fn names(topic: Topic, shape: Shape) -> Names {
    match (shape, topic) {
        (Shape::Anthropic, Topic::Requests) => Names {
            limit: "anthropic-ratelimit-requests-limit",
            remaining: "anthropic-ratelimit-requests-remaining",
            reset: "anthropic-ratelimit-requests-reset",
        },
        (Shape::Anthropic, Topic::Tokens) => Names {
            limit: "anthropic-ratelimit-tokens-limit",
            remaining: "anthropic-ratelimit-tokens-remaining",
            reset: "anthropic-ratelimit-tokens-reset",
        },
        (Shape::OpenAi, Topic::Requests) => Names {
            limit: "x-ratelimit-limit-requests",
            remaining: "x-ratelimit-remaining-requests",
            reset: "x-ratelimit-reset-requests",
        },
        (Shape::OpenAi, Topic::Tokens) => Names {
            limit: "x-ratelimit-limit-tokens",
            remaining: "x-ratelimit-remaining-tokens",
            reset: "x-ratelimit-reset-tokens",
        },
    }
}

/// LiteLLM's, for the limits of a key: the limit, and what remains of it.
const fn names_of_key(topic: Topic) -> (&'static str, &'static str) {
    match topic {
        Topic::Requests => ("x-ratelimit-api_key-limit-requests", "x-ratelimit-api_key-remaining-requests"),
        Topic::Tokens => ("x-ratelimit-api_key-limit-tokens", "x-ratelimit-api_key-remaining-tokens"),
    }
}

fn reset(resets_at: Timestamp, shape: Shape, now: Timestamp) -> Option<String> {
    match shape {
        // In whole seconds, and not before it is true.
        Shape::Anthropic => resets_at.max(now).plus_ms(999).to_rfc3339(),
        Shape::OpenAi => Some(duration(u64::try_from(resets_at.since_ms(now)).unwrap_or(0))),
    }
}

/// As OpenAI writes durations: `20ms`, `1.5s`, `6m0s`, `1h0m0s`.
fn duration(duration_ms: u64) -> String {
    let (seconds, ms) = (duration_ms / 1_000, duration_ms % 1_000);
    let (minutes, hours) = (seconds / 60 % 60, seconds / 3_600);
    let fraction = if ms == 0 { String::new() } else { format!(".{ms:03}").trim_end_matches('0').to_owned() };
    let last = format!("{}{fraction}s", seconds % 60);
    match (hours, minutes, seconds) {
        (0, 0, 0) if ms > 0 => format!("{ms}ms"),
        (0, 0, _) => last,
        (0, ..) => format!("{minutes}m{last}"),
        _ => format!("{hours}h{minutes}m{last}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::AccountLabel;
    use crate::rate::Rate;

    /// 2026-12-01T00:00:00Z.
    const NOW: Timestamp = Timestamp::new(1_796_083_200_000);

    fn rate(kind: RateKind, account: AccountKind, limit: u64, remaining: u64, resets_in_ms: i64) -> RateNow {
        RateNow {
            account: AccountLabel { kind: account, alias: "a".into() },
            rate: Rate { kind, limit },
            remaining,
            resets_at: NOW.plus_ms(resets_in_ms),
        }
    }

    fn told(rates: &[RateNow], shape: Shape) -> Vec<String> {
        let headers = rate_headers(rates, shape, NOW).into_iter();
        headers.map(|(name, value)| format!("{name}: {value}")).collect()
    }

    #[test]
    fn rates_are_told_in_the_style_of_the_api() {
        let rates = [
            rate(RateKind::RequestsPerMinute, AccountKind::Team, 60, 59, 1_000),
            rate(RateKind::TokensPerMinute, AccountKind::Organization, 9_000, 7, 360_001),
            rate(RateKind::Parallel, AccountKind::Key, 4, 3, 0),
        ];
        let expected = [
            "anthropic-ratelimit-requests-limit: 60",
            "anthropic-ratelimit-requests-remaining: 59",
            "anthropic-ratelimit-requests-reset: 2026-12-01T00:00:01Z",
            "anthropic-ratelimit-tokens-limit: 9000",
            "anthropic-ratelimit-tokens-remaining: 7",
            "anthropic-ratelimit-tokens-reset: 2026-12-01T00:06:01Z",
        ];
        assert_eq!(told(&rates, Shape::Anthropic), expected);
        let expected = [
            "x-ratelimit-limit-requests: 60",
            "x-ratelimit-remaining-requests: 59",
            "x-ratelimit-reset-requests: 1s",
            "x-ratelimit-limit-tokens: 9000",
            "x-ratelimit-remaining-tokens: 7",
            "x-ratelimit-reset-tokens: 6m0.001s",
        ];
        assert_eq!(told(&rates, Shape::OpenAi), expected);
    }

    #[test]
    fn a_keys_own_limits_are_told_in_the_style_of_litellm_too() {
        for shape in [Shape::Anthropic, Shape::OpenAi] {
            let rates = [
                rate(RateKind::RequestsPerMinute, AccountKind::Key, 60, 59, 0),
                rate(RateKind::TokensPerDay, AccountKind::Key, 9_000, 7, 0),
            ];
            let told = told(&rates, shape);
            for expected in [
                "x-ratelimit-api_key-limit-requests: 60",
                "x-ratelimit-api_key-remaining-requests: 59",
                "x-ratelimit-api_key-limit-tokens: 9000",
                "x-ratelimit-api_key-remaining-tokens: 7",
            ] {
                assert!(told.iter().any(|header| header == expected), "{expected} in {told:?}");
            }
        }
    }

    #[test]
    fn what_has_no_limit_has_no_header() {
        assert!(told(&[], Shape::OpenAi).is_empty());
        assert!(told(&[rate(RateKind::Parallel, AccountKind::Key, 4, 3, 0)], Shape::Anthropic).is_empty());
    }

    #[test]
    fn the_tokens_that_run_out_first_are_told() {
        let by_day = |remaining| rate(RateKind::TokensPerDay, AccountKind::Team, 1_000_000, remaining, 0);
        let by_minute = rate(RateKind::TokensPerMinute, AccountKind::Team, 1_000, 500, 0);
        for (remaining, expected) in [(499, "499"), (500, "500"), (501, "500")] {
            let told = told(&[by_minute.clone(), by_day(remaining)], Shape::OpenAi);
            assert_eq!(told.get(1), Some(&format!("x-ratelimit-remaining-tokens: {expected}")));
        }
        let told = told(&[by_minute, by_day(500)], Shape::OpenAi);
        assert_eq!(
            told.first().map(String::as_str),
            Some("x-ratelimit-limit-tokens: 1000"),
            "of equals, the minute"
        );
    }

    #[test]
    fn a_reset_that_is_past_is_now() {
        let past = [rate(RateKind::RequestsPerMinute, AccountKind::Team, 60, 60, -5_000)];
        assert_eq!(
            told(&past, Shape::OpenAi).last().map(String::as_str),
            Some("x-ratelimit-reset-requests: 0s")
        );
        let expected = "anthropic-ratelimit-requests-reset: 2026-12-01T00:00:00Z";
        assert_eq!(told(&past, Shape::Anthropic).last().map(String::as_str), Some(expected));
        let never = [RateNow { resets_at: Timestamp::new(i64::MAX), ..past[0].clone() }];
        assert_eq!(told(&never, Shape::Anthropic).len(), 2, "beyond all calendars");
    }

    #[test]
    fn durations_are_written_as_openai_writes_them() {
        let table = [
            (0, "0s"),
            (20, "20ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (1_500, "1.5s"),
            (8_640, "8.64s"),
            (60_000, "1m0s"),
            (360_000, "6m0s"),
            (3_599_999, "59m59.999s"),
            (3_600_000, "1h0m0s"),
            (86_400_000, "24h0m0s"),
        ];
        for (ms, expected) in table {
            assert_eq!(duration(ms), expected);
        }
    }
}
