//! Changes as they come. The store may tell an account again as it was, because it looks back; what this stream told a moment ago is
//! remembered here, and left out.

use super::{unavailable, write};
use crate::store::{Changes, Cursor, Operated};
use futures_util::Stream;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tollgate_proto::v1;
use tonic::Status;

/// Accounts in one answer at most: a few hundred kilobytes.
const ACCOUNTS_MAX: u32 = 500;
/// How often the store is asked: a person sees a change within a second or two, and asking costs a few look-ups in an index.
const EVERY: Duration = Duration::from_secs(1);
/// A fresh cursor now and then, so that whoever comes back after a quiet day is not far behind.
const CURSOR_EVERY: Duration = Duration::from_secs(60);
/// How long what was told is remembered: longer than the store looks back.
const REMEMBERED: Duration = Duration::from_secs(150);

/// Answers until the caller leaves or the ledger stops.
pub(super) type ChangesStream = Pin<Box<dyn Stream<Item = Result<v1::ChangesResponse, Status>> + Send>>;

/// Every change from the cursor on.
pub(super) fn changes<S: Operated>(
    store: Arc<S>,
    cursor: Option<Cursor>,
    mut stopped: watch::Receiver<bool>,
) -> ChangesStream {
    // One: an answer that nobody takes holds up the next reading.
    let (answers, stream) = mpsc::channel(1);
    tokio::spawn(async move {
        let told = tell(&*store, cursor, &answers);
        tokio::select! {
            () = told => {}
            () = answers.closed() => {}
            _ = stopped.wait_for(|stopped| *stopped) => {
                let _ = answers.try_send(Err(Status::unavailable("the ledger stops")));
            }
        }
    });
    Box::pin(ReceiverStream::new(stream))
}

type Answers = mpsc::Sender<Result<v1::ChangesResponse, Status>>;

async fn tell<S: Operated>(store: &S, mut cursor: Option<Cursor>, answers: &Answers) {
    let mut told = Told::default();
    let mut answered: Option<Instant> = None;
    let mut promised = false;
    loop {
        let found = match store.changes(cursor.clone(), ACCOUNTS_MAX).await {
            Ok(found) => found,
            Err(error) => {
                let _ = answers.send(Err(unavailable(&error))).await;
                return;
            }
        };
        cursor = Some(found.cursor.clone());
        let more = found.more;
        let answer = told.answer(found);
        let due = answered.is_none_or(|last| last.elapsed() >= CURSOR_EVERY);
        // The answer that has nothing more says so, even where it has nothing at all.
        if due || promised || !answer.accounts.is_empty() {
            if answers.send(Ok(answer)).await.is_err() {
                return;
            }
            answered = Some(Instant::now());
            promised = more;
        }
        if !more {
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// What was told lately, by account.
#[derive(Default)]
struct Told(HashMap<[u8; 32], ([u8; 32], Instant)>);

impl Told {
    fn answer(&mut self, found: Changes) -> v1::ChangesResponse {
        let Changes { accounts, cursor, restarted, more, looked_back } = found;
        let now = Instant::now();
        self.0.retain(|_, (_, at)| now.duration_since(*at) < REMEMBERED);
        let mut statuses: Vec<_> = accounts.into_iter().map(write::status).collect();
        // Lists of every account are long, and told once.
        if looked_back {
            statuses.retain(|status| self.is_news(status, now));
        }
        v1::ChangesResponse { accounts: statuses, cursor: cursor.to_bytes(), restarted, more }
    }

    fn is_news(&mut self, status: &v1::AccountStatus, now: Instant) -> bool {
        let name = sha256(&status.name);
        let seen = sha256(status);
        let known = self.0.insert(name, (seen, now));
        known.is_none_or(|(known, _)| known != seen)
    }
}

fn sha256(message: &impl std::fmt::Debug) -> [u8; 32] {
    Sha256::digest(format!("{message:?}")).into()
}
