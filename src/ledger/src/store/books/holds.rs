//! Holds and the reports on them, each inside the transaction of the whole batch.

use super::balance::NewBalance;
use super::code::Failure;
use super::journal::{Entry, Kind};
use super::keys::{Key, former_home, tags_of_home};
use super::limits::LimitNow;
use super::locking::Needs;
use super::memory::Books;
use super::rows::{Closing, HoldRow, NewHold};
use crate::rules::admission::{self, Refusal, denied};
use crate::rules::charge;
use crate::rules::standing::{Message, NOT_THE_OWNER, Standing, Step, step};
use crate::store::sql::{self, values};
use crate::store::{HoldState, Reach, StoreError};
use std::collections::BTreeSet;
use std::sync::Arc;
use tollgate_domain::catalogue::Catalogue;
use tollgate_domain::hold::{DenialReason, End, Event, HoldAsk, Outcome, Report, Settlement, Verdict};
use tollgate_domain::ids::{HoldId, KeyDigest, Tag};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::rate::used_tokens;
use tollgate_domain::time::Timestamp;
use tollgate_domain::usage::Usage;

/// The same id, asked for by another request.
pub(super) const OTHER_FINGERPRINT: &str = "hold_id names another request";

/// How long a void of an unknown hold is remembered: twice what the rule asks for.
const TOMBSTONE_MS: i64 = 48 * 3_600_000;
/// Rows that one sweep touches at most, so that it never holds up a batch.
const SWEEP_MAX: i64 = 256;

/// What the books know of a hold's id.
enum Found {
    Unknown,
    Tombstone(KeyDigest),
    Hold(Box<HoldRow>),
}

impl Found {
    fn standing(&self) -> Standing {
        match self {
            Self::Unknown => Standing::Unknown,
            Self::Tombstone(_) => Standing::Tombstone,
            Self::Hold(row) => Standing::Known(row.state),
        }
    }

    fn owner(&self) -> Option<&KeyDigest> {
        match self {
            Self::Unknown => None,
            Self::Tombstone(digest) => Some(digest),
            Self::Hold(row) => Some(&row.digest),
        }
    }
}

