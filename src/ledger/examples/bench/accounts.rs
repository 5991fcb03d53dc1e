//! Four levels of accounts, each with a monthly limit: one organization, its teams, their users, their keys.

use crate::Failure;
use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tollgate_domain::account::AccountKind;
use tollgate_domain::ids::KeyDigest;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::price::{BUILT_IN, PriceBook};
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::Window;
use tollgate_ledger::store::{
    AccountSpec, BooksStore, Credential, Keeper, LimitSpec, NewAccount, Owners, Settings, Store, sqlite,
};

/// So large that no request is refused.
const LIMIT: i64 = i64::MAX / 4;
const MONTH: &str = "1mo";
const CLOSE_MAX: Duration = Duration::from_secs(30);

/// How many there are of each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) teams: u32,
    pub(crate) users: u32,
    pub(crate) keys: u32,
}

/// The digest of the key with this number: spread, as real ones are.
pub(crate) fn digest(number: u32) -> [u8; 32] {
    Sha256::digest(number.to_be_bytes()).into()
}

pub(crate) fn settings() -> Result<Settings, Failure> {
    Ok(Settings::new(Arc::new(PriceBook::parse(BUILT_IN)?)))
}

/// Makes the accounts by the ledger's own code, then closes the books.
pub(crate) async fn make(store: BooksStore, keeper: Keeper, sizes: Sizes) -> Result<(), Failure> {
    let limit = LimitSpec {
        main: true,
        ..LimitSpec::new(Nanodollars::new(LIMIT), Window::from_duration(MONTH)?, Some(MONTH.into()))
    };
    let account = |kind, id: String, owners, credential| NewAccount {
        kind,
        id,
        spec: AccountSpec { limits: vec![limit.clone()], owners, ..AccountSpec::default() },
        credential,
        created_by: "bench".into(),
    };
    let none = Owners::default;
    store.create(account(AccountKind::Organization, "o".into(), none(), None)).await?;
    for team in 0..sizes.teams {
        let owners = Owners { organization: Some("o".into()), ..none() };
        store.create(account(AccountKind::Team, format!("t{team}"), owners, None)).await?;
    }
    for user in 0..sizes.users {
        store.create(account(AccountKind::User, format!("u{user}"), none(), None)).await?;
    }
    for key in 0..sizes.keys {
        let owners = Owners {
            team: Some(format!("t{}", key % sizes.teams)),
            user: Some(format!("u{}", key % sizes.users)),
            ..none()
        };
        let credential = Credential { digest: KeyDigest::new(digest(key)), name: "sk-...".into() };
        store.create(account(AccountKind::Key, format!("k{key}"), owners, Some(credential))).await?;
    }
    drop(store);
    if keeper.closed(CLOSE_MAX).await { Ok(()) } else { Err("the books do not close".into()) }
}

/// Makes the accounts in one transaction, row by row as the ledger would: a million, one by one, would take longer than
/// everything else. Each has been charged this month.
pub(crate) async fn fill(file: &Path, sizes: Sizes) -> Result<(), Failure> {
    let (store, keeper) = sqlite::open(file, settings()?)?;
    drop(store);
    if !keeper.closed(CLOSE_MAX).await {
        return Err("the books do not close".into());
    }
    let mut connection = Connection::open(file)?;
    let transaction = connection.transaction()?;
    {
        let mut rows = Rows::new(&transaction)?;
        let organization = rows.add("organization", "o", [None; 3])?;
        let owned = [Some(organization), None, None];
        let teams = (0..sizes.teams).map(|team| rows.add("team", &format!("t{team}"), owned));
        let teams: Vec<i64> = teams.collect::<Result<_, _>>()?;
        let users = (0..sizes.users).map(|user| rows.add("user", &format!("u{user}"), [None; 3]));
        let users: Vec<i64> = users.collect::<Result<_, _>>()?;
        let mut credential = transaction.prepare(
            "INSERT INTO credential (digest, account, name, created_at) VALUES (?1, ?2, 'sk-...', 0)",
        )?;
        for number in 0..sizes.keys {
            let of = |all: &[i64]| all.get(number as usize % all.len()).copied();
            let key = rows.add("key", &format!("k{number}"), [None, of(&teams), of(&users)])?;
            credential.execute(params![digest(number), key])?;
        }
    }
    transaction.commit()?;
    connection.pragma_update(None, "wal_checkpoint", "TRUNCATE").or_else(|_| Ok::<_, Failure>(()))?;
    Ok(())
}

struct Rows<'a> {
    account: rusqlite::Statement<'a>,
    limit: rusqlite::Statement<'a>,
    balance: rusqlite::Statement<'a>,
    month: Window,
    month_start: i64,
    next: i64,
}

impl<'a> Rows<'a> {
    fn new(connection: &'a Connection) -> Result<Self, Failure> {
        let month = Window::from_duration(MONTH)?;
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
        let start = month.period_at(Timestamp::new(now)).ok_or("no month")?.start;
        Ok(Self {
            account: connection.prepare(
                r#"INSERT INTO account (account, kind, id, organization, team, "user", created_by, created_at, updated_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'bench', unixepoch() * 1000, unixepoch() * 1000)"#,
            )?,
            limit: connection.prepare(
                r#"INSERT INTO budget_limit (account, "window", amount, duration, main, observe) VALUES (?1, ?2, ?3, ?4, 1, 0)"#,
            )?,
            balance: connection.prepare(
                r#"INSERT INTO balance (account, "window", window_start, checksum) VALUES (?1, ?2, ?3, ?4)"#,
            )?,
            month,
            month_start: start.unix_ms(),
            next: 1,
        })
    }

    fn add(
        &mut self,
        kind: &str,
        id: &str,
        [organization, team, user]: [Option<i64>; 3],
    ) -> Result<i64, Failure> {
        let account = self.next;
        self.next += 1;
        self.account.execute(params![account, kind, id, organization, team, user])?;
        self.limit.execute(params![account, self.month.to_string(), LIMIT, MONTH])?;
        for (window, start) in [(Window::Lifetime.to_string(), 0), (self.month.to_string(), self.month_start)]
        {
            self.balance.execute(params![account, window, start, checksum(account, start, &window)])?;
        }
        Ok(account)
    }
}

/// As the ledger checks it, of a balance on which nothing is.
fn checksum(account: i64, start: i64, window: &str) -> i64 {
    let mut sum = Sha256::new();
    for number in [account, start, 0, 0, -1] {
        sum.update(number.to_be_bytes());
    }
    sum.update(window);
    sum.update([0]);
    let digest: [u8; 32] = sum.finalize().into();
    i64::from_be_bytes(digest.first_chunk().copied().unwrap_or_default())
}
