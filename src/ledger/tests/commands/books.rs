//! Books in some place, with a little of everything in them, and the binary over them.

use crate::cluster::Cluster;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tollgate_domain::account::AccountKind;
use tollgate_domain::api::Api;
use tollgate_domain::bounds::Bounds;
use tollgate_domain::catalogue::Provider;
use tollgate_domain::hold::{End, Event, HoldAsk, Report, Settlement, Verdict};
use tollgate_domain::ids::{HoldId, KeyDigest, ModelName};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::price::{Modifiers, NewAlias, Overlay, PriceBook, Sheet};
use tollgate_domain::time::Timestamp;
use tollgate_domain::usage::Usage;
use tollgate_domain::window::Window;
use tollgate_ledger::clock::Clock;
use tollgate_ledger::store::{
    AccountChange, AccountRef, AccountSpec, BooksStore, Credential, Found, Keeper, LimitSpec, Manager,
    NewAccount, Operated, Owners, Settings, Store, postgres, sqlite,
};

/// `m` costs 1,000 nano-dollars a token in.
pub(crate) const BOOK: &str = r#"{"format": "tollgate-price-book/1", "models": [{"name": "m", "provider": "openai", "mode": "chat",
    "context_window": 1000, "max_output": 100, "rates": [{"tier": "standard", "above": 0, "input": "1", "output": "2"}]}]}"#;

/// Thursday, 2026-01-01T00:00:00Z.
pub(crate) const NEW_YEAR: Timestamp = Timestamp::new(1_767_225_600_000);
pub(crate) const HOUR_MS: i64 = 3_600_000;

/// Where a test keeps its books.
pub(crate) enum Place {
    Sqlite(PathBuf),
    Postgres(String),
}

impl Place {
    /// For each test two: a file that is not there yet, and an empty database.
    pub(crate) fn each(folder: &TempDir) -> [Self; 2] {
        [Self::file(folder, "ledger.db"), Self::Postgres(Cluster::shared().database())]
    }

    pub(crate) fn file(folder: &TempDir, name: &str) -> Self {
        Self::Sqlite(folder.path().join(name))
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Sqlite(path) => path,
            Self::Postgres(_) => panic!("not a file"),
        }
    }

    /// As `import` wants it.
    pub(crate) fn word(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            Self::Postgres(address) => format!("postgres:{address}"),
        }
    }

    /// The binary with a verb over this place.
    pub(crate) fn command(&self, verb: &str) -> Command {
        let mut command = command();
        command.arg(verb);
        match self {
            Self::Sqlite(path) => command.arg("--db").arg(path),
            Self::Postgres(address) => command.arg("--database-url").arg(address),
        };
        command
    }

    /// What the verb says when it succeeds.
    pub(crate) fn run(&self, verb: &str, more: &[&str]) -> String {
        said(self.command(verb).args(more).output().unwrap(), 0)
    }

    /// Runs a statement behind the ledger's back.
    pub(crate) fn alter(&self, sql: &str) {
        match self {
            Self::Sqlite(path) => {
                let file = Connection::open(path).unwrap();
                let free = "DROP TRIGGER entry_is_never_changed";
                if sql.contains("UPDATE entry") {
                    file.execute_batch(free).unwrap();
                }
                file.execute_batch(sql).unwrap();
            }
            Self::Postgres(address) => {
                Cluster::shared().sql(address.rsplit_once('/').unwrap().1, sql);
            }
        }
    }

    /// One number.
    pub(crate) fn number(&self, sql: &str) -> i64 {
        match self {
            Self::Sqlite(path) => {
                let file = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
                file.query_row(sql, [], |row| row.get(0)).unwrap()
            }
            Self::Postgres(address) => {
                let name = address.rsplit_once('/').unwrap().1;
                Cluster::shared().sql(name, sql).parse().unwrap()
            }
        }
    }

    pub(crate) async fn open(&self, clock: &Clock) -> Books {
        self.try_open(clock).await.unwrap()
    }

    /// Why the books are not opened.
    pub(crate) async fn refusal(&self, clock: &Clock) -> String {
        self.try_open(clock).await.err().expect("they are not opened")
    }

    async fn try_open(&self, clock: &Clock) -> Result<Books, String> {
        let prices = Arc::new(PriceBook::parse(BOOK).unwrap());
        let settings = Settings {
            clock: Some(clock.clone()),
            accept_clock: true,
            accept_gap: true,
            ..Settings::new(prices)
        };
        let (store, keeper) = match self {
            Self::Sqlite(path) => sqlite::open(path, settings).map_err(|error| error.to_string())?,
            Self::Postgres(address) => {
                let opened = postgres::open(address.parse().unwrap(), settings).await;
                opened.map_err(|error| error.to_string())?
            }
        };
        Ok(Books { store: Arc::new(store), keeper, clock: clock.clone() })
    }
}

