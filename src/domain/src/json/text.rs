//! Texts of the scanner: runs without special bytes, UTF-8 across chunks, and the one short text that is kept.

/// How many of the first bytes are ASCII with no quote, backslash or control among them. Eight at a time: nearly all of
/// a prompt goes through here.
pub(super) fn plain_run(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    const fn zero_bytes(word: u64) -> u64 {
        word.wrapping_sub(ONES) & !word & HIGHS
    }
    let special = |word: u64| {
        let quotes = zero_bytes(word ^ u64::from_ne_bytes([b'"'; 8]));
        let backslashes = zero_bytes(word ^ u64::from_ne_bytes([b'\\'; 8]));
        let controls = word.wrapping_sub(ONES.wrapping_mul(0x20)) & !word & HIGHS;
        (quotes | backslashes | controls | (word & HIGHS)) != 0
    };
    let (words, _) = bytes.as_chunks::<8>();
    let plain_words = words.iter().take_while(|word| !special(u64::from_ne_bytes(**word))).count();
    let start = plain_words.saturating_mul(8);
    let tail = bytes.get(start..).unwrap_or_default();
    let is_plain = |b: &u8| (0x20..0x80).contains(b) && *b != b'"' && *b != b'\\';
    start.saturating_add(tail.iter().take(8).take_while(|b| is_plain(b)).count())
}

/// How many of the first bytes are plain or short escapes: what a text that nobody asked for mostly is.
pub(super) fn skip_run(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    loop {
        rest = rest.get(plain_run(rest)..).unwrap_or_default();
        match rest {
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', after @ ..] => rest = after,
            _ => return bytes.len().saturating_sub(rest.len()),
        }
    }
}

/// Where in a UTF-8 character the text is: which bytes may come next.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Utf8 {
    left: u8,
    /// The range of the next continuation byte where it is narrower than 80..=BF: overlong forms, surrogates and
    /// characters beyond U+10FFFF.
    narrowed: Option<(u8, u8)>,
}

impl Utf8 {
    /// Whether a character has begun and not ended.
    pub(super) fn inside(self) -> bool {
        self.left > 0
    }

    /// Takes a byte; `false` if it cannot stand here.
    pub(super) fn accept(&mut self, byte: u8) -> bool {
        if self.left > 0 {
            let (low, high) = self.narrowed.take().unwrap_or((0x80, 0xbf));
            self.left = self.left.saturating_sub(1);
            return (low..=high).contains(&byte);
        }
        (self.left, self.narrowed) = match byte {
            0x00..=0x7f => (0, None),
            0xc2..=0xdf => (1, None),
            0xe0 => (2, Some((0xa0, 0xbf))),
            0xed => (2, Some((0x80, 0x9f))),
            0xe1..=0xec | 0xee..=0xef => (2, None),
            0xf0 => (3, Some((0x90, 0xbf))),
            0xf1..=0xf3 => (3, None),
            0xf4 => (3, Some((0x80, 0x8f))),
            _ => return false,
        };
        true
    }
}

/// What stands for half a surrogate pair.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// One short text, unescaped.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    bytes: Vec<u8>,
    length_max: usize,
    too_long: bool,
    /// The first half of a surrogate pair, waiting for the second.
    high_surrogate: Option<u16>,
    /// The digits of a `\u` escape so far.
    unit: u16,
}

impl Scratch {
    pub(super) fn begin(&mut self, length_max: usize) {
        self.clear();
        self.length_max = length_max;
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.too_long = false;
        self.high_surrogate = None;
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.bytes.len().saturating_add(bytes.len()) > self.length_max {
            self.too_long = true;
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// The text, if it was not too long.
    pub(super) fn text(&self) -> Option<&str> {
        if self.too_long { None } else { std::str::from_utf8(&self.bytes).ok() }
    }

    pub(super) fn half_surrogate(&self) -> bool {
        self.high_surrogate.is_some()
    }

    /// Half a pair that stayed alone becomes the replacement character.
    pub(super) fn settle_surrogate(&mut self) -> Option<&'static [u8]> {
        self.high_surrogate.take().map(|_| REPLACEMENT)
    }

    pub(super) fn unicode_digit(&mut self, place: u8, digit: u32) {
        let before = if place == 0 { 0 } else { self.unit };
        self.unit = (before << 4) | u16::try_from(digit).unwrap_or(0);
    }

    /// The escape is complete: a replacement for a lone half before it, and the character that it completes.
    pub(super) fn unicode_unit(&mut self) -> (Option<&'static [u8]>, Option<char>) {
        let pair = self.high_surrogate.take();
        match (pair, self.unit) {
            (Some(high), low @ 0xdc00..=0xdfff) => {
                (None, char::decode_utf16([high, low]).next().and_then(Result::ok))
            }
            (lone, high @ 0xd800..=0xdbff) => {
                self.high_surrogate = Some(high);
                (lone.map(|_| REPLACEMENT), None)
            }
            (lone, unit) => {
                let character = char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER);
                (lone.map(|_| REPLACEMENT), Some(character))
            }
        }
    }
}
