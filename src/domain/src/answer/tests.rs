use super::*;
use crate::account::AccountKind;
use crate::catalogue::{Mode, Provider};
use crate::money::Nanodollars;
use crate::policy::Amounts;
use crate::time::Timestamp;

/// 2026-12-01T00:00:00Z.
const DECEMBER: Timestamp = Timestamp::new(1_796_083_200_000);

const ANTHROPIC: Reader = Reader { shape: Shape::Anthropic, codex: false };
const OPENAI: Reader = Reader { shape: Shape::OpenAi, codex: false };
const CODEX: Reader = Reader { shape: Shape::OpenAi, codex: true };

fn budget(alias: &str) -> Budget {
    let amounts = Amounts {
        limit: Nanodollars::new(100_000_000_000),
        posted: Nanodollars::new(99_123_456_789),
        pending: Nanodollars::new(500_000_000),
        requested: Nanodollars::new(1_234_000_000),
    };
    let account = AccountLabel { kind: AccountKind::Team, alias: alias.to_owned() };
    Budget { account: Some(account), amounts: Some(amounts), resets_at: Some(DECEMBER) }
}

fn names(names: &[&str]) -> Vec<ModelName> {
    names.iter().map(|name| ModelName::new(*name)).collect()
}

/// Each denial, with its row of the error contract: status, Anthropic's type, OpenAI's type and code.
fn contract() -> Vec<(Denial, u16, &'static str, &'static str, Option<&'static str>)> {
    use Denial::*;
    const INVALID: &str = "invalid_request_error";
    const KEY: (&str, &str, Option<&str>) = ("authentication_error", INVALID, Some("invalid_api_key"));
    const MODEL: (&str, &str, Option<&str>) =
        ("permission_error", "permission_error", Some("model_not_allowed"));
    const BUDGET: (&str, &str, Option<&str>) =
        ("billing_error", "insufficient_quota", Some("budget_exceeded"));
    const AWAY: (&str, &str, Option<&str>) = ("api_error", "server_error", Some("service_unavailable"));
    const BAD: (&str, &str, Option<&str>) = (INVALID, INVALID, None);
    let not_metered = FeatureNotMetered("tool code_execution_20250825".into());
    let rows = vec![
        (UnknownOperation, 404, ("not_found_error", INVALID, None)),
        (NotMetered("files"), 404, ("not_found_error", INVALID, None)),
        (WebSocket, 426, (INVALID, INVALID, Some("upgrade_refused"))),
        (ContentEncoding, 415, BAD),
        (MediaType, 415, BAD),
        (Tag { tag: "a b".into() }, 400, BAD),
        (Tag { tag: "ticket 500".into() }, 400, BAD),
        (Tag { tag: String::new() }, 400, BAD),
        (TooManyTags, 400, BAD),
        (TagMissing(None), 400, BAD),
        (TagMissing(Some("project".parse().unwrap())), 400, BAD),
        (Malformed(Fault::Syntax(12_345)), 400, BAD),
        (Malformed(Fault::Utf8(12_345)), 400, BAD),
        (Malformed(Fault::Depth), 400, BAD),
        (Malformed(Fault::Truncated), 400, BAD),
        (Malformed(Fault::Duplicate("model")), 400, BAD),
        (Field { name: "max_tokens", why: "must be a whole number" }, 400, BAD),
        (BodyTooLarge, 413, ("request_too_large", INVALID, Some("request_too_large"))),
        (KeyMissing, 401, KEY),
        (KeyConflict, 401, KEY),
        (KeyInQuery, 401, KEY),
        (SubscriptionLogin, 401, KEY),
        (KeyUnknown, 401, KEY),
        (KeyBlocked, 401, KEY),
        (KeyExpired, 401, KEY),
        (not_metered, 403, ("permission_error", "permission_error", Some("feature_not_metered"))),
        (ModelUnknown { model: "gpt-9".into(), allowed: names(&["gpt-4.1"]) }, 403, MODEL),
        (ModelUnpriced { model: "gpt-4".into() }, 403, MODEL),
        (ModelMisfit { model: "gpt-4.1".into() }, 403, MODEL),
        (ProviderMissing { provider: Provider::Gemini }, 403, MODEL),
        (ModelNotAllowed { model: "gpt-4.1".into(), allowed: names(&["gpt-4.1-mini", "o3"]) }, 403, MODEL),
        (
            RateLimited { account: None, retry_after_ms: Some(7_000) },
            429,
            ("rate_limit_error", "rate_limit_exceeded", Some("rate_limit_exceeded")),
        ),
        (
            RateLimited { account: budget("squad-500").account, retry_after_ms: None },
            429,
            ("rate_limit_error", "rate_limit_exceeded", Some("rate_limit_exceeded")),
        ),
        (BudgetSpent(budget("engineering")), 402, BUDGET),
        (BudgetTooSmall(budget("engineering")), 402, BUDGET),
        (BudgetSpent(budget("squad-500")), 402, BUDGET),
        (BudgetSpent(Budget::default()), 402, BUDGET),
        (LedgerAway, 503, AWAY),
        (Overloaded, 503, AWAY),
        (ProviderCredential, 503, AWAY),
    ];
    rows.into_iter().map(|(denial, status, (a, o, code))| (denial, status, a, o, code)).collect()
}

