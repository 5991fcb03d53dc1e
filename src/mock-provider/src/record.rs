//! What arrived, and how far each answer got.

use crate::tokens::Tokens;
use bytes::Bytes;
use http::request::Parts;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Requests that are kept.
const ENTRIES_MAX: usize = 20_000;

/// Bodies beyond are kept as a size.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Bytes of all bodies that are kept; the oldest requests go first.
const BODIES_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The requests so far.
#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: Mutex<VecDeque<Arc<Entry>>>,
    count: AtomicU64,
    body_bytes: AtomicUsize,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Entry {
    number: u64,
    method: String,
    path: String,
    query: Option<String>,
    headers: Vec<(String, String)>,
    body: OnceLock<Body>,
    answer: OnceLock<(u16, Option<Tokens>)>,
    progress: Arc<Progress>,
}

#[derive(Debug)]
struct Body {
    size: usize,
    bytes: Option<Bytes>,
}

/// How far an answer got.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    state: AtomicU8,
    bytes: AtomicU64,
    chunks: AtomicU64,
}

const STATES: [&str; 5] = ["waiting", "answering", "complete", "cut", "client_left"];

impl Progress {
    fn set(&self, state: u8) {
        // The first end that is told is the true one.
        let end = |now: u8| (now < 2).then_some(state);
        let _ = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, end);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.chunks.fetch_add(1, Ordering::Relaxed);
        self.set(1);
    }

    pub(crate) fn complete(&self) {
        self.set(2);
    }

    pub(crate) fn cut(&self) {
        self.set(3);
    }

    pub(crate) fn left(&self) {
        self.set(4);
    }

    fn show(&self) -> Value {
        let state = STATES.get(usize::from(self.state.load(Ordering::Relaxed)));
        json!({
            "state": state,
            "bytes": self.bytes.load(Ordering::Relaxed),
            "chunks": self.chunks.load(Ordering::Relaxed),
        })
    }
}

impl Log {
    /// A request has come: from its headers on, whatever becomes of its body.
    pub(crate) fn arrived(&self, parts: &Parts, quiet: bool) -> Option<Arc<Entry>> {
        let number = self.count.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if quiet {
            return None;
        }
        let entry = Arc::new(Entry::new(number, parts));
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        while entries.len() >= ENTRIES_MAX || self.body_bytes.load(Ordering::Relaxed) > BODIES_BYTES_MAX {
            let Some(oldest) = entries.pop_front() else { break };
            self.body_bytes.fetch_sub(oldest.body_bytes(), Ordering::Relaxed);
        }
        entries.push_back(Arc::clone(&entry));
        Some(entry)
    }

    /// Its body has come.
    pub(crate) fn body(&self, entry: &Entry, bytes: &Bytes) {
        let kept = (bytes.len() <= BODY_BYTES_MAX).then(|| Bytes::copy_from_slice(bytes));
        let size = kept.as_ref().map_or(0, Bytes::len);
        // Counted before it can be dropped, so that the sum never falls below zero.
        self.body_bytes.fetch_add(size, Ordering::Relaxed);
        let _ = entry.body.set(Body { size: bytes.len(), bytes: kept });
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn forget(&self) {
        for entry in self.entries.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            self.body_bytes.fetch_sub(entry.body_bytes(), Ordering::Relaxed);
        }
        self.count.store(0, Ordering::Relaxed);
    }

    pub(crate) fn show(&self) -> Value {
        // Rendered outside the lock: requests must not wait for a reader.
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone();
        entries.iter().map(|entry| entry.show()).collect()
    }
}

impl Entry {
    fn new(number: u64, parts: &Parts) -> Self {
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Self {
            number,
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().map(str::to_owned),
            headers: parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            body: OnceLock::new(),
            answer: OnceLock::new(),
            progress: Arc::default(),
        }
    }

    fn body_bytes(&self) -> usize {
        self.body.get().and_then(|body| body.bytes.as_ref()).map_or(0, Bytes::len)
    }

    pub(crate) fn answered(&self, status: u16, tokens: Option<Tokens>) {
        let _ = self.answer.set((status, tokens));
    }

    pub(crate) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    fn show(&self) -> Value {
        let body = self.body.get();
        json!({
            "number": self.number,
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": self.headers,
            "body_bytes": body.map(|body| body.size),
            "body": body.and_then(|body| body.bytes.as_ref()).map(show_body),
            "status": self.answer.get().map(|(status, _)| status),
            "usage": self.answer.get().map(|(_, tokens)| tokens),
            "answer": self.progress.show(),
        })
    }
}

/// As JSON where it is, else as text.
fn show_body(bytes: &Bytes) -> Value {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Parts {
        http::Request::post("/v1/messages?beta=true").header("a", "b").body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_log_is_bounded_and_counts_on() {
        let log = Log::default();
        for _ in 0..ENTRIES_MAX + 5 {
            let entry = log.arrived(&parts(), false).unwrap();
            log.body(&entry, &Bytes::from_static(b"{}"));
        }
        let shown = log.show();
        assert_eq!(shown.as_array().unwrap().len(), ENTRIES_MAX);
        assert_eq!(shown[0]["number"], 6);
        assert_eq!(log.count(), 20_005);
        log.forget();
        assert_eq!((log.count(), log.show()), (0, json!([])));
        assert_eq!(log.body_bytes.load(Ordering::Relaxed), 0);
        assert!(log.arrived(&parts(), true).is_none());
        assert_eq!(log.count(), 1);
    }

    #[test]
    fn a_large_body_is_kept_as_a_size() {
        let log = Log::default();
        let entry = log.arrived(&parts(), false).unwrap();
        log.body(&entry, &Bytes::from(vec![b' '; BODY_BYTES_MAX + 1]));
        let shown = entry.show();
        assert_eq!((&shown["body_bytes"], &shown["body"]), (&json!(65_537), &Value::Null));
        assert_eq!((&shown["query"], &shown["answer"]["state"]), (&json!("beta=true"), &json!("waiting")));
    }

    #[test]
    fn the_first_end_stays() {
        let progress = Progress::default();
        progress.sent(3);
        progress.cut();
        progress.left();
        assert_eq!(progress.show(), json!({"state": "cut", "bytes": 3, "chunks": 1}));
    }
}
