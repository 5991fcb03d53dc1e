//! Server-sent events: finds the data of each event in a stream of chunks.
//!
//! Only `data` matters; what an event is, its data says itself. Lines end with LF, CR or CRLF, as the standard has it.

/// A piece of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Bytes of the present event's data. Lines of data are joined by a line feed.
    Data(&'a [u8]),
    /// The event is over.
    End {
        /// How many bytes of the present chunk belong to it and what came before.
        consumed: usize,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// At the beginning of a line.
    #[default]
    LineStart,
    /// So many bytes of `data` have matched.
    Name(usize),
    /// After `data`, where a colon or the end of the line must come.
    AfterName,
    /// After `data:`, where one space may come.
    BeforeValue,
    /// Inside the value of a data line.
    Value,
    /// Inside another line.
    Skip,
}

/// Splits a stream into events.
#[derive(Debug, Default)]
pub(super) struct Sse {
    at: At,
    /// The last byte was a CR: a LF that follows belongs to it.
    after_cr: bool,
    /// The present event has a data line already.
    has_data: bool,
    /// A byte-order mark may stand at the very beginning; so many bytes of it have been seen.
    mark: usize,
    started: bool,
}

const DATA: &[u8] = b"data";
const MARK: &[u8] = b"\xef\xbb\xbf";

impl Sse {
    /// Takes the next bytes.
    pub(super) fn feed(&mut self, chunk: &[u8], mut take: impl FnMut(Piece<'_>)) {
        let mut consumed = 0_usize;
        while let Some(rest) = chunk.get(consumed..).filter(|rest| !rest.is_empty()) {
            let run = match self.at {
                At::Value | At::Skip => rest.iter().take_while(|b| !matches!(b, b'\n' | b'\r')).count(),
                _ => 0,
            };
            if run > 0 {
                if self.at == At::Value {
                    take(Piece::Data(rest.get(..run).unwrap_or_default()));
                }
                self.after_cr = false;
                consumed = consumed.saturating_add(run);
            } else {
                consumed = consumed.saturating_add(1);
                if let Some(byte) = rest.first() {
                    self.byte(*byte, consumed, &mut take);
                }
            }
        }
    }

    fn byte(&mut self, byte: u8, consumed: usize, take: &mut impl FnMut(Piece<'_>)) {
        if !self.started {
            if MARK.get(self.mark) == Some(&byte) {
                self.mark = self.mark.saturating_add(1);
                return;
            }
            self.started = true;
        }
        let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
        match byte {
            b'\n' if after_cr => {}
            b'\n' | b'\r' => self.line_end(consumed, take),
            _ => self.line_byte(byte, take),
        }
    }

    fn line_end(&mut self, consumed: usize, take: &mut impl FnMut(Piece<'_>)) {
        let line_was_empty = self.at == At::LineStart;
        if matches!(self.at, At::AfterName) || self.at == At::Name(DATA.len()) {
            self.begin_value(take);
        }
        self.at = At::LineStart;
        if line_was_empty {
            take(Piece::End { consumed });
            self.has_data = false;
        }
    }

    fn begin_value(&mut self, take: &mut impl FnMut(Piece<'_>)) {
        if std::mem::replace(&mut self.has_data, true) {
            take(Piece::Data(b"\n"));
        }
    }

    fn line_byte(&mut self, byte: u8, take: &mut impl FnMut(Piece<'_>)) {
        self.at = match self.at {
            At::LineStart if DATA.first() == Some(&byte) => At::Name(1),
            At::Name(matched) if DATA.get(matched) == Some(&byte) => {
                let matched = matched.saturating_add(1);
                if matched == DATA.len() { At::AfterName } else { At::Name(matched) }
            }
            At::AfterName if byte == b':' => {
                self.begin_value(take);
                At::BeforeValue
            }
            At::BeforeValue if byte == b' ' => At::Value,
            At::BeforeValue | At::Value => {
                take(Piece::Data(&[byte]));
                At::Value
            }
            At::LineStart | At::Name(_) | At::AfterName | At::Skip => At::Skip,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(stream: &[u8], chunk: usize) -> Vec<String> {
        let mut sse = Sse::default();
        let mut events = Vec::new();
        let mut data = Vec::new();
        for piece in stream.chunks(chunk) {
            sse.feed(piece, |piece| match piece {
                Piece::Data(bytes) => data.extend_from_slice(bytes),
                Piece::End { .. } => events.push(String::from_utf8(std::mem::take(&mut data)).unwrap()),
            });
        }
        events
    }

    #[test]
    fn events_are_split_by_the_standard() {
        let table: [(&[u8], &[&str]); 12] = [
            (b"data: a\n\n", &["a"]),
            (b"data:a\n\n", &["a"]),
            (b"data:  a\n\n", &[" a"]),
            (b"data: a\r\n\r\ndata: b\r\r", &["a", "b"]),
            (b"event: x\ndata: a\nid: 7\n\n", &["a"]),
            (b"data: a\ndata: b\n\n", &["a\nb"]),
            (b"data\ndata: b\n\n", &["\nb"]),
            (b": comment\n\ndata: a\n\n", &["", "a"]),
            (b"database: x\ndat: y\nxdata: z\n\n", &[""]),
            (b"data: data: a\n\n", &["data: a"]),
            (b"\xef\xbb\xbfdata: a\n\n", &["a"]),
            (b"data: unfinished\n", &[]),
        ];
        for (stream, expected) in table {
            for chunk in 1..=stream.len() {
                assert_eq!(events(stream, chunk), expected, "{:?}", String::from_utf8_lossy(stream));
            }
        }
    }
}
