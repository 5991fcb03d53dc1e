//! [`Sql`] over one connection: statements stay prepared, and what is known to be needed is sent at once.
//!
//! Calls block their thread; the connection itself is moved on by the runtime, which must have a thread for it.

use super::super::sql::{CLOCK_MS, Cell, Result, Row, Sql, SqlError, SqlErrorKind, Value};
use super::config::Config;
use super::error::{Failure, OpenError};
use super::session::{Patience, Session};
use super::value::{Column, Parameter};
use futures_util::TryStreamExt;
use futures_util::future::{FutureExt, MaybeDone, maybe_done};
use std::cell::{Cell as Mutable, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use tokio::runtime::Handle;
use tokio_postgres::Statement;

/// Statements that stay prepared: more than the books have. Beyond it all are prepared anew.
const STATEMENTS: usize = 512;

/// A connection, made anew for the next transaction after it broke.
pub(crate) struct Postgres {
    config: Config,
    patience: Patience,
    runtime: Handle,
    connection: RefCell<Option<Connection>>,
    transaction: Mutable<Transaction>,
    /// How a transaction begins that has begun for the caller only: it is sent together with the first query.
    begin: Mutable<Option<&'static str>>,
}

/// Where the transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transaction {
    None,
    Open,
    /// A statement failed, or the connection broke: nothing is done any more, and nothing is committed. PostgreSQL itself answers
    /// COMMIT with a ROLLBACK that tokio-postgres does not tell from success.
    Failed(SqlErrorKind),
}

struct Connection {
    session: Session,
    statements: RefCell<HashMap<String, Statement>>,
}

impl Postgres {
    /// Connects, at once so that a wrong setting is known at the start. Not on a thread of the runtime.
    pub(crate) fn open(
        config: &Config,
        runtime: &Handle,
        patience: Patience,
    ) -> std::result::Result<Self, OpenError> {
        let session = runtime.block_on(Session::connect(config, patience))?;
        Ok(Self {
            config: config.clone(),
            patience,
            runtime: runtime.clone(),
            connection: RefCell::new(Some(Connection::new(session))),
            transaction: Mutable::new(Transaction::None),
            begin: Mutable::new(None),
        })
    }

    /// Does the work on the connection, and remembers how it went.
    fn ask<T>(&self, work: impl AsyncFn(&Connection) -> std::result::Result<T, Failure>) -> Result<T> {
        if let Transaction::Failed(kind) = self.transaction.get() {
            let why = "an earlier statement of the transaction failed".to_owned();
            return Err(SqlError { kind, why });
        }
        let begin = self.begin.take();
        let had_connection = self.connection.borrow().is_some();
        let outcome = match self.attempt(begin, &work) {
            // It broke while nobody used it. Nothing was done, because nothing was committed: a second try is safe.
            Err(_) if begin.is_some() && had_connection && self.connection.borrow().is_none() => {
                self.attempt(begin, &work)
            }
            outcome => outcome,
        };
        outcome.map_err(|failure: Failure| {
            if self.transaction.get() == Transaction::Open {
                self.transaction.set(Transaction::Failed(failure.error.kind));
            }
            failure.error
        })
    }

    /// Does the work, and before it begins the transaction where it has not begun: both are sent at once.
    fn attempt<T>(
        &self,
        begin: Option<&'static str>,
        work: &impl AsyncFn(&Connection) -> std::result::Result<T, Failure>,
    ) -> std::result::Result<T, Failure> {
        self.runtime.block_on(async {
            let connection = self.connected(begin.is_some()).await?;
            let whole = async {
                let Some(begin) = begin else { return work(&connection).await };
                let begun = sent(async { Ok(connection.session.batch_execute(begin).await?) }).await;
                let done = work(&connection).await;
                answer(begun).await.and(done)
            };
            match tokio::time::timeout(self.patience.answer(), whole).await {
                Ok(Ok(value)) => {
                    self.connection.replace(Some(connection));
                    Ok(value)
                }
                Ok(Err(failure)) => {
                    self.keep_or_abandon(connection, failure.is_lost);
                    Err(failure)
                }
                Err(_late) => {
                    connection.session.abandon();
                    Err(Failure::lost("PostgreSQL does not answer"))
                }
            }
        })
    }

