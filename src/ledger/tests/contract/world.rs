//! A small world to spend in: an organization, a team in it, a user and keys, and a price list that can be checked by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tollgate_domain::account::AccountKind;
use tollgate_domain::api::Api;
use tollgate_domain::bounds::Bounds;
use tollgate_domain::catalogue::Provider;
use tollgate_domain::hold::{End, Event, HoldAsk, HoldDenied, Outcome, Report, Settlement, Verdict};
use tollgate_domain::ids::{HoldId, KeyDigest, ModelName, Tag};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::policy::Policy;
use tollgate_domain::price::{Modifiers, PriceBook};
use tollgate_domain::time::Timestamp;
use tollgate_domain::usage::Usage;
use tollgate_domain::window::Window;
use tollgate_ledger::clock::Clock;
use tollgate_ledger::store::{
    AccountChange, AccountRecord, AccountRef, AccountSpec, BooksStore, Credential, Found, LimitSpec,
    NewAccount, Owners, Page, Place, Settings, SpendFilter, SpendRecord, Store,
};

/// A way to open a store.
pub(crate) trait Backend: Sized {
    /// Only one ledger can open its books at a time.
    const ALONE: bool;
    fn new() -> Self;
    /// Opens what was left by the last time, if anything was.
    fn open(&mut self, settings: Settings) -> impl Future<Output = Arc<BooksStore>> {
        async { self.try_open(settings).await.unwrap() }
    }
    /// As [`open`](Self::open), where it may be refused.
    fn try_open(&mut self, settings: Settings) -> impl Future<Output = Result<Arc<BooksStore>, String>>;
    /// Closes the store as a crash would, as far as that can be had within a process.
    fn close(&mut self, store: Arc<BooksStore>) -> impl Future<Output = ()> + Send;
    /// Checks the books with eyes of its own: every balance is the sum of the entries that name it, and so on.
    fn check(&self) -> impl Future<Output = ()>;
    /// Where they are.
    fn place(&self) -> Place;
}

/// `m` costs 1,000 nano-dollars a token in and 2,000 out; `dear` ten times that; `c` has tiers and web searches.
const BOOK: &str = r#"{"format": "tollgate-price-book/1", "models": [
    {"name": "m", "aliases": ["em"], "provider": "openai", "mode": "chat", "context_window": 1000000,
     "max_output": 100000, "rates": [
        {"tier": "standard", "above": 0, "input": "1", "cache_read": "0.5", "output": "2"},
        {"tier": "flex", "above": 0, "input": "0.5", "cache_read": "0.25", "output": "1"}]},
    {"name": "dear", "provider": "openai", "mode": "chat", "context_window": 1000000, "max_output": 100000,
     "rates": [{"tier": "standard", "above": 0, "input": "10", "output": "20"}]},
    {"name": "c", "provider": "anthropic", "mode": "chat", "context_window": 1000000, "max_output": 100000,
     "rates": [{"tier": "standard", "above": 0, "input": "3", "output": "15"}], "web_search": "0.01"}]}"#;

/// Tuesday, 2026-11-24T12:00:00Z.
pub(crate) const NOON: Timestamp = Timestamp::new(1_795_521_600_000);
pub(crate) const HOUR_MS: i64 = 3_600_000;
pub(crate) const DAY_MS: i64 = 24 * HOUR_MS;

pub(crate) struct World<B: Backend> {
    pub(crate) backend: B,
    store: Option<Arc<BooksStore>>,
    pub(crate) clock: Clock,
    ids: AtomicU64,
}

pub(crate) fn money(nanodollars: i64) -> Nanodollars {
    Nanodollars::new(nanodollars)
}

pub(crate) fn digest(key: u8) -> KeyDigest {
    KeyDigest::new([key; 32])
}

pub(crate) fn key(number: u8) -> AccountRef {
    AccountRef::Key(digest(number))
}

pub(crate) fn organization() -> AccountRef {
    AccountRef::Id(AccountKind::Organization, "org".into())
}

pub(crate) fn team() -> AccountRef {
    AccountRef::Id(AccountKind::Team, "team".into())
}

pub(crate) fn user() -> AccountRef {
    AccountRef::Id(AccountKind::User, "user".into())
}

