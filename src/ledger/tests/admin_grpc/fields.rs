//! Every field of an account, out of its range.

use crate::paths::without_row;
use crate::world::{World, calendar, key, lifetime, limit, named, session_limit};
use std::collections::BTreeSet;
use tollgate_proto::v1;
use tollgate_proto::v1::RefusalReason::Invalid;

fn good() -> v1::DesiredAccount {
    let rate =
        v1::DesiredRate { kind: v1::RateKind::Parallel.into(), limit: 1, ..v1::DesiredRate::default() };
    v1::DesiredAccount { limits: vec![limit(1, lifetime())], rates: vec![rate], ..key("alice", &[1]) }
}

fn windowed(account: &mut v1::DesiredAccount, kind: Option<v1::window::Kind>) {
    account.limits[0].window = Some(v1::Window { kind });
}

fn billing(day: u32, time_zone: &str) -> Option<v1::window::Kind> {
    Some(v1::window::Kind::BillingDay(v1::window::BillingDay { day, time_zone: time_zone.into() }))
}

type Break = fn(&mut v1::DesiredAccount);

fn table() -> Vec<(&'static str, Break)> {
    use v1::window::Kind;
    vec![
        ("name", |a| a.name = None),
        ("name.kind", |a| a.name = Some(named(v1::AccountKind::Unspecified, "x"))),
        ("name.kind", |a| a.name = Some(named(v1::AccountKind::Session, "x"))),
        ("name.kind", |a| a.name.as_mut().unwrap().kind = 99),
        ("name.id", |a| a.name.as_mut().unwrap().id.clear()),
        ("name.id", |a| a.name.as_mut().unwrap().id = "x".repeat(257)),
        ("name.id", |a| a.name.as_mut().unwrap().id = "a\u{7}".into()),
        ("name.id", |a| {
            a.credentials.clear();
            a.name = Some(named(v1::AccountKind::Tag, "no tag"));
        }),
        ("name.scope", |a| a.name.as_mut().unwrap().scope = "org".into()),
        ("owner_scope", |a| a.owner_scope = "x".repeat(513)),
        ("alias", |a| a.alias = "\n".into()),
        ("team", |a| {
            a.credentials.clear();
            a.name = Some(named(v1::AccountKind::Team, "t"));
            a.team = "t".into();
        }),
        ("organization", |a| {
            a.credentials.clear();
            a.name = Some(named(v1::AccountKind::Organization, "o"));
            a.organization = "o".into();
        }),
        ("models[1]", |a| a.models = vec!["m".into(), String::new()]),
        ("models", |a| a.models = vec!["m".into(); 257]),
        ("limits", |a| a.limits = vec![limit(1, lifetime()); 33]),
        ("limits[1]", |a| a.limits = vec![limit(1, lifetime()), limit(2, lifetime())]),
        ("limits[0].amount", |a| a.limits[0].amount = -1),
        ("limits[0].amount", |a| a.limits[0].amount = i64::MIN),
        ("limits[0].window", |a| a.limits[0].window = None),
        ("limits[0].window", |a| windowed(a, None)),
        ("limits[0].window.calendar.unit", |a| {
            windowed(a, Some(calendar(v1::CalendarUnit::Unspecified, "")))
        }),
        ("limits[0].window.calendar.time_zone", |a| {
            windowed(a, Some(calendar(v1::CalendarUnit::Day, "Mars/Olympus")));
        }),
        ("limits[0].window.billing_day.day", |a| windowed(a, billing(0, ""))),
        ("limits[0].window.billing_day.day", |a| windowed(a, billing(32, ""))),
        ("limits[0].window.billing_day.day", |a| windowed(a, billing(257, ""))),
        ("limits[0].window.billing_day.time_zone", |a| windowed(a, billing(1, "nowhere"))),
        ("limits[0].window.rolling_seconds", |a| windowed(a, Some(Kind::RollingSeconds(59)))),
        ("limits[0].window.rolling_seconds", |a| windowed(a, Some(Kind::RollingSeconds(u32::MAX)))),
        ("limits[0].window.fixed_seconds", |a| windowed(a, Some(Kind::FixedSeconds(0)))),
        ("limits[0].thresholds_percent[0]", |a| a.limits[0].thresholds_percent = vec![0]),
        ("limits[0].thresholds_percent[1]", |a| a.limits[0].thresholds_percent = vec![1, 1_001]),
        ("limits[0].thresholds_percent", |a| a.limits[0].thresholds_percent = vec![1; 17]),
        ("limits[0].model", |a| a.limits[0].model = "x".repeat(257)),
        ("rates[0].kind", |a| a.rates[0].kind = 0),
        ("rates[0].kind", |a| a.rates[0].kind = 99),
        ("rates[0].limit", |a| a.rates[0].limit = u64::MAX),
        ("rates[1]", |a| a.rates.push(a.rates[0].clone())),
        ("session_limit", |a| a.session_limit = Some(-1)),
        ("session_limits[0].amount", |a| a.session_limits = vec![session_limit("x", -1)]),
        ("session_limits[0].amount", |a| a.session_limits = vec![session_limit("x", i64::MAX)]),
        ("session_limits[0].pattern", |a| a.session_limits = vec![session_limit("", 1)]),
        ("session_limits[0].pattern", |a| a.session_limits = vec![session_limit("c i", 1)]),
        ("session_limits[0].pattern", |a| a.session_limits = vec![session_limit(&"x".repeat(129), 1)]),
        ("session_limits[1]", |a| a.session_limits = vec![session_limit("x", 1), session_limit("x", 2)]),
        ("session_limits", |a| a.session_limits = vec![session_limit("x", 1); 65]),
        ("tags[0]", |a| a.tags = vec!["no tag".into()]),
        ("tags", |a| a.tags = vec!["t".into(); 17]),
        ("required_tags[0]", |a| a.required_tags = vec![String::new()]),
        ("forbidden[0]", |a| a.forbidden = vec!["everything".into()]),
        ("expires_at_unix_ms", |a| a.expires_at_unix_ms = Some(-1)),
        ("expires_at_unix_ms", |a| a.expires_at_unix_ms = Some(i64::MAX)),
        ("credentials", |a| a.credentials.clear()),
        ("credentials", |a| a.credentials = key("x", &[1; 17]).credentials),
        ("credentials", |a| a.name = Some(named(v1::AccountKind::Team, "t"))),
        ("credentials[1]", |a| a.credentials = key("x", &[1, 1]).credentials),
        ("credentials[0].digest", |a| a.credentials[0].digest = vec![1; 31]),
        ("credentials[0].name", |a| a.credentials[0].name.clear()),
        ("credentials[0].expires_at_unix_ms", |a| a.credentials[0].expires_at_unix_ms = Some(-1)),
        ("credentials[0].expires_at_unix_ms", |a| a.credentials[0].expires_at_unix_ms = Some(i64::MAX)),
        ("credentials[0].digest", |a| a.credentials[0].digest.clear()),
        ("credentials[0].name", |a| a.credentials[0].name = "x".repeat(257)),
        ("organization", |a| a.organization = "x".repeat(257)),
        ("team", |a| a.team = "a\u{7}".into()),
        ("user", |a| a.user = "x".repeat(257)),
        ("user", |a| {
            a.credentials.clear();
            a.name = Some(named(v1::AccountKind::Team, "t"));
            a.user = "u".into();
        }),
        ("alias", |a| a.alias = "x".repeat(257)),
        ("owner_scope", |a| a.owner_scope = "\n".into()),
        ("owner_scope", |a| a.owner_scope.clear()),
        ("owner_scope", |a| a.owner_scope = "payments/alice".into()),
        ("owner_scope", |a| a.owner_scope = "VirtualKey alice".into()),
        ("owner_scope", |a| a.owner_scope = "VirtualKey Payments/alice".into()),
        ("models[0]", |a| a.models = vec!["x".repeat(257)]),
        ("limits[0].amount", |a| a.limits[0].amount = i64::MAX),
        ("limits[0].model", |a| a.limits[0].model = "\n".into()),
        ("limits[0].window.calendar.unit", |a| {
            windowed(a, Some(Kind::Calendar(v1::window::Calendar { unit: 99, time_zone: String::new() })));
        }),
        ("limits[0].window.fixed_seconds", |a| windowed(a, Some(Kind::FixedSeconds(u32::MAX)))),
        ("limits[0].thresholds_percent[0]", |a| a.limits[0].thresholds_percent = vec![u32::MAX]),
        ("rates", |a| a.rates = vec![a.rates[0].clone(); 33]),
        ("rates[0].kind", |a| a.rates[0].kind = -1),
        ("rates[0].limit", |a| a.rates[0].limit = i64::MAX.unsigned_abs()),
        ("rates[0].model", |a| a.rates[0].model = "x".repeat(257)),
        ("session_limit", |a| a.session_limit = Some(i64::MAX)),
        ("required_tags", |a| a.required_tags = vec!["t".into(); 17]),
        ("forbidden", |a| a.forbidden = vec!["fast_mode".into(); 17]),
    ]
}

