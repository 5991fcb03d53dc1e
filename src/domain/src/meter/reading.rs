//! From fields of an answer to a reading.

use super::Reading;
use crate::api::Api;
use crate::json::{Sink, Span, Value};
use crate::price::Modifiers;
use crate::usage;

/// A field of an answer that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Type,
    Model,
    Status,
    StopReason,
    Error,
    ServiceTier,
    Speed,
    InferenceGeo,
    Usage,
    Input,
    OutputTokens,
    Total,
    CacheRead,
    CacheWrite,
    CacheWrite5m,
    CacheWrite1h,
    WebSearches,
    Parts,
    Part,
    PartType,
    PartModel,
    Choices,
    Choice,
    Items,
    Item,
    ItemType,
    ActionType,
    Output,
}

/// Counts as the provider names them.
#[derive(Clone, Debug, Default)]
struct Counts {
    input: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    cache_write_5m: Option<u64>,
    cache_write_1h: Option<u64>,
    web_searches: Option<u64>,
}

impl Counts {
    fn set(&mut self, field: Field, count: u64) {
        let place = match field {
            Field::Input => &mut self.input,
            Field::OutputTokens => &mut self.output,
            Field::Total => &mut self.total,
            Field::CacheRead => &mut self.cache_read,
            Field::CacheWrite => &mut self.cache_write,
            Field::CacheWrite5m => &mut self.cache_write_5m,
            Field::CacheWrite1h => &mut self.cache_write_1h,
            Field::WebSearches => &mut self.web_searches,
            _ => return,
        };
        *place = Some(count);
    }

    /// The classes of `domain`. Anthropic's input excludes the cache; OpenAI's and Google's include it.
    fn usage(&self, api: Api, web_searches: u64) -> Option<usage::Usage> {
        let input = self.input?;
        let cache_read = self.cache_read.unwrap_or(0);
        let (cache_write_5m, cache_write_1h) = self.cache_writes();
        let output = self.output.unwrap_or(0);
        let (input, output) = match api {
            Api::Messages => (input, output),
            _ => {
                let cached = cache_read.saturating_add(cache_write_5m).saturating_add(cache_write_1h);
                // Google's total counts thinking that its completion tokens leave out.
                let beyond_input = self.total.and_then(|total| total.checked_sub(input)).unwrap_or(0);
                (input.saturating_sub(cached), output.max(beyond_input))
            }
        };
        Some(usage::Usage { input, cache_read, cache_write_5m, cache_write_1h, output, web_searches })
    }

    /// What is not split by lifetime was written for the shorter one.
    fn cache_writes(&self) -> (u64, u64) {
        let long = self.cache_write_1h.unwrap_or(0);
        let short = self.cache_write_5m.unwrap_or(0);
        let unsplit = self.cache_write.unwrap_or(0).saturating_sub(short.saturating_add(long));
        (short.saturating_add(unsplit), long)
    }
}

/// One of Anthropic's `usage.iterations`.
#[derive(Clone, Debug, Default)]
struct Part {
    kind: Option<String>,
    model: Option<String>,
    counts: Counts,
}

impl Part {
    /// Whether the totals leave it out: a summary, advice, or a call of another model than the answer's own.
    fn is_beside(&self, own: Option<&str>) -> bool {
        let apart = matches!(self.kind.as_deref(), Some("compaction" | "advisor_message"));
        apart || self.model.as_deref().is_some_and(|model| own.is_none_or(|own| !same_model(model, own)))
    }
}

/// Whether two names are of one model, with or without the day of its release: `claude-x`, `claude-x-20260901`.
fn same_model(one: &str, other: &str) -> bool {
    let is_day = |rest: &str| {
        rest.strip_prefix('-').is_some_and(|day| day.len() == 8 && day.bytes().all(|b| b.is_ascii_digit()))
    };
    let dated = |long: &str, short: &str| long.strip_prefix(short).is_some_and(is_day);
    one == other || dated(one, other) || dated(other, one)
}

/// Both together, class by class.
fn add(one: usage::Usage, other: usage::Usage) -> usage::Usage {
    each(one, other, u64::saturating_add)
}

/// The larger of both, class by class.
fn larger(one: usage::Usage, other: usage::Usage) -> usage::Usage {
    each(one, other, u64::max)
}

