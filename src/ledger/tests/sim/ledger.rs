//! The ledger under test: one store over SQLite, or two over one PostgreSQL.

use crate::cluster::Cluster;
use crate::oracle::{Decision, Denial, Reply, alias, kind};
use crate::plan::{
    Amount, Ask, Belongs, Change, Event, Limit, Message, Name, News, SessionsOf, Speed, Tokens, Who,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tollgate_domain::account::AccountKind;
use tollgate_domain::api::Api;
use tollgate_domain::bounds::Bounds;
use tollgate_domain::catalogue::Provider;
use tollgate_domain::hold::{self, End, HoldAsk, Report, Settlement, Verdict};
use tollgate_domain::ids::{HoldId, KeyDigest, ModelName, Tag};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::policy::Amounts;
use tollgate_domain::price::{Modifiers, PriceBook};
use tollgate_domain::rate::Rate;
use tollgate_domain::session::SessionPattern;
use tollgate_domain::time::Timestamp;
use tollgate_domain::usage::Usage;
use tollgate_ledger::clock::Clock;
use tollgate_ledger::store::{
    self, AccountChange, AccountRecord, AccountRef, AccountSpec, BooksStore, Credential, Found, Keeper,
    LimitSpec, NewAccount, Owners, RateSpec, Settings, Store, StoreError, TagScope, postgres, sqlite,
};

/// `m` costs 1,000 nano-dollars a token in, 500 from the cache, 2,000 out; `dear` ten times that.
const BOOK: &str = r#"{"format": "tollgate-price-book/1", "models": [
    {"name": "m", "aliases": ["em"], "provider": "openai", "mode": "chat", "context_window": 1000000,
     "max_output": 100000, "rates": [{"tier": "standard", "above": 0, "input": "1", "cache_read": "0.5", "output": "2"}]},
    {"name": "dear", "provider": "openai", "mode": "chat", "context_window": 1000000, "max_output": 100000,
     "rates": [{"tier": "standard", "above": 0, "input": "10", "output": "20"}]}]}"#;

/// Where the books are.
pub(crate) enum Place {
    /// A folder for each crash.
    File(Vec<TempDir>),
    Database(String),
}

pub(crate) struct Ledger {
    pub(crate) place: Place,
    clock: Clock,
    observe_all: bool,
    stores: Vec<(Arc<BooksStore>, Keeper)>,
    /// The policy versions that the filter remembers.
    remembered: BTreeMap<u8, Vec<u8>>,
}

pub(crate) type Fault = String;

fn fault(error: impl std::fmt::Display) -> Fault {
    format!("the store failed: {error}")
}

/// In memory where there is a place for it: what a disk does has tests of its own.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let builder = || tempfile::Builder::new().prefix("tollgate-sim-").to_owned();
    let made = if memory.is_dir() { builder().tempdir_in(memory) } else { builder().tempdir() };
    made.or_else(|_| tempfile::tempdir()).unwrap()
}

impl Ledger {
    pub(crate) fn over_sqlite(now: i64, observe_all: bool) -> Self {
        Self::new(Place::File(vec![folder()]), now, observe_all)
    }

    pub(crate) fn over_postgres(now: i64, observe_all: bool) -> Self {
        Self::new(Place::Database(Cluster::shared().database()), now, observe_all)
    }

