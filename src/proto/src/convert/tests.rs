use super::*;

pub(super) fn ask() -> HoldAsk {
    HoldAsk {
        id: HoldId::new([1; 16]),
        key: KeyDigest::new([2; 32]),
        policy_version: vec![3, 4],
        model: ModelName::new("claude-x"),
        provider: Provider::Anthropic,
        api: Api::Messages,
        bounds: Bounds {
            input: 5,
            input_per_call: 4,
            cache_write_5m: 3,
            cache_write_1h: 2,
            output: 1,
            web_searches: 9,
        },
        modifiers: Modifiers {
            service_tier: Some("batch".into()),
            speed: Some("fast".into()),
            inference_geo: Some("us".into()),
        },
        fallback_models: vec![ModelName::new("claude-y")],
        tags: vec!["project:x".parse().unwrap()],
        session: Some("s".into()),
        end_user: Some("u".into()),
        client: Some("claude-cli".into()),
        catalogue_revision: 7,
    }
}

pub(super) fn settlement() -> Settlement {
    let usage =
        Usage { input: 1, cache_read: 2, cache_write_5m: 3, cache_write_1h: 4, output: 5, web_searches: 6 };
    Settlement {
        usage: Some(usage),
        estimated: true,
        end: End::ClientLeft,
        model: Some("m".into()),
        modifiers: Modifiers { service_tier: Some("priority".into()), ..Modifiers::default() },
        extra: vec![("other".into(), usage)],
        status: 200,
        duration_ms: 7,
        first_byte_ms: 8,
    }
}

pub(super) fn label() -> AccountLabel {
    AccountLabel { kind: AccountKind::Team, alias: "engineering".into() }
}

pub(super) fn amounts() -> Amounts {
    Amounts {
        limit: Nanodollars::new(1),
        posted: Nanodollars::new(2),
        pending: Nanodollars::new(3),
        requested: Nanodollars::new(4),
    }
}

pub(super) fn policy() -> Policy {
    Policy {
        version: vec![1],
        accounts: vec![label()],
        blocked: Some(label()),
        expires_at: Some(Timestamp::new(5)),
        allow_lists: vec![LevelList {
            level: AccountKind::Key,
            list: AllowList::new(["claude-*"]),
            patterns: vec!["claude-*".into()],
        }],
        tags: vec!["a".parse().unwrap()],
        forbidden: vec![tollgate_domain::extra::Extra::FastMode],
        required_tags: vec!["project".parse().unwrap()],
    }
}

fn rate(kind: RateKind, limit: u64) -> RateNow {
    let rate = Rate { kind, limit };
    RateNow { account: label(), rate, remaining: 8, resets_at: Timestamp::new(10) }
}

#[test]
fn an_ask_survives_the_wire() {
    assert_eq!(HoldAsk::try_from(v1::HoldRequest::from(ask())), Ok(ask()));
}

#[test]
fn reports_survive_the_wire() {
    let usage = Usage { input: 1, ..Usage::default() };
    let events = [
        Event::Adjust { usage: None, output_seen: 0 },
        Event::Adjust { usage: Some(usage), output_seen: 3 },
        Event::Settle(settlement()),
        Event::Settle(Settlement { usage: None, model: None, extra: vec![], ..settlement() }),
        Event::Void { status: 529 },
    ];
    for event in events {
        let report = Report { hold: HoldId::new([1; 16]), key: KeyDigest::new([2; 32]), sequence: 3, event };
        assert_eq!(Report::try_from(v1::ReportEvent::from(report.clone())), Ok(report));
    }
}

#[test]
fn verdicts_survive_the_wire() {
    let denied = |reason, retry_after_ms| {
        Verdict::Denied(HoldDenied {
            reason,
            account: Some(label()),
            resets_at: Some(Timestamp::new(6)),
            amounts: Some(amounts()),
            retry_after_ms,
        })
    };
    let held = |rates| Verdict::Held { amount: Nanodollars::new(7), expires_at: Timestamp::new(8), rates };
    let rates = RateKind::ALL.into_iter().map(|kind| rate(kind, 9)).collect();
    let table = [
        held(Vec::new()),
        held(rates),
        denied(DenialReason::BudgetSpent, None),
        denied(DenialReason::RateLimited, Some(0)),
        denied(DenialReason::RateLimited, Some(u64::MAX)),
        Verdict::Stale(Box::new(policy()), None),
    ];
    for verdict in table {
        let message = v1::hold_response::Verdict::from(verdict.clone());
        assert_eq!(Verdict::try_from(message), Ok(verdict));
    }
}

