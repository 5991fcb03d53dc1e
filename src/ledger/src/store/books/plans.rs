//! How readings find their rows, as the database says it of the very statements: what people ask must not get slower with what
//! others have done, nor a new limit with how many requests there were.

use super::changes;
use super::deleting;
use super::memory::{Books, Ground, Memory};
use super::prices::Prices;
use super::spend;
use super::spent::{self, Payer};
use crate::clock::Clock;
use crate::store::operated::Mark;
use crate::store::sql::{Result, Row, Sql, Value, values};
use crate::store::sqlite::{self, Access};
use crate::store::{AccountRef, Page, SpendFilter};
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use tollgate_domain::account::AccountKind;
use tollgate_domain::ids::KeyDigest;
use tollgate_domain::price::{BUILT_IN, PriceBook};
use tollgate_domain::time::Timestamp;

/// A database that is asked for the plan of every query before it is run.
struct Explained<'a> {
    db: &'a dyn Sql,
    plans: RefCell<String>,
    /// How many statements were run.
    statements: Cell<usize>,
}

impl<'a> Explained<'a> {
    fn new(db: &'a dyn Sql) -> Self {
        Self { db, plans: RefCell::default(), statements: Cell::default() }
    }
}

impl Sql for Explained<'_> {
    fn query(&self, sql: &str, params: &[Value<'_>]) -> Result<Vec<Row>> {
        self.statements.set(self.statements.get() + 1);
        let explain = if self.db.is_shared() { "EXPLAIN" } else { "EXPLAIN QUERY PLAN" };
        let text = if self.db.is_shared() { 0 } else { 3 };
        for step in self.db.query(&format!("{explain} {sql}"), params)? {
            self.plans.borrow_mut().push_str(step.text(text)?);
            self.plans.borrow_mut().push('\n');
        }
        self.db.query(sql, params)
    }

    fn execute(&self, sql: &str, params: &[Value<'_>]) -> Result<u64> {
        self.statements.set(self.statements.get() + 1);
        self.db.execute(sql, params)
    }

    fn begin(&self) -> Result<()> {
        self.db.begin()
    }

    fn begin_read(&self) -> Result<()> {
        self.db.begin_read()
    }

    fn commit(&self) -> Result<()> {
        self.db.commit()
    }

    fn rollback(&self) -> Result<()> {
        self.db.rollback()
    }

    fn savepoint(&self) -> Result<()> {
        self.db.savepoint()
    }

    fn release(&self, undo: bool) -> Result<()> {
        self.db.release(undo)
    }

    fn clock_ms(&self) -> Result<Option<i64>> {
        self.db.clock_ms()
    }

    fn is_shared(&self) -> bool {
        self.db.is_shared()
    }
}

/// How a reading finds its rows.
fn plan(db: &dyn Sql, read: impl FnOnce(&dyn Sql)) -> String {
    let explained = Explained::new(db);
    read(&explained);
    explained.plans.into_inner()
}

/// The plans of readings, and what each must say: in SQLite, and in PostgreSQL.
pub(crate) fn check(db: &dyn Sql) {
    let page = Page { limit: 10, offset: 0 };
    let of_key = SpendFilter { key: Some(KeyDigest::new([1; 32])), ..SpendFilter::default() };
    let lately = SpendFilter { from: Some(Timestamp::new(1)), to: Some(Timestamp::new(2)), ..of_key.clone() };
    let logs = |filter: &SpendFilter| plan(db, |db| drop(spend::logs(db, filter, page).unwrap()));
    let spent =
        |model| plan(db, |db| assert_eq!(spent::between(db, &Payer::account(1), model, (0, 9)).unwrap(), 0));
    let since = Mark { entry: 0, at_ms: 1 };
    let changed = plan(db, |db| drop(changes::changed(db, since, Timestamp::new(2)).unwrap()));
    let quarters = "(payer=? AND tag=? AND quarter>? AND quarter<?)";
    let by_quarters = "(tag = ''::text) AND (quarter >= '0'::bigint) AND (quarter < '9'::bigint)";
    for (name, plan, in_file, in_database) in [
        ("logs of a key", logs(&of_key), "h USING INDEX hold_of_key (key=?)", "Index Cond: (key = "),
        (
            "logs of a key and a time",
            logs(&lately),
            "h USING INDEX hold_of_key (key=? AND created_at>? AND created_at<?)",
            "(created_at >= '1'::bigint) AND (created_at < '2'::bigint)",
        ),
        ("what was spent", spent(""), quarters, by_quarters),
        ("what was spent on a model", spent("m"), quarters, by_quarters),
        ("changed accounts", changed, "INDEX account_said (updated_at>?)", "using account_said on account"),
    ] {
        let wanted = if db.is_shared() { in_database } else { in_file };
        assert!(plan.contains(wanted), "{name}: {wanted}\n{plan}");
    }
    let mut deletes = plan(db, |db| drop(db.query(deleting::MANAGED, &values![1_i64, "api"]).unwrap()));
    for statement in [deleting::REVOKE, deleting::DELETE] {
        deletes.push_str(&plan(db, |db| drop(db.query(statement, &values![1_i64, 1_i64]).unwrap())));
    }
    assert!(!deletes.contains("SCAN account") && !deletes.contains("SCAN c"), "{deletes}");
    assert!(!deletes.contains("Seq Scan"), "{deletes}");
    // And it would be seen.
    db.execute("DROP INDEX hold_of_key", &[]).unwrap();
    let all = logs(&of_key);
    assert!(!all.contains("(key=?)") && !all.contains("Index Cond: (key = "), "{all}");
}

#[test]
fn readings_of_a_file_find_their_rows_by_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let (db, _lock) = sqlite::connect(&folder.path().join("ledger.db"), Access::Create).unwrap();
    check(&db);
}

