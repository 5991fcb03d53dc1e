//! How readings find their rows.

use super::{Database, config};
use crate::store::books::plans;
use crate::store::postgres::{MIGRATIONS, migrate};
use crate::store::sql::Sql;

#[test]
fn readings_of_a_database_find_their_rows_by_an_index() {
    let database = Database::new("");
    migrate(&config(&database.address), database.runtime.handle(), MIGRATIONS).unwrap();
    let sql = database.open();
    // Tables without rows are read as a whole, where nothing says otherwise.
    for setting in ["enable_seqscan", "enable_bitmapscan"] {
        sql.execute(&format!("SET {setting} = off"), &[]).unwrap();
    }
    plans::check(&sql);
}
