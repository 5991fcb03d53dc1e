//! Exports, applied: what comes of them is what was there.

use crate::adoption::{MONTH, by_api, limit, named};
use crate::cluster::{Cluster, START, condition, name};
use std::collections::BTreeMap;
use tollgate_domain::account::AccountKind::{self, Key, Organization, Tag, Team, User};
use tollgate_domain::account::AccountName;
use tollgate_domain::ids::KeyDigest;
use tollgate_domain::rate::{Rate, RateKind};
use tollgate_domain::window::{BillingDay, CalendarUnit, Window, Zone};
use tollgate_operator::export::{
    Export, ListedAccount, ListedLimit, ListedRate, Object, Settings, export, whole,
};
use tollgate_operator::plan::{Account, Credential, Limit, RateLimit};

fn settings() -> Settings {
    Settings {
        namespace: "platform".into(),
        release_namespace: "tollgate".into(),
        cluster: "kubernetes".into(),
        default_team: None,
        now: START,
    }
}

/// As the ledger lists it.
fn listed(account: &Account, managed_by: &str) -> ListedAccount {
    let limit = |limit: &Limit| ListedLimit {
        amount: limit.amount,
        window: Some(limit.window),
        model: limit.model.clone(),
        observe: limit.observe,
        soft: limit.soft,
        thresholds_percent: limit.thresholds_percent.iter().map(|percent| u32::from(*percent)).collect(),
    };
    let rate = |rate: &RateLimit| ListedRate {
        rate: Rate { kind: rate.kind, limit: rate.limit },
        model: None,
        observe: false,
    };
    ListedAccount {
        name: account.name.clone(),
        managed_by: managed_by.into(),
        owner_scope: account.owner_scope.clone(),
        alias: Some(account.alias.clone()).filter(|alias| !alias.is_empty()),
        organization: account.organization.clone(),
        team: account.team.clone(),
        user: account.user.clone(),
        models: account.models.clone(),
        limits: account.limits.iter().map(limit).collect(),
        rates: account.rates.iter().map(rate).collect(),
        session_limit: account.session_limit,
        has_session_limits: !account.session_limits.is_empty(),
        tags: account.tags.clone(),
        required_tags: account.required_tags.clone(),
        client_tags_bind: account.client_tags_bind,
        forbidden: account.forbidden.clone(),
        blocked: account.blocked.unwrap_or_default(),
        expires_at: account.expires_at,
        credentials: account.credentials.len(),
        metadata: vec![],
    }
}

fn list(cluster: &Cluster) -> Vec<ListedAccount> {
    let living = cluster.ledger.values().filter(|held| !held.deleted);
    living.map(|held| listed(&held.account, held.managed_by)).collect()
}

fn credential(number: u8) -> Credential {
    Credential { digest: KeyDigest::new([number; 32]), name: format!("sk-...{number:04}"), expires_at: None }
}

fn rates() -> Vec<RateLimit> {
    vec![
        RateLimit { kind: RateKind::RequestsPerMinute, limit: 60 },
        RateLimit { kind: RateKind::TokensPerDay, limit: 1_000_000_000_000 },
    ]
}

