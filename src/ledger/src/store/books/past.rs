//! A limit that is added, or gets another window, counts what was spent and held in that window before.

use super::balance::NewBalance;
use super::code::{Failure, money, pack_ids, parsed, unpack_ids};
use super::journal::{Entry, Kind, OUT_OF_RANGE};
use super::keys::{self, Count};
use super::memory::Books;
use super::spent;
use super::sums::{Parts, Span};
use crate::store::sql::{self, Row, Value, values};
use crate::store::{StoreError, TagScope};
use std::collections::BTreeSet;
use tollgate_domain::account::AccountKind;
use tollgate_domain::ids::Tag;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::{Period, Window};

/// Which holds charge an account.
enum Payer {
    /// Those with the account in this column.
    Column(&'static str, i64),
    /// Those with this binding tag, in this organization where one is given.
    Tag(Tag, Option<i64>),
    /// Those with this binding tag, of these keys: the ones of a namespace.
    TagOfKeys(Tag, BTreeSet<i64>),
    /// None that one could tell.
    Nobody,
}

/// What a window was charged with before it was counted.
#[derive(Default)]
struct Past {
    posted: Nanodollars,
    pending: Nanodollars,
    /// Holds that can still change, and the balances that they change so far.
    open: Vec<(i64, Vec<i64>)>,
}

impl Books<'_> {
    /// Counts the past of every window of the account that is not among those that were counted `before`. Where there are other
    /// ledgers, the account's lock keeps the holds that charge it as they are; those of a new tag account do not charge it yet,
    /// and are kept by its payers' (`tag_locks`).
    pub(super) fn count_the_past(
        &mut self,
        account: i64,
        before: &[Count],
        now: Timestamp,
    ) -> Result<(), Failure> {
        let charged = self.charged(account)?;
        let payer = self.payer(account)?;
        let moment = self.moment_of(account, now)?;
        for count in &charged.counts {
            let known = |other: &Count| other.window == count.window && other.model == count.model;
            if before.iter().any(known) {
                continue;
            }
            let from = count.window.counts_from(moment).unwrap_or(moment);
            let mut period = count.window.period_at(from);
            while let Some(Period { start, end }) = period {
                self.count_period(account, &payer, count, start, end, now)?;
                period = end.filter(|end| *end <= moment).and_then(|end| count.window.period_at(end));
            }
            // A tag can have been on requests ahead of the clock.
            let end = count.window.period_at(moment).and_then(|period| period.end);
            self.count_since(account, &payer, count, end, now)?;
        }
        Ok(())
    }

    /// Counts the windows of the account that are open at `now` or begin later, as far as anything lies in them.
    pub(super) fn count_again(&mut self, account: i64, now: Timestamp) -> Result<(), Failure> {
        let charged = self.charged(account)?;
        let payer = self.payer(account)?;
        if matches!(payer, Payer::Nobody) {
            return Ok(());
        }
        for count in charged.counts.iter().filter(|count| count.window != Window::Lifetime) {
            let from = count.window.counts_from(now).or(Some(now));
            self.count_since(account, &payer, count, from, now)?;
        }
        Ok(())
    }

    /// Counts the periods since `from` in which any hold was made.
    fn count_since(
        &mut self,
        account: i64,
        payer: &Payer,
        count: &Count,
        mut from: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        while let Some(since) = from {
            let Some(Period { start, end }) = self.next_period(count.window, since)? else { break };
            self.count_period(account, payer, count, start, end, now)?;
            from = end;
        }
        Ok(())
    }

    /// The first period of a window in which a hold was made since `from`.
    fn next_period(&self, window: Window, from: Timestamp) -> sql::Result<Option<Period>> {
        let rows = self
            .db
            .query("SELECT min(created_at) FROM hold WHERE created_at >= $1", &values![from.unix_ms()])?;
        let made_at = rows.first().map(|row| row.maybe_int(0)).transpose()?.flatten();
        Ok(made_at.and_then(|at| window.period_at(Timestamp::new(at))))
    }

