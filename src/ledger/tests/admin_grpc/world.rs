//! A ledger that serves an operator, and what an operator says.

use crate::cluster::Cluster;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tollgate_domain::account::AccountKind;
use tollgate_domain::api::Api;
use tollgate_domain::bounds::Bounds;
use tollgate_domain::catalogue::Provider;
use tollgate_domain::hold::{End, Event, HoldAsk, Report, Settlement, Verdict};
use tollgate_domain::ids::{HoldId, KeyDigest, ModelName};
use tollgate_domain::price::{Modifiers, PriceBook};
use tollgate_domain::time::Timestamp;
use tollgate_domain::usage::Usage;
use tollgate_ledger::clock::Clock;
use tollgate_ledger::master::MasterKey;
use tollgate_ledger::server::{self, Listeners, ServeError};
use tollgate_ledger::store::{
    AccountRecord, AccountRef, BooksStore, Found, Keeper, Settings, Store, postgres, sqlite,
};
use tollgate_proto::v1;
use tollgate_proto::v1::admin_client::AdminClient;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

const BOOK: &str = r#"{"format": "tollgate-price-book/1", "models": [{"name": "m", "provider": "openai", "mode": "chat",
    "context_window": 1000000, "max_output": 100000,
    "rates": [{"tier": "standard", "above": 0, "input": "1", "output": "2"}]}]}"#;

/// Tuesday, 2026-11-24T12:00:00Z.
pub(crate) const NOON: Timestamp = Timestamp::new(1_795_521_600_000);

type Sign = fn(Request<()>) -> Result<Request<()>, Status>;
pub(crate) type Client = AdminClient<InterceptedService<Channel, Sign>>;

pub(crate) enum Place {
    File(tempfile::TempDir),
    Database(String),
}

pub(crate) struct World {
    pub(crate) place: Place,
    pub(crate) clock: Clock,
    pub(crate) served: Option<Served>,
    holds: AtomicU8,
}

pub(crate) struct Served {
    pub(crate) store: Arc<BooksStore>,
    pub(crate) client: Client,
    pub(crate) address: String,
    keeper: Keeper,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), ServeError>>,
}

#[allow(clippy::unnecessary_wraps, clippy::result_large_err, reason = "an interceptor's form")]
fn sign(mut request: Request<()>) -> Result<Request<()>, Status> {
    request.metadata_mut().insert("authorization", MetadataValue::from_static("Bearer sk-master"));
    Ok(request)
}

impl World {
    pub(crate) async fn sqlite() -> Self {
        Self::at(Place::File(tempfile::tempdir().unwrap())).await
    }

    pub(crate) async fn postgres() -> Self {
        Self::at(Place::Database(Cluster::shared().database())).await
    }

    async fn at(place: Place) -> Self {
        let clock = Clock::stopped(NOON);
        let mut world = Self { place, clock, served: None, holds: AtomicU8::new(1) };
        world.served = Some(world.open().await);
        world
    }

    /// Opens the books and serves them; a database more than once.
    pub(crate) async fn open(&self) -> Served {
        let settings = Settings {
            clock: Some(self.clock.clone()),
            accept_clock: true,
            accept_gap: true,
            ..Settings::new(Arc::new(PriceBook::parse(BOOK).unwrap()))
        };
        let (store, keeper) = match &self.place {
            Place::File(folder) => sqlite::open(folder.path().join("ledger.db"), settings).unwrap(),
            Place::Database(address) => postgres::open(address.parse().unwrap(), settings).await.unwrap(),
        };
        Served::new(Arc::new(store), keeper).await
    }

    pub(crate) async fn restart(&mut self) {
        self.served.take().unwrap().end().await;
        self.served = Some(self.open().await);
    }

    pub(crate) fn served(&self) -> &Served {
        self.served.as_ref().unwrap()
    }

    pub(crate) fn store(&self) -> &BooksStore {
        &self.served().store
    }

