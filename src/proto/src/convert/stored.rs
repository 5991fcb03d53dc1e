//! Messages of the release before rates, as it encoded them: a filter of one release and a ledger of the next understand each
//! other, in both directions.
//!
//! `stored/*.binpb` are never made anew. A release that changes the wire adds its own beside them.

use super::tests::{amounts, ask, label, policy, settlement};
use super::*;
use prost::Message;

/// Decodes a stored message.
fn stored<M: Message + Default>(bytes: &[u8]) -> M {
    M::decode(bytes).unwrap()
}

fn catalogue() -> Catalogue {
    let model = Model {
        name: ModelName::new("claude-x"),
        provider: Provider::Anthropic,
        mode: Mode::Chat,
        aliases: vec!["x".into()],
        context_window: 200_000,
        max_output: 64_000,
        retired: None,
    };
    Catalogue::new(7, vec![model]).unwrap()
}

fn reports() -> Vec<Report> {
    let usage = Usage { input: 1, ..Usage::default() };
    let events = [
        Event::Adjust { usage: Some(usage), output_seen: 3 },
        Event::Settle(settlement()),
        Event::Void { status: 529 },
    ];
    let report =
        |event| Report { hold: HoldId::new([1; 16]), key: KeyDigest::new([2; 32]), sequence: 3, event };
    events.map(report).to_vec()
}

fn exhausted() -> Exhausted {
    Exhausted { account: label(), amounts: amounts(), resets_at: Some(Timestamp::new(6)) }
}

fn read(events: Vec<v1::ReportEvent>) -> Vec<Report> {
    events.into_iter().map(|event| Report::try_from(event).unwrap()).collect()
}

#[test]
fn what_an_older_filter_says_means_the_same() {
    let mut message: v1::HoldRequest = stored(include_bytes!("stored/hold_request.binpb"));
    assert_eq!(read(std::mem::take(&mut message.reports)), reports());
    assert_eq!(HoldAsk::try_from(message), Ok(ask()));
    let message: v1::ReportRequest = stored(include_bytes!("stored/report_request.binpb"));
    assert_eq!(read(message.events), reports());
}

#[test]
fn what_an_older_ledger_says_means_the_same() {
    let held =
        Verdict::Held { amount: Nanodollars::new(7), expires_at: Timestamp::new(8), rates: Vec::new() };
    let denied = Verdict::Denied(HoldDenied {
        reason: DenialReason::BudgetSpent,
        account: Some(label()),
        resets_at: Some(Timestamp::new(6)),
        amounts: Some(amounts()),
        retry_after_ms: None,
    });
    let stale = Verdict::Stale(Box::new(policy()), Some(Box::new(catalogue())));
    let table: [(&[u8], Verdict); 3] = [
        (include_bytes!("stored/held.binpb"), held),
        (include_bytes!("stored/denied.binpb"), denied),
        (include_bytes!("stored/stale.binpb"), stale),
    ];
    for (bytes, expected) in table {
        let message: v1::HoldResponse = stored(bytes);
        assert_eq!(message.verdict.map(Verdict::try_from), Some(Ok(expected)));
        let outcomes: Vec<_> =
            message.outcomes.iter().map(|outcome| (outcome.sequence, outcome.result())).collect();
        assert_eq!(outcomes, [(3, v1::ReportResult::Applied)]);
    }
    let message: v1::LookupResponse = stored(include_bytes!("stored/lookup_response.binpb"));
    let Some(v1::lookup_response::Verdict::Known(known)) = message.verdict else { panic!() };
    assert_eq!(known.policy.map(Policy::try_from), Some(Ok(policy())));
    assert_eq!(known.exhausted.map(Exhausted::try_from), Some(Ok(exhausted())));
    assert_eq!(message.catalogue.map(Catalogue::try_from), Some(Ok(catalogue())));
}

/// What has no new field is written as before, byte for byte.
#[test]
fn what_is_said_to_an_older_one_is_what_it_would_have_said() {
    let events: Vec<v1::ReportEvent> = reports().into_iter().map(Into::into).collect();
    let ask = v1::HoldRequest { reports: events.clone(), ..ask().into() };
    assert_eq!(ask.encode_to_vec(), include_bytes!("stored/hold_request.binpb"));
    let report = v1::ReportRequest { events };
    assert_eq!(report.encode_to_vec(), include_bytes!("stored/report_request.binpb"));
    let known = v1::Known { policy: Some(policy().into()), exhausted: Some(exhausted().into()) };
    let lookup = v1::LookupResponse {
        verdict: Some(v1::lookup_response::Verdict::Known(known)),
        catalogue: Some((&catalogue()).into()),
    };
    assert_eq!(lookup.encode_to_vec(), include_bytes!("stored/lookup_response.binpb"));
}

/// The messages that have new fields, as the older release knew them.
mod before_rates {
    use crate::v1;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct HoldResponse {
        #[prost(message, optional, tag = "1")]
        pub(super) held: Option<Held>,
        #[prost(message, optional, tag = "2")]
        pub(super) denied: Option<Denied>,
        #[prost(message, repeated, tag = "4")]
        pub(super) outcomes: Vec<v1::ReportOutcome>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Held {
        #[prost(int64, tag = "1")]
        pub(super) amount_nanodollars: i64,
        #[prost(int64, tag = "2")]
        pub(super) expires_at_ms: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Denied {
        #[prost(enumeration = "v1::DenialReason", tag = "1")]
        pub(super) reason: i32,
        #[prost(message, optional, tag = "2")]
        pub(super) account: Option<v1::AccountLabel>,
        #[prost(int64, optional, tag = "3")]
        pub(super) resets_at_ms: Option<i64>,
        #[prost(message, optional, tag = "4")]
        pub(super) amounts: Option<v1::Amounts>,
    }
}

#[test]
fn an_older_filter_reads_today_s_verdicts() {
    let rate = RateNow {
        account: label(),
        rate: Rate { kind: RateKind::TokensPerDay, limit: 9 },
        remaining: 8,
        resets_at: Timestamp::new(10),
    };
    let held =
        Verdict::Held { amount: Nanodollars::new(7), expires_at: Timestamp::new(8), rates: vec![rate] };
    let denied = Verdict::Denied(HoldDenied {
        reason: DenialReason::RateLimited,
        account: Some(label()),
        resets_at: Some(Timestamp::new(6)),
        amounts: Some(amounts()),
        retry_after_ms: Some(1_500),
    });
    let outcome = v1::ReportOutcome { sequence: 3, ..v1::ReportOutcome::default() };
    let sent = |verdict: Verdict| {
        let message = v1::HoldResponse { verdict: Some(verdict.into()), outcomes: vec![outcome.clone()] };
        stored::<before_rates::HoldResponse>(&message.encode_to_vec())
    };
    let read = sent(held);
    assert_eq!(read.held, Some(before_rates::Held { amount_nanodollars: 7, expires_at_ms: 8 }));
    assert_eq!(read.outcomes, std::slice::from_ref(&outcome));
    let read = sent(denied).denied.unwrap();
    assert_eq!((read.reason(), read.resets_at_ms), (v1::DenialReason::RateLimited, Some(6)));
    assert_eq!((read.account, read.amounts), (Some(label().into()), Some(amounts().into())));
}
