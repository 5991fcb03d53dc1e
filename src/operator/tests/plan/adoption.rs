//! Accounts of the admin API that objects take over: the same account, with what it has spent and with the keys that people hold.

use crate::cluster::{Cluster, HOUR_MS, START, condition, name};
use std::collections::BTreeSet;
use tollgate_domain::account::AccountKind::{self, Key, Tag, Team};
use tollgate_domain::account::AccountName;
use tollgate_domain::ids::KeyDigest;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::session::SessionLimits;
use tollgate_domain::window::{CalendarUnit, Window, Zone};
use tollgate_operator::plan::{Account, Action, CaBundle, Credential, Kind, Limit};
use tollgate_operator::resources::ROTATE_ANNOTATION;

pub(crate) const MONTH: Window = Window::Calendar(CalendarUnit::Months(1), Zone::UTC);
const HELD: KeyDigest = KeyDigest::new([77; 32]);

pub(crate) fn named(kind: AccountKind, id: &str) -> AccountName {
    AccountName { kind, scope: String::new(), id: id.into() }
}

/// An account as the admin API makes it.
pub(crate) fn by_api(kind: AccountKind, id: &str) -> Account {
    Account {
        name: named(kind, id),
        owner_scope: String::new(),
        adopt: false,
        alias: id.into(),
        organization: None,
        team: None,
        user: None,
        models: vec![],
        limits: vec![],
        rates: vec![],
        session_limit: None,
        session_limits: SessionLimits::default(),
        tags: vec![],
        required_tags: vec![],
        client_tags_bind: false,
        forbidden: vec![],
        blocked: Some(false),
        expires_at: None,
        credentials: vec![],
    }
}

pub(crate) fn limit(dollars: &str, window: Window) -> Limit {
    let amount = dollars.parse::<Nanodollars>().unwrap();
    Limit { window, model: None, soft: false, observe: false, amount, thresholds_percent: vec![50, 80, 100] }
}

fn api_team() -> Account {
    Account { limits: vec![limit("100", MONTH)], ..by_api(Team, "t-1") }
}

fn api_key() -> Account {
    let credential = Credential { digest: HELD, name: "sk-...held".into(), expires_at: None };
    Account { team: Some("t-1".into()), credentials: vec![credential], ..by_api(Key, "k-1") }
}

const TEAM: &str = "
kind: Team
metadata: {name: payments, namespace: platform}
spec: {adopt: t-1, allowedNamespaces: {from: All}}
";

const BUDGET: &str = r#"
kind: Budget
metadata: {name: team-payments, namespace: platform}
spec:
  targetRef: {kind: Team, name: payments}
  limits: [{amount: "100", period: Month}]
  alerts: [{percent: 50}, {percent: 80}, {percent: 100}]
"#;

const KEY: &str = "
kind: VirtualKey
metadata: {name: alice, namespace: tollgate}
spec: {adopt: k-1, teamRef: {name: payments, namespace: platform}}
";

/// A ledger of the admin API, in which both have spent.
fn books() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.make_by_api(api_team());
    cluster.make_by_api(api_key());
    cluster.spend(&named(Team, "t-1"), "30");
    cluster.spend(&named(Key, "k-1"), "7");
    cluster
}

fn moved() -> Cluster {
    let mut cluster = books();
    cluster.apply(&format!("{BUDGET}---{TEAM}---{KEY}"));
    cluster.settle();
    cluster
}

fn works(cluster: &Cluster) -> BTreeSet<KeyDigest> {
    let held = &cluster.ledger[&named(Key, "k-1")];
    let living = |one: &&Credential| !held.deleted && one.expires_at.is_none_or(|at| at > cluster.now);
    held.account.credentials.iter().filter(living).map(|one| one.digest).collect()
}

fn of_team(cluster: &Cluster, object: &str, kind: &str) -> String {
    let status = cluster.world.teams[&name(object)].status.clone().unwrap_or_default();
    condition(&status.conditions, kind)
}

fn of_key(cluster: &Cluster, object: &str, kind: &str) -> String {
    condition(&cluster.key_status(object).conditions, kind)
}

