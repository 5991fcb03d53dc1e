//! The ledger keeps to what CockroachDB, YugabyteDB and Citus have, too: every statement in the sources and every migration is read
//! for what one of them lacks. None of them is run by the tests; `docs/scale.md` says what is expected of each.

use std::path::{Path, PathBuf};

/// What none of the statements may have, as words in their order, and why.
const LACKING: &[(&str, &str)] = &[
    (
        "pg_advisory_lock",
        "advisory locks: none in CockroachDB, none by default in YugabyteDB, of one node in Citus",
    ),
    ("pg_advisory_xact_lock", "advisory locks"),
    ("pg_try_advisory_lock", "advisory locks"),
    ("pg_try_advisory_xact_lock", "advisory locks"),
    ("LISTEN", "no notifications in CockroachDB and YugabyteDB"),
    ("NOTIFY", "no notifications in CockroachDB and YugabyteDB"),
    ("pg_notify", "no notifications in CockroachDB and YugabyteDB"),
    ("DEFERRABLE", "constraints are checked at once in CockroachDB and YugabyteDB"),
    ("INITIALLY DEFERRED", "constraints are checked at once in CockroachDB and YugabyteDB"),
    ("EXCLUDE USING", "no exclusion constraints in CockroachDB and YugabyteDB"),
    ("CREATE TRIGGER", "young in CockroachDB, and none on distributed tables in Citus"),
    ("CREATE FUNCTION", "functions of three databases are three functions"),
    ("CREATE PROCEDURE", "functions of three databases are three functions"),
    ("CREATE RULE", "no rules in CockroachDB"),
    ("CREATE EXTENSION", "extensions differ"),
    ("CREATE DOMAIN", "no domains in CockroachDB"),
    ("CREATE TEMP", "temporary tables are experimental in CockroachDB, and catalogue changes in YugabyteDB"),
    (
        "CREATE TEMPORARY",
        "temporary tables are experimental in CockroachDB, and catalogue changes in YugabyteDB",
    ),
    ("CREATE UNLOGGED", "nothing that a loss of power takes may hold money"),
    ("PARTITION BY", "each of them partitions in its own way"),
    ("INHERITS", "no inheritance in CockroachDB and YugabyteDB"),
    ("SKIP LOCKED", "not in every isolation of YugabyteDB, and not over shards in Citus"),
    ("NOWAIT", "not in every isolation of YugabyteDB"),
    ("LOCK TABLE", "no table locks in CockroachDB and YugabyteDB"),
    ("FOR NO KEY UPDATE", "another lock in CockroachDB"),
    ("FOR KEY SHARE", "another lock in CockroachDB"),
    ("ctid", "rows have no place in CockroachDB"),
    ("xmin", "rows have no transaction in CockroachDB"),
    ("MERGE INTO", "no MERGE in CockroachDB and YugabyteDB"),
    ("WHERE CURRENT OF", "no cursors that write in CockroachDB and Citus"),
    ("lastval", "of one session in PostgreSQL, and slow or missing elsewhere"),
    ("currval", "of one session in PostgreSQL, and slow or missing elsewhere"),
    ("TRUNCATE", "a schema change in CockroachDB, and no transaction in YugabyteDB"),
    ("COPY", "not with all its options in CockroachDB"),
    ("DO $$", "no PL/pgSQL blocks in older CockroachDB"),
    ("CONCURRENTLY", "outside of transactions only"),
    ("COLLATE", "collations differ"),
    ("USING gin", "indexes of other kinds differ"),
    ("USING gist", "indexes of other kinds differ"),
    ("jsonb", "the operators of three databases are not the same"),
];

/// Statements that may have what else none may, because the ledger does without where they are refused.
const DISPENSABLE: [&str; 1] = ["ORDER BY balance FOR UPDATE SKIP LOCKED"];

/// How a statement of a migration may begin. Data is never changed beside the schema: CockroachDB and YugabyteDB do the two in
/// different transactions, whatever they are asked.
const OF_MIGRATIONS: [&str; 7] = [
    "CREATE TABLE ",
    "CREATE INDEX ",
    "CREATE UNIQUE INDEX ",
    "CREATE SEQUENCE ",
    "ALTER TABLE ",
    "DROP INDEX ",
    "DROP TABLE ",
];

/// Letters, digits and `_` make a word; any other sign is one for itself.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut open = false;
    for sign in text.chars() {
        let is_part = sign.is_alphanumeric() || sign == '_';
        match words.last_mut().filter(|_| is_part && open) {
            Some(word) => word.push(sign),
            None if !sign.is_whitespace() => words.push(sign.to_string()),
            None => {}
        }
        open = is_part;
    }
    words
}

