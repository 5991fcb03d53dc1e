//! The gRPC service that the filter speaks to: messages into values, values to the store, answers back.

use crate::clock::Clock;
use crate::counters::Counters;
use crate::door::Peer;
use crate::master::MasterKey;
use crate::permits;
use crate::store::{Found, Reach, Store, StoreError};
use crate::unknown_keys::UnknownKeys;
use std::sync::Arc;
use tollgate_domain::hold::{DenialReason, HoldAsk, LookupAsk, Outcome, Report, Verdict};
use tollgate_domain::ids::KeyDigest;
use tollgate_proto::convert::{Invalid, report_outcome};
use tollgate_proto::v1;
use tollgate_proto::v1::ledger_server::Ledger;
use tollgate_proto::v1::lookup_response::Verdict as Looked;
use tonic::{Request, Response, Status};

/// `tollgate.ledger.v1.Ledger` over a store.
#[derive(Debug)]
pub struct LedgerService<S> {
    store: Arc<S>,
    master: MasterKey,
    clock: Clock,
    unknown: UnknownKeys,
    counters: Arc<Counters>,
}

impl<S: Store> LedgerService<S> {
    /// The service over `store`.
    pub fn new(store: Arc<S>, master: MasterKey, clock: Clock) -> Self {
        let counters = store.counters();
        Self { store, master, clock, unknown: UnknownKeys::default(), counters }
    }

    /// The catalogue, unless the caller has it.
    fn newer_catalogue(&self, known_revision: u64) -> Option<v1::Catalogue> {
        let book = self.store.prices();
        let catalogue = book.catalogue();
        (known_revision != catalogue.revision()).then(|| catalogue.into())
    }

    async fn decide(
        &self,
        reach: Reach,
        ask: HoldAsk,
        reports: Vec<Report>,
    ) -> Result<(Verdict, Vec<Outcome>), Status> {
        if reports.is_empty() && self.unknown.contains(&reach, &ask.key, self.clock.now()) {
            let reason = DenialReason::KeyUnknown;
            let denied = crate::rules::admission::denied(reason);
            return Ok((Verdict::Denied(denied), Vec::new()));
        }
        let key = ask.key;
        let held = self.store.hold_within(reach.clone(), ask, reports).await;
        let (verdict, outcomes) = held.map_err(|error| status(&error))?;
        if matches!(&verdict, Verdict::Denied(denied) if denied.reason == DenialReason::KeyUnknown) {
            self.unknown.remember(reach, key, self.clock.now());
        }
        Ok((verdict, outcomes))
    }

    /// What is known of a key that is not the master key.
    async fn find(&self, reach: Reach, key: KeyDigest, known_version: Vec<u8>) -> Result<Found, Status> {
        if self.unknown.contains(&reach, &key, self.clock.now()) {
            return Ok(Found::Unknown);
        }
        let found = self.store.lookup_within(reach.clone(), key, known_version).await;
        let found = found.map_err(|error| status(&error))?;
        if found == Found::Unknown {
            self.unknown.remember(reach, key, self.clock.now());
        }
        Ok(found)
    }
}

#[tonic::async_trait]
impl<S: Store> Ledger for LedgerService<S> {
    async fn hold(&self, request: Request<v1::HoldRequest>) -> Result<Response<v1::HoldResponse>, Status> {
        let reach = reach(&request)?;
        let mut message = request.into_inner();
        let events = Events::read("reports", std::mem::take(&mut message.reports))?;
        let ask = HoldAsk::try_from(message).map_err(|error| invalid(&error))?;
        let (verdict, outcomes) = self.decide(reach, ask, events.readable()).await?;
        self.counters.decided(&verdict);
        let outcomes = events.answer(outcomes, &self.counters);
        Ok(Response::new(v1::HoldResponse { verdict: Some(verdict.into()), outcomes }))
    }

    async fn report(
        &self,
        request: Request<v1::ReportRequest>,
    ) -> Result<Response<v1::ReportResponse>, Status> {
        let reach = reach(&request)?;
        let events = Events::read("events", request.into_inner().events)?;
        let outcomes = self.store.report_within(reach, events.readable()).await;
        let outcomes = outcomes.map_err(|error| status(&error))?;
        Ok(Response::new(v1::ReportResponse { outcomes: events.answer(outcomes, &self.counters) }))
    }