#[test]
fn an_adopted_account_is_the_same_account() {
    let cluster = moved();
    let team = &cluster.ledger[&named(Team, "t-1")];
    assert_eq!(
        (team.managed_by, team.account.owner_scope.as_str()),
        ("kubernetes", "Team platform/payments@kubernetes")
    );
    assert_eq!(team.account.limits, [limit("100", MONTH)]);
    let status = cluster.world.teams[&name("platform/payments")].status.clone().unwrap();
    assert_eq!(condition(&status.conditions, "Ready"), "True Ready");
    assert_eq!(status.spending.spend.as_deref(), Some("30"));
    let budget = cluster.budget_status("platform/team-payments");
    assert_eq!(budget.tightest.unwrap().available.as_deref(), Some("70"));
    let key = &cluster.ledger[&named(Key, "k-1")].account;
    assert_eq!(key.team.as_deref(), Some("t-1"));
    assert_eq!(cluster.ledger.len(), 2, "nothing was made beside");
}

#[test]
fn an_adopted_key_works_on_and_has_no_secret() {
    let cluster = moved();
    assert_eq!(works(&cluster), [HELD].into());
    assert!(cluster.secrets.is_empty());
    let status = cluster.key_status("tollgate/alice");
    assert_eq!(condition(&status.conditions, "Ready"), "True Ready");
    assert_eq!((status.key_name.as_deref(), status.secret_name), (Some("sk-...held"), None));
    assert_eq!(status.spending.spend.as_deref(), Some("7"));
}

#[test]
fn the_first_rotation_of_an_adopted_key_makes_its_secret_and_overlaps() {
    let mut cluster = moved();
    cluster.annotate("tollgate/alice", ROTATE_ANNOTATION, "1");
    cluster.settle();
    let new = cluster.in_secret("tollgate/alice");
    assert_eq!(works(&cluster), [HELD, new].into());
    let status = cluster.key_status("tollgate/alice");
    assert_eq!(status.secret_name.as_deref(), Some("alice"));
    assert_eq!(status.previous[0].key_name, "sk-...held");
    cluster.restart_operator();
    cluster.settle();
    assert_eq!(works(&cluster), [HELD, new].into());
    cluster.pass(START.plus_ms(24 * HOUR_MS));
    assert_eq!(works(&cluster), [new].into());
    // From here on it is a key like every other.
    cluster.delete_secret("tollgate/alice");
    cluster.settle();
    assert_eq!(works(&cluster), [cluster.in_secret("tollgate/alice")].into());
    assert_ne!(cluster.in_secret("tollgate/alice"), new);
}

#[test]
fn a_schedule_counts_from_the_making_of_the_object() {
    let mut cluster = books();
    let key = "
kind: VirtualKey
metadata: {name: alice, namespace: tollgate}
spec: {adopt: k-1, teamRef: {name: payments, namespace: platform}, rotation: {every: 720h, overlap: 24h}}
";
    cluster.apply(&format!("{BUDGET}---{TEAM}---{key}"));
    cluster.settle();
    assert_eq!(cluster.plan().wake_at, Some(START.plus_ms(720 * HOUR_MS)));
    cluster.pass(START.plus_ms(720 * HOUR_MS));
    assert_eq!(works(&cluster), [HELD, cluster.in_secret("tollgate/alice")].into());
    cluster.pass(START.plus_ms(744 * HOUR_MS));
    assert_eq!(works(&cluster), [cluster.in_secret("tollgate/alice")].into());
}

#[test]
fn whoever_does_not_speak_for_the_platform_adopts_nothing() {
    let mut cluster = moved();
    let key = "
kind: VirtualKey
metadata: {name: mallory, namespace: payments}
spec: {adopt: k-1, teamRef: {name: payments, namespace: platform}}
";
    cluster.apply(key);
    cluster.apply("kind: Team\nmetadata: {name: own, namespace: payments}\nspec: {adopt: t-1}\n");
    cluster.settle();
    assert_eq!(of_key(&cluster, "payments/mallory", "Accepted"), "False AdoptionNotPermitted");
    assert_eq!(of_team(&cluster, "payments/own", "Accepted"), "False NamespaceNotListed");
    let status = cluster.key_status("payments/mallory");
    assert_eq!((status.spending.spend, status.key_name), (None, None), "nothing is told of it");
    assert_eq!(works(&cluster), [HELD].into());
    assert_eq!(
        cluster.ledger[&named(Key, "k-1")].account.owner_scope,
        "VirtualKey tollgate/alice@kubernetes"
    );
    // Nor does it take anything away when it goes.
    cluster.delete(Kind::VirtualKey, "payments/mallory");
    cluster.settle();
    assert!(!cluster.world.virtual_keys.contains_key(&name("payments/mallory")));
    assert_eq!(works(&cluster), [HELD].into());
}

