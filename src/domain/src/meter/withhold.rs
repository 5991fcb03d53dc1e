//! Keeps from a client the chunk that it did not ask for: on chat streams the filter asks for usage itself, and clients
//! written for OpenAI read `choices[0]` of every chunk. The usage chunk has no choices.
//!
//! An event is withheld only until it is known to be another one, and never beyond [`WITHHELD_BYTES_MAX`].

use super::reading::{Field, Reader};
use super::shapes;
use super::sse::{Piece, Sse};
use crate::api::Api;
use crate::json::Scanner;

/// A chunk of usage alone is far smaller; whatever grows beyond this goes on.
const WITHHELD_BYTES_MAX: usize = 16 * 1024;

/// Filters a chat stream.
#[derive(Debug)]
pub struct Withhold {
    sse: Sse,
    scanner: Scanner<Field>,
    reader: Reader,
    held: Vec<u8>,
    /// The present event is known to go on.
    passes: bool,
}

impl Withhold {
    /// For a stream of this API: chat completions or completions.
    pub fn new(api: Api) -> Self {
        Self {
            sse: Sse::default(),
            scanner: Scanner::lenient(shapes::event(api)),
            reader: Reader::new(api),
            held: Vec::new(),
            passes: false,
        }
    }

    /// Takes the next bytes, and gives what may go on.
    pub fn feed(&mut self, chunk: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(chunk.len().saturating_add(self.held.len()));
        let mut from = 0_usize;
        let Self { sse, scanner, reader, held, passes } = self;
        sse.feed(chunk, |piece| match piece {
            Piece::Data(bytes) => {
                let fault = scanner.feed(bytes, reader).is_err();
                *passes |= fault || reader.chunk.choice_seen;
            }
            Piece::End { consumed } => {
                let event = chunk.get(from..consumed).unwrap_or_default();
                let is_usage_alone =
                    reader.chunk.usage_seen && reader.chunk.choices_listed && scanner.is_done();
                if *passes || !is_usage_alone {
                    out.append(held);
                    out.extend_from_slice(event);
                }
                held.clear();
                from = consumed;
                *passes = false;
                scanner.reset();
                reader.end_event();
            }
        });
        let rest = chunk.get(from..).unwrap_or_default();
        if self.passes || self.held.len().saturating_add(rest.len()) > WITHHELD_BYTES_MAX {
            self.passes = true;
            out.append(&mut self.held);
            out.extend_from_slice(rest);
        } else {
            self.held.extend_from_slice(rest);
        }
        out
    }

    /// The stream is over: what is still withheld goes on, whatever it is.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "data: {\"id\":\"1\",\"choices\":[{\"delta\":{\"content\":\"é\"}}],\"usage\":null}\n\n\
        : ping\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n\
        data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n\
        data: [DONE]\n\n";

    #[test]
    fn only_the_usage_chunk_stays_behind_wherever_chunks_end() {
        let usage = STREAM.split_inclusive("\n\n").nth(2).unwrap();
        let expected = STREAM.replace(usage, "");
        for size in 1..=STREAM.len() {
            let mut withhold = Withhold::new(Api::ChatCompletions);
            let mut out: Vec<u8> =
                STREAM.as_bytes().chunks(size).flat_map(|chunk| withhold.feed(chunk)).collect();
            out.extend(withhold.finish());
            assert_eq!(String::from_utf8(out).unwrap(), expected, "chunks of {size}");
        }
    }

    #[test]
    fn an_event_goes_on_as_soon_as_it_has_a_choice() {
        let mut withhold = Withhold::new(Api::ChatCompletions);
        assert_eq!(withhold.feed(b"data: {\"choices\":["), b"");
        assert_eq!(withhold.feed(b"{"), b"data: {\"choices\":[{");
        assert_eq!(withhold.feed(b"\"delta\":"), b"\"delta\":");
        let long = [b"data: {\"x\":\"".to_vec(), vec![b'x'; WITHHELD_BYTES_MAX]].concat();
        assert_eq!(Withhold::new(Api::ChatCompletions).feed(&long), long);
    }

    #[test]
    fn what_the_stream_leaves_unfinished_goes_on() {
        let mut withhold = Withhold::new(Api::ChatCompletions);
        assert_eq!(withhold.feed(b"data: {\"choices\":[],\"usage\":{"), b"");
        assert_eq!(withhold.finish(), b"data: {\"choices\":[],\"usage\":{");
    }
}
