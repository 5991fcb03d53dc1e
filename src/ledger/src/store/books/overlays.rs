//! What operators say of prices, and the book that comes of it.
//!
//! The newest book that any ledger has brought is the base. What lies over it must fit it: where it does not, because a release has
//! brought another base, the book that was in force stays so, whole. Nobody's requests are refused for that, and nobody's prices change
//! until somebody has looked.

use super::code::{Failure, corrupt};
use super::memory::Books;
use super::meta;
use super::prices::{PRICE_REVISION, keep, present_revision, stored};
use crate::store::sql::{self, Sql, values};
use crate::store::{Applied, Manager, PricesSet};
use std::sync::Arc;
use tollgate_domain::price::{Overlay, PriceBook, SheetFault};

/// The newest book that a ledger has brought, in `meta`.
const PRICE_BASE: &str = "price_base";
/// The one that the present book was made of, in `meta`: another one as long as what lies over it does not fit the newest.
const PRICE_MADE_OF: &str = "price_made_of";

/// A ledger brings a book.
pub(super) fn begin(db: &dyn Sql, book: &PriceBook) -> sql::Result<()> {
    lock(db)?;
    meta::set(db, PRICE_BASE, &book.revision().to_be_bytes())?;
    let overlays = overlays(db)?;
    match laid_over(book, told_apart(overlays).iter()) {
        Ok(merged) => put_in_force(db, book.revision(), &merged),
        Err(faults) if present_revision(db)?.is_some() => {
            tracing::error!(
                faults = said(&faults),
                "the price book of this start is not in force: what lies over it does not fit"
            );
            Ok(())
        }
        Err(_) => Err(corrupt("price_overlay")),
    }
}

/// Two at once would each lay its own over the same book. The row is missing only at the very first start.
fn lock(db: &dyn Sql) -> sql::Result<()> {
    if !db.is_shared() {
        return Ok(());
    }
    db.execute("UPDATE meta SET value = value WHERE name = $1", &values![PRICE_REVISION]).map(drop)
}

/// Why the newest book is not in force.
pub(super) fn held_back(db: &dyn Sql) -> sql::Result<Option<String>> {
    let (base, made_of) = (revision(db, PRICE_BASE)?, revision(db, PRICE_MADE_OF)?);
    if base == made_of {
        return Ok(None);
    }
    let (overlays, base) = (overlays(db)?, base_of(db)?);
    let faults = laid_over(&base, told_apart(overlays).iter()).err();
    Ok(faults.map(|faults| format!("the newest price book is not in force: {}", said(&faults))))
}

/// Whether the present book is what comes of the others; another release may have written it in another way.
pub(super) fn is_true(db: &dyn Sql) -> sql::Result<bool> {
    let Some(made_of) = revision(db, PRICE_MADE_OF)? else { return Ok(true) };
    let book = |revision: Option<u64>| revision.and_then(|revision| stored(db, revision).ok().flatten());
    let (Ok(overlays), Some(base), Some(present)) =
        (overlays(db), book(Some(made_of)), book(present_revision(db)?))
    else {
        return Ok(false);
    };
    let merged = laid_over(&base, overlays.iter().map(|(_, overlay)| overlay));
    Ok(merged.is_ok_and(|merged| merged.says_the_same(&present)))
}