#[test]
fn a_key_is_adopted_in_the_release_namespace_alone() {
    let mut cluster = books();
    // Whoever edits there makes keys, too.
    let key = KEY.replace("namespace: tollgate", "namespace: platform");
    cluster.apply(&format!("{BUDGET}---{TEAM}---{key}"));
    cluster.settle();
    assert_eq!(of_key(&cluster, "platform/alice", "Accepted"), "False AdoptionNotPermitted");
    assert_eq!(cluster.ledger[&named(Key, "k-1")].managed_by, "api");
    assert_eq!(cluster.key_status("platform/alice").key_name, None, "nothing is told of it");
    cluster.apply(KEY);
    cluster.settle();
    assert_eq!(of_key(&cluster, "tollgate/alice", "Ready"), "True Ready");
}

#[test]
fn an_adopted_account_whose_object_does_not_count_for_a_while_is_left_as_it_is() {
    let changes: [fn(&mut Cluster); 3] = [
        |cluster| cluster.settings.platform_namespaces.clear(),
        |cluster| cluster.apply(&TEAM.replace("from: All", "from: Same")),
        |cluster| cluster.apply(&TEAM.replace("spec: {", "spec: {maxKeys: 0, ")),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut cluster = moved();
        let before = format!("{:?}", cluster.ledger);
        change(&mut cluster);
        cluster.settle();
        assert!(of_key(&cluster, "tollgate/alice", "Ready").starts_with("False "), "{index}");
        cluster.restart_operator();
        cluster.settle();
        assert_eq!(format!("{:?}", cluster.ledger), before, "{index}");
        assert_eq!(works(&cluster), [HELD].into());
        let mut back = cluster.clone();
        back.settings.platform_namespaces = ["platform".to_owned()].into();
        back.apply(TEAM);
        back.settle();
        assert_eq!(of_key(&back, "tollgate/alice", "Ready"), "True Ready", "{index}");
        assert_eq!(works(&back), [HELD].into());
        // Who deletes the object means it.
        cluster.delete(Kind::VirtualKey, "tollgate/alice");
        cluster.delete(Kind::Team, "platform/payments");
        cluster.settle();
        assert!(cluster.ledger.values().all(|held| held.deleted), "{index}: {:?}", cluster.ledger);
        assert!(cluster.world.virtual_keys.is_empty() && cluster.world.teams.is_empty());
    }
}

#[test]
fn whom_an_adopted_account_belongs_to_and_who_belongs_to_it_is_left_with_it() {
    let mut cluster = moved();
    let own = "kind: VirtualKey\nmetadata: {name: own, namespace: payments}\n\
               spec: {teamRef: {name: payments, namespace: platform}}\n";
    cluster.apply(own);
    cluster.make_by_api(Account { credentials: api_key().credentials, ..by_api(Key, "k-2") });
    cluster.apply("kind: Team\nmetadata: {name: everybody, namespace: platform}\nspec: {allowedNamespaces: {from: All}}\n");
    cluster.apply(
        "kind: VirtualKey\nmetadata: {name: teamless, namespace: tollgate}\n\
         spec: {adopt: k-2, teamRef: {name: everybody, namespace: platform}}\n",
    );
    cluster.settle();
    assert_eq!(of_key(&cluster, "tollgate/teamless", "Ready"), "True Ready");
    cluster.settings.platform_namespaces.clear();
    cluster.settle();
    assert_eq!(of_team(&cluster, "platform/everybody", "Accepted"), "False NamespaceNotListed");
    assert!(cluster.ledger.values().all(|held| !held.deleted), "{:?}", cluster.ledger);
    assert_eq!(cluster.works("payments/own"), [cluster.in_secret("payments/own")].into());
    // Who deletes whom it belongs to deletes it, too.
    cluster.delete(Kind::Team, "platform/everybody");
    cluster.settle();
    assert!(!cluster.world.teams.contains_key(&name("platform/everybody")));
    assert!(cluster.ledger[&named(Key, "k-2")].deleted && !cluster.ledger[&named(Key, "k-1")].deleted);
}

