//! Meters: what an answer used, read as it flows past, in constant memory.
//!
//! A meter takes the body of an answer chunk by chunk, JSON or server-sent events, and can say at any moment what it has
//! read so far. A chunk may end anywhere. Usage is taken only from its exact path.

mod reading;
mod shapes;
mod sse;
pub mod withhold;

use crate::api::Api;
use crate::json::Scanner;
use crate::price::Modifiers;
use crate::usage::Usage;
use reading::{Field, Reader};
use sse::{Piece, Sse};

/// What a meter has read of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The usage that the provider named, as far as it did.
    pub usage: Option<Usage>,
    /// The usage names output, too: not only what the input was.
    pub output_known: bool,
    /// Bytes of text, thinking and tool arguments that went by.
    pub output_bytes: u64,
    /// The model, as the answer names it.
    pub model: Option<String>,
    /// Service tier and the like, as the answer names them.
    pub modifiers: Modifiers,
    /// The answer came to its documented end.
    pub terminal: bool,
    /// The answer carries an error.
    pub error: bool,
    /// Parts that are billed beside `usage`, by model.
    pub extra: Vec<(String, Usage)>,
}

impl Reading {
    /// Whether this is the final word on what the request used.
    pub fn is_final(&self) -> bool {
        self.terminal && self.output_known && self.usage.is_some()
    }
}

/// How far an answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The provider has named usage.
    pub usage_named: bool,
    /// Bytes of text, thinking and tool arguments that went by.
    pub output_bytes: u64,
}

/// Reads one answer.
#[derive(Debug)]
pub struct Meter {
    scanner: Scanner<Field>,
    reader: Reader,
    stream: Option<Stream>,
}

/// What streams need beside.
#[derive(Debug, Default)]
struct Stream {
    sse: Sse,
    /// The first bytes of the present event's data: enough to tell `[DONE]`.
    head: Vec<u8>,
}

const DONE: &[u8] = b"[DONE]";

impl Meter {
    /// For an answer in JSON.
    pub fn json(api: Api) -> Self {
        Self { scanner: Scanner::lenient(shapes::json(api)), reader: Reader::new(api), stream: None }
    }

    /// For an answer in server-sent events.
    pub fn events(api: Api) -> Self {
        Self {
            scanner: Scanner::lenient(shapes::event(api)),
            reader: Reader::new(api),
            stream: Some(Stream::default()),
        }
    }

    /// Takes the next bytes of the body. What is no JSON where JSON should be is passed over: the answer belongs to the
    /// client, whatever is in it, and what was not read shows in the reading.
    pub fn feed(&mut self, chunk: &[u8]) {
        let Some(stream) = &mut self.stream else {
            let _ = self.scanner.feed(chunk, &mut self.reader);
            return;
        };
        let (scanner, reader, head) = (&mut self.scanner, &mut self.reader, &mut stream.head);
        stream.sse.feed(chunk, |piece| match piece {
            Piece::Data(bytes) => {
                let room = DONE.len().saturating_add(1).saturating_sub(head.len());
                head.extend(bytes.iter().take(room));
                let _ = scanner.feed(bytes, reader);
            }
            Piece::End { .. } => {
                if head.as_slice() == DONE {
                    reader.done();
                } else {
                    let _ = scanner.finish(reader);
                    reader.end_event();
                }
                head.clear();
                scanner.reset();
            }
        });
    }

    /// Whether usage has been named, and whether output has been seen: what is asked more often than the rest.
    pub fn progress(&self) -> Progress {
        self.reader.progress()
    }

    /// What has been read so far.
    pub fn reading(&self) -> Reading {
        let complete = match self.stream {
            None => self.scanner.is_done(),
            Some(_) => false,
        };
        self.reader.reading(complete)
    }
}

#[cfg(test)]
mod tests;