    fn new(place: Place, now: i64, observe_all: bool) -> Self {
        let clock = Clock::stopped(Timestamp::new(now));
        Self { place, clock, observe_all, stores: Vec::new(), remembered: BTreeMap::new() }
    }

    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.place, Place::Database(_))
    }

    pub(crate) fn file(&self) -> Option<PathBuf> {
        match &self.place {
            Place::File(folders) => Some(folders.last().unwrap().path().join("ledger.db")),
            Place::Database(_) => None,
        }
    }

    pub(crate) fn books(&self) -> store::Place {
        match &self.place {
            Place::File(_) => store::Place::Sqlite(self.file().unwrap()),
            Place::Database(address) => store::Place::Postgres(Box::new(address.parse().unwrap())),
        }
    }

    pub(crate) fn set_clock(&self, now: i64) {
        self.clock.set(Timestamp::new(now));
    }

    pub(crate) async fn open(&mut self) -> Result<usize, Fault> {
        let book = Arc::new(PriceBook::parse(BOOK).unwrap());
        let settings = || Settings {
            clock: Some(self.clock.clone()),
            accept_clock: true,
            observe: self.observe_all,
            ..Settings::new(book.clone())
        };
        let mut opened = Vec::new();
        match (&self.place, self.file()) {
            (Place::Database(address), _) => {
                for _ in 0..2 {
                    let config = address.parse().unwrap();
                    opened.push(postgres::open(config, settings()).await.map_err(fault)?);
                }
            }
            (Place::File(_), file) => opened.push(sqlite::open(file.unwrap(), settings()).map_err(fault)?),
        }
        self.stores = opened.into_iter().map(|(store, keeper)| (Arc::new(store), keeper)).collect();
        Ok(self.stores.len())
    }

    pub(crate) async fn close(&mut self) -> Result<(), Fault> {
        for (store, keeper) in std::mem::take(&mut self.stores) {
            drop(store);
            if !keeper.closed(Duration::from_secs(20)).await {
                return Err("a store does not close".into());
            }
        }
        Ok(())
    }

    /// Goes on with the files as a process leaves them that is killed.
    pub(crate) fn crash(&mut self) {
        let Some(file) = self.file() else { return };
        let Place::File(folders) = &mut self.place else { return };
        let copy = folder();
        for name in ["ledger.db", "ledger.db-wal"] {
            let from = file.with_file_name(name);
            if from.exists() {
                std::fs::copy(from, copy.path().join(name)).unwrap();
            }
        }
        folders.push(copy);
    }

    fn store(&self, index: usize) -> Arc<BooksStore> {
        self.stores[index % self.stores.len()].0.clone()
    }

    /// Lets each store do what is due.
    pub(crate) async fn tick(&self, index: usize) -> Result<(), Fault> {
        self.store(index).report(Vec::new()).await.map(drop).map_err(fault)
    }

    /// Whether the key is known; its policy is remembered then.
    pub(crate) async fn look_up(&mut self, index: usize, key: u8) -> Result<bool, Fault> {
        match self.store(index).lookup(digest(key), Vec::new()).await.map_err(fault)? {
            Found::Known { policy, .. } => {
                self.remembered.insert(key, policy.unwrap().version);
                Ok(true)
            }
            Found::Unknown => {
                self.remembered.remove(&key);
                Ok(false)
            }
        }
    }

    pub(crate) async fn exhausted(&self, index: usize, key: u8) -> Result<Option<Denial>, Fault> {
        let found = self.store(index).lookup(digest(key), Vec::new()).await.map_err(fault)?;
        let Found::Known { exhausted, .. } = found else { return Ok(None) };
        Ok(exhausted.map(|exhausted| Denial {
            reason: hold::DenialReason::BudgetSpent,
            account: Some(exhausted.account),
            amounts: Some(amounts(exhausted.amounts)),
            resets_at: exhausted.resets_at.map(Timestamp::unix_ms),
            retry_after_ms: None,
        }))
    }

    pub(crate) async fn record(&self, index: usize, who: Who) -> Result<Option<AccountRecord>, Fault> {
        self.store(index).account(reference(who)).await.map_err(fault)
    }

    /// What a message comes to. The future owns everything, so that several can run at once, or be dropped.
    pub(crate) fn send(
        &self,
        index: usize,
        message: &Message,
    ) -> impl Future<Output = Result<Reply, Fault>> + Send + 'static {
        let (store, message) = (self.store(index), message.clone());
        let version = match &message {
            Message::Hold(ask, _) => self.remembered.get(&ask.key).cloned().unwrap_or_default(),
            _ => Vec::new(),
        };
        async move {
            let reply = match message {
                Message::Hold(ask, news) => store
                    .hold(hold_ask(&ask, version), reports(&news))
                    .await
                    .map(|(verdict, outcomes)| Reply::Decided(decision(verdict), outcomes)),
                Message::Report(news) => store.report(reports(&news)).await.map(Reply::Outcomes),
                Message::Correct(hold, cost) => store
                    .correct(id(hold), Nanodollars::new(cost))
                    .await
                    .map(|before| Reply::Before(before.get())),
                Message::Make(who, spec) => store.create(new_account(who, &spec)).await.map(|_| Reply::Done),
                Message::Change(who, change) => {
                    store.update(reference(who), account_change(&change)).await.map(|_| Reply::Done)
                }
                Message::Delete(who) => store.delete(vec![reference(who)]).await.map(|_| Reply::Done),
            };
            match reply {
                Ok(reply) => Ok(reply),
                Err(StoreError::Invalid(_)) => Ok(Reply::Invalid),
                Err(StoreError::NotFound(_)) => Ok(Reply::NotFound),
                Err(StoreError::Conflict(_) | StoreError::Managed(_) | StoreError::Foreign(_)) => {
                    Ok(Reply::Conflict)
                }
                Err(error @ StoreError::Unavailable(_)) => Err(fault(error)),
            }
        }
    }
}

