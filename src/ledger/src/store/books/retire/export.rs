//! The file that requests leave for.

use crate::store::books::code::{corrupt, state, unpack};
use crate::store::copy::sync_folder;
use crate::store::place::{PlaceError, of_file};
use crate::store::sql::{Result as SqlResult, Row, Value};
use crate::store::tables::{ENTRY, HOLD, Table, row_values};
use serde_json::{Map, Value as Json};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// One JSON object a line: a hold, and its lines of the journal.
pub(super) struct Export {
    path: PathBuf,
    file: File,
    length: u64,
    waiting: Vec<u8>,
    /// Whether it may have what has not left the books.
    unsure: bool,
}

impl Export {
    /// A new file, the name of which is on the disk.
    pub(super) fn create(path: &Path) -> Result<Self, PlaceError> {
        let file = File::create_new(path).map_err(of_file(path))?;
        file.sync_all().map_err(of_file(path))?;
        sync_folder(path)?;
        Ok(Self { path: path.to_owned(), file, length: 0, waiting: Vec::new(), unsure: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn write(&mut self, hold: &Row, entries: &[Row]) -> Result<(), PlaceError> {
        let mut line = object(&HOLD, hold)?;
        let entries: SqlResult<Vec<Json>> =
            entries.iter().map(|entry| Ok(Json::Object(object(&ENTRY, entry)?))).collect();
        line.insert("entries".into(), Json::Array(entries?));
        writeln!(self.waiting, "{}", Json::Object(line)).map_err(of_file(&self.path))
    }

    pub(super) fn sync(&mut self) -> Result<(), PlaceError> {
        let written = self.file.write_all(&self.waiting).and_then(|()| self.file.sync_data());
        written.map_err(of_file(&self.path))?;
        self.length += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }

    /// Takes back what was written since the file had this length.
    pub(super) fn cut(&mut self, length: u64) -> Result<(), PlaceError> {
        self.waiting.clear();
        let cut = self.file.set_len(length).and_then(|()| self.file.seek(SeekFrom::Start(length)));
        if let Err(error) = cut.and_then(|_| self.file.sync_all()) {
            self.unsure = true;
            return Err(of_file(&self.path)(error));
        }
        self.length = length;
        Ok(())
    }

    /// Notes that nobody knows whether its end has left the books.
    pub(super) fn unsure(&mut self) -> &Path {
        self.unsure = true;
        &self.path
    }

    pub(super) const fn is_unsure(&self) -> bool {
        self.unsure
    }
}

/// A row with what is packed unpacked, and the rest of the bytes in hexadecimal.
fn object(table: &Table, row: &Row) -> SqlResult<Map<String, Json>> {
    let mut object = Map::new();
    for (column, value) in table.columns.iter().zip(row_values(table, row)?) {
        let column = column.trim_matches('"');
        let json = match value {
            Value::Int(code) if column == "state" => format!("{:?}", state(code)?).to_lowercase().into(),
            Value::Int(number) => number.into(),
            Value::Flag(flag) => flag.into(),
            Value::Text(text) => text.into(),
            Value::Blob(bytes) if matches!(column, "balances" | "rates" | "bounds" | "usage") => {
                unpack(bytes).ok_or_else(|| corrupt("list"))?.into()
            }
            Value::Blob(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
            Value::Null | Value::Ints(_) | Value::Blobs(_) | Value::List(_) => Json::Null,
        };
        object.insert(column.to_owned(), json);
    }
    Ok(object)
}
