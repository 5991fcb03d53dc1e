//! The gRPC service as the filter meets it: over a socket, over the embedded store.

mod fields;
mod gone;
#[path = "../proto/paths.rs"]
mod paths;

use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tollgate_domain::account::AccountKind;
use tollgate_domain::ids::KeyDigest;
use tollgate_domain::key;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::price::PriceBook;
use tollgate_domain::window::Window;
use tollgate_ledger::master::MasterKey;
use tollgate_ledger::server::{self, Listeners, ServeError};
use tollgate_ledger::store::{AccountSpec, Credential, LimitSpec, NewAccount, Operated, Store};
use tollgate_ledger::store::{BooksStore, Keeper, Settings, sqlite};
use tollgate_proto::v1;
use tollgate_proto::v1::hold_response::Verdict;
use tollgate_proto::v1::ledger_client::LedgerClient;
use tollgate_proto::v1::lookup_response::Verdict as Looked;
use tonic::Code;
use tonic::transport::Channel;

const BOOK: &str = r#"{"format": "tollgate-price-book/1", "models": [{"name": "m", "provider": "openai", "mode": "chat",
    "context_window": 1000, "max_output": 100, "rates": [{"tier": "standard", "above": 0, "input": "1", "output": "2"}]}]}"#;
const DIGEST: [u8; 32] = [1; 32];

pub(crate) struct Served {
    pub(crate) client: LedgerClient<Channel>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), ServeError>>,
}

/// Serves a store on free ports.
pub(crate) async fn serve<S: Operated>(store: Arc<S>) -> Served {
    let bind = || TcpListener::bind("127.0.0.1:0");
    let grpc = bind().await.unwrap();
    let address = grpc.local_addr().unwrap();
    let listeners = Listeners::plain(grpc, bind().await.unwrap());
    let (stop, stopped) = oneshot::channel();
    let shutdown = async { stopped.await.unwrap_or_default() };
    let served = tokio::spawn(server::run(listeners, store, MasterKey::new(b"sk-master"), shutdown));
    let client = LedgerClient::connect(format!("http://{address}")).await.unwrap();
    Served { client, stop, served }
}

/// A ledger with one key that may spend 10,000 nano-dollars.
struct World {
    served: Served,
    store: Arc<BooksStore>,
    keeper: Keeper,
    _folder: tempfile::TempDir,
    version: Vec<u8>,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let book = Arc::new(PriceBook::parse(BOOK).unwrap());
        let (store, keeper) = sqlite::open(folder.path().join("ledger.db"), Settings::new(book)).unwrap();
        let store = Arc::new(store);
        store.create(new_key(DIGEST)).await.unwrap();
        let mut served = serve(store.clone()).await;
        let version = match look_up(&mut served.client, &DIGEST).await.verdict {
            Some(Looked::Known(known)) => known.policy.unwrap().version,
            other => panic!("{other:?}"),
        };
        Self { served, store, keeper, _folder: folder, version }
    }

    fn ask(&self, id: u8, input: u64) -> v1::HoldRequest {
        v1::HoldRequest {
            hold_id: vec![id; 16],
            key_digest: DIGEST.to_vec(),
            policy_version: self.version.clone(),
            model: "m".into(),
            provider: v1::Provider::Openai.into(),
            api: v1::Api::ChatCompletions.into(),
            bounds: Some(v1::Bounds { input, input_per_call: input, ..v1::Bounds::default() }),
            ..v1::HoldRequest::default()
        }
    }

    async fn hold(&mut self, ask: v1::HoldRequest) -> v1::HoldResponse {
        self.served.client.hold(ask).await.unwrap().into_inner()
    }
}

