//! The threads that own the connections: one that writes, and those that read.
//!
//! The writer takes whatever waits, runs it in one transaction, commits once, and only then answers. While the disk
//! syncs, the next batch gathers: the busier the ledger, the more requests share one sync.

use super::code::Failure;
use super::locking::Needs;
use super::memory::{Books, Ground, Memory};
use super::tending::Chore;
use crate::store::StoreError;
use crate::store::sql::{self, Sql, SqlError, SqlErrorKind};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tollgate_domain::time::Timestamp;

/// Messages that wait for a thread at most; beyond, the caller is told at once.
const WAITING_MAX: usize = 8_192;
/// Messages that share a transaction at most: a few milliseconds of work, about as long as the sync takes.
const BATCH_MAX: usize = 512;
/// How often the writer looks for what is due by itself.
const SWEEP_MS: i64 = 1_000;
/// How often it tries again, while nothing can be written.
const PROBE_MS: u64 = 100;
/// How often a transaction is run again when others were in its way, before its callers are told to try later.
const ATTEMPTS: u32 = 6;

/// Something to be done in a transaction. It can be run again, because a transaction can fail and be repeated.
trait WriteJob: Send {
    /// What it is about.
    fn needs(&self) -> &Needs;
    /// Whether it must not share a transaction with others where there are other ledgers.
    fn is_alone(&self) -> bool;
    fn run(&mut self, books: &mut Books<'_>) -> sql::Result<()>;
    /// Tells whoever asked, once the transaction has been committed.
    fn answer(self: Box<Self>);
}

struct Job<T, F> {
    needs: Needs,
    alone: bool,
    run: F,
    done: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> WriteJob for Job<T, F>
where
    T: Send,
    F: FnMut(&mut Books<'_>) -> Result<T, Failure> + Send,
{
    fn needs(&self) -> &Needs {
        &self.needs
    }

    fn is_alone(&self) -> bool {
        self.alone
    }

    fn run(&mut self, books: &mut Books<'_>) -> sql::Result<()> {
        // Whoever has left asks again, or asks for the opposite: to make a hold for nobody would only keep money from others.
        if self.reply.is_closed() {
            return Ok(());
        }
        self.done = Some(match (self.run)(books) {
            Ok(value) => Ok(value),
            Err(Failure::Refused(error)) => Err(error),
            Err(Failure::Database(error)) => return Err(error),
        });
        Ok(())
    }

    fn answer(self: Box<Self>) {
        if let Some(done) = self.done {
            // Whoever asked may have left.
            let _ = self.reply.send(done);
        }
    }
}

type ReadJob = Box<dyn FnOnce(&dyn Sql, &Ground) -> Option<Answer> + Send>;
type Answer = Box<dyn FnOnce() + Send>;

/// Why nothing can be written at the moment, for readiness; `None`: all is well.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    pub(super) fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, why: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }
}

/// Where jobs for the writer go.
#[derive(Clone)]
pub(super) struct Writer {
    jobs: SyncSender<Box<dyn WriteJob>>,
    trouble: Trouble,
}

/// Where jobs for a reader go.
#[derive(Clone)]
pub(super) struct Reader(SyncSender<ReadJob>);

impl Writer {
    /// Runs the job in the next transaction; answers when it is durable.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        needs: Needs,
        job: impl FnMut(&mut Books<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.deliver(needs, false, job).await
    }

    /// As [`run`](Self::run), for changes that check as they go: refused, they are undone to the last row.
    pub(super) async fn run_undoable<T: Send + 'static>(
        &self,
        mut job: impl FnMut(&mut Books<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let mut undoable = move |books: &mut Books<'_>| {
            books.db.savepoint()?;
            let done = job(books);
            if let Err(Failure::Database(error)) = done {
                return Err(Failure::Database(error));
            }
            if done.is_ok() {
                books.flush()?;
            }
            books.db.release(done.is_err())?;
            done
        };
        let undoable = move |books: &mut Books<'_>| {
            books.flush()?;
            let before = books.memory.set_aside(books.db)?;
            let done = undoable(books);
            // What a failed one remembers is of no moment; where nobody else writes, the whole transaction is forgotten then.
            if before.is_some() || !matches!(done, Err(Failure::Database(_))) {
                books.memory.take_up(before, books.db)?;
            }
            done
        };
        self.run_alone(undoable).await
    }