#[test]
fn whose_an_adopted_account_is_says_its_scope_and_not_its_id() {
    let mut east = Cluster::new();
    east.settings.cluster = "east".into();
    east.make_by_api(by_api(Team, "west/payments"));
    east.apply("kind: Team\nmetadata: {name: payments, namespace: platform}\nspec: {adopt: west/payments}\n");
    east.settle();
    assert_eq!(east.ledger[&named(Team, "west/payments")].account.owner_scope, "Team platform/payments@east");
    // To another cluster on the same ledger it looks like one of its own.
    let mut west = Cluster::new();
    west.settings.cluster = "west".into();
    west.ledger = east.ledger;
    west.hear_everything();
    west.settle();
    assert!(!west.ledger[&named(Team, "west/payments")].deleted);
    assert!(!west.carried_out.iter().any(|action| matches!(action, Action::Delete(_))));
}

#[test]
fn a_rotated_key_whose_secret_is_lost_gets_another_also_where_none_is_taken_for_a_while() {
    let mut cluster = moved();
    cluster.annotate("tollgate/alice", ROTATE_ANNOTATION, "1");
    cluster.settle();
    let issued_at = cluster.key_status("tollgate/alice").issued_at;
    assert!(issued_at.is_some());
    cluster.pass(START.plus_ms(24 * HOUR_MS));
    cluster.no_secrets = Some("exceeded quota: secrets".into());
    cluster.delete_secret("tollgate/alice");
    cluster.settle();
    assert_eq!(of_key(&cluster, "tollgate/alice", "Ready"), "False SecretRefused");
    assert_eq!(cluster.key_status("tollgate/alice").issued_at, issued_at);
    cluster.no_secrets = None;
    cluster.pass(START.plus_ms(25 * HOUR_MS));
    assert_eq!(works(&cluster), [cluster.in_secret("tollgate/alice")].into(), "nothing that was lost");
}

#[test]
fn an_adopted_key_whose_rotation_waits_for_authorities_works_on() {
    let mut cluster = moved();
    let held = works(&cluster);
    cluster.settings.ca_bundle = CaBundle::Unknown;
    cluster.apply(&KEY.replace("{adopt", "{blocked: true, adopt"));
    cluster.annotate("tollgate/alice", ROTATE_ANNOTATION, "1");
    cluster.settle();
    assert_eq!(works(&cluster), held);
    assert_eq!(cluster.ledger[&named(Key, "k-1")].account.blocked, Some(true));
    assert_eq!(of_key(&cluster, "tollgate/alice", "Ready"), "False AuthoritiesUnknown");
    cluster.settings.ca_bundle = CaBundle::Known("CA".into());
    cluster.settle();
    let new = cluster.in_secret("tollgate/alice");
    assert_eq!(works(&cluster), held.into_iter().chain([new]).collect());
}

#[test]
fn of_two_that_adopt_the_same_the_older_has_it() {
    let mut cluster = moved();
    cluster.now = cluster.now.plus_ms(60_000);
    cluster.apply("kind: Team\nmetadata: {name: other, namespace: tollgate}\nspec: {adopt: t-1}\n");
    cluster.settle();
    assert_eq!(of_team(&cluster, "tollgate/other", "Accepted"), "False AdoptedByAnother");
    assert_eq!(of_team(&cluster, "platform/payments", "Ready"), "True Ready");
    let status = cluster.world.teams[&name("tollgate/other")].status.clone().unwrap();
    assert_eq!(status.spending.spend, None);
    // The younger one has it when the older one is gone, with what was spent.
    cluster.delete(Kind::Team, "platform/payments");
    cluster.delete(Kind::VirtualKey, "tollgate/alice");
    cluster.settle();
    let team = &cluster.ledger[&named(Team, "t-1")];
    assert!(!team.deleted);
    assert_eq!(team.account.owner_scope, "Team tollgate/other@kubernetes");
    assert_eq!(team.posted, "30".parse().unwrap());
}

#[test]
fn what_another_cluster_manages_is_refused_with_a_reason() {
    let mut cluster = books();
    let theirs = Account { owner_scope: "Team platform/payments@elsewhere".into(), ..api_team() };
    cluster.make_by_api(theirs);
    cluster.ledger.get_mut(&named(Team, "t-1")).unwrap().managed_by = "kubernetes";
    cluster.hear_everything();
    cluster.apply(&format!("{BUDGET}---{TEAM}"));
    cluster.settle();
    assert_eq!(of_team(&cluster, "platform/payments", "Programmed"), "False RefusedByLedger");
    let status = cluster.world.teams[&name("platform/payments")].status.clone().unwrap();
    assert_eq!(status.spending.spend, None, "another's money is not shown");
    cluster.delete(Kind::Team, "platform/payments");
    cluster.settle();
    assert!(!cluster.ledger[&named(Team, "t-1")].deleted, "nor taken away");
    assert!(cluster.world.teams.is_empty());
}