#[test]
fn the_catalogue_survives_the_wire() {
    let book = tollgate_domain::price::PriceBook::parse(tollgate_domain::price::BUILT_IN).unwrap();
    assert_eq!(Catalogue::try_from(v1::Catalogue::from(book.catalogue())).as_ref(), Ok(book.catalogue()));
}

#[test]
fn a_look_up_survives_the_wire() {
    let ask =
        LookupAsk { key: KeyDigest::new([2; 32]), known_version: vec![3, 4], catalogue_revision: u64::MAX };
    assert_eq!(LookupAsk::try_from(v1::LookupRequest::from(ask.clone())), Ok(ask));
}

#[test]
fn rates_of_a_kind_that_is_not_known_yet_are_left_out_and_others_name_their_fields() {
    let read = |spoil: fn(&mut v1::RateStatus)| {
        let mut status = v1::RateStatus::from(rate(RateKind::Parallel, 9));
        spoil(&mut status);
        let known = rate(RateKind::TokensPerDay, 5).into();
        let held = v1::Held { rates: vec![status, known], ..v1::Held::default() };
        match Verdict::try_from(v1::hold_response::Verdict::Held(held)) {
            Ok(Verdict::Held { rates, .. }) => Ok(rates.len()),
            other => Err(other.unwrap_err().to_string()),
        }
    };
    assert_eq!(read(|_| {}), Ok(2));
    assert_eq!(read(|m| m.kind = 99), Ok(1));
    assert_eq!(read(|m| m.kind = 0), Err("rates.kind is unset or unknown".into()));
    assert_eq!(read(|m| m.account = None), Err("rates.account is missing".into()));
    assert_eq!(
        read(|m| m.account = Some(v1::AccountLabel::default())),
        Err("account.kind is unset or unknown".into())
    );
}

/// Tokens that nobody means.
const ABSURD: [u64; 3] = [TOKENS_MAX + 1, i64::MAX as u64, u64::MAX];

/// Messages that differ from a good one in one field, and what is said of each.
struct Spoilt<M>(M, Vec<(M, String)>);

impl<M: Clone> Spoilt<M> {
    fn new(good: M) -> Self {
        Self(good, Vec::new())
    }

    fn row(&mut self, spoil: impl FnOnce(&mut M), expected: impl Into<String>) {
        let mut message = self.0.clone();
        spoil(&mut message);
        self.1.push((message, expected.into()));
    }

    /// A number that counts tokens, or milliseconds.
    fn number(&mut self, field: &str, set: impl Fn(&mut M, u64)) {
        for value in ABSURD {
            self.row(|m| set(m, value), format!("{field} is absurdly large"));
        }
    }

    /// A text for people or tables.
    fn text(&mut self, field: &str, set: impl Fn(&mut M, String)) {
        self.row(|m| set(m, "m".repeat(257)), format!("{field} is longer than 256 bytes"));
        self.row(|m| set(m, "é".repeat(129)), format!("{field} is longer than 256 bytes"));
        for text in ["a\0b", "a\nb", "\u{1b}[31mred", "a\u{7f}", "a\u{85}b"] {
            self.row(|m| set(m, text.to_owned()), format!("{field} holds a control character"));
        }
    }

    /// One of a list of words; negative numbers are none.
    fn word(&mut self, field: &str, set: impl Fn(&mut M, i32)) {
        for value in [0, 99, -1, i32::MIN, i32::MAX] {
            self.row(|m| set(m, value), format!("{field} is unset or unknown"));
        }
    }

    fn bytes(&mut self, field: &str, length: usize, set: impl Fn(&mut M, Vec<u8>)) {
        for wrong in [0, 1, length - 1, length + 1, 4_000] {
            self.row(|m| set(m, vec![1; wrong]), format!("{field} must have {length} bytes"));
        }
    }

    fn version(&mut self, field: &str, set: impl Fn(&mut M, Vec<u8>)) {
        for length in [257, 100_000] {
            self.row(|m| set(m, vec![1; length]), format!("{field} is longer than 256 bytes"));
        }
    }

    /// Each is refused, for its own field.
    fn check<D: TryFrom<M, Error = Invalid> + std::fmt::Debug>(self) {
        assert!(D::try_from(self.0).is_ok(), "what is spoilt must be good");
        for (message, expected) in self.1 {
            assert_eq!(D::try_from(message).map_err(|error| error.to_string()).unwrap_err(), expected);
        }
    }
}

