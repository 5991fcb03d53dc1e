use super::*;
use crate::store::{AccountSpec, Credential, LimitSpec};
use proptest::prelude::*;
use serde_json::json;
use tollgate_domain::account::AccountKind;
use tollgate_domain::ids::KeyDigest;
use tollgate_domain::window::{Period, Window};

const NOON: Timestamp = Timestamp::new(1_795_521_600_000);
const MIDNIGHT: Timestamp = Timestamp::new(1_795_564_800_000);

fn nanos(amount: i64) -> Nanodollars {
    Nanodollars::new(amount)
}

fn record() -> AccountRecord {
    AccountRecord {
        kind: AccountKind::Key,
        id: "key-1".into(),
        spec: AccountSpec::default(),
        credential: Some(Credential { digest: KeyDigest::new([0x0B; 32]), name: "sk-...wxyz".into() }),
        rates: Vec::new(),
        limits: Vec::new(),
        posted: nanos(7),
        pending: nanos(8),
        main: None,
        created_by: "admin".into(),
        created_at: NOON,
        updated_at: NOON,
        last_active_at: None,
    }
}

fn limit(amount: i64, duration: Option<&str>, main: bool) -> LimitRecord {
    let window = duration.map_or(Window::Lifetime, |text| Window::from_duration(text).unwrap());
    let spec = LimitSpec { main, ..LimitSpec::new(nanos(amount), window, duration.map(str::to_owned)) };
    let period = window.period_at(NOON).unwrap();
    LimitRecord { spec, period, posted: nanos(1), pending: nanos(2) }
}

fn shown(record: &AccountRecord) -> Value {
    serde_json::to_string(&KeyView::new(record, None)).unwrap().parse().unwrap()
}

#[test]
fn spend_is_that_of_the_main_window_or_of_the_whole_life() {
    let life = shown(&record());
    assert_eq!(
        (&life["spend"], &life["pending"], &life["budget_reset_at"]),
        (&json!(7e-9), &json!(8e-9), &Value::Null)
    );
    let day = Period { start: NOON, end: Some(MIDNIGHT) };
    let mut record = record();
    record.main = Some((day, nanos(3), nanos(4)));
    record.spec.budget_duration = Some("1d".into());
    record.limits = vec![limit(100, Some("1d"), true), limit(10, Some("1h"), false)];
    let day = shown(&record);
    assert_eq!((&day["spend"], &day["pending"]), (&json!(3e-9), &json!(4e-9)));
    assert_eq!((&day["budget_reset_at"], &day["max_budget"]), (&json!("2026-11-25T00:00:00Z"), &json!(1e-7)));
    let hour = json!([{
        "budget_duration": "1h", "max_budget": 1e-8, "spend": 1e-9, "pending": 2e-9, "reset_at": "2026-11-24T13:00:00Z", "observe": false,
    }]);
    assert_eq!(day["budget_limits"], hour);
    record.main = None;
    record.spec.budget_duration = None;
    record.limits = vec![limit(100, None, true)];
    let lifetime = shown(&record);
    assert_eq!((&lifetime["max_budget"], &lifetime["budget_duration"]), (&json!(1e-7), &Value::Null));
}

#[test]
fn metadata_shows_the_tags_and_not_what_stands_beside_it() {
    let mut record = record();
    record.spec.tags = vec!["a".parse().unwrap()];
    record.spec.metadata = json!({"soft_budget": "0.000000001", "note": "x"}).as_object().unwrap().clone();
    let view = shown(&record);
    assert_eq!((&view["soft_budget"], &view["tags"]), (&json!(1e-9), &json!(["a"])));
    assert_eq!(view["metadata"], json!({"note": "x", "tags": ["a"]}));
    record.spec.metadata = json!({"soft_budget": {"mine": true}}).as_object().unwrap().clone();
    let view = shown(&record);
    assert_eq!(
        (&view["soft_budget"], &view["metadata"]["soft_budget"]),
        (&Value::Null, &json!({"mine": true}))
    );
}

#[test]
fn a_key_in_a_team_shows_the_organization_of_the_team() {
    let organization = |own: Option<&str>, above: Option<&str>| {
        let mut record = record();
        record.spec.owners.organization = own.map(str::to_owned);
        KeyView::new(&record, above.map(str::to_owned)).organization_id
    };
    assert_eq!(organization(None, None), None);
    assert_eq!(organization(None, Some("o")).as_deref(), Some("o"));
    assert_eq!(organization(Some("o"), None).as_deref(), Some("o"));
}

proptest! {
    #[test]
    fn an_amount_is_a_number_of_its_own_digits(amount: i64) {
        let amount = nanos(amount);
        let text = serde_json::to_string(&Money(amount)).unwrap();
        prop_assert_eq!(&text, &amount.to_string());
        prop_assert!(serde_json::from_str::<serde_json::Number>(&text).is_ok());
    }
}
