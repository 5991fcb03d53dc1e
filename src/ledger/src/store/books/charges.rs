//! Which accounts a request charges: those of its key, those of its tags, and that of its session.

use super::code::Failure;
use super::keys::Key;
use super::memory::Books;
use super::meta;
use crate::store::StoreError;
use crate::store::sql::{self, Sql, values};
use std::collections::HashMap;
use tollgate_domain::account::{ACCOUNTS_MAX, AccountKind};
use tollgate_domain::hold::HoldAsk;
use tollgate_domain::ids::Tag;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::time::Timestamp;

/// What a request charges.
#[derive(Debug)]
pub(super) struct Charges<'a> {
    /// The rows, outermost first.
    pub(super) accounts: Vec<i64>,
    /// Its tags, each once: first those that bind.
    pub(super) tags: Vec<&'a Tag>,
    /// How many of them bind.
    pub(super) binding: usize,
    /// A session that has no account yet, and its cap: it gets one with its first hold, and none by asking in vain.
    pub(super) new_session: Option<(&'a str, Nanodollars)>,
}

/// A request that would charge more accounts than one may.
pub(super) const TOO_MANY_ACCOUNTS: &str = "tags name more accounts than one request may charge";

impl Books<'_> {
    pub(super) fn charges<'a>(&mut self, key: &'a Key, ask: &'a HoldAsk) -> Result<Charges<'a>, Failure> {
        let mut tags: Vec<&Tag> = Vec::new();
        let add = |tags: &mut Vec<&'a Tag>, more: &'a [Tag]| {
            for tag in more {
                if !tags.contains(&tag) {
                    tags.push(tag);
                }
            }
        };
        add(&mut tags, &key.policy.tags);
        let pinned = tags.len();
        add(&mut tags, &ask.tags);
        let binding = if key.client_tags_bind { tags.len() } else { pinned };
        let mut accounts: Vec<i64> = key.accounts.iter().map(|(account, _)| *account).collect();
        accounts.extend(self.tag_accounts(key.tag_scopes(), tags.iter().take(binding).copied())?);
        let session = ask.session.as_deref().and_then(|name| Some((name, key.session_limits.of(name)?)));
        if accounts.len() + usize::from(session.is_some()) > ACCOUNTS_MAX {
            return Err(StoreError::Invalid(TOO_MANY_ACCOUNTS).into());
        }
        let mut new_session = None;
        if let Some((name, cap)) = session {
            match self.find_session(key, name)? {
                Some(account) => accounts.push(account),
                None => new_session = Some((name, cap)),
            }
        }
        Ok(Charges { accounts, tags, binding, new_session })
    }

    /// Refuses a request that would charge too many accounts. Most carry too few tags for that, and are not looked at.
    pub(super) fn check_accounts(&mut self, ask: &HoldAsk) -> Result<(), Failure> {
        let Some(key) = self.key(&ask.key)? else { return Ok(()) };
        // Each tag can have three accounts, and there is the session's.
        let at_most = key.accounts.len() + 3 * (key.policy.tags.len() + ask.tags.len()) + 1;
        if at_most > ACCOUNTS_MAX {
            self.charges(&key, ask)?;
        }
        Ok(())
    }

    /// Says that there are other tag accounts now.
    pub(super) fn renew_tags(&mut self) -> sql::Result<()> {
        let next = meta::number(self.db, TAGS_REVISION)?.unwrap_or(0).saturating_add(1);
        self.memory.tags = None;
        meta::set(self.db, TAGS_REVISION, &next.to_be_bytes())
    }

    /// The accounts of these tags: of the whole installation, and within these scopes, of which an empty one is none.
    pub(super) fn tag_accounts<'t>(
        &mut self,
        within: [&str; 2],
        tags: impl Iterator<Item = &'t Tag>,
    ) -> sql::Result<Vec<i64>> {
        let known = match &mut self.memory.tags {
            Some(known) => known,
            unread => unread.insert(load_tags(self.db)?),
        };
        let known = &known.accounts;
        if known.is_empty() {
            return Ok(Vec::new());
        }
        let mut accounts = Vec::new();
        for tag in tags {
            let Some(of_tag) = known.get(tag.as_str()) else { continue };
            // Nobody is charged twice, whatever an organization is called.
            let [one, other] = within;
            let other = if other == one { "" } else { other };
            let scopes = [one, other].into_iter().filter(|scope| !scope.is_empty());
            accounts.extend(std::iter::once("").chain(scopes).filter_map(|scope| of_tag.get(scope)));
        }
        Ok(accounts)
    }

    /// The account of a session that has spoken before; one that had ended goes on.
    fn find_session(&mut self, key: &Key, session: &str) -> sql::Result<Option<i64>> {
        let place = (key.owners.key, session.to_owned());
        if let Some(known) = self.memory.sessions.get(&place) {
            return Ok(Some(*known));
        }
        let found = self.db.query(
            "SELECT account, deleted_at FROM account WHERE kind = 'session' AND scope = $1 AND id = $2",
            &values![&key.id, session],
        )?;
        let Some(row) = found.first() else { return Ok(None) };
        let account = row.int(0)?;
        if !row.is_null(1) {
            self.db.execute("UPDATE account SET deleted_at = NULL WHERE account = $1", &values![account])?;
        }
        self.memory.sessions.insert(place, account);
        Ok(Some(account))
    }

    /// The account of a session whose first hold is made now.
    pub(super) fn make_session(&mut self, key: &Key, session: &str, now: Timestamp) -> sql::Result<i64> {
        let rows = self.db.query(
            "INSERT INTO account (kind, scope, id, created_by, created_at, updated_at)
             VALUES ($1, $2, $3, 'ledger', $4, $5) RETURNING account",
            &values![AccountKind::Session.as_str(), &key.id, session, now.unix_ms(), now.unix_ms()],
        )?;
        let account = rows.first().ok_or_else(|| super::code::corrupt("account"))?.int(0)?;
        self.memory.sessions.insert((key.owners.key, session.to_owned()), account);
        Ok(account)
    }
}

/// Tag accounts, by tag and scope, as they were at a revision.
#[derive(Debug)]
pub(super) struct TagAccounts {
    pub(super) revision: i64,
    accounts: HashMap<String, HashMap<String, i64>>,
}

/// The revision of the tag accounts, in `meta`: it changes whenever one is made, deleted or given back. Unset is 0.
pub(super) const TAGS_REVISION: &str = "tags_revision";

fn load_tags(db: &dyn Sql) -> sql::Result<TagAccounts> {
    // In this order: a tag that is made in between is found, and looked for again.
    let revision = meta::number(db, TAGS_REVISION)?.unwrap_or(0);
    let rows =
        db.query("SELECT scope, id, account FROM account WHERE kind = 'tag' AND deleted_at IS NULL", &[])?;
    let mut accounts: HashMap<String, HashMap<String, i64>> = HashMap::new();
    for row in &rows {
        accounts.entry(row.text(1)?.to_owned()).or_default().insert(row.text(0)?.to_owned(), row.int(2)?);
    }
    Ok(TagAccounts { revision, accounts })
}