/// The fields of a usage, which two events have.
fn spoil_usage<M: Clone>(spoilt: &mut Spoilt<M>, usage: impl Fn(&mut M) -> &mut v1::Usage) {
    spoilt.number("usage.input", |m, value| usage(m).input = value);
    spoilt.number("usage.cache_read", |m, value| usage(m).cache_read = value);
    spoilt.number("usage.cache_write_5m", |m, value| usage(m).cache_write_5m = value);
    spoilt.number("usage.cache_write_1h", |m, value| usage(m).cache_write_1h = value);
    spoilt.number("usage.output", |m, value| usage(m).output = value);
    spoilt.number("usage.web_searches", |m, value| usage(m).web_searches = value);
}

/// Every field but `reports`, which have a table of their own, and `catalogue_revision`, of which each value means something.
#[test]
fn a_field_of_an_ask_that_means_nothing_is_named() {
    fn bounds(m: &mut v1::HoldRequest) -> &mut v1::Bounds {
        m.bounds.as_mut().unwrap()
    }
    let mut spoilt = Spoilt::new(v1::HoldRequest::from(ask()));
    spoilt.bytes("hold_id", 16, |m, bytes| m.hold_id = bytes);
    spoilt.row(|m| m.hold_id = vec![0; 16], "hold_id is all zeros");
    spoilt.bytes("key_digest", 32, |m, bytes| m.key_digest = bytes);
    spoilt.version("policy_version", |m, bytes| m.policy_version = bytes);
    spoilt.row(|m| m.model.clear(), "model is empty");
    spoilt.text("model", |m, text| m.model = text);
    spoilt.word("provider", |m, value| m.provider = value);
    spoilt.word("api", |m, value| m.api = value);
    spoilt.row(|m| m.bounds = None, "bounds are missing");
    spoilt.number("bounds.input", |m, value| bounds(m).input = value);
    spoilt.number("bounds.input_per_call", |m, value| bounds(m).input_per_call = value);
    spoilt.number("bounds.cache_write_5m", |m, value| bounds(m).cache_write_5m = value);
    spoilt.number("bounds.cache_write_1h", |m, value| bounds(m).cache_write_1h = value);
    spoilt.number("bounds.output", |m, value| bounds(m).output = value);
    spoilt.number("bounds.web_searches", |m, value| bounds(m).web_searches = value);
    spoilt.text("service_tier", |m, text| m.service_tier = Some(text));
    spoilt.text("speed", |m, text| m.speed = Some(text));
    spoilt.text("inference_geo", |m, text| m.inference_geo = Some(text));
    spoilt.row(|m| m.fallback_models = vec!["m".into(); 17], "fallback_models are more than 16");
    spoilt.row(|m| m.fallback_models = vec!["m".into(), String::new()], "fallback_models is empty");
    spoilt.text("fallback_models", |m, text| m.fallback_models.push(text));
    spoilt.row(|m| m.tags = vec!["t".into(); 17], "tags are more than 16");
    for tag in ["", "two words", "naïve", "a\nb", &"t".repeat(65)] {
        spoilt.row(|m| m.tags.push(tag.to_owned()), "tags hold a text that is no tag");
    }
    spoilt.text("session", |m, text| m.session = text);
    spoilt.text("end_user", |m, text| m.end_user = text);
    spoilt.text("client", |m, text| m.client = text);
    spoilt.check::<HoldAsk>();
}

#[test]
fn a_field_of_a_look_up_that_means_nothing_is_named() {
    let good = LookupAsk { key: KeyDigest::new([2; 32]), known_version: Vec::new(), catalogue_revision: 0 };
    let mut spoilt = Spoilt::new(v1::LookupRequest::from(good));
    spoilt.bytes("key_digest", 32, |m, bytes| m.key_digest = bytes);
    spoilt.version("known_version", |m, bytes| m.known_version = bytes);
    spoilt.check::<LookupAsk>();
}

fn event(event: Event) -> Spoilt<v1::ReportEvent> {
    let report = Report { hold: HoldId::new([1; 16]), key: KeyDigest::new([2; 32]), sequence: 1, event };
    Spoilt::new(report.into())
}