    async fn lookup(
        &self,
        request: Request<v1::LookupRequest>,
    ) -> Result<Response<v1::LookupResponse>, Status> {
        let reach = reach(&request)?;
        let LookupAsk { key: digest, known_version, catalogue_revision } =
            request.into_inner().try_into().map_err(|error| invalid(&error))?;
        // Only to who acts for every key: to others it is a key like any.
        if reach == Reach::Every && self.master.matches_digest(&digest) {
            self.counters.looked_up("administrator");
            let verdict = Some(Looked::Administrator(v1::Administrator {}));
            let catalogue = self.newer_catalogue(catalogue_revision);
            return Ok(Response::new(v1::LookupResponse { verdict, catalogue }));
        }
        let (verdict, catalogue) = match self.find(reach, digest, known_version).await? {
            // Strangers get no catalogue: they are many, and it is long.
            Found::Unknown => (Looked::Unknown(v1::Unknown {}), None),
            Found::Known { policy, exhausted } => {
                let policy = policy.map(|policy| v1::Policy::from(*policy));
                let exhausted = exhausted.map(|exhausted| v1::Exhausted::from(*exhausted));
                let known = v1::Known { policy, exhausted };
                (Looked::Known(known), self.newer_catalogue(catalogue_revision))
            }
        };
        self.counters.looked_up(if matches!(verdict, Looked::Known(_)) { "known" } else { "unknown" });
        Ok(Response::new(v1::LookupResponse { verdict: Some(verdict), catalogue }))
    }
}

/// Whose keys the caller may speak of.
fn reach<T>(request: &Request<T>) -> Result<Reach, Status> {
    Ok(permits::reach(request.extensions().get::<Peer>())?)
}

/// Events as they arrived, and what each of them means, if anything.
struct Events {
    messages: Vec<v1::ReportEvent>,
    reports: Vec<Result<Report, Invalid>>,
}

/// Events of one message at most: four times what a filter sends at once.
const EVENTS_MAX: usize = 1_024;

impl Events {
    /// # Errors
    /// More of them than one transaction should carry.
    fn read(field: &str, messages: Vec<v1::ReportEvent>) -> Result<Self, Status> {
        if messages.len() > EVENTS_MAX {
            let why = format!("{field}: {} of them are more than {EVENTS_MAX}", messages.len());
            return Err(Status::invalid_argument(why));
        }
        let reports = messages.iter().cloned().map(Report::try_from).collect();
        Ok(Self { messages, reports })
    }

    fn readable(&self) -> Vec<Report> {
        self.reports.iter().filter_map(|report| report.as_ref().ok().cloned()).collect()
    }

    /// One outcome for each event, in order; `outcomes` are those of the readable ones. What can never be applied is told so,
    /// and logged: nobody else will see it again.
    fn answer(&self, outcomes: Vec<Outcome>, counters: &Counters) -> Vec<v1::ReportOutcome> {
        let mut outcomes = outcomes.into_iter();
        let mut outcome = |(message, report): (&v1::ReportEvent, &Result<Report, Invalid>)| {
            let outcome = match report {
                Err(error) => Some(Outcome::Rejected(error.why)),
                Ok(_) => outcomes.next(),
            };
            if let (Ok(report), Some(outcome)) = (report, outcome) {
                counters.reported(&report.event, outcome);
            }
            let mut answer = report_outcome(message, outcome.unwrap_or(Outcome::Rejected("has no outcome")));
            if let Err(error) = report {
                answer.reason = error.to_string();
            }
            if let Some(Outcome::Rejected(_)) = outcome {
                tracing::warn!(hold = %Hex(&message.hold_id), reason = answer.reason, "a report was rejected");
            }
            answer
        };
        self.messages.iter().zip(&self.reports).map(&mut outcome).collect()
    }
}

/// At most the bytes of an id, in hexadecimal.
struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().take(16).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn invalid(error: &Invalid) -> Status {
    Status::invalid_argument(error.to_string())
}

fn status(error: &StoreError) -> Status {
    match error {
        StoreError::Unavailable(_) => {
            tracing::warn!(%error, "a message was not carried out");
            Status::unavailable(error.to_string())
        }
        StoreError::Invalid(_) => Status::invalid_argument(error.to_string()),
        StoreError::NotFound(_)
        | StoreError::Conflict(_)
        | StoreError::Managed(_)
        | StoreError::Foreign(_) => Status::failed_precondition(error.to_string()),
    }
}
