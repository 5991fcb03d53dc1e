//! Every field of every message that a filter sends, out of its range: refused by name, and nothing has changed.

use crate::paths::without_row;
use crate::{DIGEST, World, look_up, settle};
use std::collections::BTreeSet;
use tollgate_domain::account::AccountKind;
use tollgate_ledger::store::{AccountRef, Store};
use tollgate_proto::v1;
use tollgate_proto::v1::hold_response::Verdict;
use tollgate_proto::v1::report_event::Event;
use tonic::Code;

/// A message of 4 MiB is the largest that is read.
const TOO_LONG: usize = (4 << 20) + 1;

type Spoil<T> = Box<dyn Fn(&mut T)>;

/// Rows of a table: the field's path as it is in the `.proto`, what is said of it, and how it is spoilt.
struct Table<T>(Vec<(&'static str, &'static str, Spoil<T>)>);

impl<T> Table<T> {
    fn row(&mut self, path: &'static str, said: &'static str, spoil: impl Fn(&mut T) + 'static) {
        self.0.push((path, said, Box::new(spoil)));
    }

    /// Longer than a name, or with what would end up in a terminal.
    fn text(
        &mut self,
        path: &'static str,
        said: &'static str,
        set: impl Fn(&mut T, String) + Clone + 'static,
    ) {
        for value in ["x".repeat(257), "a\nb".into(), "\u{7}".into()] {
            let set = set.clone();
            self.row(path, said, move |message| set(message, value.clone()));
        }
    }

    fn number(
        &mut self,
        path: &'static str,
        said: &'static str,
        set: impl Fn(&mut T, u64) + Clone + 'static,
    ) {
        // -1 and i64::MAX among them, as far as the wire goes.
        for value in [(1 << 40) + 1, i64::MAX.unsigned_abs(), u64::MAX] {
            let set = set.clone();
            self.row(path, said, move |message| set(message, value));
        }
    }

    fn word(&mut self, path: &'static str, said: &'static str, set: impl Fn(&mut T, i32) + Clone + 'static) {
        for value in [0, -1, 99, i32::MAX] {
            let set = set.clone();
            self.row(path, said, move |message| set(message, value));
        }
    }

    fn bytes(
        &mut self,
        path: &'static str,
        said: &'static str,
        length: usize,
        set: impl Fn(&mut T, Vec<u8>) + Clone + 'static,
    ) {
        for wrong in [0, length - 1, length + 1, 400] {
            let set = set.clone();
            self.row(path, said, move |message| set(message, vec![1; wrong]));
        }
    }
}

fn hold_table() -> Table<v1::HoldRequest> {
    let mut table = Table::<v1::HoldRequest>(Vec::new());
    let bounds = |m: &mut v1::HoldRequest, change: fn(&mut v1::Bounds, u64), value| {
        change(m.bounds.as_mut().unwrap(), value);
    };
    table.bytes("hold_id", "hold_id", 16, |m, bytes| m.hold_id = bytes);
    table.row("hold_id", "hold_id", |m| m.hold_id = vec![0; 16]);
    table.bytes("key_digest", "key_digest", 32, |m, bytes| m.key_digest = bytes);
    table.row("policy_version", "policy_version", |m| m.policy_version = vec![1; 257]);
    table.row("model", "model", |m| m.model.clear());
    table.text("model", "model", |m, text| m.model = text);
    table.word("provider", "provider", |m, value| m.provider = value);
    table.word("api", "api", |m, value| m.api = value);
    table.row("bounds", "bounds", |m| m.bounds = None);
    table.number("bounds.input", "bounds.input", move |m, n| bounds(m, |b, n| b.input = n, n));
    table.number("bounds.input_per_call", "bounds.input_per_call", move |m, n| {
        bounds(m, |b, n| b.input_per_call = n, n);
    });
    table.number("bounds.cache_write_5m", "bounds.cache_write_5m", move |m, n| {
        bounds(m, |b, n| b.cache_write_5m = n, n);
    });
    table.number("bounds.cache_write_1h", "bounds.cache_write_1h", move |m, n| {
        bounds(m, |b, n| b.cache_write_1h = n, n);
    });
    table.number("bounds.output", "bounds.output", move |m, n| bounds(m, |b, n| b.output = n, n));
    table.number("bounds.web_searches", "bounds.web_searches", move |m, n| {
        bounds(m, |b, n| b.web_searches = n, n);
    });
    table.text("service_tier", "service_tier", |m, text| m.service_tier = Some(text));
    table.text("speed", "speed", |m, text| m.speed = Some(text));
    table.text("inference_geo", "inference_geo", |m, text| m.inference_geo = Some(text));
    table.row("fallback_models", "fallback_models", |m| m.fallback_models = vec!["m".into(); 17]);
    table.row("fallback_models", "fallback_models", |m| m.fallback_models = vec![String::new()]);
    table.text("fallback_models", "fallback_models", |m, text| m.fallback_models = vec![text]);
    table.row("tags", "tags", |m| m.tags = vec!["t".into(); 17]);
    for tag in ["", "two words", "na\u{ef}ve"] {
        table.row("tags", "tags", |m| m.tags = vec![tag.into()]);
    }
    table.text("session", "session", |m, text| m.session = text);
    table.text("end_user", "end_user", |m, text| m.end_user = text);
    table.text("client", "client", |m, text| m.client = text);
    table.row("reports", "reports", |m| m.reports = vec![v1::ReportEvent::default(); 1_025]);
    table
}

