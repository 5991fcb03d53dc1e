use super::*;

fn ask() -> HoldAsk {
    HoldAsk {
        id: HoldId::new([1; 16]),
        key: KeyDigest::new([2; 32]),
        policy_version: vec![3, 4],
        model: ModelName::new("claude-x"),
        provider: Provider::Anthropic,
        api: Api::Messages,
        bounds: Bounds {
            input: 5,
            input_per_call: 4,
            cache_write_5m: 3,
            cache_write_1h: 2,
            output: 1,
            web_searches: 9,
        },
        modifiers: Modifiers {
            service_tier: Some("batch".into()),
            speed: Some("fast".into()),
            inference_geo: Some("us".into()),
        },
        fallback_models: vec![ModelName::new("claude-y")],
        tags: vec!["project:x".parse().unwrap()],
        session: Some("s".into()),
        end_user: Some("u".into()),
        client: Some("claude-cli".into()),
        catalogue_revision: 7,
    }
}

fn settlement() -> Settlement {
    let usage =
        Usage { input: 1, cache_read: 2, cache_write_5m: 3, cache_write_1h: 4, output: 5, web_searches: 6 };
    Settlement {
        usage: Some(usage),
        estimated: true,
        end: End::ClientLeft,
        model: Some("m".into()),
        modifiers: Modifiers { service_tier: Some("priority".into()), ..Modifiers::default() },
        extra: vec![("other".into(), usage)],
        status: 200,
        duration_ms: 7,
        first_byte_ms: 8,
    }
}

#[test]
fn an_ask_survives_the_wire() {
    assert_eq!(HoldAsk::try_from(v1::HoldRequest::from(ask())), Ok(ask()));
}

#[test]
fn reports_survive_the_wire() {
    let usage = Usage { input: 1, ..Usage::default() };
    let events = [
        Event::Adjust { usage: None, output_seen: 0 },
        Event::Adjust { usage: Some(usage), output_seen: 3 },
        Event::Settle(settlement()),
        Event::Settle(Settlement { usage: None, model: None, extra: vec![], ..settlement() }),
        Event::Void { status: 529 },
    ];
    for event in events {
        let report = Report { hold: HoldId::new([1; 16]), key: KeyDigest::new([2; 32]), sequence: 3, event };
        assert_eq!(Report::try_from(v1::ReportEvent::from(report.clone())), Ok(report));
    }
}

#[test]
fn verdicts_survive_the_wire() {
    let label = AccountLabel { kind: AccountKind::Team, alias: "engineering".into() };
    let amounts = Amounts {
        limit: Nanodollars::new(1),
        posted: Nanodollars::new(2),
        pending: Nanodollars::new(3),
        requested: Nanodollars::new(4),
    };
    let policy = Policy {
        version: vec![1],
        accounts: vec![label.clone()],
        blocked: Some(label.clone()),
        expires_at: Some(Timestamp::new(5)),
        allow_lists: vec![LevelList {
            level: AccountKind::Key,
            list: AllowList::new(["claude-*"]),
            patterns: vec!["claude-*".into()],
        }],
        tags: vec!["a".parse().unwrap()],
        forbidden: vec![tollgate_domain::extra::Extra::FastMode],
        required_tags: vec!["project".parse().unwrap()],
    };
    let denied = HoldDenied {
        reason: DenialReason::BudgetSpent,
        account: Some(label),
        resets_at: Some(Timestamp::new(6)),
        amounts: Some(amounts),
    };
    let held = Verdict::Held { amount: Nanodollars::new(7), expires_at: Timestamp::new(8) };
    for verdict in [held, Verdict::Denied(denied), Verdict::Stale(Box::new(policy), None)] {
        let message = v1::hold_response::Verdict::from(verdict.clone());
        assert_eq!(Verdict::try_from(message), Ok(verdict));
    }
}

#[test]
fn the_catalogue_survives_the_wire() {
    let book = tollgate_domain::price::PriceBook::parse(tollgate_domain::price::BUILT_IN).unwrap();
    assert_eq!(Catalogue::try_from(v1::Catalogue::from(book.catalogue())).as_ref(), Ok(book.catalogue()));
}

#[test]
fn a_field_that_means_nothing_is_named() {
    let table: [(fn(&mut v1::HoldRequest), &str); 13] = [
        (|m| m.hold_id.clear(), "hold_id must have 16 bytes"),
        (|m| m.hold_id = vec![0; 16], "hold_id is all zeros"),
        (|m| m.key_digest = vec![1; 31], "key_digest must have 32 bytes"),
        (|m| m.model.clear(), "model is empty"),
        (|m| m.model = "m".repeat(257), "model is longer than 256 bytes"),
        (|m| m.provider = 0, "provider is unset or unknown"),
        (|m| m.provider = 99, "provider is unset or unknown"),
        (|m| m.api = -1, "api is unset or unknown"),
        (|m| m.bounds = None, "bounds are missing"),
        (|m| m.bounds.as_mut().unwrap().output = u64::MAX, "bounds.output is absurdly large"),
        (|m| m.tags = vec!["two words".into()], "tags hold a text that is no tag"),
        (|m| m.tags = vec!["t".into(); 17], "tags are more than 16"),
        (|m| m.fallback_models = vec!["m".into(); 17], "fallback_models are more than 16"),
    ];
    for (spoil, expected) in table {
        let mut message = v1::HoldRequest::from(ask());
        spoil(&mut message);
        assert_eq!(HoldAsk::try_from(message).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_report_that_means_nothing_is_named() {
    let table: [(fn(&mut v1::ReportEvent), &str); 5] = [
        (|m| m.sequence = 0, "sequence must begin at 1"),
        (|m| m.event = None, "event is missing"),
        (|m| m.hold_id = vec![1; 17], "hold_id must have 16 bytes"),
        (
            |m| m.event = Some(v1::report_event::Event::Void(v1::Void { status: 1000 })),
            "void.status is no HTTP status",
        ),
        (
            |m| m.event = Some(v1::report_event::Event::Settle(v1::Settle::default())),
            "settle.end is unset or unknown",
        ),
    ];
    for (spoil, expected) in table {
        let event = Event::Void { status: 0 };
        let report = Report { hold: HoldId::new([1; 16]), key: KeyDigest::new([2; 32]), sequence: 1, event };
        let mut message = v1::ReportEvent::from(report);
        spoil(&mut message);
        assert_eq!(Report::try_from(message).unwrap_err().to_string(), expected);
    }
}