fn body(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str())
}

#[test]
fn each_denial_has_its_row_in_both_shapes() {
    for (refusal, status, anthropic_type, openai_type, code) in contract() {
        let anthropic = denial(&refusal, ANTHROPIC);
        let message = body(&anthropic)["error"]["message"].clone();
        let expected = json!({"type": "error", "error": {"type": anthropic_type, "message": message}});
        assert_eq!((anthropic.status, body(&anthropic)), (status, expected), "{refusal:?}");
        let openai = denial(&refusal, OPENAI);
        let error = json!({"message": message, "type": openai_type, "param": null, "code": code});
        assert_eq!((openai.status, body(&openai)), (status, json!({ "error": error })), "{refusal:?}");
        assert!(message.as_str().is_some_and(|message| !message.is_empty() && !message.ends_with(' ')));
        assert_eq!(anthropic.headers, openai.headers);
        assert_eq!(header(&openai, "x-tollgate-denial"), Some(refusal.name()));
    }
}

#[test]
fn clients_are_told_not_to_retry_except_for_rates() {
    for (refusal, ..) in contract() {
        for reader in [ANTHROPIC, OPENAI, CODEX] {
            let answer = denial(&refusal, reader);
            let is_rate = matches!(refusal, Denial::RateLimited { .. });
            let no_retry = (!is_rate).then_some("false");
            assert_eq!(header(&answer, "x-should-retry"), no_retry, "{refusal:?}");
            assert_eq!(header(&answer, "retry-after").is_some(), is_rate, "{refusal:?}");
        }
    }
    let table = [
        (None, "1"),
        (Some(0), "1"),
        (Some(1), "1"),
        (Some(1_000), "1"),
        (Some(1_001), "2"),
        (Some(59_000), "59"),
        (Some(59_001), "60"),
        (Some(60_001), "60"),
        (Some(u64::MAX), "60"),
    ];
    for (retry_after_ms, expected) in table {
        let answer = denial(&Denial::RateLimited { account: None, retry_after_ms }, OPENAI);
        assert_eq!(header(&answer, "retry-after"), Some(expected), "{retry_after_ms:?}");
    }
}

#[test]
fn a_rate_says_whose_it_is() {
    let of = |account| denial(&Denial::RateLimited { account, retry_after_ms: Some(1_500) }, ANTHROPIC);
    let answer = of(budget("engineering").account);
    let expected = "Too many requests or tokens for team \"engineering\"; slow down.";
    assert_eq!(body(&answer)["error"]["message"], expected);
    let expected =
        [("x-tollgate-denial", "rate_limited"), ("retry-after", "2"), ("x-tollgate-account", "team")];
    let got: Vec<(&str, &str)> = answer.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(got, expected);
    assert_eq!(body(&of(None))["error"]["message"], "Too many requests or tokens for your key; slow down.");
}

