//! The answer on its way out: metered as it flows, never held back, and reported at its end.

use super::ending::{self, Forwarded, Source};
use tollgate_domain::answer::{self, Answer, Reader};
use tollgate_domain::api::Api;
use tollgate_domain::bounds::Bounds;
use tollgate_domain::decision::{Admission, Denial};
use tollgate_domain::estimate;
use tollgate_domain::hold::Event;
use tollgate_domain::ids::HoldId;
use tollgate_domain::meter::withhold::Withhold;
use tollgate_domain::meter::{Meter, Reading};
use tollgate_domain::rate::RateNow;
use tollgate_domain::time::Timestamp;

/// What becomes of an answer's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerHead {
    /// It passes.
    Pass {
        /// Headers that the client must not see.
        remove: Vec<String>,
        /// Headers of ours; each takes the place of the provider's of the same name.
        add: Vec<(&'static str, String)>,
    },
    /// The client gets another answer.
    Replace(Answer),
}

/// The answer to a request that was forwarded on a hold.
#[derive(Debug)]
pub struct Answering {
    id: HoldId,
    reader: Reader,
    api: Api,
    bounds: Bounds,
    input_estimate: u64,
    forwarded_at: Timestamp,
    first_byte_at: Option<Timestamp>,
    /// When the first visible output came.
    first_word_at: Option<Timestamp>,
    status: Option<u16>,
    source: Option<Source>,
    meter: Option<Meter>,
    withholds: bool,
    withhold: Option<Withhold>,
    complete: bool,
    readable: bool,
    retired: Option<Timestamp>,
    /// How the rates stood after the hold.
    rates: Vec<RateNow>,
    reported_at: Timestamp,
    sequence: u64,
    input_reported: bool,
}

impl Answering {
    pub(super) fn new(
        id: HoldId,
        reader: Reader,
        api: Api,
        admission: &Admission,
        rates: Vec<RateNow>,
        withholds: bool,
        now: Timestamp,
    ) -> Self {
        let retired = admission.model.retired.and_then(|day| day.and_hms_opt(0, 0, 0));
        Self {
            id,
            reader,
            api,
            bounds: admission.bounds,
            input_estimate: admission.input_estimate,
            forwarded_at: now,
            first_byte_at: None,
            first_word_at: None,
            status: None,
            source: None,
            meter: None,
            withholds,
            withhold: None,
            complete: false,
            readable: true,
            retired: retired.map(|at| at.and_utc().into()),
            rates,
            reported_at: now,
            sequence: 0,
            input_reported: false,
        }
    }