/// An instant, such as `2026-11-24T12:00:00Z`.
pub(crate) fn at(text: &str) -> Timestamp {
    text.parse::<chrono::DateTime<chrono::Utc>>().unwrap().into()
}

/// A limit over a window in its stored form, such as `rolling/3600`.
pub(crate) fn over(amount: i64, window: &str) -> LimitSpec {
    let duration = (window != "lifetime").then(|| window.to_owned());
    LimitSpec::new(money(amount), window.parse().unwrap(), duration)
}

pub(crate) fn capped(limits: Vec<LimitSpec>) -> AccountSpec {
    AccountSpec { limits, ..AccountSpec::default() }
}

pub(crate) fn new_limits(limits: Vec<LimitSpec>) -> AccountChange {
    AccountChange { limits: Some(limits), ..AccountChange::default() }
}

pub(crate) fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

/// A limit over one of LiteLLM's durations, or for life.
pub(crate) fn limit(amount: i64, duration: &str) -> LimitSpec {
    let duration = Some(duration.to_owned()).filter(|text| !text.is_empty());
    let window = duration.as_deref().map_or(Window::Lifetime, |text| Window::from_duration(text).unwrap());
    LimitSpec::new(money(amount), window, duration)
}

pub(crate) fn limits(limits: &[(i64, &str)]) -> Vec<LimitSpec> {
    limits.iter().map(|(amount, duration)| limit(*amount, duration)).collect()
}

pub(crate) fn usage(input: u64, output: u64) -> Usage {
    Usage { input, output, ..Usage::default() }
}

pub(crate) fn settlement(input: u64, output: u64) -> Settlement {
    Settlement {
        usage: Some(usage(input, output)),
        estimated: false,
        end: End::Complete,
        model: None,
        modifiers: Modifiers::default(),
        extra: Vec::new(),
        status: 200,
        duration_ms: 0,
        first_byte_ms: 0,
    }
}

pub(crate) fn settle(input: u64, output: u64) -> Event {
    Event::Settle(settlement(input, output))
}

pub(crate) const VOID: Event = Event::Void { status: 503 };

impl<B: Backend> World<B> {
    pub(crate) async fn new() -> Self {
        let mut backend = B::new();
        let clock = Clock::stopped(NOON);
        let store = backend.open(Self::settings(Self::book(), &clock)).await;
        Self { backend, store: Some(store), clock, ids: AtomicU64::new(1) }
    }

    pub(crate) fn book() -> Arc<PriceBook> {
        Arc::new(PriceBook::parse(BOOK).unwrap())
    }

    pub(crate) fn store(&self) -> Arc<BooksStore> {
        self.store.clone().unwrap()
    }

    pub(crate) async fn restart(&mut self) {
        self.restart_with(Self::book()).await;
    }

    /// Starts again with another price book.
    pub(crate) async fn restart_with(&mut self, book: Arc<PriceBook>) {
        self.restart_as(Self::settings(book, &self.clock)).await;
    }

    pub(crate) async fn restart_as(&mut self, settings: Settings) {
        let store = self.store.take().unwrap();
        self.backend.close(store).await;
        self.store = Some(self.backend.open(settings).await);
    }

    /// Starts again where the clock is judged by the journal: whether the books were opened. Where they were not, they are at noon.
    pub(crate) async fn starts_unaccepted(&mut self) -> Result<(), String> {
        let store = self.store.take().unwrap();
        self.backend.close(store).await;
        let settings = Self::settings(Self::book(), &self.clock);
        let opened = self.backend.try_open(Settings { accept_clock: false, ..settings.clone() }).await;
        let refused = opened.as_ref().err().cloned();
        self.store = Some(match opened {
            Ok(store) => store,
            Err(_) => {
                self.clock.set(NOON);
                self.backend.open(settings).await
            }
        });
        refused.map_or(Ok(()), Err)
    }

