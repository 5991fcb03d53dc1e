//! One run: every step is done by the ledger and by the oracle, and then they are compared.

use crate::books::Books;
use crate::dice::Dice;
use crate::ledger::{Fault, Ledger, is_listed, name};
use crate::oracle::{Cap, Oracle, Reply, State};
use crate::plan::{Message, Step, Who};
use crate::spans::{DAY_MS, HOUR_MS, Span};
use futures_util::future::join_all;
use tollgate_domain::hold::DenialReason;
use tollgate_ledger::store::AccountRecord;

/// Tuesday, 2026-11-24T12:00:00Z.
const NOON: i64 = 1_795_521_600_000;

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Sqlite,
    Postgres,
}

/// Where a run went wrong, and how.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) step: usize,
    pub(crate) why: String,
}

struct Run {
    ledger: Ledger,
    /// More than one only while it is not known in which order several messages were taken.
    oracles: Vec<Oracle>,
}

/// Goes through the steps; what they are played on depends on the seed, too.
pub(crate) async fn run(over: Over, seed: u64, steps: &[Step]) -> Result<(), Failed> {
    let mut dice = Dice::new(!seed);
    let start = NOON + dice.within(0, 40 * DAY_MS);
    let observe_all = dice.percent(5);
    let ledger = match over {
        Over::Sqlite => Ledger::over_sqlite(start, observe_all),
        Over::Postgres => Ledger::over_postgres(start, observe_all),
    };
    let mut run = Run { ledger, oracles: vec![Oracle::new(start, observe_all)] };
    let at = |step: usize| move |why: Fault| Failed { step, why };
    run.open().await.map_err(at(0))?;
    for (index, step) in steps.iter().enumerate() {
        run.step(step).await.map_err(at(index))?;
        run.compare(index % 4 == 0).await.map_err(at(index))?;
    }
    let done = run.finish().await;
    // Also after a failure, or the next run meets its threads.
    let closed = run.ledger.close().await;
    let done = match done.and(closed) {
        Ok(()) => run.verify().await,
        failed => failed,
    };
    done.map_err(at(steps.len()))
}

impl Run {
    fn oracle(&mut self) -> &mut Oracle {
        &mut self.oracles[0]
    }

    async fn open(&mut self) -> Result<(), Fault> {
        let stores = self.ledger.open().await?;
        self.oracle().start(stores);
        self.tick(stores).await
    }

    async fn tick(&mut self, stores: usize) -> Result<(), Fault> {
        for store in 0..stores {
            self.ledger.tick(store).await?;
            self.oracle().tend(store);
        }
        Ok(())
    }

    fn stores(&self) -> usize {
        if self.ledger.is_shared() { 2 } else { 1 }
    }

    async fn step(&mut self, step: &Step) -> Result<(), Fault> {
        let now = self.oracle().now();
        match step {
            Step::Send(store, message) => self.send(*store, message).await,
            Step::Forget(store, message) => self.forget(*store, message).await,
            Step::Together(messages) => self.together(messages).await,
            Step::Pass(ms) => {
                let clock = self.oracle().clock + ms;
                self.set_clock(clock).await
            }
            Step::PassEnd(span, more) => match span.period(now).1 {
                Some(end) => self.set_clock(end + more).await,
                None => Ok(()),
            },
            Step::PassExpiry(more) => match self.oracle().next_expiry() {
                Some(end) => self.set_clock(end + more).await,
                None => Ok(()),
            },
            Step::Restart { crash, back_ms } => self.restart(*crash, *back_ms).await,
        }
    }

    /// While the ledger runs, its clock never goes back.
    async fn set_clock(&mut self, clock: i64) -> Result<(), Fault> {
        let clock = clock.max(self.oracle().clock);
        self.oracle().clock = clock;
        self.ledger.set_clock(clock);
        self.tick(self.stores()).await
    }

    async fn restart(&mut self, crash: bool, back_ms: i64) -> Result<(), Fault> {
        self.oracle().clock -= back_ms;
        if crash {
            self.ledger.crash();
        }
        self.ledger.close().await?;
        let clock = self.oracle().clock;
        self.ledger.set_clock(clock);
        self.open().await
    }

    /// Every amount as a number, and the policy looked up where the filter would.
    async fn prepared(&mut self, store: usize, message: &Message) -> Result<Message, Fault> {
        if let Message::Hold(ask, _) = message
            && !ask.old_policy
        {
            let known = self.ledger.look_up(store, ask.key).await?;
            let version = self.oracle().version(ask.key);
            if known != version.is_some() {
                return Err(format!(
                    "key {} is known: {known}, the oracle's version is {version:?}",
                    ask.key
                ));
            }
            let remembered = &mut self.oracle().remembered;
            match version {
                Some(version) => drop(remembered.insert(ask.key, version)),
                None => drop(remembered.remove(&ask.key)),
            }
        }
        Ok(self.oracle().resolved(message))
    }