    /// As [`run`](Self::run), and where others write, too, in a transaction of its own.
    pub(super) async fn run_alone<T: Send + 'static>(
        &self,
        job: impl FnMut(&mut Books<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.deliver(Needs::default(), true, job).await
    }

    async fn deliver<T: Send + 'static>(
        &self,
        needs: Needs,
        alone: bool,
        run: impl FnMut(&mut Books<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        // Told at once: waiting would help nobody, and the writer finds out by itself when it works again.
        if let Some(why) = self.trouble.get() {
            return Err(StoreError::Unavailable(why));
        }
        let (reply, answer) = oneshot::channel();
        deliver(&self.jobs, Box::new(Job { needs, alone, run, done: None, reply }), answer).await
    }
}

impl Reader {
    /// Runs the job on what has been committed.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&dyn Sql, &Ground) -> sql::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: ReadJob = Box::new(move |db, ground| match read(db, ground, job) {
            Ok(value) => Some(Box::new(move || drop(reply.send(Ok(value))))),
            Err(error) => {
                tracing::error!(%error, "a reading failed");
                None
            }
        });
        deliver(&self.0, job, answer).await
    }

    /// As [`run`](Self::run), for what depends on the time.
    pub(super) async fn run_at<T: Send + 'static>(
        &self,
        job: impl FnOnce(&dyn Sql, &Ground, Timestamp) -> sql::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(move |db, ground| job(db, ground, reading_time(db, ground)?)).await
    }
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

/// Starts the writer. `failed` gets a text when it cannot go on. It ends after the `readers`: who closes the books last leaves them whole, and two
/// that close a file at once leave its log behind.
pub(super) fn start_writer(
    db: Box<dyn Sql + Send>,
    ground: Ground,
    failed: watch::Sender<Option<String>>,
    trouble: Trouble,
    readers: Vec<JoinHandle<()>>,
) -> Result<(Writer, JoinHandle<()>), std::io::Error> {
    let (sender, receiver) = sync_channel(WAITING_MAX);
    let runtime = Handle::try_current().ok();
    let thread = std::thread::Builder::new().name("ledger-writer".into());
    let seen = trouble.clone();
    let handle = thread.spawn(move || {
        let tell = |reason: SqlError| failed.send_replace(Some(reason.to_string()));
        let ended =
            write_until_closed(db.as_ref(), &ground, &receiver, runtime.as_ref(), &seen).map_err(tell);
        // Whoever asks from now on, and who waits, is told at once: readers end with the last who can ask.
        drop(receiver);
        for reader in readers {
            // One that panicked is gone, too.
            let _ = reader.join();
        }
        if ended.is_ok() {
            let _ = db.close().map_err(tell);
        }
    })?;
    Ok((Writer { jobs: sender, trouble }, handle))
}

fn write_until_closed(
    db: &dyn Sql,
    ground: &Ground,
    jobs: &Receiver<Box<dyn WriteJob>>,
    runtime: Option<&Handle>,
    trouble: &Trouble,
) -> sql::Result<()> {
    let mut memory = Memory::new(db)?;
    let mut sweep_at = ground.clock.now();
    let mut waiting = Waiting { jobs, put_off: VecDeque::new(), can_join: true };
    loop {
        let in_trouble = trouble.get().is_some();
        let patience = if in_trouble { PROBE_MS } else { SWEEP_MS.cast_unsigned() };
        let Ok(mut batch) = waiting.next(Duration::from_millis(patience)) else { return Ok(()) };
        let books = Books { db, ground, memory: &mut memory };
        let mut writing = Writing { books, trouble, waiting: &mut waiting };
        let now = ground.clock.now();
        if in_trouble || now >= sweep_at {
            let more = writing.tend()?;
            if !more {
                sweep_at = now.plus_ms(SWEEP_MS);
            }
        }
        for jobs in parts(&mut batch, db.is_shared()) {
            writing.serve(jobs, runtime)?;
        }
    }
}

