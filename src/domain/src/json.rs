//! A push scanner for JSON that looks only at what it is asked for.
//!
//! Prompts and answers are large, arrive in pieces that may end anywhere, and must be neither stored nor searched: a
//! `"usage"` inside of a tool's input is not the usage. So the scanner is fed chunk by chunk, follows the path of every
//! value by depth, checks the whole grammar and UTF-8, and reports just the fields of a tree of [`Node`]s. Memory is
//! constant: a frame for each open container ([`DEPTH_MAX`]) and one short text.

mod text;

use text::{Scratch, Utf8, plain_run, skip_run};

/// Containers inside one another at most: what serde_json, and hence most of the world, allows.
pub const DEPTH_MAX: usize = 128;
/// Names longer than this match no field.
const NAME_BYTES_MAX: usize = 64;
/// Numbers longer than this are no number that anybody counts with.
const NUMBER_BYTES_MAX: usize = 64;

/// What to look at: a value that may have members or items which are looked at in turn. Trees are `static`, and may
/// refer to themselves.
#[derive(Debug)]
pub struct Node<F: 'static> {
    /// Under which name the value is reported; `None`: it is only a way to other values.
    pub field: Option<F>,
    /// How a text is reported.
    pub text: Text,
    /// Members of an object, at most 64.
    pub members: &'static [(&'static str, &'static Node<F>)],
    /// Items of an array.
    pub items: Option<&'static Node<F>>,
}

/// How a text is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// By [`Value::SkippedText`].
    Skip,
    /// Unescaped, if it is at most this long; otherwise by [`Value::LongText`].
    Keep(usize),
    /// Its unescaped length, as it arrives, by [`Sink::text_seen`].
    Count,
}

impl<F: Copy + 'static> Node<F> {
    /// A reported value whose members and items nobody looks at.
    pub const fn leaf(field: F, text: Text) -> Self {
        Self { field: Some(field), text, members: &[], items: None }
    }

    /// An object that is not reported itself.
    pub const fn object(members: &'static [(&'static str, &'static Self)]) -> Self {
        Self { field: None, text: Text::Skip, members, items: None }
    }

    /// An array that is not reported itself.
    pub const fn array(items: &'static Self) -> Self {
        Self { field: None, text: Text::Skip, members: &[], items: Some(items) }
    }

    /// The same, reported as `field`.
    #[must_use]
    pub const fn named(mut self, field: F) -> Self {
        self.field = Some(field);
        self
    }

    /// The same, with items too: for a value that may be an object, an array or a text.
    #[must_use]
    pub const fn or_array(mut self, items: &'static Self) -> Self {
        self.items = Some(items);
        self
    }
}

/// A reported value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// The number's own text.
    Number(&'a str),
    /// An unescaped text.
    Text(&'a str),
    /// A text that is longer than it may be.
    LongText,
    /// A text that nobody asked for.
    SkippedText,
    /// An object begins.
    Object,
    /// An array begins.
    Array,
}

/// Where a value stands in the whole input, in bytes: `[start, end)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: u64,
    /// After the last byte. For [`Value::Object`] and [`Value::Array`] as they begin: after the bracket.
    pub end: u64,
}

/// Where a member of an object stands, with the commas around it: what it takes to remove it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The first byte of the name.
    pub start: u64,
    /// After the last byte of the value.
    pub end: u64,
    /// The comma before it.
    pub comma_before: Option<u64>,
    /// The comma after it.
    pub comma_after: Option<u64>,
}