/// A company as the admin API makes one: something of everything that a custom resource can say.
fn company() -> Vec<Account> {
    let vienna: Zone = "Europe/Vienna".parse().unwrap();
    let anchored = |day| Window::Anchored { day: BillingDay::new(day).unwrap(), zone: vienna };
    let calendar = |unit| Window::Calendar(unit, vienna);
    let of_model = |limit: Limit| Limit { model: Some("gpt-4.1".into()), ..limit };
    let observed = |limit: Limit| Limit { observe: true, ..limit };
    let soft = |limit: Limit| Limit { soft: true, thresholds_percent: vec![100], ..limit };
    let mut organization = by_api(Organization, "11111111-aaaa-4bbb-8ccc-000000000001");
    organization.alias = "Acme & Söhne".into();
    organization.limits = vec![
        limit("1000.000000001", calendar(CalendarUnit::Months(3))),
        limit("5000", calendar(CalendarUnit::Months(12))),
        of_model(limit("0", Window::Lifetime)),
    ];
    organization.rates = rates();
    let mut payments = by_api(Team, "team-1");
    payments.alias = "Payments".into();
    payments.organization = Some(organization.name.id.clone());
    payments.models = vec!["anthropic/*".into(), "gpt-4.1".into()];
    payments.limits = vec![
        limit("100", anchored(15)),
        limit("7", Window::Rolling { seconds: 5_430 }),
        observed(limit("3", calendar(CalendarUnit::Week))),
        of_model(limit("2", calendar(CalendarUnit::Day))),
        soft(limit("80", anchored(15))),
        Limit { thresholds_percent: vec![], ..limit("0.5", calendar(CalendarUnit::Hour)) },
    ];
    payments.tags = vec!["cost:1".into(), "team:payments".into()];
    payments.required_tags = vec!["project".into()];
    payments.client_tags_bind = true;
    payments.forbidden = vec!["fast_mode".into(), "long_context".into()];
    let mut search = by_api(Team, "team-2");
    search.alias = "payments".into();
    search.blocked = Some(true);
    let mut alice = by_api(User, "alice@example.com");
    alice.alias = String::new();
    alice.limits = vec![limit("100", MONTH)];
    alice.organization = Some(organization.name.id.clone());
    let mut laptop = by_api(Key, "key-1");
    laptop.alias = "alice's laptop".into();
    laptop.team = Some("team-1".into());
    laptop.user = Some("alice@example.com".into());
    laptop.models = vec!["claude-haiku-4-5".into()];
    laptop.limits = vec![limit("10", MONTH), limit("50", Window::Lifetime)];
    laptop.rates = vec![
        RateLimit { kind: RateKind::TokensPerMinute, limit: 0 },
        RateLimit { kind: RateKind::Parallel, limit: 4 },
    ];
    laptop.tags = vec!["project:x".into()];
    laptop.expires_at = Some(START.plus_ms(1_000_000_000));
    laptop.credentials = vec![credential(1)];
    let mut nameless = by_api(Key, "key-2");
    nameless.alias = String::new();
    nameless.team = Some("team-2".into());
    nameless.credentials = vec![credential(2)];
    let mut tag = by_api(Tag, "project:X_1");
    tag.limits = vec![limit("20", MONTH), observed(limit("1", Window::Lifetime))];
    vec![organization, payments, search, alice, laptop, nameless, tag]
}

fn company_cluster() -> Cluster {
    let mut cluster = Cluster::new();
    for account in company() {
        cluster.make_by_api(account);
    }
    let names: Vec<_> = cluster.ledger.keys().cloned().collect();
    for (index, name) in names.iter().enumerate() {
        cluster.spend(name, &format!("0.{}", index + 1));
    }
    cluster
}

/// An account, but for who manages it, and with what a manifest leaves to the operator's own words.
fn meaning(account: &Account) -> Account {
    let mut account = account.clone();
    account.owner_scope.clear();
    account.blocked = account.blocked.filter(|blocked| *blocked);
    account.limits.sort();
    account.rates.sort();
    account.models.sort();
    account.tags.sort();
    account
}

#[test]
fn what_is_exported_and_applied_is_what_was_there() {
    let mut cluster = company_cluster();
    let before = cluster.ledger.clone();
    let exported = export(&list(&cluster), &settings());
    assert_eq!(exported.left, []);
    cluster.apply(&whole(&exported).unwrap());
    cluster.settle();
    assert_eq!(
        cluster.ledger.keys().collect::<Vec<_>>(),
        before.keys().collect::<Vec<_>>(),
        "nothing is made, nothing goes"
    );
    for (name, held) in &cluster.ledger {
        let was = &before[name];
        assert_eq!(held.managed_by, "kubernetes", "{name:?}");
        assert_eq!((held.posted, held.deleted), (was.posted, false));
        let mut expected = meaning(&was.account);
        if expected.alias.is_empty() {
            expected.alias.clone_from(&held.account.alias);
        }
        assert_eq!(meaning(&held.account), expected);
    }
    assert!(cluster.secrets.is_empty(), "what people hold works on");
    assert!(cluster.world.virtual_keys.keys().all(|key| key.namespace == "tollgate"), "no other adopts");
    assert!(cluster.world.teams.keys().all(|team| team.namespace == "platform"));
    for status in cluster.world.budgets.values().map(|budget| budget.status.clone().unwrap()) {
        assert_eq!(condition(&status.conditions, "Ready"), "True Ready");
    }
}

