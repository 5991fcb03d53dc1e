//! The embedded store: one SQLite file.

mod driver;
mod file_system;
mod open;

pub(crate) use driver::Sqlite;
pub use open::OpenError;
pub(crate) use open::{Access, SCHEMA, connect, lock_file, open_reader, verify};

use super::books::{BooksStore, Connections, Keeper, Settings, Start};
use std::path::Path;

/// Opens the books in the file, on the newest schema; it is made where it is missing.
///
/// # Errors
/// [`OpenError`].
pub fn open(path: impl AsRef<Path>, settings: Settings) -> Result<(BooksStore, Keeper), OpenError> {
    let opened = open::open(path.as_ref())?;
    let start = Start::read(&opened.writer, &settings)?;
    let reader = || open::open_reader(&opened.path).map(|reader| Box::new(reader) as _);
    let connections = Connections {
        lookups: vec![reader()?],
        lists: vec![reader()?],
        writer: Box::new(opened.writer),
        guard: Some(opened.lock),
    };
    let failed = |error| OpenError::File { path: opened.path.clone(), error };
    BooksStore::start(connections, start).map_err(failed)
}