/// Jobs that nobody has begun with.
struct Waiting<'a> {
    jobs: &'a Receiver<Box<dyn WriteJob>>,
    /// They wanted to join a transaction that was under way, and could not.
    put_off: VecDeque<Box<dyn WriteJob>>,
    /// Until the database says that it cannot.
    can_join: bool,
}

impl Waiting<'_> {
    /// What waits; empty where nothing came for so long.
    ///
    /// # Errors
    /// When nothing will come any more.
    fn next(&mut self, patience: Duration) -> Result<Jobs, Disconnected> {
        if self.put_off.is_empty() {
            match self.jobs.recv_timeout(patience) {
                Ok(job) => self.put_off.push_back(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Disconnected),
            }
        }
        Ok(self.present(BATCH_MAX))
    }

    /// What waits by now, without waiting for more.
    fn present(&mut self, at_most: usize) -> Jobs {
        let jobs = self.jobs;
        self.put_off.drain(..self.put_off.len().min(at_most)).chain(jobs.try_iter()).take(at_most).collect()
    }

    /// They come first the next time.
    fn put_off(&mut self, jobs: Jobs) {
        jobs.into_iter().rev().for_each(|job| self.put_off.push_front(job));
    }
}

/// Every store is gone.
struct Disconnected;

type Jobs = Vec<Box<dyn WriteJob>>;

/// Divides a batch into transactions. A ledger that is alone needs only one. Where there are others, everything that locks in an
/// order of its own has one for itself.
fn parts(batch: &mut Jobs, shared: bool) -> Vec<Jobs> {
    if !shared {
        return vec![std::mem::take(batch)].into_iter().filter(|jobs| !jobs.is_empty()).collect();
    }
    let mut parts = Vec::new();
    let mut together = Vec::new();
    for job in batch.drain(..) {
        if job.is_alone() {
            parts.push(std::mem::take(&mut together));
            parts.push(vec![job]);
        } else {
            together.push(job);
        }
    }
    parts.push(together);
    parts.retain(|jobs| !jobs.is_empty());
    parts
}

struct Writing<'a, 'b> {
    books: Books<'a>,
    trouble: &'a Trouble,
    waiting: &'a mut Waiting<'b>,
}

/// What a transaction does besides its jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    /// What came meanwhile, too, as far as it can.
    Join,
    /// Nothing.
    Wait,
    /// Something that is due.
    Are(Chore),
}

/// How a transaction ended.
enum Ended {
    /// It is durable.
    Committed {
        /// A chore has left something for the next time.
        more: bool,
    },
    /// Nothing of it is there, for a reason that one of its jobs may be.
    Failed,
    /// Nothing of it is there, and none of its jobs is the reason.
    Refused,
}

impl Writing<'_, '_> {
    /// Does what is due, and says whether more is waiting. While nothing can be written it only finds out whether that has changed.
    fn tend(&mut self) -> sql::Result<bool> {
        if self.trouble.get().is_some() {
            self.carry_out(&mut Vec::new(), Others::Wait)?;
            return Ok(true);
        }
        let mut waiting = false;
        for chore in Chore::ALL {
            let done = self.carry_out(&mut Vec::new(), Others::Are(chore))?;
            waiting |= matches!(done, Ended::Committed { more: true });
        }
        Ok(waiting)
    }

    /// Runs the jobs in one transaction and answers. Where that fails and one of them may be the reason, each is run by itself, so
    /// that only that one fails.
    fn serve(&mut self, mut jobs: Jobs, runtime: Option<&Handle>) -> sql::Result<()> {
        let is_alone = jobs.iter().any(|job| job.is_alone());
        match self.carry_out(&mut jobs, if is_alone { Others::Wait } else { Others::Join })? {
            Ended::Committed { .. } => send(jobs, runtime),
            Ended::Failed if jobs.len() > 1 => {
                for job in jobs {
                    let mut alone = vec![job];
                    if let Ended::Committed { .. } = self.carry_out(&mut alone, Others::Wait)? {
                        send(alone, runtime);
                    }
                }
            }
            // Their jobs are dropped, and whoever asked is told.
            Ended::Failed | Ended::Refused => {}
        }
        Ok(())
    }

