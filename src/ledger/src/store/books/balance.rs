//! Balance rows: what an account spent and holds in one window.

use super::code::{corrupt, instant, money, parsed};
use crate::store::row_statement::{RowStatement, Type};
use crate::store::sql::{self, Row, Sql, values};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::Window;

/// One balance.
#[derive(Clone, Debug)]
pub(crate) struct Balance {
    pub(super) account: i64,
    pub(super) window: Window,
    pub(super) model: String,
    pub(super) start: Timestamp,
    pub(super) posted: Nanodollars,
    pub(super) pending: Nanodollars,
    pub(super) charged_at: Option<i64>,
    pub(super) changed: bool,
}

/// The columns of [`Balance`], for a statement.
macro_rules! select_balance {
    ($rest:literal) => {
        concat!(
            r#"SELECT balance, account, "window", model, window_start, posted, pending, charged_at, checksum FROM balance "#,
            $rest
        )
    };
}
pub(super) use select_balance;

impl Balance {
    pub(super) fn read(db: &dyn Sql, balance: i64) -> sql::Result<Self> {
        let rows = db.query(select_balance!("WHERE balance = $1"), &values![balance])?;
        let row = rows.first().ok_or_else(|| corrupt(&format!("balance {balance}")))?;
        Ok(Self::of(row)?.1)
    }

    /// The row of [`select_balance`], with its number.
    ///
    /// # Errors
    /// Where the row is not the one that was written.
    pub(super) fn of(row: &Row) -> sql::Result<(i64, Self)> {
        let (number, balance) = Self::unchecked(row)?;
        if row.maybe_int(8)? == Some(balance.checksum()) {
            Ok((number, balance))
        } else {
            Err(corrupt(&format!("balance {number}: it was altered")))
        }
    }

    fn unchecked(row: &Row) -> sql::Result<(i64, Self)> {
        let number = row.int(0)?;
        let balance = Self {
            account: row.int(1)?,
            window: parsed("window", row.text(2)?)?,
            model: row.text(3)?.to_owned(),
            start: instant(row, 4)?,
            posted: money(row, 5)?,
            pending: money(row, 6)?,
            charged_at: row.maybe_int(7)?,
            changed: false,
        };
        Ok((number, balance))
    }

    /// The first eight bytes of the SHA-256 over every column but the row's number. Stable: stored rows are checked against it.
    pub(super) fn checksum(&self) -> i64 {
        let mut sum = Sha256::new();
        let numbers = [
            self.account,
            self.start.unix_ms(),
            self.posted.get(),
            self.pending.get(),
            self.charged_at.unwrap_or(-1),
        ];
        for number in numbers {
            sum.update(number.to_be_bytes());
        }
        sum.update(self.window.to_string());
        sum.update([0]);
        sum.update(&self.model);
        let digest: [u8; 32] = sum.finalize().into();
        i64::from_be_bytes(digest.first_chunk().copied().unwrap_or_default())
    }
}

/// Writes what has changed of a balance.
pub(super) static CHANGE_BALANCE: LazyLock<RowStatement> = LazyLock::new(|| {
    RowStatement::update(
        "balance",
        &[
            ("posted", Type::Int),
            ("pending", Type::Int),
            ("charged_at", Type::Int),
            ("checksum", Type::Int),
            ("balance", Type::Int),
        ],
    )
});

/// Where a balance stands, or would stand.
pub(super) struct NewBalance<'a> {
    pub(super) account: i64,
    pub(super) window: Window,
    pub(super) model: &'a str,
    pub(super) start: Timestamp,
}

impl NewBalance<'_> {
    pub(super) fn find(&self, db: &dyn Sql) -> sql::Result<Option<i64>> {
        let rows = db.query(
            r#"SELECT balance FROM balance WHERE account = $1 AND "window" = $2 AND model = $3 AND window_start = $4"#,
            &values![self.account, &self.window.to_string(), self.model, self.start.unix_ms()],
        )?;
        rows.first().map(|row| row.int(0)).transpose()
    }

    pub(super) fn insert(&self, db: &dyn Sql) -> sql::Result<i64> {
        let empty = Balance {
            account: self.account,
            window: self.window,
            model: self.model.to_owned(),
            start: self.start,
            posted: Nanodollars::ZERO,
            pending: Nanodollars::ZERO,
            charged_at: None,
            changed: false,
        };
        let rows = db.query(
            r#"INSERT INTO balance (account, "window", model, window_start, checksum) VALUES ($1, $2, $3, $4, $5)
               RETURNING balance"#,
            &values![self.account, &self.window.to_string(), self.model, self.start.unix_ms(), empty.checksum()],
        )?;
        rows.first().ok_or_else(|| corrupt("balance"))?.int(0)
    }
}

/// Gives balances that were written before there were checksums theirs.
pub(crate) fn add_checksums(db: &dyn Sql) -> sql::Result<()> {
    for row in db.query(select_balance!("WHERE checksum IS NULL"), &[])? {
        let (number, balance) = Balance::unchecked(&row)?;
        db.execute(
            "UPDATE balance SET checksum = $1 WHERE balance = $2",
            &values![balance.checksum(), number],
        )?;
    }
    Ok(())
}