/// Takes what the scanner reports.
pub trait Sink<F> {
    /// A value, or the beginning of a container.
    fn value(&mut self, field: F, value: Value<'_>, span: Span);
    /// A container has ended; `empty` if nothing was in it.
    fn end(&mut self, _field: F, _empty: bool) {}
    /// A member is over; called once its following comma, or the end of its object, has been seen.
    fn member(&mut self, _field: F, _member: Member) {}
    /// So many more bytes of a counted text.
    fn text_seen(&mut self, _field: F, _bytes: u64) {}
}

/// Why the input is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not JSON.
    #[error("is not valid JSON at byte {0}")]
    Syntax(u64),
    /// A text that is not UTF-8.
    #[error("is not valid UTF-8 at byte {0}")]
    Utf8(u64),
    /// More than [`DEPTH_MAX`] containers inside one another.
    #[error("is nested deeper than 128 levels")]
    Depth,
    /// A field that is looked at stands twice in one object.
    #[error("names {0} twice")]
    Duplicate(&'static str),
    /// It ended in the middle.
    #[error("ends before the JSON does")]
    Truncated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Value,
    ItemOrEnd,
    NameOrEnd,
    Name,
    Colon,
    AfterValue,
    InText,
    Escape,
    Unicode(u8),
    Number(Number),
    Literal(&'static [u8], usize, Value<'static>),
    Done,
}

/// How far a number has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

impl Number {
    fn next(self, byte: u8) -> Option<Self> {
        use Number::{Exponent, ExponentDigits, ExponentSign, Fraction, Minus, Point, Whole, Zero};
        Some(match (self, byte) {
            (Minus, b'0') => Zero,
            (Minus, b'1'..=b'9') | (Whole, b'0'..=b'9') => Whole,
            (Zero | Whole, b'.') => Point,
            (Point | Fraction, b'0'..=b'9') => Fraction,
            (Zero | Whole | Fraction, b'e' | b'E') => Exponent,
            (Exponent, b'+' | b'-') => ExponentSign,
            (Exponent | ExponentSign | ExponentDigits, b'0'..=b'9') => ExponentDigits,
            _ => return None,
        })
    }

    fn complete(self) -> bool {
        matches!(self, Self::Zero | Self::Whole | Self::Fraction | Self::ExponentDigits)
    }
}

/// What the text that is being read is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Name,
    Skip,
    Keep,
    Count,
}

#[derive(Debug)]
struct Frame<F: 'static> {
    node: Option<&'static Node<F>>,
    is_object: bool,
    empty: bool,
    /// Which members of `node` have been seen, by place.
    seen: u64,
    /// The comma before the present member.
    comma: Option<u64>,
    /// The present member: its node and where its name begins.
    member: Option<(&'static Node<F>, u64)>,
    /// A reported member that is over, waiting for what follows.
    finished: Option<(F, Member)>,
}

/// Scans one JSON value.
#[derive(Debug)]
pub struct Scanner<F: 'static> {
    root: &'static Node<F>,
    /// Whether a looked-at field that stands twice is a fault; otherwise both are reported.
    strict: bool,
    state: State,
    frames: Vec<Frame<F>>,
    /// The node of the value that comes next, or is being read.
    node: Option<&'static Node<F>>,
    purpose: Purpose,
    scratch: Scratch,
    utf8: Utf8,
    value_start: u64,
    name_start: u64,
    /// Bytes fed before the present chunk.
    offset: u64,
    fault: Option<Fault>,
}