    /// Runs one transaction, again where others were in its way.
    ///
    /// # Errors
    /// Where the books cannot be trusted any more: what reached the disk is then known only after a restart.
    fn carry_out(&mut self, jobs: &mut Jobs, others: Others) -> sql::Result<Ended> {
        for attempt in 1.. {
            let transaction = AssertUnwindSafe(|| self.commit(jobs, others));
            let error = match catch_unwind(transaction) {
                Ok(Ok(more)) => {
                    self.out_of_trouble();
                    return Ok(Ended::Committed { more });
                }
                Ok(Err(error)) => error,
                Err(_) => SqlError { kind: SqlErrorKind::Other, why: "a transaction panicked".into() },
            };
            self.abandon(&error)?;
            match error.kind {
                SqlErrorKind::Contended if attempt < ATTEMPTS => {
                    tracing::debug!(%error, attempt, "a transaction is run again");
                    // Two that met must not meet again at once.
                    std::thread::sleep(Duration::from_millis(u64::from(jitter()) % (4 << attempt)));
                }
                SqlErrorKind::Lasting => return Err(error),
                // Said once, not with every attempt.
                SqlErrorKind::Unavailable if self.trouble.get().is_some() => return Ok(Ended::Refused),
                SqlErrorKind::Unavailable => {
                    tracing::error!(%error, "the books cannot be written");
                    self.trouble.set(Some(error.why));
                    return Ok(Ended::Refused);
                }
                SqlErrorKind::Contended | SqlErrorKind::Other => {
                    tracing::error!(%error, "a transaction failed");
                    return Ok(Ended::Failed);
                }
            }
        }
        Ok(Ended::Failed)
    }

    fn out_of_trouble(&mut self) {
        if self.trouble.get().is_some() {
            let ground = self.books.ground;
            self.books.memory.grace_until = ground.clock.now().plus_ms(ground.grace_ms);
            tracing::info!("the books can be written again");
            self.trouble.set(None);
        }
    }

    fn commit(&mut self, jobs: &mut Jobs, others: Others) -> sql::Result<bool> {
        let books = &mut self.books;
        books.db.begin()?;
        books.begin_batch();
        let needs: Vec<&Needs> = jobs.iter().map(|job| job.needs()).collect();
        absorb(books.prepare(&needs))?;
        if others == Others::Join {
            self.let_join(jobs)?;
        }
        let books = &mut self.books;
        if self.trouble.get().is_some() {
            books.probe()?;
        }
        let more = match others {
            Others::Are(chore) => absorb(books.tend(chore))?.unwrap_or(false),
            Others::Join | Others::Wait => false,
        };
        jobs.iter_mut().try_for_each(|job| job.run(books))?;
        books.commit()?;
        books.count(jobs.len());
        Ok(more)
    }

    /// Adds what came while others had the locks: otherwise it would have to wait for all of them once more.
    fn let_join(&mut self, jobs: &mut Jobs) -> sql::Result<()> {
        if !self.books.db.is_shared() || !self.waiting.can_join {
            return Ok(());
        }
        let late = self.waiting.present(BATCH_MAX.saturating_sub(jobs.len()));
        if late.is_empty() {
            return Ok(());
        }
        let needs: Vec<&Needs> = late.iter().map(|job| job.needs()).collect();
        let joined = self.books.join(&needs);
        let joins = joined.as_deref().unwrap_or_default().iter().copied().chain(std::iter::repeat(false));
        let (mut joining, mut others) = (Vec::new(), Vec::new());
        for (job, joins) in late.into_iter().zip(joins) {
            if joins { joining.push(job) } else { others.push(job) }
        }
        jobs.append(&mut joining);
        self.waiting.put_off(others);
        match joined {
            // A database that does not know locks which are only taken where they are free: each batch by itself, then.
            Err(error) if error.kind == SqlErrorKind::Other => {
                tracing::warn!(%error, "requests do not join transactions that are under way");
                self.waiting.can_join = false;
                Err(SqlError { kind: SqlErrorKind::Contended, ..error })
            }
            joined => joined.map(drop),
        }
    }