fn each(one: usage::Usage, other: usage::Usage, both: fn(u64, u64) -> u64) -> usage::Usage {
    usage::Usage {
        input: both(one.input, other.input),
        cache_read: both(one.cache_read, other.cache_read),
        cache_write_5m: both(one.cache_write_5m, other.cache_write_5m),
        cache_write_1h: both(one.cache_write_1h, other.cache_write_1h),
        output: both(one.output, other.output),
        web_searches: both(one.web_searches, other.web_searches),
    }
}

/// Takes the fields of one answer.
#[derive(Debug)]
pub(super) struct Reader {
    api: Api,
    counts: Counts,
    parts: Vec<Part>,
    part: AtPart,
    model: Option<String>,
    modifiers: Modifiers,
    output_bytes: u64,
    terminal: bool,
    /// The status of a response says that nothing follows.
    status_ended: bool,
    /// A choice has told why it ended.
    finished: bool,
    error: bool,
    /// Of the present event.
    event_type: Option<String>,
    item_type: Option<String>,
    action_type: Option<String>,
    /// Web searches among the items of the response itself, and among items told one by one.
    searches_listed: u64,
    searches_told: u64,
    /// The item of the present event is a search.
    search_in_event: bool,
    in_list: bool,
    pub(super) chunk: Chunk,
}

/// Whether one of the parts is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtPart {
    Outside,
    /// The last one.
    Kept,
    /// One beyond [`PARTS_MAX`].
    PassedOver,
}

/// What an event of a chat stream holds, to tell the chunk that only brings usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) choices_listed: bool,
    pub(super) choice_seen: bool,
    pub(super) usage_seen: bool,
}

/// Parts at most; a provider that lists more is not believed.
const PARTS_MAX: usize = 64;

impl Reader {
    pub(super) fn new(api: Api) -> Self {
        Self {
            api,
            counts: Counts::default(),
            parts: Vec::new(),
            part: AtPart::Outside,
            model: None,
            modifiers: Modifiers::default(),
            output_bytes: 0,
            terminal: false,
            status_ended: false,
            finished: false,
            error: false,
            event_type: None,
            item_type: None,
            action_type: None,
            searches_listed: 0,
            searches_told: 0,
            search_in_event: false,
            in_list: false,
            chunk: Chunk::default(),
        }
    }

    /// The data `[DONE]` has come.
    pub(super) fn done(&mut self) {
        self.terminal = true;
    }

    /// An event is over.
    pub(super) fn end_event(&mut self) {
        let search = std::mem::take(&mut self.search_in_event);
        match (self.api, self.event_type.take().as_deref()) {
            (Api::Messages, Some("message_stop")) => self.terminal = true,
            (Api::Responses, Some("response.completed" | "response.incomplete" | "response.failed")) => {
                self.terminal = true;
            }
            (Api::Responses, Some("response.output_item.done")) if search => {
                self.searches_told = self.searches_told.saturating_add(1);
            }
            (_, Some("error")) => self.error = true,
            // Some servers of chat streams leave `[DONE]` out; a reason to stop and usage say the same.
            (Api::ChatCompletions | Api::Completions, _) if self.finished && self.counts.output.is_some() => {
                self.terminal = true;
            }
            _ => {}
        }
        self.chunk = Chunk::default();
    }

    pub(super) fn progress(&self) -> super::Progress {
        super::Progress { usage_named: self.counts.input.is_some(), output_bytes: self.output_bytes }
    }

    /// `complete`: a whole JSON answer has been read.
    pub(super) fn reading(&self, complete: bool) -> Reading {
        let web_searches = match self.api {
            Api::Responses => self.searches_listed.max(self.searches_told),
            _ => self.counts.web_searches.unwrap_or(0),
        };
        let open = self.api == Api::Responses && !self.status_ended;
        Reading {
            usage: self.usage(web_searches),
            output_known: self.counts.output.is_some() || self.api == Api::Embeddings,
            output_bytes: self.output_bytes,
            model: self.model.clone(),
            modifiers: self.modifiers.clone(),
            terminal: self.terminal || (complete && !open),
            error: self.error,
            extra: self.extra(),
        }
    }

