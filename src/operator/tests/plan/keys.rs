//! Keys and their Secrets through time.

use crate::cluster::{Cluster, HOUR_MS, START, condition, name};
use crate::scenarios::{KEY, PLATFORM, platform_with_key};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use std::collections::BTreeSet;
use tollgate_operator::plan::{Action, CaBundle, Kind};
use tollgate_operator::resources::ROTATE_ANNOTATION;

fn with_spec(spec: &str) -> String {
    format!("{KEY}  {spec}\n")
}

fn text(secret: &Secret, entry: &str) -> Option<String> {
    secret.data.as_ref()?.get(entry).map(|value| String::from_utf8(value.0.clone()).unwrap())
}

#[test]
fn the_secret_is_ready_for_env_from() {
    let cluster = platform_with_key();
    let secret = &cluster.secrets[&name("payments/agent")];
    assert_eq!(text(secret, "ANTHROPIC_BASE_URL").as_deref(), Some("http://tollgate.tollgate"));
    assert_eq!(text(secret, "OPENAI_BASE_URL").as_deref(), Some("http://tollgate.tollgate/v1"));
    let key = text(secret, "ANTHROPIC_API_KEY").unwrap();
    assert!(tollgate_domain::key::is_well_formed(&key));
    assert_eq!(text(secret, "OPENAI_API_KEY"), Some(key.clone()));
    // And is nowhere else.
    let everything =
        format!("{:?} {:?} {:?} {:?}", cluster.world, cluster.carried_out, cluster.events, cluster.ledger);
    assert!(!everything.contains(&key));
}

#[test]
fn base_urls_and_names_are_changed_without_touching_the_key() {
    let mut cluster = platform_with_key();
    let digest = cluster.in_secret("payments/agent");
    cluster.settings.ca_bundle = CaBundle::Known("CA".into());
    cluster.settle();
    assert_eq!(text(&cluster.secrets[&name("payments/agent")], "ca.crt").as_deref(), Some("CA"));
    cluster.apply(&with_spec("secret: {url: 'https://llm.example.com', names: {anthropicApiKey: MY_KEY}}"));
    cluster.settle();
    let secret = &cluster.secrets[&name("payments/agent")];
    assert_eq!(text(secret, "ANTHROPIC_BASE_URL").as_deref(), Some("https://llm.example.com"));
    assert_eq!(text(secret, "OPENAI_BASE_URL").as_deref(), Some("https://llm.example.com/v1"));
    assert_eq!(text(secret, "ca.crt"), None, "another place has another authority");
    assert!(text(secret, "MY_KEY").is_some());
    assert_eq!(text(secret, "ANTHROPIC_API_KEY"), None);
    assert_eq!(cluster.in_secret("payments/agent"), digest);
    assert_eq!(cluster.heard("KeyRotated"), 0);
}

#[test]
fn secret_deleted_means_a_new_key_at_once_and_the_old_one_refused() {
    let mut cluster = platform_with_key();
    let old = cluster.in_secret("payments/agent");
    cluster.delete_secret("payments/agent");
    cluster.settle();
    let new = cluster.in_secret("payments/agent");
    assert_ne!(new, old);
    assert_eq!(cluster.works("payments/agent"), [new].into());
}

#[test]
fn a_key_that_somebody_wrote_into_the_secret_is_none() {
    let mut cluster = platform_with_key();
    let mut secret = cluster.secrets[&name("payments/agent")].clone();
    for value in secret.data.as_mut().unwrap().values_mut() {
        *value = ByteString(b"sk-1234".to_vec());
    }
    cluster.put_secret(&name("payments/agent"), secret);
    cluster.settle();
    let new = cluster.in_secret("payments/agent");
    assert_eq!(cluster.works("payments/agent"), [new].into());
}