    async fn send(&mut self, store: usize, message: &Message) -> Result<(), Fault> {
        let store = store % self.stores();
        let message = self.prepared(store, message).await?;
        let seen = self.ledger.send(store, &message).await?;
        let before = self.oracle().holds.len();
        let expected = self.oracle().apply(store, &message);
        let made = self.oracle().holds.len() > before;
        if seen != expected {
            return Err(format!("the ledger says {seen:?},\n     the oracle {expected:?}"));
        }
        if made { self.fits().await } else { Ok(()) }
    }

    /// After a hold that was just made, every limit that refuses has room for what is spent and held: promise 1.
    async fn fits(&mut self) -> Result<(), Fault> {
        let oracle = &self.oracles[0];
        let Some(hold) = oracle.holds.last().filter(|_| !oracle.observes()) else { return Ok(()) };
        for who in hold.charged.iter().filter(|who| is_listed(**who)) {
            let record = self.ledger.record(0, *who).await?.ok_or("a hold on an account that is gone")?;
            for limit in record.limits {
                let concerned = limit.spec.model.is_none_or(|of| of == name(hold.model()));
                let (used, amount) = (limit.posted.get() + limit.pending.get(), limit.spec.amount.get());
                if concerned && !limit.spec.soft && !limit.spec.observe && used > amount {
                    return Err(format!("{used} of {amount} are used of a limit of {who:?} after a hold"));
                }
            }
        }
        Ok(())
    }

    /// The answer is lost on its way.
    async fn forget(&mut self, store: usize, message: &Message) -> Result<(), Fault> {
        let store = store % self.stores();
        let message = self.prepared(store, message).await?;
        drop(self.ledger.send(store, &message).await?);
        self.oracle().apply(store, &message);
        Ok(())
    }

    /// Sends all at once. One store takes them in order; with two, there must be an order that explains the answers.
    async fn together(&mut self, messages: &[(usize, Message)]) -> Result<(), Fault> {
        let mut prepared = Vec::new();
        for (store, message) in messages {
            let store = store % self.stores();
            prepared.push((store, self.prepared(store, message).await?));
        }
        let sends = prepared.iter().map(|(store, message)| self.ledger.send(*store, message));
        let seen: Vec<Reply> = if self.ledger.is_shared() {
            let tasks: Vec<_> = sends.map(tokio::spawn).collect();
            let replies = join_all(tasks).await.into_iter().map(Result::unwrap);
            replies.collect::<Result<_, _>>()?
        } else {
            join_all(sends).await.into_iter().collect::<Result<_, _>>()?
        };
        let orders = if self.ledger.is_shared() {
            orders(prepared.len())
        } else {
            vec![(0..prepared.len()).collect()]
        };
        let mut fitting = Vec::new();
        let mut first = None;
        for order in orders {
            let mut oracle = self.oracles[0].clone();
            let mut expected = vec![Reply::Done; prepared.len()];
            for index in order {
                let (store, message) = &prepared[index];
                expected[index] = oracle.apply(*store, message);
            }
            if expected == seen {
                fitting.push(oracle);
            }
            first.get_or_insert(expected);
        }
        if fitting.is_empty() {
            return Err(format!(
                "no order explains what the ledger says: {seen:?},\n     the oracle {first:?}"
            ));
        }
        self.oracles = fitting;
        Ok(())
    }

    /// Everything that both know; what costs a reading of all tables only where it is `whole`.
    async fn compare(&mut self, whole: bool) -> Result<(), Fault> {
        let books = if whole || self.oracles.len() > 1 {
            Some(Books::read(&self.ledger, self.oracles[0].set_back).await)
        } else {
            None
        };
        let mut why = String::new();
        for index in 0..self.oracles.len() {
            match self.compare_with(&self.oracles[index], books.as_ref()).await {
                Ok(()) => {
                    self.oracles = vec![self.oracles.swap_remove(index)];
                    return Ok(());
                }
                Err(different) => why = different,
            }
        }
        Err(why)
    }