#[test]
fn in_whatever_order_the_objects_come_no_limit_is_missing_for_a_moment() {
    let exported = export(&list(&company_cluster()), &settings());
    let count = exported.objects.len();
    for turn in 0..count {
        let mut cluster = company_cluster();
        let before: BTreeMap<AccountName, usize> =
            cluster.ledger.iter().map(|(name, held)| (name.clone(), held.account.limits.len())).collect();
        for index in 0..count {
            let object = &exported.objects[(turn + count - index) % count].object;
            cluster.apply(&object.yaml().unwrap());
            cluster.settle();
            for (name, held) in &cluster.ledger {
                assert!(!held.deleted);
                let whole = held.account.limits.len() == before[name];
                assert!(whole || name.kind == Tag, "{name:?} after {index} from {turn}");
            }
        }
    }
}

#[test]
fn an_export_is_the_same_bytes_each_time() {
    let mut accounts = list(&company_cluster());
    let first = whole(&export(&accounts, &settings())).unwrap();
    assert_eq!(whole(&export(&accounts, &settings())).unwrap(), first);
    accounts.reverse();
    assert_eq!(whole(&export(&accounts, &settings())).unwrap(), first);
}

#[test]
fn after_an_adoption_there_is_nothing_left_to_export() {
    let mut cluster = company_cluster();
    cluster.apply(&whole(&export(&list(&cluster), &settings())).unwrap());
    cluster.settle();
    let again = export(&list(&cluster), &settings());
    assert_eq!(again, Export::default());
    assert_eq!(again.summary(), ["nothing to move"]);
}

#[test]
fn what_is_made_later_names_the_objects_that_are_there() {
    let mut cluster = company_cluster();
    cluster.apply(&whole(&export(&list(&cluster), &settings())).unwrap());
    cluster.settle();
    let mut later = by_api(Key, "key-9");
    later.alias = "alice's laptop, the new one".into();
    (later.team, later.user) = (Some("team-1".into()), Some("alice@example.com".into()));
    later.credentials = vec![credential(9)];
    cluster.make_by_api(later);
    let mut team = by_api(Team, "team-9");
    team.alias = "Search".into();
    team.organization = Some("11111111-aaaa-4bbb-8ccc-000000000001".into());
    cluster.make_by_api(team);
    let exported = export(&list(&cluster), &settings());
    assert_eq!(exported.objects.len(), 2);
    cluster.apply(&whole(&exported).unwrap());
    cluster.settle();
    let key = &cluster.ledger[&named(Key, "key-9")];
    assert_eq!((key.managed_by, key.account.team.as_deref()), ("kubernetes", Some("team-1")));
    assert_eq!(cluster.ledger[&named(Team, "team-9")].managed_by, "kubernetes");
}

#[test]
fn names_are_told_apart_and_readable() {
    let exported = export(&list(&company_cluster()), &settings());
    let of = |kind: &str| -> Vec<String> {
        let these = exported.objects.iter().filter(|one| one.object.kind().as_str() == kind);
        these.map(|one| one.object.meta().name.clone().unwrap()).collect()
    };
    assert_eq!(of("Organization"), ["acme-s-hne"]);
    let teams = of("Team");
    assert!(teams.iter().all(|name| name.starts_with("payments-") && name.len() == 17), "{teams:?}");
    assert_eq!(of("User"), ["alice-example-com"]);
    assert_eq!(of("VirtualKey"), ["alice-s-laptop", "key-2"]);
    let budgets = of("Budget");
    assert!(budgets.contains(&"key-alice-s-laptop".to_owned()), "{budgets:?}");
    assert!(
        budgets.contains(&"tag-project-x-1".to_owned()) && budgets.contains(&"tag-project-x-1-2".to_owned())
    );
    let kinds: Vec<_> = exported.objects.iter().map(|one| one.object.kind()).collect();
    assert!(
        kinds.is_sorted_by_key(|kind| (*kind != tollgate_operator::plan::Kind::Budget, *kind)),
        "{kinds:?}"
    );
}