    fn count_period(
        &mut self,
        account: i64,
        payer: &Payer,
        count: &Count,
        start: Timestamp,
        end: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let place = NewBalance { account, window: count.window, model: &count.model, start };
        let found = place.find(self.db)?;
        let past = self.past(payer, &count.model, start, end)?;
        let empty = past.posted == Nanodollars::ZERO && past.open.is_empty();
        if found.is_none() && empty {
            return Ok(());
        }
        let balance = match found {
            Some(balance) => balance,
            None => place.insert(self.db)?,
        };
        let standing = self.balance(balance)?.clone();
        let out_of_range = |_| StoreError::Invalid(OUT_OF_RANGE);
        let posted = past.posted.minus(standing.posted).map_err(out_of_range)?;
        let pending = past.pending.minus(standing.pending).map_err(out_of_range)?;
        if (posted, pending) != (Nanodollars::ZERO, Nanodollars::ZERO) {
            let named = [balance];
            let entry = Entry::new(Kind::Count, now, 0, &named);
            self.record(Entry { hold: None, posted, pending, ..entry })?;
        }
        self.add_balance(balance, past.open)?;
        Ok(())
    }

    fn payer(&self, account: i64) -> sql::Result<Payer> {
        let rows =
            self.db.query("SELECT kind, scope, id FROM account WHERE account = $1", &values![account])?;
        let Some(row) = rows.first() else { return Ok(Payer::Nobody) };
        Ok(match parsed("kind of account", row.text(0)?)? {
            AccountKind::Organization => Payer::Column("organization", account),
            AccountKind::Team => Payer::Column("team", account),
            AccountKind::User => Payer::Column("user", account),
            AccountKind::Key => Payer::Column("key", account),
            AccountKind::Tag => {
                let tag = parsed("tag", row.text(2)?)?;
                match TagScope::from(row.text(1)?) {
                    TagScope::Installation => Payer::Tag(tag, None),
                    TagScope::Organization(id) => match self.organization_row(&id)? {
                        Some(organization) => Payer::Tag(tag, Some(organization)),
                        None => Payer::Nobody,
                    },
                    TagScope::Namespace(home) => Payer::TagOfKeys(tag, keys::made_in(self.db, &home)?),
                }
            }
            // A session counts from its first request on.
            AccountKind::Session | AccountKind::Customer => Payer::Nobody,
        })
    }

    fn organization_row(&self, id: &str) -> sql::Result<Option<i64>> {
        let rows = self.db.query(
            "SELECT account FROM account WHERE kind = 'organization' AND scope = '' AND id = $1",
            &values![id],
        )?;
        rows.first().map(|row| row.int(0)).transpose()
    }

    /// Sums the holds made in a span: from the sums of quarter hours where there are some, else one by one.
    fn past(
        &mut self,
        payer: &Payer,
        model: &str,
        start: Timestamp,
        end: Option<Timestamp>,
    ) -> Result<Past, Failure> {
        self.send()?;
        let (start, end) = (start.unix_ms(), end.map_or(i64::MAX, Timestamp::unix_ms));
        // What is in the sums stays so until this transaction ends.
        self.rolled_until(false)?;
        let (start, end) = spent::divisible(self.db, (start, end))?;
        let parts = Parts::of((start, end), spent::QUARTER_MS, spent::spent_until(self.db)?);
        let mut past = Past::default();
        for span in parts.single {
            self.add_past(&mut past, payer, model, span)?;
        }
        if let Some(span) = parts.summed {
            for payer in payer.in_sums() {
                past.post(Nanodollars::new(spent::between(self.db, &payer, model, span)?))?;
            }
        }
        for statement in [
            "SELECT hold, balances, amount, tags, binding_tags, organization, model, key, team, \"user\" FROM hold
             WHERE state = 0 AND expires_at > $1 AND +created_at >= $2 AND +created_at < $3",
            "SELECT hold, balances, CAST(0 AS BIGINT), tags, binding_tags, organization, model, key, team, \"user\" FROM hold
             WHERE state = 3 AND created_at > $1 AND created_at >= $2 AND created_at < $3",
        ] {
            let rows = self.db.query(statement, &values![-1_i64, start, end])?;
            for row in &rows {
                if payer.pays(row)? && (model.is_empty() || row.text(6)? == model) {
                    past.pending = past.pending.plus(money(row, 2)?).map_err(|_| StoreError::Invalid(OUT_OF_RANGE))?;
                    past.open.push((row.int(0)?, unpack_ids(row.blob(1)?)?));
                }
            }
        }
        Ok(past)
    }