    /// The answer's head has come. `details` are Envoy's `response.code_details`.
    pub fn head(
        &mut self,
        status: u16,
        headers: &[(String, Vec<u8>)],
        details: &str,
        complete: bool,
        now: Timestamp,
    ) -> AnswerHead {
        let source = Source::from_details(details);
        self.status = Some(status);
        self.source = Some(source);
        self.first_byte_at = Some(now);
        self.complete = complete;
        if let Some(answer) = credential_refused(self.id, self.reader, status, source) {
            // The rest of the provider's answer goes nowhere, so nothing more of it will be seen.
            self.complete = true;
            return AnswerHead::Replace(answer);
        }
        let value =
            |name: &str| headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_slice());
        let events = value("content-type").is_some_and(|kind| kind.starts_with(b"text/event-stream"));
        self.readable =
            value("content-encoding").is_none_or(|coding| coding.eq_ignore_ascii_case(b"identity"));
        if self.readable {
            self.meter = Some(if events { Meter::events(self.api) } else { Meter::json(self.api) });
            self.withhold = (self.withholds && events).then(|| Withhold::new(self.api));
        }
        let stays =
            |name: &&String| hidden(name) || (self.withhold.is_some() && name.as_str() == "content-length");
        let mut add = vec![(REQUEST_ID, self.id.to_string())];
        if self.retired.is_some_and(|retired| retired <= now) {
            add.push(("x-tollgate-warning", "model-retired".to_owned()));
        }
        // A provider's error, of its own rates above all, speaks for itself.
        if (200..300).contains(&status) {
            add.extend(answer::rate_headers(&self.rates, self.reader.shape, now));
        }
        AnswerHead::Pass {
            remove: headers.iter().map(|(name, _)| name).filter(stays).cloned().collect(),
            add,
        }
    }

    /// Whether the meter wants the body: an answer that passes unread costs nothing to read.
    pub fn reads_body(&self) -> bool {
        self.meter.is_some()
    }

    /// More of the answer has come. Gives what goes on instead, if that differs.
    pub fn body(&mut self, bytes: &[u8], complete: bool, now: Timestamp) -> Option<Vec<u8>> {
        if let Some(meter) = &mut self.meter {
            meter.feed(bytes);
            if self.first_word_at.is_none() && meter.progress().output_bytes > 0 {
                self.first_word_at = Some(now);
            }
        }
        self.complete |= complete;
        let withhold = self.withhold.as_mut()?;
        let mut passed = withhold.feed(bytes);
        if complete {
            passed.extend(withhold.finish());
        }
        Some(passed)
    }

    /// The answer ended in trailers.
    pub fn trailers(&mut self) {
        self.complete = true;
    }

    fn reading(&self) -> Reading {
        self.meter.as_ref().map(Meter::reading).unwrap_or_default()
    }

    /// What the ledger should hear while the answer flows: the exact input as soon as it is known, and from time to time
    /// that it still flows.
    pub(super) fn sign_of_life(&mut self, heartbeat_ms: i64, now: Timestamp) -> Option<(u64, Event)> {
        let due = !(0..heartbeat_ms).contains(&now.since_ms(self.reported_at));
        let named = self.meter.as_ref().is_some_and(|meter| meter.progress().usage_named);
        let news = named && !self.input_reported;
        if self.complete || !(due || news) {
            return None;
        }
        let reading = self.reading();
        self.input_reported |= reading.usage.is_some();
        self.reported_at = now;
        self.sequence = self.sequence.saturating_add(1);
        Some((
            self.sequence,
            Event::Adjust { usage: reading.usage, output_seen: estimate::output_seen(&reading) },
        ))
    }

    pub(super) fn end(self, details: &str, now: Timestamp) -> Event {
        let since = |at: Timestamp| u64::try_from(at.since_ms(self.forwarded_at)).unwrap_or(0);
        let at_end = Source::from_details(details);
        // Where the answer came from is told with its head; how it broke, only at the end.
        let source = match self.source {
            Some(source) if self.complete => source,
            Some(Source::NeverSent) => Source::NeverSent,
            Some(_) if at_end == Source::Provider => Source::ClientLeft,
            _ => at_end,
        };
        ending::event(&Forwarded {
            reading: &self.reading(),
            status: self.status,
            complete: self.complete,
            source,
            bounds: &self.bounds,
            input_estimate: self.input_estimate,
            unseen_ms: since(self.first_word_at.unwrap_or(now)),
            duration_ms: since(now),
            first_byte_ms: self.first_byte_at.map_or(0, since),
            readable: self.readable,
        })
    }
}

const REQUEST_ID: &str = "x-tollgate-request-id";

/// The provider refuses our credential: nothing that the client could mend, and nothing it should read.
fn credential_refused(id: HoldId, reader: Reader, status: u16, source: Source) -> Option<Answer> {
    let refused = source == Source::Provider && matches!(status, 401 | 403);
    refused.then(|| {
        let mut answer = answer::denial(&Denial::ProviderCredential, reader);
        answer.headers.push((REQUEST_ID, id.to_string()));
        answer
    })
}

/// The head of a provider's answer that costs nothing.
pub(super) fn head_without_meter(
    id: HoldId,
    reader: Reader,
    status: u16,
    headers: &[(String, Vec<u8>)],
    details: &str,
) -> AnswerHead {
    if let Some(answer) = credential_refused(id, reader, status, Source::from_details(details)) {
        return AnswerHead::Replace(answer);
    }
    let remove = headers.iter().map(|(name, _)| name).filter(|name| hidden(name)).cloned().collect();
    AnswerHead::Pass { remove, add: vec![(REQUEST_ID, id.to_string())] }
}

/// Headers that tell about our account at the provider, or set state for it.
fn hidden(name: &str) -> bool {
    name == "set-cookie" || name == "openai-project" || name.contains("organization")
}