#[test]
fn what_never_was_is_not_made() {
    let mut cluster = Cluster::new();
    cluster.apply(&format!("{BUDGET}---{TEAM}---{KEY}"));
    cluster.settle();
    assert_eq!(of_team(&cluster, "platform/payments", "Programmed"), "False RefusedByLedger");
    assert!(cluster.ledger.is_empty() && cluster.secrets.is_empty());
}

#[test]
fn what_is_of_an_object_is_not_adopted() {
    let mut cluster = moved();
    cluster.apply("kind: Team\nmetadata: {name: own, namespace: platform}\nspec: {}\n");
    cluster.apply(
        "kind: Team\nmetadata: {name: thief, namespace: platform}\nspec: {adopt: kubernetes/platform/own}\n",
    );
    cluster.settle();
    assert_eq!(of_team(&cluster, "platform/thief", "Accepted"), "False AdoptionNotPermitted");
    assert_eq!(of_team(&cluster, "platform/own", "Ready"), "True Ready");
}

#[test]
fn an_account_is_left_as_it_is_until_each_of_its_limits_is_written() {
    let mut cluster = books();
    cluster.apply(&format!("{TEAM}---{KEY}"));
    cluster.settle();
    let team = &cluster.ledger[&named(Team, "t-1")];
    assert_eq!((team.managed_by, team.account.limits.len()), ("api", 1));
    assert_eq!(of_team(&cluster, "platform/payments", "Programmed"), "False LimitsMissing");
    assert_eq!(cluster.ledger[&named(Key, "k-1")].managed_by, "kubernetes", "it has none");
    cluster.apply(BUDGET);
    cluster.settle();
    assert_eq!(of_team(&cluster, "platform/payments", "Ready"), "True Ready");
    assert_eq!(cluster.ledger[&named(Team, "t-1")].account.limits, [limit("100", MONTH)]);
    // From then on Git says what counts.
    cluster.delete(Kind::Budget, "platform/team-payments");
    cluster.settle();
    assert!(cluster.ledger[&named(Team, "t-1")].account.limits.is_empty());
}

