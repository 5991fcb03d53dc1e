//! From the API to Git, for real: accounts made by the HTTP API of the real ledger, exported by the real verb, and taken over by plans that are
//! carried out on that ledger. Kubernetes alone is played.

#[path = "../../../ledger/tests/filter/client.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod client;
mod ledger;
mod operator;

use ledger::{Ledger, PRICE};
use operator::Operator;
use serde_json::json;
use std::collections::BTreeMap;
use tollgate_domain::key;

/// What a team that uses the API has made.
struct Company {
    team: String,
    key: String,
    teamless: String,
}

fn made(ledger: &Ledger) -> Company {
    let organization = ledger.post(
        "/organization/new",
        json!({"organization_alias": "Acme", "max_budget": 1000, "budget_duration": "1mo"}),
    );
    let organization = organization["organization_id"].as_str().unwrap();
    let team = ledger.post(
        "/team/new",
        json!({
            "team_alias": "Payments", "organization_id": organization, "max_budget": "100.000000001", "budget_duration": "1mo",
            "budget_time_zone": "Europe/Vienna", "soft_budget": 80, "alert_thresholds": [50, 90], "rpm_limit": 600,
            "budget_limits": [{"budget_duration": "5h", "rolling": true, "max_budget": 5}],
            "models": ["m", "anthropic/*"], "required_tags": ["project"], "metadata": {"cost_center": "7"},
        }),
    );
    let team = team["team_id"].as_str().unwrap().to_owned();
    let user = json!({"user_id": "alice@example.com", "max_budget": 50, "budget_duration": "1mo", "auto_create_key": false});
    ledger.post("/user/new", user);
    let made = ledger.post(
        "/key/generate",
        json!({
            "key_alias": "alice's laptop", "team_id": team, "user_id": "alice@example.com", "max_budget": 10, "budget_duration": "1d",
            "model_max_budget": {"m": 3}, "tags": ["project:x"], "tpm_limit": 100_000, "max_parallel_requests": 4, "duration": "30d",
        }),
    );
    let key = made["key"].as_str().unwrap().to_owned();
    ledger.post("/tag/new", json!({"name": "project:x", "max_budget": 20, "budget_duration": "1w"}));
    let teamless = ledger.post("/key/generate", json!({"key_alias": "nobody's"}));
    ledger.post("/team/new", json!({"team_alias": "Odd", "max_budget": 1, "budget_duration": "7h"}));
    Company { team, key, teamless: teamless["key"].as_str().unwrap().to_owned() }
}

fn digest(key: &str) -> Vec<u8> {
    key::digest(key.as_bytes()).as_bytes().to_vec()
}

/// Spends on a key; gives nano-dollars.
async fn spend(ledger: &Ledger, key: &str, number: u8) -> i64 {
    let (id, digest) = ([number; 16], digest(key));
    let mut client = client::Client::connect(&ledger.grpc, 10).await;
    let version = client.version(&digest).await.unwrap();
    client.hold(&id, &digest, &version).await.unwrap();
    client.settle(&id, &digest, 10).await.unwrap();
    10 * PRICE
}