/// Clients look for status codes anywhere in a body.
#[test]
fn no_body_has_a_run_of_digits_of_ours() {
    let tools = ["tool code_execution_20250825", "tool a500b", "tool 123", "123_456", "tool x_404_y 500"];
    let features = tools.map(|name| Denial::FeatureNotMetered(name.to_owned()));
    // What cannot be shown is escaped, and escapes are digits.
    let tags = ["a\u{200b}", "a\u{1}"].map(|tag| Denial::Tag { tag: tag.to_owned() });
    let accounts = ["a\u{1}b", "a\u{200b}"].map(|alias| Denial::BudgetSpent(budget(alias)));
    let unseen = tags.into_iter().chain(accounts).chain([Denial::FeatureNotMetered("tool \u{1}".into())]);
    let refusals = contract().into_iter().map(|(refusal, ..)| refusal).chain(features).chain(unseen);
    for refusal in refusals {
        for reader in [ANTHROPIC, OPENAI] {
            let text = String::from_utf8(denial(&refusal, reader).body).unwrap();
            assert!(!has_digit_run(&text), "{text}");
        }
        let mut codex = body(&denial(&refusal, CODEX));
        codex["error"]["resets_at"] = Value::Null;
        assert!(!has_digit_run(&codex.to_string()), "{codex}");
    }
    let feature = denial(&Denial::FeatureNotMetered("tool code_execution_20250825".into()), OPENAI);
    let expected = "tool code_execution is not metered here, so refused.";
    assert_eq!(body(&feature)["error"]["message"], expected);
}