#[test]
fn a_field_of_any_report_that_means_nothing_is_named() {
    let mut spoilt = event(Event::Void { status: 0 });
    spoilt.bytes("hold_id", 16, |m, bytes| m.hold_id = bytes);
    spoilt.row(|m| m.hold_id = vec![0; 16], "hold_id is all zeros");
    spoilt.bytes("key_digest", 32, |m, bytes| m.key_digest = bytes);
    spoilt.row(|m| m.sequence = 0, "sequence must begin at 1");
    spoilt.number("sequence", |m, value| m.sequence = value);
    spoilt.row(|m| m.event = None, "event is missing");
    spoilt.check::<Report>();
}

/// Statuses that no answer has.
const NO_STATUSES: [u32; 5] = [1, 99, 1000, 1 << 16, u32::MAX];

#[test]
fn a_field_of_a_void_that_means_nothing_is_named() {
    let mut spoilt = event(Event::Void { status: 0 });
    for status in NO_STATUSES {
        let event = v1::report_event::Event::Void(v1::Void { status });
        spoilt.row(|m| m.event = Some(event), "void.status is no HTTP status");
    }
    spoilt.check::<Report>();
}

#[test]
fn a_field_of_an_adjust_that_means_nothing_is_named() {
    fn adjust(m: &mut v1::ReportEvent) -> &mut v1::Adjust {
        match &mut m.event {
            Some(v1::report_event::Event::Adjust(adjust)) => adjust,
            other => panic!("{other:?}"),
        }
    }
    let mut spoilt = event(Event::Adjust { usage: Some(Usage::default()), output_seen: 0 });
    spoil_usage(&mut spoilt, |m| adjust(m).usage.as_mut().unwrap());
    spoilt.number("adjust.output_seen", |m, value| adjust(m).output_seen = value);
    spoilt.check::<Report>();
}

#[test]
fn a_field_of_a_settle_that_means_nothing_is_named() {
    fn settle(m: &mut v1::ReportEvent) -> &mut v1::Settle {
        match &mut m.event {
            Some(v1::report_event::Event::Settle(settle)) => settle,
            other => panic!("{other:?}"),
        }
    }
    let mut spoilt = event(Event::Settle(settlement()));
    spoil_usage(&mut spoilt, |m| settle(m).usage.as_mut().unwrap());
    spoil_usage(&mut spoilt, |m| settle(m).extra[0].usage.as_mut().unwrap());
    spoilt.word("settle.end", |m, value| settle(m).end = value);
    spoilt.text("settle.model", |m, text| settle(m).model = Some(text));
    spoilt.text("service_tier", |m, text| settle(m).service_tier = Some(text));
    spoilt.text("speed", |m, text| settle(m).speed = Some(text));
    spoilt.text("inference_geo", |m, text| settle(m).inference_geo = Some(text));
    spoilt.row(|m| settle(m).extra[0].model.clear(), "settle.extra.model is empty");
    spoilt.text("settle.extra.model", |m, text| settle(m).extra[0].model = text);
    spoilt.row(|m| settle(m).extra[0].usage = None, "settle.extra.usage is missing");
    spoilt.row(|m| settle(m).extra = vec![v1::ModelUsage::default(); 65], "settle.extra are more than 64");
    for status in NO_STATUSES {
        spoilt.row(|m| settle(m).status = status, "settle.status is no HTTP status");
    }
    spoilt.number("settle.duration_ms", |m, value| settle(m).duration_ms = value);
    spoilt.number("settle.first_byte_ms", |m, value| settle(m).first_byte_ms = value);
    spoilt.check::<Report>();
}

/// The last values that still mean something.
#[test]
fn what_is_large_but_possible_is_taken() {
    let mut message = v1::HoldRequest::from(ask());
    message.policy_version = vec![1; 256];
    message.model = "m".repeat(256);
    message.session = "é".repeat(128);
    message.tags = vec!["t".repeat(64); 16];
    message.fallback_models = vec!["m".repeat(256); 16];
    message.bounds = Some(v1::Bounds { input: TOKENS_MAX, output: TOKENS_MAX, ..v1::Bounds::default() });
    message.catalogue_revision = u64::MAX;
    assert!(HoldAsk::try_from(message).is_ok());
    for status in [0, 100, 999] {
        let Spoilt(message, _) = event(Event::Void { status });
        assert!(Report::try_from(v1::ReportEvent { sequence: SEQUENCE_MAX, ..message }).is_ok(), "{status}");
    }
}
