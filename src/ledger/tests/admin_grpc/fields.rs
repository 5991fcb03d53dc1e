//! Every field of an account, out of its range.

use crate::world::{World, calendar, key, lifetime, limit, named};
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

pub(crate) async fn every_field_is_checked_and_named(world: World) {
    use v1::window::Kind;
    type Break = fn(&mut v1::DesiredAccount);
    let table: Vec<(&str, Break)> = vec![
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
    ];
    for (field, break_it) in table {
        let mut account = good();
        break_it(&mut account);
        let refused = world.refused(account).await;
        assert_eq!((refused.reason(), refused.field.as_str()), (Invalid, field), "{}", refused.message);
        assert!(refused.message.starts_with(field), "{}", refused.message);
    }
    assert_eq!(world.applied(good()).await.0, v1::ApplyResult::Created, "nothing was applied before");
    let deleted = world.delete(v1::DeletedAccount::default()).await;
    assert!(matches!(deleted, v1::delete_outcome::Outcome::Refused(refused) if refused.field == "name"));
}
