use super::*;
use crate::store::{AccountSpec, Credential, LimitSpec, RateSpec};
use proptest::prelude::*;
use serde_json::json;
use tollgate_domain::account::{AccountKind, AccountLabel};
use tollgate_domain::ids::KeyDigest;
use tollgate_domain::rate::Rate;
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
        namespace: None,
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
        "budget_duration": "1h", "time_zone": "UTC", "billing_day": null, "rolling": false, "max_budget": 1e-8,
        "spend": 1e-9, "pending": 2e-9, "reset_at": "2026-11-24T13:00:00Z", "observe": false, "thresholds": [],
    }]);
    assert_eq!(day["budget_limits"], hour);
    record.main = None;
    record.spec.budget_duration = None;
    record.limits = vec![limit(100, None, true)];
    let lifetime = shown(&record);
    assert_eq!((&lifetime["max_budget"], &lifetime["budget_duration"]), (&json!(1e-7), &Value::Null));
}

#[test]
fn metadata_shows_the_tags() {
    let mut record = record();
    record.spec.tags = vec!["a".parse().unwrap()];
    record.spec.metadata = json!({"note": "x"}).as_object().unwrap().clone();
    let view = shown(&record);
    assert_eq!((&view["tags"], &view["metadata"]), (&json!(["a"]), &json!({"note": "x", "tags": ["a"]})));
}

#[test]
fn limits_stand_where_they_were_given() {
    let mut record = record();
    let mut main = limit(100, Some("1mo"), true);
    main.spec.window = "anchored/15/Asia/Tokyo".parse().unwrap();
    main.spec.thresholds = vec![90];
    let mut soft = limit(50, Some("1mo"), false);
    soft.spec.soft = true;
    let mut model = limit(10, None, false);
    model.spec.model = Some("m".into());
    record.spec.limits = vec![main.spec.clone(), soft.spec.clone(), model.spec.clone()];
    record.limits = vec![main, soft, model];
    let view = shown(&record);
    assert_eq!((&view["max_budget"], &view["soft_budget"]), (&json!(1e-7), &json!(5e-8)));
    let main = ["budget_time_zone", "budget_billing_day", "budget_rolling", "alert_thresholds"];
    let expected = [json!("Asia/Tokyo"), json!(15), json!(false), json!([90])];
    assert_eq!(main.map(|name| view[name].clone()), expected);
    assert_eq!(
        (&view["budget_limits"], &view["model_max_budget"]["m"]["max_budget"]),
        (&json!([]), &json!(1e-8))
    );
}

#[test]
fn rates_stand_under_their_fields() {
    let mut record = record();
    let spec = |kind, limit, model: Option<&str>| RateSpec {
        rate: Rate { kind, limit },
        model: model.map(str::to_owned),
        observe: true,
    };
    record.spec.rates = vec![
        spec(RateKind::RequestsPerMinute, 1, None),
        spec(RateKind::TokensPerMinute, 2, None),
        spec(RateKind::TokensPerDay, 3, None),
        spec(RateKind::Parallel, 4, None),
        spec(RateKind::RequestsPerMinute, 5, Some("m")),
        spec(RateKind::TokensPerMinute, 6, Some("m")),
    ];
    let label = AccountLabel { kind: AccountKind::Key, alias: String::new() };
    let rate = Rate { kind: RateKind::TokensPerDay, limit: 3 };
    record.rates = vec![RateNow { account: label, rate, remaining: 2, resets_at: MIDNIGHT }];
    let view = shown(&record);
    let names = ["rpm_limit", "tpm_limit", "tpd_limit", "max_parallel_requests"];
    assert_eq!(names.map(|name| view[name].clone()), [1, 2, 3, 4].map(Value::from));
    let models = ["model_rpm_limit", "model_tpm_limit"].map(|name| view[name].clone());
    assert_eq!(models, [json!({"m": 5}), json!({"m": 6})]);
    let now = json!([{"name": "tpd_limit", "limit": 3, "remaining": 2, "reset_at": "2026-11-25T00:00:00Z"}]);
    assert_eq!((&view["rates"], &view["observe_rates"]), (&now, &json!(true)));
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