    /// The book with every price of `m` doubled.
    pub(crate) fn dearer_book() -> Arc<PriceBook> {
        let text = BOOK
            .replace(r#""input": "1", "cache_read": "0.5", "output": "2""#, r#""input": "2", "output": "4""#);
        Arc::new(PriceBook::parse(&text).unwrap())
    }

    pub(crate) fn settings(book: Arc<PriceBook>, clock: &Clock) -> Settings {
        // A test sets the clock where it wants it; that a start judges it has a test of its own.
        Settings { clock: Some(clock.clone()), accept_clock: true, ..Settings::new(book) }
    }

    pub(crate) async fn check(&mut self) {
        self.backend.check().await;
        let place = self.backend.place();
        let audit = tokio::task::spawn_blocking(move || place.verify()).await.unwrap().unwrap();
        assert!(audit.is_clean(), "{audit}");
    }

    pub(crate) fn advance(&self, ms: i64) {
        self.clock.set(self.clock.now().plus_ms(ms));
    }

    /// Lets what is due happen: the next message finds it done.
    pub(crate) async fn tick(&self) {
        self.store().report(Vec::new()).await.unwrap();
    }

    pub(crate) async fn make(&self, kind: AccountKind, id: &str, spec: AccountSpec) -> AccountRecord {
        self.store().create(Self::new_account(kind, id, spec)).await.unwrap()
    }

    pub(crate) fn new_account(kind: AccountKind, id: &str, spec: AccountSpec) -> NewAccount {
        NewAccount { kind, id: id.into(), spec, credential: None, created_by: "admin".into() }
    }

    pub(crate) fn new_key(number: u8, spec: AccountSpec) -> NewAccount {
        let credential = Credential { digest: digest(number), name: format!("sk-...{number:04}") };
        NewAccount {
            credential: Some(credential),
            ..Self::new_account(AccountKind::Key, &format!("key-{number}"), spec)
        }
    }

    pub(crate) async fn make_key(&self, number: u8, spec: AccountSpec) -> AccountRecord {
        self.store().create(Self::new_key(number, spec)).await.unwrap()
    }

    /// Key 1 alone, with one limit.
    pub(crate) async fn lone_key(&self, amount: i64) {
        self.lone_key_again(1, amount).await;
    }

    /// Another such key.
    pub(crate) async fn lone_key_again(&self, number: u8, amount: i64) {
        self.make_key(number, AccountSpec { limits: limits(&[(amount, "")]), ..AccountSpec::default() })
            .await;
    }

    /// Key 1 of the user in the team of the organization, each with a limit for life.
    pub(crate) async fn family(&self, organization: i64, team: i64, user: i64, key: i64) {
        let spec = |amount, owners| AccountSpec {
            limits: limits(&[(amount, "")]),
            owners,
            ..AccountSpec::default()
        };
        let owners = Owners::default;
        self.make(AccountKind::Organization, "org", spec(organization, owners())).await;
        let in_org = Owners { organization: Some("org".into()), ..owners() };
        let alias = Some("engineering".into());
        self.make(AccountKind::Team, "team", AccountSpec { alias, ..spec(team, in_org) }).await;
        self.make(AccountKind::User, "user", spec(user, owners())).await;
        let of = Owners { organization: None, team: Some("team".into()), user: Some("user".into()) };
        self.make_key(1, spec(key, of)).await;
    }

    pub(crate) async fn change(&self, account: AccountRef, change: AccountChange) -> AccountRecord {
        self.store().update(account, change).await.unwrap()
    }

    pub(crate) async fn set_limits(&self, account: AccountRef, specs: &[(i64, &str)]) -> AccountRecord {
        let change = AccountChange { limits: Some(limits(specs)), ..AccountChange::default() };
        self.change(account, change).await
    }

    pub(crate) async fn record(&self, account: AccountRef) -> AccountRecord {
        self.store().account(account).await.unwrap().unwrap()
    }

    /// Posted and pending over the account's life.
    pub(crate) async fn balance(&self, account: AccountRef) -> (i64, i64) {
        let record = self.record(account).await;
        (record.posted.get(), record.pending.get())
    }

    /// Posted and pending of the account's limit at `index`.
    pub(crate) async fn window(&self, account: AccountRef, index: usize) -> (i64, i64) {
        let record = self.record(account).await;
        (record.limits[index].posted.get(), record.limits[index].pending.get())
    }

    pub(crate) async fn policy(&self, key: u8) -> Policy {
        match self.store().lookup(digest(key), Vec::new()).await.unwrap() {
            Found::Known { policy: Some(policy), .. } => *policy,
            other => panic!("no policy: {other:?}"),
        }
    }

    pub(crate) fn fresh_id(&self) -> HoldId {
        let mut bytes = [0xAB; 16];
        bytes[8..].copy_from_slice(&self.ids.fetch_add(1, Ordering::SeqCst).to_be_bytes());
        HoldId::new(bytes)
    }

    /// An ask of `m` for `input` tokens, on the present policy.
    pub(crate) async fn ask(&self, key: u8, input: u64) -> HoldAsk {
        let version = match self.store().lookup(digest(key), Vec::new()).await.unwrap() {
            Found::Known { policy, .. } => policy.unwrap().version,
            Found::Unknown => Vec::new(),
        };
        HoldAsk {
            id: self.fresh_id(),
            key: digest(key),
            policy_version: version,
            model: ModelName::new("m"),
            provider: Provider::OpenAi,
            api: Api::ChatCompletions,
            bounds: Bounds { input, input_per_call: input, ..Bounds::default() },
            modifiers: Modifiers::default(),
            fallback_models: Vec::new(),
            tags: Vec::new(),
            session: None,
            end_user: None,
            client: None,
            catalogue_revision: Self::book().revision(),
        }
    }

    pub(crate) async fn ask_for(&self, ask: HoldAsk) -> Verdict {
        self.store().hold(ask, Vec::new()).await.unwrap().0
    }

    /// Holds 1,000 nano-dollars for each of `input` tokens, which must be possible.
    pub(crate) async fn hold(&self, key: u8, input: u64) -> HoldId {
        let ask = self.ask(key, input).await;
        let id = ask.id;
        match self.ask_for(ask).await {
            Verdict::Held { amount, .. } => assert_eq!(amount, money(1_000 * input as i64)),
            other => panic!("not held: {other:?}"),
        }
        id
    }

    /// Tries to hold, which must be refused.
    pub(crate) async fn refused(&self, key: u8, input: u64) -> HoldDenied {
        let ask = self.ask(key, input).await;
        match self.ask_for(ask).await {
            Verdict::Denied(denied) => denied,
            other => panic!("not denied: {other:?}"),
        }
    }

    pub(crate) fn news(hold: HoldId, sequence: u64, event: Event) -> Report {
        Report { hold, key: digest(1), sequence, event }
    }

    /// Holds all of an ask, which must be possible.
    pub(crate) async fn hold_ask(&self, ask: HoldAsk) -> HoldId {
        let id = ask.id;
        match self.ask_for(ask).await {
            Verdict::Held { .. } => id,
            other => panic!("not held: {other:?}"),
        }
    }

    /// Tries an ask, which must be refused.
    pub(crate) async fn refused_ask(&self, ask: HoldAsk) -> HoldDenied {
        match self.ask_for(ask).await {
            Verdict::Denied(denied) => denied,
            other => panic!("not denied: {other:?}"),
        }
    }

    /// Holds and settles the same, by key 1.
    pub(crate) async fn spend(&self, input: u64) -> HoldId {
        self.spend_by(1, input).await
    }

    pub(crate) async fn spend_by(&self, key: u8, input: u64) -> HoldId {
        let hold = self.hold(key, input).await;
        assert_eq!(self.report_by(key, hold, 1, settle(input, 0)).await, Outcome::Applied);
        hold
    }

    pub(crate) async fn report_by(&self, key: u8, hold: HoldId, sequence: u64, event: Event) -> Outcome {
        let report = Report { hold, key: digest(key), sequence, event };
        self.store().report(vec![report]).await.unwrap()[0]
    }

    /// What is known of one request.
    pub(crate) async fn log(&self, hold: HoldId) -> SpendRecord {
        let filter = SpendFilter { request: Some(hold), ..SpendFilter::default() };
        self.store().spend_logs(filter, Page { offset: 0, limit: 1 }).await.unwrap().remove(0)
    }

    /// Reports on a hold of key 1.
    pub(crate) async fn report(&self, hold: HoldId, sequence: u64, event: Event) -> Outcome {
        self.store().report(vec![Self::news(hold, sequence, event)]).await.unwrap()[0]
    }
}