/// How many statements it takes to delete an organization with so many keys.
fn statements_of_a_delete(keys: i64) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let (db, _lock) = sqlite::connect(&folder.path().join("ledger.db"), Access::Create).unwrap();
    let organization = "INSERT INTO account (account, kind, id, created_by, created_at, updated_at)
        VALUES (1, 'organization', 'o', 'admin', 0, 0)";
    db.execute(organization, &[]).unwrap();
    let names: Vec<String> = (0..keys).map(|number| number.to_string()).collect();
    let each: Vec<Vec<Value<'_>>> = names.iter().map(|name| values![name].to_vec()).collect();
    let key = "INSERT INTO account (kind, id, organization, created_by, created_at, updated_at)
        VALUES ('key', $1, 1, 'admin', 0, 0)";
    db.begin().unwrap();
    db.execute_each(key, &each).unwrap();
    db.commit().unwrap();
    db.execute("INSERT INTO credential SELECT randomblob(32), account, '', 0, NULL FROM account", &[])
        .unwrap();
    db.execute(
        "INSERT INTO balance (account, \"window\", window_start) SELECT account, 'lifetime', 0 FROM account",
        &[],
    )
    .unwrap();
    let ground = Ground {
        epoch: [0; 8],
        prices: Prices::new(Arc::new(PriceBook::parse(BUILT_IN).unwrap())),
        clock: Clock::system(),
        hold_ttl_ms: 1,
        grace_until: Timestamp::new(i64::MAX),
        grace_ms: 0,
        observe: false,
        counters: Arc::default(),
    };
    let explained = Explained::new(&db);
    let mut memory = Memory::new(&db).unwrap();
    let mut books = Books { db: &explained, ground: &ground, memory: &mut memory };
    books.delete(&[AccountRef::Id(AccountKind::Organization, "o".into())], true).unwrap();
    let left = "SELECT count(*) FROM account WHERE deleted_at IS NULL
        UNION ALL SELECT count(*) FROM credential WHERE revoked_at IS NULL";
    let left = db.query(left, &[]).unwrap();
    assert!(left.iter().all(|row| row.int(0).unwrap() == 0), "{left:?}");
    explained.statements.get()
}

#[test]
fn an_organization_is_deleted_by_as_few_statements_as_one_key() {
    assert_eq!(statements_of_a_delete(1), statements_of_a_delete(1_000));
}