fn has(words: &[String], what: &str) -> bool {
    let what = self::words(what);
    words.windows(what.len()).any(|found| found.iter().zip(&what).all(|(a, b)| a.eq_ignore_ascii_case(b)))
}

/// What one of the databases lacks of a statement, and why that is so.
fn faults(statement: &str) -> Vec<String> {
    let words = words(statement);
    let is = |what: &str| has(&words, what);
    let is_dispensable =
        |what: &str| DISPENSABLE.iter().any(|known| known.ends_with(what) && statement.ends_with(known));
    let mut faults: Vec<String> = LACKING
        .iter()
        .filter(|(what, _)| is(what) && !is_dispensable(what))
        .map(|(what, why)| format!("{what}: {why}"))
        .collect();
    let locks = is("FOR UPDATE") || is("FOR SHARE");
    if locks
        && ["DISTINCT", "GROUP BY", "HAVING", "UNION", "count(", "sum(", "max(", "min("]
            .iter()
            .any(|part| is(part))
    {
        faults.push("rows are locked that are no rows of a table".to_owned());
    }
    if locks && is("JOIN") && !is("FOR UPDATE OF") {
        faults.push("rows of several tables are locked, in an order that each database chooses".to_owned());
    }
    let writes = ["INSERT INTO", "UPDATE", "DELETE FROM"];
    if words.first().is_some_and(|word| word.eq_ignore_ascii_case("WITH"))
        && writes.iter().any(|verb| is(verb))
    {
        faults.push("a common table expression that writes: not over shards in Citus".to_owned());
    }
    if let Some((_, arbiter)) = statement.split_once("ON CONFLICT")
        && has(&self::words(arbiter.split(" DO ").next().unwrap_or_default()), "WHERE")
    {
        faults.push("ON CONFLICT by a partial index: inferred by rules of its own in CockroachDB".to_owned());
    }
    faults
}

/// The literals of a source text that are statements, or parts of one.
fn statements(source: &str) -> Vec<String> {
    // Tests have statements of their own.
    let mut rest = source.split("\n#[cfg(test)]").next().unwrap_or(source);
    let mut found = Vec::new();
    while let Some(start) = rest.find('"') {
        // What a comment quotes is no statement, and a character is no literal.
        let line = rest[..start].rsplit('\n').next().unwrap_or_default();
        let is_text = !line.trim_start().starts_with("//") && !line.ends_with('\'') && !line.ends_with('\\');
        let text = &rest[start + 1..];
        let length = if !is_text {
            0
        } else if line.ends_with("r#") {
            text.find("\"#").expect("the end of a literal")
        } else {
            end_of(text)
        };
        let literal = &text[..length];
        let is_sql = [
            "SELECT ",
            "INSERT ",
            "UPDATE ",
            "DELETE ",
            "WITH ",
            "WHERE ",
            "FROM ",
            "ON CONFLICT",
            "BEGIN",
            "SET ",
            "CREATE ",
            "LOCK ",
            "FOR UPDATE",
            "FOR SHARE",
            "NOTIFY",
            "LISTEN",
            "COPY ",
            "TRUNCATE ",
            "DROP ",
            "ALTER ",
        ]
        .iter()
        .any(|part| literal.contains(part));
        if is_text && is_sql {
            found.push(literal.replace("\\\n", " ").replace("\\\"", "\""));
        }
        rest = text.get(length + usize::from(is_text)..).unwrap_or_default();
    }
    found
}

fn end_of(text: &str) -> usize {
    let mut escaped = false;
    let end = text.char_indices().find(|(_, sign)| {
        let is_end = *sign == '"' && !escaped;
        escaped = *sign == '\\' && !escaped;
        is_end
    });
    end.expect("the end of a literal").0
}