fn new_key(digest: [u8; 32]) -> NewAccount {
    let limit = LimitSpec { main: true, ..LimitSpec::new(Nanodollars::new(10_000), Window::Lifetime, None) };
    NewAccount {
        kind: AccountKind::Key,
        id: format!("key-{}", digest[0]),
        spec: AccountSpec { limits: vec![limit], ..AccountSpec::default() },
        credential: Some(Credential { digest: KeyDigest::new(digest), name: "sk-...".into() }),
        created_by: "admin".into(),
    }
}

async fn look_up(client: &mut LedgerClient<Channel>, digest: &[u8]) -> v1::LookupResponse {
    let ask = v1::LookupRequest { key_digest: digest.to_vec(), ..v1::LookupRequest::default() };
    client.lookup(ask).await.unwrap().into_inner()
}

fn settle(id: u8, input: u64) -> v1::ReportEvent {
    let settle = v1::Settle {
        usage: Some(v1::Usage { input, ..v1::Usage::default() }),
        end: v1::End::Complete.into(),
        ..v1::Settle::default()
    };
    v1::ReportEvent {
        hold_id: vec![id; 16],
        key_digest: DIGEST.to_vec(),
        sequence: 1,
        event: Some(v1::report_event::Event::Settle(settle)),
    }
}

