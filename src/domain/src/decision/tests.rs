use super::*;
use crate::account::AccountKind;
use crate::allow::{AllowList, LevelList};
use crate::money::Nanodollars;
use crate::request::body::BodyReader;
use crate::request::head::Operation;

const NOW: Timestamp = Timestamp::new(1_000_000);

fn label(kind: AccountKind) -> AccountLabel {
    AccountLabel { kind, alias: "a".to_owned() }
}

fn policy(lists: &[&[&str]]) -> Policy {
    let level = |patterns: &&[&str]| LevelList {
        level: AccountKind::Key,
        list: AllowList::new(*patterns),
        patterns: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
    };
    Policy {
        version: vec![1],
        accounts: vec![label(AccountKind::Key)],
        blocked: None,
        expires_at: None,
        allow_lists: lists.iter().map(level).collect(),
        tags: Vec::new(),
        forbidden: Vec::new(),
        required_tags: Vec::new(),
    }
}

fn catalogue() -> Catalogue {
    let model = |name: &str, provider, mode, alias: &str, context_window| Model {
        name: ModelName::new(name),
        provider,
        mode,
        aliases: vec![alias.to_owned()],
        context_window,
        max_output: context_window / 2,
        retired: None,
    };
    let models = vec![
        model("claude-a", Provider::Anthropic, Mode::Chat, "a", 1_000),
        model("claude-b", Provider::Anthropic, Mode::Chat, "b", 50_000),
        model("gpt", Provider::OpenAi, Mode::Chat, "g", 1_000),
        model("codex", Provider::OpenAi, Mode::Responses, "c", 1_000),
        model("embed", Provider::OpenAi, Mode::Embedding, "e", 1_000),
        model("instruct", Provider::OpenAi, Mode::Completion, "i", 1_000),
        model("gemini", Provider::Gemini, Mode::Chat, "x", 1_000),
        model("gemini-embed", Provider::Gemini, Mode::Embedding, "y", 1_000),
    ];
    Catalogue::new(7, models).unwrap()
}

fn body(api: Api, members: &str) -> Body {
    let mut reader = BodyReader::new(&Operation::Answer(api)).unwrap();
    reader.feed(format!("{{{members}}}").as_bytes());
    reader.finish().unwrap()
}

fn exhausted(resets_at: Option<Timestamp>) -> Exhausted {
    let amounts = Amounts { limit: Nanodollars::new(5), ..Amounts::default() };
    Exhausted { account: label(AccountKind::Team), amounts, resets_at }
}

#[test]
fn a_key_is_judged_in_order() {
    let spent = Denial::BudgetSpent(Budget {
        account: Some(label(AccountKind::Team)),
        amounts: Some(exhausted(None).amounts),
        resets_at: None,
    });
    let later = Some(NOW.plus_ms(1));
    let blocked = Some(label(AccountKind::Team));
    // (blocked, expires, nothing left until) -> denial
    let table = [
        (None, None, None, None),
        (None, later, None, None),
        (None, Some(NOW), None, Some(Denial::KeyExpired)),
        (None, Some(NOW.plus_ms(-1)), None, Some(Denial::KeyExpired)),
        (blocked.clone(), None, None, Some(Denial::KeyBlocked)),
        (blocked.clone(), Some(NOW), Some(exhausted(None)), Some(Denial::KeyBlocked)),
        (None, Some(NOW), Some(exhausted(None)), Some(Denial::KeyExpired)),
        (None, later, Some(exhausted(None)), Some(spent)),
        (None, None, Some(exhausted(Some(NOW))), None),
        (None, None, Some(exhausted(Some(NOW.plus_ms(-1)))), None),
    ];
    for (index, (blocked, expires_at, exhausted, expected)) in table.into_iter().enumerate() {
        let policy = Policy { blocked, expires_at, ..policy(&[]) };
        assert_eq!(gate(&policy, exhausted.as_ref(), NOW).err(), expected, "row {index}");
    }
    let until = gate(&policy(&[]), Some(&exhausted(later)), NOW).unwrap_err();
    assert!(matches!(until, Denial::BudgetSpent(Budget { resets_at, .. }) if resets_at == later));
}