impl<F: Copy + 'static> Scanner<F> {
    /// For input that others read too, such as a request: a looked-at field that stands twice is a fault, because the
    /// provider might believe the other one.
    pub fn strict(root: &'static Node<F>) -> Self {
        Self::new(root, true)
    }

    /// For input that only we read, such as an answer: of fields that stand twice both are reported.
    pub fn lenient(root: &'static Node<F>) -> Self {
        Self::new(root, false)
    }

    fn new(root: &'static Node<F>, strict: bool) -> Self {
        Self {
            root,
            strict,
            state: State::Value,
            frames: Vec::new(),
            node: Some(root),
            purpose: Purpose::Skip,
            scratch: Scratch::default(),
            utf8: Utf8::default(),
            value_start: 0,
            name_start: 0,
            offset: 0,
            fault: None,
        }
    }

    /// Begins anew, for another value of the same kind.
    pub fn reset(&mut self) {
        self.state = State::Value;
        self.frames.clear();
        self.node = Some(self.root);
        self.scratch.clear();
        self.utf8 = Utf8::default();
        self.offset = 0;
        self.fault = None;
    }

    /// Bytes fed so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the value is complete.
    pub fn is_done(&self) -> bool {
        self.fault.is_none() && self.state == State::Done
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`Fault`]; the same one for every later call.
    pub fn feed(&mut self, chunk: &[u8], sink: &mut impl Sink<F>) -> Result<(), Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let mut rest = chunk;
        while let Some((&byte, after)) = rest.split_first() {
            let run = if self.state == State::InText { self.plain_text(rest, sink) } else { 0 };
            let taken = if run > 0 {
                run
            } else {
                if let Err(fault) = self.byte(byte, sink) {
                    self.fault = Some(fault);
                    return Err(fault);
                }
                1
            };
            self.offset = self.offset.saturating_add(u64::try_from(taken).unwrap_or(u64::MAX));
            rest = if run > 0 { rest.get(run..).unwrap_or_default() } else { after };
        }
        Ok(())
    }

    /// Says that no more bytes come.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn finish(&mut self, sink: &mut impl Sink<F>) -> Result<(), Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if let State::Number(number) = self.state {
            self.end_number(number, sink)?;
        }
        if self.state == State::Done { Ok(()) } else { Err(Fault::Truncated) }
    }

    /// Takes a run of bytes of a text that need no thought, and says how many.
    fn plain_text(&mut self, bytes: &[u8], sink: &mut impl Sink<F>) -> usize {
        if self.utf8.inside() || self.scratch.half_surrogate() {
            return 0;
        }
        if self.purpose == Purpose::Skip {
            return skip_run(bytes);
        }
        let run = plain_run(bytes);
        self.text_bytes(bytes.get(..run).unwrap_or_default(), sink);
        run
    }

    fn text_bytes(&mut self, bytes: &[u8], sink: &mut impl Sink<F>) {
        match self.purpose {
            Purpose::Skip => {}
            Purpose::Name | Purpose::Keep => self.scratch.push(bytes),
            Purpose::Count => {
                if let Some(field) = self.node.and_then(|node| node.field) {
                    sink.text_seen(field, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                }
            }
        }
    }

    fn syntax<T>(&self) -> Result<T, Fault> {
        Err(Fault::Syntax(self.offset))
    }

    fn byte(&mut self, byte: u8, sink: &mut impl Sink<F>) -> Result<(), Fault> {
        match self.state {
            State::InText => self.text_byte(byte, sink),
            State::Escape => self.escape(byte, sink),
            State::Unicode(digits) => self.unicode(byte, digits, sink),
            State::Number(number) => match number.next(byte) {
                Some(next) => {
                    self.scratch.push(&[byte]);
                    self.state = State::Number(next);
                    Ok(())
                }
                None => {
                    self.end_number(number, sink)?;
                    self.byte(byte, sink)
                }
            },
            State::Literal(rest, at, value) => self.literal(byte, rest, at, value, sink),
            _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => Ok(()),
            State::Value => self.begin_value(byte, sink),
            State::ItemOrEnd if byte == b']' => self.end_container(sink),
            State::ItemOrEnd => self.begin_value(byte, sink),
            State::NameOrEnd if byte == b'}' => self.end_container(sink),
            State::NameOrEnd | State::Name if byte == b'"' => {
                self.name_start = self.offset;
                self.begin_text(Purpose::Name, NAME_BYTES_MAX);
                Ok(())
            }
            State::Colon if byte == b':' => {
                self.state = State::Value;
                Ok(())
            }
            State::AfterValue => self.after_value(byte, sink),
            State::NameOrEnd | State::Name | State::Colon | State::Done => self.syntax(),
        }
    }

    fn begin_value(&mut self, byte: u8, sink: &mut impl Sink<F>) -> Result<(), Fault> {
        self.value_start = self.offset;
        if let Some(frame) = self.frames.last_mut() {
            frame.empty = false;
        }
        match byte {
            b'{' => return self.begin_container(true, sink),
            b'[' => return self.begin_container(false, sink),
            b'"' => {
                let how = self.node.map_or(Text::Skip, |node| node.text);
                let (purpose, length_max) = match how {
                    Text::Skip => (Purpose::Skip, 0),
                    Text::Keep(length_max) => (Purpose::Keep, length_max),
                    Text::Count => (Purpose::Count, 0),
                };
                self.begin_text(purpose, length_max);
            }
            b'-' | b'0'..=b'9' => {
                self.scratch.begin(NUMBER_BYTES_MAX);
                self.scratch.push(&[byte]);
                self.state = State::Number(match byte {
                    b'-' => Number::Minus,
                    b'0' => Number::Zero,
                    _ => Number::Whole,
                });
            }
            b't' => self.state = State::Literal(b"rue", 0, Value::Bool(true)),
            b'f' => self.state = State::Literal(b"alse", 0, Value::Bool(false)),
            b'n' => self.state = State::Literal(b"ull", 0, Value::Null),
            _ => return self.syntax(),
        }
        Ok(())
    }

    fn begin_text(&mut self, purpose: Purpose, length_max: usize) {
        self.purpose = purpose;
        self.scratch.begin(length_max);
        self.state = State::InText;
    }

    fn begin_container(&mut self, is_object: bool, sink: &mut impl Sink<F>) -> Result<(), Fault> {
        if self.frames.len() >= DEPTH_MAX {
            return Err(Fault::Depth);
        }
        let kind = if is_object { Value::Object } else { Value::Array };
        if let Some(field) = self.node.and_then(|node| node.field) {
            sink.value(field, kind, self.span());
        }
        self.frames.push(Frame {
            node: self.node,
            is_object,
            empty: true,
            seen: 0,
            comma: None,
            member: None,
            finished: None,
        });
        self.state = if is_object { State::NameOrEnd } else { State::ItemOrEnd };
        self.node = if is_object { None } else { self.node.and_then(|node| node.items) };
        Ok(())
    }

    fn end_container(&mut self, sink: &mut impl Sink<F>) -> Result<(), Fault> {
        let Some(frame) = self.frames.pop() else { return self.syntax() };
        if let Some((field, member)) = frame.finished {
            sink.member(field, member);
        }
        if let Some(field) = frame.node.and_then(|node| node.field) {
            sink.end(field, frame.empty);
        }
        self.value_is_over();
        Ok(())
    }

    /// The span from the value's start to the present byte, that one included.
    fn span(&self) -> Span {
        Span { start: self.value_start, end: self.offset.saturating_add(1) }
    }

    fn after_value(&mut self, byte: u8, sink: &mut impl Sink<F>) -> Result<(), Fault> {
        let offset = self.offset;
        let Some(frame) = self.frames.last_mut() else { return self.syntax() };
        match (byte, frame.is_object) {
            (b',', true) => {
                if let Some((field, member)) = frame.finished.take() {
                    sink.member(field, Member { comma_after: Some(offset), ..member });
                }
                frame.comma = Some(offset);
                self.node = None;
                self.state = State::Name;
                Ok(())
            }
            (b',', false) => {
                self.node = frame.node.and_then(|node| node.items);
                self.state = State::Value;
                Ok(())
            }
            (b'}', true) | (b']', false) => self.end_container(sink),
            _ => self.syntax(),
        }
    }

    /// A value has just ended with the present byte.
    fn value_is_over(&mut self) {
        let end = self.offset.saturating_add(1);
        match self.frames.last_mut() {
            None => self.state = State::Done,
            Some(frame) => {
                self.state = State::AfterValue;
                if let Some((node, start)) = frame.member.take() {
                    let member = Member { start, end, comma_before: frame.comma, comma_after: None };
                    frame.finished = node.field.map(|field| (field, member));
                }
            }
        }
    }

    fn text_byte(&mut self, byte: u8, sink: &mut impl Sink<F>) -> Result<(), Fault> {
        if !self.utf8.accept(byte) {
            return Err(Fault::Utf8(self.offset));
        }
        match byte {
            b'"' => self.end_text(sink),
            b'\\' => {
                self.state = State::Escape;
                Ok(())
            }
            0..=0x1f => self.syntax(),
            _ => {
                self.settle_surrogate(sink);
                self.text_bytes(&[byte], sink);
                Ok(())
            }
        }
    }

    fn settle_surrogate(&mut self, sink: &mut impl Sink<F>) {
        if let Some(replacement) = self.scratch.settle_surrogate() {
            self.text_bytes(replacement, sink);
        }
    }

    fn escape(&mut self, byte: u8, sink: &mut impl Sink<F>) -> Result<(), Fault> {
        let plain = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                self.state = State::Unicode(0);
                return Ok(());
            }
            _ => return self.syntax(),
        };
        self.settle_surrogate(sink);
        self.text_bytes(&[plain], sink);
        self.state = State::InText;
        Ok(())
    }

    fn unicode(&mut self, byte: u8, digits: u8, sink: &mut impl Sink<F>) -> Result<(), Fault> {
        let Some(digit) = char::from(byte).to_digit(16) else { return self.syntax() };
        let complete = digits == 3;
        self.scratch.unicode_digit(digits, digit);
        self.state = if complete { State::InText } else { State::Unicode(digits.saturating_add(1)) };
        if complete {
            let (lone, character) = self.scratch.unicode_unit();
            if let Some(replacement) = lone {
                self.text_bytes(replacement, sink);
            }
            if let Some(character) = character {
                self.text_bytes(character.encode_utf8(&mut [0; 4]).as_bytes(), sink);
            }
        }
        Ok(())
    }

    fn end_text(&mut self, sink: &mut impl Sink<F>) -> Result<(), Fault> {
        self.settle_surrogate(sink);
        if self.purpose == Purpose::Name {
            return self.end_name();
        }
        if let Some(field) = self.node.and_then(|node| node.field) {
            let value = match (self.purpose, self.scratch.text()) {
                (Purpose::Keep, Some(text)) => Value::Text(text),
                (Purpose::Keep, None) => Value::LongText,
                _ => Value::SkippedText,
            };
            sink.value(field, value, self.span());
        }
        self.value_is_over();
        Ok(())
    }

    fn end_name(&mut self) -> Result<(), Fault> {
        self.state = State::Colon;
        let Some(frame) = self.frames.last_mut() else { return self.syntax() };
        let members = frame.node.map_or(&[][..], |node| node.members);
        let name = self.scratch.text();
        let found = members.iter().zip(0_u32..).find(|((member, _), _)| Some(*member) == name);
        let Some(((name, node), place)) = found else {
            self.node = None;
            return Ok(());
        };
        let bit = 1_u64.checked_shl(place).unwrap_or(0);
        if self.strict && frame.seen & bit != 0 {
            return Err(Fault::Duplicate(name));
        }
        frame.seen |= bit;
        frame.member = Some((node, self.name_start));
        self.node = Some(node);
        Ok(())
    }

    /// The number ended before the present byte.
    fn end_number(&mut self, number: Number, sink: &mut impl Sink<F>) -> Result<(), Fault> {
        if !number.complete() {
            return self.syntax();
        }
        let span = Span { start: self.value_start, end: self.offset };
        if let Some(field) = self.node.and_then(|node| node.field) {
            sink.value(field, self.scratch.text().map_or(Value::LongText, Value::Number), span);
        }
        self.value_is_over();
        if let Some((_, member)) = self.frames.last_mut().and_then(|frame| frame.finished.as_mut()) {
            member.end = span.end;
        }
        Ok(())
    }

    fn literal(
        &mut self,
        byte: u8,
        rest: &'static [u8],
        at: usize,
        value: Value<'static>,
        sink: &mut impl Sink<F>,
    ) -> Result<(), Fault> {
        if rest.get(at) != Some(&byte) {
            return self.syntax();
        }
        let next = at.saturating_add(1);
        if next < rest.len() {
            self.state = State::Literal(rest, next, value);
            return Ok(());
        }
        if let Some(field) = self.node.and_then(|node| node.field) {
            sink.value(field, value, self.span());
        }
        self.value_is_over();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
