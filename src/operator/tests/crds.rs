//! The definitions of the custom resources: that the files are what the types say, and that what a person gets wrong is answered with a message that
//! says what to write instead. The API server itself judges the rules in the tests on a cluster.

use serde_json::Value;
use std::path::Path;
use tollgate_operator::resources::{definitions, definitions_yaml};

fn schema(kind: &str) -> Value {
    let definition = definitions().into_iter().find(|one| one.spec.names.kind == kind).unwrap();
    let version = definition.spec.versions.into_iter().next().unwrap();
    serde_json::to_value(version.schema.unwrap().open_api_v3_schema.unwrap()).unwrap()
}

/// The schema of a field, such as `spec.limits[].amount`.
fn field<'a>(schema: &'a Value, path: &str) -> &'a Value {
    let steps = path.split('.').filter(|step| !step.is_empty());
    steps.fold(schema, |schema, step| {
        let name = step.trim_end_matches("[]");
        let property = &schema["properties"][name];
        if step.ends_with("[]") { &property["items"] } else { property }
    })
}

fn messages(schema: &Value) -> Vec<String> {
    let rules = schema["x-kubernetes-validations"].as_array().cloned().unwrap_or_default();
    rules.iter().map(|rule| rule["message"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_committed_files_are_what_the_types_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for folder in ["k8s/crds", "k8s/chart/files/crds"] {
        for (name, written) in definitions_yaml().unwrap() {
            let path = root.join(folder).join(name);
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(committed, written, "{}: run make generate", path.display());
        }
    }
}

#[test]
fn every_rule_says_what_to_write() {
    let rows = [
        ("Organization", "", "metadata.name has at most 63 characters"),
        ("Organization", "spec", "adopt can not be changed"),
        ("Organization", "spec.models", "an entry of models is empty: remove it, or write"),
        (
            "Organization",
            "spec.allowedNamespaces",
            "selector goes with from: Selector: write both, or neither",
        ),
        ("Organization", "spec.rates.requestsPerMinute", "requestsPerMinute is a whole number from 0"),
        ("Organization", "spec.rates.tokensPerMinute", "tokensPerMinute is a whole number from 0"),
        ("Organization", "spec.rates.tokensPerDay", "tokensPerDay is a whole number from 0"),
        ("Organization", "spec.rates.parallelRequests", "parallelRequests is a whole number from 0"),
        ("Team", "spec", "organizationRef can not be changed"),
        ("Team", "spec", "adopt can not be changed"),
        ("Team", "spec.models", "an entry of models is empty"),
        ("Team", "spec.maxKeys", "maxKeys is a number from 0 to 100000"),
        ("Team", "spec.tags", "a tag has 1 to 64 letters"),
        ("Team", "spec.requiredTags", "a tag has 1 to 64 letters"),
        ("Team", "spec.perKey.models", "an entry of models is empty"),
        (
            "Team",
            "spec.perKey.limits[].amount",
            "amount is US dollars as a decimal string that is not negative",
        ),
        ("User", "spec", "organizationRef can not be changed"),
        ("User", "spec", "adopt can not be changed"),
        ("User", "spec.models", "an entry of models is empty"),
        ("VirtualKey", "", "metadata.name has at most 63 characters"),
        ("VirtualKey", "spec", "teamRef can not be changed"),
        ("VirtualKey", "spec", "userRef can not be changed"),
        ("VirtualKey", "spec", "adopt can not be changed"),
        ("VirtualKey", "spec.displayName", "displayName of a key has no slash"),
        ("VirtualKey", "spec.models", "an entry of models is empty"),
        ("VirtualKey", "spec.tags", "write it like project:payments"),
        ("VirtualKey", "spec.rotation", "overlap is shorter than every"),
        ("VirtualKey", "spec.rotation.every", "every is a span of at least 1m: write it like 720h"),
        ("VirtualKey", "spec.rotation.overlap", "overlap is a span: write it like 24h"),
        ("VirtualKey", "spec.secret.name", "write it like alice-llm-key"),
        ("VirtualKey", "spec.secret.url", "write it like https://llm.example.com"),
        ("VirtualKey", "spec.secret.names", "secret.names are names of environment variables"),
        ("VirtualKey", "spec.secret.names", "two of secret.names are the same"),
        ("Budget", "spec", "targetRef can not be changed: make another Budget"),
        ("Budget", "spec", "adopt is for a budget on a tag"),
        ("Budget", "spec", "a budget on sessions counts each session over its life: write period: Lifetime"),
        ("Budget", "spec", "a budget on sessions is always enforced: remove mode: Observe"),
        ("Budget", "spec", "there are no alerts on sessions: remove alerts"),
        ("Budget", "spec.targetRef", "a tag has 1 to 64 letters"),
        ("Budget", "spec.targetRef", "write it like ci-*, or \"*\" for every session"),
        ("Budget", "spec.targetRef", "targetRef.name is the name of an object of this namespace"),
        ("Budget", "spec.limits", "a budget has at least one limit: write one, such as"),
        ("Budget", "spec.limits[]", "anchorDay is for period: Month"),
        ("Budget", "spec.limits[]", "rollingFor goes with period: Rolling"),
        ("Budget", "spec.limits[]", "timeZone is for periods of the calendar"),
        ("Budget", "spec.limits[].amount", "such as \"100\" or \"0.50\""),
        ("Budget", "spec.limits[].timeZone", "write it like Europe/Vienna, or UTC"),
        ("Budget", "spec.limits[].anchorDay", "write 1 to 31"),
        ("Budget", "spec.limits[].rollingFor", "write it like 5h, 90m or 1h30m"),
        ("Budget", "spec.limits[].model", "model is empty"),
        ("Budget", "spec.alerts[].percent", "write 1 to 1000, such as 80"),
        ("PriceBook", "", "metadata.name has at most 63 characters"),
        ("PriceBook", "spec", "write models, discounts or aliases"),
        ("PriceBook", "spec.models[].name", "write it like anthropic/claude-opus-4-5"),
        ("PriceBook", "spec.models[].contextWindow", "write 1 to 100000000, such as 200000"),
        ("PriceBook", "spec.models[].maxOutput", "write 0 to 100000000, such as 64000"),
        ("PriceBook", "spec.models[].aliases", "write it like fast"),
        ("PriceBook", "spec.models[].prices", "write one without tier and aboveTokens"),
        ("PriceBook", "spec.models[].prices[]", "input and output both cost nothing"),
        ("PriceBook", "spec.models[].prices[].tier", "write it like batch, flex or priority"),
        ("PriceBook", "spec.models[].prices[].aboveTokens", "such as 200000"),
        ("PriceBook", "spec.models[].prices[].input", "such as \"3\" or \"0.25\""),
        ("PriceBook", "spec.models[].prices[].cacheRead", "such as \"3\" or \"0.25\""),
        ("PriceBook", "spec.models[].prices[].cacheWrite5m", "such as \"3\" or \"0.25\""),
        ("PriceBook", "spec.models[].prices[].cacheWrite1h", "such as \"3\" or \"0.25\""),
        ("PriceBook", "spec.models[].prices[].output", "such as \"3\" or \"0.25\""),
        ("PriceBook", "spec.models[].webSearch", "such as \"0.01\""),
        ("PriceBook", "spec.discounts[]", "a discount is on a provider or on a model: write one of the two"),
        ("PriceBook", "spec.discounts[].model", "or write provider instead"),
        ("PriceBook", "spec.discounts[].percent", "for any other price, write the model under models"),
        ("PriceBook", "spec.aliases[].alias", "write it like fast"),
        ("PriceBook", "spec.aliases[].model", "model is empty: write a model's name"),
    ];
    let mut named = 0;
    for (kind, path, start) in rows {
        let found = messages(field(&schema(kind), path));
        assert!(found.iter().any(|message| message.contains(start)), "{kind} {path}: {start}: {found:?}");
        named += 1;
    }
    assert_eq!(named, rows.len());
}

#[test]
fn every_rule_has_a_message_on_one_line() {
    walk_all(&|path, schema| {
        for message in messages(schema) {
            assert!(
                !message.is_empty() && !message.contains('\n') && !message.contains("  "),
                "{path}: {message}"
            );
        }
    });
}

/// The API server sums up what rules can cost at most, and refuses a definition without bounds.
#[test]
fn everything_that_a_rule_looks_at_is_bounded() {
    walk_all(&|path, schema| {
        let is_spec = path.contains("/spec/") && !path.contains("/selector");
        if is_spec && schema["type"] == "array" {
            assert!(schema["maxItems"].is_u64(), "{path} has no maxItems");
        }
        if is_spec && schema["type"] == "string" && schema["enum"].is_null() && schema["format"].is_null() {
            assert!(schema["maxLength"].is_u64(), "{path} has no maxLength");
        }
        // The API server warns of formats that it does not know.
        let format = schema["format"].as_str();
        assert!(matches!(format, None | Some("int32" | "int64" | "date-time")), "{path}: {format:?}");
    });
}

/// A default in the schema would be written into every object, and fight with who applies it from a file.
#[test]
fn nothing_is_filled_in_by_the_api_server() {
    walk_all(&|path, schema| assert!(schema["default"].is_null(), "{path} has a default"));
}

fn walk_all(look: &dyn Fn(&str, &Value)) {
    for definition in definitions() {
        let kind = definition.spec.names.kind;
        walk(&format!("{kind}/"), &schema(&kind), look);
    }
}

fn walk(path: &str, schema: &Value, look: &dyn Fn(&str, &Value)) {
    look(path, schema);
    if let Some(properties) = schema["properties"].as_object() {
        for (name, property) in properties {
            walk(&format!("{path}{name}/"), property, look);
        }
    }
    if schema["items"].is_object() {
        walk(&format!("{path}[]/"), &schema["items"], look);
    }
}

#[test]
fn people_find_them_by_short_names_and_read_money_in_columns() {
    let columns = |kind: &str| -> Vec<String> {
        let definition = definitions().into_iter().find(|one| one.spec.names.kind == kind).unwrap();
        let columns = definition.spec.versions[0].additional_printer_columns.clone().unwrap();
        columns
            .into_iter()
            .filter(|column| column.priority.unwrap_or(0) == 0)
            .map(|column| column.name)
            .collect()
    };
    let budgets =
        ["Target", "Limit", "Period", "Posted", "Pending", "Available", "Used %", "Resets", "Ready"];
    assert_eq!(columns("Budget"), budgets);
    assert_eq!(columns("PriceBook"), ["Models", "Discounts", "Aliases", "Ready", "Age"]);
    assert_eq!(columns("VirtualKey"), ["Team", "User", "Spend", "Last used", "Expires", "Ready", "Age"]);
    let mut shorts = vec![];
    for definition in definitions() {
        let names = definition.spec.names;
        assert_eq!(names.categories, Some(vec!["tollgate".to_owned()]));
        shorts.extend(names.short_names.unwrap());
        let version = &definition.spec.versions[0];
        assert!(version.subresources.as_ref().is_some_and(|all| all.status.is_some()));
    }
    assert_eq!(shorts, ["tgb", "org", "tgprice", "tgteam", "tguser", "vkey"]);
}

/// Each column shows a field that there is.
#[test]
fn columns_show_fields_of_the_schema() {
    for definition in definitions() {
        let kind = definition.spec.names.kind;
        let schema = schema(&kind);
        for column in definition.spec.versions[0].additional_printer_columns.clone().unwrap() {
            let path = column.json_path.trim_start_matches('.');
            if path.starts_with("metadata") || path.contains("conditions") {
                continue;
            }
            assert!(field(&schema, path)["type"].is_string(), "{kind}: {path}");
        }
    }
}