#[test]
fn names_of_models_are_told_as_they_are() {
    let allowed = names(&["claude-sonnet-4-20250514"]);
    let refusal = Denial::ModelNotAllowed { model: "gpt-4-0613\n\"}".into(), allowed };
    let expected =
        "Model \"gpt-4-0613\\n\\\"}\" is not allowed for this key. Allowed: claude-sonnet-4-20250514.";
    assert_eq!(body(&denial(&refusal, ANTHROPIC))["error"]["message"], expected);
    let none = Denial::ModelUnknown { model: "m".into(), allowed: Vec::new() };
    let expected = "Model \"m\" has no price here, so refused. No model is allowed.";
    assert_eq!(body(&denial(&none, OPENAI))["error"]["message"], expected);
    let long: Vec<String> = (10..30).map(|index| format!("m-{index}")).collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    let many = Denial::ModelNotAllowed { model: "x".repeat(500), allowed: names(&long) };
    let message = body(&denial(&many, OPENAI))["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.ends_with("m-21 and more, see the list of models.") && message.len() < 400, "{message}");
}

#[test]
fn a_spent_budget_says_which_of_two_it_is_and_when_it_resets() {
    let message = |refusal| body(&denial(&refusal, OPENAI))["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!(
        message(Denial::BudgetSpent(budget("engineering"))),
        "The budget of team \"engineering\" is spent. It resets on 1 December."
    );
    assert_eq!(
        message(Denial::BudgetTooSmall(budget("squad-500"))),
        "This request may cost more than what is left in the budget of your team. Lower max_tokens, or wait for \
         parallel requests to finish. It resets on 1 December."
    );
    let forever = Budget { resets_at: None, ..budget("") };
    let expected = "The budget of your team is spent. It does not reset by itself.";
    assert_eq!(message(Denial::BudgetSpent(forever)), expected);
    let expected = "The budget of your key is spent. It does not reset by itself.";
    assert_eq!(message(Denial::BudgetSpent(Budget::default())), expected);
}

#[test]
fn amounts_stand_in_headers() {
    let answer = denial(&Denial::BudgetTooSmall(budget("engineering")), ANTHROPIC);
    let expected = [
        ("x-tollgate-denial", "budget_too_small"),
        ("x-should-retry", "false"),
        ("x-tollgate-account", "team"),
        ("x-tollgate-limit", "100"),
        ("x-tollgate-posted", "99.123456789"),
        ("x-tollgate-pending", "0.5"),
        ("x-tollgate-requested", "1.234"),
        ("x-tollgate-reset", "2026-12-01T00:00:00Z"),
    ];
    let got: Vec<(&str, &str)> = answer.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(got, expected);
    let asked_nothing = Amounts { requested: Nanodollars::ZERO, ..budget("").amounts.unwrap() };
    let spent = Budget { amounts: Some(asked_nothing), ..budget("") };
    assert_eq!(header(&denial(&Denial::BudgetSpent(spent), OPENAI), "x-tollgate-requested"), None);
}

#[test]
fn codex_reads_its_own_usage_limit() {
    for refusal in [Denial::BudgetSpent(budget("engineering")), Denial::BudgetTooSmall(budget("engineering"))]
    {
        let answer = denial(&refusal, CODEX);
        let message = body(&denial(&refusal, OPENAI))["error"]["message"].clone();
        let error = json!({"type": "usage_limit_reached", "message": message, "resets_at": 1_796_083_200});
        assert_eq!((answer.status, body(&answer)), (429, json!({ "error": error })));
        assert_eq!(header(&answer, "x-codex-promo-message"), message.as_str());
        assert_eq!(header(&answer, "x-should-retry"), Some("false"));
    }
    let forever = denial(&Denial::BudgetSpent(Budget { resets_at: None, ..budget("a") }), CODEX);
    assert_eq!(body(&forever)["error"]["resets_at"], Value::Null);
    for (refusal, status, ..) in contract() {
        if budget_of(&refusal).is_none() {
            assert_eq!(denial(&refusal, CODEX), denial(&refusal, OPENAI), "{refusal:?}");
            assert_eq!(denial(&refusal, CODEX).status, status);
        }
    }
}

fn budget_of(denial: &Denial) -> Option<&Budget> {
    super::budget(denial)
}

/// An account is called what an admin called it: it must not end a header and begin another.
#[test]
fn headers_hold_visible_text_only() {
    let refusal = Denial::BudgetSpent(budget("a\r\nset-cookie: x=1\u{7f} Ä"));
    let answer = denial(&refusal, CODEX);
    for (name, value) in &answer.headers {
        assert!(value.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{name}: {value:?}");
    }
    let promo = header(&answer, "x-codex-promo-message").unwrap();
    assert!(promo.starts_with("The budget of team \"a  set-cookie: x=1"), "{promo}");
}

fn catalogue_model(name: &str, provider: Provider) -> Model {
    Model {
        name: ModelName::new(name),
        provider,
        mode: Mode::Chat,
        aliases: Vec::new(),
        context_window: 1,
        max_output: 1,
        retired: None,
    }
}

#[test]
fn lists_of_models_have_the_shape_that_asks() {
    let list = [catalogue_model("a", Provider::Anthropic), catalogue_model("b", Provider::OpenAi)];
    let openai = body(&models(list.iter(), Shape::OpenAi));
    assert_eq!(openai["object"], "list");
    assert_eq!(openai["data"][1], json!({"id": "b", "object": "model", "created": 0, "owned_by": "openai"}));
    let anthropic = body(&models(list.iter(), Shape::Anthropic));
    assert_eq!(
        (&anthropic["first_id"], &anthropic["last_id"], &anthropic["has_more"]),
        (&json!("a"), &json!("b"), &json!(false))
    );
    assert_eq!((&anthropic["data"][0]["type"], &anthropic["data"][0]["id"]), (&json!("model"), &json!("a")));
    let empty = body(&models([].iter(), Shape::Anthropic));
    assert_eq!((&empty["data"], &empty["first_id"]), (&json!([]), &Value::Null));
    assert_eq!(body(&model(&list[0], Shape::OpenAi))["owned_by"], "anthropic");
    assert_eq!(body(&model(&list[0], Shape::Anthropic))["display_name"], "a");
}

#[test]
fn runs_of_three_digits_are_found() {
    for (text, expected) in
        [("", false), ("12", false), ("12-34", false), ("x123", true), ("1 2 3", false), ("0000", true)]
    {
        assert_eq!(has_digit_run(text), expected, "{text}");
    }
}

#[test]
fn the_allowed_models_that_are_named_first_are_those_like_the_one_that_was_asked_for() {
    let names: Vec<String> =
        (0..20).map(|n| format!("claude-{n}")).chain(["gpt-x".into(), "gpt-5".into()]).collect();
    let allowed = names.iter().map(ModelName::new).collect();
    let answer = denial(&Denial::ModelUnknown { model: "gpt-5.1".into(), allowed }, OPENAI);
    let message = body(&answer)["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("Allowed: gpt-5, gpt-x, claude-0, "), "{message}");
    assert!(message.contains("and more"), "{message}");
}