fn adjust(m: &mut v1::ReportEvent) -> &mut v1::Adjust {
    if !matches!(m.event, Some(Event::Adjust(_))) {
        m.event = Some(Event::Adjust(v1::Adjust { usage: Some(v1::Usage::default()), output_seen: 0 }));
    }
    match &mut m.event {
        Some(Event::Adjust(adjust)) => adjust,
        other => panic!("{other:?}"),
    }
}

fn settling(m: &mut v1::ReportEvent) -> &mut v1::Settle {
    match &mut m.event {
        Some(Event::Settle(settle)) => settle,
        other => panic!("{other:?}"),
    }
}

fn usage_rows(
    table: &mut Table<v1::ReportEvent>,
    paths: [&'static str; 6],
    usage: impl Fn(&mut v1::ReportEvent) -> &mut v1::Usage + Copy + 'static,
) {
    let [input, cache_read, cache_write_5m, cache_write_1h, output, web_searches] = paths;
    table.number(input, "usage.input", move |m, n| usage(m).input = n);
    table.number(cache_read, "usage.cache_read", move |m, n| usage(m).cache_read = n);
    table.number(cache_write_5m, "usage.cache_write_5m", move |m, n| usage(m).cache_write_5m = n);
    table.number(cache_write_1h, "usage.cache_write_1h", move |m, n| usage(m).cache_write_1h = n);
    table.number(output, "usage.output", move |m, n| usage(m).output = n);
    table.number(web_searches, "usage.web_searches", move |m, n| usage(m).web_searches = n);
}

fn extra(m: &mut v1::ReportEvent) -> &mut v1::ModelUsage {
    let settle = settling(m);
    if settle.extra.is_empty() {
        settle.extra.push(v1::ModelUsage { model: "m".into(), usage: Some(v1::Usage::default()) });
    }
    &mut settle.extra[0]
}

/// Of a settle, unless the row makes it another event.
fn report_table() -> Table<v1::ReportEvent> {
    let mut table = Table::<v1::ReportEvent>(Vec::new());
    table.bytes("hold_id", "hold_id", 16, |m, bytes| m.hold_id = bytes);
    table.row("hold_id", "hold_id", |m| m.hold_id = vec![0; 16]);
    table.bytes("key_digest", "key_digest", 32, |m, bytes| m.key_digest = bytes);
    table.row("sequence", "sequence", |m| m.sequence = 0);
    table.number("sequence", "sequence", |m, n| m.sequence = n);
    for path in ["adjust", "settle", "void"] {
        table.row(path, "event", |m| m.event = None);
    }
    let of_adjust = [
        "adjust.usage.input",
        "adjust.usage.cache_read",
        "adjust.usage.cache_write_5m",
        "adjust.usage.cache_write_1h",
        "adjust.usage.output",
        "adjust.usage.web_searches",
    ];
    usage_rows(&mut table, of_adjust, |m| adjust(m).usage.as_mut().unwrap());
    table.number("adjust.output_seen", "adjust.output_seen", |m, n| adjust(m).output_seen = n);
    let of_settle = [
        "settle.usage.input",
        "settle.usage.cache_read",
        "settle.usage.cache_write_5m",
        "settle.usage.cache_write_1h",
        "settle.usage.output",
        "settle.usage.web_searches",
    ];
    usage_rows(&mut table, of_settle, |m| settling(m).usage.as_mut().unwrap());
    table.word("settle.end", "settle.end", |m, value| settling(m).end = value);
    table.text("settle.model", "settle.model", |m, text| settling(m).model = Some(text));
    table.text("settle.service_tier", "service_tier", |m, text| settling(m).service_tier = Some(text));
    table.text("settle.speed", "speed", |m, text| settling(m).speed = Some(text));
    table.text("settle.inference_geo", "inference_geo", |m, text| settling(m).inference_geo = Some(text));
    table.row("settle.extra.model", "settle.extra.model", |m| extra(m).model.clear());
    table.text("settle.extra.model", "settle.extra.model", |m, text| extra(m).model = text);
    table.row("settle.extra.usage", "settle.extra.usage", |m| extra(m).usage = None);
    let of_extra = [
        "settle.extra.usage.input",
        "settle.extra.usage.cache_read",
        "settle.extra.usage.cache_write_5m",
        "settle.extra.usage.cache_write_1h",
        "settle.extra.usage.output",
        "settle.extra.usage.web_searches",
    ];
    usage_rows(&mut table, of_extra, |m| extra(m).usage.as_mut().unwrap());
    table.row("settle.extra", "settle.extra", |m| settling(m).extra = vec![extra(m).clone(); 65]);
    for status in [1, 99, 1_000, u32::MAX] {
        table.row("settle.status", "settle.status", move |m| settling(m).status = status);
        table.row("void.status", "void.status", move |m| m.event = Some(Event::Void(v1::Void { status })));
    }
    table.number("settle.duration_ms", "settle.duration_ms", |m, n| settling(m).duration_ms = n);
    table.number("settle.first_byte_ms", "settle.first_byte_ms", |m, n| settling(m).first_byte_ms = n);
    table
}

fn lookup_table() -> Table<v1::LookupRequest> {
    let mut table = Table::<v1::LookupRequest>(Vec::new());
    table.bytes("key_digest", "key_digest", 32, |m, bytes| m.key_digest = bytes);
    table.row("known_version", "known_version", |m| m.known_version = vec![1; 257]);
    table
}

/// Posted and pending of the key.
async fn balance(world: &World) -> (i64, i64) {
    let key = AccountRef::Id(AccountKind::Key, "key-1".into());
    let record = world.store.account(key).await.unwrap().unwrap();
    (record.posted.get(), record.pending.get())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_of_a_hold_is_checked_and_named() {
    let mut world = World::new().await;
    world.hold(world.ask(9, 1)).await;
    for (path, said, spoil) in hold_table().0 {
        // With a report that is good: it must not be applied either.
        let mut ask = v1::HoldRequest { reports: vec![settle(9, 1)], ..world.ask(1, 1) };
        spoil(&mut ask);
        let error = world.served.client.hold(ask).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{path}: {error}");
        assert!(error.message().starts_with(said), "{path}: {error}");
    }
    assert_eq!(balance(&world).await, (0, 1_000), "nothing was held or settled");
    assert!(matches!(world.hold(world.ask(1, 1)).await.verdict, Some(Verdict::Held(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_of_a_report_is_checked_and_named() {
    let mut world = World::new().await;
    world.hold(world.ask(1, 1)).await;
    for (path, said, spoil) in report_table().0 {
        let mut event = settle(1, 1);
        spoil(&mut event);
        let request = v1::ReportRequest { events: vec![event] };
        let outcome = world.served.client.report(request).await.unwrap().into_inner().outcomes.remove(0);
        assert_eq!(outcome.result(), v1::ReportResult::Rejected, "{path}: {outcome:?}");
        assert!(outcome.reason.starts_with(said), "{path}: {outcome:?}");
    }
    let many = v1::ReportRequest { events: vec![settle(1, 1); 1_025] };
    let error = world.served.client.report(many).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    assert!(error.message().starts_with("events"), "{error}");
    assert_eq!(balance(&world).await, (0, 1_000), "nothing was settled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_of_a_look_up_is_checked_and_named() {
    let mut world = World::new().await;
    for (path, said, spoil) in lookup_table().0 {
        let mut ask = v1::LookupRequest { key_digest: DIGEST.to_vec(), ..v1::LookupRequest::default() };
        spoil(&mut ask);
        let error = world.served.client.lookup(ask).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{path}: {error}");
        assert!(error.message().starts_with(said), "{path}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_more_than_four_mebibytes_is_refused() {
    let mut world = World::new().await;
    let long = || vec![1; TOO_LONG];
    let client = &mut world.served.client;
    let hold = v1::HoldRequest { policy_version: long(), ..v1::HoldRequest::default() };
    let report = v1::ReportEvent { hold_id: long(), ..settle(1, 1) };
    let lookup = v1::LookupRequest { known_version: long(), ..v1::LookupRequest::default() };
    let refused = [
        client.hold(hold).await.unwrap_err(),
        client.report(v1::ReportRequest { events: vec![report] }).await.unwrap_err(),
        client.lookup(lookup).await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.code(), Code::OutOfRange, "{error}");
        assert!(error.message().contains("4194304"), "{error}");
    }
    look_up(client, &DIGEST).await;
}

/// A field that comes needs a row.
#[test]
fn every_field_has_a_row() {
    fn rows<T>(table: &Table<T>) -> BTreeSet<String> {
        table.0.iter().map(|(path, ..)| (*path).to_owned()).collect()
    }
    // Of the fields without a row every value means something: a revision is a digest, and a flag has two values.
    let tables: [(&str, BTreeSet<String>, &[&str]); 3] = [
        ("HoldRequest", rows(&hold_table()), &["catalogue_revision"]),
        ("ReportEvent", rows(&report_table()), &["settle.estimated"]),
        ("LookupRequest", rows(&lookup_table()), &["catalogue_revision"]),
    ];
    for (message, rows, anything) in tables {
        // Reports within a hold have a table of their own.
        assert_eq!(without_row("ledger.proto", message, &["ReportEvent"], &rows), anything, "{message}");
    }
}