fn digest(key: u8) -> KeyDigest {
    KeyDigest::new([key; 32])
}

pub(crate) fn id(number: u32) -> HoldId {
    let mut bytes = [0xAB; 16];
    bytes[12..].copy_from_slice(&number.to_be_bytes());
    HoldId::new(bytes)
}

pub(crate) const fn name(model: Name) -> &'static str {
    match model {
        Name::M => "m",
        Name::Em => "em",
        Name::Dear => "dear",
        Name::New => "new",
    }
}

/// The id of an account within its scope.
pub(crate) fn account_id(who: Who) -> String {
    match who {
        Who::Tag(_, tag) => format!("tag-{tag}"),
        Who::Session(_, session) => format!("session-{session}"),
        who => alias(who),
    }
}

fn reference(who: Who) -> AccountRef {
    match who {
        Who::Tag(organization, _) => AccountRef::Tag {
            scope: TagScope::of_organization(organization.map(organization_id)),
            tag: account_id(who),
        },
        who => AccountRef::Id(kind(who), account_id(who)),
    }
}

fn organization_id(organization: u8) -> String {
    account_id(Who::Organization(organization))
}

fn tag(tag: &u8) -> Tag {
    account_id(Who::Tag(None, *tag)).parse().unwrap()
}

fn hold_ask(ask: &Ask, policy_version: Vec<u8>) -> HoldAsk {
    let bounds =
        Bounds { input: ask.input, input_per_call: ask.input, output: ask.output, ..Bounds::default() };
    HoldAsk {
        id: id(ask.number),
        key: digest(ask.key),
        policy_version,
        model: ModelName::new(name(ask.model)),
        provider: Provider::OpenAi,
        api: Api::ChatCompletions,
        bounds,
        modifiers: Modifiers::default(),
        fallback_models: if ask.fallback { vec![ModelName::new("dear")] } else { Vec::new() },
        tags: ask.tags.iter().map(tag).collect(),
        session: ask.session.map(|session| account_id(Who::Session(ask.key, session))),
        end_user: None,
        client: None,
        catalogue_revision: 0,
    }
}

fn usage((input, cache_read, output): Tokens) -> Usage {
    Usage { input, cache_read, output, ..Usage::default() }
}

fn reports(news: &[News]) -> Vec<Report> {
    let event = |event| match event {
        Event::Adjust { exact, seen } => hold::Event::Adjust { usage: exact.map(usage), output_seen: seen },
        Event::Void => hold::Event::Void { status: 503 },
        Event::Settle { used, model } => hold::Event::Settle(Settlement {
            usage: used.map(usage),
            estimated: false,
            end: End::Complete,
            model: model.map(|model| name(model).to_owned()),
            modifiers: Modifiers::default(),
            extra: Vec::new(),
            status: 200,
            duration_ms: 0,
            first_byte_ms: 0,
        }),
    };
    let report = |news: &News| Report {
        hold: id(news.hold),
        key: digest(news.key),
        sequence: news.sequence,
        event: event(news.event),
    };
    news.iter().map(report).collect()
}

fn decision(verdict: Verdict) -> Decision {
    match verdict {
        Verdict::Held { amount, expires_at, rates } => Decision::Held {
            amount: amount.get(),
            expires_at: expires_at.unix_ms(),
            rates: rates
                .iter()
                .map(|now| (now.rate.kind, now.rate.limit, now.remaining, now.resets_at.unix_ms()))
                .collect(),
        },
        Verdict::Denied(denied) => Decision::Denied(Denial {
            reason: denied.reason,
            account: denied.account,
            amounts: denied.amounts.map(amounts),
            resets_at: denied.resets_at.map(Timestamp::unix_ms),
            retry_after_ms: denied.retry_after_ms,
        }),
        Verdict::Stale(..) => Decision::Stale,
    }
}

