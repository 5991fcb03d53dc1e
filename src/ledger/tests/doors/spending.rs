//! Holds, reports and look-ups: what each certificate may do with each key.

use crate::authority::{Authority, Leaf};
use crate::world::{MASTER, NOBODY, OTHERS, PAYMENTS, PLAIN, SEARCH, World, is_cut_off};
use tollgate_domain::account::AccountKind;
use tollgate_domain::key;
use tollgate_ledger::store::{AccountName, AccountRef, Manager, Operated, Store};
use tollgate_proto::v1;
use tollgate_proto::v1::hold_response::Verdict;
use tollgate_proto::v1::ledger_client::LedgerClient;
use tollgate_proto::v1::lookup_response::Verdict as Looked;
use tollgate_proto::v1::report_event::Event;
use tonic::Status;
use tonic::transport::Channel;

type Client = LedgerClient<Channel>;

/// What came of a call, in a word.
fn word<T>(answer: Result<T, Status>, of: impl Fn(T) -> String) -> String {
    match answer {
        Ok(answer) => of(answer),
        Err(status) if is_cut_off(&status) => "cut off".to_owned(),
        Err(status) => format!("{:?}", status.code()),
    }
}

async fn hold(world: &World, client: &mut Client, id: [u8; 16], key: u8) -> String {
    let ask = world.ask(id, key).await;
    word(client.hold(ask).await, |answer| match answer.into_inner().verdict {
        Some(Verdict::Held(_)) => "held".to_owned(),
        Some(Verdict::Denied(denied)) if denied.reason() == v1::DenialReason::KeyUnknown => {
            "unknown".to_owned()
        }
        other => format!("{other:?}"),
    })
}

async fn look_up(client: &mut Client, digest: &[u8]) -> String {
    let ask = v1::LookupRequest { key_digest: digest.to_vec(), ..v1::LookupRequest::default() };
    word(client.lookup(ask).await, |answer| {
        let v1::LookupResponse { verdict, catalogue } = answer.into_inner();
        let with = if catalogue.is_some() { " with the catalogue" } else { "" };
        match verdict {
            Some(Looked::Known(_)) => format!("known{with}"),
            Some(Looked::Unknown(_)) => format!("unknown{with}"),
            Some(Looked::Administrator(_)) => "administrator".to_owned(),
            None => "nothing".to_owned(),
        }
    })
}

fn event(id: [u8; 16], key: u8, event: Event) -> v1::ReportEvent {
    v1::ReportEvent { hold_id: id.to_vec(), key_digest: vec![key; 32], sequence: 1, event: Some(event) }
}

fn events() -> [Event; 3] {
    let usage = Some(v1::Usage { input: 1, ..v1::Usage::default() });
    let settle = v1::Settle { usage, end: v1::End::Complete.into(), ..v1::Settle::default() };
    [
        Event::Adjust(v1::Adjust { usage, output_seen: 0 }),
        Event::Settle(settle),
        Event::Void(v1::Void { status: 500 }),
    ]
}

async fn report(client: &mut Client, event: v1::ReportEvent) -> String {
    word(client.report(v1::ReportRequest { events: vec![event] }).await, |answer| {
        let outcome = answer.into_inner().outcomes.remove(0);
        match outcome.result() {
            v1::ReportResult::Rejected => outcome.reason,
            other => format!("{other:?}"),
        }
    })
}

const SOMEBODY_ELSES: &str = "the hold belongs to another key";