impl Books<'_> {
    /// What the books know of the id. A hold leaves the memory by this, so that what is changed of it is read again.
    fn find(&mut self, id: &HoldId) -> sql::Result<Found> {
        if let Some(row) = self.take_hold(id) {
            return Ok(Found::Hold(row));
        }
        if let Some(digest) = self.memory.tombstones.get(id) {
            return Ok(Found::Tombstone(*digest));
        }
        if self.memory.absent.contains(id) {
            return Ok(Found::Unknown);
        }
        self.send()?;
        if let Some(row) = HoldRow::find(self.db, id)? {
            return Ok(Found::Hold(Box::new(row)));
        }
        let tombstone =
            self.db.query("SELECT digest FROM tombstone WHERE id = $1", &values![id.as_bytes()])?;
        let digest = tombstone.first().map(|row| super::code::digest(row, 0)).transpose()?;
        Ok(digest.map_or(Found::Unknown, Found::Tombstone))
    }

    /// What the books know of the id that this key asks for. A void by another key says nothing about its hold, and to whoever does
    /// not know the key every void is by another.
    fn find_asked(&mut self, reach: &Reach, ask: &HoldAsk) -> sql::Result<Found> {
        let found = self.find(&ask.id)?;
        Ok(match found {
            Found::Tombstone(owner) if owner != ask.key || !self.reaches(reach, &ask.key)? => Found::Unknown,
            found => found,
        })
    }

    /// The key, for a caller of this reach.
    fn key_within(&mut self, reach: &Reach, digest: &KeyDigest) -> sql::Result<Option<Arc<Key>>> {
        let key = self.key(digest)?;
        Ok(key.filter(|key| reach.covers(key.home.as_ref())))
    }

    /// Whether a key, in force or not, is within reach. Who reaches every key is asked nothing.
    fn reaches(&mut self, reach: &Reach, digest: &KeyDigest) -> sql::Result<bool> {
        if *reach == Reach::Every {
            return Ok(true);
        }
        Ok(match self.key(digest)? {
            Some(key) => reach.covers(key.home.as_ref()),
            None => reach.covers(former_home(self.db, digest)?.as_ref()),
        })
    }

    /// Keeps a hold that has changed in memory, where it would be read from the database before it is written.
    fn put_back(&mut self, id: HoldId, row: HoldRow) {
        if row.state == HoldState::Pending || self.db.is_shared() {
            self.remember_hold(id, Box::new(row));
        }
    }

    /// Applies the reports, then decides the hold.
    pub(super) fn hold(
        &mut self,
        reach: &Reach,
        ask: &HoldAsk,
        reports: &[Report],
    ) -> Result<(Verdict, Vec<Outcome>), Failure> {
        let found = self.find_asked(reach, ask)?;
        // Before the reports, because an error must leave nothing changed.
        if let Found::Hold(row) = &found {
            let is_of_another = !row.is_of(ask) || !self.reaches(reach, &ask.key)?;
            if is_of_another {
                self.keep_found(ask.id, found);
                return Err(StoreError::Invalid(OTHER_FINGERPRINT).into());
            }
        } else if matches!(found, Found::Unknown) && self.reaches(reach, &ask.key)? {
            self.check_accounts(ask)?;
        }
        self.keep_found(ask.id, found);
        let outcomes = self.report(reach, reports)?;
        let found = self.find_asked(reach, ask)?;
        let verdict = match (step(found.standing(), Message::Hold), found) {
            (Step::Repeat, Found::Hold(row)) => {
                let (amount, expires_at) = (row.terms.amount, row.expires_at);
                self.put_back(ask.id, *row);
                Verdict::Held { amount, expires_at, rates: Vec::new() }
            }
            (Step::Decide, _) => self.decide(reach, ask)?,
            (_, found) => {
                self.keep_found(ask.id, found);
                Verdict::Denied(denied(DenialReason::HoldEnded))
            }
        };
        Ok((verdict, outcomes))
    }

    fn decide(&mut self, reach: &Reach, ask: &HoldAsk) -> Result<Verdict, Failure> {
        let Some(key) = self.key_within(reach, &ask.key)? else {
            return Ok(Verdict::Denied(denied(DenialReason::KeyUnknown)));
        };
        let now = self.now();
        let book = self.ground.prices.present();
        let amount = match admission::judge(ask, &key.policy, &book, now) {
            Ok(amount) => amount,
            Err(Refusal::Denied(denied)) => return Ok(Verdict::Denied(denied)),
            Err(Refusal::Stale) => {
                let catalogue = book.catalogue();
                let newer = ask.catalogue_revision != catalogue.revision();
                let catalogue = newer.then(|| Box::new(Catalogue::clone(catalogue)));
                return Ok(Verdict::Stale(Box::new(key.policy.clone()), catalogue));
            }
        };
        let charges = self.charges(&key, ask)?;
        let taken = match self.take_rates(&charges.accounts, ask, now)? {
            Ok(taken) => taken,
            Err(denied) => return Ok(Verdict::Denied(denied)),
        };
        let moment = self.moment(&charges.accounts, now)?;
        let mut balances = self.current_balances(&charges.accounts, ask.model.as_str(), moment)?;
        let mut limits = self.limits_over(&balances, moment)?;
        limits.extend(charges.new_session.map(|(_, cap)| self.unspent_session(cap)));
        let would_deny = match admission::afford(amount, limits.iter().map(LimitNow::counted)) {
            Ok(would_deny) => would_deny.or(taken.would_deny.then_some(DenialReason::RateLimited)),
            Err(denied) => return Ok(Verdict::Denied(denied)),
        };
        if let Some((session, _)) = charges.new_session {
            let account = self.make_session(&key, session, now)?;
            balances.push(self.current_balance(account, 0, moment)?.1);
        }
        let expires_at = now.plus_ms(self.ground.hold_ttl_ms);
        let hold = self.next_hold()?;
        self.record(Entry { pending: amount, ..Entry::new(Kind::Hold, moment, hold, &balances) })?;
        self.keep_rates(&taken);
        let new = NewHold {
            hold,
            ask,
            owners: key.owners,
            tags: &charges.tags,
            binding_tags: charges.binding,
            price_revision: book.revision(),
            balances: &balances,
            rates: taken.units,
            amount,
            would_deny,
            created_at: moment,
            expires_at,
        };
        new.insert(self)?;
        self.remember_hold(ask.id, Box::new(new.row()));
        Ok(Verdict::Held { amount, expires_at, rates: taken.now })
    }

    /// The balances that a hold on these accounts charges at its moment, made where they are new.
    fn current_balances(
        &mut self,
        accounts: &[i64],
        model: &str,
        now: Timestamp,
    ) -> Result<Vec<i64>, Failure> {
        let mut balances = Vec::with_capacity(accounts.len() * 2);
        for account in accounts {
            let charged = self.charged(*account)?;
            for (index, count) in charged.counts.iter().enumerate() {
                if count.model.is_empty() || count.model == model {
                    balances.push(self.current_balance(*account, index, now)?.1);
                }
            }
        }
        Ok(balances)
    }

    fn keep_found(&mut self, id: HoldId, found: Found) {
        if let Found::Hold(row) = found {
            self.put_back(id, *row);
        }
    }

    /// Applies reports in order, with one outcome for each.
    pub(super) fn report(&mut self, reach: &Reach, reports: &[Report]) -> Result<Vec<Outcome>, Failure> {
        let outcome = |report: &Report| match self.apply(reach, report) {
            // An amount that does not fit: nothing was written, and never will be.
            Err(Failure::Refused(StoreError::Invalid(reason))) => Ok(Outcome::Rejected(reason)),
            applied => applied,
        };
        reports.iter().map(outcome).collect()
    }

    fn apply(&mut self, reach: &Reach, report: &Report) -> Result<Outcome, Failure> {
        // Whether or not there is such a key or such a hold: who may not know learns nothing.
        if !self.reaches(reach, &report.key)? {
            return Ok(Outcome::Rejected(NOT_THE_OWNER));
        }
        let found = self.find(&report.hold)?;
        if found.owner().is_some_and(|owner| *owner != report.key) {
            self.keep_found(report.hold, found);
            return Ok(Outcome::Rejected(NOT_THE_OWNER));
        }
        let last = if let Found::Hold(row) = &found { row.sequence } else { 0 };
        let message = match &report.event {
            Event::Adjust { .. } => Message::Adjust { sequence: report.sequence, last },
            Event::Settle(_) => Message::Settle,
            Event::Void { .. } => Message::Void,
        };
        let outcome = match (step(found.standing(), message), found, &report.event) {
            (Step::Resize, Found::Hold(row), Event::Adjust { usage, output_seen }) => {
                self.resize(report.hold, *row, report.sequence, usage.as_ref(), *output_seen)?;
                Outcome::Applied
            }
            (Step::Post, Found::Hold(row), Event::Settle(settlement)) => {
                self.settle(Kind::Settle, report.hold, *row, report.sequence, settlement)?;
                Outcome::Applied
            }
            (Step::Correct, Found::Hold(row), Event::Settle(settlement)) => {
                self.settle(Kind::Correct, report.hold, *row, report.sequence, settlement)?;
                Outcome::Applied
            }
            (Step::Release | Step::Credit, Found::Hold(row), Event::Void { status }) => {
                self.void(report.hold, *row, report.sequence, *status)?;
                Outcome::Applied
            }
            (Step::Remember, ..) => {
                self.remember(report)?;
                Outcome::Tombstone
            }
            (step, found, _) => {
                self.keep_found(report.hold, found);
                match step {
                    Step::Superseded => Outcome::Superseded,
                    Step::Reject(reason) => Outcome::Rejected(reason),
                    _ => Outcome::Duplicate,
                }
            }
        };
        Ok(outcome)
    }

    /// Changes what an open hold holds. Never refused: the provider is already at work.
    fn resize(
        &mut self,
        id: HoldId,
        mut row: HoldRow,
        sequence: u64,
        exact: Option<&Usage>,
        output_seen: u64,
    ) -> Result<(), Failure> {
        let now = self.now();
        let known = exact.copied().or(row.usage);
        if exact.is_some() || output_seen > row.terms.bounds.output {
            let needed = charge::resize(
                &*self.ground.prices.of(self.db, row.price_revision)?,
                &row.terms,
                known.as_ref(),
                output_seen,
            );
            let growth = needed
                .minus(row.terms.amount)
                .map_err(|_| StoreError::Invalid(super::journal::OUT_OF_RANGE))?;
            if growth != Nanodollars::ZERO {
                let entry = Entry {
                    pending: growth,
                    growth,
                    usage: known.as_ref(),
                    ..Entry::new(Kind::Adjust, now, row.hold, &row.balances)
                };
                let overrun = self.record_overrun(entry)?;
                row.overrun = row.overrun.max(overrun);
            }
            row.terms.amount = needed;
        }
        row.usage = known.map(|usage| Usage { output: usage.output.max(output_seen), ..usage });
        row.sequence = sequence;
        row.expires_at = row.expires_at.max(now.plus_ms(self.ground.hold_ttl_ms));
        self.change_summed(&row, |books| books.keep_open(&row))?;
        self.put_back(id, row);
        Ok(())
    }

    /// Posts the cost. `row` is open, or has expired and was charged in full.
    fn settle(
        &mut self,
        kind: Kind,
        id: HoldId,
        mut row: HoldRow,
        sequence: u64,
        settlement: &Settlement,
    ) -> Result<(), Failure> {
        let now = self.now();
        let book = self.ground.prices.of(self.db, row.price_revision)?;
        let charge = charge::charge(&book, &row.terms, row.api, settlement);
        let other_model = (charge.model != row.terms.model).then_some(charge.model.as_str());
        let released = row.open_amount();
        let posted =
            charge.cost.minus(row.posted).map_err(|_| StoreError::Invalid(super::journal::OUT_OF_RANGE))?;
        let pending = negative(released);
        let entry = Entry {
            posted,
            pending,
            growth: posted.plus(pending).unwrap_or(Nanodollars::MAX),
            model: other_model,
            usage: settlement.usage.as_ref(),
            estimated: charge.estimated,
            ..Entry::new(kind, now, row.hold, &row.balances)
        };
        let overrun = self.record_overrun(entry)?;
        row.overrun = row.overrun.max(overrun);
        self.end_rates(&row, settlement.usage.as_ref().map(used_tokens), now)?;
        row.state = HoldState::Settled;
        row.posted = charge.cost;
        row.sequence = sequence.max(row.sequence);
        row.usage = settlement.usage;
        let after = |ms: u64| row.created_at.plus_ms(super::code::signed(ms)).min(now);
        let closing = Closing {
            priced_model: other_model,
            estimated: charge.estimated,
            end_reason: Some(settlement.end.as_str()),
            status: Some(settlement.status).filter(|status| *status != 0),
            first_byte_at: Some(settlement.first_byte_ms).filter(|ms| *ms > 0).map(after),
            ended_at: Some(settlement.duration_ms).filter(|ms| *ms > 0).map_or(now, after),
        };
        self.end(id, row, &closing)
    }

    /// Records what may go beyond a limit, and gives how far.
    fn record_overrun(&mut self, entry: Entry<'_>) -> Result<Nanodollars, Failure> {
        let overrun = self.record(entry)?;
        self.memory.tally.overruns += u64::from(overrun > Nanodollars::ZERO);
        Ok(overrun)
    }

    /// Writes an end, and keeps the sums of what is long past true.
    fn end(&mut self, id: HoldId, row: HoldRow, closing: &Closing<'_>) -> Result<(), Failure> {
        self.change_summed(&row, |books| books.close(&row, closing))?;
        self.put_back(id, row);
        Ok(())
    }

    /// Posts the difference to `cost`, if there is one. The hold keeps everything else that is known of its end.
    pub(super) fn correct(&mut self, id: &HoldId, cost: Nanodollars) -> Result<Nanodollars, Failure> {
        let Found::Hold(row) = self.find(id)? else {
            return Err(StoreError::NotFound(format!("request {id}")).into());
        };
        if row.state == HoldState::Pending {
            self.put_back(*id, *row);
            return Err(StoreError::Conflict(format!("request {id} is still open")).into());
        }
        if cost < Nanodollars::ZERO {
            return Err(StoreError::Invalid("a cost is not negative").into());
        }
        let before = row.posted;
        if cost == before {
            self.put_back(*id, *row);
            return Ok(before);
        }
        let posted = cost.minus(before).map_err(|_| StoreError::Invalid(super::journal::OUT_OF_RANGE))?;
        let now = self.now();
        let balances = self.balances_that_count(&row)?;
        let entry = Entry { posted, growth: posted, ..Entry::new(Kind::Correct, now, row.hold, &balances) };
        let overrun = self.record(entry)?;
        let overrun = row.overrun.max(overrun);
        self.change_summed(&row, |books| books.charge_instead(&row, cost, overrun))?;
        Ok(before)
    }

    /// The balances that a hold which has ended counts in: those that it was made with, and those of limits that have come to its
    /// accounts since, which have counted it with their past.
    fn balances_that_count(&mut self, row: &HoldRow) -> Result<Vec<i64>, Failure> {
        let mut balances = row.balances.clone();
        let mut accounts = BTreeSet::new();
        for balance in &row.balances {
            accounts.insert(self.balance(*balance)?.account);
        }
        let clock = self.now();
        let of_tags = self.binding_tag_accounts(row.hold)?;
        self.lock(&of_tags.difference(&accounts).copied().collect())?;
        accounts.extend(of_tags);
        for account in accounts {
            let now = self.moment_of(account, clock)?;
            let charged = self.charged(account)?;
            let counts = charged.counts.iter();
            for count in
                counts.filter(|count| count.model.is_empty() || count.model == row.terms.model.as_str())
            {
                let Some(period) = count.window.period_at(row.created_at) else { continue };
                // A window that is over stays as it is: nobody knows any more whether it has counted the hold.
                if count.window.counts_from(now).is_none_or(|from| period.start < from) {
                    continue;
                }
                let place =
                    NewBalance { account, window: count.window, model: &count.model, start: period.start };
                let found = match place.find(self.db)? {
                    // Nothing was spent in it so far.
                    None => Some(place.insert(self.db)?),
                    found => found,
                };
                balances.extend(found.filter(|balance| !row.balances.contains(balance)));
            }
        }
        Ok(balances)
    }

    /// The accounts that the binding tags of a hold have now.
    fn binding_tag_accounts(&mut self, hold: i64) -> Result<BTreeSet<i64>, Failure> {
        let rows = self.db.query(
            "SELECT h.tags, h.binding_tags, o.id, k.id, k.managed_by, k.owner_scope
             FROM hold h JOIN account k ON k.account = h.key LEFT JOIN account o ON o.account = h.organization
             WHERE h.hold = $1 AND h.tags IS NOT NULL",
            &values![hold],
        )?;
        let Some(row) = rows.first() else { return Ok(BTreeSet::new()) };
        let tags: Vec<Tag> = super::code::list("tags", row.text(0)?)?;
        let binding = usize::try_from(row.int(1)?).unwrap_or(0);
        let organization = row.maybe_text(2)?.unwrap_or_default();
        let namespace = tags_of_home(row.text(3)?, row.text(4)?, row.text(5)?);
        Ok(self.tag_accounts([organization, &namespace], tags.iter().take(binding))?.into_iter().collect())
    }

    /// Gives everything back: what is held, or what an expired hold was charged.
    fn void(&mut self, id: HoldId, mut row: HoldRow, sequence: u64, status: u16) -> Result<(), Failure> {
        let now = self.now();
        let entry = Entry {
            posted: negative(row.posted),
            pending: negative(row.open_amount()),
            ..Entry::new(Kind::Void, now, row.hold, &row.balances)
        };
        self.record(entry)?;
        self.end_rates(&row, Some(0), now)?;
        row.state = HoldState::Voided;
        row.posted = Nanodollars::ZERO;
        row.sequence = sequence.max(row.sequence);
        row.usage = None;
        self.end(id, row, &Closing::at(now, Some(status).filter(|status| *status != 0)))
    }

    fn remember(&mut self, report: &Report) -> sql::Result<()> {
        let at = self.now();
        if self.db.is_shared() {
            self.memory.tombstones.insert(report.hold, report.key);
        }
        self.write(
            "INSERT INTO tombstone (id, digest, at) VALUES ($1, $2, $3)",
            &values![report.hold.as_bytes(), report.key.as_bytes(), at.unix_ms()],
        )
    }

    /// Charges open holds in full of which nothing was heard for too long, and drops old tombstones. Gives back whether more
    /// are waiting.
    pub(super) fn sweep(&mut self) -> Result<bool, Failure> {
        let now = self.now();
        let forgotten = now.plus_ms(-TOMBSTONE_MS).unix_ms();
        self.db.execute(
            "DELETE FROM tombstone WHERE id IN (SELECT id FROM tombstone WHERE at < $1 ORDER BY at LIMIT $2)",
            &values![forgotten, SWEEP_MAX],
        )?;
        if self.ground.clock.now() < self.ground.grace_until.max(self.memory.grace_until) {
            return Ok(false);
        }
        self.send()?;
        let due = HoldRow::due(self.db, now, SWEEP_MAX)?;
        let more = i64::try_from(due.len()).is_ok_and(|count| count == SWEEP_MAX);
        self.prepare(&[&Needs { holds: due.clone(), ..Needs::default() }])?;
        let now = self.now();
        for id in due {
            match self.find(&id)? {
                Found::Hold(row) if row.state == HoldState::Pending && row.expires_at <= now => {
                    self.expire(id, *row, now)?;
                }
                found => self.keep_found(id, found),
            }
        }
        Ok(more)
    }

    fn expire(&mut self, id: HoldId, mut row: HoldRow, now: Timestamp) -> Result<(), Failure> {
        let amount = row.terms.amount;
        let entry = Entry {
            posted: amount,
            pending: negative(amount),
            usage: row.usage.as_ref(),
            estimated: true,
            ..Entry::new(Kind::Expire, now, row.hold, &row.balances)
        };
        self.record(entry)?;
        self.end_rates(&row, None, now)?;
        tracing::warn!(hold = %id, "a hold expired and was charged in full");
        self.memory.tally.expired += 1;
        row.state = HoldState::Expired;
        row.posted = amount;
        self.end(id, row, &Closing { estimated: true, ..Closing::at(now, None) })
    }
}

impl HoldRow {
    /// What is pending for it.
    fn open_amount(&self) -> Nanodollars {
        if self.state == HoldState::Pending { self.terms.amount } else { Nanodollars::ZERO }
    }
}

impl Closing<'_> {
    fn at(ended_at: Timestamp, status: Option<u16>) -> Self {
        Self { priced_model: None, estimated: false, end_reason: None, status, first_byte_at: None, ended_at }
    }
}

/// Amounts that are held or posted for one hold are never so large that they have no negative.
fn negative(amount: Nanodollars) -> Nanodollars {
    Nanodollars::new(amount.get().saturating_neg())
}

/// The end of a stored hold.
pub(super) fn end(text: &str) -> sql::Result<End> {
    const ALL: [End; 7] = [
        End::Complete,
        End::ClientLeft,
        End::UpstreamCut,
        End::ErrorInAnswer,
        End::NoUsage,
        End::NotTerminal,
        End::FilterLost,
    ];
    ALL.into_iter().find(|end| end.as_str() == text).ok_or_else(|| super::code::corrupt("end of a hold"))
}