    /// Undoes a failed transaction and forgets what was remembered of it.
    fn abandon(&mut self, error: &SqlError) -> sql::Result<()> {
        self.books.ground.counters.failed(match error.kind {
            SqlErrorKind::Contended => "contended",
            SqlErrorKind::Unavailable => "unavailable",
            SqlErrorKind::Lasting => "lasting",
            SqlErrorKind::Other => "other",
        });
        let Books { db, memory, .. } = &mut self.books;
        let undone = db.rollback();
        if !db.is_shared() {
            let undone = undone.and_then(|()| memory.forget(*db));
            return if error.kind == SqlErrorKind::Lasting { Ok(()) } else { undone };
        }
        // A database that is away undoes by itself, and is asked again at the next transaction.
        if let Err(undo) = undone {
            tracing::debug!(%undo, "a transaction was not rolled back");
        }
        if error.kind == SqlErrorKind::Contended {
            memory.forget_undone()
        } else {
            memory.forget(*db)?
        }
        Ok(())
    }
}

/// A byte that others do not have at this moment.
fn jitter() -> u8 {
    let mut byte = [0];
    // Without random bytes the pause is none, and the attempts are counted.
    let _ = getrandom::fill(&mut byte);
    byte[0]
}

/// A refusal of what nobody asked for is a fault of ours, and no reason to fail the others.
fn absorb<T>(done: Result<T, Failure>) -> sql::Result<Option<T>> {
    match done {
        Ok(value) => Ok(Some(value)),
        Err(Failure::Database(error)) => Err(error),
        Err(Failure::Refused(error)) => {
            tracing::error!(%error, "a sweep was refused");
            Ok(None)
        }
    }
}

/// Answers a whole batch. Within the runtime, one wake-up serves all of them; from here, each would need its own.
fn send(jobs: Vec<Box<dyn WriteJob>>, runtime: Option<&Handle>) {
    if jobs.is_empty() {
        return;
    }
    let send = move || jobs.into_iter().for_each(|job| job.answer());
    match runtime {
        Some(runtime) => drop(runtime.spawn(async move { send() })),
        None => send(),
    }
}

/// Starts readers that share the jobs, one for each connection.
pub(super) fn start_readers(
    name: &str,
    connections: Vec<Box<dyn Sql + Send>>,
    ground: &Ground,
) -> Result<(Reader, Vec<JoinHandle<()>>), std::io::Error> {
    let (sender, receiver) = sync_channel::<ReadJob>(WAITING_MAX);
    let receiver = Arc::new(Mutex::new(receiver));
    let start = |db: Box<dyn Sql + Send>| {
        let (receiver, ground) = (receiver.clone(), ground.clone());
        std::thread::Builder::new().name(name.into()).spawn(move || {
            loop {
                let job = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(job) = job else { return };
                match catch_unwind(AssertUnwindSafe(|| job(db.as_ref(), &ground))) {
                    Ok(Some(answer)) => answer(),
                    Ok(None) => {}
                    Err(_) => tracing::error!("a reading panicked"),
                }
            }
        })
    };
    let threads = connections.into_iter().map(start).collect::<Result<_, _>>()?;
    Ok((Reader(sender), threads))
}

/// In one transaction, so that a reading of several tables sees one moment.
fn read<T>(
    db: &dyn Sql,
    ground: &Ground,
    job: impl FnOnce(&dyn Sql, &Ground) -> sql::Result<T>,
) -> sql::Result<T> {
    db.begin_read()?;
    let value = job(db, ground);
    let ended = db.rollback();
    let value = value?;
    ended?;
    Ok(value)
}

/// The time for a reading: what the clock says that the writers go by.
pub(super) fn reading_time(db: &dyn Sql, ground: &Ground) -> sql::Result<Timestamp> {
    if let Some(now) = db.clock_ms()? {
        // Where it is out of step, the writer says so, and a reading goes on by the time that it knows.
        let _ = ground.clock.observe(now);
    }
    Ok(ground.clock.now())
}

#[cfg(test)]
mod tests;