fn amounts(amounts: Amounts) -> (i64, i64, i64, i64) {
    (amounts.limit.get(), amounts.posted.get(), amounts.pending.get(), amounts.requested.get())
}

fn owners(belongs: Belongs) -> Owners {
    let id = |who: Option<Who>| who.map(account_id);
    Owners {
        organization: id(belongs.organization.map(Who::Organization)),
        team: id(belongs.team.map(Who::Team)),
        user: id(belongs.user.map(Who::User)),
    }
}

fn limit_spec(limit: &Limit) -> LimitSpec {
    let Amount::Just(amount) = limit.amount else { panic!("an amount that is no number yet") };
    LimitSpec {
        main: limit.main,
        observe: limit.observe,
        model: limit.model.map(|model| name(model).to_owned()),
        soft: limit.soft,
        thresholds: limit.thresholds.clone(),
        ..LimitSpec::new(Nanodollars::new(amount), limit.span.window(), None)
    }
}

fn rate_spec(speed: &Speed) -> RateSpec {
    RateSpec {
        rate: Rate { kind: speed.kind, limit: speed.limit },
        model: speed.model.map(|model| name(model).to_owned()),
        observe: speed.observe,
    }
}

fn account_change(change: &Change) -> AccountChange {
    AccountChange {
        owners: change.owners.map(owners),
        limits: change.limits.as_ref().map(|limits| limits.iter().map(limit_spec).collect()),
        rates: change.rates.as_ref().map(|rates| rates.iter().map(rate_spec).collect()),
        blocked: change.blocked,
        tags: change.tags.as_ref().map(|tags| tags.iter().map(tag).collect()),
        client_tags_bind: change.client_tags_bind,
        session_limit: change.session_limit.map(|limit| limit.map(Nanodollars::new)),
        session_limits: change
            .session_limits
            .as_ref()
            .map(|limits| limits.iter().map(session_limit).collect()),
        ..AccountChange::default()
    }
}

fn session_limit((sessions, amount): &(SessionsOf, i64)) -> (SessionPattern, Nanodollars) {
    let pattern = match sessions {
        SessionsOf::Every => "session-*".to_owned(),
        SessionsOf::One(session) => account_id(Who::Session(0, *session)),
        SessionsOf::Ending(session) => format!("*-{session}"),
    };
    (pattern.parse().unwrap(), Nanodollars::new(*amount))
}

fn new_account(who: Who, spec: &Change) -> NewAccount {
    let change = account_change(spec);
    let credential = match who {
        Who::Key(key) => Some(Credential { digest: digest(key), name: format!("sk-...{key:04}") }),
        _ => None,
    };
    NewAccount {
        kind: kind(who),
        id: account_id(who),
        spec: AccountSpec {
            alias: Some(alias(who)),
            owners: change.owners.unwrap_or_default(),
            limits: change.limits.unwrap_or_default(),
            rates: change.rates.unwrap_or_default(),
            blocked: change.blocked.unwrap_or_default(),
            tags: change.tags.unwrap_or_default(),
            client_tags_bind: change.client_tags_bind.unwrap_or_default(),
            session_limit: change.session_limit.unwrap_or_default(),
            session_limits: change.session_limits.unwrap_or_default(),
            ..AccountSpec::default()
        },
        credential,
        created_by: "admin".into(),
    }
}

/// The account of a row, by what the row says.
pub(crate) fn who(kind: &str, scope: &str, id: &str) -> Option<Who> {
    let within = |who: Who| kind == self::kind(who).as_str() && id == account_id(who);
    let all = (0..4).flat_map(|number| {
        let tags = [None, Some(0), Some(1)].map(|organization| Who::Tag(organization, number));
        let sessions = (0..4).map(move |key| Who::Session(key, number));
        let others = [Who::Organization(number), Who::Team(number), Who::User(number), Who::Key(number)];
        others.into_iter().chain(tags).chain(sessions)
    });
    let scope_of = |who: Who| match who {
        Who::Tag(organization, _) => organization.map(organization_id).unwrap_or_default(),
        Who::Session(key, _) => account_id(Who::Key(key)),
        _ => String::new(),
    };
    all.into_iter().find(|who| within(*who) && scope_of(*who) == scope)
}

/// Kinds whose accounts can be read by name.
pub(crate) fn is_listed(who: Who) -> bool {
    kind(who) != AccountKind::Session
}