#[test]
fn a_model_is_judged_in_order() {
    use Api::{ChatCompletions, Completions, Embeddings, Messages, Responses};
    let catalogue = catalogue();
    let all = Provider::ALL.as_slice();
    let openai = [Provider::OpenAi].as_slice();
    let unknown = |model: &str| Some(Denial::ModelUnknown { model: model.into(), allowed: Vec::new() });
    let denied = |model: &str| Some(Denial::ModelNotAllowed { model: model.into(), allowed: Vec::new() });
    let misfit = |model: &str| Some(Denial::ModelMisfit { model: model.into() });
    let missing = |provider| Some(Denial::ProviderMissing { provider });
    let any: &[&[&str]] = &[];
    let only_gpt: &[&[&str]] = &[&["gpt"]];
    let disjoint: &[&[&str]] = &[&["gpt"], &[], &["anthropic/*"]];
    // (lists, upstreams, api, model) -> denial
    let table = [
        (any, all, Messages, "claude-a", None),
        (any, all, Messages, "a", None),
        (any, all, Messages, "anthropic/claude-a", None),
        (any, all, Messages, "Claude-a", unknown("Claude-a")),
        (any, all, Messages, "", unknown("")),
        (any, all, Messages, "gpt", misfit("gpt")),
        (any, all, Messages, "gemini", misfit("gemini")),
        (any, all, ChatCompletions, "claude-a", None),
        (any, all, ChatCompletions, "gpt", None),
        (any, all, ChatCompletions, "gemini", None),
        (any, all, ChatCompletions, "codex", misfit("codex")),
        (any, all, ChatCompletions, "embed", misfit("embed")),
        (any, all, Responses, "gpt", None),
        (any, all, Responses, "codex", None),
        (any, all, Responses, "claude-a", misfit("claude-a")),
        (any, all, Embeddings, "embed", None),
        (any, all, Embeddings, "gemini-embed", None),
        (any, all, Embeddings, "gpt", misfit("gpt")),
        (any, all, Completions, "instruct", None),
        (any, all, Completions, "gpt", misfit("gpt")),
        (only_gpt, all, ChatCompletions, "g", None),
        (only_gpt, all, ChatCompletions, "nothing", unknown("nothing")),
        (only_gpt, all, Messages, "b", denied("b")),
        (only_gpt, all, Messages, "gpt", misfit("gpt")),
        (only_gpt, openai, Responses, "claude-a", denied("claude-a")),
        (disjoint, all, ChatCompletions, "gpt", denied("gpt")),
        (disjoint, all, ChatCompletions, "claude-a", denied("claude-a")),
        (any, openai, ChatCompletions, "claude-a", missing(Provider::Anthropic)),
        (any, openai, ChatCompletions, "gemini", missing(Provider::Gemini)),
        (any, openai, Responses, "claude-a", misfit("claude-a")),
        (any, &[], ChatCompletions, "gpt", missing(Provider::OpenAi)),
    ];
    for (lists, upstreams, api, name, expected) in table {
        let got = judge_model(&policy(lists), &catalogue, upstreams, api, name);
        let got = got.map(|model| model.name.clone()).map_err(without_list);
        assert_eq!(got.as_ref().err(), expected.as_ref(), "{lists:?} {api} {name}");
        if let Ok(model) = got {
            assert_eq!(Some(&model), catalogue.resolve(name).map(|model| &model.name));
        }
    }
}

fn without_list(denial: Denial) -> Denial {
    match denial {
        Denial::ModelUnknown { model, .. } => Denial::ModelUnknown { model, allowed: Vec::new() },
        Denial::ModelNotAllowed { model, .. } => Denial::ModelNotAllowed { model, allowed: Vec::new() },
        other => other,
    }
}

#[test]
fn a_denied_model_names_those_that_are_allowed() {
    let policy = policy(&[&["claude-*", "g"], &["claude-b", "gpt", "nothing"]]);
    let denied = judge_model(&policy, &catalogue(), &Provider::ALL, Api::Messages, "a").unwrap_err();
    let allowed = vec![ModelName::new("claude-b"), ModelName::new("gpt")];
    assert_eq!(denied, Denial::ModelNotAllowed { model: "a".into(), allowed });
}

fn admitted(policy: &Policy, tags: &[&str], members: &str) -> Result<Admission, Denial> {
    let mut client = Client::default();
    for tag in tags {
        add_tag(&mut client.tags, tag).unwrap();
    }
    let body = body(Api::Messages, members);
    admit(policy, &catalogue(), &Provider::ALL, Api::Messages, &client, &body)
}