fn files_in(folder: &Path, files: &mut Vec<PathBuf>) {
    // SQLite's own statements are for SQLite, and tests have theirs.
    let modules = std::fs::read_to_string(folder.join("mod.rs")).unwrap_or_default();
    let of_tests =
        modules.split("#[cfg(test)]\n").skip(1).filter_map(|rest| rest.lines().next()?.rsplit(' ').next());
    let mut left_out: Vec<&str> = of_tests.map(|module| module.trim_end_matches(';')).collect();
    left_out.extend(["tests", "sqlite"]);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if left_out.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            files_in(&path, files);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn no_statement_needs_what_another_database_of_this_protocol_lacks() {
    let mut files = Vec::new();
    files_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store"), &mut files);
    let mut judged = 0;
    for file in files {
        for statement in statements(&std::fs::read_to_string(&file).unwrap()) {
            judged += 1;
            let faults = faults(&statement);
            assert!(faults.is_empty(), "{}: {faults:?}: {statement}", file.display());
        }
    }
    assert!(judged > 150, "{judged} statements were found");
}

/// The statements of a migration, without comments.
fn of_migration(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
    let statements = lines.join("\n");
    statements.split(';').map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect()
}

/// The name of what a statement of a migration makes or drops.
fn named(statement: &str, verbs: &[&str]) -> Option<String> {
    let rest = verbs.iter().find_map(|verb| statement.strip_prefix(verb))?;
    Some(words(rest).swap_remove(0))
}

fn faults_of_migration(text: &str) -> Vec<String> {
    let statements = of_migration(text);
    let mut all: Vec<String> = statements.iter().flat_map(|statement| faults(statement)).collect();
    for statement in &statements {
        if !OF_MIGRATIONS.iter().any(|verb| statement.starts_with(verb)) {
            all.push(format!("no change of the schema: {statement}"));
        }
        if statement.starts_with("CREATE SEQUENCE") && !statement.contains("INCREMENT BY 1000") {
            all.push(format!("a number for each request, from one place for all: {statement}"));
        }
        if statement.contains("ALTER COLUMN") {
            all.push(format!("a column changes its type while it is read: {statement}"));
        }
    }
    let dropped = statements.iter().filter_map(|one| named(one, &["DROP INDEX ", "DROP TABLE "]));
    let made: Vec<String> = statements
        .iter()
        .filter_map(|one| named(one, &["CREATE INDEX ", "CREATE UNIQUE INDEX ", "CREATE TABLE "]))
        .collect();
    for name in dropped.filter(|name| made.contains(name)) {
        all.push(format!(
            "{name} is dropped and made in one transaction: CockroachDB refuses that, so make it by another name"
        ));
    }
    all
}

#[test]
fn no_migration_needs_what_another_database_of_this_protocol_lacks() {
    for (name, text) in super::super::MIGRATIONS {
        let faults = faults_of_migration(text);
        assert!(faults.is_empty(), "{name}: {faults:#?}");
    }
}

#[test]
fn what_is_lacking_would_be_seen() {
    let fine = [
        "SELECT balance FROM balance WHERE account = ANY ($1) ORDER BY balance FOR UPDATE",
        "INSERT INTO meta (name) VALUES ($1) ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE meta.name = $1",
        "SELECT min_at, copying FROM notified",
    ];
    for statement in fine {
        assert_eq!(faults(statement), Vec::<String>::new(), "{statement}");
    }
    let lacking = [
        "SELECT pg_advisory_xact_lock(1)",
        "SELECT hold FROM hold LIMIT 1 FOR UPDATE SKIP  LOCKED",
        "SELECT count(*) FROM hold FOR UPDATE",
        "SELECT h.hold FROM hold h JOIN account a ON a.account = h.key FOR SHARE",
        "WITH gone AS (DELETE FROM tombstone RETURNING id) SELECT id FROM gone",
        "INSERT INTO account (alias) VALUES ($1) ON CONFLICT (alias) WHERE kind = 'key' DO NOTHING",
        "DELETE FROM hold WHERE ctid = $1",
        "notify changed",
    ];
    for statement in lacking {
        assert!(!faults(statement).is_empty(), "{statement}");
    }
    let migrations = [
        "CREATE TABLE t (n INT); INSERT INTO t VALUES (1);",
        "CREATE SEQUENCE s;",
        "DROP INDEX i; CREATE INDEX i ON t (n);",
        "ALTER TABLE t ALTER COLUMN n TYPE TEXT;",
        "CREATE TABLE t (n INT) PARTITION BY RANGE (n);",
        "CREATE TABLE t (n INT REFERENCES u DEFERRABLE);",
        "CREATE FUNCTION f() RETURNS INT LANGUAGE sql AS 'SELECT 1';",
    ];
    for migration in migrations {
        assert!(!faults_of_migration(migration).is_empty(), "{migration}");
    }
    let source = "// a \"SELECT 1\"\nlet a = '\"';\ndb.query(\"SELECT \\\"n\\\" FROM a\")\nr#\"UPDATE \"b\" SET n = 1\"#\n\"no text\"";
    assert_eq!(statements(source), ["SELECT \"n\" FROM a", "UPDATE \"b\" SET n = 1"]);
}