pub(crate) async fn every_field_is_checked_and_named(world: World) {
    for (field, break_it) in table() {
        let mut account = good();
        break_it(&mut account);
        let refused = world.refused(account).await;
        assert_eq!((refused.reason(), refused.field.as_str()), (Invalid, field), "{}", refused.message);
        assert!(refused.message.starts_with(field), "{}", refused.message);
    }
    assert_eq!(world.applied(good()).await.0, v1::ApplyResult::Created, "nothing was applied before");
    for (field, account) in deleted() {
        match world.delete(account).await {
            v1::delete_outcome::Outcome::Refused(refused) => {
                assert_eq!(
                    (refused.reason(), refused.field.as_str()),
                    (Invalid, field),
                    "{}",
                    refused.message
                );
            }
            v1::delete_outcome::Outcome::Deleted(deleted) => panic!("{field}: {deleted:?}"),
        }
    }
    assert_eq!(world.applied(good()).await.0, v1::ApplyResult::Unchanged, "nothing was deleted");
}

/// Accounts that cannot be, to be deleted.
fn deleted() -> Vec<(&'static str, v1::DeletedAccount)> {
    let name = |change: fn(&mut v1::AccountName)| {
        let mut name = named(v1::AccountKind::Key, "alice");
        change(&mut name);
        v1::DeletedAccount { name: Some(name), owner_scope: String::new() }
    };
    vec![
        ("name", v1::DeletedAccount::default()),
        ("name.kind", name(|name| name.kind = 0)),
        ("name.kind", name(|name| name.kind = -1)),
        ("name.kind", name(|name| name.kind = v1::AccountKind::Session.into())),
        ("name.id", name(|name| name.id.clear())),
        ("name.id", name(|name| name.id = "x".repeat(257))),
        ("name.scope", name(|name| name.scope = "org".into())),
        ("owner_scope", v1::DeletedAccount { owner_scope: "x".repeat(513), ..name(|_| ()) }),
    ]
}

/// A field that comes needs a row.
#[test]
fn every_field_has_a_row() {
    // `limits[0].amount` is a row of `limits.amount`.
    let path = |field: &str| {
        field.split('.').map(|part| part.split('[').next().unwrap_or_default()).collect::<Vec<_>>().join(".")
    };
    let applied: BTreeSet<String> = table().iter().map(|(field, _)| path(field)).collect();
    let deleted: BTreeSet<String> = deleted().iter().map(|(field, _)| path(field)).collect();
    // Of flags, and of a window that needs nothing, every value means something.
    let anything = [
        "adopt",
        "limits.window.lifetime",
        "limits.observe",
        "limits.soft",
        "rates.observe",
        "client_tags_bind",
        "blocked",
    ];
    assert_eq!(without_row("admin.proto", "DesiredAccount", &[], &applied), anything);
    assert_eq!(without_row("admin.proto", "DeletedAccount", &[], &deleted), Vec::<String>::new());
}