#[test]
fn a_secret_of_somebody_else_is_never_written() {
    let mut cluster = Cluster::with(PLATFORM);
    let data = Some([("password".to_owned(), ByteString(b"theirs".to_vec()))].into());
    let theirs = Secret { data, ..Secret::default() };
    cluster.put_secret(&name("payments/agent"), theirs);
    let before = cluster.secrets.clone();
    cluster.apply(KEY);
    cluster.settle();
    assert_eq!(cluster.secrets, before);
    let status = cluster.key_status("payments/agent");
    assert_eq!(condition(&status.conditions, "Accepted"), "False SecretConflict");
    assert!(cluster.works("payments/agent").is_empty());
    // Nor deleted with the key.
    cluster.delete(Kind::VirtualKey, "payments/agent");
    cluster.settle();
    assert_eq!(cluster.secrets, before);
    cluster.apply(KEY);
    cluster.delete_secret("payments/agent");
    cluster.settle();
    assert_eq!(cluster.works("payments/agent").len(), 1);
}

const QUOTA: &str = "exceeded quota: secrets";

#[test]
fn a_secret_that_the_api_server_refuses_is_said_and_asked_for_again() {
    let mut cluster = Cluster::with(PLATFORM);
    cluster.no_secrets = Some(QUOTA.to_owned());
    cluster.apply(KEY);
    cluster.settle();
    let status = cluster.key_status("payments/agent");
    assert_eq!(condition(&status.conditions, "Programmed"), "False SecretRefused");
    assert_eq!(condition(&status.conditions, "Ready"), "False SecretRefused");
    assert!(status.conditions.iter().any(|one| one.message.contains(QUOTA)));
    assert_eq!(cluster.plan().wake_at, Some(START.plus_ms(60_000)));
    // Not before; and then it says the same, and writes no status.
    cluster.pass(START.plus_ms(59_999));
    assert!(cluster.carried_out.is_empty());
    assert_eq!(cluster.asked, 1);
    cluster.pass(START.plus_ms(60_000));
    assert_eq!(cluster.asked, 2);
    assert_eq!(cluster.key_status("payments/agent"), status);

    cluster.no_secrets = None;
    cluster.pass(START.plus_ms(120_000));
    assert_eq!(condition(&cluster.key_status("payments/agent").conditions, "Ready"), "True Ready");
    let key = cluster.in_secret("payments/agent");
    assert_eq!(cluster.works("payments/agent"), [key].into());
    assert_eq!(cluster.made, 1);
}

#[test]
fn the_present_key_works_on_while_the_api_server_refuses_the_next_one() {
    let mut cluster =
        Cluster::with(&format!("{PLATFORM}---{}", with_spec("rotation: {every: 720h, overlap: 24h}")));
    let present = cluster.in_secret("payments/agent");
    cluster.no_secrets = Some(QUOTA.to_owned());
    // Far beyond the overlap.
    cluster.pass(START.plus_ms(720 * HOUR_MS));
    cluster.now = START.plus_ms(800 * HOUR_MS);
    cluster.settle();
    assert_eq!(cluster.works("payments/agent"), [present].into());
    let status = cluster.key_status("payments/agent");
    assert_eq!(condition(&status.conditions, "Programmed"), "True Programmed");
    assert_eq!(condition(&status.conditions, "Ready"), "False SecretRefused");
    cluster.no_secrets = None;
    cluster.now = START.plus_ms(801 * HOUR_MS);
    cluster.settle();
    assert_eq!(cluster.works("payments/agent"), [present, cluster.in_secret("payments/agent")].into());
    assert_eq!(condition(&cluster.key_status("payments/agent").conditions, "Ready"), "True Ready");
}