#[test]
fn every_object_is_read_back_as_it_was_written() {
    for written in export(&list(&company_cluster()), &settings()).objects {
        let text = written.object.yaml().unwrap();
        let back = match &written.object {
            Object::Budget(_) => Object::Budget(serde_yaml_ng::from_str(&text).unwrap()),
            Object::Organization(_) => Object::Organization(serde_yaml_ng::from_str(&text).unwrap()),
            Object::Team(_) => Object::Team(serde_yaml_ng::from_str(&text).unwrap()),
            Object::User(_) => Object::User(serde_yaml_ng::from_str(&text).unwrap()),
            Object::VirtualKey(_) => Object::VirtualKey(serde_yaml_ng::from_str(&text).unwrap()),
        };
        assert_eq!(back, written.object);
        assert!(
            text.starts_with("apiVersion: tollgate.dev/v1alpha1\n") && !text.contains("status"),
            "{text}"
        );
    }
}

fn small() -> Vec<ListedAccount> {
    let mut key = by_api(Key, "k");
    (key.team, key.user, key.credentials) = (Some("t".into()), Some("u".into()), vec![credential(1)]);
    let mut team = by_api(Team, "t");
    team.organization = Some("o".into());
    let mut tag = by_api(Tag, "tag");
    tag.limits = vec![limit("1", MONTH)];
    [by_api(Organization, "o"), team, by_api(User, "u"), key, tag]
        .iter()
        .map(|one| listed(one, "api"))
        .collect()
}

type Change = fn(&mut ListedAccount);

#[test]
fn what_cannot_be_said_stays_whole_with_the_api_and_is_named() {
    let fixed = || ListedLimit {
        amount: "5".parse().unwrap(),
        window: Some(Window::Fixed { seconds: 18_000 }),
        model: None,
        observe: false,
        soft: false,
        thresholds_percent: vec![],
    };
    assert_eq!(export(&small(), &settings()).left, []);
    let rows: Vec<(AccountKind, &str, Change, &str, usize)> = vec![
        (Organization, "o", |a| a.session_limit = Some("1".parse().unwrap()), "max_session_budget", 3),
        (Organization, "o", |a| a.has_session_limits = true, "session_budgets", 3),
        (Organization, "o", |a| a.tags = vec!["x".into()], "tags", 3),
        (Organization, "o", |a| a.models = vec![String::new()], "its models", 3),
        (Team, "t", |a| a.name.id = "kubernetes/x/t".into(), "looks like that of a custom resource", 2),
        (Team, "t", |a| a.rates = vec![rate(Some("m"), false, 1)], "rates of single models", 2),
        (Team, "t", |a| a.rates = vec![rate(None, true, 1)], "rates that only observe", 2),
        (User, "u", |a| a.rates = vec![rate(None, false, u64::MAX)], "a rate beyond", 2),
        (User, "u", |a| a.forbidden = vec!["fast_mode".into()], "forbidden_extras", 2),
        (
            Team,
            "t",
            |a| a.forbidden = vec!["teleport".into()],
            "forbidden_extras that no Team has (teleport)",
            2,
        ),
        (Key, "k", |a| a.required_tags = vec!["x".into()], "required_tags", 1),
        (Key, "k", |a| a.client_tags_bind = true, "client_tags_bind", 1),
        (Key, "k", |a| a.expires_at = Some(START), "it has expired", 1),
        (Key, "k", |a| a.credentials = 0, "no key of it works", 1),
        (Key, "k", |a| a.team = None, "it has no team", 1),
        (Key, "k", |a| a.organization = Some("o".into()), "belongs to an organization without a team", 1),
        (Tag, "tag", |a| a.limits.clear(), "it has no limit", 1),
        (Tag, "tag", |a| a.name.scope = "o".into(), "a tag of one organization", 1),
        (Tag, "tag", |a| a.limits[0].thresholds_percent = vec![50, 70_000], "alerts that no Budget has", 1),
        (Tag, "tag", |a| a.limits[0].window = None, "over a span that no Budget has", 1),
        (Tag, "tag", |a| a.limits[0].amount = "1000000000".parse().unwrap(), "which no Budget has", 1),
    ];
    for (kind, id, change, why, count) in rows {
        let mut accounts = small();
        let account = accounts.iter_mut().find(|one| one.name.kind == kind && one.name.id == id).unwrap();
        change(account);
        let (changed, cascade) = (account.name.clone(), accounts.len());
        // The id that others name.
        if changed.id != id {
            accounts
                .iter_mut()
                .filter(|one| one.team.as_deref() == Some(id))
                .for_each(|one| one.team = Some(changed.id.clone()));
        }
        let exported = export(&accounts, &settings());
        let left =
            exported.left.iter().find(|left| left.account == changed).unwrap_or_else(|| panic!("{why}"));
        assert!(left.why.iter().any(|said| said.contains(why)), "{why}: {left:?}");
        assert_eq!(exported.left.len(), count, "{why}: who belongs to it stays, too: {:#?}", exported.left);
        assert_eq!(
            exported.objects.len() + exported.left.len(),
            cascade,
            "{why}: nothing is dropped silently"
        );
        let text = whole(&exported).unwrap();
        assert!(text.contains(why) && exported.summary().iter().any(|line| line.contains(why)), "{text}");
        // One limit that cannot be said keeps all of it.
        let mut with_limit = small();
        with_limit.iter_mut().find(|one| one.name.kind == Team).unwrap().limits = vec![fixed()];
        assert_eq!(export(&with_limit, &settings()).left.len(), 2);
    }
}

