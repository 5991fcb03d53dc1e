//! The threads that own the connections: one that writes, and those that read.
//!
//! The writer takes whatever waits, runs it in one transaction, commits once, and only then answers. While the disk
//! syncs, the next batch gathers: the busier the ledger, the more requests share one sync.

use super::code::Failure;
use super::memory::{Books, Ground, Memory};
use crate::store::StoreError;
use rusqlite::{Connection, ErrorCode};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tollgate_domain::time::Timestamp;

/// Messages that wait for a thread at most; beyond, the caller is told at once.
const WAITING_MAX: usize = 8_192;
/// Messages that share a transaction at most: a few milliseconds of work, about as long as the sync takes.
const BATCH_MAX: usize = 512;
/// How often the writer looks for holds whose time is up.
const SWEEP_MS: i64 = 1_000;

/// Sends an answer, once the transaction has been committed.
type Answer = Box<dyn FnOnce() + Send>;
type WriteJob = Box<dyn FnOnce(&mut Books<'_>) -> rusqlite::Result<Answer> + Send>;
type ReadJob = Box<dyn FnOnce(&Connection, &Ground) -> rusqlite::Result<Answer> + Send>;

/// Where jobs for the writer go.
#[derive(Clone, Debug)]
pub(super) struct Writer(SyncSender<WriteJob>);

/// Where jobs for a reader go.
#[derive(Clone, Debug)]
pub(super) struct Reader(SyncSender<ReadJob>);

impl Writer {
    /// Runs the job in the next transaction; answers when it is durable.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Books<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: WriteJob = Box::new(move |books| answer_of(job(books), reply));
        deliver(&self.0, job, answer).await
    }

    /// As [`run`](Self::run), for changes that check as they go: refused, they are undone to the last row.
    pub(super) async fn run_undoable<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Books<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(move |books| {
            books.flush()?;
            books.memory.forget(books.file)?;
            books.file.execute_batch("SAVEPOINT change")?;
            let done = job(books);
            if done.is_ok() {
                books.flush()?;
            } else {
                books.file.execute_batch("ROLLBACK TO change")?;
            }
            books.file.execute_batch("RELEASE change")?;
            books.memory.forget(books.file)?;
            done
        })
        .await
    }
}

impl Reader {
    /// Runs the job on what has been committed.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection, &Ground) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: ReadJob =
            Box::new(move |file, ground| answer_of(job(file, ground).map_err(Failure::File), reply));
        deliver(&self.0, job, answer).await
    }
}

fn answer_of<T: Send + 'static>(
    done: Result<T, Failure>,
    reply: oneshot::Sender<Result<T, StoreError>>,
) -> rusqlite::Result<Answer> {
    let answer = match done {
        Ok(value) => Ok(value),
        Err(Failure::Refused(error)) => Err(error),
        Err(Failure::File(error)) => return Err(error),
    };
    Ok(Box::new(move || {
        // Whoever asked may have left.
        let _ = reply.send(answer);
    }))
}

async fn deliver<J, T>(
    queue: &SyncSender<J>,
    job: J,
    answer: oneshot::Receiver<Result<T, StoreError>>,
) -> Result<T, StoreError> {
    queue.try_send(job).map_err(|error| match error {
        TrySendError::Full(_) => StoreError::Unavailable("too many requests wait".into()),
        TrySendError::Disconnected(_) => StoreError::Unavailable("it has stopped".into()),
    })?;
    // A job whose transaction failed is dropped, and its answer with it.
    answer.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the transaction failed".into())))
}

/// Starts the writer. `failed` gets a text when it cannot go on.
pub(super) fn start_writer(
    file: Connection,
    ground: Ground,
    failed: watch::Sender<Option<String>>,
) -> Result<(Writer, JoinHandle<()>), std::io::Error> {
    let (sender, receiver) = sync_channel(WAITING_MAX);
    let runtime = Handle::try_current().ok();
    let thread = std::thread::Builder::new().name("ledger-writer".into());
    let handle = thread.spawn(move || {
        if let Err(reason) = write_until_closed(file, &ground, &receiver, runtime.as_ref()) {
            failed.send_replace(Some(reason.to_string()));
        }
    })?;
    Ok((Writer(sender), handle))
}

