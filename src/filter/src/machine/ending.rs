//! How an exchange ended, and what is reported of it: given back, charged exactly, or charged by an estimate.

use tollgate_domain::bounds::Bounds;
use tollgate_domain::estimate::{self, Observed};
use tollgate_domain::hold::{End, Event, Settlement};
use tollgate_domain::meter::Reading;
use tollgate_domain::price::Modifiers;

/// Where the status that the client saw came from, as Envoy tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The provider answered.
    Provider,
    /// Envoy answered, and the provider never got the request.
    NeverSent,
    /// Envoy answered, or nobody did: the provider may have had the request.
    Broken,
    /// The client went away.
    ClientLeft,
}

impl Source {
    /// From Envoy's `response.code_details`.
    pub fn from_details(details: &str) -> Self {
        const NEVER_SENT: [&str; 8] = [
            "no_healthy_upstream",
            "cluster_not_found",
            "route_not_found",
            "direct_response",
            "maintenance_mode",
            "upstream_reset_before_response_started{connection_failure",
            "upstream_reset_before_response_started{remote_connection_failure",
            "upstream_reset_before_response_started{overflow",
        ];
        // What a codec says is about the client's side: a cancelled stream, or bytes that are no HTTP.
        const CLIENT_LEFT: [&str; 4] = ["downstream", "http1.", "http2.", "http3."];
        let begins_with_one_of = |known: &[&str]| known.iter().any(|known| details.starts_with(known));
        if details.starts_with("via_upstream") {
            Self::Provider
        } else if begins_with_one_of(&CLIENT_LEFT) {
            Self::ClientLeft
        } else if begins_with_one_of(&NEVER_SENT) {
            Self::NeverSent
        } else {
            Self::Broken
        }
    }
}

/// Everything that is known of a forwarded request at its end.
#[derive(Debug)]
pub struct Forwarded<'a> {
    /// What the meter read; nothing where no answer came.
    pub reading: &'a Reading,
    /// The status, if an answer began.
    pub status: Option<u16>,
    /// The answer came to its last byte.
    pub complete: bool,
    /// Where it came from, or why it did not.
    pub source: Source,
    /// What the request may use at most.
    pub bounds: &'a Bounds,
    /// What its input is, as an estimate.
    pub input_estimate: u64,
    /// Milliseconds from forwarding to the first visible output, or to now where none came.
    pub unseen_ms: u64,
    /// Milliseconds from forwarding to now.
    pub duration_ms: u64,
    /// Milliseconds from forwarding to the answer's first byte.
    pub first_byte_ms: u64,
    /// Whether the answer could be read at all.
    pub readable: bool,
}