#[test]
fn an_admitted_request_carries_the_priced_name_and_all_tags() {
    let pinned = Policy { tags: vec!["pinned".parse().unwrap()], ..policy(&[]) };
    let admission =
        admitted(&pinned, &["header", "both"], r#""model":"a","tags":["both","body"],"max_tokens":9"#)
            .unwrap();
    assert_eq!(admission.model.name.as_str(), "claude-a");
    assert_eq!(admission.bounds.output, 9);
    let tags: Vec<&str> = admission.tags.iter().map(Tag::as_str).collect();
    assert_eq!(tags, ["pinned", "header", "both", "body"]);
}

#[test]
fn tags_of_all_sources_together_are_bounded() {
    let fifteen: Vec<String> = (0..15).map(|index| format!("t{index}")).collect();
    let fifteen: Vec<&str> = fifteen.iter().map(String::as_str).collect();
    let pinned = Policy { tags: vec!["pinned".parse().unwrap()], ..policy(&[]) };
    assert!(admitted(&pinned, &fifteen, r#""model":"a""#).is_ok());
    assert!(admitted(&pinned, &fifteen, r#""model":"a","tags":["pinned","t3"]"#).is_ok());
    let beyond = admitted(&pinned, &fifteen, r#""model":"a","tags":["one-more"]"#);
    assert_eq!(beyond.unwrap_err(), Denial::TooManyTags);
}

#[test]
fn fallbacks_must_be_allowed_too_and_the_dearest_sizes_the_hold() {
    let alone = admitted(&policy(&[]), &[], r#""model":"a","mcp_servers":[{}]"#).unwrap();
    let both = admitted(&policy(&[]), &[], r#""model":"a","mcp_servers":[{}],"fallbacks":["b"]"#).unwrap();
    assert_eq!((alone.bounds.input_per_call, alone.bounds.output), (1_000, 500));
    assert_eq!((both.bounds.input_per_call, both.bounds.output), (50_000, 25_000));
    assert_eq!(
        (both.model.name.as_str(), both.fallback_models),
        ("claude-a", vec![ModelName::new("claude-b")])
    );
    let table = [
        ("b", Denial::ModelNotAllowed { model: "b".into(), allowed: Vec::new() }),
        ("gpt", Denial::ModelNotAllowed { model: "gpt".into(), allowed: Vec::new() }),
        ("nothing", Denial::ModelUnknown { model: "nothing".into(), allowed: Vec::new() }),
    ];
    for (fallback, expected) in table {
        let members = format!("\"model\":\"a\",\"fallbacks\":[{{\"model\":\"{fallback}\"}}]");
        let got = admitted(&policy(&[&["claude-a"]]), &[], &members).unwrap_err();
        assert_eq!(without_list(got), expected);
    }
}

#[test]
fn the_ledgers_reasons_become_denials() {
    use DenialReason::*;
    let amounts = Some(Amounts { limit: Nanodollars::new(9), ..Amounts::default() });
    let account = Some(label(AccountKind::Organization));
    let budget = Budget { account: account.clone(), amounts, resets_at: Some(NOW) };
    let allowed = vec![ModelName::new("gpt")];
    let unknown = Denial::ModelUnknown { model: "m".into(), allowed: allowed.clone() };
    let table = [
        (KeyUnknown, Denial::KeyUnknown),
        (KeyBlocked, Denial::KeyBlocked),
        (KeyExpired, Denial::KeyExpired),
        (ModelUnknown, unknown),
        (ModelUnpriced, Denial::ModelUnpriced { model: "m".into() }),
        (ModelNotAllowed, Denial::ModelNotAllowed { model: "m".into(), allowed }),
        (BudgetSpent, Denial::BudgetSpent(budget.clone())),
        (BudgetTooSmall, Denial::BudgetTooSmall(budget)),
        (HoldEnded, Denial::LedgerAway),
        (RateLimited, Denial::RateLimited { account: account.clone(), retry_after_ms: Some(1_500) }),
        (TagMissing, Denial::TagMissing(None)),
        (ExtraForbidden, Denial::ExtraForbidden(None)),
    ];
    for (reason, expected) in table {
        let denied = HoldDenied {
            reason,
            account: account.clone(),
            resets_at: Some(NOW),
            amounts,
            retry_after_ms: Some(1_500),
        };
        assert_eq!(refused_hold(denied, "m", &policy(&[&["gpt"]]), &catalogue()), expected, "{reason:?}");
    }
}

#[test]
fn every_denial_has_a_name_of_its_own() {
    let budget = Budget::default;
    let model = || "m".to_owned();
    let all = [
        (Denial::UnknownOperation, "unknown_operation"),
        (Denial::NotMetered("files"), "operation_not_metered"),
        (Denial::WebSocket, "websocket"),
        (Denial::ContentEncoding, "content_encoding"),
        (Denial::MediaType, "media_type"),
        (Denial::Tag { tag: model() }, "tag"),
        (Denial::TooManyTags, "too_many_tags"),
        (Denial::KeyMissing, "key_missing"),
        (Denial::KeyConflict, "key_conflict"),
        (Denial::KeyInQuery, "key_in_query"),
        (Denial::SubscriptionLogin, "subscription_login"),
        (Denial::KeyUnknown, "key_unknown"),
        (Denial::KeyBlocked, "key_blocked"),
        (Denial::KeyExpired, "key_expired"),
        (Denial::BodyTooLarge, "body_too_large"),
        (Denial::Malformed(Fault::Depth), "malformed"),
        (Denial::Field { name: "model", why: "is missing" }, "field"),
        (Denial::FeatureNotMetered(model()), "feature_not_metered"),
        (Denial::ModelUnknown { model: model(), allowed: vec![] }, "model_unknown"),
        (Denial::ModelUnpriced { model: model() }, "model_unpriced"),
        (Denial::ModelMisfit { model: model() }, "model_misfit"),
        (Denial::ProviderMissing { provider: Provider::OpenAi }, "provider_missing"),
        (Denial::ModelNotAllowed { model: model(), allowed: vec![] }, "model_not_allowed"),
        (Denial::TagMissing(None), "tag_missing"),
        (Denial::ExtraForbidden(None), "extra_forbidden"),
        (Denial::RateLimited { account: None, retry_after_ms: None }, "rate_limited"),
        (Denial::BudgetSpent(budget()), "budget_spent"),
        (Denial::BudgetTooSmall(budget()), "budget_too_small"),
        (Denial::LedgerAway, "ledger_away"),
        (Denial::Overloaded, "overloaded"),
        (Denial::ProviderCredential, "provider_credential"),
    ];
    for (denial, name) in &all {
        assert_eq!(denial.name(), *name);
    }
    let mut names: Vec<&str> = all.iter().map(|(_, name)| *name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all.len());
}

#[test]
fn a_forbidden_extra_and_a_missing_tag_are_refused_by_name() {
    let required = |name: &str| Policy { required_tags: vec![name.parse().unwrap()], ..policy(&[]) };
    let table = [
        ("project", vec!["project:a"], true),
        ("project", vec!["project"], true),
        ("project", vec!["projects:a"], false),
        ("project", vec![], false),
    ];
    for (name, tags, expected) in table {
        let admitted = admitted(&required(name), &tags, r#""model":"a""#);
        let missing = Err(Denial::TagMissing(Some(name.parse().unwrap())));
        assert_eq!(admitted.map(|_| ()), if expected { Ok(()) } else { missing }, "{tags:?}");
    }
    let forbids = Policy { forbidden: vec![Extra::PriorityTier], ..policy(&[]) };
    let asks = r#""model":"a","service_tier":"priority""#;
    assert_eq!(admitted(&forbids, &[], asks), Err(Denial::ExtraForbidden(Some(Extra::PriorityTier))));
    assert!(admitted(&forbids, &[], r#""model":"a","service_tier":"flex""#).is_ok());
}

#[test]
fn a_modifier_that_cannot_be_printed_is_refused_by_name() {
    for name in ["service_tier", "speed", "inference_geo"] {
        let asks = |value: &str| admitted(&policy(&[]), &[], &format!(r#""model":"a","{name}":"{value}""#));
        let why = "holds a control character";
        assert_eq!(asks(r"a\u0001"), Err(Denial::Field { name, why }), "{name}");
        assert!(asks("standard").is_ok(), "{name}");
    }
}

#[test]
fn a_wider_window_that_the_client_asks_for_widens_the_hold() {
    let bounds = |context_window| {
        let client = Client { context_window, ..Client::default() };
        let body = body(Api::Messages, r#""model":"a","mcp_servers":[{}]"#);
        admit(&policy(&[]), &catalogue(), &Provider::ALL, Api::Messages, &client, &body).unwrap().bounds
    };
    assert_eq!(bounds(None).input_per_call, 1_000);
    assert_eq!(bounds(Some(1_000_000)).input_per_call, 1_000_000);
    assert_eq!(bounds(Some(500)).input_per_call, 1_000);
}
