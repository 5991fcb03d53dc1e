//! The price books: the present one, and those that holds were made by.
//!
//! A ledger that is alone has the book that it was started with. Where there are several, they must agree: the present one stands in
//! the database. A ledger that starts with a book that nobody has seen yet makes that the present one, and the others take it
//! with their next transaction; one that starts with a former book takes the present one.
//!
//! What operators say of prices lies over the book (`overlays.rs`), so the present book is the one that comes of both.

use super::code::corrupt;
use super::meta;
use super::overlays;
use crate::store::sql::{self, Sql, values};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use tollgate_domain::price::PriceBook;

/// Price books by their revision, shared by all threads.
#[derive(Clone, Debug)]
pub(crate) struct Prices(Arc<RwLock<Shelf>>);

#[derive(Debug)]
struct Shelf {
    present: Arc<PriceBook>,
    former: HashMap<u64, Arc<PriceBook>>,
    /// Why the newest book is not in force.
    held_back: Option<String>,
}

impl Prices {
    /// Keeps the text of the book, and learns which is the present one.
    pub(super) fn begin(db: &dyn Sql, book: &Arc<PriceBook>) -> sql::Result<Self> {
        let known = keep(db, book)?;
        let prices = Self::new(book.clone());
        if !(known && db.is_shared() && present_revision(db)?.is_some()) {
            overlays::begin(db, book)?;
        }
        prices.renew(db)?;
        prices.set_held_back(overlays::held_back(db)?);
        Ok(prices)
    }

    /// This book alone.
    pub(crate) fn new(present: Arc<PriceBook>) -> Self {
        Self(Arc::new(RwLock::new(Shelf { present, former: HashMap::new(), held_back: None })))
    }

    /// The present book.
    pub(crate) fn present(&self) -> Arc<PriceBook> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).present.clone()
    }

    /// Why the newest book is not in force, where it is not.
    pub(crate) fn held_back(&self) -> Option<String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).held_back.clone()
    }

    fn set_held_back(&self, why: Option<String>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).held_back = why;
    }

    /// The book that a hold was made by.
    ///
    /// # Errors
    /// Where it is not there, or cannot be read: nothing is ever settled by other prices than it was made by.
    pub(super) fn of(&self, db: &dyn Sql, revision: u64) -> sql::Result<Arc<PriceBook>> {
        {
            let shelf = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if shelf.present.revision() == revision {
                return Ok(shelf.present.clone());
            }
            if let Some(book) = shelf.former.get(&revision) {
                return Ok(book.clone());
            }
        }
        let book = stored(db, revision)?.ok_or_else(|| corrupt("price book of a hold"))?;
        let mut shelf = self.0.write().unwrap_or_else(PoisonError::into_inner);
        shelf.former.insert(revision, book.clone());
        Ok(book)
    }

    /// The present book of the database, for one reading.
    pub(super) fn as_of(&self, db: &dyn Sql) -> sql::Result<Self> {
        match present_revision(db)? {
            Some(revision) if revision != self.present().revision() => Ok(Self::new(self.of(db, revision)?)),
            _ => Ok(self.clone()),
        }
    }

    /// Takes the book that is present in the database, and says whether it is another one than before.
    pub(super) fn renew(&self, db: &dyn Sql) -> sql::Result<bool> {
        match present_revision(db)? {
            Some(revision) => self.renew_to(db, revision),
            None => Ok(false),
        }
    }

    /// As [`renew`](Self::renew), where the revision was read already.
    pub(super) fn renew_to(&self, db: &dyn Sql, revision: u64) -> sql::Result<bool> {
        let before = self.present();
        if before.revision() == revision {
            return Ok(false);
        }
        let present = self.of(db, revision)?;
        let held_back = overlays::held_back(db)?;
        tracing::info!(revision, "another price book is in force");
        let mut shelf = self.0.write().unwrap_or_else(PoisonError::into_inner);
        shelf.former.insert(before.revision(), before);
        shelf.present = present;
        shelf.held_back = held_back;
        Ok(true)
    }
}

/// The present revision, in `meta`.
pub(super) const PRICE_REVISION: &str = "price_revision";

pub(super) fn present_revision(db: &dyn Sql) -> sql::Result<Option<u64>> {
    Ok(meta::read(db, PRICE_REVISION)?.map(u64::from_be_bytes))
}

/// Keeps the text of a book, and says whether it was there already.
pub(super) fn keep(db: &dyn Sql, book: &PriceBook) -> sql::Result<bool> {
    if stored(db, book.revision())?.is_some() {
        return Ok(true);
    }
    db.execute(
        "INSERT INTO price_book (revision, text) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        &values![book.revision().cast_signed(), book.source()],
    )?;
    Ok(false)
}

/// The book of this revision.
pub(super) fn stored(db: &dyn Sql, revision: u64) -> sql::Result<Option<Arc<PriceBook>>> {
    let rows =
        db.query("SELECT text FROM price_book WHERE revision = $1", &values![revision.cast_signed()])?;
    let Some(row) = rows.first() else { return Ok(None) };
    match PriceBook::parse(row.text(0)?) {
        Ok(book) if book.revision() == revision => Ok(Some(Arc::new(book))),
        _ => Err(corrupt("price book")),
    }
}
