//! The body of an answer on its way: at what pace it leaves, and where it breaks off.

use crate::record::Progress;
use axum::body::Body;
use bytes::Bytes;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};
use tokio_stream::Stream;

/// What leaves, and how.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Chunks, in order.
    pub(crate) pieces: Vec<Bytes>,
    /// Pause before each chunk but the first.
    pub(crate) gap: Duration,
    /// With its next change the pauses are over.
    pub(crate) release: Option<watch::Receiver<u64>>,
    /// Each chunk is flushed alone.
    pub(crate) flush_each: bool,
    /// The connection breaks after the last chunk.
    pub(crate) cut: bool,
}

impl Plan {
    /// The body; `progress` hears how far it got.
    pub(crate) fn body(self, progress: Arc<Progress>) -> Body {
        let pieces = self.pieces.into_iter();
        let phase = Phase::Ready;
        Body::from_stream(Paced {
            pieces,
            gap: self.gap,
            release: self.release,
            flush_each: self.flush_each,
            cut: self.cut,
            phase,
            progress,
        })
    }
}

enum Phase {
    /// The next chunk may leave.
    Ready,
    /// One has left, nothing was decided about the next.
    Sent,
    /// It waits for its time.
    Waiting(Pin<Box<Sleep>>),
    /// What has left is being flushed; then the connection breaks.
    Breaking(Pin<Box<Sleep>>),
}

struct Paced {
    pieces: std::vec::IntoIter<Bytes>,
    gap: Duration,
    release: Option<watch::Receiver<u64>>,
    flush_each: bool,
    cut: bool,
    phase: Phase,
    progress: Arc<Progress>,
}

/// Long enough for the server to flush before the body fails, because a failed body throws away what is not flushed.
const FLUSH: Duration = Duration::from_millis(10);

impl Stream for Paced {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            match &mut this.phase {
                Phase::Ready => return Poll::Ready(this.next()),
                Phase::Sent => {
                    this.phase = this.after_sent();
                    if this.flush_each && matches!(this.phase, Phase::Ready) {
                        // A pause in the body is what makes the server flush.
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                Phase::Waiting(sleep) => match sleep.as_mut().poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) => this.phase = Phase::Ready,
                },
                Phase::Breaking(sleep) => match sleep.as_mut().poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) => return Poll::Ready(Some(this.broken())),
                },
            }
        }
    }
}

impl Paced {
    fn after_sent(&self) -> Phase {
        match (self.pieces.as_slice().is_empty(), self.cut) {
            (true, true) => Phase::Breaking(Box::pin(sleep(FLUSH))),
            (false, _) if self.pauses() => Phase::Waiting(Box::pin(sleep(self.gap))),
            _ => Phase::Ready,
        }
    }

    fn pauses(&self) -> bool {
        let is_released = |release: &watch::Receiver<u64>| release.has_changed().unwrap_or(true);
        !self.gap.is_zero() && !self.release.as_ref().is_some_and(is_released)
    }

    fn next(&mut self) -> Option<io::Result<Bytes>> {
        match self.pieces.next() {
            Some(piece) => {
                self.progress.sent(piece.len());
                self.phase = Phase::Sent;
                Some(Ok(piece))
            }
            None if self.cut => Some(self.broken()),
            None => {
                self.progress.complete();
                None
            }
        }
    }

    fn broken(&self) -> io::Result<Bytes> {
        self.progress.cut();
        Err(io::Error::other("cut, as the request asked"))
    }
}

impl Drop for Paced {
    /// The server lets go of a body only when it is over or its reader has left.
    fn drop(&mut self) {
        if self.pieces.as_slice().is_empty() && !self.cut {
            self.progress.complete()
        } else {
            self.progress.left()
        }
    }
}