/// A settle without an end, an event of nothing, an id that is none.
fn bad_events() -> Vec<(v1::ReportEvent, &'static str)> {
    let endless = v1::report_event::Event::Settle(v1::Settle::default());
    vec![
        (v1::ReportEvent { event: Some(endless), ..settle(1, 1) }, "settle.end is unset or unknown"),
        (v1::ReportEvent { event: None, ..settle(1, 1) }, "event is missing"),
        (v1::ReportEvent { hold_id: vec![1; 400], ..settle(1, 1) }, "hold_id must have 16 bytes"),
        (v1::ReportEvent { sequence: 0, ..settle(1, 1) }, "sequence must begin at 1"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_held_and_settled() {
    let mut world = World::new().await;
    let answer = world.hold(world.ask(1, 6)).await;
    assert!(matches!(answer.verdict, Some(Verdict::Held(held)) if held.amount_nanodollars == 6_000));
    let denied = match world.hold(world.ask(2, 6)).await.verdict {
        Some(Verdict::Denied(denied)) => denied,
        other => panic!("{other:?}"),
    };
    assert_eq!(denied.reason(), v1::DenialReason::BudgetTooSmall);
    let ask = v1::HoldRequest { reports: vec![settle(1, 2)], ..world.ask(3, 6) };
    let answer = world.hold(ask).await;
    assert_eq!(answer.outcomes[0].result(), v1::ReportResult::Applied);
    assert!(matches!(answer.verdict, Some(Verdict::Held(_))));
    let old = v1::HoldRequest { policy_version: vec![9], catalogue_revision: 0, ..world.ask(4, 1) };
    match world.hold(old).await.verdict {
        Some(Verdict::Stale(stale)) => {
            assert_eq!(stale.policy.unwrap().version, world.version);
            assert_eq!(stale.catalogue.unwrap().models.len(), 1);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_message_names_its_field() {
    let mut world = World::new().await;
    let bad = v1::HoldRequest { hold_id: vec![], ..world.ask(1, 1) };
    let error = world.served.client.hold(bad).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::InvalidArgument, "hold_id must have 16 bytes"));
    let error = world.served.client.lookup(v1::LookupRequest::default()).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::InvalidArgument, "key_digest must have 32 bytes"));
    world.hold(world.ask(1, 1)).await;
    let error = world.served.client.hold(world.ask(1, 2)).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::InvalidArgument, "hold_id names another request"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_event_hinders_no_other() {
    let mut world = World::new().await;
    for id in 1..=4 {
        world.hold(world.ask(id, 1)).await;
    }
    let mut events = vec![settle(1, 1)];
    let mut expected = vec![(v1::ReportResult::Applied, "")];
    for (index, (event, reason)) in bad_events().into_iter().enumerate() {
        let id = 2 + index as u8;
        events.extend([event, settle(id, 1)]);
        let next = if id <= 4 {
            (v1::ReportResult::Applied, "")
        } else {
            (v1::ReportResult::Rejected, "unknown hold")
        };
        expected.extend([(v1::ReportResult::Rejected, reason), next]);
    }
    let sent = events.clone();
    let answer = world.served.client.report(v1::ReportRequest { events }).await.unwrap().into_inner();
    let seen: Vec<_> =
        answer.outcomes.iter().map(|outcome| (outcome.result(), outcome.reason.as_str())).collect();
    assert_eq!(seen, expected);
    for (event, outcome) in sent.iter().zip(&answer.outcomes) {
        assert_eq!((&event.hold_id, event.sequence), (&outcome.hold_id, outcome.sequence));
    }
    let (bad, reason) = bad_events().remove(0);
    let ask = v1::HoldRequest { reports: vec![bad, settle(1, 1)], ..world.ask(5, 1) };
    let answer = world.hold(ask).await;
    assert!(matches!(answer.verdict, Some(Verdict::Held(_))));
    assert_eq!(answer.outcomes[0].reason, reason);
    assert_eq!(answer.outcomes[1].result(), v1::ReportResult::Duplicate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn look_ups_tell_keys_from_strangers_and_the_administrator() {
    let mut world = World::new().await;
    let revision = world.store.prices().catalogue().revision();
    let client = &mut world.served.client;
    let known = look_up(client, &DIGEST).await;
    assert_eq!(known.catalogue.unwrap().revision, revision);
    let again = v1::LookupRequest {
        key_digest: DIGEST.to_vec(),
        known_version: world.version.clone(),
        catalogue_revision: revision,
    };
    let again = client.lookup(again).await.unwrap().into_inner();
    assert_eq!(again.catalogue, None);
    assert_eq!(again.verdict, Some(Looked::Known(v1::Known { policy: None, exhausted: None })));
    let master = look_up(client, key::digest(b"sk-master").as_bytes()).await;
    assert_eq!(master.verdict, Some(Looked::Administrator(v1::Administrator {})));
    let stranger = look_up(client, &[9; 32]).await;
    assert_eq!(stranger.verdict, Some(Looked::Unknown(v1::Unknown {})));
    assert_eq!(stranger.catalogue, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_unknown_is_known_within_two_seconds() {
    let mut world = World::new().await;
    let ask = v1::HoldRequest { key_digest: vec![2; 32], ..world.ask(1, 1) };
    for _ in 0..3 {
        match world.hold(ask.clone()).await.verdict {
            Some(Verdict::Denied(denied)) => assert_eq!(denied.reason(), v1::DenialReason::KeyUnknown),
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            look_up(&mut world.served.client, &[2; 32]).await.verdict,
            Some(Looked::Unknown(_))
        ));
    }
    world.store.create(new_key([2; 32])).await.unwrap();
    let known = async {
        while !matches!(look_up(&mut world.served.client, &[2; 32]).await.verdict, Some(Looked::Known(_))) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_millis(2_500), known).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutting_down_answers_what_is_in_flight_and_closes_the_books() {
    let mut world = World::new().await;
    let asks: Vec<_> = (1..=8)
        .map(|id| {
            let (mut client, ask) = (world.served.client.clone(), world.ask(id, 1));
            tokio::spawn(async move { client.hold(ask).await })
        })
        .collect();
    world.hold(world.ask(9, 1)).await;
    world.served.stop.send(()).unwrap();
    world.served.served.await.unwrap().unwrap();
    for ask in asks {
        // Answered, or never accepted; not cut off in between.
        if let Err(error) = ask.await.unwrap() {
            assert_eq!(error.code(), Code::Unavailable, "{error}");
        }
    }
    assert!(world.served.client.hold(v1::HoldRequest::default()).await.is_err());
    drop(world.store);
    assert!(world.keeper.closed(std::time::Duration::from_secs(5)).await);
}