    async fn compare_with(&self, oracle: &Oracle, books: Option<&Books>) -> Result<(), Fault> {
        for who in oracle.accounts.keys().filter(|who| is_listed(**who)) {
            let record = self.ledger.record(0, *who).await?;
            compare_account(oracle, *who, record.as_ref())?;
        }
        if let Some(books) = books {
            books.check()?;
            compare_holds(oracle, books)?;
            compare_crossings(oracle, books)?;
            for key in 0..3 {
                let expected = oracle.version(key).and_then(|_| oracle.exhausted(key));
                let seen = self.ledger.exhausted(1, key).await?;
                if seen != expected {
                    return Err(format!(
                        "exhausted of key {key} is {seen:?},\n     the oracle's {expected:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Everything ends: nothing stays open.
    async fn finish(&mut self) -> Result<(), Fault> {
        let clock = self.oracle().clock + HOUR_MS;
        self.set_clock(clock).await?;
        self.compare(true).await
    }

    /// The ledger's own audit finds nothing either.
    async fn verify(&self) -> Result<(), Fault> {
        let place = self.ledger.books();
        let audit = tokio::task::spawn_blocking(move || place.verify()).await.unwrap();
        let audit = audit.map_err(|error| error.to_string())?;
        if audit.is_clean() { Ok(()) } else { Err(format!("verify finds {:?}", audit.faults)) }
    }
}

fn compare_account(oracle: &Oracle, who: Who, record: Option<&AccountRecord>) -> Result<(), String> {
    let account = &oracle.accounts[&who];
    let Some(record) = record.filter(|_| account.alive) else {
        let same = record.is_some() == account.alive;
        return if same { Ok(()) } else { Err(format!("{who:?} is there: {}", record.is_some())) };
    };
    let differ = |what: &str, seen: &dyn std::fmt::Debug, expected: &dyn std::fmt::Debug| {
        Err(format!("{what} of {who:?} is {seen:?},\n     the oracle's {expected:?}"))
    };
    let life = (record.posted.get(), record.pending.get());
    if life != oracle.sum((who, Span::Lifetime, None)) {
        return differ("posted and pending", &life, &oracle.sum((who, Span::Lifetime, None)));
    }
    let expected: Vec<_> = account.caps.iter().map(|cap| limit(oracle, who, cap)).collect();
    let seen = record.limits.iter().map(|limit| {
        let (start, end) = (limit.period.start.unix_ms(), limit.period.end.map(|end| end.unix_ms()));
        (limit.spec.amount.get(), limit.posted.get(), limit.pending.get(), start, end)
    });
    let seen: Vec<_> = seen.collect();
    if seen != expected {
        return differ("(amount, posted, pending, start, end) of the limits", &seen, &expected);
    }
    let seen = record.rates.iter();
    let seen = seen.map(|now| (now.rate.kind, now.rate.limit, now.remaining, now.resets_at.unix_ms()));
    let seen: Vec<_> = seen.collect();
    if seen != oracle.rates_of(who) { differ("rates", &seen, &oracle.rates_of(who)) } else { Ok(()) }
}

/// A limit as it is shown.
fn limit(oracle: &Oracle, who: Who, cap: &Cap) -> (i64, i64, i64, i64, Option<i64>) {
    let (posted, pending) = oracle.sum((who, cap.span, cap.model));
    let (start, end) = match cap.span {
        Span::Rolling(_) => (cap.span.counts_from(oracle.moment(who)), None),
        span => span.period(oracle.moment(who)),
    };
    (cap.amount, posted, pending, start, end)
}

fn compare_holds(oracle: &Oracle, books: &Books) -> Result<(), String> {
    for hold in &oracle.holds {
        let state = match hold.state {
            State::Pending => 0,
            State::Settled => 1,
            State::Voided => 2,
            State::Expired => 3,
        };
        let would_deny = match hold.would_deny {
            None => "",
            Some(DenialReason::BudgetSpent) => "budget_spent",
            Some(DenialReason::BudgetTooSmall) => "budget_too_small",
            Some(_) => "rate_limited",
        };
        let expected = (
            state,
            hold.posted,
            hold.amount,
            hold.overrun,
            hold.sequence.cast_signed(),
            hold.estimated,
            hold.expires_at,
            would_deny.to_owned(),
        );
        let seen = books.holds.get(&hold.number);
        if seen != Some(&expected) {
            return Err(format!(
                "(state, posted, amount, overrun, sequence, estimated, expires, would deny) of hold {} is {seen:?},\n     the \
                 oracle's {expected:?}",
                hold.number
            ));
        }
    }
    if books.holds.len() == oracle.holds.len() {
        Ok(())
    } else {
        Err("there are holds that nobody made".into())
    }
}

fn compare_crossings(oracle: &Oracle, books: &Books) -> Result<(), String> {
    let expected = oracle.crossings.iter().map(|(who, span, model, soft, start, part)| {
        let model = model.map(name).unwrap_or_default().to_owned();
        (*who, span.window().to_string(), model, *soft, *start, i64::from(*part))
    });
    let mut expected: Vec<_> = expected.collect();
    let mut seen = books.crossings.clone();
    expected.sort();
    seen.sort();
    if seen == expected {
        return Ok(());
    }
    let missing: Vec<_> = expected.iter().filter(|one| !seen.contains(one)).collect();
    let more: Vec<_> = seen.iter().filter(|one| !expected.contains(one)).collect();
    Err(format!("crossings are missing: {missing:?}, and nobody expects {more:?}"))
}

fn orders(count: usize) -> Vec<Vec<usize>> {
    let mut orders = vec![Vec::new()];
    for next in 0..count {
        let insert = |order: Vec<usize>| {
            (0..=order.len()).map(move |at| {
                let mut order = order.clone();
                order.insert(at, next);
                order
            })
        };
        orders = orders.into_iter().flat_map(insert).collect();
    }
    orders
}