    /// The connection; at the beginning of a transaction, or outside of one, a fresh one where there is none. Inside, none is as good
    /// as the one that is gone.
    async fn connected(&self, begins: bool) -> std::result::Result<Connection, Failure> {
        let present = self.connection.take();
        if self.transaction.get() != Transaction::None && !begins {
            return present.ok_or_else(|| Failure::lost("the connection is gone"));
        }
        match present.filter(|connection| !connection.session.is_closed()) {
            Some(connection) => Ok(connection),
            None => match Session::connect(&self.config, self.patience).await {
                Ok(session) => Ok(Connection::new(session)),
                Err(error) => Err(Failure::lost(error.to_string())),
            },
        }
    }

    fn keep_or_abandon(&self, connection: Connection, is_lost: bool) {
        if is_lost || connection.session.is_closed() {
            connection.session.abandon();
        } else {
            self.connection.replace(Some(connection));
        }
    }

    fn begin_as(&self, sql: &'static str) -> Result<()> {
        if self.transaction.get() != Transaction::None {
            return Err(other("a transaction is open already"));
        }
        self.begin.set(Some(sql));
        self.transaction.set(Transaction::Open);
        Ok(())
    }

    /// Before what must not be done outside of the transaction, which a query may be: where it could not begin, its answer is
    /// dropped.
    fn begin_now(&self) -> Result<()> {
        if self.begin.get().is_some() { self.ask(async |_| Ok(())) } else { Ok(()) }
    }

    /// Whether there is something to commit.
    fn check_open(&self) -> Result<()> {
        match self.transaction.get() {
            Transaction::None => Err(other("no transaction is open")),
            Transaction::Failed(kind) => {
                self.rollback()?;
                let why = "nothing was committed, because a statement of the transaction failed".to_owned();
                Err(SqlError { kind, why })
            }
            Transaction::Open => Ok(()),
        }
    }
}