/// What the API shows of everything, but for what an adoption changes: where the main limit stands, and who may edit it.
fn shown(ledger: &Ledger, company: &Company) -> BTreeMap<&'static str, serde_json::Value> {
    let team = ledger.get(&format!("/team/info?team_id={}", company.team))["team_info"].clone();
    let key = ledger.get(&format!("/key/info?key={}", company.key))["info"].clone();
    let limits = |of: &serde_json::Value| {
        let mut all: Vec<(String, String, String)> = of["budget_limits"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|limit| {
                (limit["max_budget"].to_string(), limit["spend"].to_string(), limit["pending"].to_string())
            })
            .collect();
        if !of["max_budget"].is_null() {
            all.push((of["max_budget"].to_string(), of["spend"].to_string(), of["pending"].to_string()));
        }
        all.sort();
        json!(all)
    };
    let part = |of: &serde_json::Value, names: &[&str]| {
        json!(names.iter().map(|&name| (name, of[name].clone())).collect::<BTreeMap<_, _>>())
    };
    BTreeMap::from([
        ("team's limits", limits(&team)),
        (
            "team",
            part(
                &team,
                &[
                    "team_id",
                    "team_alias",
                    "organization_id",
                    "models",
                    "rpm_limit",
                    "required_tags",
                    "metadata",
                ],
            ),
        ),
        ("key's limits", limits(&key)),
        (
            "key",
            part(
                &key,
                &[
                    "token",
                    "key_name",
                    "team_id",
                    "user_id",
                    "tags",
                    "tpm_limit",
                    "max_parallel_requests",
                    "model_max_budget",
                ],
            ),
        ),
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_api_made_is_taken_over_as_it_is() {
    let ledger = Ledger::start();
    let company = made(&ledger);
    let spent = spend(&ledger, &company.key, 1).await;
    let before = shown(&ledger, &company);

    let export = ledger.export(&[]);
    assert_eq!(export.stdout, ledger.export(&[]).stdout, "the same bytes");
    let yaml = export.stdout.as_str();
    assert!(yaml.contains("amount: \"100.000000001\""), "exact: {yaml}");
    assert!(yaml.contains("displayName: \"alice's laptop\"") && !yaml.contains(&company.key));
    // What stays is named in both places.
    for said in [&export.stdout, &export.stderr] {
        assert!(said.contains("called \"nobody's\": it has no team"), "{said}");
        assert!(said.contains("called \"Odd\": a limit of 1 USD (Every 7h), which no Budget has"), "{said}");
    }

    let mut operator = Operator::new(&ledger).await;
    operator.apply(yaml);
    operator.settle().await;
    assert!(operator.not_ready().is_empty(), "{:#?}", operator.not_ready());
    assert_eq!(shown(&ledger, &company), before, "nothing has changed but who manages it");
    assert!(operator.issued().is_empty(), "no key was made");

    // Money goes on from where it was, and the key that people hold still works.
    let again = spend(&ledger, &company.key, 2).await;
    operator.hear().await;
    assert_eq!(operator.posted("key", "alice-s-laptop"), spent + again);
    assert_eq!(ledger.refused("/team/update", json!({"team_id": company.team, "max_budget": 1})), 409);

    // What stays works on, and with the option it moves, too.
    spend(&ledger, &company.teamless, 3).await;
    let rest = ledger.export(&["--default-team", "everybody"]);
    assert!(rest.stdout.contains("name: everybody") && !rest.stdout.contains("alice"), "{}", rest.stdout);
    operator.apply(&rest.stdout);
    operator.settle().await;
    assert!(operator.not_ready().is_empty(), "{:#?}", operator.not_ready());
    let last = ledger.export(&["--default-team", "everybody"]);
    assert!(!last.stdout.contains("kind:"), "{}", last.stdout);
    spend(&ledger, &company.teamless, 4).await;
}

#[test]
fn files_hold_what_the_whole_holds() {
    let ledger = Ledger::start();
    made(&ledger);
    let folder = tempfile::tempdir().unwrap();
    let export = ledger.export(&["--output", folder.path().to_str().unwrap()]);
    assert_eq!(export.stdout, "");
    let mut names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["budgets.yaml", "organizations.yaml", "teams.yaml", "users.yaml", "virtualkeys.yaml"]);
    let whole = ledger.export(&[]).stdout;
    let documents = |text: &str| text.matches("\n---\n").count();
    let parts: usize =
        names.iter().map(|name| documents(&std::fs::read_to_string(folder.path().join(name)).unwrap())).sum();
    assert_eq!(parts, documents(&whole));
}

#[test]
fn what_fails_says_why_and_writes_nothing() {
    let ledger = Ledger::start();
    let rows: [(&[&str], &str); 4] = [
        (&["--namespace", "Platform"], "--namespace"),
        (&["--release-namespace", "tollgate"], "objects do not count in namespace platform"),
        (&["--master-key", "sk-wrong"], "the master key is wanted"),
        (&["--ledger", "http://127.0.0.1:1"], "the ledger cannot be called"),
    ];
    for (options, said) in rows {
        let failed = ledger.try_export(options);
        assert!(!failed.success && failed.stdout.is_empty(), "{options:?}");
        assert!(failed.stderr.contains(said), "{options:?}: {}", failed.stderr);
        assert!(!failed.stderr.contains("sk-wrong"));
    }
}
