//! Deleting accounts, and the keys of what is deleted: by a few statements, however many keys there are.

use super::accounts::contended;
use super::apply::check_manager;
use super::code::Failure;
use super::memory::Books;
use crate::store::sql::{Value, values};
use crate::store::{AccountRecord, AccountRef, Manager};

/// What a statement does to an account that is deleted and to those that go with it. Each of the parts finds its rows by an index.
macro_rules! of_all_below {
    ($head:literal, $root:literal, $rest:literal) => {
        concat!(
            $head,
            " (SELECT account FROM account WHERE account ",
            $root,
            " AND deleted_at IS NULL
               UNION ALL SELECT account FROM account WHERE organization ",
            $root,
            " AND kind IN ('key', 'team') AND deleted_at IS NULL
               UNION ALL SELECT account FROM account WHERE team ",
            $root,
            r#" AND kind = 'key' AND deleted_at IS NULL
               UNION ALL SELECT account FROM account WHERE "user" "#,
            $root,
            " AND kind = 'key' AND deleted_at IS NULL
               UNION ALL SELECT k.account FROM account t JOIN account k ON k.team = t.account
                   WHERE t.organization ",
            $root,
            " AND k.kind = 'key' AND k.deleted_at IS NULL)",
            $rest
        )
    };
}

/// All of their locks, in the order of all locks.
const LOCK: &str = of_all_below!(
    r#"SELECT count(*) FROM (SELECT 1 FROM balance
       WHERE "window" = 'lifetime' AND model = '' AND account IN "#,
    "= ANY ($1)",
    " ORDER BY balance FOR UPDATE) locked"
);

/// One that somebody else manages.
pub(super) const MANAGED: &str = of_all_below!(
    "SELECT kind, id, managed_by, owner_scope, alias FROM account WHERE account IN ",
    "= $1",
    " AND managed_by <> $2 ORDER BY account LIMIT 1"
);

/// Their credentials are refused from now on.
pub(super) const REVOKE: &str = of_all_below!(
    "UPDATE credential SET revoked_at = $1 WHERE (revoked_at IS NULL OR revoked_at > $1) AND account IN ",
    "= $2",
    ""
);

pub(super) const DELETE: &str = of_all_below!(
    "UPDATE account SET deleted_at = $1, updated_at = $1, revision = revision + 1 WHERE account IN ",
    "= $2",
    ""
);

impl Books<'_> {
    /// Deletes accounts, and the keys of what is deleted. The HTTP API leaves alone what others manage.
    pub(super) fn delete(
        &mut self,
        accounts: &[AccountRef],
        by_api: bool,
    ) -> Result<Vec<AccountRecord>, Failure> {
        let with_tags = accounts.iter().any(|account| matches!(account, AccountRef::Tag { .. }));
        if with_tags {
            self.lock_tags()?;
        }
        let roots = self.all_living(accounts)?;
        self.lock_below(&roots)?;
        // Whatever else belongs to them by now waits for their locks.
        if self.all_living(accounts)? != roots {
            return Err(contended());
        }
        if by_api {
            for root in &roots {
                let managed = self.db.query(MANAGED, &values![*root, Manager::API])?;
                managed.iter().try_for_each(check_manager)?;
            }
        }
        self.observe_clock()?;
        let now = self.now();
        let records = roots.iter().map(|root| self.record_of(*root, now)).collect::<Result<_, _>>()?;
        if with_tags {
            self.renew_tags()?;
        }
        for root in roots {
            self.db.execute(REVOKE, &values![now.unix_ms(), root])?;
            self.db.execute(DELETE, &values![now.unix_ms(), root])?;
        }
        Ok(records)
    }

    fn all_living(&self, accounts: &[AccountRef]) -> Result<Vec<i64>, Failure> {
        accounts.iter().map(|account| self.living(account)).collect()
    }

    fn lock_below(&self, roots: &[i64]) -> Result<(), Failure> {
        if self.db.is_shared() {
            self.db.query(LOCK, &[Value::Ints(roots)])?;
        }
        Ok(())
    }
}
