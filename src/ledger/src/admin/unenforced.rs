//! Fields that would change what is enforced and are not enforced here: refused by name, because a limit that is taken
//! and then ignored is worse than none.

use super::error::ApiError;
use super::fields::{self, Fields};
use serde_json::Map;
use serde_json::Value;
use serde_json::value::RawValue;

/// Fields of LiteLLM that bind a request there and would not here, beside those that [`looks_like_a_limit`] finds.
const KNOWN: [&str; 24] = [
    "access_group_ids",
    "aliases",
    "auto_rotate",
    "budget_fallbacks",
    "budget_id",
    "default_team_member_models",
    "duration",
    "end_user_budget_id",
    "enforced_params",
    "guardrails",
    "key",
    "model_aliases",
    "new_key",
    "object_permission",
    "password",
    "permissions",
    "policies",
    "project_id",
    "require_trace_id",
    "team_member_budget_duration",
    "team_member_key_duration",
    "temp_budget_expiry",
    "temp_budget_increase",
    "throttle_on_budget_exceeded",
];

/// What LiteLLM reads out of `metadata` when it enforces.
const IN_METADATA: [&str; 6] = [
    "enforced_params",
    "guardrails",
    "mcp_rpm_limit",
    "tag_rpm_limit",
    "temp_budget_expiry",
    "temp_budget_increase",
];

const WHY: &str = "is not enforced here, so it is refused";

/// Reads fields that nothing here acts on, to be kept as they are.
pub(crate) fn harmless(rest: Vec<(String, Box<RawValue>)>) -> Result<Map<String, Value>, ApiError> {
    let mut kept = Map::new();
    for (name, raw) in rest {
        let value = fields::value(&name, &raw)?;
        refuse(&name, &name, &value)?;
        for member in value.as_array().into_iter().flatten().filter_map(Value::as_object).flatten() {
            refuse(&format!("{name}.{}", member.0), member.0, member.1)?;
        }
        kept.insert(name, value);
    }
    Ok(kept)
}

/// What an account of any kind but a tag enforces.
const NOT_OF_TAGS: [&str; 8] = [
    "blocked",
    "client_tags_bind",
    "forbidden_extras",
    "models",
    "required_tags",
    "tags",
    "max_session_budget",
    "session_budgets",
];

/// Refuses what a tag does not enforce.
pub(crate) fn check_tag(fields: &mut Fields) -> Result<(), ApiError> {
    for name in NOT_OF_TAGS {
        let Some(raw) = fields.take(name) else { continue };
        if !says_nothing(&fields::value(name, &raw)?) {
            return Err(ApiError::field(name, "is not enforced on tags, so it is refused"));
        }
    }
    Ok(())
}

/// Refuses what LiteLLM would enforce although it stands in `metadata`.
pub(crate) fn check_metadata(metadata: &Map<String, Value>) -> Result<(), ApiError> {
    match metadata.iter().find(|(name, value)| IN_METADATA.contains(&name.as_str()) && !says_nothing(value)) {
        Some((name, _)) => Err(ApiError::field(&format!("metadata.{name}"), WHY)),
        None => Ok(()),
    }
}

fn refuse(shown: &str, name: &str, value: &Value) -> Result<(), ApiError> {
    let binds = match name {
        // What a key may do: the two values that leave it a key for models.
        "key_type" => !matches!(value.as_str(), Some("default" | "llm_api")),
        // What was spent is what was spent; LiteLLM's default is 0.
        "spend" => value.as_f64() != Some(0.0),
        _ => KNOWN.contains(&name) || looks_like_a_limit(name),
    };
    if binds && !says_nothing(value) { Err(ApiError::field(shown, WHY)) } else { Ok(()) }
}

fn looks_like_a_limit(name: &str) -> bool {
    let ends = ["_limit", "_limits", "_budget", "_budgets", "_routes"];
    let begins = ["max_", "allowed_", "blocked_", "denied_"];
    ends.iter().any(|end| name.ends_with(end)) || begins.iter().any(|begin| name.starts_with(begin))
}

/// `null`, `false` and everything empty: what scripts send for a field that they do not use.
fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_bind_is_refused_by_name() {
        let refused = [
            ("tag_rpm_limit", "{\"a\": 5}"),
            ("global_max_parallel_requests_limit", "5"),
            ("budget_id", "\"b\""),
            ("temp_budget_increase", "5"),
            ("allowed_routes", "[\"/v1/messages\"]"),
            ("aliases", "{\"a\": \"b\"}"),
            ("model_aliases", "{\"a\": \"b\"}"),
            ("team_member_budget", "5"),
            ("object_permission", "{\"models\": []}"),
            ("guardrails", "[\"g\"]"),
            ("password", "\"p\""),
            ("duration", "\"30d\""),
            ("key_type", "\"management\""),
            ("spend", "5"),
            ("daily_request_limit", "5"),
            ("token_limits", "[5]"),
            ("weekly_budget", "\"5\""),
            ("denied_passthrough_routes", "[\"/x\"]"),
            ("max_tokens", "5"),
            ("allowed_cache_controls", "[\"no-cache\"]"),
            ("blocked_models", "[\"m\"]"),
            ("auto_rotate", "true"),
        ];
        for (name, value) in refused {
            let body = format!("{{{name:?}: {value}}}");
            let why = harmless(Fields::parse(body.as_bytes()).unwrap().rest()).unwrap_err().to_string();
            assert_eq!(why, format!("{name} is not enforced here, so it is refused"));
            for nothing in ["null", "\"\"", "[]", "{}", "false"] {
                let body = format!("{{{name:?}: {nothing}}}");
                assert!(harmless(Fields::parse(body.as_bytes()).unwrap().rest()).is_ok(), "{body}");
            }
        }
        let members = b"{\"teams\": [{\"team_id\": \"t\", \"max_budget_in_team\": 5}]}";
        let why = harmless(Fields::parse(members).unwrap().rest()).unwrap_err().to_string();
        assert_eq!(why, "teams.max_budget_in_team is not enforced here, so it is refused");
    }

    #[test]
    fn the_rest_is_kept() {
        let body = b"{\"agent_id\": \"a\", \"key_type\": \"llm_api\", \"spend\": 0, \"config\": {\"x\": 1}}";
        assert_eq!(harmless(Fields::parse(body).unwrap().rest()).unwrap().len(), 4);
        let metadata = |json: &str| check_metadata(&serde_json::from_str(json).unwrap()).is_ok();
        assert!(metadata("{\"note\": \"x\", \"my_limit\": 5, \"tag_rpm_limit\": {}}"));
        assert!(!metadata("{\"tag_rpm_limit\": {\"a\": 5}}"));
    }
}