/// The operator has started, and the file that says by whom clients know the gateway is no good.
#[test]
fn while_authorities_are_unknown_no_secret_is_new_and_all_else_goes_on() {
    let mut cluster = platform_with_key();
    cluster.settings.ca_bundle = CaBundle::Known("CA".into());
    cluster.settle();
    let present = cluster.in_secret("payments/agent");
    cluster.settings.ca_bundle = CaBundle::Unknown;
    cluster.restart_operator();
    cluster.apply(&KEY.replace("agent", "late"));
    cluster.apply(&with_spec("blocked: true"));
    cluster.settle();
    // The one that is there is as it was, and says nothing of it.
    assert_eq!(text(&cluster.secrets[&name("payments/agent")], "ca.crt").as_deref(), Some("CA"));
    assert_eq!(condition(&cluster.key_status("payments/agent").conditions, "Ready"), "True Ready");
    assert_eq!(cluster.key("payments/agent").blocked, Some(true));
    // The new one waits, and it is not asked for again and again.
    assert!(!cluster.secrets.contains_key(&name("payments/late")));
    let status = cluster.key_status("payments/late");
    assert_eq!(condition(&status.conditions, "Programmed"), "False AuthoritiesUnknown");
    assert_eq!(condition(&status.conditions, "Ready"), "False AuthoritiesUnknown");
    assert_eq!((cluster.asked, cluster.plan().wake_at), (1, None));
    // A key of a place of its own needs none of these authorities.
    let elsewhere =
        format!("{}  secret: {{url: 'https://llm.example.com'}}\n", KEY.replace("agent", "elsewhere"));
    cluster.apply(&elsewhere);
    cluster.settle();
    assert_eq!(condition(&cluster.key_status("payments/elsewhere").conditions, "Ready"), "True Ready");
    // Whoever deletes a key is rid of it.
    cluster.delete(Kind::VirtualKey, "payments/elsewhere");
    cluster.settle();
    assert!(cluster.works("payments/elsewhere").is_empty());

    cluster.settings.ca_bundle = CaBundle::Known("other".into());
    cluster.settle();
    for secret in ["payments/agent", "payments/late"] {
        assert_eq!(text(&cluster.secrets[&name(secret)], "ca.crt").as_deref(), Some("other"));
        assert_eq!(condition(&cluster.key_status(secret).conditions, "Ready"), "True Ready");
    }
    assert_eq!(cluster.in_secret("payments/agent"), present);
}

#[test]
fn while_authorities_are_unknown_a_secret_that_is_written_anew_keeps_its_own() {
    let mut cluster = platform_with_key();
    cluster.settings.ca_bundle = CaBundle::Known("CA".into());
    cluster.settle();
    let first = cluster.in_secret("payments/agent");
    cluster.settings.ca_bundle = CaBundle::Unknown;
    cluster.annotate("payments/agent", ROTATE_ANNOTATION, "leaked");
    cluster.settle();
    let ca = |cluster: &Cluster| text(&cluster.secrets[&name("payments/agent")], "ca.crt");
    assert_ne!(cluster.in_secret("payments/agent"), first);
    assert_eq!(ca(&cluster).as_deref(), Some("CA"));
    cluster.settings.base_url = "https://llm.example.com".into();
    cluster.settle();
    let secret = &cluster.secrets[&name("payments/agent")];
    assert_eq!(text(secret, "ANTHROPIC_BASE_URL").as_deref(), Some("https://llm.example.com"));
    assert_eq!(ca(&cluster).as_deref(), Some("CA"));
    // One that needs no telling any more has none.
    cluster.settings.ca_bundle = CaBundle::None;
    cluster.settings.base_url = "https://llm.example.net".into();
    cluster.settle();
    assert_eq!(ca(&cluster), None);
}

#[test]
fn a_key_whose_secret_cannot_be_made_again_is_limited_all_the_same() {
    let mut cluster = platform_with_key();
    cluster.settings.ca_bundle = CaBundle::Unknown;
    cluster.delete_secret("payments/agent");
    cluster.settle();
    cluster.apply(&with_spec("blocked: true"));
    cluster.settle();
    assert_eq!(cluster.key("payments/agent").blocked, Some(true));
    let status = cluster.key_status("payments/agent");
    assert_eq!(condition(&status.conditions, "Ready"), "False AuthoritiesUnknown");
}

#[test]
fn rotation_on_a_schedule_lets_old_and_new_overlap() {
    let mut cluster =
        Cluster::with(&format!("{PLATFORM}---{}", with_spec("rotation: {every: 720h, overlap: 24h}")));
    let first = cluster.in_secret("payments/agent");
    assert_eq!(cluster.plan().wake_at, Some(START.plus_ms(720 * HOUR_MS)));

    cluster.pass(START.plus_ms(720 * HOUR_MS - 1));
    assert_eq!(cluster.in_secret("payments/agent"), first);

    cluster.pass(START.plus_ms(720 * HOUR_MS));
    let second = cluster.in_secret("payments/agent");
    assert_ne!(second, first);
    assert_eq!(cluster.works("payments/agent"), BTreeSet::from([first, second]));
    let status = cluster.key_status("payments/agent");
    assert_eq!(status.previous.len(), 1);
    assert_eq!(cluster.heard("KeyRotated"), 1);
    assert_eq!(cluster.plan().wake_at, Some(START.plus_ms(744 * HOUR_MS)));

    cluster.pass(START.plus_ms(744 * HOUR_MS));
    assert_eq!(cluster.works("payments/agent"), [second].into());
    assert_eq!(cluster.key_status("payments/agent").previous, []);
    assert_eq!(cluster.plan().wake_at, Some(START.plus_ms(1_440 * HOUR_MS)));
    assert_eq!(cluster.heard("KeyRotated"), 1, "once");
}