    pub(crate) fn client(&self) -> Client {
        self.served().client.clone()
    }

    pub(crate) fn advance(&self, ms: i64) {
        self.clock.set(self.clock.now().plus_ms(ms));
    }

    pub(crate) async fn apply(&self, account: v1::DesiredAccount) -> v1::apply_outcome::Outcome {
        let request = v1::ApplyRequest { managed_by: "kubernetes".into(), accounts: vec![account] };
        let mut outcomes = self.client().apply(request).await.unwrap().into_inner().outcomes;
        assert_eq!(outcomes.len(), 1);
        outcomes.remove(0).outcome.unwrap()
    }

    /// What was done, and the revision since.
    pub(crate) async fn applied(&self, account: v1::DesiredAccount) -> (v1::ApplyResult, u64) {
        match self.apply(account).await {
            v1::apply_outcome::Outcome::Applied(applied) => (applied.result(), applied.revision),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn refused(&self, account: v1::DesiredAccount) -> v1::Refusal {
        match self.apply(account).await {
            v1::apply_outcome::Outcome::Refused(refused) => refused,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn delete(&self, account: v1::DeletedAccount) -> v1::delete_outcome::Outcome {
        let request = v1::DeleteRequest { managed_by: "kubernetes".into(), accounts: vec![account] };
        let mut outcomes = self.client().delete(request).await.unwrap().into_inner().outcomes;
        outcomes.remove(0).outcome.unwrap()
    }

    pub(crate) async fn record(&self, account: &v1::DesiredAccount) -> AccountRecord {
        let name = account.name.clone().unwrap();
        let kind = match name.kind() {
            v1::AccountKind::Organization => AccountKind::Organization,
            v1::AccountKind::Team => AccountKind::Team,
            _ => AccountKind::Key,
        };
        self.store().account(AccountRef::Id(kind, name.id)).await.unwrap().unwrap()
    }

    /// Whether a key's requests pass, as far as the key goes.
    pub(crate) async fn works(&self, digest: u8) -> bool {
        match self.store().lookup(KeyDigest::new([digest; 32]), Vec::new()).await.unwrap() {
            Found::Unknown => false,
            Found::Known { policy, .. } => {
                let policy = policy.unwrap();
                policy.blocked.is_none() && policy.expires_at.is_none_or(|at| at > self.clock.now())
            }
        }
    }

    /// Charges a key with so many tokens.
    pub(crate) async fn spend(&self, digest: u8, tokens: u64) {
        let id = self.holds.fetch_add(1, Ordering::SeqCst);
        spend(self.store(), digest, [id; 16], tokens).await;
    }

    pub(crate) async fn changes(&self, cursor: &[u8]) -> Streaming<v1::ChangesResponse> {
        watch(&self.client(), cursor).await
    }
}

impl Served {
    pub(crate) async fn new(store: Arc<BooksStore>, keeper: Keeper) -> Self {
        let bind = || TcpListener::bind("127.0.0.1:0");
        let admin = bind().await.unwrap();
        let address = format!("http://{}", admin.local_addr().unwrap());
        let listeners = Listeners::plain(bind().await.unwrap(), admin);
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { stopped.await.unwrap_or_default() };
        let master = MasterKey::new(b"sk-master");
        let ended = tokio::spawn(server::run(listeners, store.clone(), master, shutdown));
        let channel = Channel::from_shared(address.clone()).unwrap().connect().await.unwrap();
        let client = AdminClient::with_interceptor(channel, sign as Sign);
        Self { store, client, address, keeper, stop, ended }
    }

    pub(crate) async fn end(self) {
        self.stop.send(()).unwrap();
        self.ended.await.unwrap().unwrap();
        drop((self.store, self.client));
        assert!(self.keeper.closed(Duration::from_secs(10)).await);
    }
}

pub(crate) async fn watch(client: &Client, cursor: &[u8]) -> Streaming<v1::ChangesResponse> {
    let request = v1::ChangesRequest { cursor: cursor.to_vec() };
    client.clone().changes(request).await.unwrap().into_inner()
}

/// Holds and settles so many tokens of input.
pub(crate) async fn spend(store: &BooksStore, digest: u8, id: [u8; 16], tokens: u64) {
    let key = KeyDigest::new([digest; 32]);
    let Found::Known { policy, .. } = store.lookup(key, Vec::new()).await.unwrap() else { panic!("unknown") };
    let ask = HoldAsk {
        id: HoldId::new(id),
        key,
        policy_version: policy.unwrap().version,
        model: ModelName::new("m"),
        provider: Provider::OpenAi,
        api: Api::ChatCompletions,
        bounds: Bounds { input: tokens, input_per_call: tokens, ..Bounds::default() },
        modifiers: Modifiers::default(),
        fallback_models: Vec::new(),
        tags: Vec::new(),
        session: None,
        end_user: None,
        client: None,
        catalogue_revision: store.prices().catalogue().revision(),
    };
    let (verdict, _) = store.hold(ask, Vec::new()).await.unwrap();
    assert!(matches!(verdict, Verdict::Held { .. }), "{verdict:?}");
    let settlement = Settlement {
        usage: Some(Usage { input: tokens, ..Usage::default() }),
        estimated: false,
        end: End::Complete,
        model: None,
        modifiers: Modifiers::default(),
        extra: Vec::new(),
        status: 200,
        duration_ms: 0,
        first_byte_ms: 0,
    };
    let report = Report { hold: HoldId::new(id), key, sequence: 1, event: Event::Settle(settlement) };
    store.report(vec![report]).await.unwrap();
}

/// The next answer.
pub(crate) async fn next(stream: &mut Streaming<v1::ChangesResponse>) -> v1::ChangesResponse {
    let answer = tokio::time::timeout(Duration::from_secs(30), stream.message()).await;
    answer.expect("nothing came").unwrap().unwrap()
}

pub(crate) fn ids(answer: &v1::ChangesResponse) -> Vec<String> {
    answer.accounts.iter().map(|account| account.name.clone().unwrap().id).collect()
}

pub(crate) fn named(kind: v1::AccountKind, id: &str) -> v1::AccountName {
    v1::AccountName { kind: kind.into(), id: id.into(), scope: String::new() }
}

pub(crate) fn team(id: &str) -> v1::DesiredAccount {
    let name = Some(named(v1::AccountKind::Team, id));
    v1::DesiredAccount { name, owner_scope: format!("Team ns/{id}"), ..v1::DesiredAccount::default() }
}

pub(crate) fn key(id: &str, digests: &[u8]) -> v1::DesiredAccount {
    let credential = |digest: &u8| v1::DesiredCredential {
        digest: vec![*digest; 32],
        name: format!("sk-...{digest:04}"),
        expires_at_unix_ms: None,
    };
    v1::DesiredAccount {
        name: Some(named(v1::AccountKind::Key, id)),
        owner_scope: format!("VirtualKey ns/{id}"),
        credentials: digests.iter().map(credential).collect(),
        ..v1::DesiredAccount::default()
    }
}

pub(crate) fn limit(amount: i64, kind: v1::window::Kind) -> v1::DesiredLimit {
    v1::DesiredLimit { amount, window: Some(v1::Window { kind: Some(kind) }), ..v1::DesiredLimit::default() }
}

pub(crate) fn session_limit(pattern: &str, amount: i64) -> v1::DesiredSessionLimit {
    v1::DesiredSessionLimit { pattern: pattern.into(), amount }
}

pub(crate) fn lifetime() -> v1::window::Kind {
    v1::window::Kind::Lifetime(v1::window::Lifetime {})
}

pub(crate) fn calendar(unit: v1::CalendarUnit, time_zone: &str) -> v1::window::Kind {
    let time_zone = time_zone.to_owned();
    v1::window::Kind::Calendar(v1::window::Calendar { unit: unit.into(), time_zone })
}