/// Every certificate, and what it may do: for which keys, or what it is told instead.
fn certificates(world: &World) -> Vec<(&'static str, Option<Leaf>, Result<&'static [u8], &'static str>)> {
    let of = &world.authority;
    let gateway = "spiffe://tollgate.dev/gateway";
    vec![
        ("the gateway", Some(of.leaf("gateway")), Ok(&[PAYMENTS, SEARCH, PLAIN, OTHERS])),
        ("payments", Some(of.leaf("ns/payments")), Ok(&[PAYMENTS])),
        ("search", Some(of.leaf("ns/search")), Ok(&[SEARCH])),
        ("a namespace without keys", Some(of.leaf("ns/empty")), Ok(&[])),
        ("the operator", Some(of.leaf("operator")), Err("PermissionDenied")),
        ("a ledger", Some(of.leaf("ledger")), Err("PermissionDenied")),
        ("somebody unknown", Some(of.leaf("console")), Err("Unauthenticated")),
        (
            "two in one",
            Some(of.named(&[gateway, "spiffe://tollgate.dev/ns/payments"])),
            Err("Unauthenticated"),
        ),
        ("without a URI", Some(of.named(&[])), Err("Unauthenticated")),
        ("no certificate", None, Err("cut off")),
        ("a foreign authority", Some(Authority::new("authority").leaf("gateway")), Err("cut off")),
        ("one that has ended", Some(of.ended("gateway")), Err("cut off")),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_certificate_speaks_of_its_own_keys() {
    let world = World::new().await;
    for (name, leaf, may) in certificates(&world) {
        let mut client = world.client(leaf.as_ref());
        for key in [PAYMENTS, SEARCH, PLAIN, OTHERS, NOBODY] {
            let expect = |own: &str, other: &str| match may {
                Ok(keys) if keys.contains(&key) => own.to_owned(),
                Ok(_) => other.to_owned(),
                Err(told) => told.to_owned(),
            };
            let what = format!("{name}, key {key}");
            assert_eq!(hold(&world, &mut client, world.id(), key).await, expect("held", "unknown"), "{what}");
            let known = expect("known with the catalogue", "unknown");
            assert_eq!(look_up(&mut client, &[key; 32]).await, known, "{what}");
            if key == NOBODY {
                continue;
            }
            for sent in events() {
                let open = world.held(key).await;
                let done = report(&mut client, event(open, key, sent.clone())).await;
                assert_eq!(done, expect("Applied", SOMEBODY_ELSES), "{what}: {sent:?}");
            }
        }
        let master = match may {
            Ok(keys) if keys.len() > 1 => "administrator",
            Ok(_) => "unknown",
            Err(told) => told,
        };
        assert_eq!(look_up(&mut client, key::digest(MASTER.as_bytes()).as_bytes()).await, master, "{name}");
    }
}

/// What a namespace is told of a foreign key, it is told of a key that nobody has, word for word: also where the gateway knows it
/// well, has a hold of it, or has voided one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_key_looks_like_none() {
    let world = World::new().await;
    let mut gateway = world.client(Some(&world.gateway()));
    let mut payments = world.client(Some(&world.authority.leaf("ns/payments")));
    let voided = world.id();
    let [_, settle, void] = events();
    assert_eq!(report(&mut gateway, event(voided, SEARCH, void.clone())).await, "Tombstone");
    for id in [world.id(), world.held(SEARCH).await, voided] {
        let mut seen = Vec::new();
        for key in [SEARCH, NOBODY] {
            let mut ask = world.ask(id, key).await;
            ask.reports = events().into_iter().map(|one| event(id, key, one)).collect();
            let mut said = payments.hold(ask).await;
            if let Ok(answer) = &mut said {
                answer.metadata_mut().clear();
            }
            let said = said.map(tonic::Response::into_inner).map_err(|status| status.to_string());
            let reports = report(&mut payments, event(id, key, settle.clone())).await;
            let void = report(&mut payments, event(id, key, void.clone())).await;
            seen.push((said, reports, void));
        }
        assert_eq!(seen[0], seen[1], "{id:?}");
    }
    // And nobody else is told what the namespace is.
    assert_eq!(hold(&world, &mut gateway, world.id(), SEARCH).await, "held");
    assert_eq!(look_up(&mut gateway, &[SEARCH; 32]).await, "known with the catalogue");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_hold_is_beyond_reach_with_ones_own_key_too() {
    let world = World::new().await;
    let mut payments = world.client(Some(&world.authority.leaf("ns/payments")));
    let foreign = world.held(SEARCH).await;
    for sent in events() {
        for key in [PAYMENTS, SEARCH] {
            let done = report(&mut payments, event(foreign, key, sent.clone())).await;
            assert_eq!(done, SOMEBODY_ELSES, "{sent:?} with key {key}");
            // The same along with a hold of its own, which is made nevertheless.
            let ask = world.ask(world.id(), PAYMENTS).await;
            let ask = v1::HoldRequest { reports: vec![event(foreign, key, sent.clone())], ..ask };
            let answer = payments.hold(ask).await.unwrap().into_inner();
            assert!(matches!(answer.verdict, Some(Verdict::Held(_))), "{answer:?}");
            assert_eq!(answer.outcomes[0].reason, SOMEBODY_ELSES);
        }
    }
    let bob =
        world.store.account(AccountRef::Id(AccountKind::Key, "search/bob".into())).await.unwrap().unwrap();
    assert_eq!((bob.posted.get(), bob.pending.get()), (0, 1_000), "it is open as it was");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_open_of_a_deleted_key_still_ends() {
    let world = World::new().await;
    let mut payments = world.client(Some(&world.authority.leaf("ns/payments")));
    let mut search = world.client(Some(&world.authority.leaf("ns/search")));
    let open = world.held(PAYMENTS).await;
    let name = AccountName { kind: AccountKind::Key, scope: String::new(), id: "payments/alice".into() };
    let manager = Manager { name: "kubernetes".into(), scope: "VirtualKey payments/alice".into() };
    assert!(world.store.remove(name, manager).await.unwrap().unwrap());
    assert_eq!(hold(&world, &mut payments, world.id(), PAYMENTS).await, "unknown");
    let [_, settle, _] = events();
    assert_eq!(report(&mut search, event(open, PAYMENTS, settle.clone())).await, SOMEBODY_ELSES);
    assert_eq!(report(&mut payments, event(open, PAYMENTS, settle)).await, "Applied");
}