    /// The totals, or the sum of the model's own calls where that is more: some totals name the first call's input only.
    fn usage(&self, web_searches: u64) -> Option<usage::Usage> {
        let total = self.counts.usage(self.api, web_searches)?;
        let own = self.parts.iter().filter(|part| !part.is_beside(self.model.as_deref()));
        let sum = own.filter_map(|part| part.counts.usage(self.api, 0)).fold(usage::Usage::default(), add);
        Some(larger(total, sum))
    }

    /// Summaries, and calls of other models, are billed but not in the totals.
    fn extra(&self) -> Vec<(String, usage::Usage)> {
        let bill = |part: &Part| {
            let model = part.model.clone().or_else(|| self.model.clone())?;
            Some((model, part.counts.usage(self.api, 0)?))
        };
        self.parts.iter().filter(|part| part.is_beside(self.model.as_deref())).filter_map(bill).collect()
    }

    fn count(&mut self, field: Field, count: u64) {
        match self.part {
            AtPart::Outside => self.counts.set(field, count),
            AtPart::Kept => {
                if let Some(part) = self.parts.last_mut() {
                    part.counts.set(field, count);
                }
            }
            AtPart::PassedOver => {}
        }
    }

    fn name(&mut self, field: Field, text: &str) {
        let text = text.to_owned();
        match field {
            Field::Type if text == "error" => {
                self.error = true;
                self.event_type = Some(text);
            }
            Field::Type => self.event_type = Some(text),
            Field::Model => self.model = Some(text),
            Field::StopReason => self.finished = true,
            Field::ServiceTier => self.modifiers.service_tier = Some(text),
            Field::Speed => self.modifiers.speed = Some(text),
            Field::InferenceGeo => self.modifiers.inference_geo = Some(text),
            Field::PartType | Field::PartModel if self.part != AtPart::Kept => {}
            Field::PartType => {
                if let Some(part) = self.parts.last_mut() {
                    part.kind = Some(text);
                }
            }
            Field::PartModel => {
                if let Some(part) = self.parts.last_mut() {
                    part.model = Some(text);
                }
            }
            Field::ItemType => self.item_type = Some(text),
            Field::ActionType => self.action_type = Some(text),
            Field::Status => {
                self.status_ended =
                    matches!(text.as_str(), "completed" | "incomplete" | "failed" | "cancelled");
            }
            _ => {}
        }
    }

    fn begin(&mut self, field: Field) {
        match field {
            // Cumulative: the last list wins.
            Field::Parts => self.parts.clear(),
            Field::Part if self.parts.len() < PARTS_MAX => {
                self.parts.push(Part::default());
                self.part = AtPart::Kept;
            }
            Field::Part => self.part = AtPart::PassedOver,
            Field::Usage => self.chunk.usage_seen = true,
            Field::Choices => self.chunk.choices_listed = true,
            Field::Choice => self.chunk.choice_seen = true,
            Field::Items => {
                self.searches_listed = 0;
                self.in_list = true;
            }
            Field::Item => {
                self.item_type = None;
                self.action_type = None;
            }
            Field::Error => self.error = true,
            _ => {}
        }
    }

    /// Only searches are billed; opening a page that was found is not.
    fn end_item(&mut self) {
        let is_search = self.item_type.as_deref() == Some("web_search_call")
            && matches!(self.action_type.as_deref(), None | Some("search"));
        if is_search && self.in_list {
            self.searches_listed = self.searches_listed.saturating_add(1);
        } else {
            self.search_in_event = is_search;
        }
    }
}

impl Sink<Field> for Reader {
    fn value(&mut self, field: Field, value: Value<'_>, _: Span) {
        match value {
            Value::Number(text) => {
                if let Ok(count) = text.parse() {
                    self.count(field, count);
                }
            }
            Value::Text(text) if field == Field::Error => self.error |= !text.is_empty(),
            Value::Text(text) => self.name(field, text),
            Value::Object | Value::Array => self.begin(field),
            Value::SkippedText if field == Field::Error => self.error = true,
            _ => {}
        }
    }

    fn end(&mut self, field: Field, _: bool) {
        match field {
            Field::Part => self.part = AtPart::Outside,
            Field::Item => self.end_item(),
            Field::Items => self.in_list = false,
            _ => {}
        }
    }

    fn text_seen(&mut self, _: Field, bytes: u64) {
        self.output_bytes = self.output_bytes.saturating_add(bytes);
    }
}
