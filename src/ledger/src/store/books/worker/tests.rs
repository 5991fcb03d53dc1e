use super::super::prices::Prices;
use super::*;
use crate::clock::Clock;
use crate::store::sql::values;
use crate::store::sqlite::Access;
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tollgate_domain::price::{BUILT_IN, PriceBook};

/// A writer over a table that any job may spoil.
struct Bench {
    folder: tempfile::TempDir,
    _lock: std::fs::File,
    writer: Option<Writer>,
    /// Ends a reader when it is dropped.
    reader: Option<std::sync::mpsc::Sender<()>>,
    failed: watch::Receiver<Option<String>>,
    thread: JoinHandle<()>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (file, lock) = crate::store::sqlite::connect(&Self::path(folder.path()), Access::Create).unwrap();
        file.execute("CREATE TABLE seen (number INTEGER PRIMARY KEY)", &[]).unwrap();
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
        let (failure, failed) = watch::channel(None);
        let (reader, ended) = std::sync::mpsc::channel::<()>();
        let readers = vec![std::thread::spawn(move || while ended.recv().is_ok() {})];
        let (writer, thread) =
            start_writer(Box::new(file), ground, failure, Trouble::default(), readers).unwrap();
        Self { folder, _lock: lock, writer: Some(writer), reader: Some(reader), failed, thread }
    }

    fn path(folder: &Path) -> std::path::PathBuf {
        folder.join("ledger.db")
    }

    fn writer(&self) -> Writer {
        self.writer.clone().unwrap()
    }

    async fn see(&self, number: i64) -> Result<(), StoreError> {
        self.writer().run(Needs::default(), move |books| insert(books, number)).await
    }

    /// What somebody else sees in the file.
    fn seen(&self) -> Vec<i64> {
        let file = Connection::open(Self::path(self.folder.path())).unwrap();
        let mut statement = file.prepare("SELECT number FROM seen ORDER BY number").unwrap();
        let seen = statement.query_map([], |row| row.get(0)).unwrap();
        seen.collect::<Result<_, _>>().unwrap()
    }
}

fn insert(books: &mut Books<'_>, number: i64) -> Result<(), Failure> {
    books.db.execute("INSERT INTO seen VALUES ($1)", &values![number])?;
    Ok(())
}

/// Keeps the writer busy until the guard is dropped, so that what comes meanwhile shares one batch.
fn occupy(writer: &Writer) -> (std::sync::mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let writer = writer.clone();
    let (occupied, begun) = std::sync::mpsc::channel();
    let task = tokio::spawn(async move {
        let wait = move |_: &mut Books<'_>| {
            occupied.send(()).unwrap();
            let _ = released.recv();
            Ok(())
        };
        writer.run(Needs::default(), wait).await.unwrap();
    });
    begun.recv().unwrap();
    (release, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_comes_after_the_commit() {
    let bench = Bench::new();
    for number in 1..20 {
        bench.see(number).await.unwrap();
        assert_eq!(bench.seen(), (1..=number).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_member_fails_alone() {
    let bench = Bench::new();
    bench.see(1).await.unwrap();
    let broken: [fn(&mut Books<'_>) -> Result<(), Failure>; 2] =
        [|books| insert(books, 1), |_| panic!("as a defect would")];
    for (round, broken) in broken.into_iter().enumerate() {
        let (release, occupier) = occupy(&bench.writer());
        let writer = bench.writer();
        let before = tokio::spawn(async move {
            writer.run(Needs::default(), move |books| insert(books, 100 + round as i64)).await
        });
        while_queued().await;
        let writer = bench.writer();
        let failing = tokio::spawn(async move { writer.run(Needs::default(), broken).await });
        while_queued().await;
        drop(release);
        occupier.await.unwrap();
        before.await.unwrap().unwrap();
        let answer = failing.await.unwrap();
        assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
        bench.see(10 + round as i64).await.unwrap();
    }
    assert_eq!(bench.seen(), [1, 10, 11, 100, 101]);
    assert_eq!(*bench.failed.borrow(), None);
}

/// Long enough for a message to reach the queue.
async fn while_queued() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_change_is_undone_within_its_batch() {
    let bench = Bench::new();
    let (release, occupier) = occupy(&bench.writer());
    let kept = {
        let writer = bench.writer();
        tokio::spawn(async move { writer.run(Needs::default(), |books| insert(books, 1)).await })
    };
    let writer = bench.writer();
    let refused = tokio::spawn(async move {
        let change = |books: &mut Books<'_>| -> Result<(), Failure> {
            insert(books, 2)?;
            Err(StoreError::Invalid("not that").into())
        };
        writer.run_undoable(change).await
    });
    while_queued().await;
    drop(release);
    occupier.await.unwrap();
    kept.await.unwrap().unwrap();
    assert!(matches!(refused.await.unwrap(), Err(StoreError::Invalid("not that"))));
    assert_eq!(bench.seen(), [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_messages_share_a_transaction() {
    let bench = Bench::new();
    let (release, occupier) = occupy(&bench.writer());
    let commits = Arc::new(AtomicUsize::new(0));
    let writer = bench.writer();
    let counting = commits.clone();
    let hook = tokio::spawn(async move {
        let count = move |books: &mut Books<'_>| {
            let frames = books.db.query("SELECT count(*) FROM seen", &[])?[0].int(0)?;
            counting.store(usize::try_from(frames).unwrap_or_default(), Ordering::SeqCst);
            Ok(())
        };
        while_queued().await;
        writer.run(Needs::default(), count).await.unwrap();
    });
    let members: Vec<_> = (1..=10)
        .map(|number| {
            let writer = bench.writer();
            tokio::spawn(
                async move { writer.run(Needs::default(), move |books| insert(books, number)).await },
            )
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(120)).await;
    assert_eq!(bench.seen(), [0; 0]);
    drop(release);
    occupier.await.unwrap();
    hook.await.unwrap();
    for member in members {
        member.await.unwrap().unwrap();
    }
    assert_eq!(commits.load(Ordering::SeqCst), 10, "the last member sees those before it, uncommitted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_trusted_stops_the_writer() {
    let mut bench = Bench::new();
    bench.see(1).await.unwrap();
    let writer = bench.writer();
    let failing = writer.run(Needs::default(), |_| -> Result<(), Failure> {
        let io = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
        Err(SqlError::from(rusqlite::Error::SqliteFailure(io, None)).into())
    });
    assert!(matches!(failing.await, Err(StoreError::Unavailable(_))));
    let reason = bench.failed.wait_for(Option::is_some).await.unwrap().clone();
    assert!(reason.unwrap().contains("I/O"));
    // Although readers go on: they end with those who can ask.
    let told = tokio::time::timeout(Duration::from_secs(30), bench.see(2)).await;
    assert!(matches!(told, Ok(Err(StoreError::Unavailable(_)))), "{told:?}");
    drop(writer);
    bench.writer = None;
    bench.reader = None;
    bench.thread.join().unwrap();
}