/// Every table of a file, as it is; read without the ledger's code.
pub(crate) fn tables(path: &Path) -> BTreeMap<String, Vec<Vec<Value>>> {
    let file = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let names = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'refinery%'";
    let mut names = file.prepare(names).unwrap();
    let names: Vec<String> =
        names.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    let read = |name: &String| {
        let mut all = file
            .prepare(&format!("SELECT * FROM {name} ORDER BY 1, 2, 3"))
            .unwrap_or_else(|_| file.prepare(&format!("SELECT * FROM {name} ORDER BY 1, 2")).unwrap());
        let columns = all.column_count();
        let rows = all.query_map([], |row| (0..columns).map(|index| row.get(index)).collect());
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    };
    names.iter().map(|name| (name.clone(), read(name))).collect()
}

pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate-ledger"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TOLLGATE_") {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_LOG");
    command
}

/// Everything it said, after it ended as it should.
pub(crate) fn said(output: Output, code: i32) -> String {
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

pub(crate) fn digest(key: u8) -> KeyDigest {
    KeyDigest::new([key; 32])
}

/// No two holds of a test have the same id, in whatever books.
static IDS: AtomicU64 = AtomicU64::new(1);

/// A store that is open.
pub(crate) struct Books {
    store: Arc<BooksStore>,
    keeper: Keeper,
    clock: Clock,
}

impl Books {
    pub(crate) fn store(&self) -> Arc<BooksStore> {
        Arc::clone(&self.store)
    }

    pub(crate) async fn close(self) {
        drop(self.store);
        assert!(self.keeper.closed(Duration::from_secs(10)).await);
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn advance(&self, ms: i64) {
        self.clock.set(self.clock.now().plus_ms(ms));
    }

    /// Lets what is due happen, all of it.
    pub(crate) async fn tick(&self) {
        for _ in 0..8 {
            self.store.report(Vec::new()).await.unwrap();
        }
    }

    async fn make(&self, kind: AccountKind, id: &str, spec: AccountSpec, key: Option<u8>) {
        let credential = key.map(|key| Credential { digest: digest(key), name: format!("sk-...{key:04}") });
        let account = NewAccount { kind, id: id.into(), spec, credential, created_by: "admin".into() };
        self.store.create(account).await.unwrap();
    }

    /// Keys 1 and 2 of a user in a team of an organization that was made after the team.
    pub(crate) async fn family(&self) {
        let limits = |amount| {
            let day = Window::from_duration("1d").unwrap();
            vec![
                LimitSpec::new(Nanodollars::new(amount), Window::Lifetime, None),
                LimitSpec {
                    thresholds: vec![1, 50],
                    ..LimitSpec::new(Nanodollars::new(amount), day, Some("1d".into()))
                },
            ]
        };
        let spec = |owners| AccountSpec { limits: limits(100_000_000), owners, ..AccountSpec::default() };
        self.make(AccountKind::Team, "team", spec(Owners::default()), None).await;
        self.make(AccountKind::Organization, "org", spec(Owners::default()), None).await;
        let owners = Owners { organization: Some("org".into()), ..Owners::default() };
        let team = AccountRef::Id(AccountKind::Team, "team".into());
        let change = AccountChange { owners: Some(owners), ..AccountChange::default() };
        self.store.update(team, change).await.unwrap();
        self.make(AccountKind::User, "user", spec(Owners::default()), None).await;
        for key in [1, 2] {
            let owners = Owners { team: Some("team".into()), user: Some("user".into()), organization: None };
            self.make(AccountKind::Key, &format!("key-{key}"), spec(owners), Some(key)).await;
        }
    }

    /// The version of the key's policy.
    pub(crate) async fn version(&self, key: u8) -> Vec<u8> {
        match self.store.lookup(digest(key), Vec::new()).await.unwrap() {
            Found::Known { policy: Some(policy), .. } => policy.version,
            other => panic!("no policy: {other:?}"),
        }
    }

    pub(crate) async fn ask(&self, key: u8, version: &[u8]) -> (HoldId, Verdict) {
        let mut id = [key; 16];
        id[8..].copy_from_slice(&IDS.fetch_add(1, Ordering::SeqCst).to_be_bytes());
        let ask = HoldAsk {
            id: HoldId::new(id),
            key: digest(key),
            policy_version: version.to_vec(),
            model: ModelName::new("m"),
            provider: Provider::OpenAi,
            api: Api::ChatCompletions,
            bounds: Bounds { input: 100, input_per_call: 100, ..Bounds::default() },
            modifiers: Modifiers::default(),
            fallback_models: Vec::new(),
            tags: vec!["project:a".parse().unwrap()],
            session: None,
            end_user: None,
            client: None,
            catalogue_revision: self.store.prices().revision(),
        };
        (ask.id, self.store.hold(ask, Vec::new()).await.unwrap().0)
    }

    /// Holds 100,000 nano-dollars.
    pub(crate) async fn hold(&self, key: u8) -> HoldId {
        let (id, verdict) = self.ask(key, &self.version(key).await).await;
        assert!(matches!(verdict, Verdict::Held { .. }), "{verdict:?}");
        id
    }

    pub(crate) async fn end(&self, key: u8, hold: HoldId, event: Event) {
        let report = Report { hold, key: digest(key), sequence: 1, event };
        self.store.report(vec![report]).await.unwrap();
    }

    /// A request of 50 tokens.
    pub(crate) async fn spend(&self, key: u8) -> HoldId {
        let hold = self.hold(key).await;
        self.end(key, hold, settle(50)).await;
        hold
    }

    /// Ten requests of each kind, an hour apart, and one that is still open.
    pub(crate) async fn live(&self) {
        self.family().await;
        for _ in 0..10 {
            self.advance(HOUR_MS);
            self.spend(1).await;
            self.spend(2).await;
            let voided = self.hold(1).await;
            self.end(1, voided, Event::Void { status: 503 }).await;
            // Nobody settles it.
            self.hold(2).await;
            self.tick().await;
        }
        self.hold(1).await;
    }
}

pub(crate) fn settle(input: u64) -> Event {
    Event::Settle(Settlement {
        usage: Some(Usage { input, ..Usage::default() }),
        estimated: false,
        end: End::Complete,
        model: None,
        modifiers: Modifiers::default(),
        extra: Vec::new(),
        status: 200,
        duration_ms: 0,
        first_byte_ms: 0,
    })
}

/// Books in which something happened, closed.
pub(crate) async fn lived(place: &Place) {
    let books = place.open(&Clock::stopped(NEW_YEAR)).await;
    books.live().await;
    let alias = NewAlias { alias: "fast".into(), model: "m".into() };
    let overlay = Overlay::new(vec![Sheet { aliases: vec![alias], ..Sheet::default() }]);
    let manager = Manager { name: "kubernetes".into(), scope: "cluster".into() };
    assert!(books.store.set_prices(manager, overlay).await.unwrap().outcome.is_ok());
    books.close().await;
}
