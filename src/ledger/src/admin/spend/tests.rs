use super::*;
use serde_json::{Value, json};
use tollgate_domain::catalogue::Provider;
use tollgate_domain::ids::KeyDigest;
use tollgate_domain::money::Nanodollars;

fn record() -> SpendRecord {
    SpendRecord {
        request: HoldId::new([0xA5; 16]),
        state: HoldState::Settled,
        cost: Nanodollars::new(1_000_000_001),
        overrun: Nanodollars::new(7),
        usage: Some(Usage {
            input: 1,
            cache_read: 2,
            cache_write_5m: 3,
            cache_write_1h: 4,
            output: 5,
            web_searches: 6,
        }),
        estimated: false,
        end: Some(End::Complete),
        api: Api::Messages,
        model: "claude-sonnet-4-20250514".into(),
        provider: Provider::Anthropic,
        key: KeyDigest::new([0x0B; 32]),
        owners: Owners { organization: None, team: Some("t".into()), user: None },
        tags: vec!["project:payments-refactor".parse().unwrap()],
        session: Some("s".into()),
        end_user: None,
        client: Some("claude-cli".into()),
        started_at: Timestamp::new(1_796_083_200_001),
        ended_at: Some(Timestamp::new(1_796_083_201_500)),
        first_byte_at: None,
        status: Some(200),
        would_deny: None,
    }
}

#[test]
fn a_request_is_a_row_of_litellms() {
    let text = serde_json::to_string(&SpendRow::from(record())).unwrap();
    assert!(text.contains(r#""spend":1.000000001,"#), "{text}");
    assert!(text.contains(r#""overrun":0.000000007,"#), "{text}");
    let row: Value = serde_json::from_str(&text).unwrap();
    let expected = json!({
        "request_id": "a5".repeat(16), "call_type": "anthropic_messages", "api_key": "0b".repeat(32),
        "spend": row["spend"], "total_tokens": 15, "prompt_tokens": 10, "completion_tokens": 5,
        "startTime": "2026-12-01T00:00:00.001Z", "endTime": "2026-12-01T00:00:01.500Z", "completionStartTime": null,
        "model": "claude-sonnet-4-20250514", "model_group": "claude-sonnet-4-20250514",
        "custom_llm_provider": "anthropic", "user": null, "team_id": "t", "organization_id": null, "end_user": null,
        "request_tags": ["project:payments-refactor"], "session_id": "s", "status": "success", "cache_hit": "False",
        "state": "settled",
        "metadata": {
            "usage": {
                "input": 1, "cache_read": 2, "cache_write_5m": 3, "cache_write_1h": 4, "output": 5, "web_searches": 6,
            },
            "estimated": false, "end": "complete", "client": "claude-cli", "provider_status": 200, "overrun": 7e-9,
            "would_deny": null,
        },
    });
    assert_eq!(row, expected);
}

#[test]
fn what_is_not_known_is_not_zero() {
    let open = SpendRecord { state: HoldState::Pending, usage: None, end: None, ..record() };
    let row = SpendRow::from(open);
    assert_eq!((row.prompt_tokens, row.completion_tokens, row.total_tokens), (None, None, None));
    assert_eq!((row.status, row.state), (None, "pending"));
    let table =
        [(HoldState::Settled, Some(End::ClientLeft)), (HoldState::Expired, None), (HoldState::Voided, None)];
    for (state, end) in table {
        assert_eq!(
            SpendRow::from(SpendRecord { state, end, ..record() }).status,
            Some("failure"),
            "{state:?}"
        );
    }
}

#[test]
fn days_are_written_in_full() {
    assert!(date("2026-11-24").is_ok());
    assert!(date("2024-02-29").is_ok());
    for wrong in ["2026-1-5", "2026-02-29", "24-11-2026", "2026-11-24T00:00:00Z", "today", "2026-13-01"] {
        assert_eq!(date(wrong), Err("must be a day as YYYY-MM-DD"), "{wrong}");
    }
}