#[test]
fn rotation_that_fell_due_while_the_operator_was_away_happens_once() {
    let mut cluster =
        Cluster::with(&format!("{PLATFORM}---{}", with_spec("rotation: {every: 720h, overlap: 24h}")));
    let first = cluster.in_secret("payments/agent");
    cluster.now = START.plus_ms(5_000 * HOUR_MS);
    cluster.restart_operator();
    cluster.settle();
    let second = cluster.in_secret("payments/agent");
    assert_eq!(cluster.works("payments/agent"), BTreeSet::from([first, second]));
    assert_eq!(cluster.heard("KeyRotated"), 1);
}

#[test]
fn rotation_by_hand_follows_the_annotation_once() {
    let mut cluster = platform_with_key();
    let first = cluster.in_secret("payments/agent");
    cluster.annotate("payments/agent", ROTATE_ANNOTATION, "leaked");
    cluster.settle();
    let second = cluster.in_secret("payments/agent");
    assert_ne!(second, first);
    assert_eq!(cluster.works("payments/agent"), BTreeSet::from([first, second]));
    cluster.restart_operator();
    cluster.settle();
    assert_eq!(cluster.in_secret("payments/agent"), second);
    cluster.annotate("payments/agent", ROTATE_ANNOTATION, "again");
    cluster.settle();
    assert_eq!(cluster.works("payments/agent").len(), 3);
    cluster.pass(START.plus_ms(24 * HOUR_MS));
    assert_eq!(cluster.works("payments/agent"), [cluster.in_secret("payments/agent")].into());
}

#[test]
fn many_rotations_by_hand_never_ask_for_more_keys_than_the_ledger_takes() {
    let mut cluster = platform_with_key();
    for count in 0..20 {
        cluster.now = cluster.now.plus_ms(60_000);
        cluster.annotate("payments/agent", ROTATE_ANNOTATION, &count.to_string());
        cluster.settle();
        assert!(cluster.key("payments/agent").credentials.len() <= 16);
    }
    assert!(cluster.works("payments/agent").contains(&cluster.in_secret("payments/agent")));
}

#[test]
fn a_secret_of_another_name_follows_the_old_one() {
    let mut cluster = platform_with_key();
    let first = cluster.in_secret("payments/agent");
    cluster.apply(&with_spec("secret: {name: llm}"));
    cluster.settle();
    let second = cluster.in_secret("payments/llm");
    assert!(!cluster.secrets.contains_key(&name("payments/agent")));
    assert_eq!(
        cluster.works("payments/agent"),
        BTreeSet::from([first, second]),
        "who runs goes on for a while"
    );
    let of = |wanted: fn(&Action) -> bool| cluster.carried_out.iter().position(wanted).unwrap();
    assert!(
        of(|action| matches!(action, Action::Issue(_)))
            < of(|action| matches!(action, Action::DeleteSecret { .. }))
    );
}

#[test]
fn a_key_that_expires_says_so() {
    let mut cluster =
        Cluster::with(&format!("{PLATFORM}---{}", with_spec("expiresAt: 2026-12-02T00:00:00Z")));
    let expires_at = START.plus_ms(24 * HOUR_MS);
    assert_eq!(cluster.key("payments/agent").expires_at, Some(expires_at));
    assert_eq!(cluster.plan().wake_at, Some(expires_at));
    cluster.pass(expires_at);
    assert_eq!(condition(&cluster.key_status("payments/agent").conditions, "Ready"), "False Expired");
}