fn write_until_closed(
    file: Connection,
    ground: &Ground,
    jobs: &Receiver<WriteJob>,
    runtime: Option<&Handle>,
) -> rusqlite::Result<()> {
    let mut memory = Memory::new(&file)?;
    let mut sweep_at = ground.clock.now();
    let mut batch = Vec::with_capacity(BATCH_MAX);
    loop {
        match jobs.recv_timeout(Duration::from_millis(SWEEP_MS.cast_unsigned())) {
            Ok(job) => batch.push(job),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return fold_log(&file),
        }
        batch.extend(jobs.try_iter().take(BATCH_MAX - 1));
        let sweep = ground.clock.now() >= sweep_at;
        let mut books = Books { file: &file, ground, memory: &mut memory };
        let transaction = AssertUnwindSafe(|| commit(&mut books, batch.drain(..), sweep));
        match catch_unwind(transaction) {
            Ok(Ok((answers, more))) => {
                if sweep && !more {
                    sweep_at = ground.clock.now().plus_ms(SWEEP_MS);
                }
                send(answers, runtime);
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "a transaction failed");
                abandon(&file, &mut memory)?;
                if is_lasting(&error) {
                    return Err(error);
                }
            }
            Err(_) => {
                tracing::error!("a transaction panicked");
                abandon(&file, &mut memory)?;
            }
        }
        batch.clear();
    }
}

/// Folds the log into the file, so that it is whole by itself. A reader that still looks keeps part of the log, and the
/// next start folds that.
fn fold_log(file: &Connection) -> rusqlite::Result<()> {
    file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// Runs a batch in one transaction. Gives back the answers, and whether a sweep left something.
fn commit(
    books: &mut Books<'_>,
    batch: impl Iterator<Item = WriteJob>,
    sweep: bool,
) -> rusqlite::Result<(Vec<Answer>, bool)> {
    books.file.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let more = if sweep { swept(books)? } else { false };
    let answers = batch.map(|job| job(books)).collect::<Result<Vec<_>, _>>()?;
    books.flush()?;
    books.file.prepare_cached("COMMIT")?.execute([])?;
    Ok((answers, more))
}

fn swept(books: &mut Books<'_>) -> rusqlite::Result<bool> {
    match books.sweep() {
        Ok(more) => Ok(more),
        Err(Failure::File(error)) => Err(error),
        Err(Failure::Refused(error)) => {
            tracing::error!(%error, "a sweep was refused");
            Ok(false)
        }
    }
}

/// Answers a whole batch. Within the runtime, one wake-up serves all of them; from here, each would need its own.
fn send(answers: Vec<Answer>, runtime: Option<&Handle>) {
    let send = move || answers.into_iter().for_each(|answer| answer());
    match runtime {
        Some(runtime) => drop(runtime.spawn(async move { send() })),
        None => send(),
    }
}

/// Undoes a failed transaction and forgets what was remembered of it.
fn abandon(file: &Connection, memory: &mut Memory) -> rusqlite::Result<()> {
    if !file.is_autocommit() {
        file.execute_batch("ROLLBACK")?;
    }
    memory.forget(file)
}

/// Whether the file cannot be trusted any more: what reached the disk is then known only after a restart.
fn is_lasting(error: &rusqlite::Error) -> bool {
    use ErrorCode::{DatabaseCorrupt, NotADatabase, SystemIoFailure};
    matches!(error.sqlite_error_code(), Some(SystemIoFailure | DatabaseCorrupt | NotADatabase))
}

/// Starts a reader.
pub(super) fn start_reader(
    name: &str,
    file: Connection,
    ground: Ground,
) -> Result<(Reader, JoinHandle<()>), std::io::Error> {
    let (sender, receiver) = sync_channel::<ReadJob>(WAITING_MAX);
    let handle = std::thread::Builder::new().name(name.into()).spawn(move || {
        for job in receiver {
            match catch_unwind(AssertUnwindSafe(|| read(&file, &ground, job))) {
                Ok(Ok(answer)) => answer(),
                Ok(Err(error)) => tracing::error!(%error, "a reading failed"),
                Err(_) => tracing::error!("a reading panicked"),
            }
        }
    })?;
    Ok((Reader(sender), handle))
}

/// In one transaction, so that a reading of several tables sees one moment.
fn read(file: &Connection, ground: &Ground, job: ReadJob) -> rusqlite::Result<Answer> {
    let transaction = file.unchecked_transaction()?;
    let answer = job(file, ground)?;
    transaction.finish()?;
    Ok(answer)
}

/// The time for a reading: that of the clock, and never earlier than the latest entry.
pub(super) fn reading_time(file: &Connection, ground: &Ground) -> rusqlite::Result<Timestamp> {
    let latest: Option<i64> = file
        .prepare_cached("SELECT (SELECT at FROM entry ORDER BY entry DESC LIMIT 1)")?
        .query_row([], |row| row.get(0))?;
    Ok(latest.map_or(ground.clock.now(), |at| ground.clock.now().max(Timestamp::new(at))))
}

#[cfg(test)]
mod tests;