fn said(faults: &[SheetFault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Where several operators speak, each sheet says whose it is.
fn told_apart(overlays: Vec<(Manager, Overlay)>) -> Vec<Overlay> {
    let several = overlays.len() > 1;
    let named = |(of, overlay): (Manager, Overlay)| if several { of_manager(&of, overlay) } else { overlay };
    overlays.into_iter().map(named).collect()
}

fn of_manager(manager: &Manager, overlay: Overlay) -> Overlay {
    overlay.of_owner(&format!("{}/{}", manager.name, manager.scope))
}

fn laid_over<'a>(
    book: &PriceBook,
    overlays: impl Iterator<Item = &'a Overlay>,
) -> Result<PriceBook, Vec<SheetFault>> {
    book.under(overlays.flat_map(|overlay| &overlay.sheets))
}

fn put_in_force(db: &dyn Sql, made_of: u64, book: &PriceBook) -> sql::Result<()> {
    keep(db, book)?;
    for name in [PRICE_BASE, PRICE_MADE_OF] {
        meta::set(db, name, &made_of.to_be_bytes())?;
    }
    meta::set(db, PRICE_REVISION, &book.revision().to_be_bytes())
}

fn revision(db: &dyn Sql, name: &'static str) -> sql::Result<Option<u64>> {
    Ok(meta::read(db, name)?.map(u64::from_be_bytes))
}

/// Of books whose ledgers knew no overlays, the present book is the base.
fn base_of(db: &dyn Sql) -> sql::Result<Arc<PriceBook>> {
    let base = match revision(db, PRICE_BASE)? {
        Some(base) => Some(base),
        None => present_revision(db)?,
    };
    let book = base.map(|base| stored(db, base)).transpose()?.flatten();
    book.ok_or_else(|| corrupt("price_base"))
}

/// What each operator says.
fn overlays(db: &dyn Sql) -> sql::Result<Vec<(Manager, Overlay)>> {
    let rows = db.query(
        "SELECT managed_by, owner_scope, text FROM price_overlay ORDER BY managed_by, owner_scope",
        &[],
    )?;
    rows.iter()
        .map(|row| {
            let manager = Manager { name: row.text(0)?.to_owned(), scope: row.text(1)?.to_owned() };
            Ok((manager, Overlay::parse(row.text(2)?).map_err(|_| corrupt("price_overlay"))?))
        })
        .collect()
}

impl Books<'_> {
    /// Lets an operator's word on prices count instead of what it said before: all of it, or nothing.
    pub(super) fn set_overlay(&mut self, manager: &Manager, overlay: &Overlay) -> Result<PricesSet, Failure> {
        let db = self.db;
        lock(db)?;
        let present = present_revision(db)?.ok_or_else(|| corrupt(PRICE_REVISION))?;
        let (own, others): (Vec<_>, Vec<_>) = overlays(db)?.into_iter().partition(|(of, _)| of == manager);
        let base = base_of(db)?;
        // The others come first: a contradiction is the fault of whoever speaks now. It hears who else says something else: their sheets may
        // be called as its own are.
        let others: Vec<Overlay> = others.into_iter().map(|(of, other)| of_manager(&of, other)).collect();
        let book = match laid_over(&base, others.iter().chain([overlay])) {
            Ok(book) => book,
            Err(faults) => return Ok(PricesSet { outcome: Err(faults), revision: present }),
        };
        let before = own.first().map(|(_, before)| before);
        let is_said = before.map_or(overlay.sheets.is_empty(), |before| before == overlay);
        if is_said && book.revision() == present {
            return Ok(PricesSet { outcome: Ok(Applied::Unchanged), revision: present });
        }
        put_overlay(db, manager, overlay)?;
        put_in_force(db, base.revision(), &book)?;
        let applied = if before.is_some() { Applied::Changed } else { Applied::Created };
        Ok(PricesSet { outcome: Ok(applied), revision: book.revision() })
    }

    /// Goes by the present book from now on, and says whether it is another one than before.
    pub(super) fn take_prices(&mut self) -> Result<bool, Failure> {
        let is_new = self.ground.prices.renew(self.db)?;
        if is_new {
            self.flush()?;
            if self.db.is_shared() { self.memory.forget_prices() } else { self.memory.forget(self.db)? }
        }
        Ok(is_new)
    }
}

fn put_overlay(db: &dyn Sql, manager: &Manager, overlay: &Overlay) -> sql::Result<()> {
    let (name, scope) = (manager.name.as_str(), manager.scope.as_str());
    if overlay.sheets.is_empty() {
        let delete = "DELETE FROM price_overlay WHERE managed_by = $1 AND owner_scope = $2";
        return db.execute(delete, &values![name, scope]).map(drop);
    }
    let text = overlay.to_text().map_err(|_| corrupt("price_overlay"))?;
    db.execute(
        "INSERT INTO price_overlay (managed_by, owner_scope, text) VALUES ($1, $2, $3)
         ON CONFLICT (managed_by, owner_scope) DO UPDATE SET text = excluded.text",
        &values![name, scope, text.as_str()],
    )
    .map(drop)
}