#[test]
fn a_limit_that_refuses_is_not_written_by_one_that_observes() {
    let mut cluster = books();
    let soft = Limit { soft: true, thresholds_percent: vec![100], ..limit("50", MONTH) };
    cluster.make_by_api(Account { limits: vec![limit("100", MONTH), soft], ..api_team() });
    let observes = "
kind: Budget
metadata: {name: team-payments-2, namespace: platform}
spec: {targetRef: {kind: Team, name: payments}, mode: Observe, limits: [{amount: \"50\", period: Month}]}
";
    cluster.apply(&format!("{observes}---{TEAM}"));
    cluster.settle();
    assert_eq!(of_team(&cluster, "platform/payments", "Programmed"), "False LimitsMissing");
    let team = &cluster.ledger[&named(Team, "t-1")];
    assert_eq!((team.managed_by, team.account.limits.len()), ("api", 2));
    cluster.apply(BUDGET);
    cluster.settle();
    assert_eq!(of_team(&cluster, "platform/payments", "Ready"), "True Ready");
    assert_eq!(cluster.ledger[&named(Team, "t-1")].account.limits.len(), 2);
}

#[test]
fn a_limit_over_a_span_that_no_budget_has_keeps_an_account_with_the_api() {
    let mut cluster = books();
    let fixed = Window::Fixed { seconds: 18_000 };
    cluster.make_by_api(Account { limits: vec![limit("100", MONTH), limit("5", fixed)], ..api_team() });
    cluster.apply(&format!("{BUDGET}---{TEAM}"));
    cluster.settle();
    assert_eq!(of_team(&cluster, "platform/payments", "Programmed"), "False LimitsMissing");
    assert_eq!(cluster.ledger[&named(Team, "t-1")].managed_by, "api");
}

#[test]
fn a_restart_at_any_moment_of_an_adoption_ends_in_the_same_state() {
    let finished = moved();
    let expected = format!("{:?}", finished.ledger);
    let moments = (0..).take_while(|moment| {
        let mut cluster = books();
        cluster.apply(&format!("{BUDGET}---{TEAM}---{KEY}"));
        let mut carried = 0;
        let mut interrupted = false;
        'rounds: for _ in 0..30 {
            for action in cluster.plan().actions {
                if carried == *moment {
                    interrupted = true;
                    break 'rounds;
                }
                cluster.carry_out(action);
                carried += 1;
            }
        }
        cluster.restart_operator();
        cluster.settle();
        assert_eq!(format!("{:?}", cluster.ledger), expected, "after {moment} actions");
        assert!(cluster.secrets.is_empty());
        interrupted
    });
    assert!(moments.count() > 5);
}

#[test]
fn a_restart_changes_nothing_of_what_was_adopted() {
    let mut cluster = moved();
    let before = format!("{:?}", cluster.ledger);
    cluster.restart_operator();
    cluster.settle();
    assert_eq!(format!("{:?}", cluster.ledger), before);
    let wrote = |action: &Action| matches!(action, Action::SetStatus { .. } | Action::Issue(_));
    assert!(!cluster.carried_out.iter().any(wrote), "{:#?}", cluster.carried_out);
}

#[test]
fn a_deleted_object_takes_its_adopted_account_away_as_every_one_does() {
    let mut cluster = moved();
    cluster.delete(Kind::VirtualKey, "tollgate/alice");
    cluster.settle();
    assert!(works(&cluster).is_empty());
    assert!(cluster.world.virtual_keys.is_empty());
    // Made again from the same manifest it goes on from there, with a new key: the old one was given up.
    cluster.apply(KEY);
    cluster.settle();
    assert_eq!(works(&cluster), [cluster.in_secret("tollgate/alice")].into());
    assert_eq!(cluster.ledger[&named(Key, "k-1")].posted, "7".parse().unwrap());
    assert_eq!(cluster.ledger.len(), 2);
    cluster.restart_operator();
    cluster.settle();
    assert_eq!(works(&cluster), [cluster.in_secret("tollgate/alice")].into());
}

#[test]
fn a_ledger_restored_from_before_the_adoption_is_adopted_again() {
    let mut cluster = moved();
    let expected = format!("{:?}", cluster.ledger[&named(Key, "k-1")].account);
    cluster.ledger = books().ledger;
    cluster.hear_everything();
    cluster.settle();
    assert_eq!(format!("{:?}", cluster.ledger[&named(Key, "k-1")].account), expected);
    assert_eq!(works(&cluster), [HELD].into());
}

#[test]
fn a_ledger_restored_from_before_the_deletion_gives_no_key_back() {
    let mut cluster = moved();
    let before = cluster.ledger.clone();
    cluster.delete(Kind::VirtualKey, "tollgate/alice");
    cluster.settle();
    cluster.ledger = before;
    cluster.hear_everything();
    assert_eq!(works(&cluster), [HELD].into());
    cluster.settle();
    assert!(works(&cluster).is_empty());
}

#[test]
fn a_tag_of_the_api_is_adopted_where_a_budget_says_so() {
    let budget = |adopt: &str| {
        format!(
            "kind: Budget\nmetadata: {{name: tag, namespace: tollgate}}\n\
             spec: {{targetRef: {{kind: Tag, name: \"project:x\"}}, {adopt}limits: [{{amount: \"5\", period: Day}}]}}\n"
        )
    };
    let mut cluster = Cluster::new();
    let day = Window::Calendar(CalendarUnit::Day, Zone::UTC);
    cluster.make_by_api(Account { limits: vec![limit("9", day)], ..by_api(Tag, "project:x") });
    cluster.spend(&named(Tag, "project:x"), "2");
    cluster.apply(&budget(""));
    cluster.settle();
    assert_eq!(
        condition(&cluster.budget_status("tollgate/tag").conditions, "Programmed"),
        "False RefusedByLedger"
    );
    cluster.apply(&budget("adopt: \"project:x\", "));
    cluster.settle();
    let status = cluster.budget_status("tollgate/tag");
    assert_eq!(condition(&status.conditions, "Ready"), "True Ready");
    assert_eq!(status.tightest.unwrap().available.as_deref(), Some("3"));
    assert_eq!(cluster.ledger[&named(Tag, "project:x")].account.owner_scope, "Tag kubernetes/project:x");
}