impl Sql for Postgres {
    fn query(&self, sql: &str, params: &[Value<'_>]) -> Result<Vec<Row>> {
        self.ask(async |connection| {
            let statement = connection.prepared(sql).await?;
            connection.query(&statement, params).await
        })
    }

    fn execute(&self, sql: &str, params: &[Value<'_>]) -> Result<u64> {
        self.begin_now()?;
        self.ask(async |connection| {
            let statement = connection.prepared(sql).await?;
            connection.execute(&statement, params).await
        })
    }

    fn execute_each(&self, sql: &str, each: &[Vec<Value<'_>>]) -> Result<()> {
        if each.is_empty() {
            return Ok(());
        }
        self.begin_now()?;
        self.ask(async |connection| {
            let statement = connection.prepared(sql).await?;
            let calls = each.iter().map(|params| connection.execute(&statement, params));
            in_order(calls).await.map(drop)
        })
    }

    fn query_all(&self, statements: &[(&str, &[Value<'_>])]) -> Result<Vec<Vec<Row>>> {
        if statements.is_empty() {
            return Ok(Vec::new());
        }
        self.ask(async |connection| {
            let prepared = connection.all_prepared(statements.iter().map(|(sql, _)| *sql)).await?;
            let asks = prepared.iter().zip(statements);
            in_order(asks.map(|(statement, (_, params))| connection.query(statement, params))).await
        })
    }

    fn begin(&self) -> Result<()> {
        self.begin_as("BEGIN ISOLATION LEVEL READ COMMITTED")
    }

    fn begin_read(&self) -> Result<()> {
        self.begin_as("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    }

    fn commit(&self) -> Result<()> {
        self.check_open()?;
        if self.begin.take().is_some() {
            // Nothing was done in it.
            self.transaction.set(Transaction::None);
            return Ok(());
        }
        let outcome = self.ask(async |connection| connection.session.commit().await.map_err(ambiguous));
        // However it went, the server has ended it, or will never hear of it again.
        self.transaction.set(Transaction::None);
        outcome
    }

    fn commit_after(&self, statements: &[(&str, &[Value<'_>])]) -> Result<()> {
        if statements.is_empty() {
            return self.commit();
        }
        self.check_open()?;
        self.begin_now()?;
        let is_ended = Mutable::new(false);
        let outcome = self.ask(async |connection| {
            let prepared = connection.all_prepared(statements.iter().map(|(sql, _)| *sql)).await?;
            let asks = prepared.iter().zip(statements);
            let writes =
                send(asks.map(|(statement, (_, params))| connection.execute(statement, params))).await;
            if writes.is_refused {
                return writes.answers().await.map(drop);
            }
            is_ended.set(true);
            // Where one of the statements fails, the server makes a rollback of it.
            let commit = sent(async { connection.session.commit().await }).await;
            let written = writes.answers().await.map(drop);
            let committed = answer(commit).await;
            match written {
                // The server said what was wrong with one of them, and has undone all.
                Err(failure) if failure.error.kind == SqlErrorKind::Contended => Err(failure),
                written => written.and(committed).map_err(ambiguous),
            }
        });
        if is_ended.get() {
            self.transaction.set(Transaction::None);
        }
        outcome
    }

    fn rollback(&self) -> Result<()> {
        let had_begun = self.begin.take().is_none();
        if self.transaction.replace(Transaction::None) == Transaction::None || !had_begun {
            return Ok(());
        }
        // Without a connection, the server has undone it by itself, or will.
        let Some(connection) = self.connection.take() else { return Ok(()) };
        let undo = connection.session.batch_execute("ROLLBACK");
        let undone =
            self.runtime.block_on(async { tokio::time::timeout(self.patience.answer(), undo).await });
        self.keep_or_abandon(connection, !matches!(undone, Ok(Ok(()))));
        Ok(())
    }

    fn savepoint(&self) -> Result<()> {
        self.begin_now()?;
        self.ask(async |connection| Ok(connection.session.batch_execute("SAVEPOINT step").await?))
    }

    fn release(&self, undo: bool) -> Result<()> {
        let sql = if undo {
            // With this, what failed since is forgotten; what breaks the connection is not.
            if self.connection.borrow().is_some() && self.transaction.get() != Transaction::None {
                self.transaction.set(Transaction::Open);
            }
            "ROLLBACK TO SAVEPOINT step; RELEASE SAVEPOINT step"
        } else {
            "RELEASE SAVEPOINT step"
        };
        self.ask(async |connection| Ok(connection.session.batch_execute(sql).await?))
    }

    fn clock_ms(&self) -> Result<Option<i64>> {
        self.query(CLOCK_MS, &[])?.first().map(|row| row.int(0)).transpose()
    }

    fn is_shared(&self) -> bool {
        true
    }
}

impl Connection {
    fn new(session: Session) -> Self {
        Self { session, statements: RefCell::default() }
    }

    async fn prepared(&self, sql: &str) -> std::result::Result<Statement, Failure> {
        if let Some(statement) = self.known(sql) {
            return Ok(statement);
        }
        let statement = self.session.prepare(sql).await?;
        self.remember(sql, &statement);
        Ok(statement)
    }

    async fn all_prepared<'a>(
        &self,
        texts: impl Iterator<Item = &'a str> + Clone,
    ) -> std::result::Result<Vec<Statement>, Failure> {
        let mut missing: Vec<&str> = texts.clone().filter(|sql| self.known(sql).is_none()).collect();
        missing.sort_unstable();
        missing.dedup();
        let session = &self.session;
        let made = in_order(missing.iter().map(|sql| async { Ok(session.prepare(sql).await?) })).await?;
        for (sql, statement) in missing.iter().zip(&made) {
            self.remember(sql, statement);
        }
        let mut all = Vec::new();
        for sql in texts {
            all.push(self.prepared(sql).await?);
        }
        Ok(all)
    }

    fn known(&self, sql: &str) -> Option<Statement> {
        self.statements.borrow().get(sql).cloned()
    }

    fn remember(&self, sql: &str, statement: &Statement) {
        let mut statements = self.statements.borrow_mut();
        if statements.len() >= STATEMENTS {
            statements.clear();
        }
        statements.insert(sql.to_owned(), statement.clone());
    }

    async fn query(
        &self,
        statement: &Statement,
        params: &[Value<'_>],
    ) -> std::result::Result<Vec<Row>, Failure> {
        let params = params.iter().map(|value| Parameter(*value));
        let answer = self.session.query_raw(statement, params).await?;
        let rows: Vec<tokio_postgres::Row> = answer.try_collect().await?;
        rows.iter().map(read).collect()
    }

    async fn execute(
        &self,
        statement: &Statement,
        params: &[Value<'_>],
    ) -> std::result::Result<u64, Failure> {
        let params = params.iter().map(|value| Parameter(*value));
        Ok(self.session.execute_raw(statement, params).await?)
    }
}

fn read(row: &tokio_postgres::Row) -> std::result::Result<Row, Failure> {
    let cells = (0..row.len()).map(|index| Ok(row.try_get::<_, Column>(index)?.0));
    Ok(Row(cells.collect::<std::result::Result<Vec<Cell>, Failure>>()?))
}

/// A call that has been sent, and whose answer is awaited later.
///
/// A call of tokio-postgres is sent when it is first polled, and answers come in the order of what was sent.
type Sent<F> = MaybeDone<Pin<Box<F>>>;

async fn sent<T, F>(call: F) -> Sent<F>
where
    F: Future<Output = std::result::Result<T, Failure>>,
{
    let mut call = maybe_done(Box::pin(call));
    poll_fn(|context| Poll::Ready(call.poll_unpin(context))).await.is_ready();
    call
}

async fn answer<T, F>(mut call: Sent<F>) -> std::result::Result<T, Failure>
where
    F: Future<Output = std::result::Result<T, Failure>>,
{
    (&mut call).await;
    Pin::new(&mut call).take_output().unwrap_or_else(|| Err(Failure::other("an answer was taken twice")))
}

/// Calls that have been sent in their order.
struct AllSent<F: Future> {
    calls: Vec<Sent<F>>,
    /// The last of them was not even sent, nor was what would have followed.
    is_refused: bool,
}

/// Sends everything in this order before the first answer is awaited.
async fn send<T, F>(calls: impl Iterator<Item = F>) -> AllSent<F>
where
    F: Future<Output = std::result::Result<T, Failure>>,
{
    let mut all = AllSent { calls: Vec::new(), is_refused: false };
    for call in calls {
        let call = sent(call).await;
        // What follows must not be done without it.
        all.is_refused = matches!(call, MaybeDone::Done(Err(_)));
        all.calls.push(call);
        if all.is_refused {
            break;
        }
    }
    all
}

impl<T, F> AllSent<F>
where
    F: Future<Output = std::result::Result<T, Failure>>,
{
    /// The answers, or the first failure.
    async fn answers(self) -> std::result::Result<Vec<T>, Failure> {
        let mut answers = Vec::with_capacity(self.calls.len());
        for call in self.calls {
            answers.push(answer(call).await?);
        }
        Ok(answers)
    }
}

/// Sends everything in this order, and gives the answers, or the first failure.
async fn in_order<T, F>(calls: impl Iterator<Item = F>) -> std::result::Result<Vec<T>, Failure>
where
    F: Future<Output = std::result::Result<T, Failure>>,
{
    send(calls).await.answers().await
}

/// The transaction may have been committed, if its answer is what was lost.
fn ambiguous(mut failure: Failure) -> Failure {
    if failure.is_lost {
        failure.error.kind = SqlErrorKind::Unavailable;
        failure.error.why = format!("nobody knows whether it was committed: {}", failure.error.why);
    }
    failure
}

fn other(why: &str) -> SqlError {
    Failure::other(why).error
}