fn rate(model: Option<&str>, observe: bool, limit: u64) -> ListedRate {
    let rate = Rate { kind: RateKind::RequestsPerMinute, limit };
    ListedRate { rate, model: model.map(ToOwned::to_owned), observe }
}

#[test]
fn keys_without_a_team_are_given_one_where_it_is_named() {
    let mut cluster = Cluster::new();
    for number in [1, 2] {
        let mut key = by_api(Key, &format!("k{number}"));
        key.credentials = vec![credential(number)];
        cluster.make_by_api(key);
    }
    let given = Settings { default_team: Some("everybody".into()), ..settings() };
    let exported = export(&list(&cluster), &given);
    assert_eq!((exported.left.len(), exported.objects.len()), (0, 3));
    cluster.apply(&whole(&exported).unwrap());
    cluster.settle();
    let key = &cluster.ledger[&named(Key, "k1")];
    assert_eq!(
        (key.managed_by, key.account.team.as_deref()),
        ("kubernetes", Some("kubernetes/platform/everybody"))
    );
    assert_eq!(export(&list(&cluster), &given), Export::default());
}

#[test]
fn whatever_people_call_things_it_is_yaml_and_one_line() {
    let mut accounts = small();
    let hostile = [
        "a: b #c\n---\nkind: Team",
        "'\"\\",
        "team/with/slash",
        "\u{202e}x",
        &"x".repeat(200),
        "null",
        "2026-01-01",
    ];
    for (index, alias) in hostile.iter().enumerate() {
        let mut key = by_api(Key, &format!("k{index}"));
        (key.alias, key.team) = ((*alias).to_owned(), Some("t".into()));
        key.credentials = vec![credential(100 + u8::try_from(index).unwrap())];
        let mut key = listed(&key, "api");
        key.metadata = vec![format!("note\n{alias}")];
        accounts.push(key);
    }
    let exported = export(&accounts, &settings());
    let text = whole(&exported).unwrap();
    let mut cluster = Cluster::new();
    cluster.apply(&text);
    assert_eq!(cluster.world.virtual_keys.len(), hostile.len() + 1);
    assert_eq!(cluster.world.teams.len(), 1, "{text}");
    let files = exported.files().unwrap();
    assert_eq!(files.len(), 5);
    let mut by_file = Cluster::new();
    files.iter().for_each(|file| by_file.apply(&file.text));
    assert_eq!(by_file.world.virtual_keys.len(), hostile.len() + 1);
    assert!(cluster.world.virtual_keys.contains_key(&name("tollgate/null")));
}

#[test]
fn a_soft_limit_without_a_hard_one_becomes_one_that_observes_and_says_so() {
    let mut accounts = small();
    let soft = ListedLimit {
        amount: "5".parse().unwrap(),
        window: Some(MONTH),
        model: None,
        observe: false,
        soft: true,
        thresholds_percent: vec![100],
    };
    let team = accounts.iter_mut().find(|one| one.name.kind == Team).unwrap();
    team.limits = vec![soft];
    let exported = export(&accounts, &settings());
    assert_eq!(exported.left, []);
    let text = whole(&exported).unwrap();
    assert!(
        text.contains("mode: Observe") && text.contains("# - soft_budget 5 is a Budget that observes"),
        "{text}"
    );
}
