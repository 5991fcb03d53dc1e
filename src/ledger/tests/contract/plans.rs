//! Whether a statement of the hot path gets slower with the age of the books: SQLite says how it would look for its rows.

use rusqlite::Connection;
use std::path::Path;

/// Where the statements are that requests, their reports and the ledger's own work run.
const HOT: [&str; 14] = [
    "accounts",
    "balance",
    "charges",
    "foresight",
    "holds",
    "journal",
    "keys",
    "limits",
    "memory",
    "past",
    "rates",
    "rows",
    "sums",
    "tending",
];

/// What stands before the rest of a statement, where a macro puts it together.
const MACROS: [(&str, &str); 3] = [
    ("select_hold!(\"", "SELECT * FROM hold "),
    ("select_balance!(\"", "SELECT * FROM balance "),
    ("add_holds!(\"", "SELECT * FROM hold WHERE "),
];

/// Every statement in a source text that SQLite is asked.
fn statements(source: &str) -> Vec<String> {
    // Tests have statements of their own.
    let source = source.split("#[cfg(test)]").next().unwrap_or(source);
    let mut found = Vec::new();
    for (start, _) in source.match_indices('"') {
        let (before, text) = (&source[..start], &source[start + 1..]);
        let end = if before.ends_with("r#") { text.find("\"#") } else { end_of(text) };
        let literal = text[..end.unwrap_or(text.len())].replace("\\\"", "\"");
        let prefix = MACROS.iter().find(|(opening, _)| source[..=start].ends_with(opening));
        let is_statement = ["SELECT ", "UPDATE ", "DELETE ", "INSERT "]
            .iter()
            .any(|verb| literal.trim_start().starts_with(verb));
        match prefix {
            Some((_, prefix)) => found.push(format!("{prefix}{literal}")),
            None if is_statement => found.push(literal),
            None => {}
        }
    }
    found.extend(source.split("RowStatement::update(").skip(1).filter_map(row_update));
    found
}

/// A statement that changes one row, as it is put together from the names of its table and its columns, the last of which names
/// the row.
fn row_update(rest: &str) -> Option<String> {
    let names: Vec<&str> = rest.split(']').next()?.split('"').skip(1).step_by(2).collect();
    let (table, row) = (names.first()?, names.last()?);
    Some(format!("UPDATE {table} SET {row} = {row} WHERE {row} = $1"))
}

fn end_of(text: &str) -> Option<usize> {
    text.match_indices('"').map(|(at, _)| at).find(|at| !text[..*at].ends_with('\\'))
}

/// What only PostgreSQL is asked, and what is a part of a statement.
fn is_for_another(statement: &str) -> bool {
    ["ANY (", "unnest(", "nextval", "FOR UPDATE", "FOR SHARE", "DISTINCT key", "{"]
        .iter()
        .any(|part| statement.contains(part))
        || statement.ends_with(char::is_whitespace)
}

/// How the rows of a statement are looked for, step by step.
fn plan(file: &Connection, statement: &str) -> Vec<String> {
    let mut plan = file
        .prepare(&format!("EXPLAIN QUERY PLAN {statement}"))
        .unwrap_or_else(|error| panic!("{error}: {statement}"));
    let steps = plan.raw_query();
    steps.mapped(|row| row.get(3)).collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn no_statement_of_the_hot_path_reads_a_whole_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let _open = crate::sqlite::open_again(path.clone()).unwrap();
    let file = Connection::open(&path).unwrap();
    // As the ledger does.
    file.pragma_update(None, "foreign_keys", false).unwrap();
    let books = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/books");
    let mut judged = 0;
    for name in HOT {
        let source = std::fs::read_to_string(books.join(format!("{name}.rs"))).unwrap();
        for statement in statements(&source).iter().filter(|statement| !is_for_another(statement)) {
            judged += 1;
            // Read from one end, and only the first row of it.
            let first = statement.contains("ORDER BY entry DESC LIMIT");
            // Once, when a file of an older release is opened.
            let once = statement.contains("checksum IS NULL");
            for step in plan(&file, statement) {
                let whole = step.starts_with("SCAN") && step != "SCAN CONSTANT ROW";
                assert!(!whole || first || once, "{name}: {step}: {statement}");
            }
        }
    }
    assert!(judged > 58, "{judged} statements were found");

    // And it would be seen.
    for slow in ["SELECT 1 FROM hold WHERE session = 's'", "SELECT 1 FROM balance WHERE posted > 0"] {
        assert!(plan(&file, slow).iter().any(|step| step.starts_with("SCAN")), "{slow}");
    }
}
