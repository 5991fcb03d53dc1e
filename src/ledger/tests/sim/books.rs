//! The tables as they are, read and added up without the ledger.

use crate::ledger::{Ledger, Place, who};
use crate::plan::Who;
use crate::rows::{Cell, Rows, of_database, of_file};
use rusqlite::{Connection, OpenFlags};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::NoTls;

/// A hold's row: state, posted, amount, overrun, sequence, estimated, when it expires, why it would have been denied.
pub(crate) type HoldRow = (i64, i64, i64, i64, i64, bool, i64, String);

#[derive(Debug, Default)]
pub(crate) struct Books {
    /// By the hold's number.
    pub(crate) holds: BTreeMap<u32, HoldRow>,
    /// Account, window, model, soft, start, part.
    pub(crate) crossings: Vec<(Who, String, String, bool, i64, i64)>,
    entries: Rows,
    balances: Rows,
    numbers: BTreeMap<i64, u32>,
}

const TABLES: [&str; 4] = [
    "SELECT hold, id, state, posted, amount, overrun, sequence, estimated, expires_at, would_deny FROM hold",
    r#"SELECT a.kind, a.scope, a.id, c."window", c.model, c.soft, c.window_start, c.threshold
       FROM crossing c JOIN account a ON a.account = c.account"#,
    "SELECT entry, at, kind, hold, balances, posted, pending FROM entry ORDER BY entry",
    "SELECT balance, posted, pending FROM balance",
];

impl Books {
    pub(crate) async fn read(ledger: &Ledger, set_back: bool) -> Self {
        let tables = match &ledger.place {
            Place::File(_) => {
                let path = ledger.file().unwrap();
                let file = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
                TABLES.map(|sql| of_file(&file, sql))
            }
            Place::Database(address) => {
                let (client, connection) = tokio_postgres::connect(address, NoTls).await.unwrap();
                let connection = tokio::spawn(connection);
                let mut tables = Vec::new();
                for sql in TABLES {
                    tables.push(of_database(&client, sql).await);
                }
                drop(client);
                connection.await.unwrap().unwrap();
                tables.try_into().unwrap()
            }
        };
        Self::of(tables, ledger.is_shared(), set_back)
    }

    fn of([holds, crossings, mut entries, balances]: [Rows; 4], shared: bool, set_back: bool) -> Self {
        if shared {
            // Each ledger has numbers of its own, so that only the time orders them, and within a moment what must have come first; of a
            // time that was set back, only that.
            const ORDER: [&str; 6] = ["hold", "adjust", "settle", "expire", "void", "correct"];
            entries.sort_by_key(|row| {
                let at = if set_back { 0 } else { row[1].int() };
                (at, ORDER.iter().position(|kind| *kind == row[2].maybe_text().unwrap_or_default()))
            });
        }
        let mut books = Self::default();
        for row in &holds {
            let Cell::Blob(id) = &row[1] else { panic!("an id") };
            let number = u32::from_be_bytes(id[12..].try_into().unwrap());
            let int = |index: usize| row[index].int();
            let hold = (
                int(2),
                int(3),
                int(4),
                int(5),
                int(6),
                int(7) != 0,
                int(8),
                row[9].maybe_text().unwrap_or_default().to_owned(),
            );
            books.numbers.insert(int(0), number);
            books.holds.insert(number, hold);
        }
        for row in &crossings {
            let account = who(
                row[0].maybe_text().unwrap_or_default(),
                row[1].maybe_text().unwrap_or_default(),
                row[2].maybe_text().unwrap_or_default(),
            )
            .unwrap();
            let (window, model) = (
                row[3].maybe_text().unwrap_or_default().to_owned(),
                row[4].maybe_text().unwrap_or_default().to_owned(),
            );
            books.crossings.push((account, window, model, row[5].int() != 0, row[6].int(), row[7].int()));
        }
        (books.entries, books.balances) = (entries, balances);
        books
    }

    /// What must hold of the tables, whatever has happened.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.balances_are_sums()?;
        self.stories_are_whole()?;
        let once: BTreeSet<String> = self.crossings.iter().map(|row| format!("{row:?}")).collect();
        if once.len() < self.crossings.len() {
            return Err("a part of a limit is recorded twice".into());
        }
        Ok(())
    }

    fn balances_are_sums(&self) -> Result<(), String> {
        let mut replayed: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
        for row in &self.entries {
            for balance in row[4].numbers() {
                let sums = replayed.entry(balance).or_default();
                sums.0 += row[5].int();
                sums.1 += row[6].int();
            }
        }
        for row in &self.balances {
            let stored = (row[1].int(), row[2].int());
            let sums = replayed.remove(&row[0].int()).unwrap_or_default();
            if stored != sums {
                return Err(format!("balance {:?} is {stored:?}, its entries make {sums:?}", row[0]));
            }
            if stored.1 < 0 {
                return Err(format!("balance {:?} has {} pending", row[0], stored.1));
            }
        }
        if replayed.is_empty() {
            Ok(())
        } else {
            Err(format!("entries of balances that are not there: {replayed:?}"))
        }
    }

    /// A hold is made once and ends once, and its row is the sum of its entries.
    fn stories_are_whole(&self) -> Result<(), String> {
        let mut stories: BTreeMap<u32, (Vec<&str>, i64, i64)> = BTreeMap::new();
        for row in &self.entries {
            let Some(hold) = row[3].maybe_int() else { continue };
            let number = self.numbers.get(&hold).ok_or("an entry of no hold")?;
            let story = stories.entry(*number).or_default();
            story.0.push(row[2].maybe_text().unwrap_or_default());
            story.1 += row[5].int();
            story.2 += row[6].int();
        }
        for (number, (state, posted, amount, ..)) in &self.holds {
            let (kinds, sum_posted, sum_pending) = stories.remove(number).ok_or("a hold without entries")?;
            let pending = if *state == 0 { *amount } else { 0 };
            if (*posted, pending) != (sum_posted, sum_pending) {
                let sums = (sum_posted, sum_pending);
                return Err(format!("hold {number} is {:?}, its entries make {sums:?}", (posted, pending)));
            }
            let mut rest = kinds.as_slice();
            let mut skip = |kind: &str, at_most: usize| {
                let count = rest.iter().take(at_most).take_while(|other| **other == kind).count();
                rest = &rest[count..];
                count
            };
            let made = skip("hold", 1);
            skip("adjust", usize::MAX);
            let endings = [skip("settle", 1), skip("void", 1), skip("expire", 1)];
            let corrected = skip("correct", usize::MAX);
            // What has expired can still be given back.
            let credited = if endings[2] == 1 { skip("void", 1) + skip("correct", usize::MAX) } else { 0 };
            let ends: usize = endings.iter().sum();
            let open = ends == 0 && corrected + credited == 0;
            if made != 1 || ends > 1 || !rest.is_empty() || open != (*state == 0) {
                return Err(format!("the story of hold {number} in state {state} is {kinds:?}"));
            }
        }
        Ok(())
    }
}