/// The report of a forwarded request's end.
pub fn event(forwarded: &Forwarded<'_>) -> Event {
    let status = forwarded.status.unwrap_or(0);
    match judge(forwarded) {
        Judgement::Unbilled => Event::Void { status },
        Judgement::Exact => Event::Settle(settlement(forwarded, End::Complete, Charge::Named)),
        Judgement::Estimate(end) => Event::Settle(settlement(forwarded, end, Charge::Estimated)),
        Judgement::Hold(end) => Event::Settle(settlement(forwarded, end, Charge::Hold)),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    Unbilled,
    Exact,
    Estimate(End),
    Hold(End),
}

/// One row a case; the first that applies.
fn judge(forwarded: &Forwarded<'_>) -> Judgement {
    let reading = forwarded.reading;
    let success = forwarded.status.is_some_and(|status| (200..300).contains(&status));
    match (forwarded.status, forwarded.source) {
        (_, Source::NeverSent) => Judgement::Unbilled,
        (None, Source::ClientLeft) => Judgement::Estimate(End::ClientLeft),
        (None, _) => Judgement::Estimate(End::UpstreamCut),
        _ if reading.is_final() => Judgement::Exact,
        (Some(_), Source::Broken) if !success => Judgement::Estimate(End::UpstreamCut),
        _ if !success && reading.usage.is_none() => Judgement::Unbilled,
        _ if reading.error => Judgement::Estimate(End::ErrorInAnswer),
        _ if !forwarded.complete && forwarded.source == Source::Broken => {
            Judgement::Estimate(End::UpstreamCut)
        }
        _ if !forwarded.complete => Judgement::Estimate(End::ClientLeft),
        _ if !forwarded.readable || reading.usage.is_none() => Judgement::Hold(End::NoUsage),
        _ => Judgement::Estimate(End::NotTerminal),
    }
}

enum Charge {
    Named,
    Estimated,
    Hold,
}

fn settlement(forwarded: &Forwarded<'_>, end: End, charge: Charge) -> Settlement {
    let reading = forwarded.reading;
    let estimate = || {
        estimate::usage(Observed {
            reading,
            bounds: forwarded.bounds,
            input_estimate: forwarded.input_estimate,
            unseen_ms: forwarded.unseen_ms,
        })
    };
    Settlement {
        usage: match charge {
            Charge::Named => reading.usage,
            Charge::Estimated => Some(estimate()),
            Charge::Hold => None,
        },
        estimated: !matches!(charge, Charge::Named),
        end,
        model: printable(reading.model.as_ref()),
        modifiers: Modifiers {
            service_tier: printable(reading.modifiers.service_tier.as_ref()),
            speed: printable(reading.modifiers.speed.as_ref()),
            inference_geo: printable(reading.modifiers.inference_geo.as_ref()),
        },
        extra: reading.extra.iter().map(|(model, usage)| (named(model), *usage)).collect(),
        status: forwarded.status.unwrap_or(0),
        duration_ms: forwarded.duration_ms,
        first_byte_ms: forwarded.first_byte_ms,
    }
}

/// A name that cannot be printed names nothing: the ledger would take no report with it, and charge the whole hold.
fn printable(name: Option<&String>) -> Option<String> {
    name.filter(|name| !name.is_empty() && !name.contains(char::is_control)).cloned()
}

/// Tokens of a model that cannot be named are billed all the same, as those of one without a price.
fn named(model: &String) -> String {
    printable(Some(model)).unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_domain::usage::Usage;

    const BOUNDS: Bounds = Bounds {
        input: 0,
        input_per_call: 0,
        cache_write_5m: 0,
        cache_write_1h: 0,
        output: 0,
        web_searches: 0,
    };

    fn forwarded(reading: &Reading) -> Forwarded<'_> {
        Forwarded {
            reading,
            status: Some(200),
            complete: true,
            source: Source::Provider,
            bounds: &BOUNDS,
            input_estimate: 0,
            unseen_ms: 0,
            duration_ms: 0,
            first_byte_ms: 0,
            readable: true,
        }
    }

    #[test]
    fn names_that_cannot_be_printed_are_left_out_of_a_report() {
        let usage = Some(Usage { input: 5, ..Usage::default() });
        let broken = || Some("a\u{1b}[0m".to_owned());
        let modifiers =
            Modifiers { service_tier: broken(), speed: Some("fast".into()), inference_geo: broken() };
        let extra = vec![(broken().unwrap(), Usage::default()), ("other".to_owned(), Usage::default())];
        let reading = Reading { usage, model: broken(), modifiers, extra, ..Reading::default() };
        let Event::Settle(settled) = event(&forwarded(&reading)) else { panic!() };
        assert_eq!((settled.usage.is_some(), settled.model), (true, None));
        assert_eq!(settled.modifiers, Modifiers { speed: Some("fast".into()), ..Modifiers::default() });
        let models: Vec<&str> = settled.extra.iter().map(|(model, _)| model.as_str()).collect();
        assert_eq!(models, ["unknown", "other"]);
    }

    #[test]
    fn envoy_tells_where_a_status_came_from() {
        let table = [
            ("via_upstream", Source::Provider),
            (
                "upstream_reset_before_response_started{connection_failure|delayed_connect_error:_111}",
                Source::NeverSent,
            ),
            (
                "upstream_reset_before_response_started{remote_connection_failure|TLS_error}",
                Source::NeverSent,
            ),
            ("no_healthy_upstream", Source::NeverSent),
            ("direct_response", Source::NeverSent),
            ("upstream_reset_before_response_started{connection_termination}", Source::Broken),
            ("upstream_reset_after_response_started{remote_reset}", Source::Broken),
            ("response_timeout", Source::Broken),
            ("stream_idle_timeout", Source::Broken),
            ("downstream_remote_disconnect", Source::ClientLeft),
            ("downstream_local_disconnect(wasm_vm_failure)", Source::ClientLeft),
            ("http2.remote_reset", Source::ClientLeft),
            ("http1.codec_error", Source::ClientLeft),
            ("", Source::Broken),
        ];
        for (details, expected) in table {
            assert_eq!(Source::from_details(details), expected, "{details}");
        }
    }

    #[test]
    fn every_end_has_one_judgement() {
        use Judgement::*;
        let usage = Some(Usage { input: 5, output: 7, ..Usage::default() });
        let nothing = Reading::default();
        let last = Reading { usage, output_known: true, terminal: true, ..Reading::default() };
        let open = Reading { usage, output_bytes: 30, ..Reading::default() };
        let failed = Reading { error: true, ..open.clone() };
        let told_then_failed = Reading { error: true, ..last.clone() };
        let (provider, broken, left) = (Source::Provider, Source::Broken, Source::ClientLeft);
        // reading, status, complete, source
        let table = [
            ("final", &last, Some(200), true, provider, Exact),
            ("final, then the client left", &last, Some(200), false, left, Exact),
            ("final usage with an error", &told_then_failed, Some(200), true, provider, Exact),
            ("final usage under an error status", &last, Some(500), true, provider, Exact),
            ("never sent", &nothing, Some(503), true, Source::NeverSent, Unbilled),
            ("never sent, no status", &nothing, None, false, Source::NeverSent, Unbilled),
            ("provider's error", &nothing, Some(529), true, provider, Unbilled),
            ("provider's error, client left", &nothing, Some(429), false, left, Unbilled),
            ("reset before headers", &nothing, Some(503), true, broken, Estimate(End::UpstreamCut)),
            ("nothing at all", &nothing, None, false, broken, Estimate(End::UpstreamCut)),
            ("client left before headers", &nothing, None, false, left, Estimate(End::ClientLeft)),
            ("client left", &open, Some(200), false, left, Estimate(End::ClientLeft)),
            ("stream cut", &open, Some(200), false, broken, Estimate(End::UpstreamCut)),
            ("error event", &failed, Some(200), true, provider, Estimate(End::ErrorInAnswer)),
            ("no usage", &nothing, Some(200), true, provider, Hold(End::NoUsage)),
            ("not terminal", &open, Some(200), true, provider, Estimate(End::NotTerminal)),
        ];
        for (case, reading, status, complete, source, expected) in table {
            let forwarded = Forwarded { status, complete, source, ..forwarded(reading) };
            assert_eq!(judge(&forwarded), expected, "{case}");
        }
    }
}