    fn add_past(&self, past: &mut Past, payer: &Payer, model: &str, span: Span) -> Result<(), Failure> {
        let (column, row, names) = match payer {
            Payer::Column(column, row) => (*column, Some(*row), "tags, binding_tags"),
            Payer::Tag(_, organization) => ("organization", *organization, "tags, binding_tags"),
            Payer::TagOfKeys(..) => ("key", None, "tags, binding_tags, key"),
            Payer::Nobody => return Ok(()),
        };
        let mut statement = format!(
            "SELECT CAST(sum(posted) AS BIGINT), {names} FROM hold WHERE created_at >= $1 AND created_at < $2"
        );
        let mut params = vec![Value::Int(span.0), Value::Int(span.1)];
        if let Some(row) = row {
            params.push(Value::Int(row));
            statement.push_str(&format!(r#" AND "{column}" = ${}"#, params.len()));
        }
        if !model.is_empty() {
            params.push(Value::Text(model));
            statement.push_str(&format!(" AND model = ${}", params.len()));
        }
        statement.push_str(&format!(" GROUP BY {names}"));
        for row in self.db.query(&statement, &params)? {
            let pays = match payer {
                Payer::Tag(tag, _) => binds(&row, 1, 2, tag)?,
                Payer::TagOfKeys(tag, keys) => keys.contains(&row.int(3)?) && binds(&row, 1, 2, tag)?,
                _ => true,
            };
            if pays {
                past.post(money(&row, 0)?)?;
            }
        }
        Ok(())
    }

    /// Lets holds that are still open end in this balance, too.
    fn add_balance(&mut self, balance: i64, open: Vec<(i64, Vec<i64>)>) -> sql::Result<()> {
        for (hold, mut balances) in open {
            if !balances.contains(&balance) {
                balances.push(balance);
                self.write(
                    "UPDATE hold SET balances = $1 WHERE hold = $2",
                    &values![&pack_ids(&balances), hold],
                )?;
            }
        }
        Ok(())
    }
}

impl Payer {
    /// Whose sums by the quarter of an hour say, together, what it was charged.
    fn in_sums(&self) -> Vec<spent::Payer> {
        match self {
            Self::Column(_, account) => vec![spent::Payer::account(*account)],
            Self::Tag(tag, organization) => vec![spent::Payer::tag(tag, *organization)],
            Self::TagOfKeys(tag, keys) => keys.iter().map(|key| spent::Payer::tag(tag, Some(*key))).collect(),
            Self::Nobody => Vec::new(),
        }
    }

    /// Whether a row of the statements in `past` charges the account.
    fn pays(&self, row: &Row) -> sql::Result<bool> {
        let is = |index: usize, account: i64| Ok(row.maybe_int(index)? == Some(account));
        match self {
            Self::Column("organization", account) => is(5, *account),
            Self::Column("key", account) => is(7, *account),
            Self::Column("team", account) => is(8, *account),
            Self::Column(_, account) => is(9, *account),
            Self::Tag(tag, organization) => {
                let inside = match organization {
                    Some(organization) => is(5, *organization)?,
                    None => true,
                };
                Ok(inside && binds(row, 3, 4, tag)?)
            }
            Self::TagOfKeys(tag, keys) => {
                Ok(row.maybe_int(7)?.is_some_and(|key| keys.contains(&key)) && binds(row, 3, 4, tag)?)
            }
            Self::Nobody => Ok(false),
        }
    }
}

impl Past {
    fn post(&mut self, posted: Nanodollars) -> Result<(), StoreError> {
        self.posted = self.posted.plus(posted).map_err(|_| StoreError::Invalid(OUT_OF_RANGE))?;
        Ok(())
    }
}

/// Whether the tag is among the binding ones of a hold.
pub(super) fn binds(row: &Row, tags: usize, binding: usize, tag: &Tag) -> sql::Result<bool> {
    Ok(spent::binding(row, tags, binding)?.contains(tag))
}

/// Whether this is the window that every account is counted in from its beginning.
pub(super) fn is_lifetime(count: &Count) -> bool {
    count.window == Window::Lifetime && count.model.is_empty()
}
